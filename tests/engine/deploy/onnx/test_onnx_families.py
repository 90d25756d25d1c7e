"""Every family as ONNX: small models of each form, at several batches and sizes, against dygraph."""

import numpy as np
import onnxruntime
import paddle
import pytest
from families import facts
from small_models import build, multiple, representatives

from ppcls_ext.engine.deploy.onnx.conversion import convert
from ppcls_ext.engine.deploy.onnx.serialization import to_model

#: The others trace and translate in the same way, and take the suite's time.
QUICK = {
    *("Sequencer2D_S", "GRUSequencer2D_S", "VSequencer_S_PE"),
    *("DilateFormer_Tiny", "ViP_Small_7", "ViT_base_patch16_224", "SwinTransformer_tiny_patch4_window7_224"),
    *("ResNet18", "SE_Res2Net50", "bLRes2Net50"),
}
#: What an operator count must not exceed, for the forms of a graph that a person would write.
MOST = {
    "ResNet18": {"Conv": 15, "BatchNormalization": 0, "Reshape": 0, "Transpose": 0},
    # Two layers for a block's mixer, and one Transpose on each side of each; two where maps meet a convolution.
    "Sequencer2D_S": {"LSTM": 10, "Transpose": 20 + 7, "LayerNormalization": 11, "Gelu": 5, "Erf": 0},
    "ViT_base_patch16_224": {"MatMul": 5 * (5 + 3) + 1, "Mul": 0, "Split": 0, "LayerNormalization": 11, "Gelu": 5},
    "ViP_Small_7": {"Conv": 2, "LayerNormalization": 11, "Gelu": 10},
}


def forms():
    for spec in representatives():
        marks = [pytest.mark.compat] if spec.name in QUICK and spec.name in facts(spec.family).compat else []
        marks += [] if spec.name in QUICK else [pytest.mark.slow]
        yield pytest.param(spec, id=spec.name, marks=marks)


@pytest.mark.sampled
@pytest.mark.parametrize("spec", forms())
def test_a_small_model_of_every_form(spec):
    model = build(spec)
    model.eval()
    step = multiple(model)
    shapes = [(1, 56, 56), (3, 56, 56)]
    if facts(spec.family).fixed_export:
        model.fold(56, 56)
        sizes = (56, 56)
    else:
        sizes = (None, None)
        shapes += [(2, 4 * step, 6 * step), (1, 2 * step, 3 * step)]
    graph = convert(model, (None, 3, *sizes), 20)
    session = onnxruntime.InferenceSession(to_model(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    for batch, height, width in shapes:
        images = np.random.default_rng(batch).standard_normal((batch, 3, height, width), dtype=np.float32)
        with paddle.no_grad():
            expected = model(paddle.to_tensor(images)).numpy()
        found = session.run(None, {"x": images})[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    for node in graph.nodes:  # else OpenVINO reorders the memory of every block
        if node.operator == "Transpose" and list(node.attributes["perm"]) == [0, 2, 3, 1]:
            assert node.inputs[0].node is None or node.inputs[0].node.operator != "Conv", node
    kinds = [node.operator for node in graph.nodes]
    for operator, most in MOST.get(spec.name, {}).items():
        assert kinds.count(operator) <= most, operator
