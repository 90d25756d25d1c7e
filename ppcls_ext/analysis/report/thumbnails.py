"""Small pictures of the images that a report shows."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from PIL import Image

from ppcls_ext.utils.files import open_regular

#: Pixels of the longer side.
SIZE = 128


@dataclass(frozen=True)
class Thumbnail:
    """A small picture, or why there is none.

    Attributes:
        image: in RGB, at most ``SIZE`` pixels on a side; None where the file cannot be shown.
        reason: why it cannot; empty where it can.
    """

    image: Optional[Image.Image]
    reason: str = ""

    def png(self) -> bytes:
        """Return the picture as a PNG file.

        Raises:
            ValueError: if there is none.
        """
        if self.image is None:
            raise ValueError(self.reason)
        stream = io.BytesIO()
        self.image.save(stream, "PNG", optimize=True)
        return stream.getvalue()


class Thumbnails:
    """Makes small pictures; each file is read once.

    Args:
        image_root: folder that relative names start from; None takes the working directory.

    Attributes:
        failures: reason by file, of those that cannot be shown.

    Raises:
        NotADirectoryError: if ``image_root`` is no folder.
    """

    def __init__(self, image_root: Union[str, Path, None] = None):
        if image_root is not None and not os.path.isdir(image_root):
            raise NotADirectoryError(f"the folder of the images is not there: {image_root}")
        self._root = image_root
        self._made: dict[str, Thumbnail] = {}

    @property
    def failures(self) -> dict[str, str]:
        """The files that cannot be shown, each with the reason."""
        return {file: made.reason for file, made in self._made.items() if made.image is None}

    def of(self, file: str) -> Thumbnail:
        """Return the small picture of a file."""
        if file not in self._made:
            self._made[file] = self._make(file)
        return self._made[file]

    def _make(self, file: str) -> Thumbnail:
        path = file if self._root is None else os.path.join(self._root, file)
        try:
            with open_regular(path) as stream, Image.open(stream) as image:
                image.draft("RGB", (SIZE, SIZE))  # a JPEG file need not be decoded in full
                small = image.convert("RGB")
                small.thumbnail((SIZE, SIZE))
                return Thumbnail(small)
        except FileNotFoundError:
            return Thumbnail(None, "there is no such file")
        except OSError as error:
            return Thumbnail(None, error.strerror or str(error).partition("\n")[0])
        except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return Thumbnail(None, str(error).partition("\n")[0])
