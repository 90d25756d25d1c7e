"""What is known of an image's shape before there is an image, so that a chain of operators can be checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional


@dataclass(frozen=True)
class ImageShape:
    """Channels and size of an image between two operators.

    ``width`` and ``height`` are None where they depend on the image. ``least`` is what neither of them is below then:
    the shorter side after a resize, 1 for a file.
    """

    channels: int = 3
    width: Optional[int] = None
    height: Optional[int] = None
    least: int = 1

    @property
    def is_known(self) -> bool:
        """Whether all images have the same size here."""
        return self.width is not None and self.height is not None

    def sized(self, width: int, height: int) -> ImageShape:
        """Return the shape of an image with this width and height."""
        return replace(self, width=width, height=height, least=min(width, height))

    def unsized(self, least: int = 1) -> ImageShape:
        """Return the shape of an image of unknown size whose sides are not below ``least``."""
        return replace(self, width=None, height=None, least=least)

    def __str__(self) -> str:
        if self.is_known:
            return f"{self.width}x{self.height} (width x height)"
        return f"of any size with a shorter side of {self.least}" if self.least > 1 else "of any size"
