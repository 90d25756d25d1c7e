"""What the service is started with, checked before a process is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Optional

from ppcls_ext.engine.deploy.engines.choice import AUTO, check_device, check_engine, choose_engine
from ppcls_ext.engine.deploy.inference_yml import InferenceConfig
from ppcls_ext.engine.deploy.predictor import Predictor
from ppcls_ext.engine.deploy.serving.limits import Limits
from ppcls_ext.utils.cpu_settings import usable_cores

#: The most classes a request may ask for, unless ``topk`` is more.
MAX_TOPK = 100
#: Height and width of the first image, where ``inference.yml`` does not say what the model takes.
DEFAULT_SIZE = (256, 256)


@dataclass(frozen=True)
class Settings:
    """Settings of one process of the service; they are handed to others by pickling.

    Attributes:
        model_dir: the folder that ``ppcls_ext export`` wrote.
        engine: what runs the graph, see :class:`Predictor`.
        device: ``cpu``, ``gpu`` or ``gpu:<number>``.
        threads: of the model, in this process.
        topk: classes a result, unless the request says so; None means as exported.
        batch_size: the most images in a run of the model.
        window: seconds that the first image of a batch waits for others.
        decoders: threads that read and preprocess the images of a batch.
        limits: of requests.
    """

    model_dir: str
    engine: str = AUTO
    device: str = "cpu"
    threads: Optional[int] = None
    topk: Optional[int] = None
    batch_size: int = 16
    window: float = 0.003
    decoders: int = 2
    limits: Limits = field(default_factory=Limits)

    def predictor(self) -> Predictor:
        """Open the model; its files were compared with their checksums before."""
        return Predictor(
            self.model_dir,
            engine=self.engine,
            device=self.device,
            batch_size=self.batch_size,
            threads=self.threads,
            topk=self.most_classes,
            workers=self.decoders,
            verify=False,
        )

    def check(self) -> None:
        """Check what can be checked without the export.

        Raises:
            ValueError: there is no such engine or device.
        """
        check_engine(self.engine)
        check_device(self.device)

    def with_engine(self, verify: bool = True) -> Settings:
        """Return these settings with the engine that they choose, after checking the export.

        Args:
            verify: whether to compare the files with the checksums in ``inference.yml``.

        Raises:
            FileNotFoundError: the folder, ``inference.yml`` or a file that it names is missing.
            InferenceConfigError: ``inference.yml`` cannot be used.
            EngineError: the engine is not installed.
            DamagedExportError: a file is not the one that was exported.
        """
        config = self.config
        choice = choose_engine(self.model_dir, config, self.engine, self.device)
        if verify:
            config.verify(self.model_dir, choice.graph.files)
        return replace(self, engine=choice.engine)

    @property
    def config(self) -> InferenceConfig:
        """Read ``inference.yml``."""
        return InferenceConfig.load_from(self.model_dir)

    @property
    def classes(self) -> int:
        """Return how many classes a result has unless the request says so."""
        config = self.config
        return min(self.topk or config.topk, len(config.label_list))

    @property
    def most_classes(self) -> int:
        """Return how many classes a request may ask for."""
        return min(max(MAX_TOPK, self.topk or 0), len(self.config.label_list))

    @property
    def image_size(self) -> tuple[int, int]:
        """Return a height and width that the model takes."""
        shape = self.config.facts.get("image_shape")
        if isinstance(shape, list) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape):
            return shape[1], shape[2]
        return DEFAULT_SIZE


def share_of_cores(workers: int, threads: Optional[int]) -> Optional[int]:
    """Return how many threads each of several processes gets; one process takes the predictor's own default."""
    if threads is not None or workers == 1:
        return threads
    return max(1, usable_cores() // workers)
