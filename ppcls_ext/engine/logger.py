"""The log: lines in PaddleClas's format, on the console and in a file."""

from __future__ import annotations

import contextlib
import logging
import sys
import textwrap
from pathlib import Path
from typing import Optional

from tqdm import tqdm

from ppcls_ext.config import Config

logger = logging.getLogger("ppcls_ext")

#: PaddleClas's line format, which log parsers know.
LOG_FORMAT = "[%(asctime)s] ppcls %(levelname)s: %(message)s"
DATE_FORMAT = "%Y/%m/%d %H:%M:%S"


class _FileHandler(logging.FileHandler):
    """Appends lines to a file; when the disk is full it says so on the console, and the log goes on without it."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        logger.removeHandler(self)
        with contextlib.suppress(OSError):
            self.close()
        logger.warning("%s cannot be written (%s); the log goes on without it", self.baseFilename, error)


class _ConsoleHandler(logging.Handler):
    """Writes lines to standard output, above a progress bar if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        # A file name may be no text in the terminal's encoding.
        tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding), file=sys.stdout)


def start_logging(is_main: bool, file: Optional[Path] = None) -> logging.Logger:
    """Send the package's log to standard output and append it to ``file``; only the main process logs.

    Lines are written around tqdm's progress bars.
    """
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = False
    logger.setLevel(logging.INFO)
    if not is_main:
        logger.addHandler(logging.NullHandler())
        return logger
    handlers: list[logging.Handler] = [_ConsoleHandler()]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(_FileHandler(file, encoding="utf-8", errors="backslashreplace"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(LOG_FORMAT, DATE_FORMAT))
        logger.addHandler(handler)
    return logger


def log_config(cfg: Config) -> None:
    """Log what the validated config says beyond the defaults, and what it warns of."""
    logger.info("configuration\n%s", textwrap.indent(cfg.summary(), "  "))
    for warning in cfg.warnings:
        logger.warning("%s", warning)
