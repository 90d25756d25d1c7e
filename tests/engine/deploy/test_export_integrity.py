"""Damaged exports are refused with the name of the file, and no inference.yml brings a traceback."""

import hashlib
import random

import pytest
import yaml

from ppcls_ext.engine.deploy.inference_yml import DamagedExportError, InferenceConfigError
from ppcls_ext.engine.deploy.predictor import Predictor


@pytest.mark.slow
@pytest.mark.compat
def test_sizes_and_checksums_are_those_of_the_files(exported):
    recorded = yaml.safe_load((exported.folder / "inference.yml").read_text())["Export"]["files"]
    assert set(recorded) == {"inference.pdmodel", "inference.pdiparams"}
    for name, facts in recorded.items():
        content = (exported.folder / name).read_bytes()
        assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.compat
@pytest.mark.parametrize("name", ["inference.pdmodel", "inference.pdiparams"])
def test_every_flipped_bit_is_found(editable, name):
    path = editable.folder / name
    original = path.read_bytes()
    generator = random.Random(0)
    for _ in range(20):
        damaged = bytearray(original)
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(DamagedExportError, match=rf"{name} is not the file that was exported"):
            Predictor(editable.folder)


def test_a_cut_file_is_named_with_both_sizes(editable):
    path = editable.folder / "inference.pdiparams"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedExportError, match=rf"{path} has {size - 1} bytes, {size} when it was exported"):
        Predictor(editable.folder)


def test_checksums_can_be_left_out_for_huge_files(editable, exported):
    editable.content["Export"]["files"]["inference.pdiparams"]["sha256"] = "0" * 64
    editable.write()
    with pytest.raises(DamagedExportError):
        Predictor(editable.folder)
    assert Predictor(editable.folder, verify=False).config.label_list


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff\xfe\x00a", "inference.yml is not UTF-8"),
        (b"a: 1\0", "holds null characters"),
        (b"a: !!int abc", "is not YAML"),
        (b"a: !!timestamp x", "is not YAML"),
        (b"a: " + b"[" * 5000, "is not YAML"),
        (b"a: &x [*x]\nPreProcess: 3", "has no PreProcess.transform_ops"),
        (b"[1, 2]", "has no PreProcess"),
        (b"", "has no PreProcess"),
        (b"7" * 400, "has no PreProcess"),
    ],
    ids=["encoding", "null", "int", "timestamp", "deep", "alias", "list", "empty", "400 digits"],
)
def test_an_inference_yml_that_is_none_is_named(editable, text, message):
    (editable.folder / "inference.yml").write_bytes(text)
    with pytest.raises(InferenceConfigError, match=f"inference.yml.*{message}|{message}"):
        Predictor(editable.folder)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("Export", "softmax", "yes", "Export.softmax is a str; expected a bool"),
        ("Export", "decode", [1], "Export.decode is a list; expected a dict"),
        ("Export", "decode", {"to_rgb": "yes"}, "PreProcess.transform_ops: to_rgb: expected True or False"),
        ("PostProcess", "Topk", {"topk": 0, "label_list": ["a"]}, "topk is 0; expected at least 1"),
        ("PostProcess", "Topk", {"topk": True, "label_list": ["a"]}, "topk is a bool; expected a int"),
        ("PostProcess", "Topk", {"topk": 1, "label_list": [["a"]]}, "label_list holds more than names"),
        ("PreProcess", "transform_ops", [{"ResizeImage": {"size": -1}}], "PreProcess.transform_ops: size"),
        ("PreProcess", "transform_ops", [{"Nonsense": None}], "unknown operator 'Nonsense'"),
        ("PreProcess", "transform_ops", ["x"], "PreProcess.transform_ops"),
    ],
)
def test_a_wrong_value_is_named(editable, section, key, value, message):
    editable.content[section][key] = value
    editable.write()
    with pytest.raises(InferenceConfigError, match=f"inference.yml: .*{message}"):
        Predictor(editable.folder)
