"""Paddle Inference."""

from __future__ import annotations

import logging
import threading
from typing import Optional, Sequence, Union

import numpy as np
import paddle
from paddle import inference

from ppcls_ext.engine.deploy.engines.base import Engine, EngineError
from ppcls_ext.engine.deploy.engines.graphs import GraphFiles
from ppcls_ext.utils.cpu_features import cpu_features

logger = logging.getLogger("ppcls_ext")


class PaddleEngine(Engine):
    """Paddle Inference on a CPU or a GPU.

    Threads take turns, since Paddle's predictor keeps its input and output in one place.

    Args:
        graph: in either of Paddle's formats.
        device: ``cpu``, ``gpu`` or ``gpu:<number>``.
        threads: of the CPU's mathematics library; None takes Paddle's own setting.
        onednn: whether operators may run in oneDNN, which is faster on a CPU and wrong for some graphs; or what an
            export found out about it (``Export.onednn``), which holds for the same Paddle and processor.
        gpu_memory_mb: reserved at the start.

    Raises:
        EngineError: the graph is of Paddle 3 and this Paddle cannot read it.
        ValueError: this Paddle cannot run on the device.
    """

    name = "paddle"

    def __init__(
        self,
        graph: GraphFiles,
        device: str = "cpu",
        threads: Optional[int] = None,
        onednn: Union[bool, dict] = False,
        gpu_memory_mb: int = 500,
    ):
        super().__init__(graph.outputs, graph.input)
        self.version = paddle.__version__
        self.onednn = device == "cpu" and (_holds_here(onednn) if isinstance(onednn, dict) else onednn)
        _check_device(device)
        if graph.path.suffix == ".json" and not hasattr(inference.Config, "enable_new_ir"):
            raise EngineError(
                f"{graph.path} is a graph of Paddle 3, which Paddle {paddle.__version__} cannot read; "
                "export it with `--format legacy`"
            )
        # The form with two files opens both formats on both versions. Paddle 3 would take a folder's .json only.
        config = inference.Config(str(graph.path), str(graph.path.with_suffix(".pdiparams")))
        config.disable_glog_info()
        if device == "cpu":
            config.disable_gpu()
            if self.onednn:
                config.enable_mkldnn()
            else:
                # Paddle 3.3 turns oneDNN on by itself. It writes to standard output, where our JSON goes.
                config.disable_mkldnn()
            config.set_cpu_math_library_num_threads(threads or _default_threads())
        else:
            config.enable_use_gpu(gpu_memory_mb, int(device.partition(":")[2] or 0))
        # No enable_memory_optim(): with the old executor it fails on a .json graph.
        self._predictor = inference.create_predictor(config)
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])
        self._turn = threading.Lock()

    def run(self, images: np.ndarray) -> Sequence[np.ndarray]:
        """Run ``[N, C, H, W]`` float32."""
        with self._turn:
            self._input.copy_from_cpu(images)
            self._predictor.run()
            return [self._output.copy_to_cpu()]


def _check_device(device: str) -> None:
    if device != "cpu" and not paddle.device.is_compiled_with_cuda():
        raise ValueError(f"device is {device!r}, but this build of Paddle {paddle.__version__} has no CUDA; use cpu")


def _holds_here(found: dict) -> bool:
    if found.get("use") is not True:
        return False
    here = {"paddle": paddle.__version__, "cpu": cpu_features()}
    changed = [name for name, value in here.items() if found.get(name) != value]
    if changed:
        logger.info("oneDNN is off: it was tried with another %s; export again to try it here", " and ".join(changed))
    return not changed


def _default_threads() -> int:
    threads = paddle.get_flags("FLAGS_paddle_num_threads")["FLAGS_paddle_num_threads"]
    return max(1, int(threads))
