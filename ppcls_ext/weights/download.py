"""Downloading one file: from a mirror if one is named, resumed where the connection broke, and checked at the end."""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path
from typing import Optional

import requests
from tqdm import tqdm

from ppcls_ext.utils.files import sha256_of

logger = logging.getLogger("ppcls_ext")

#: Environment variable that names a mirror, see :func:`mirrored`.
MIRROR = "PPCLS_EXT_MIRROR"
ATTEMPTS = 5  # without a new byte; a slow connection may break more often than that
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 1 << 16  # bytes; those of an unfinished one are lost when the connection breaks
#: Answers of a server that may be different the next time. Everything else, such as 404, is final.
PASSING = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(OSError):
    """The file could not be fetched, or is not the one that was published."""


def download(url: str, path: Path, sha256: Optional[str] = None) -> None:
    """Fetch ``url``, or its copy on the mirror, into ``path``, which appears only when it is whole.

    Until then the bytes are in ``<path>.partial``; a later call, also in a different process, goes on from there.

    Args:
        url: of the file itself.
        path: where it goes; its folder is made.
        sha256: the published hash, whole or the first digits of it.

    Raises:
        DownloadError: naming the address, if the server refuses, the connection keeps breaking, or the hash differs.
    """
    original, url = url, mirrored(url)
    if url != original:
        logger.info("%s is fetched from the mirror in %s: %s", original, MIRROR, url)
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    breaks = 0
    while True:
        size = _size(partial)
        try:
            _fetch(url, partial)
            break
        except requests.HTTPError as error:
            if error.response is None:
                raise DownloadError(f"{url}: {error}") from None
            code = error.response.status_code
            if code not in PASSING:
                raise DownloadError(f"{url}: the server answers {code} {error.response.reason}") from None
            reason = f"the server answers {code}"
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            reason = f"the connection broke ({_innermost(error)})"
        except requests.RequestException as error:
            raise DownloadError(f"{url}: {error}") from None
        breaks = 1 if _size(partial) > size else breaks + 1
        if breaks == ATTEMPTS:
            kept = f"; {_size(partial):,} bytes are kept, the next attempt goes on from there" if _size(partial) else ""
            raise DownloadError(f"{url}: {reason}, {ATTEMPTS} times in a row{kept}")
        logger.warning("%s: %s; going on from byte %s", url, reason, f"{_size(partial):,}")
        time.sleep(min(0.25 * 2**breaks, 8))
    try:
        check_sha256(partial, sha256)
    except DownloadError as error:
        partial.unlink()
        raise DownloadError(f"{url}: {error}; it was thrown away") from None
    partial.replace(path)


def mirrored(url: str) -> str:
    """Return the address to fetch ``url`` from, as the environment variable ``PPCLS_EXT_MIRROR`` says.

    An address alone, ``https://mirror.example/files``, stands for every server: ``https://host/path`` becomes
    ``https://mirror.example/files/host/path``. Pairs ``<beginning>=<replacement>``, separated by spaces, replace the
    beginning of the addresses that have it, the longest one first; other addresses stay.

    Raises:
        DownloadError: if the variable holds anything else.
    """
    setting = os.environ.get(MIRROR, "").strip()
    rules = []
    for item in setting.split():
        match = re.fullmatch(r"(?:(https?://[^=\s]+)=)?(https?://[^/=\s]+(?:/\S*)?)", item)
        if match is None:
            raise DownloadError(
                f"{MIRROR} holds {item!r}; expected https://<mirror>, or pairs https://<server>=https://<mirror>"
            )
        rules.append((match[1], match[2]))
    for beginning, replacement in sorted(rules, key=lambda rule: len(rule[0] or ""), reverse=True):
        if beginning is None:
            return f"{replacement.rstrip('/')}/{url.partition('://')[2]}"
        if url.startswith(beginning):
            return replacement + url[len(beginning) :]
    return url


def check_sha256(path: Path, published: Optional[str]) -> None:
    """Compare a file with its published hash, whole or the first digits of it; None: there is none.

    Raises:
        DownloadError: if they differ.
    """
    if published is None:
        return
    found = sha256_of(path)
    if not found.startswith(published.lower()):
        raise DownloadError(f"{path.name} has the SHA-256 {found}, published is {published}")


def _fetch(url: str, partial: Path) -> None:
    """Append to ``partial`` what it lacks of ``url``.

    Raises:
        requests.RequestException: if it still lacks something afterwards.
    """
    have = _size(partial)
    headers = {"Accept-Encoding": "identity"}  # so that lengths are those of the file
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416 and response.headers.get("Content-Range") == f"bytes */{have}":
            return  # a former attempt got everything
        if response.status_code == 416:  # the file was longer once, or the server is confused: begin again
            partial.unlink()
            raise requests.ConnectionError("the server does not know the rest of this file")
        response.raise_for_status()
        if response.status_code != 206:  # the server sends the whole file, asked or not
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with partial.open("ab" if have else "wb") as file, _bar(url, have, total) as bar:
            for block in response.iter_content(BLOCK):
                file.write(block)
                bar.update(len(block))
    if total is not None and _size(partial) != total:
        raise requests.ConnectionError(f"{_size(partial):,} of {total:,} bytes came")


def _bar(url: str, have: int, total: Optional[int]) -> tqdm:
    name = url.rpartition("/")[2]
    return tqdm(desc=name, initial=have, total=total, unit="B", unit_scale=True, unit_divisor=1024, disable=None)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _innermost(error: BaseException) -> str:
    """Return the system's own words, which requests and urllib3 wrap several times over."""
    while True:
        inner = error.__cause__ or error.__context__
        if inner is None:
            return str(error) or type(error).__name__
        error = inner
