"""How much one client may ask of the service, and how much all of them together."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Optional, Sequence

from PIL import Image

from ppcls_ext.data.errors import DecodeError
from ppcls_ext.data.preprocess.image_header import (
    JPEG,
    MAX_PIXELS_VARIABLE,
    PNG,
    check_pixels,
    jpeg_size,
    max_pixels,
    open_with_pillow,
    png_size,
)
from ppcls_ext.engine.deploy.serving.errors import RequestError

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Limits of one process.

    Attributes:
        image_bytes: of an image file.
        request_bytes: of the body of a request.
        images: in a request.
        pixels: of an image, by its header.
        requests: in progress at once; at most ``requests * request_bytes`` bytes of bodies are kept.
        queue: images that wait for the model.
        body_seconds: from the header of a request to the end of its body.
    """

    image_bytes: int = 10 * MEBIBYTE
    request_bytes: int = 32 * MEBIBYTE
    images: int = 32
    pixels: int = 0  # 0: as many as the decoder takes
    requests: int = 64
    queue: int = 256
    body_seconds: float = 30

    def __post_init__(self):
        if not self.pixels:
            object.__setattr__(self, "pixels", max_pixels())
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"the limit {field.name} is {getattr(self, field.name)}; expected more than 0")
        if self.pixels > max_pixels():
            raise ValueError(
                f"the limit of {self.pixels:,} pixels is above that of the decoder, {max_pixels():,}; the environment "
                f"variable {MAX_PIXELS_VARIABLE} sets that one"
            )
        if self.image_bytes > self.request_bytes:
            raise ValueError(
                f"the limit of {self.image_bytes:,} bytes an image is above that of a request, {self.request_bytes:,}"
            )
        if self.images > self.queue:
            raise ValueError(
                f"the limit of {self.images:,} images a request is above that of the queue, {self.queue:,}"
            )

    def check_images(self, names: Sequence[str], sizes: Sequence[int]) -> None:
        """Check the images of a request.

        Args:
            names: of the images.
            sizes: in bytes.

        Raises:
            RequestError: 400 or 413.
        """
        if not sizes:
            raise RequestError(400, "no_images", "the request holds no image")
        if len(sizes) > self.images:
            raise too_many_images(self.images)
        for name, size in zip(names, sizes):
            if size > self.image_bytes:
                raise RequestError(
                    413, "image_too_large", f"{name} has {size:,} bytes; an image may have {self.image_bytes:,}"
                )

    def pixel_problem(self, data: bytes) -> Optional[str]:
        """Return what is wrong with the size in the header of an image, if anything; damage is not looked for."""
        try:
            if data.startswith((JPEG, PNG)):
                size = jpeg_size(data) if data.startswith(JPEG) else png_size(data)
                if size is not None:
                    check_pixels(*size, self.pixels)
            else:
                open_with_pillow(data, self.pixels).close()
        except DecodeError as error:
            return str(error).partition(";")[0]  # the rest is advice for whoever runs the service
        except Image.DecompressionBombError:
            return f"the pixels are more than {self.pixels:,}"
        except Exception:  # noqa: BLE001 - Pillow's readers let out whatever a damaged header leads to
            return None  # decoding will tell
        return None


def too_many_images(most: int) -> RequestError:
    """Return the error of a request with more images than ``most``."""
    return RequestError(413, "too_many_images", f"the request holds more than {most} images; send them in several")
