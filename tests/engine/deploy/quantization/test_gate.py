"""What an int8 model must reach, and which layers return to float: rules, without a model."""

import numpy as np
import pytest

from ppcls_ext.engine.deploy.quantization import quantizer
from ppcls_ext.engine.deploy.quantization.errors import QuantizationError
from ppcls_ext.engine.deploy.quantization.evaluation import damage
from ppcls_ext.engine.deploy.quantization.gate import Gate, pass_gate
from ppcls_ext.engine.deploy.quantization.presets import group_of
from ppcls_ext.metrics.agreement import compare_predictions

DAMAGES = {"stem": 0.1, "stages.0": 0.4, "stages.1": 0.2, "head": 0.3}


def compared(right: int, labelled: bool = True):
    """A float model that is right on all of 1,000 images, and an int8 model that is right on some."""
    labels = np.zeros(1000, dtype=int)
    found = np.where(np.arange(1000) < right, 0, 1)
    return compare_predictions(labels, found, labels if labelled else None)


def test_a_loss_of_just_the_tolerance_passes():
    assert Gate(0.5).problem(compared(995)) is None
    assert "loses 0.60 points" in Gate(0.5).problem(compared(994))


def test_without_labels_the_agreement_decides():
    assert Gate(0.5, 98.0).problem(compared(980, labelled=False)) is None
    assert "97.90 %" in Gate(0.5, 98.0).problem(compared(979, labelled=False))


def test_the_groups_that_hurt_most_return_first_and_no_more_than_needed():
    asked = []

    def compare(in_float):
        asked.append(list(in_float))
        return compared(980 + 10 * len(in_float))

    passed = pass_gate(Gate(0.5), list(DAMAGES), compare, DAMAGES.__getitem__)
    assert asked == [[], ["stages.0"], ["stages.0", "head"]]
    assert passed.in_float == ["stages.0", "head"]
    assert passed.damages == DAMAGES
    assert len(passed.tried) == 2


def test_nothing_is_measured_layer_by_layer_if_the_model_passes_at_once():
    passed = pass_gate(Gate(0.5), list(DAMAGES), lambda in_float: compared(1000), lambda group: pytest.fail(group))
    assert (passed.in_float, passed.damages) == ([], {})


def test_a_model_that_never_passes_is_an_error_that_says_by_how_much():
    with pytest.raises(QuantizationError, match="all but one of 4 groups .* loses 90.00 points"):
        pass_gate(Gate(0.5), list(DAMAGES), lambda in_float: compared(100), DAMAGES.__getitem__)


def test_damage_is_the_total_variation_over_all_images():
    first = [np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.2, 0.8]])]
    second = [np.array([[0.0, 1.0], [0.5, 0.5]]), np.array([[0.5, 0.5]])]
    assert damage(first, second) == pytest.approx((1.0 + 0.0 + 0.3) / 3)


@pytest.mark.parametrize(
    "node, group",
    [
        ("backbone.stages.2.blocks.5.conv1.conv/Conv", "stages.2.blocks.5"),
        ("backbone.stages.1.downsample.reduction/MatMul", "stages.1"),
        ("backbone.stem.proj/Conv", "stem"),
        ("backbone.stem.0.conv/Conv", "stem.0"),
        ("backbone.head/MatMul", "head"),
        ("Conv_12", "Conv_12"),
    ],
)
def test_nodes_are_grouped_by_block(node, group):
    assert group_of(node) == group


@pytest.mark.parametrize(
    "machine, features, expected",
    [
        ("x86_64", ["avx2", "fma"], True),
        ("x86_64", ["avx512f", "avx512_vnni"], False),
        ("AMD64", ["AMD64"], True),  # Windows does not tell
        ("aarch64", ["asimd"], False),
    ],
)
def test_weights_lose_a_bit_where_sums_overflow_and_that_is_said(monkeypatch, caplog, machine, features, expected):
    monkeypatch.setattr(quantizer.platform, "machine", lambda: machine)
    monkeypatch.setattr(quantizer, "cpu_features", lambda: features)
    monkeypatch.setattr(quantizer.logger, "propagate", True)
    assert quantizer._reduce_range(None) is expected
    assert ("reduce_range" in caplog.text) is expected
    assert quantizer._reduce_range(not expected) is not expected
