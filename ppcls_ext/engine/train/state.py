"""What a training run changes from step to step, and how it travels through a checkpoint.

``pdparams``: the weights in float32. ``pdopt``: optimizer and schedule. ``pdema``: the moving average.
``pdswa``: the mean of stochastic weight averaging. ``pdstates``:
position, best figures, loss scaler, running sums and unreadable images. Random states are not part of it: they follow
from the seed and the position (:func:`ppcls_ext.engine.seed.seed_everything`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import paddle

from ppcls_ext.engine.bad_images import BadImageCounter
from ppcls_ext.engine.precision import Precision
from ppcls_ext.engine.train.ema import ModelEMA
from ppcls_ext.engine.train.errors import NonFiniteGradientError
from ppcls_ext.engine.train.meters import EpochMeter
from ppcls_ext.engine.train.optimizer_state import from_disk, named_accumulators, to_disk
from ppcls_ext.engine.train.selection import Best, EarlyStopping
from ppcls_ext.engine.train.swa import ModelSWA
from ppcls_ext.utils.state_dict import non_finite_names, state_arrays, unique_tensors
from ppcls_ext.weights.loading import load_state

#: The smallest loss scale of float16. Below it the gradients are beyond float32's own range, and no step will come.
MIN_LOSS_SCALE = 1e-4


@dataclass
class Progress:
    """Where the run is. ``epoch`` counts finished epochs, ``iteration`` the batches done of the next one."""

    epoch: int = 0
    iteration: int = 0
    step: int = 0  # optimizer steps since the start of the run, skipped ones included
    skipped: int = 0  # those that the loss scaler skipped, since a gradient was not finite


@dataclass
class TrainState:
    """Everything that training changes.

    Attributes:
        model: the bare model, not its DataParallel wrapper.
        optimizer: its optimizer.
        schedule: the learning-rate schedule; ``by_epoch`` tells whether it counts epochs or optimizer steps.
        precision: the AMP settings by which model and optimizer are decorated.
        meter: running sums of the epoch, of this process.
        bad_images: unreadable images so far.
        scaler: the loss scaler of float16, or None.
        ema: the moving average of the weights, or None.
        swa: the mean of the weights after the last epochs, or None.
        progress: the position.
        best: the best figure of the weights.
        best_ema: the best figure of the averaged weights.
        early_stopping: what counts evaluations without an improvement, or None.
    """

    model: paddle.nn.Layer
    optimizer: paddle.optimizer.Optimizer
    schedule: paddle.optimizer.lr.LRScheduler
    precision: Precision
    meter: EpochMeter
    bad_images: BadImageCounter
    scaler: Optional[paddle.amp.GradScaler] = None
    ema: Optional[ModelEMA] = None
    swa: Optional[ModelSWA] = None
    progress: Progress = field(default_factory=Progress)
    best: Best = field(default_factory=Best)
    best_ema: Best = field(default_factory=Best)
    early_stopping: Optional[EarlyStopping] = None

    def backward(self, loss: paddle.Tensor) -> None:
        """Compute the gradients of a loss, scaled if there is a scaler."""
        (self.scaler.scale(loss) if self.scaler else loss).backward()

    def unscale(self) -> None:
        """Bring the gradients back to their own size, before anything measures or clips them."""
        if self.scaler:
            self.scaler.unscale_(self.optimizer)

    @paddle.no_grad()
    def gradient_norm(self) -> paddle.Tensor:
        """Return the Euclidean norm of all gradients together, a float32 scalar."""
        squares = [p.grad.astype("float32").square().sum() for p in self.model.parameters() if p.grad is not None]
        return paddle.add_n(squares).sqrt()

    def step(self) -> None:
        """Take an optimizer step with the unscaled gradients; schedule and average follow.

        Raises:
            NonFiniteGradientError: if no loss scale makes the gradients finite.
        """
        done = self._scaled_step(self.scaler) if self.scaler else self._plain_step()
        self.optimizer.clear_grad()
        if not self.schedule.by_epoch:
            self.schedule.step()
        if self.ema and done:
            self.ema.update(self.master_weights())
        self.progress.step += 1

    def _plain_step(self) -> bool:
        self.optimizer.step()
        return True

    def _scaled_step(self, scaler: paddle.amp.GradScaler) -> bool:
        """Step unless a gradient is not finite, adapt the loss scale, and return whether there was a step."""
        scaler.step(self.optimizer)
        skipped = bool(scaler._found_inf)  # Paddle offers no public way to ask
        scaler.update()
        if skipped:
            self.progress.skipped += 1
            if self.loss_scale() < MIN_LOSS_SCALE:
                raise NonFiniteGradientError(
                    f"the gradients of step {self.progress.step + 1} (epoch {self.progress.epoch + 1}) are not finite, "
                    f"and the loss scale has fallen to {self.loss_scale():.1e}: the run diverges. Lower the learning "
                    "rate, set Optimizer.clip_global_norm, or use AMP.dtype=bfloat16"
                )
        return not skipped

    def state_dict(self, sums: np.ndarray) -> dict[str, Any]:
        """Return the parts of a checkpoint, by suffix; ``pdema`` and ``pdswa`` are there with an average only.

        Args:
            sums: the meter's state, added up over all processes.
        """
        parts = {
            "pdparams": self.float32_weights(),
            "pdopt": to_disk(self.optimizer, self.model),
            "pdstates": self.states(sums),
        }
        if self.ema:
            parts["pdema"] = self.ema.state_dict()
        if self.swa:
            parts["pdswa"] = self.swa.state_dict()
        return parts

    def states(self, sums: np.ndarray) -> dict[str, Any]:
        """Return the part called ``pdstates``; ``metric`` and ``epoch`` are what PaddleClas's holds."""
        return {
            "metric": self.best.metric,
            "epoch": self.progress.epoch,
            "best_epoch": self.best.epoch,
            "metric_ema": self.best_ema.metric,
            "best_epoch_ema": self.best_ema.epoch,
            "iteration": self.progress.iteration,
            "step": self.progress.step,
            "skipped_steps": self.progress.skipped,
            "meter": sums,
            "bad_images": self.bad_images.state(),
            "ema_updates": self.ema.updates if self.ema else 0,
            "swa_updates": self.swa.updates if self.swa else 0,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "early_stopping": self.early_stopping.state() if self.early_stopping else None,
        }

    def set_state_dict(self, parts: dict[str, Any], is_main: bool = True) -> None:
        """Restore what :meth:`state_dict` returned; the schedule is placed by :meth:`place_schedule`.

        Args:
            parts: with the ``pdstates`` that :func:`ppcls_ext.engine.train.resume.checked_states` has let pass.
            is_main: whether this process carries on the sums, which are those of all processes.

        Raises:
            ValueError: if a part does not fit the model or is damaged.
        """
        found = parts["pdstates"]
        report = load_state(self.model, parts["pdparams"])
        if report.problems():
            raise ValueError("the weights do not fit the model:\n  " + "\n  ".join(report.problems()))
        from_disk(parts["pdopt"], self.optimizer, self.model)
        if self.ema:
            if "pdema" not in parts:
                raise ValueError("the config has an EMA section, but there is no .pdema")
            self.ema.load_state_dict(parts["pdema"], found["ema_updates"])
        if self.swa and "pdswa" in parts:
            self.swa.load_state_dict(parts["pdswa"], found["swa_updates"])
        elif self.swa and found["epoch"] >= self.swa.start_epoch:
            raise ValueError("the config has an SWA section, but there is no .pdswa")
        if self.scaler and found["scaler"]:
            self.scaler.load_state_dict(found["scaler"])
        self.progress = Progress(found["epoch"], found["iteration"], found["step"], found["skipped_steps"])
        self.best = Best(found["metric"], found["best_epoch"])
        self.best_ema = Best(found["metric_ema"], found["best_epoch_ema"])
        if self.early_stopping:
            self.early_stopping.load_state(found["early_stopping"])
        self.bad_images.load_state(found["bad_images"])
        sums = np.asarray(found["meter"])
        if len(self.meter.state()) == len(sums):
            self.meter.load_state(sums if is_main else 0 * sums)

    def place_schedule(self, iterations: int, accumulate: int) -> None:
        """Put the schedule where the run is, in steps of this run, whose number depends on the number of processes.

        The rate follows from the config and that place, not from the rate that was saved.
        """
        steps = (self.progress.epoch * iterations + self.progress.iteration) // accumulate
        self.schedule.step(self.progress.epoch if self.schedule.by_epoch else steps)

    def float32_weights(self) -> dict[str, np.ndarray]:
        """Return the model's state; under AMP O2 the optimizer's master weights stand for the half-precision ones."""
        arrays = state_arrays(self.model)
        master = self.master_weights() or {}
        for name, parameter in self.model.named_parameters():
            if parameter.name in master:
                arrays[name] = master[parameter.name].numpy()
        return arrays

    def master_weights(self) -> Optional[dict]:
        """Return the optimizer's float32 weights by global parameter name, or None where the model has its own."""
        return self.optimizer.state_dict().get("master_weights") if self.precision.casts_weights else None

    def loss_scale(self) -> float:
        """Return the scaler's factor, 1 without one."""
        return 1.0 if self.scaler is None else float(self.scaler.state_dict()["scale"][0])

    def non_finite(self) -> list[str]:
        """Return the names of the tensors that hold NaN or infinity, of ``tensor_count()`` in all."""
        return non_finite_names(self._tensors())

    def tensor_count(self) -> int:
        """Return how many tensors :meth:`non_finite` looks at."""
        return len(self._tensors())

    def _tensors(self) -> dict[str, paddle.Tensor]:
        """Return parameters, buffers, optimizer state and averages, under names that a reader understands."""
        tensors = {name: tensor for name, (tensor, _) in unique_tensors(self.model).items()}
        tensors.update({f"optimizer {name}": t for name, t in named_accumulators(self.optimizer, self.model).items()})
        for label, average in (("EMA", self.ema), ("SWA", self.swa)):
            if average:
                tensors.update({f"{label} {name}": tensor for name, tensor in average.tensors().items()})
        return tensors
