"""What all pictures share: matplotlib without a display, fonts for their texts, files that are written whole."""

from __future__ import annotations

import importlib.util
import io
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Sequence
from unicodedata import east_asian_width

import numpy as np

from ppcls_ext.analysis.fonts import Fonts, choose_fonts
from ppcls_ext.utils.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, RED, GREY, GREEN = "#2b6cb0", "#c53030", "#a0aec0", "#2f855a"
DPI = 120
#: Width of a name, in Latin letters.
LONGEST_NAME = 20


class DrawingError(RuntimeError):
    """A picture cannot be drawn; the message says what to do."""


def require_matplotlib(way_out: str = "") -> None:
    """Check that matplotlib is installed, before any work is done for a picture.

    Args:
        way_out: how to do without pictures, such as ``leave them out with --no_plot``.

    Raises:
        DrawingError: it is not; the message has the command that installs it, and ``way_out``.
    """
    if importlib.util.find_spec("matplotlib") is None:
        end = f", or {way_out}" if way_out else ""
        raise DrawingError(f'pictures need matplotlib: pip install "ppcls_ext[plot]" with the extras you have{end}')


@contextmanager
def figure(path: Path, size: tuple[float, float], texts: Sequence[str] = ()) -> Iterator[tuple[Figure, Fonts]]:
    """Give an empty figure, and write it as PNG when the block ends without an error.

    It does not use pyplot, which would look for a display, and is safe in threads that draw one after the other.

    Args:
        path: where to write.
        size: width and height in inches; white margins are cut off.
        texts: that are not ours, such as names of classes: fonts that have their characters are chosen.

    Yields:
        The figure, and the fonts, which tell of a text whether it can be shown.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    fonts = choose_fonts(texts)
    # A name may hold a dollar, which begins a formula in matplotlib.
    settings = {"font.family": fonts.families, "axes.unicode_minus": False, "text.parse_math": False}
    with rc_context(settings):
        drawn = Figure(size, dpi=DPI, layout="constrained")
        yield drawn, fonts
        stream = io.BytesIO()
        drawn.savefig(stream, format="png", bbox_inches="tight", pad_inches=0.1)
    write_atomically(path, lambda aside: aside.write_bytes(stream.getvalue()))


def mark_decades(axis: Any) -> None:
    """Write 1, 2, 5, 10 and so on at a logarithmic axis, as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def short(name: str) -> str:
    """Return a name as a picture shows it: a Chinese character is as wide as two letters."""
    widths = np.cumsum([2 if east_asian_width(character) in "WF" else 1 for character in name])
    if not len(widths) or widths[-1] <= LONGEST_NAME:
        return name
    return name[: int(np.searchsorted(widths, LONGEST_NAME - 1, side="right"))] + "…"
