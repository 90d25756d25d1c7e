"""The model behind the service: a predictor, its limits, and whether it still answers."""

from __future__ import annotations

import logging
import threading
from typing import Sequence

import numpy as np

from ppcls_ext.engine.deploy.inputs import Input
from ppcls_ext.engine.deploy.pipeline import failed
from ppcls_ext.engine.deploy.serving.reading import Upload
from ppcls_ext.engine.deploy.serving.settings import Settings

logger = logging.getLogger("ppcls_ext")


class Classifier:
    """Classifies the images of a batch; built, it has answered once.

    Args:
        settings: of the service.

    Raises:
        Exception: what :class:`Predictor` raises, or the model, if it cannot classify a grey image.
    """

    def __init__(self, settings: Settings):
        self._limits = settings.limits
        self._predictor = settings.predictor()
        self._probe = np.full((*settings.image_size, 3), 127, np.uint8)
        self._lock = threading.Lock()
        self.problem = ""
        self._ask()

    def __call__(self, images: Sequence[Upload]) -> list[dict]:
        """Return a result an image, as :meth:`Predictor.predict` does.

        Raises:
            Exception: of the model. Before it is passed on, the model is asked about a grey image, and ``problem`` says
                whether it still answers.
        """
        problems = [self._limits.pixel_problem(image.data) for image in images]
        good = [Input(image.name, image.data) for image, problem in zip(images, problems) if not problem]
        try:
            results = iter(self._predictor.predict(good) if good else [])
        except Exception:
            self._look_again()
            raise
        self.problem = ""
        return [failed(image.name, problem) if problem else next(results) for image, problem in zip(images, problems)]

    def _ask(self) -> None:
        (result,) = self._predictor.predict([self._probe])
        if "error" in result:
            raise RuntimeError(f"the preprocessing refuses a grey image: {result['error']}")

    def _look_again(self) -> None:
        with self._lock:
            try:
                self._ask()
            except Exception as error:  # noqa: BLE001 - whatever it is, the model does not answer
                self.problem = f"{type(error).__name__}: {error}".splitlines()[0]
                logger.error("the model does not answer any more: %s", self.problem)
            else:
                self.problem = ""
