"""Images with their classes, as a user has them: what folders, lists and CSV files are read into."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable, Optional, Sequence

from ppcls_ext.data.errors import PreparationError
from ppcls_ext.data.text_files import printable
from ppcls_ext.utils.spelling import nearest

PARTS = ("train", "val", "test")
#: Names of parts that data sets have, and what they mean.
PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SHOWN = 5


@dataclass(frozen=True)
class Item:
    """One image as the user names it.

    Attributes:
        name: path from ``image_root``, or absolute, as a list is to hold it.
        label: class id.
        part: ``train``, ``val`` or ``test``, where the user's data says it.
        group: images of one group stay in one part; None is a group by itself.
        where: ``file:line`` of a list; "" for folders.
    """

    name: str
    label: int
    part: Optional[str] = None
    group: Optional[str] = None
    where: str = ""


@dataclass
class Collection:
    """What a user's folder, list or CSV file holds.

    Attributes:
        source: what was read.
        kind: ``folders``, ``split folders``, ``list``, ``lists`` or ``csv``.
        image_root: where relative names start.
        class_names: names of the classes by id.
        items: the images.
        hidden: number of images that are hidden or in hidden folders.
        system: number of files that operating systems leave, such as Thumbs.db.
        others: files that are no images.
        repeated: lines that name an image once more.
    """

    source: Path
    kind: str
    image_root: Path
    class_names: list[str]
    items: list[Item] = field(default_factory=list)
    hidden: int = 0
    system: int = 0
    others: list[str] = field(default_factory=list)
    repeated: int = 0

    def path(self, item: Item) -> Path:
        """Return the file of an image."""
        return self.image_root / item.name

    @property
    def parts(self) -> set:
        """The parts that the user's data has itself."""
        return {item.part for item in self.items if item.part is not None}


def check_class_names(names: Sequence[str], what: str) -> None:
    """Check that no two classes are one by a slip: another case, a blank at the end, another form of an accent.

    Args:
        names: of the classes.
        what: what they are, for the message: ``class folders in photos``.

    Raises:
        PreparationError: naming both.
    """
    seen: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", name).strip().casefold()
        if not key:
            raise PreparationError(f"{what}: a name is blank, {name!r}; rename it")
        if key in seen:
            raise PreparationError(
                f"{what}: {printable(seen[key])!r} and {printable(name)!r} differ only by case, blanks or the form of "
                "a character; merge them if they are one class, else give one a name that reads differently"
            )
        seen[key] = name


def check_classes(collection: Collection) -> None:
    """Check that there are two classes or more.

    Raises:
        PreparationError: if there are not.
    """
    if len(collection.class_names) < 2:
        (name,) = collection.class_names
        raise PreparationError(
            f"{printable(collection.source)} has one class only, {printable(name)!r}; a classifier tells at least two "
            "apart: add a folder (or lines) of what it is to be told from"
        )


def part_of(word: str, where: str) -> str:
    """Return the part that a word means.

    Raises:
        PreparationError: if it means none.
    """
    part = PART_NAMES.get(word.strip().casefold())
    if part is None:
        hint = nearest(word, PART_NAMES, 1)
        advice = f"; did you mean {hint[0]}?" if hint else ""
        raise PreparationError(f"{where}: expected train, val or test, got {word!r}{advice}")
    return part


def some(names: Iterable[object], count: int = SHOWN) -> str:
    """Return the first few of many, and how many there are."""
    listed = [printable(str(name)) for name in names]
    more = f", ... ({len(listed)} in all)" if len(listed) > count else ""
    return ", ".join(listed[:count]) + more
