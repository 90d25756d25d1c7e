"""A product of two large float32 matrices: what the machine can do, by the library that a model is run with.

How near a network comes to its multiply-adds a second says how much there is to gain. Libraries differ, NumPy's own
BLAS being slow on some machines, so the product is measured with each that takes part; the fastest is the limit.
"""

from __future__ import annotations

from typing import Callable

import numpy as np

from ppcls_ext.analysis.benchmark.results import GEMM, Case

#: Rows and columns of both matrices: large enough for the best speed, 12 MiB each.
SIZE = 1792
MACS = SIZE**3


def gemm_case(library: str, threads: int) -> Case:
    """Return the configuration of the product with a library on the CPU."""
    return Case(model=f"GEMM {SIZE}", source=GEMM, engine=library, height=SIZE, width=SIZE, threads=threads, mode=GEMM)


def matrices() -> tuple[np.ndarray, np.ndarray]:
    """Return two square matrices of noise in float32."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIZE, SIZE), dtype=np.float32) for _ in range(2))
    return a, b


class Gemm:
    """The product by the library that ``case.engine`` names: a key of :data:`LIBRARIES`."""

    def __init__(self, case: Case, options: dict):
        self.case = case
        self.run: Callable[[], object] = lambda: None

    def open(self) -> dict:
        """Prepare the product."""
        first, second = matrices()
        product, library = LIBRARIES[self.case.engine](first, second, self.case.threads)

        def run() -> None:
            product()

        self.run = run
        return {"library": library, "place": "CPU", "macs": MACS}


def _numpy(a: np.ndarray, b: np.ndarray, threads: int) -> tuple:
    return lambda: a @ b, f"numpy {np.__version__}"


def _paddle(a: np.ndarray, b: np.ndarray, threads: int) -> tuple:
    import paddle

    paddle.set_device("cpu")
    first, second = paddle.to_tensor(a), paddle.to_tensor(b)
    return lambda: paddle.matmul(first, second), f"paddlepaddle {paddle.__version__}"


def _onnxruntime(a: np.ndarray, b: np.ndarray, threads: int) -> tuple:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "gemm",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, a.shape)],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, a.shape)],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a}), f"onnxruntime {onnxruntime.__version__}"


def _openvino(a: np.ndarray, b: np.ndarray, threads: int) -> tuple:
    import openvino
    from openvino import opset13 as operators

    parameter = operators.parameter(a.shape, np.float32)
    model = openvino.Model([operators.matmul(parameter, operators.constant(b), False, False)], [parameter])
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer([a]), f"openvino {openvino.__version__.partition('-')[0]}"


LIBRARIES: dict[str, Callable[[np.ndarray, np.ndarray, int], tuple]] = {
    "numpy": _numpy,
    "paddle": _paddle,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
#: The library of an engine.
LIBRARY_OF = {"eager": "paddle", "paddle": "paddle", "onnxruntime": "onnxruntime", "openvino": "openvino"}
