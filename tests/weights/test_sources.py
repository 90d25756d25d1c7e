"""Every source leads every key of the real checkpoints to its tensor, and back."""

import functools

import checkpoints
import numpy as np
import pytest
from families import FAMILIES

from ppcls_ext import registry
from ppcls_ext.utils.key_rules import Rule, Source, Structure, Transform
from ppcls_ext.weights.expected import describe
from ppcls_ext.weights.remap import named_source, rename, sources_of

#: list of keys: (family, source)
LISTS = {name: (family, source) for family, row in FAMILIES.items() for name, source in row.keys.items()}
CASES = [(name, arch) for name in LISTS for arch in checkpoints.keys(name)]


@functools.cache
def described(arch):
    return describe(arch, {})


def source_of(name):
    family, source = LISTS[name]
    return named_source(source, family)


def test_every_source_has_a_list_of_keys():
    families = {family.name for family in registry.families()}
    published = {(family, source.name) for family in families for source in sources_of(family)[:-1]}
    assert published == set(LISTS.values())


@pytest.mark.sampled
@pytest.mark.parametrize(("name", "arch"), CASES)
def test_every_key_leads_to_its_tensor_and_back(name, arch):
    source, entries = source_of(name), checkpoints.keys(name)[arch]
    target = described(arch)
    if any(target.structure.config[key] != value for key, value in source.needs(target.structure.config).items()):
        target = describe(arch, source.needs(target.structure.config))
    tensors = {key: np.broadcast_to(np.float32(0), shape) for key, (_, shape, _) in entries.items()}
    renamed = rename(tensors, source, target)
    assert not renamed.unknown
    nothing_here = {key for key, (ours, _, _) in entries.items() if not ours}
    assert set(renamed.dropped) == nothing_here | {key for key in entries if key.endswith("num_batches_tracked")}
    expected: dict = {}
    for key, (ours, _, _) in entries.items():
        if key not in renamed.dropped:
            expected.setdefault(ours, []).append(key)
    assert renamed.keys == expected and set(expected) == set(target.tensors)
    back = {ours: source.their_names(ours, target.structure)[0] for ours in target.tensors}
    assert back == expected


def fused(parts):
    return np.concatenate(parts, axis=1)


#: What another family may need: several tensors for one, other numbering, buffers to drop, Paddle's orientation.
EXAMPLE = Source(
    "example",
    "a made-up source",
    (
        Rule(
            tuple(f"encoder_{{i}}/{part}/kernel" for part in ("query", "key", "value")),
            "stages.0.blocks.{i}.attn.qkv.weight",
            Transform(fused, lambda array: np.split(array, 3, axis=1)),
        ),
        Rule("layer{s+1}.{i}.{rest}", "stages.{s}.blocks.{i}.{rest}", stages=lambda structure: [1, 2]),
    ),
    "paddle",
    (r".*\.relative_position_index",),
)


def test_what_other_families_need():
    structure = Structure((2, 1, 1), (False, True, True), {})
    parts = {f"encoder_1/{part}/kernel": np.full((2, 2), i) for i, part in enumerate(("query", "key", "value"))}

    class Small:
        aliases = {}

    Small.structure = structure
    renamed = rename({**dict(reversed(parts.items())), "a.relative_position_index": np.zeros(1)}, EXAMPLE, Small)
    name = "stages.0.blocks.1.attn.qkv.weight"
    assert renamed.keys == {name: list(parts)} and renamed.dropped == ["a.relative_position_index"]
    joined = renamed.rules[name].transform.to_ours(renamed.arrays[name])
    assert joined.tolist() == [[0, 0, 1, 1, 2, 2]] * 2
    names, rule = EXAMPLE.their_names(name, structure)
    assert names == list(parts) and [part.tolist() for part in rule.transform.to_theirs(joined)] == [
        array.tolist() for array in parts.values()
    ]
    assert EXAMPLE.our_name("layer3.0.conv.weight", structure)[0] == "stages.2.blocks.0.conv.weight"
    assert EXAMPLE.our_name("layer1.0.conv.weight", structure) is None  # the rule is not for this stage
    assert EXAMPLE.our_name("layer0.0.conv.weight", structure) is None
    assert EXAMPLE.their_names("stages.1.blocks.0.conv.weight", structure)[0] == ["layer2.0.conv.weight"]
