"""Evaluation: every sample counted exactly once, on any number of processes."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import numpy as np
import paddle
from tqdm import tqdm

from ppcls_ext.config import Config
from ppcls_ext.data import LabelFileError, build_dataloader
from ppcls_ext.data.class_subset import read_class_subset
from ppcls_ext.data.real_labels import find_real_labels
from ppcls_ext.data.sample import Batch
from ppcls_ext.engine.class_mask import ClassMask
from ppcls_ext.engine.class_names import prediction_labels, table_names, trained_class_names
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.logger import log_config, start_logging
from ppcls_ext.engine.model import load_trained, logits_of
from ppcls_ext.engine.precision import Precision
from ppcls_ext.engine.predictions.recording import Recorder
from ppcls_ext.engine.tta import TestTimeAugmentation, joined
from ppcls_ext.losses import build_loss
from ppcls_ext.metrics import build_metrics
from ppcls_ext.utils.tables import write_table

logger = logging.getLogger("ppcls_ext")


@dataclass(frozen=True)
class EvaluationOptions:
    """What an evaluation does beyond the configuration.

    Attributes:
        save_predictions: file of predictions to write, see :mod:`ppcls_ext.engine.predictions`.
        save_topk: write the best classes alone, this many; None writes all logits.
        labels: reassessed labels, see :func:`ppcls_ext.data.real_labels.find_real_labels`.
        classes: the classes that count, see :func:`ppcls_ext.data.class_subset.read_class_subset`.
        tta: test-time augmentation, a name of :data:`ppcls_ext.engine.tta.KINDS`.
    """

    save_predictions: Optional[Path] = None
    save_topk: Optional[int] = None
    labels: Optional[str] = None
    classes: Optional[Path] = None
    tta: Optional[str] = None


class Evaluator:
    """Runs a model over ``DataLoader.Eval`` and returns exact means.

    Each process evaluates its share of the samples, without padding; sums and counts are added at the end, so the
    result depends neither on the number of processes nor on a ragged last batch.

    Args:
        cfg: the validated config.
        session: this process.
        precision: autocast settings; by default float32.
        options: reassessed labels, and classes that count; predictions are the caller's to record.
        dataset: what replaces keys of ``DataLoader.Eval.dataset``, such as its folder; None takes a key out.

    Raises:
        FileNotFoundError, LabelFileError: if labels or classes of ``options`` cannot be read.
        ValueError: if a metric asks for more classes than count.
        UndefinedViewError: if the operators of evaluation have no such views.
    """

    def __init__(
        self,
        cfg: Config,
        session: Session,
        precision: Optional[Precision] = None,
        options: Optional[EvaluationOptions] = None,
        dataset: Optional[dict] = None,
    ):
        self.session = session
        self.precision = precision or Precision()
        self.print_every = cfg.Global.print_batch_step
        self.output_dir = Path(cfg.Global.output_dir)
        section = cfg.section("DataLoader.Eval")
        images = {**section["dataset"], **(dataset or {})}
        options = options or EvaluationOptions()
        self.tta = None if options.tta is None else TestTimeAugmentation(options.tta)
        self.loaders = [
            build_dataloader(
                {**section, "dataset": {key: value for key, value in images.items() if value is not None}},
                "Eval",
                seed=cfg.Global.seed or 0,
                rank=session.rank,
                world_size=session.world_size,
                class_names=trained_class_names(cfg, recorded=cfg.mode != "train"),
            )
            for _ in (self.tta.anchors if self.tta else range(1))
        ]
        if self.tta:
            self.tta.place(self.loaders)
        self.loader = self.loaders[0]
        eval_loss = cfg.section("Loss.Eval")
        self.loss = build_loss(eval_loss) if eval_loss else None
        eval_metric = cfg.section("Metric.Eval")
        class_num = cfg.Arch.class_num
        self.metrics = build_metrics(eval_metric, class_num) if eval_metric else None
        self._table_names = table_names(cfg) if self.metrics and self.metrics.has_tables else None
        self.real = self.mask = None
        if options.labels is not None:
            self.real = find_real_labels(options.labels, [section["dataset"].get("image_root") or "."])
        if options.classes is not None:
            names = self.loader.dataset.class_names or trained_class_names(cfg)
            self.mask = ClassMask(read_class_subset(options.classes, class_num, names), class_num)
            _check_topk(cfg, len(self.mask.ids))

    @property
    def criterion(self) -> Optional[str]:
        """Name of the figure that decides which model is best, such as ``top1``; None without ``Metric.Eval``."""
        return self.metrics.criterion if self.metrics else None

    @paddle.no_grad()
    def run(
        self, model: paddle.nn.Layer, epoch: int = 0, suffix: str = "", recorder: Optional[Recorder] = None
    ) -> dict[str, float]:
        """Return the means over all samples: the losses of ``Loss.Eval`` and the figures of ``Metric.Eval``.

        Metrics that are tables go into ``Global.output_dir``, as ``per_class.csv`` and ``confusion_matrix.csv``.

        Args:
            model: what to evaluate.
            epoch: for the log.
            suffix: of the names of the tables, before ``.csv``.
            recorder: takes the logits of each sample.

        Raises:
            InvalidLogitsError, PredictionsFileError: if the model returns NaN or infinity.
        """
        was_training = model.training
        model.eval()
        if self.metrics:
            self.metrics.reset()
        sums = _Sums()
        started = time.monotonic()
        batches = tqdm(
            joined(self.loaders),
            total=len(self.loader),
            desc="eval",
            unit="batch",
            leave=False,
            disable=not (self.session.is_main and sys.stdout.isatty()),
        )
        try:
            for index, (batch, images) in enumerate(batches):
                tick = time.monotonic()
                with self.precision.for_evaluation():
                    logits = self._logits(model, images)
                size = len(batch.indices)
                if recorder is not None and size:
                    recorder.add(self.loader.dataset, batch.indices, logits.numpy())
                self._score(logits, batch, sums)
                if index % self.print_every == 0 and sums.samples:
                    self._log_batch(epoch, index, sums, size / (time.monotonic() - tick))
        finally:
            if was_training:
                model.train()
        result = self._gather(sums)
        logger.info("[Eval][Epoch %d][Avg]%s", epoch, ", ".join(f"{k}: {v:.5f}" for k, v in result.items()))
        logger.info("[Eval] %d samples in %.1f s", self._samples, time.monotonic() - started)
        self._write_tables(suffix)
        return result

    def _logits(self, model: paddle.nn.Layer, images: list[paddle.Tensor]) -> paddle.Tensor:
        """Return the class scores of a batch, float32; with test-time augmentation, log-probabilities."""
        if self.tta is not None:
            return self.tta.scores(model, images)
        return logits_of(model(images[0])).astype("float32")

    def _score(self, logits: paddle.Tensor, batch: Batch, sums: _Sums) -> None:
        """Count a batch."""
        labels, indices = batch.labels, batch.indices
        if self.mask is not None:
            rows = self.mask.rows(labels.numpy())
            sums.left_out += len(indices) - len(rows)
            if not len(rows):
                return
            selected = paddle.to_tensor(rows)
            logits = self.mask.masked(paddle.index_select(logits, selected))
            labels, indices = paddle.index_select(labels, selected), indices[rows]
        size = len(indices)
        sums.samples += size
        if self.loss:
            for name, value in self.loss(logits, labels).items():
                sums.losses[name] = sums.losses.get(name, 0.0) + float(value) * size
        if self.metrics:
            self.metrics.update(logits, labels)
        if self.real is not None and size:
            files = [self.loader.dataset.image_path(int(index)) for index in indices]
            right, counts = self.real.score(files, logits.numpy().argmax(axis=1))
            sums.real += [counts.sum(), (right & counts).sum()]

    def _log_batch(self, epoch: int, index: int, sums: _Sums, ips: float) -> None:
        figures = {name: value / sums.samples for name, value in sums.losses.items()}
        if self.metrics:
            figures.update(self.metrics.compute())
        logger.info(
            "[Eval][Epoch %d][Iter: %d/%d]%s, ips: %.5f images/sec",
            epoch,
            index,
            len(self.loader),
            ", ".join(f"{k}: {v:.5f}" for k, v in figures.items()),
            ips,
        )

    def _gather(self, sums: _Sums) -> dict[str, float]:
        # A process may have no sample at all, and then knows no loss names; the order below is the same everywhere.
        names = [*self.loss.names, "loss"] if self.loss else []
        state = self.metrics.state() if self.metrics else np.zeros(0)
        counts = [sums.samples, sums.left_out, *sums.real]
        total = self.session.sum(np.concatenate([counts, [sums.losses.get(name, 0.0) for name in names], state]))
        self._samples, left_out, counted, right = map(int, total[: len(counts)])
        if not self._samples and self.mask is not None:
            raise LabelFileError(
                f"none of the {left_out} images is of one of the {len(self.mask.ids)} classes that count"
            )
        total = total[len(counts) :]
        result = {name: float(value / self._samples) for name, value in zip(names, total)}
        if self.metrics:
            self.metrics.load_state(total[len(names) :])
            result.update(self.metrics.compute())
        if self.mask is not None:
            logger.info("[Eval] %d classes count; %d images of others are left out", len(self.mask.ids), left_out)
        if self.real is not None:
            if not counted:
                raise LabelFileError(f"{self.real.path} has no label for any of the {self._samples} images")
            result["real_top1"] = right / counted
            logger.info("[Eval] %d of %d images have labels in %s", counted, self._samples, self.real.path)
        return result

    def _write_tables(self, suffix: str) -> None:
        if self.metrics is None or not self.session.is_main:
            return
        for name, rows in self.metrics.tables(self._table_names).items():
            logger.info("[Eval] %s: %s", name, write_table(self.output_dir / f"{name}{suffix}.csv", rows))


@dataclass
class _Sums:
    """What a process has counted."""

    samples: int = 0
    left_out: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    #: Samples with reassessed labels, and those of them that are right.
    real: np.ndarray = field(default_factory=lambda: np.zeros(2))


def _check_topk(cfg: Config, classes: int) -> None:
    """Refuse an accuracy that would be 1 whatever the model says."""
    for item in cfg.section("Metric.Eval") or []:
        too_many = [k for k in item.get("TopkAcc", {}).get("topk", []) if k > classes]
        if too_many:
            raise ValueError(
                f"{classes} classes count; expected Metric.Eval.TopkAcc.topk up to {classes}, got {too_many[0]}"
            )


def evaluate(
    cfg: Config, random_weights: bool = False, options: Optional[EvaluationOptions] = None
) -> dict[str, float]:
    """Evaluate the weights that the config names on ``DataLoader.Eval``: what ``tools/eval.py`` does.

    Args:
        cfg: the validated config; ``Global.pretrained_model`` names the weights.
        random_weights: accept a config that names no weights; the model then has its initial ones.
        options: what to do beyond the config.

    Returns:
        Means over all samples, such as ``{"CELoss": 0.1, "loss": 0.1, "top1": 0.98}``; with reassessed labels
        ``real_top1`` as well.

    Raises:
        MissingWeightsError, WeightMismatchError, NonFiniteWeightsError: see
            :func:`ppcls_ext.engine.model.load_trained`.
        PredictionsFileError: if the predictions cannot be written.
    """
    options = options or EvaluationOptions()
    session = Session(cfg.Global.device)
    start_logging(session.is_main, Path(cfg.Global.output_dir) / "eval.log")
    log_config(cfg)
    evaluator = Evaluator(cfg, session, Precision.from_config(cfg), options)
    if options.save_predictions is None:
        return evaluator.run(load_trained(cfg, "evaluated", random_weights))
    source = {"model": cfg.Arch.name, "weights": str(cfg.Global.pretrained_model or "")}
    class_num = cfg.Arch.class_num
    recorder = Recorder(
        options.save_predictions, session, class_num, prediction_labels(cfg, class_num), source, options.save_topk
    )
    try:
        result = evaluator.run(load_trained(cfg, "evaluated", random_weights), recorder=recorder)
        recorder.finish(evaluator.loader.dataset)
    except BaseException:
        recorder.abandon()
        raise
    logger.info("[Eval] predictions: %s", options.save_predictions)
    return result
