"""What datasets and loaders return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional

import numpy as np

from ppcls_ext.data.text_files import printable

if TYPE_CHECKING:
    import paddle

    from ppcls_ext.data.token_label import TokenScores


@dataclass(frozen=True)
class Sample:
    """One image ``[channels, height, width]``, its label and its place in the list.

    The image is float32 and ready for the model, or uint8 where normalisation is left to the batch or the device.
    ``tokens`` are a teacher's scores, where the dataset has token labels.
    """

    image: np.ndarray
    label: int
    index: int
    tokens: Optional[TokenScores] = None


@dataclass(frozen=True)
class BadImage:
    """One file that could not be read as an image, and why."""

    index: int
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{printable(self.path)} (sample {self.index}): {self.reason}"


@dataclass
class Batch:
    """One batch on the device.

    ``images`` is float32 ``[n, channels, height, width]``, ``labels`` int64 ``[n]`` (with batch operators float32
    ``[n, class_num]``, with token labels ``[n, 1 + tokens, class_num]``), ``indices`` int64 ``[n]`` on the host.
    ``bad`` lists the files of this batch that were left out, so n may be less than the batch size, and 0 when not one
    of them could be read.
    """

    images: paddle.Tensor
    labels: paddle.Tensor
    indices: np.ndarray
    bad: list[BadImage] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.indices)
