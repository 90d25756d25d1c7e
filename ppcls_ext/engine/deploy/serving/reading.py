"""From the body of a request to images: files of a form, or base64 in JSON."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Optional, Union

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ppcls_ext.engine.deploy.serving.errors import RequestError
from ppcls_ext.engine.deploy.serving.limits import Limits, too_many_images
from ppcls_ext.utils.spelling import nearest

IMAGES, TOPK = "images", "topk"
FORM, JSON = "multipart/form-data", "application/json"
_SHOWN = 40  # characters of a client's text in messages


@dataclass(frozen=True)
class Upload:
    """An image file as it arrived."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Unreadable:
    """What stands for an image that never became bytes."""

    name: str
    reason: str


@dataclass(frozen=True)
class Asked:
    """A request to classify.

    Attributes:
        images: in order.
        topk: classes a result; None means the usual number.
    """

    images: list[Union[Upload, Unreadable]]
    topk: Optional[int]


async def read(request: Request, limits: Limits, most_classes: int) -> Asked:
    """Read the body of a request.

    Args:
        request: whose body has not been read.
        limits: of bytes and images.
        most_classes: the largest ``topk``.

    Raises:
        RequestError: 400, 413 or 415.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == FORM:
        return await _read_form(request, limits, most_classes)
    if kind == JSON:
        body = await request.body()
        return await run_in_threadpool(_read_json, body, limits, most_classes)
    given = f"{kind[:_SHOWN]!r}" if kind else "no Content-Type"
    raise RequestError(415, "unknown_content_type", f"expected {FORM} or {JSON}, got {given}")


async def _read_form(request: Request, limits: Limits, most_classes: int) -> Asked:
    try:
        form = await request.form(max_files=limits.images, max_fields=1)
    except HTTPException as error:
        if str(error.detail).startswith("Too many files"):
            raise too_many_images(limits.images) from None
        raise RequestError(400, "bad_form", f"the form cannot be read: {error.detail}") from None
    try:
        _check_keys(form.keys(), "field")
        files = []
        for file in form.getlist(IMAGES):
            if not isinstance(file, UploadFile):
                advice = f"expected a file, as `curl -F {IMAGES}=@photo.jpg` sends it"
                raise RequestError(400, "bad_form", f"the field {IMAGES} holds text; {advice}")
            files.append(file)
        names = [file.filename or f"image {number}" for number, file in enumerate(files)]
        limits.check_images(names, [file.size or 0 for file in files])
        topk = form.get(TOPK)
        if topk is not None and not isinstance(topk, str):
            raise RequestError(400, "bad_topk", f"{TOPK} is a file; expected a number")
        number = int(topk) if topk and topk.isascii() and topk.isdigit() and len(topk) < 10 else topk
        checked = _check_topk(number, most_classes)
        return Asked([Upload(name, await file.read()) for name, file in zip(names, files)], checked)
    finally:
        await form.close()


def _read_json(body: bytes, limits: Limits, most_classes: int) -> Asked:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RequestError(400, "bad_json", f"the body is not JSON: {reason}") from None
    if not isinstance(content, dict):
        raise RequestError(400, "bad_json", f'expected an object with "{IMAGES}", got a {_kind(content)}')
    _check_keys(content, "key")
    items = content.get(IMAGES)
    if items is None:
        items = []
    if not isinstance(items, list):
        raise RequestError(400, "bad_json", f"{IMAGES} is a {_kind(items)}; expected a list")
    if len(items) > limits.images:
        raise too_many_images(limits.images)
    images = [_decoded(number, item) for number, item in enumerate(items)]
    sizes = [len(image.data) if isinstance(image, Upload) else 0 for image in images]
    limits.check_images([image.name for image in images], sizes)
    return Asked(images, _check_topk(content.get(TOPK), most_classes))


def _decoded(number: int, item: Any) -> Union[Upload, Unreadable]:
    """Return an image of the list; what is no base64 is that image's fault alone."""
    name, data = f"image {number}", item
    if isinstance(item, dict):
        _check_keys(item, f"key of {IMAGES}[{number}]", known=("name", "data"))
        name, data = item.get("name", name), item.get("data")
        if not isinstance(name, str):
            raise RequestError(400, "bad_json", f"{IMAGES}[{number}].name is a {_kind(name)}; expected a string")
        # JSON may hold halves of surrogate pairs, which are no text in the answer's encoding.
        name = name.encode("utf-8", "backslashreplace").decode()
    if not isinstance(data, str):
        place = f"{IMAGES}[{number}]" + (".data" if isinstance(item, dict) else "")
        raise RequestError(400, "bad_json", f"{place} is a {_kind(data)}; expected a string, a file in base64")
    if data.startswith("data:"):
        return Unreadable(name, "a data URL; send only what follows the comma")
    try:
        return Upload(name, base64.b64decode("".join(data.split()), validate=True))
    except (binascii.Error, ValueError) as error:
        return Unreadable(name, f"no base64: {error}")


def _check_keys(keys, what: str, known: tuple = (IMAGES, TOPK)) -> None:
    for key in keys:
        if key not in known:
            hint = nearest(key, known, 1) or known
            raise RequestError(
                400, "unknown_key", f"unknown {what} {key[:_SHOWN]!r}; did you mean {' or '.join(hint)}?"
            )


def _check_topk(topk: Any, most: int) -> Optional[int]:
    if topk is None:
        return None
    if isinstance(topk, bool) or not isinstance(topk, int) or not 1 <= topk <= most:
        raise RequestError(
            400, "bad_topk", f"{TOPK} is {str(topk)[:_SHOWN]!r}; expected a whole number from 1 to {most}"
        )
    return topk


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
