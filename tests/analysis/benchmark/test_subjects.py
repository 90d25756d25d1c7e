"""What the child processes run, here in this process: models, stages, matrix products, multiply-adds."""

import itertools

import numpy as np
import paddle
import pytest
from PIL import Image
from small_models import build

from ppcls_ext import registry
from ppcls_ext.analysis.benchmark import eager
from ppcls_ext.analysis.benchmark.gemm import LIBRARIES
from ppcls_ext.analysis.benchmark.graph_cost import graph_macs, operator_macs
from ppcls_ext.analysis.benchmark.images import PHOTOGRAPH, normalised_noise, write_photograph
from ppcls_ext.analysis.benchmark.prediction import Prediction
from ppcls_ext.analysis.benchmark.results import STAGES, Case
from ppcls_ext.analysis.benchmark.targets import find_targets
from ppcls_ext.analysis.macs import count_macs
from ppcls_ext.data.preprocess import build_transforms

CASE = Case(model="ResNet18", batch=2, height=64, width=64)


@pytest.fixture
def model(monkeypatch):
    small = build(registry.get_spec("ResNet18"), perturb=False)
    monkeypatch.setattr(eager, "create_backbone", lambda name: small)
    return small


def opened(**case):
    options = {"name": "ppcls_ext.ResNet18", **case.pop("options", {})}
    subject = eager.Eager(CASE.model_copy(update=case), options)
    assert subject.open()["library"] == f"paddlepaddle {paddle.__version__}"
    return subject


@pytest.mark.compat
def test_a_forward_pass_leaves_the_model_as_it_was(model):
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    subject = opened()
    assert subject.run() is None and subject.device_bytes() is None
    assert not model.training
    assert all(np.array_equal(before[name], value.numpy()) for name, value in model.state_dict().items())


@pytest.mark.compat
def test_a_step_of_training_is_forward_backward_and_adamw(model):
    """AdamW's first step moves every weight that has a gradient by the learning rate, whatever the gradient is."""
    weight = model.parameters()[0]
    before = weight.numpy().copy()
    opened(mode="train").run()
    assert model.training
    moved = np.abs(weight.numpy() - before * (1 - 0.01 * eager.LEARNING_RATE))
    assert np.median(moved) == pytest.approx(eager.LEARNING_RATE, rel=0.05)
    assert weight.grad is None or not np.any(weight.grad.numpy())


@pytest.mark.compat
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_precisions_that_the_device_lacks_are_refused(precision):
    """Paddle itself goes on in float32 and only warns."""
    with pytest.raises(ValueError, match=f"does not compute in {precision} on cpu: AMP has no effect"):
        eager.Eager(CASE.model_copy(update={"precision": precision}), {})


def test_a_device_that_is_not_there_is_refused():
    if paddle.device.is_compiled_with_cuda():
        pytest.skip("this Paddle has CUDA")
    with pytest.raises(ValueError, match="has no CUDA; use cpu"):
        eager.Eager(CASE.model_copy(update={"device": "gpu:0"}), {})


def test_a_gpu_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(paddle.device, "synchronize", lambda: waited.append(1))
    eager.synchronize("cpu")
    assert not waited
    eager.synchronize("gpu:0")
    assert waited == [1]


# ---- prediction ---------------------------------------------------------------------------------------------------


def test_stages_are_timed_apart_and_give_what_the_preprocessing_gives(tmp_path):
    """A clock that goes on by one at each look shows which stage is which: equal times, and the batch is right."""
    files = [str(write_photograph(tmp_path / f"{number}.jpg", number)) for number in range(3)]
    ops = find_targets(["ResNet50"])[0].transform_ops(32, 48)
    ticks = itertools.count()
    batches = []
    prediction = Prediction(batches.append, ops, files, batch=2, clock=lambda: float(next(ticks)))
    assert prediction.run() == dict.fromkeys(STAGES, 1.0)
    prediction.run()
    pipeline = build_transforms(ops)
    expected = [pipeline(open(file, "rb").read()) for file in files]
    np.testing.assert_array_equal(batches[0], np.stack(expected[:2]))
    np.testing.assert_array_equal(batches[1], np.stack([expected[2], expected[0]]))  # begins again
    assert batches[0].shape == (2, 3, 32, 48)


def test_a_model_predicts_in_eager_mode(model, tmp_path):
    files = [str(write_photograph(tmp_path / "a.jpg"))]
    options = {"images": files, "transform_ops": find_targets(["ResNet18"])[0].transform_ops(64, 64)}
    stages = opened(mode="predict", options=options).run()
    assert tuple(stages) == STAGES and all(seconds > 0 for seconds in stages.values())


def test_the_made_up_photograph_is_like_one(tmp_path):
    path = write_photograph(tmp_path / "a.jpg")
    with Image.open(path) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", PHOTOGRAPH, "RGB")
    assert 50_000 < path.stat().st_size < 200_000  # ImageNet's have about 110 kB


# ---- cost ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_multiplies_these_matrices(library):
    pytest.importorskip(library)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((24, 24), dtype=np.float32) for _ in range(2))
    product, name = LIBRARIES[library](a, b, 1)
    result = product()
    found = result if library in ("numpy", "paddle") else result[0]
    np.testing.assert_allclose(np.asarray(found), a.astype(np.float64) @ b, rtol=1e-4, atol=1e-5)
    assert name.startswith(("numpy ", "paddlepaddle ", "onnxruntime ", "openvino "))


@pytest.mark.parametrize(
    "operator, inputs, outputs, macs",
    [
        ("Conv", [[1, 4, 9, 9], [6, 2, 3, 3], [6]], [[1, 6, 5, 5]], 6 * 5 * 5 * 2 * 9),  # two groups
        ("MatMul", [[2, 7, 5], [5, 3]], [[2, 7, 3]], 2 * 7 * 5 * 3),
        ("Gemm", [[4, 5], [3, 5], [3]], [[4, 3]], 4 * 5 * 3),
        # 10 steps of 2 sequences, 2 directions, 4 gates of 3 units that see 5 inputs and 3 units
        ("LSTM", [[10, 2, 5], [2, 12, 5], [2, 12, 3], [2, 24]], [[10, 2, 2, 3]], 10 * 2 * 2 * 4 * 3 * (5 + 3)),
        ("DynamicQuantizeLSTM", [[10, 1, 5], [1, 5, 12], [1, 3, 12]], [[10, 1, 1, 3]], 10 * 4 * 3 * (5 + 3)),
        ("Add", [[4], [4]], [[4]], 0),
        ("DequantizeLinear", [[4], [1]], [[4]], 0),
    ],
)
def test_multiply_adds_of_operators(operator, inputs, outputs, macs):
    assert operator_macs(operator, inputs, outputs) == macs


def test_operators_without_a_rule_are_errors():
    with pytest.raises(ValueError, match="no rule to count the multiply-adds of QLinearConv"):
        operator_macs("QLinearConv", [[1]], [[1]])


@pytest.mark.parametrize("name", ["Sequencer2D_S", "ResNet18", "ViT_small_patch16_224"])
def test_multiply_adds_of_a_graph_are_those_of_its_model(name, tmp_path):
    """Recurrent layers, convolutions and attention: counted by layers, and by the operators that ONNX Runtime ran."""
    pytest.importorskip("onnxruntime")
    from ppcls_ext.engine.deploy.onnx.conversion import convert
    from ppcls_ext.engine.deploy.onnx.serialization import save, to_model

    model = build(registry.get_spec(name))
    model.eval()
    path = tmp_path / "inference.onnx"
    save(to_model(convert(model, [None, 3, 56, 56], 17)), path)
    assert graph_macs(path, normalised_noise(1, 56, 56)) == sum(count_macs(model, [3, 56, 56]).values())
