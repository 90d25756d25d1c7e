"""Compare our models with PaddleClas's own of the same names, whole and at their native size; print a table.

python tests/golden/compare_paddleclas.py [name or pattern …] [--size 64]

needs PaddleClas. Both models hold the same weights, made by ``rule``: PaddleClas's model gets ours under the names of
its source, and every tensor on either side must take part. The largest model needs about 8 GB. ``compare.py`` prints
the differences from the golden files.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
from typing import Callable

import compare
import numpy as np
import rule

import ppcls_ext  # noqa: F401  before Paddle: it sets the threads
from ppcls_ext import plugin, registry
from ppcls_ext.weights.expected import target_of
from ppcls_ext.weights.remap import rename, sources_of

import paddle  # isort: skip
from paddle.utils import unique_name  # isort: skip

#: Arguments that make the models PaddleClas's where the names alone do not.
ARGUMENTS = {"SwinTransformer": {"always_shift": True}}


def common_names() -> list:
    """Return the rows of the registry that PaddleClas has too."""
    return [spec for spec in registry.specs() if plugin.paddleclas_factory(spec.name)]


def share_weights(ours: paddle.nn.Layer, theirs: paddle.nn.Layer, family: str) -> str:
    """Give ``theirs`` the weights of ``ours`` and return the name of the source.

    Raises:
        ValueError: if no source of PaddleClas's leads every tensor of one to one of the other.
    """
    target, state = target_of(ours), theirs.state_dict()
    for source in sources_of(family):
        if "PaddleClas" not in source.publisher:
            continue
        renamed = rename(dict.fromkeys(state, np.zeros(0)), source, target)
        if renamed.unknown or set(renamed.keys) != set(target.tensors):
            continue
        tensors = ours.state_dict()
        for name, keys in renamed.keys.items():
            for key in keys:
                state[key].set_value(tensors[name])
        return source.name
    raise ValueError(f"no source of {family} leads from PaddleClas's tensors to ours and back")


def run(model: paddle.nn.Layer, images: np.ndarray) -> np.ndarray:
    """Return the logits of one forward pass in evaluation mode."""
    model.eval()
    with paddle.no_grad():
        return model(paddle.to_tensor(images)).numpy()


def difference(spec: registry.BackboneSpec, factory: Callable, size: int) -> tuple:
    """Return the layout, the standard deviation of our logits, and their greatest difference from PaddleClas's."""
    images = rule.images(size)
    with unique_name.guard():  # PaddleClas names some parameters itself, each name but once
        theirs = factory()
    ours = compare.fill(spec.factory(**ARGUMENTS.get(spec.family, {})))
    layout = share_weights(ours, theirs, spec.family)
    logits = run(ours, images)
    del ours
    return layout, float(logits.std()), float(np.abs(logits - run(theirs, images)).max())


def main() -> None:
    """Print one Markdown row per backbone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["*"], help="names or patterns such as 'ResNeXt101*'; default: all")
    parser.add_argument("--size", type=int, help="height and width of the images (default: native)")
    given = parser.parse_args()
    print(f"| Paddle {paddle.__version__} | size | layout | deviation of the logits | difference |")
    print("| :--: | :--: | :--: | :--: | :--: |")
    for spec in common_names():
        if any(fnmatch.fnmatchcase(spec.name, pattern) for pattern in given.names):
            size = given.size or spec.preprocessing.input_size[1]
            layout, deviation, gap = difference(spec, plugin.paddleclas_factory(spec.name), size)
            print(f"| {spec.name} | {size} | {layout} | {deviation:.2f} | {gap:.1e} |", flush=True)
            gc.collect()


if __name__ == "__main__":
    main()
