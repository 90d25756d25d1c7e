"""Compare our models with the golden files; as a script, print the table of the model pages.

python tests/golden/compare.py Sequencer
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Callable

import numpy as np
import paddle
import rule
from paddle import nn
from scipy import stats

from ppcls_ext import registry

sys.path.append(str(Path(__file__).parents[1]))  # for scripts; the tests have it from pytest's settings
from families import FAMILIES, GOLDEN

#: Where the golden files of each family are.
FOLDERS = {family: GOLDEN / row.golden for family, row in FAMILIES.items()}
#: What was counted in the reference implementations: parameters, MACs (in 1e9), channels and strides of the stages.
COUNTS = json.loads((GOLDEN / "counts.json").read_text(encoding="utf-8"))


def is_transposed(name: str, parameter: paddle.Tensor) -> bool:
    """Return whether Paddle stores the parameter as ``[in, out]``: weights of Linear layers, not those of RNNs."""
    return parameter.ndim == 2 and name.endswith(".weight")


def fill(model: nn.Layer) -> nn.Layer:
    """Set every parameter and running statistic by the rule, and the model to evaluation."""
    for name, parameter in model.named_parameters():
        shape = parameter.shape[::-1] if is_transposed(name, parameter) else parameter.shape
        value = rule.parameter(name, tuple(shape))
        parameter.set_value(np.ascontiguousarray(value.T) if is_transposed(name, parameter) else value)
    for name, buffer in model.named_buffers():
        if name.endswith(("._mean", "._variance")):
            buffer.set_value(rule.parameter(name, tuple(buffer.shape)))
    model.eval()
    return model


def run(model: nn.Layer, images: np.ndarray) -> tuple:
    """Return logits and each stage's output, ``[N, C, H, W]``, of one forward pass."""
    features: list = []
    images = paddle.to_tensor(images)

    def keep(_layer, _inputs, output) -> None:
        features.append(model.as_map(output, images).numpy())

    handles = [stage.register_forward_post_hook(keep) for stage in model.stages]
    with paddle.no_grad():
        logits = model(images).numpy()
    for handle in handles:
        handle.remove()
    return logits, features


def golden(spec: registry.BackboneSpec) -> dict:
    """Return the arrays of the golden file."""
    return dict(np.load(FOLDERS[spec.family] / f"{spec.name}.npz"))


def arguments(spec: registry.BackboneSpec) -> dict:
    """Return the constructor arguments of the model in the golden file, where they are not the variant's own."""
    return json.loads(str(golden(spec).get("arguments", "{}")))


def differences(model: nn.Layer, spec: registry.BackboneSpec) -> tuple:
    """Return the greatest absolute differences from the reference: of the logits, and of each stage's summary."""
    expected = golden(spec)
    size = int(expected.get("size", spec.preprocessing.input_size[1]))
    logits, features = run(fill(model), rule.images(size))
    stages = [np.abs(rule.summary(map_) - expected[f"stage {i}"]).max() for i, map_ in enumerate(features)]
    return float(np.abs(logits - expected["logits"]).max()), [float(stage) for stage in stages]


def check_gradients(model: nn.Layer, spec: registry.BackboneSpec) -> None:
    """Compare the gradient of every parameter with the reference: norm and four elements, within 1e-4 relative."""
    expected = golden(spec)["gradients"]
    logits = fill(model)(paddle.to_tensor(rule.images(spec.preprocessing.input_size[1])))
    (logits * paddle.to_tensor(rule.unit(rule.LOSS, tuple(logits.shape)))).sum().backward()
    parameters = dict(model.named_parameters())
    assert len(parameters) == len(expected)
    noise = 1e-7 * expected[:, 0].max()
    for name, row in zip(sorted(parameters), expected):
        if row[0] < noise:  # zero but for rounding: a later norm subtracts what the parameter adds
            assert np.abs(parameters[name].grad.numpy()).max() < noise, name
        else:
            check_gradient(name, parameters[name], row)


def check_gradient(name: str, parameter: paddle.Tensor, expected: np.ndarray) -> None:
    """Compare a gradient with its summary in the golden file; small elements with the gradient's root mean square."""
    gradient = parameter.grad.numpy()
    actual = rule.gradient_summary(gradient.T if is_transposed(name, parameter) else gradient)
    rms = expected[0] / np.sqrt(gradient.size)
    assert abs(actual[0] - expected[0]) <= 1e-4 * expected[0], name
    assert np.all(np.abs(actual[1:] - expected[1:]) <= 1e-4 * np.maximum(np.abs(expected[1:]), rms)), name


def initial_values(model: nn.Layer, rename: Callable[[str], str] = lambda name: name) -> dict:
    """Return initial values by the kind of their parameter, in PyTorch's layout, as the scripts that make golden files.

    A kind is a name without its numbers, and the width of what is drawn; ``rename`` unites or separates kinds.
    """
    values: dict = {}
    for name, parameter in model.named_parameters():
        kind = re.sub(r"\.\d+(?=\.)", "", rename(name))
        array = parameter.numpy().T if is_transposed(name, parameter) else parameter.numpy()
        width = array[0].size if array.ndim > 1 else array.size
        values.setdefault(f"{kind} {width}", []).append(array.reshape(-1))
    return {kind: np.concatenate(arrays) for kind, arrays in values.items()}


def check_initial_values(values: dict, family: str) -> None:
    """Two-sample Kolmogorov-Smirnov test of every kind of parameter against draws of the reference."""
    draws = np.load(FOLDERS[family] / "initial_draws.npz")
    assert set(values) == set(draws.files)
    for kind in draws.files:
        ours, reference = values[kind], draws[kind]
        if np.ptp(reference) == 0:
            assert np.all(ours == reference[0]), kind
        else:
            assert stats.ks_2samp(ours, reference).pvalue > 1e-3, kind


def main() -> None:
    """Print one Markdown row per backbone of a family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=FOLDERS)
    family = parser.parse_args().family
    for spec in registry.specs():
        if spec.family == family and (FOLDERS[family] / f"{spec.name}.npz").exists():  # some differ in classes alone
            logits, stages = differences(spec.factory(**arguments(spec)), spec)
            print(f"| {spec.name} | {logits:.1e} | {max(stages):.1e} |", flush=True)


if __name__ == "__main__":
    main()
