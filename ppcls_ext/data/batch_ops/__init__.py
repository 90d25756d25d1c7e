"""Operators on whole batches, which mix images and labels (``batch_transform_ops``)."""

from ppcls_ext.data.batch_ops.cutmix import CutmixOperator
from ppcls_ext.data.batch_ops.hybrid import MixupCutmixHybrid
from ppcls_ext.data.batch_ops.mix_token import MixToken
from ppcls_ext.data.batch_ops.mixup import MixupOperator
from ppcls_ext.data.batch_ops.op_sampler import OpSampler
from ppcls_ext.data.batch_ops.pipeline import (
    BATCH_OPERATORS,
    BatchTransforms,
    build_batch_transforms,
    check_batch_transform_ops,
    check_token_grid,
)

__all__ = [
    "BATCH_OPERATORS",
    "BatchTransforms",
    "CutmixOperator",
    "MixToken",
    "MixupCutmixHybrid",
    "MixupOperator",
    "OpSampler",
    "build_batch_transforms",
    "check_batch_transform_ops",
    "check_token_grid",
]
