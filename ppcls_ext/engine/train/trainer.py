"""Training: one loop that loses nothing.

Order of a step: seed from the step number, forward, backward, unscaling, clipping, optimizer, schedule, moving average.
A step whose gradients are not finite after unscaling (float16) changes neither weights nor optimizer nor average; the
schedule advances, so that the learning rate is a function of the position in the run. The result of a step
(losses, logits) is read while the next one runs, so that the device never waits for the log; a non-finite loss is
therefore seen one step late, and always before anything is saved. Nor is anything saved, or evaluated, that is not
finite itself: weights diverge under a finite loss, since ReLU turns NaN into 0.

A run stops at a step boundary, on all processes at the same one, and saves first.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, cast

import numpy as np
import paddle

from ppcls_ext.config import Config
from ppcls_ext.config.figures import OF_AVERAGE
from ppcls_ext.data import Batch, build_dataloader
from ppcls_ext.engine.bad_images import BadImageCounter
from ppcls_ext.engine.batch_statistics import update_batch_statistics
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.logger import log_config, start_logging
from ppcls_ext.engine.model import build_model, image_labels, logits_of
from ppcls_ext.engine.precision import Precision
from ppcls_ext.engine.seed import seed_everything
from ppcls_ext.engine.train.checkpoint import CheckpointStore, checkpoint_names, load_checkpoint, newest_whole
from ppcls_ext.engine.train.ema import ModelEMA
from ppcls_ext.engine.train.errors import NonFiniteGradientError, NonFiniteLossError, NonFiniteStateError
from ppcls_ext.engine.train.evaluation import EpochEvaluation
from ppcls_ext.engine.train.meters import EpochMeter, StepTimer
from ppcls_ext.engine.train.output_dir import OutputLock, claim
from ppcls_ext.engine.train.plan import iterations_per_epoch, optimizer_section
from ppcls_ext.engine.train.reporter import Reporter
from ppcls_ext.engine.train.resume import RunFacts, resume
from ppcls_ext.engine.train.selection import Best
from ppcls_ext.engine.train.signals import GracefulStop
from ppcls_ext.engine.train.state import TrainState
from ppcls_ext.engine.train.swa import ModelSWA
from ppcls_ext.losses import build_loss
from ppcls_ext.metrics import InvalidLogitsError, build_metrics
from ppcls_ext.optim import build_optimizer
from ppcls_ext.utils.state_dict import state_arrays

__all__ = ["NonFiniteGradientError", "NonFiniteLossError", "NonFiniteStateError", "Trainer", "train"]

logger = logging.getLogger("ppcls_ext")


@dataclass
class _Pending:
    """A step whose result has not been read yet."""

    epoch: int
    iteration: int
    lr: float
    losses: dict
    logits: paddle.Tensor
    batch: Batch


class Trainer:
    """Builds all parts of a run from the config and trains.

    Attributes:
        state: all that training changes: model, optimizer, schedule, scaler, average, position, best figures.
        history: one dict of figures an epoch.
    """

    def __init__(self, cfg: Config, session: Session):
        self.cfg, self.session = cfg, session
        self.output_dir = Path(cfg.Global.output_dir)
        self.store = CheckpointStore(self.output_dir)
        self.seed = cfg.Global.seed or 0
        self.epochs = cast(int, cfg.Global.epochs)  # a configuration for training has it
        self.accumulate = cfg.Global.update_freq

        seed_everything(self.seed)
        checkpoint = load_checkpoint(cfg.Global.checkpoints) if cfg.Global.checkpoints else None
        model = build_model(cfg, checkpoint)
        self.loader = build_dataloader(
            cfg.section("DataLoader.Train"),
            "Train",
            class_num=cfg.Arch.class_num,
            seed=self.seed,
            rank=session.rank,
            world_size=session.world_size,
        )
        class_counts = np.bincount(self.loader.dataset.labels, minlength=cfg.Arch.class_num)
        self.loss = build_loss(cfg.section("Loss.Train"), class_counts)
        if cfg.Global.recompute:
            model.set_recompute(True)
        self.iterations = iterations_per_epoch(cfg, len(self.loader))
        self.samples_per_step = self.loader.sampler.batch_size * session.world_size * self.accumulate
        self.precision = Precision.from_config(cfg)
        self.evaluation = EpochEvaluation(cfg, session, self.precision) if cfg.Global.eval_during_train else None
        self.state = self._build_state(model)
        self.history: list[dict] = []
        self.facts = RunFacts.of(cfg, self.iterations, self.samples_per_step, self.loader.sampler.signature())
        if checkpoint is not None:
            resume(self.state, self.facts, checkpoint, session, self.accumulate)
        self.parallel = model
        if session.world_size > 1:
            self.parallel = paddle.DataParallel(model, find_unused_parameters=cfg.Global.find_unused_parameters)
        self.reporter = Reporter(cfg, session, self.samples_per_step // self.accumulate)
        self._resumed_from = None if checkpoint is None else checkpoint.prefix.parent
        self._lr = 0.0
        self._grad_norm: Optional[paddle.Tensor] = None
        self._finite_step: Optional[int] = None

    def _build_state(self, model: paddle.nn.Layer) -> TrainState:
        cfg = self.cfg
        section = optimizer_section(cfg, self.samples_per_step, bool(self.evaluation and self.evaluation.falls))
        optimizer, schedule = build_optimizer(section, model, self.epochs, self.iterations // self.accumulate)
        self.precision.decorate(model, optimizer)
        train_metric = cfg.section("Metric.Train")
        metrics = build_metrics(train_metric, cfg.Arch.class_num) if train_metric else None
        return TrainState(
            model=model,
            optimizer=optimizer,
            schedule=schedule,
            precision=self.precision,
            meter=EpochMeter([*self.loss.names, "loss"], metrics),
            bad_images=BadImageCounter(cfg.Global.max_bad_image_ratio, len(self.loader.dataset)),
            scaler=self.precision.scaler(),
            ema=ModelEMA(model, cfg.EMA.decay, cfg.EMA.warmup) if cfg.EMA else None,
            swa=ModelSWA(model, cfg.SWA.start_epoch, cfg.SWA.freq) if cfg.SWA else None,
            early_stopping=self.evaluation.early_stopping() if self.evaluation else None,
        )

    @property
    def model(self) -> paddle.nn.Layer:
        """The bare model, not its DataParallel wrapper."""
        return self.state.model

    # The run

    def run(self) -> dict:
        """Train to the last epoch, or until early stopping, and return a summary.

        The summary has ``epochs`` (finished ones), ``steps``, ``skipped_steps``, ``criterion``, ``best_metric``,
        ``best_epoch``, ``stopped_early`` (the reason, or None), ``swa`` (figures of the averaged weights, or None) and
        ``history``.

        Raises:
            NonFiniteLossError: if the loss becomes NaN or infinite.
            NonFiniteGradientError: if under float16 the gradients do, whatever the loss scale.
            NonFiniteStateError: if weights, optimizer state or average do; they are not saved.
            CheckpointWriteError: if a checkpoint cannot be written.
            SystemExit: with 128 plus the signal's number after Ctrl-C or SIGTERM, once the checkpoint is written.
        """
        self.reporter.begin(
            self.cfg.Arch.name,
            self.model,
            len(self.loader.dataset),
            self.iterations,
            self.samples_per_step,
            self.seed,
        )
        self.reporter.continue_from(self._resumed_from, self.state.progress.epoch, self.state.progress.iteration)
        try:
            with GracefulStop() as self._stop:
                while not self._is_over():
                    self._train_epoch()
                    self._after_epoch()
                averaged = self._finish_average()
        finally:
            self.loader.close()
            self.reporter.close()
        self.state.bad_images.summarise()
        stopping = self.state.early_stopping
        reason = stopping.reason() if stopping and stopping.is_over else None
        if reason:
            logger.info("early stopping after epoch %d of %d: %s", self.state.progress.epoch, self.epochs, reason)
        summary = {
            "epochs": self.state.progress.epoch,
            "steps": self.state.progress.step,
            "skipped_steps": self.state.progress.skipped,
            "criterion": self.evaluation.criterion if self.evaluation else None,
            "best_metric": self.state.best.metric if self.state.best.epoch else None,
            "best_epoch": self.state.best.epoch or None,
            "stopped_early": reason,
            "swa": averaged,
            "history": self.history,
        }
        config = self.output_dir / "config.yaml"
        self.reporter.end(
            summary, self.output_dir, checkpoint_names(self.output_dir), config if config.is_file() else None
        )
        return summary

    def _train_epoch(self) -> None:
        state = self.state
        epoch = state.progress.epoch + 1
        if state.progress.iteration == 0:
            state.meter.reset()
        self.model.train()
        timer, pending = StepTimer(), None
        step, skipped = state.progress.step, state.progress.skipped
        bar = self.reporter.bar(epoch, state.progress.iteration, self.iterations)
        batches = self.loader.epoch(epoch, start_batch=state.progress.iteration)
        try:
            for iteration in range(state.progress.iteration, self.iterations):
                timer.restart()
                batch = next(batches)
                timer.data_ready()
                state.bad_images.add(batch.bad)
                done = self._step(epoch, iteration, batch)
                self._read(pending)
                pending = done
                timer.step_done()
                bar.update()
                state.progress.iteration = iteration + 1
                log, save = self._is_log_step(iteration), self._is_save_step(iteration)
                ask = self._is_stop_step(iteration)
                if log or save or ask:
                    self._read(pending)
                    pending = None
                if log:
                    self._report_step(epoch, iteration, timer)
                if save:
                    self._save("latest")
                if ask:
                    self._leave_if_asked()
            self._read(pending)
        finally:
            batches.close()
            bar.close()
        if state.progress.skipped > skipped:
            logger.warning(
                "epoch %d: %d of %d steps were skipped, as their gradients were not finite in float16; the loss scale "
                "is now %g",
                epoch,
                state.progress.skipped - skipped,
                state.progress.step - step,
                state.loss_scale(),
            )
        figures = state.meter.figures(self._all_sums())
        self.reporter.epoch(epoch, figures)
        self.history.append({"epoch": epoch, **{f"train_{name}": value for name, value in figures.items()}})

    # A step

    def _step(self, epoch: int, iteration: int, batch) -> _Pending:
        """Do one micro-batch, and every ``update_freq``-th time one optimizer step."""
        seed_everything(self.seed, self.session.rank, (epoch - 1) * self.iterations + iteration)
        if len(batch.indices) == 0:
            raise RuntimeError(f"epoch {epoch}, batch {iteration}: not one of its images can be read: {batch.bad[0]}")
        lr = self._lr = self.state.optimizer.get_lr()
        last_of_group = (iteration + 1) % self.accumulate == 0
        # Gradients travel once an optimizer step, not once a micro-batch.
        communication = nullcontext() if last_of_group or self.parallel is self.model else self.parallel.no_sync()
        with communication:
            with self.precision.autocast():
                output = self.parallel(batch.images)
            logits = logits_of(output)
            losses = self.loss({**output, "logits": logits} if isinstance(output, dict) else logits, batch.labels)
            self.state.backward(losses["loss"] / self.accumulate)
        if last_of_group:
            self.state.unscale()
            if self.cfg.Global.log_grad_norm:
                self._grad_norm = self.state.gradient_norm()
            self.state.step()
        detached = {name: value.detach() for name, value in losses.items()}
        return _Pending(epoch, iteration, lr, detached, logits.detach(), batch)

    def _read(self, pending: Optional[_Pending]) -> None:
        """Read a step's result into the meters.

        Raises:
            NonFiniteLossError: naming the step, the learning rate and the files.
        """
        if pending is None:
            return
        losses = {name: float(value) for name, value in pending.losses.items()}
        if not np.isfinite(losses["loss"]):
            raise self._non_finite(pending, f"the loss is {losses['loss']}")
        self.state.meter.add(losses, len(pending.batch.indices))
        if self.state.meter.metrics:
            try:
                self.state.meter.metrics.update(pending.logits, image_labels(pending.batch.labels))
            except InvalidLogitsError as error:
                raise self._non_finite(pending, str(error)) from error

    def _non_finite(self, pending: _Pending, what: str) -> NonFiniteLossError:
        files = [str(self.loader.dataset.image_path(int(index))) for index in pending.batch.indices]
        return NonFiniteLossError(
            f"{what} at epoch {pending.epoch}, iteration {pending.iteration} (learning rate {pending.lr:.3e}); nothing "
            f"of this step was saved, {self._last_good()}. The batch on process {self.session.rank}: {', '.join(files)}"
        )

    def _require_finite(self) -> None:
        """Check that what is to be saved or evaluated is finite; every process must call it.

        Raises:
            NonFiniteStateError: on all processes, naming the tensors, the step and the last good checkpoint.
        """
        state, step = self.state, self.state.progress.step
        if step == self._finite_step:
            return
        wrong = state.non_finite()
        if self.session.sum(np.array([len(wrong)]))[0]:
            names = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
            raise NonFiniteStateError(
                f"the run has diverged: after step {step} (epoch {state.progress.epoch}, iteration "
                f"{state.progress.iteration}) {len(wrong)} of {state.tensor_count()} tensors hold NaN or infinity: "
                f"{names or 'on a different process'}. They were not saved, {self._last_good()}. Lower the learning "
                f"rate ({state.optimizer.get_lr():.3e}), lengthen the warm-up, or set Optimizer.clip_global_norm"
            )
        self._finite_step = step

    def _last_good(self) -> str:
        kept = newest_whole(self.output_dir)
        if kept:
            return f"the last good checkpoint is {kept[0]} (step {kept[1]})"
        if self.cfg.Global.checkpoints:
            return f"the last good checkpoint is the one it resumed from, {self.cfg.Global.checkpoints}"
        return "and there is no checkpoint from before"

    def _report_step(self, epoch: int, iteration: int, timer: StepTimer) -> None:
        state = self.state
        figures = {f"lr({state.schedule.kind})": state.optimizer.get_lr(), **state.meter.figures(self._all_sums())}
        if self._grad_norm is not None:
            figures["grad_norm"] = float(self._grad_norm)
        if state.scaler:
            figures["loss_scale"] = state.loss_scale()
        ips = self.loader.sampler.batch_size / max(timer.batch_cost, 1e-9)
        self.reporter.step(epoch, iteration, self.iterations, figures, timer, ips, state.progress.step, self._lr)

    # After an epoch

    def _after_epoch(self) -> None:
        self.state.progress.epoch += 1
        self.state.progress.iteration = 0
        if self.state.schedule.by_epoch:
            self.state.schedule.step()
        epoch, settings = self.state.progress.epoch, self.cfg.Global
        if self.state.swa:
            self.state.swa.after_epoch(epoch, self.state.master_weights())
        due = epoch >= settings.start_eval_epoch and (epoch % settings.eval_interval == 0 or epoch == self.epochs)
        self._require_finite()
        figures = self._figures(self.evaluation, epoch) if self.evaluation and due else {}
        self.reporter.record_epoch(epoch, self.state.progress.step, self._lr, figures)
        if self.evaluation and due:
            self._judge(self.evaluation, figures, epoch)
        if settings.save_interval > 0 and epoch % settings.save_interval == 0:
            self._save(f"epoch_{epoch}")
            if self.session.is_main:
                self.store.keep_last_epochs(settings.keep_last)
        self._save("latest")
        self._leave_if_asked()

    def _figures(self, evaluation: EpochEvaluation, epoch: int) -> dict:
        """Evaluate."""
        try:
            figures = evaluation.run(self.state, epoch)
        except InvalidLogitsError as error:
            raise NonFiniteStateError(
                f"evaluation after epoch {epoch}: {error}. The epoch was not saved, {self._last_good()}"
            ) from error
        self.history[-1].update({f"eval_{name}": value for name, value in figures.items()})
        return figures

    def _judge(self, evaluation: EpochEvaluation, figures: dict, epoch: int) -> None:
        """Let the schedule, early stopping and the best model know the figures of an epoch."""
        state = self.state
        criterion = evaluation.criterion
        if criterion is None:
            return
        if hasattr(state.schedule, "observe"):
            state.schedule.observe(figures[criterion])
        if state.early_stopping:
            state.early_stopping.update(figures[state.early_stopping.metric], epoch)
        self._keep_if_best(figures[criterion], epoch, state.best, "best_model", "best metric")
        if state.ema:
            value = figures[f"{OF_AVERAGE}{criterion}"]
            self._keep_if_best(value, epoch, state.best_ema, "best_model_ema", "best metric ema")

    def _finish_average(self) -> Optional[dict[str, float]]:
        """Complete, evaluate and save the mean of stochastic weight averaging; return its figures."""
        swa, section = self.state.swa, self.cfg.SWA
        if swa is None or section is None or not swa.updates:
            return None
        figures: dict[str, float] = {}
        with swa.applied():
            if section.update_bn:
                batches = self.loader.epoch(self.state.progress.epoch)
                update_batch_statistics(self.model, batches, self.session, self.precision)
            if self.evaluation:
                figures = self.evaluation.evaluator.run(self.model, self.state.progress.epoch, "_swa")
            weights = state_arrays(self.model)
        logger.info("SWA: the mean of the weights after %d epochs", swa.updates)
        self._save("swa", weights)
        return figures

    def _keep_if_best(self, value: float, epoch: int, best: Best, name: str, label: str) -> None:
        if best.offer(value, epoch, bool(self.evaluation and self.evaluation.falls)):
            self._save(name)
        logger.info("[Eval][Epoch %d][%s: %s]", epoch, label, best.metric)

    def _save(self, name: str, averaged: Optional[dict] = None) -> None:
        """Write a checkpoint on the main process; every process must call it.

        Args:
            name: of the checkpoint.
            averaged: weights to be saved in place of the model's, without what a run resumes from.
        """
        self._require_finite()
        sums = self._all_sums()
        if not self.session.is_main:
            return
        if name == "best_model_ema" and self.state.ema:
            averaged = self.state.ema.state_dict()
        if averaged is not None:
            # The averaged weights under the name that evaluation, export and prediction read.
            parts = {"pdparams": averaged, "pdstates": self.state.states(sums)}
        else:
            parts = self.state.state_dict(sums)
        parts["pdstates"].update(self.facts.to_dict())
        arguments = self.model.bound_arguments() if hasattr(self.model, "bound_arguments") else None
        class_names = getattr(self.loader.dataset, "class_names", None)
        self.store.save(name, parts, self.state.progress.step, arguments, class_names)

    def _leave_if_asked(self) -> None:
        """Save and leave if any process got a signal; all of them ask at the same step."""
        asked = self.session.sum(np.array([self._stop.signal_number is not None]))[0]
        if not asked or self._is_over():
            return
        if self.state.progress.iteration:
            self._save("latest")
        logger.warning(
            "stopped by a signal after epoch %d, iteration %d; resume with -o Global.checkpoints=%s",
            self.state.progress.epoch,
            self.state.progress.iteration,
            self.output_dir / "latest",
        )
        raise SystemExit(self._stop.exit_code)

    # When to do what

    def _is_over(self) -> bool:
        """Whether nothing is left to train; the same on all processes."""
        stopping = self.state.early_stopping
        return self.state.progress.epoch >= self.epochs or (stopping is not None and stopping.is_over)

    def _is_log_step(self, iteration: int) -> bool:
        return iteration % self.cfg.Global.print_batch_step == 0

    def _is_boundary(self, iteration: int) -> bool:
        """Whether an optimizer step has just ended, within the epoch: what a checkpoint can describe."""
        return (iteration + 1) % self.accumulate == 0 and iteration + 1 < self.iterations

    def _is_save_step(self, iteration: int) -> bool:
        interval = self.cfg.Global.save_interval_steps
        return interval > 0 and self._is_boundary(iteration) and self.state.progress.step % interval == 0

    def _is_stop_step(self, iteration: int) -> bool:
        """Whether to ask for signals now. Several processes must ask at the same step, and do so now and then."""
        if self.session.world_size == 1:
            return self._stop.signal_number is not None and self._is_boundary(iteration)
        return self._is_boundary(iteration) and self.state.progress.step % self.cfg.Global.print_batch_step == 0

    def _all_sums(self) -> np.ndarray:
        return self.session.sum(self.state.meter.state())


def train(cfg: Config) -> dict:
    """Train as the config says: what ``tools/train.py`` does.

    Returns:
        The summary of :meth:`Trainer.run`.

    Raises:
        OutputDirError: if a run is writing to ``Global.output_dir``, or has left checkpoints there that this one would
            overwrite; nothing is written then.
    """
    session = Session(cfg.Global.device)
    output_dir = Path(cfg.Global.output_dir)
    lock = OutputLock(output_dir)
    try:
        claim(output_dir, lock, cfg.Global.checkpoints, cfg.Global.overwrite, session)
        start_logging(session.is_main, output_dir / "train.log")
        log_config(cfg)
        if lock.note:
            logger.warning(lock.note)
        trainer = Trainer(cfg, session)
        if session.is_main:
            if cfg.Global.overwrite and not cfg.Global.checkpoints:
                trainer.store.remove_all()
            cfg.save(output_dir / "config.yaml")
        return trainer.run()
    finally:
        lock.release()
