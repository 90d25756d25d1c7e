"""An exported folder as an engine runs it."""

from __future__ import annotations

import importlib
from typing import Callable, Optional

import numpy as np

from ppcls_ext.analysis.benchmark.images import normalised_noise
from ppcls_ext.analysis.benchmark.prediction import Prediction
from ppcls_ext.analysis.benchmark.results import PREDICT, Case
from ppcls_ext.engine.deploy.engines.choice import ENGINES, choose_engine, open_choice
from ppcls_ext.engine.deploy.inference_yml import InferenceConfig
from ppcls_ext.engine.deploy.predictor import outside


class Exported:
    """A graph on one batch of noise, or on images in the mode ``predict``; results are arrays in host memory.

    Args:
        case: the configuration; its engine may be ``auto``.
        options: ``folder`` of the export, and ``images`` for prediction.

    Raises:
        EngineError: the engine is not installed.
        FileNotFoundError: the folder lacks the graph that the engine runs.
    """

    def __init__(self, case: Case, options: dict):
        self.case = case
        self.options = options
        self.config = InferenceConfig.load_from(options["folder"])
        self.choice = choose_engine(options["folder"], self.config, case.engine, case.device)
        importlib.import_module(ENGINES[self.choice.engine].module)
        self.run: Callable[[], Optional[dict]] = self._run

    def open(self) -> dict:
        """Load the graph and make its input."""
        case = self.case
        self.engine = open_choice(self.choice, case.device, case.threads)
        if case.mode == PREDICT:
            ops = outside(self.config, self.choice.graph.inside)
            self.run = Prediction(self.engine, ops, self.options["images"], case.batch).run
        else:
            self.images = self._noise()
        place = "CPU" if case.device == "cpu" else case.device
        with_onednn = " with oneDNN" if getattr(self.engine, "onednn", False) else ""
        return {"library": f"{self.engine.name} {self.engine.version}{with_onednn}", "place": place}

    def _noise(self) -> np.ndarray:
        case = self.case
        shape = (case.batch, case.height, case.width)
        if self.engine.input.dtype == "uint8":
            return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        return normalised_noise(*shape)

    def _run(self) -> None:
        self.engine(self.images)
