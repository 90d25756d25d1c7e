"""Mixed precision: autocast, master weights and loss scaling from the ``AMP`` section."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Optional

import paddle
from paddle.nn.layer.rnn import RNNBase

from ppcls_ext.arch.freezing import frozen_layers
from ppcls_ext.config import Config


@dataclass
class Precision:
    """What the ``AMP`` section asks for; the defaults are plain float32.

    Attributes:
        enabled: whether anything is cast at all.
        level: ``O1`` casts by operator, ``O2`` casts the weights and keeps float32 master weights in the optimizer.
        dtype: ``float16`` or ``bfloat16``.
        init_loss_scaling: first scale of the loss (float16 alone; bfloat16 has float32's range and needs none).
        dynamic_loss_scaling: whether the scale adapts.
        promote: under O2, compute in float32 where any input of an operator is float32.
        in_evaluation: whether evaluation casts too. Under O2 it must: the weights are not float32.
    """

    enabled: bool = False
    level: str = "O1"
    dtype: str = "float16"
    init_loss_scaling: float = 2.0**15
    dynamic_loss_scaling: bool = True
    promote: bool = True
    in_evaluation: bool = False

    @classmethod
    def from_config(cls, cfg: Config) -> Precision:
        """Read the ``AMP`` section; without one, or with ``use_amp: False``, everything is float32."""
        amp = cfg.AMP
        if amp is None or not amp.use_amp:
            return cls()
        return cls(
            enabled=True,
            level=amp.level,
            dtype=amp.dtype,
            init_loss_scaling=amp.scale_loss,
            dynamic_loss_scaling=amp.use_dynamic_loss_scaling,
            promote=amp.use_promote,
            in_evaluation=amp.use_fp16_test,
        )

    @property
    def casts_weights(self) -> bool:
        """Whether the model's weights are in half precision, with master weights in the optimizer."""
        return self.enabled and self.level == "O2"

    def autocast(self) -> AbstractContextManager:
        """Return the context of the forward pass in training."""
        if not self.enabled:
            return nullcontext()
        return paddle.amp.auto_cast(level=self.level, dtype=self.dtype, use_promote=self.promote)

    def for_evaluation(self) -> AbstractContextManager:
        """Return the context of the forward pass in evaluation."""
        return self.autocast() if self.in_evaluation or self.casts_weights else nullcontext()

    def decorate(self, model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> None:
        """Cast the weights (O2 alone) and let the optimizer keep master weights; both are changed in place.

        The weights of LSTMs and other RNNs stay float32, for which alone (and float64) Paddle has kernels; those of
        BatchNorm stay so by Paddle's rule, and of LayerNorm under float16. Frozen weights stay float32 too.

        ``save_dtype`` is left alone: it makes ``state_dict()`` return copies, and whatever writes into those, such as a
        moving average or a loader, writes into nothing.
        """
        if self.casts_weights:
            rnns = [layer for layer in model.sublayers(include_self=True) if isinstance(layer, RNNBase)]
            # A frozen weight has no master weight: rounded to half precision, it would not be the one that was loaded.
            paddle.amp.decorate(
                models=model,
                optimizers=optimizer,
                level="O2",
                dtype=self.dtype,
                master_weight=True,
                excluded_layers=[*rnns, *frozen_layers(model, partly=True)],
            )

    def scaler(self) -> Optional[paddle.amp.GradScaler]:
        """Return the loss scaler, or None where no scaling is needed."""
        if not self.enabled or self.dtype != "float16":
            return None
        return paddle.amp.GradScaler(
            init_loss_scaling=self.init_loss_scaling, use_dynamic_loss_scaling=self.dynamic_loss_scaling
        )
