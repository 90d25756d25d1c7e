"""Normalisation over the batch, with running statistics that are no parameters."""

from __future__ import annotations

from paddle import nn


class BatchNorm2D(nn.BatchNorm2D):
    """``nn.BatchNorm2D`` whose running mean and variance are buffers.

    Paddle lists them among the parameters, as frozen ones, where code that counts, decays or groups parameters would
    find them. The keys of ``state_dict()`` stay the same.
    """

    def __init__(self, num_features: int):
        super().__init__(num_features)
        for name in ("_mean", "_variance"):
            # Not by register_buffer, which takes no Parameter: SyncBatchNorm.convert_sync_batchnorm needs one.
            self._buffers[name] = self._parameters.pop(name)
