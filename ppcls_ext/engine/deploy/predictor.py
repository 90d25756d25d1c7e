"""Prediction with an exported model, on files as they come from ``ppcls_ext export``.

The folder holds the graph (``inference.json`` of Paddle 3 or ``inference.pdmodel``), its weights and ``inference.yml``
with the preprocessing and the labels, so that what was evaluated is what is deployed. Needs neither the training
config nor PaddleClas.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Iterable, Iterator, Optional, Union

import numpy as np
import paddle
from paddle import inference

from ppcls_ext.data.preprocess import build_transforms
from ppcls_ext.engine.deploy.inference_yml import FILE_NAME, InferenceConfig
from ppcls_ext.engine.deploy.inputs import Image, inputs_of
from ppcls_ext.engine.deploy.pipeline import predict_images
from ppcls_ext.engine.deploy.postprocess import Topk, softmax

PREFIX = "inference"
#: The graph's file, the one of Paddle 3 first.
GRAPH_SUFFIXES = (".json", ".pdmodel")

#: More than any machine serves; a typo beyond them would exhaust its threads or its memory.
MAX_THREADS, MAX_BATCH_SIZE, MAX_TOPK = 1024, 65_536, 1_000_000


class Runner:
    """An exported graph, ready to run: one float32 input, the first output counts.

    Threads may share it: they take turns, since Paddle's predictor keeps its input and output in one place.
    """

    def __init__(self, graph: Path, device: str = "cpu", threads: Optional[int] = None, gpu_memory_mb: int = 500):
        # The form with two files opens both formats on both versions. Paddle 3 would take a folder's .json only.
        config = inference.Config(str(graph), str(graph.with_suffix(".pdiparams")))
        config.disable_glog_info()
        if device == "cpu":
            config.disable_gpu()
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

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Run ``[N, C, H, W]`` float32."""
        images = np.ascontiguousarray(images, dtype=np.float32)
        with self._turn:
            self._input.copy_from_cpu(images)
            self._predictor.run()
            return self._output.copy_to_cpu()


def _check_count(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}; expected {least} to {most:,}")


def _default_threads() -> int:
    threads = paddle.get_flags("FLAGS_paddle_num_threads")["FLAGS_paddle_num_threads"]
    return max(1, int(threads))


def find_graph(model_dir: Union[str, Path]) -> Path:
    """Return the graph in ``model_dir``.

    Raises:
        FileNotFoundError: the folder, the graph or its weights are not there.
        RuntimeError: the graph is of Paddle 3 and this Paddle cannot read it.
    """
    model_dir = Path(model_dir)
    if not model_dir.is_dir():
        raise FileNotFoundError(f"no such folder: {model_dir}")
    graphs = [model_dir / f"{PREFIX}{suffix}" for suffix in GRAPH_SUFFIXES]
    graph = next((path for path in graphs if path.is_file()), None)
    if graph is None:
        raise FileNotFoundError(f"{model_dir} holds no exported model: neither {' nor '.join(p.name for p in graphs)}")
    if not graph.with_suffix(".pdiparams").is_file():
        raise FileNotFoundError(f"{graph.with_suffix('.pdiparams')} is not there: {graph.name} has no weights")
    if graph.suffix == ".json" and not hasattr(inference.Config, "enable_new_ir"):
        raise RuntimeError(
            f"{graph} is a graph of Paddle 3, which Paddle {paddle.__version__} cannot read; "
            "export it with `--format legacy`"
        )
    return graph


def check_device(device: str) -> str:
    """Return ``device`` if this Paddle can run on it.

    Raises:
        ValueError: otherwise.
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "gpu") or (number and (kind == "cpu" or not number.isdigit())):
        raise ValueError(f"device is {device!r}; expected cpu, gpu or gpu:<number>")
    if kind == "gpu" and not paddle.device.is_compiled_with_cuda():
        raise ValueError(f"device is {device!r}, but this build of Paddle {paddle.__version__} has no CUDA; use cpu")
    return device


class Predictor:
    """Classifies images with an exported model.

    Threads may share one predictor: each gets the results of its own images. They preprocess side by side and take
    turns in the model.

    Args:
        model_dir: the folder that ``ppcls_ext export`` wrote.
        device: ``cpu``, ``gpu`` or ``gpu:<number>``.
        batch_size: images a run.
        threads: of the CPU's mathematics library; ``None`` takes Paddle's own setting.
        topk: classes a result; ``None`` takes the number of ``inference.yml``.
        workers: threads that read and preprocess while the model runs; 0: none.
        verify: whether to compare the graph and its weights with the checksums in ``inference.yml``, which reads them
            once; an export that has none, such as PaddleClas's, is taken as it is.

    Raises:
        FileNotFoundError: the graph, its weights or ``inference.yml`` are missing.
        DamagedExportError: a file is not the one that was exported.
        InferenceConfigError: ``inference.yml`` lacks the preprocessing or the labels.
        ValueError: a bad argument.
    """

    def __init__(
        self,
        model_dir: Union[str, Path],
        device: str = "cpu",
        batch_size: int = 1,
        threads: Optional[int] = None,
        topk: Optional[int] = None,
        workers: int = 0,
        verify: bool = True,
    ):
        _check_count("workers", workers, 0, MAX_THREADS)
        for name, value, most in (
            ("batch_size", batch_size, MAX_BATCH_SIZE),
            ("threads", 1 if threads is None else threads, MAX_THREADS),
            ("topk", 1 if topk is None else topk, MAX_TOPK),
        ):
            _check_count(name, value, 1, most)
        graph = find_graph(model_dir)
        self.config = InferenceConfig.load(graph.with_name(FILE_NAME))
        if verify:
            self.config.verify(graph.parent)
        self.batch_size = batch_size
        self.workers = workers
        self._runner = Runner(graph, check_device(device), threads)
        self._preprocess = build_transforms(self.config.preprocessing)
        self._topk = Topk(topk or self.config.topk, self.config.label_list)

    def predict(self, images: Union[Image, Iterable[Image]]) -> list[dict]:
        """Classify images.

        Args:
            images: one or many. A path of an image, a folder or a list; bytes of an image file; a Pillow image; an
                array of uint8, ``[H, W, 3]`` in RGB (``[H, W]``, one channel and RGBA are taken as such a file would
                be) or ``[N, H, W, 3]``.

        Returns:
            One result an image, in order: ``class_ids``, ``scores``, ``label_names`` (best first) and ``file_name``.
            An image that cannot be read has empty lists, and ``error`` with the reason.

        Raises:
            TypeError: something is no image.
            ValueError: an array holds other pixels or axes than an image; or the model's output does not fit the label
                list, or is not finite.
        """
        return list(self.stream(images))

    def stream(self, images: Union[Image, Iterable[Image]]) -> Iterator[dict]:
        """Classify images one batch after the other; see :meth:`predict`.

        ``images`` may be a generator without end: no more than a few batches are in memory.
        """
        return predict_images(
            inputs_of(images), self._preprocess, self._score, self._topk, self.batch_size, self.workers
        )

    def _score(self, images: np.ndarray) -> np.ndarray:
        output = self._runner(images)
        return output if self.config.softmax else softmax(output)
