"""``pretrained=True``: from the name of a backbone to its published weights, downloaded and converted once.

Everything is kept in one folder, ``$PPCLS_EXT_HOME/weights`` (by default ``~/.cache/ppcls_ext/weights``), which may be
copied to a machine without a network::

    <Name>/<published file>                     only until it is converted
    <Name>/<published file>.<layout>.pdparams   the converted weights
    <Name>/<published file>.<layout>.pdparams.json   their record: source, SHA-256, licence, versions

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
from ppcls_ext.weights.conversion_record import as_arguments, record_path
from ppcls_ext.weights.download import DownloadError, check_sha256, download
from ppcls_ext.weights.expected import family_of
from ppcls_ext.weights.remap import named_layout
from ppcls_ext.weights.sources import layouts_of

logger = logging.getLogger("ppcls_ext")

HOME = "PPCLS_EXT_HOME"
OFFLINE = "PPCLS_EXT_OFFLINE"


class NoPublishedWeightsError(ValueError):
    """There are no weights that could be downloaded; the message says what can be done instead."""


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


def choose(name: str, weights: Sequence[Weights], layout: Optional[str] = None) -> Weights:
    """Return the one of ``weights`` that ``pretrained=True`` means: the first with a direct link.

    Args:
        name: the backbone's name in the registry.
        weights: what is published of it.
        layout: the first of this layout.

    Raises:
        NoPublishedWeightsError: if there is none; where a person can download one, with the command that converts it.
        ValueError: with the layouts that there are, if there is none of ``layout``.
    """
    direct = [item for item in weights if not item.manual]
    if direct and layout is not None:
        layouts = list(dict.fromkeys(item.layout for item in direct))
        if layout not in layouts:
            raise ValueError(f"pretrained_layout={layout!r}: the weights of {name} have {', '.join(layouts)}")
        return direct[[item.layout for item in direct].index(layout)]
    if direct:
        return direct[0]
    if not weights:
        raise NoPublishedWeightsError(
            f"pretrained=True: no weights of {name} are published; give pretrained=<path of a .pdparams file>"
        )
    lines = [f"  {item.url} ({item.layout} layout; licence: {item.licence})" for item in weights]
    raise NoPublishedWeightsError(
        f"pretrained=True: the weights of {name} are published on pages without a direct link:\n"
        + "\n".join(lines)
        + "\nDownload one in a browser, convert it:\n"
        f"  python tools/convert_weights.py --arch {name} --src <downloaded file> --dst {name}.pdparams\n"
        f"and give pretrained={name}.pdparams"
    )


def published_form(name: str, item: Weights, defaults: dict, given: dict) -> dict:
    """Return the constructor arguments that choose the form of the network that published weights are of.

    Args:
        name: the backbone's name in the registry.
        item: the weights.
        defaults: all constructor arguments that the name stands for.
        given: those that the caller gave; they win over the defaults.

    Raises:
        ValueError: if another form was given, or the weights' model has other tensors than the name's own and the
            arguments that make them were not given.
    """
    family = family_of(name)
    form = named_layout(item.layout, family, layouts_of(family)).needs({**defaults, **given})
    other = {key: given[key] for key, value in form.items() if given.get(key, value) != value}
    if other:
        raise ValueError(
            f"the {item.layout} weights of {name} are of a model with {as_arguments(form)}, not {as_arguments(other)}"
        )
    missing = lacking(item, {**defaults, **given})
    if missing:
        raise ValueError(
            f"the {item.layout} weights of {name} are of a model with {as_arguments(missing)}: give "
            f"{as_arguments(missing)} too"
        )
    return form


def lacking(item: Weights, arguments: dict) -> dict:
    """Return the arguments of the model that published weights are of which a model of ``arguments`` does not have."""
    return {key: value for key, value in (item.arguments or {}).items() if arguments[key] != value}


def pretrained_path(name: str, weights: Sequence[Weights], layout: Optional[str] = None) -> Path:
    """Return the published weights of ``name`` as a ``.pdparams`` file of ours; the first call fetches and converts.

    Several processes may call this at once: one works, the others wait for it.

    Args:
        name: the backbone's name in the registry.
        weights: what is published of it.
        layout: which of several, see :func:`choose`.

    Raises:
        NoPublishedWeightsError, ValueError: see :func:`choose`.
        DownloadError: if there is no network, or none is wanted; the message says where to put the file by hand.
    """
    item = choose(name, weights, layout)
    folder = weights_folder() / name
    source = folder / unquote(Path(urlsplit(item.url).path).name)
    target = folder / f"{source.name}.{item.layout}.pdparams"
    if not _is_ready(target):
        folder.mkdir(parents=True, exist_ok=True)
        with _one_process(folder / ".lock", name):
            if not _is_ready(target):
                _fetch_and_convert(name, item, source, target)
    logger.info("the weights of %s are from %s", name, item.url)
    return target


def _is_ready(target: Path) -> bool:
    """Return whether the conversion was finished: its record is written last."""
    return target.is_file() and record_path(target).is_file()


def _fetch_and_convert(name: str, item: Weights, source: Path, target: Path) -> None:
    if source.is_file():
        check_sha256(source, item.sha256)
    else:
        by_hand = f"put {source.name} into {source.parent} and it will be converted"
        if is_offline():
            raise DownloadError(f"{item.url} is needed and {OFFLINE} is set; {by_hand}")
        logger.info("downloading %s into %s", item.url, source.parent)
        try:
            download(item.url, source, item.sha256)
        except DownloadError as error:
            raise DownloadError(f"{error}. Without a network, {by_hand}") from None
    convert_file(arch=name, src=source, dst=target, layout=item.layout, arguments=item.arguments)
    source.unlink()


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
