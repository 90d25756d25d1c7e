"""A backbone as Paddle runs it operator by operator: forward, or a step of training."""

from __future__ import annotations

from typing import Any, Callable, Optional

import numpy as np
import paddle

from ppcls_ext.analysis.benchmark.images import normalised_noise
from ppcls_ext.analysis.benchmark.prediction import Prediction
from ppcls_ext.analysis.benchmark.results import PREDICT, TRAIN, Case
from ppcls_ext.engine.model import logits_of
from ppcls_ext.factory import create_backbone

AMP_TYPES = {"bf16": "bfloat16", "fp16": "float16"}
CLASSES = 1000
#: Small, so that random weights stay finite however long the benchmark runs.
LEARNING_RATE = 1e-6


class Eager:
    """A backbone with random weights on one batch of noise, or on images in the mode ``predict``.

    A step of training is forward, cross entropy, backward and AdamW. In bf16 and fp16 Paddle casts by operator (AMP
    O1), with a scaled loss in fp16.

    Args:
        case: the configuration.
        options: ``name`` that :func:`~ppcls_ext.factory.create_backbone` takes, and ``transform_ops`` and ``images``
            for prediction.

    Raises:
        ValueError: this Paddle cannot run on the device, or not in this precision there.
    """

    def __init__(self, case: Case, options: dict):
        self.case = case
        self.options = options
        self.device = check_device(case.device)
        paddle.set_device(self.device)
        if case.precision in AMP_TYPES:
            check_autocast(case.precision, case.device)
        self.run: Callable[[], Optional[dict]] = self._forward

    def open(self) -> dict:
        """Build the model and its input."""
        case = self.case
        paddle.seed(0)
        self.model = self.build()
        self.model.train() if case.mode == TRAIN else self.model.eval()
        self.images = paddle.to_tensor(normalised_noise(case.batch, case.height, case.width))
        if case.mode == TRAIN:
            self._prepare_training()
            self.run = self._train
        elif case.mode == PREDICT:
            prediction = Prediction(self._infer, self.options["transform_ops"], self.options["images"], case.batch)
            self.run = prediction.run
        place = paddle.device.cuda.get_device_name() if case.device != "cpu" else "CPU"
        return {"library": f"paddlepaddle {paddle.__version__}", "place": place}

    def build(self) -> paddle.nn.Layer:
        """Return the model."""
        return create_backbone(self.options["name"])

    def device_bytes(self) -> Optional[int]:
        """Return the peak of Paddle's allocator on the GPU; None on a CPU."""
        return None if self.device == "cpu" else int(paddle.device.cuda.max_memory_allocated())

    def _prepare_training(self) -> None:
        parameters = [parameter for parameter in self.model.parameters() if not parameter.stop_gradient]
        self.optimizer: Any = paddle.optimizer.AdamW(LEARNING_RATE, parameters=parameters)
        self.scaler = paddle.amp.GradScaler() if self.case.precision == "fp16" else None
        self.labels = paddle.arange(self.case.batch) % CLASSES

    def _forward(self) -> None:
        with paddle.no_grad(), autocast(self.case.precision):
            self.model(self.images)
        synchronize(self.device)

    def _infer(self, images: np.ndarray) -> None:
        with paddle.no_grad(), autocast(self.case.precision):
            logits_of(self.model(paddle.to_tensor(images))).numpy()  # waits for the device

    def _train(self) -> None:
        with autocast(self.case.precision):
            logits = logits_of(self.model(self.images))
            loss = paddle.nn.functional.cross_entropy(logits, self.labels)
        if self.scaler is None:
            loss.backward()
            self.optimizer.step()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.clear_grad()
        synchronize(self.device)


def autocast(precision: str):
    """Return the context in which operators compute in a precision."""
    return paddle.amp.auto_cast(enable=precision in AMP_TYPES, level="O1", dtype=AMP_TYPES.get(precision, "float16"))


def check_device(device: str) -> str:
    """Return ``device`` if this Paddle can run on it.

    Raises:
        ValueError: otherwise.
    """
    if device != "cpu" and not paddle.device.is_compiled_with_cuda():
        raise ValueError(f"device is {device!r}, but this build of Paddle {paddle.__version__} has no CUDA; use cpu")
    return device


def check_autocast(precision: str, device: str) -> None:
    """Check that Paddle computes in a precision on the device: elsewhere it goes on in float32 with a warning.

    Raises:
        ValueError: it does not.
    """
    ones = paddle.ones([8, 8])
    with autocast(precision):
        found = (ones @ ones).dtype
    if found != getattr(paddle, AMP_TYPES[precision]):
        raise ValueError(f"Paddle {paddle.__version__} does not compute in {precision} on {device}: AMP has no effect")


def synchronize(device: str) -> None:
    """Wait until a GPU has done all that it was told to do."""
    if device != "cpu":
        paddle.device.synchronize()
