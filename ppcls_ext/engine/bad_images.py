"""Counting the images that training skips because they cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Iterable

logger = logging.getLogger("ppcls_ext")


class TooManyBadImagesError(RuntimeError):
    """More images than the config allows cannot be read."""


class BadImageCounter:
    """Counts distinct unreadable images, one log line each, and stops the run above a limit.

    Args:
        ratio: share of the data set that may be unreadable; unless it is 0, one image always may be.
        total: number of images in the data set.
    """

    def __init__(self, ratio: float, total: int):
        self.limit = max(1, int(ratio * total)) if ratio > 0 else 0
        self._reasons: dict[str, str] = {}

    def add(self, bad: Iterable) -> None:
        """Count the unreadable images of a batch.

        Raises:
            TooManyBadImagesError: above the limit.
        """
        for image in bad:
            path = str(image.path)
            if path in self._reasons:
                continue
            self._reasons[path] = str(image.reason)
            logger.warning("skipped an unreadable image (%d so far): %s: %s", len(self._reasons), path, image.reason)
        if len(self._reasons) > self.limit:
            shown = "\n  ".join(f"{path}: {reason}" for path, reason in list(self._reasons.items())[-5:])
            raise TooManyBadImagesError(
                f"{len(self._reasons)} images cannot be read, Global.max_bad_image_ratio allows {self.limit}; "
                f"the last ones:\n  {shown}"
            )

    def summarise(self) -> None:
        """Log the count at the end of a run, unless it is 0."""
        if self._reasons:
            logger.warning("%d unreadable images were skipped, listed above", len(self._reasons))

    def state(self) -> dict[str, str]:
        """Return path and reason of each unreadable image, for the checkpoint."""
        return dict(self._reasons)

    def load_state(self, state: dict[str, str]) -> None:
        """Restore what :meth:`state` returned."""
        self._reasons = dict(state)
