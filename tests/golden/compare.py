"""Compare our models with the golden files; as a script, print the table of the model pages.

python tests/golden/compare.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import rule
from paddle import nn

FOLDER = Path(__file__).parent / "sequencer"


def is_transposed(name: str, parameter: paddle.Tensor) -> bool:
    """Return whether Paddle stores the parameter as ``[in, out]``: weights of Linear layers, not those of RNNs."""
    return parameter.ndim == 2 and name.endswith(".weight")


def fill(model: nn.Layer) -> nn.Layer:
    """Set every parameter by the rule, and the model to evaluation."""
    for name, parameter in model.named_parameters():
        shape = parameter.shape[::-1] if is_transposed(name, parameter) else parameter.shape
        value = rule.parameter(name, tuple(shape))
        parameter.set_value(np.ascontiguousarray(value.T) if is_transposed(name, parameter) else value)
    model.eval()
    return model


def run(model: nn.Layer, images: np.ndarray) -> tuple:
    """Return logits and each stage's output, ``[N, C, H, W]``, of one forward pass."""
    features: list = []

    def keep(_layer, _inputs, output) -> None:
        features.append(output.transpose([0, 3, 1, 2]).numpy() if model.channels_last else output.numpy())

    handles = [stage.register_forward_post_hook(keep) for stage in model.stages]
    with paddle.no_grad():
        logits = model(paddle.to_tensor(images)).numpy()
    for handle in handles:
        handle.remove()
    return logits, features


def differences(model: nn.Layer, name: str, size: int) -> tuple:
    """Return the greatest absolute differences from the reference: of the logits, and of each stage's summary."""
    golden = np.load(FOLDER / f"{name}.npz")
    logits, features = run(fill(model), rule.images(size))
    stages = [np.abs(rule.summary(map_) - golden[f"stage {i}"]).max() for i, map_ in enumerate(features)]
    return float(np.abs(logits - golden["logits"]).max()), [float(stage) for stage in stages]


def main() -> None:
    """Print one Markdown row per backbone."""
    from ppcls_ext import registry

    for spec in registry.specs():
        logits, stages = differences(spec.factory(), spec.name, spec.preprocessing.input_size[1])
        print(f"| {spec.name} | {logits:.1e} | {max(stages):.1e} |", flush=True)


if __name__ == "__main__":
    main()
