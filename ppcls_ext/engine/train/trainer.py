"""Training: one loop that loses nothing.

Order of a step: seed from the step number, forward, backward, unscaling, clipping, optimizer, schedule, moving average.
A step whose gradients are not finite after unscaling (float16) changes neither weights nor optimizer nor average; the
schedule goes on, so that the learning rate is a function of the position in the run. The result of a step
(losses, logits) is read while the next one runs, so that the device never waits for the log; a non-finite loss is
therefore seen one step late, and always before anything is saved.

A run stops at a step boundary, on all processes at the same one, and saves first.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
import paddle

from ppcls_ext.data import build_dataloader
from ppcls_ext.engine.bad_images import BadImageCounter
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.evaluator import Evaluator
from ppcls_ext.engine.logger import log_config, start_logging
from ppcls_ext.engine.model import build_model, image_labels, logits_of
from ppcls_ext.engine.precision import Precision
from ppcls_ext.engine.seed import seed_everything
from ppcls_ext.engine.train import state as run_state
from ppcls_ext.engine.train.checkpoint import CheckpointStore, load_checkpoint
from ppcls_ext.engine.train.ema import ModelEMA
from ppcls_ext.engine.train.meters import EpochMeter, StepTimer
from ppcls_ext.engine.train.reporter import Reporter
from ppcls_ext.engine.train.signals import StopRequest
from ppcls_ext.engine.train.state import Best, Progress
from ppcls_ext.losses import build_loss
from ppcls_ext.metrics import InvalidLogitsError, build_metrics
from ppcls_ext.optim import build_optimizer, describe_scaling, scale_learning_rates

logger = logging.getLogger("ppcls_ext")


class NonFiniteLossError(FloatingPointError):
    """The loss became NaN or infinite; the message says at which step, learning rate and files."""


class NonFiniteGradientError(FloatingPointError):
    """The gradients stayed NaN or infinite however small the loss scale."""


#: The smallest loss scale of float16. Below it the gradients are beyond float32's own range, and no step will come.
MIN_LOSS_SCALE = 1e-4


@dataclass
class _Pending:
    """A step whose result has not been read yet."""

    epoch: int
    iteration: int
    lr: float
    losses: dict
    logits: paddle.Tensor
    batch: object


class Trainer:
    """Builds all parts of a run from the config and trains.

    Attributes:
        model: the bare model (not its DataParallel wrapper).
        history: one dict of figures an epoch.
    """

    def __init__(self, cfg, session: Session):
        self.cfg, self.session = cfg, session
        self.output_dir = Path(cfg.Global.output_dir)
        self.store = CheckpointStore(self.output_dir)
        self.seed = cfg.Global.seed or 0
        self.epochs = cfg.Global.epochs
        self.accumulate = cfg.Global.update_freq

        seed_everything(self.seed)
        checkpoint = load_checkpoint(cfg.Global.checkpoints) if cfg.Global.checkpoints else None
        self.model = build_model(cfg, checkpoint)
        self.loss = build_loss(cfg.section("Loss.Train"))
        self.loader = build_dataloader(
            cfg.section("DataLoader.Train"),
            "Train",
            class_num=cfg.Arch.class_num,
            seed=self.seed,
            rank=session.rank,
            world_size=session.world_size,
        )
        if cfg.Global.recompute:
            self.model.set_recompute(True)
        self.iterations = self._iterations_per_epoch()
        self.samples_per_step = self.loader.sampler.batch_size * session.world_size * self.accumulate
        self.precision = Precision.from_config(cfg)
        self.optimizer, self.lr = build_optimizer(
            self._scaled_optimizer_section(), self.model, self.epochs, self.iterations // self.accumulate
        )
        self.precision.decorate(self.model, self.optimizer)
        self.scaler = self.precision.scaler()
        self.ema = ModelEMA(self.model, cfg.EMA.decay, cfg.EMA.warmup) if cfg.EMA else None
        train_metric = cfg.section("Metric.Train")
        self.meter = EpochMeter(
            [*self.loss.names, "loss"], build_metrics(train_metric, cfg.Arch.class_num) if train_metric else None
        )
        self.evaluator = Evaluator(cfg, session, self.precision) if cfg.Global.eval_during_train else None
        self.bad_images = BadImageCounter(cfg.Global.max_bad_image_ratio, len(self.loader.dataset))

        self.progress, self.best, self.best_ema = Progress(), Best(), Best()
        self.history: list[dict] = []
        if checkpoint is not None:
            run_state.restore(self, checkpoint)
        self.parallel = self.model
        if session.world_size > 1:
            self.parallel = paddle.DataParallel(self.model, find_unused_parameters=cfg.Global.find_unused_parameters)
        self.reporter = Reporter(session, self.epochs, self.output_dir if cfg.Global.use_visualdl else None)
        self._grad_norm: Optional[paddle.Tensor] = None

    # The run

    def run(self) -> dict:
        """Train to the last epoch and return a summary: ``best_metric``, ``best_epoch``, ``history`` …

        Raises:
            NonFiniteLossError: if the loss becomes NaN or infinite.
            NonFiniteGradientError: if under float16 the gradients do, whatever the loss scale.
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
        try:
            with StopRequest() as self._stop:
                while self.progress.epoch < self.epochs:
                    self._train_epoch()
                    self._after_epoch()
        finally:
            self.loader.close()
            self.reporter.close()
        self.bad_images.summarise()
        return {
            "epochs": self.epochs,
            "steps": self.progress.step,
            "skipped_steps": self.progress.skipped,
            "criterion": self.evaluator.criterion if self.evaluator else None,
            "best_metric": self.best.metric if self.best.epoch else None,
            "best_epoch": self.best.epoch or None,
            "history": self.history,
        }

    def _train_epoch(self) -> None:
        epoch = self.progress.epoch + 1
        if self.progress.iteration == 0:
            self.meter.reset()
        self.model.train()
        timer, pending = StepTimer(), None
        step, skipped = self.progress.step, self.progress.skipped
        bar = self.reporter.bar(epoch, self.progress.iteration, self.iterations)
        batches = self.loader.epoch(epoch, start_batch=self.progress.iteration)
        try:
            for iteration in range(self.progress.iteration, self.iterations):
                timer.restart()
                batch = next(batches)
                timer.data_ready()
                self.bad_images.add(batch.bad)
                done = self._step(epoch, iteration, batch)
                self._read(pending)
                pending = done
                timer.step_done()
                bar.update()
                self.progress.iteration = iteration + 1
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
        if self.progress.skipped > skipped:
            logger.warning(
                "epoch %d: %d of %d steps were skipped, as their gradients were not finite in float16; the loss scale "
                "is now %g",
                epoch,
                self.progress.skipped - skipped,
                self.progress.step - step,
                self._loss_scale(),
            )
        figures = self.meter.figures(self._all_sums())
        self.reporter.epoch(epoch, figures)
        self.history.append({"epoch": epoch, **{f"train_{name}": value for name, value in figures.items()}})

    # A step

    def _step(self, epoch: int, iteration: int, batch) -> _Pending:
        """Do one micro-batch, and every ``update_freq``-th time one optimizer step."""
        seed_everything(self.seed, self.session.rank, (epoch - 1) * self.iterations + iteration)
        if len(batch.indices) == 0:
            raise RuntimeError(f"epoch {epoch}, batch {iteration}: not one of its images can be read: {batch.bad[0]}")
        lr = self.optimizer.get_lr()
        last_of_group = (iteration + 1) % self.accumulate == 0
        # Gradients travel once an optimizer step, not once a micro-batch.
        communication = nullcontext() if last_of_group or self.parallel is self.model else self.parallel.no_sync()
        with communication:
            with self.precision.autocast():
                output = self.parallel(batch.images)
            logits = logits_of(output)
            losses = self.loss({**output, "logits": logits} if isinstance(output, dict) else logits, batch.labels)
            total = losses["loss"] / self.accumulate
            (self.scaler.scale(total) if self.scaler else total).backward()
        if last_of_group:
            self._update()
        detached = {name: value.detach() for name, value in losses.items()}
        return _Pending(epoch, iteration, lr, detached, logits.detach(), batch)

    def _update(self) -> None:
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        if self.cfg.Global.log_grad_norm:
            self._grad_norm = _global_norm(self.model)
        done = self._scaled_step() if self.scaler else self._plain_step()
        self.optimizer.clear_grad()
        if not self.lr.by_epoch:
            self.lr.step()
        if self.ema and done:
            self.ema.update(self.master_weights())
        self.progress.step += 1

    def _plain_step(self) -> bool:
        self.optimizer.step()
        return True

    def _scaled_step(self) -> bool:
        """Step unless a gradient is not finite, adapt the loss scale, and return whether there was a step."""
        self.scaler.step(self.optimizer)
        skipped = bool(self.scaler._found_inf)  # Paddle offers no public way to ask
        self.scaler.update()
        if skipped:
            self.progress.skipped += 1
            if self._loss_scale() < MIN_LOSS_SCALE:
                raise NonFiniteGradientError(
                    f"the gradients of step {self.progress.step + 1} (epoch {self.progress.epoch + 1}) are not finite, "
                    f"and the loss scale has fallen to {self._loss_scale():.1e}: the run diverges. Lower the learning "
                    "rate, set Optimizer.clip_global_norm, or use AMP.dtype=bfloat16"
                )
        return not skipped

    def _loss_scale(self) -> float:
        return float(self.scaler.state_dict()["scale"][0])

    def master_weights(self) -> Optional[dict]:
        """Return the optimizer's float32 weights by global parameter name, or None where the model has its own."""
        return self.optimizer.state_dict().get("master_weights") if self.precision.casts_weights else None

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
        self.meter.add(losses, len(pending.batch.indices))
        if self.meter.metrics:
            try:
                self.meter.metrics.update(pending.logits, image_labels(pending.batch.labels))
            except InvalidLogitsError as error:
                raise self._non_finite(pending, str(error)) from error

    def _non_finite(self, pending: _Pending, what: str) -> NonFiniteLossError:
        files = [str(self.loader.dataset.image_path(int(index))) for index in pending.batch.indices]
        return NonFiniteLossError(
            f"{what} at epoch {pending.epoch}, iteration {pending.iteration} (learning rate {pending.lr:.3e}); nothing "
            f"of this step was saved, the checkpoints in {self.output_dir} are from before it. The batch on process "
            f"{self.session.rank}: {', '.join(files)}"
        )

    def _report_step(self, epoch: int, iteration: int, timer: StepTimer) -> None:
        figures = {f"lr({self.lr.kind})": self.optimizer.get_lr(), **self.meter.figures(self._all_sums())}
        if self._grad_norm is not None:
            figures["grad_norm"] = float(self._grad_norm)
        if self.scaler:
            figures["loss_scale"] = self._loss_scale()
        ips = self.loader.sampler.batch_size / max(timer.batch_cost, 1e-9)
        self.reporter.step(epoch, iteration, self.iterations, figures, timer, ips, self.progress.step)

    # After an epoch

    def _after_epoch(self) -> None:
        self.progress.epoch += 1
        self.progress.iteration = 0
        if self.lr.by_epoch:
            self.lr.step()
        epoch, settings = self.progress.epoch, self.cfg.Global
        due = epoch >= settings.start_eval_epoch and (epoch % settings.eval_interval == 0 or epoch == self.epochs)
        if self.evaluator and due:
            self._evaluate(epoch)
        if settings.save_interval > 0 and epoch % settings.save_interval == 0:
            self._save(f"epoch_{epoch}")
            if self.session.is_main:
                self.store.keep_last_epochs(settings.keep_last)
        self._save("latest")
        self._leave_if_asked()

    def _evaluate(self, epoch: int) -> None:
        result = self.evaluator.run(self.model, epoch)
        self.history[-1].update({f"eval_{name}": value for name, value in result.items()})
        self._keep_if_best(result, epoch, self.best, "best_model", "best metric")
        if self.ema:
            with self.ema.applied():
                averaged = self.evaluator.run(self.model, epoch)
            self.history[-1].update({f"eval_ema_{name}": value for name, value in averaged.items()})
            self._keep_if_best(averaged, epoch, self.best_ema, "best_model_ema", "best metric ema")

    def _keep_if_best(self, result: dict, epoch: int, best: Best, name: str, label: str) -> None:
        criterion = self.evaluator.criterion
        if criterion is None:
            return
        if result[criterion] > best.metric:  # a tie keeps the earlier one
            best.metric, best.epoch = result[criterion], epoch
            self._save(name)
        logger.info("[Eval][Epoch %d][%s: %s]", epoch, label, best.metric)
        tag = "eval_acc_ema" if best is self.best_ema else "eval_acc"
        self.reporter.scalars({tag: result[criterion]}, epoch)

    def _save(self, name: str) -> None:
        """Write a checkpoint on the main process; every process must call it."""
        sums = self._all_sums()
        if not self.session.is_main:
            return
        if name == "best_model_ema":
            # The averaged weights under the name that evaluation, export and prediction read.
            parts = {"pdparams": self.ema.state_dict(), "pdstates": run_state.states(self, sums)}
        else:
            parts = run_state.pack(self, sums)
        arguments = self.model.bound_arguments() if hasattr(self.model, "bound_arguments") else None
        self.store.save(name, parts, self.progress.step, arguments)

    def _leave_if_asked(self) -> None:
        """Save and leave if any process got a signal; all of them ask at the same step."""
        asked = self.session.sum(np.array([self._stop.signal_number is not None]))[0]
        if not asked or self.progress.epoch == self.epochs:
            return
        if self.progress.iteration:
            self._save("latest")
        logger.warning(
            "stopped by a signal after epoch %d, iteration %d; go on with -o Global.checkpoints=%s",
            self.progress.epoch,
            self.progress.iteration,
            self.output_dir / "latest",
        )
        raise SystemExit(self._stop.exit_code)

    # When to do what

    def _is_log_step(self, iteration: int) -> bool:
        return iteration % self.cfg.Global.print_batch_step == 0

    def _is_boundary(self, iteration: int) -> bool:
        """Whether an optimizer step has just ended, within the epoch: what a checkpoint can describe."""
        return (iteration + 1) % self.accumulate == 0 and iteration + 1 < self.iterations

    def _is_save_step(self, iteration: int) -> bool:
        interval = self.cfg.Global.save_interval_steps
        return interval > 0 and self._is_boundary(iteration) and self.progress.step % interval == 0

    def _is_stop_step(self, iteration: int) -> bool:
        """Whether to ask for signals now. Several processes must ask at the same step, and do so now and then."""
        if self.session.world_size == 1:
            return self._stop.signal_number is not None and self._is_boundary(iteration)
        return self._is_boundary(iteration) and self.progress.step % self.cfg.Global.print_batch_step == 0

    def _all_sums(self) -> np.ndarray:
        return self.session.sum(self.meter.state())

    def _scaled_optimizer_section(self) -> dict:
        """Return the ``Optimizer`` section, its learning rates scaled from ``Global.base_batch_size`` to this run's."""
        section, stated_for = self.cfg.section("Optimizer"), self.cfg.Global.base_batch_size
        if stated_for is None or stated_for == self.samples_per_step:
            return section
        factor = self.samples_per_step / stated_for
        scaled = scale_learning_rates(section["lr"], factor)
        logger.info(
            "learning rates x %g: %d images per optimizer step, the recipe's are stated for %d "
            "(Global.base_batch_size): %s",
            factor,
            self.samples_per_step,
            stated_for,
            describe_scaling(section["lr"], scaled),
        )
        return {**section, "lr": scaled}

    def _iterations_per_epoch(self) -> int:
        """Return the batches of an epoch: a whole number of optimizer steps."""
        batches = min(len(self.loader), self.cfg.Global.iter_per_epoch or len(self.loader))
        if batches < self.accumulate:
            raise ValueError(
                f"Global.update_freq is {self.accumulate}, but an epoch has only {batches} batches: "
                "not one optimizer step"
            )
        return batches // self.accumulate * self.accumulate


@paddle.no_grad()
def _global_norm(model: paddle.nn.Layer) -> paddle.Tensor:
    """Return the Euclidean norm of all gradients together, a float32 scalar."""
    squares = [p.grad.astype("float32").square().sum() for p in model.parameters() if p.grad is not None]
    return paddle.add_n(squares).sqrt()


def train(cfg) -> dict:
    """Train as the config says: what ``tools/train.py`` does.

    Returns:
        The summary of :meth:`Trainer.run`.
    """
    session = Session(cfg.Global.device)
    output_dir = Path(cfg.Global.output_dir)
    start_logging(session.is_main, output_dir / "train.log")
    log_config(cfg)
    if session.is_main:
        cfg.save(output_dir / "config.yaml")
    return Trainer(cfg, session).run()
