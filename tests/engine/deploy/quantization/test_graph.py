"""An int8 graph of convolutions, made by hand, beside its float graph."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ppcls_ext.engine.deploy.quantization.errors import QuantizationError
from ppcls_ext.engine.deploy.quantization.graph import QuantizableGraph


@pytest.fixture
def convolutions(tmp_path):
    """Two convolutions with a ReLU between them and a residual sum, then a classifier; weights of unlike channels."""
    rng = np.random.default_rng(0)
    shapes = {"stem.w": (8, 3, 3, 3), "stages.0.w": (8, 8, 3, 3), "head.w": (8, 5)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    weights["stem.w"] *= 10.0 ** np.arange(-3, 5).reshape(8, 1, 1, 1) / 1000
    nodes = [
        helper.make_node("Conv", ["x", "stem.w"], ["a"], "backbone.stem/Conv", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], "backbone.stem/Relu"),
        helper.make_node("Conv", ["b", "stages.0.w"], ["c"], "backbone.stages.0/Conv", pads=[1] * 4),
        helper.make_node("Add", ["b", "c"], ["d"], "backbone.stages.0/Add"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "backbone/GlobalAveragePool"),
        helper.make_node("Flatten", ["e"], ["f"], "backbone/Flatten"),
        helper.make_node("MatMul", ["f", "head.w"], ["logits"], "backbone.head/MatMul"),
    ]
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = tmp_path / "float.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, str(path))
    return path


def run(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": images})[0]


@pytest.mark.compat
@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_it_computes_nearly_what_the_float_graph_does(convolutions, tmp_path, method):
    images = np.random.default_rng(1).standard_normal((16, 3, 8, 8)).astype(np.float32)
    graph = QuantizableGraph(convolutions)
    assert graph.preset == "convolutional"
    graph.calibrate(tmp_path, method, [images[:8], images[8:]])
    assert graph.write(tmp_path / "int8.onnx") == {"int8": {"Conv": 2, "MatMul": 1}, "float": {}}
    expected, found = run(convolutions, images), run(tmp_path / "int8.onnx", images)
    # 8 bits of the largest value, over three layers; a scale for all channels of the stem would lose most of them
    assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()
    assert np.abs(found - expected).max() > 0


def test_a_group_in_float_has_its_own_weights(convolutions, tmp_path):
    images = np.random.default_rng(1).standard_normal((8, 3, 8, 8)).astype(np.float32)
    graph = QuantizableGraph(convolutions)
    assert list(graph.groups) == ["stem", "stages.0", "head"]
    graph.calibrate(tmp_path, "minmax", [images])
    counts = graph.write(tmp_path / "int8.onnx", ["stages.0", "head"])
    assert counts == {"int8": {"Conv": 1}, "float": {"Conv": 1, "MatMul": 1}}
    before, after = onnx.load(str(convolutions)), onnx.load(str(tmp_path / "int8.onnx"))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    for tensor in before.graph.initializer:
        assert (tensor.name in weights) == (tensor.name != "stem.w")
        if tensor.name in weights:
            np.testing.assert_array_equal(weights[tensor.name], numpy_helper.to_array(tensor))


def test_weights_are_rounded_to_the_nearest_step_of_their_channel(convolutions, tmp_path):
    graph = QuantizableGraph(convolutions)
    graph.calibrate(tmp_path, "minmax", [np.ones((1, 3, 8, 8), dtype=np.float32)])
    graph.write(tmp_path / "int8.onnx")
    arrays = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(tmp_path / "int8.onnx")).graph.initializer}
    (float_weights,) = [
        numpy_helper.to_array(t) for t in onnx.load(str(convolutions)).graph.initializer if t.name == "stem.w"
    ]
    steps = arrays["stem.w_scale"].reshape(8, 1, 1, 1)
    assert arrays["stem.w_quantized"].dtype == np.int8
    assert (np.abs(arrays["stem.w_quantized"] * steps - float_weights) <= steps * 0.5001).all()
    np.testing.assert_allclose(steps.ravel(), np.abs(float_weights).max(axis=(1, 2, 3)) / 127.5, rtol=0.01)


def test_what_cannot_be_quantised_is_refused(convolutions, tmp_path):
    graph = QuantizableGraph(convolutions)
    graph.calibrate(tmp_path, "minmax", [np.ones((1, 3, 8, 8), dtype=np.float32)])
    graph.write(tmp_path / "int8.onnx")
    with pytest.raises(QuantizationError, match="quantised already"):
        QuantizableGraph(tmp_path / "int8.onnx")
