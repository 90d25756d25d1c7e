"""Fonts that have the characters of the labels, or labels that a picture can show without them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Iterable

logger = logging.getLogger("ppcls_ext")

#: matplotlib's own, which is always there; it has no Chinese, Japanese or Korean.
OWN = "DejaVu Sans"
#: Fonts with Chinese characters, by how they look beside Latin ones.
CHINESE = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "SimHei",
    "Heiti SC",
    "Arial Unicode MS",
    "Droid Sans Fallback",
    "Noto Serif CJK SC",
    "SimSun",
    # One file holds the characters of all three languages, and matplotlib knows it by the first of its names.
    "Noto Sans CJK JP",
    "Noto Serif CJK JP",
)


@dataclass(frozen=True)
class Fonts:
    """Fonts for the texts of a picture.

    Attributes:
        families: names for matplotlib's ``font.family``, in the order in which a character is looked for.
        missing: characters that none of them has.
    """

    families: list[str]
    missing: frozenset

    def can_show(self, text: str) -> bool:
        """Return whether every character of ``text`` is in one of the fonts."""
        return not self.missing.intersection(text)


def choose_fonts(texts: Iterable[str]) -> Fonts:
    """Return fonts that have the characters of ``texts``, as far as the system has such fonts.

    What is missing is told once, with the fonts to install.
    """
    wanted = {character for text in texts for character in text if character.isprintable() and not character.isspace()}
    families, wanted = [OWN], wanted - _characters(OWN)
    for family in _candidates() if wanted else ():
        found = wanted & _characters(family)
        if found:
            families.append(family)
            wanted = wanted - found
        if not wanted:
            break
    if wanted:
        _tell_missing()
    return Fonts(families, frozenset(wanted))


@lru_cache(maxsize=1)
def _tell_missing() -> None:
    logger.warning(
        "no installed font has some characters of the class names, so pictures show class ids for them (the page shows "
        "the names). Install a font such as Noto Sans CJK (Debian, Ubuntu: apt-get install fonts-noto-cjk), Source Han "
        "Sans or WenQuanYi Micro Hei"
    )


def _candidates() -> list[str]:
    """Return the installed fonts: those with Chinese first, then any other."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in CHINESE if name in installed] + sorted(installed - {OWN, *CHINESE})


@lru_cache(maxsize=1024)
def _characters(family: str) -> frozenset:
    """Return the characters of an installed font."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    try:
        path = font_manager.findfont(font_manager.FontProperties(family=[family]), fallback_to_default=False)
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (ValueError, RuntimeError, OSError):  # not there any more, or of a kind that FreeType cannot read
        return frozenset()
