"""``pretrained=True``: from the name of a backbone to its published weights, downloaded and converted once.

Everything lies in one folder, ``$PPCLS_EXT_HOME/weights`` (by default ``~/.cache/ppcls_ext/weights``), which may be
copied to a machine without a network::

    <Name>/<published file>                          only until it is converted
    <Name>/<published file>.<source>.pdparams        the converted weights
    <Name>/<published file>.<source>.pdparams.json   their record: origin, SHA-256, licence, versions

With ``PPCLS_EXT_OFFLINE=1`` nothing is downloaded; a published file that was put into the folder by hand is converted.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Sequence
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout

from ppcls_ext.registry import Weights
from ppcls_ext.weights.conversion import convert_file
from ppcls_ext.weights.conversion_record import record_path
from ppcls_ext.weights.download import DownloadError, check_sha256, download
from ppcls_ext.weights.errors import NoPublishedWeightsError, WeightPlanError

logger = logging.getLogger("ppcls_ext")

HOME = "PPCLS_EXT_HOME"
OFFLINE = "PPCLS_EXT_OFFLINE"


def weights_folder() -> Path:
    """Return the folder that holds downloaded weights."""
    home = os.environ.get(HOME)
    if home:
        return Path(home).expanduser() / "weights"
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "ppcls_ext" / "weights"


def is_offline() -> bool:
    """Return whether the environment forbids downloads."""
    return os.environ.get(OFFLINE, "").strip().lower() not in ("", "0", "false", "no", "off")


def choose(name: str, weights: Sequence[Weights], source: Optional[str] = None, ssld: bool = False) -> Weights:
    """Return the one of ``weights`` that ``pretrained=True`` means: the first with a direct link.

    Args:
        name: the backbone's name in the registry.
        weights: what is published of it.
        source: take the first of this source.
        ssld: take PaddleClas's weights distilled by SSLD, which otherwise do not count.

    Raises:
        NoPublishedWeightsError: if there are none; where a person can download some, with the command that converts
            them.
        WeightPlanError: with the sources that there are, if there are none of ``source``.
    """
    of_kind = [item for item in weights if item.ssld == ssld]
    direct = [item for item in of_kind if not item.manual]
    if direct and source is not None:
        sources = list(dict.fromkeys(item.source for item in direct))
        if source not in sources:
            message = f"pretrained_source={source!r}: the weights of {name} have {', '.join(sources)}"
            raise WeightPlanError([("pretrained_source", message)])
        return direct[[item.source for item in direct].index(source)]
    if direct:
        return direct[0]
    if not of_kind:
        raise NoPublishedWeightsError(
            f"pretrained=True: no weights of {name} are published; give pretrained=<path of a .pdparams file>"
        )
    lines = [f"  {item.url} (source {item.source}; licence: {item.licence})" for item in of_kind]
    raise NoPublishedWeightsError(
        f"pretrained=True: the weights of {name} are published on pages without a direct link:\n"
        + "\n".join(lines)
        + "\nDownload one in a browser, convert it:\n"
        f"  ppcls_ext convert --arch {name} --src <downloaded file> --dst {name}.pdparams\n"
        f"and give pretrained={name}.pdparams"
    )


def pretrained_path(name: str, weights: Sequence[Weights], source: Optional[str] = None) -> Path:
    """Return the published weights of ``name`` as a converted ``.pdparams`` file, fetched if need be.

    Args:
        name: the backbone's name in the registry.
        weights: what is published of it.
        source: which of several, see :func:`choose`.

    Raises:
        WeightPlanError: see :func:`choose`.
        DownloadError: see :func:`fetch`.
    """
    return fetch(name, choose(name, weights, source))


def fetch(name: str, item: Weights) -> Path:
    """Return ``item`` as a converted ``.pdparams`` file; the first call downloads and converts it.

    Several processes may call this at once: one works, the others wait for it.

    Raises:
        DownloadError: if there is no network, or none is wanted; the message says where to put the file by hand.
    """
    folder = weights_folder() / name
    downloaded = folder / unquote(Path(urlsplit(item.url).path).name)
    target = converted_path(name, item)
    if not _is_ready(target):
        folder.mkdir(parents=True, exist_ok=True)
        with _one_process(folder / ".lock", name):
            if not _is_ready(target):
                _fetch_and_convert(name, item, downloaded, target)
    logger.info("the weights of %s are from %s", name, item.url)
    return target


def fetch_paddleclas(name: str, url: Optional[str]) -> Path:
    """Return PaddleClas's published weights of its own backbone, a file of Paddle that needs no conversion.

    Raises:
        NoPublishedWeightsError: if there is no address.
        DownloadError: see :func:`fetch`.
    """
    if url is None:
        raise NoPublishedWeightsError(
            f"pretrained=True: PaddleClas publishes no weights of its {name}; give pretrained=<path of a .pdparams "
            "file>"
        )
    folder = weights_folder() / f"paddleclas.{name}"
    path = folder / unquote(Path(urlsplit(url).path).name)
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with _one_process(folder / ".lock", name):
            if not path.is_file():
                _download(url, path, None)
    logger.info("the weights of PaddleClas's %s are from %s", name, url)
    return path


def converted_path(name: str, item: Weights) -> Path:
    """Return the path of the converted file of ``item``, which may not be there yet."""
    file = unquote(Path(urlsplit(item.url).path).name)
    return weights_folder() / name / f"{file}.{item.source}.pdparams"


def _is_ready(target: Path) -> bool:
    """Return whether the conversion was finished: its record is written last."""
    return target.is_file() and record_path(target).is_file()


def _fetch_and_convert(name: str, item: Weights, downloaded: Path, target: Path) -> None:
    if downloaded.is_file():
        check_sha256(downloaded, item.sha256)
    else:
        _download(item.url, downloaded, item.sha256)
    convert_file(arch=name, src=downloaded, dst=target, source=item.source, arguments=item.arguments)
    downloaded.unlink()


def _download(url: str, path: Path, sha256: Optional[str]) -> None:
    by_hand = f"put {path.name} into {path.parent} and it will be taken"
    if is_offline():
        raise DownloadError(f"{url} is needed and {OFFLINE} is set; {by_hand}")
    logger.info("downloading %s into %s", url, path.parent)
    try:
        download(url, path, sha256)
    except DownloadError as error:
        raise DownloadError(f"{error}. Without a network, {by_hand}") from None


@contextmanager
def _one_process(path: Path, name: str) -> Iterator[None]:
    """Let one process at a time in, and say why the others wait."""
    lock = FileLock(str(path))
    try:
        lock.acquire(timeout=1)
    except Timeout:
        logger.info("another process is fetching the weights of %s; waiting for it", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
