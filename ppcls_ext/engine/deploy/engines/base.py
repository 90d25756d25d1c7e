"""What every engine is to the rest: a function from a batch of images to named results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Sequence

import numpy as np


class EngineError(RuntimeError):
    """An engine cannot be used here, or cannot run a graph; the message says why and what to do."""


@dataclass(frozen=True)
class GraphInput:
    """What a graph takes.

    Attributes:
        dtype: ``float32`` or ``uint8``.
        layout: ``NCHW`` or ``NHWC``.
    """

    dtype: str = "float32"
    layout: str = "NCHW"


class Engine(ABC):
    """A graph, ready to run. Threads may share it: each gets the results of its own images.

    Attributes:
        name: of the engine, as in ``--engine``.
        version: of the package that runs the graph.
        input: what the graph takes.
        outputs: names of its results, in order.
    """

    name: ClassVar[str]
    version: str = ""

    def __init__(self, outputs: Sequence[str], input: GraphInput = GraphInput()):
        self.input = input
        self.outputs = tuple(outputs)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run a batch.

        Args:
            images: ``[N, C, H, W]`` or ``[N, H, W, C]``, as ``input`` says.

        Returns:
            The results by name, in the order of ``outputs``.
        """
        images = np.ascontiguousarray(images, dtype=self.input.dtype)
        return dict(zip(self.outputs, self.run(images)))

    @abstractmethod
    def run(self, images: np.ndarray) -> Sequence[np.ndarray]:
        """Run a batch that has the right type and lies in one piece; return the results in order."""
