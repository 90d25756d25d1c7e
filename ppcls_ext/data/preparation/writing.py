"""Writing the lists of a data set in PaddleClas's formats, and reading where they are again."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Sequence

from ppcls_ext.data.errors import PreparationError
from ppcls_ext.data.label_list import read_label_list
from ppcls_ext.data.label_names import read_class_id_map
from ppcls_ext.data.preparation.collection import PARTS, Collection
from ppcls_ext.data.preparation.tables import LIST_NAMES
from ppcls_ext.data.text_files import printable
from ppcls_ext.utils.files import write_atomically

LABEL_LIST, REPORT, PAGE, HISTOGRAM = "label_list.txt", "report.json", "report.md", "classes.png"
FILES = (*LIST_NAMES.values(), LABEL_LIST, REPORT, PAGE, HISTOGRAM)


@dataclass(frozen=True)
class PreparedDataset:
    """A folder of lists that ``prepare`` wrote.

    Attributes:
        folder: of the lists.
        report: what ``report.json`` holds.
    """

    folder: Path
    report: dict[str, Any]

    @property
    def image_root(self) -> Path:
        """The folder that relative paths of the lists start from."""
        return Path(os.path.normpath(self.folder / self.report["image_root"]))

    @property
    def delimiter(self) -> Optional[str]:
        """What stands between path and class id, where PaddleClas's default would not do."""
        return self.report["delimiter"]

    @property
    def class_names(self) -> list[str]:
        """The names of the classes by id."""
        return [row["name"] for row in self.report["classes"]]

    def list_of(self, part: str) -> Path:
        """Return the list of a part, which is there if the part has images."""
        return self.folder / LIST_NAMES[part]

    def count(self, part: str) -> int:
        """Return the number of images in a part."""
        return self.report["parts"][part]


def check_output(output: Path, source: Path, overwrite: bool) -> None:
    """Check that a data set may be written into a folder.

    Raises:
        PreparationError: if it is a file, lies among the images, or holds files of an earlier data set.
    """
    if output.exists() and not output.is_dir():
        raise PreparationError(f"--output {printable(output)} is a file; expected a folder")
    inside = source.is_dir() and source.resolve() in output.resolve().parents
    if inside:
        raise PreparationError(
            f"--output {printable(output)} lies among the images of {printable(source)}, where it would be taken for "
            "one of their folders; choose a folder outside"
        )
    there = [name for name in FILES if (output / name).exists()]
    if there and not overwrite:
        raise PreparationError(
            f"--output {printable(output)} holds {', '.join(there)}; nothing is overwritten unasked: choose another "
            "folder, or give --overwrite"
        )


def write_lists(
    output: Path, collection: Collection, parts: Sequence[Optional[str]], report: dict[str, Any]
) -> PreparedDataset:
    """Write the lists, the label file and ``report.json``, and read the lists back before they get their names.

    A path of a list is relative to ``image_root``, which ``report.json`` holds relative to its own folder. Where a path
    holds a blank, a tab stands between path and class id, since PaddleClas splits at every blank.

    Raises:
        PreparationError: if a name cannot stand in a list.
        OSError: if a file cannot be written.
    """
    names = {item.name for item, part in zip(collection.items, parts) if part is not None}
    unwritable = next((name for name in sorted(names) if set("\n\r\0") & set(name)), None)
    if unwritable is not None:
        raise PreparationError(f"the name {unwritable!r} holds a line break, which no list can hold; rename the file")
    delimiter = "\t" if any(" " in name for name in names) else None
    output.mkdir(parents=True, exist_ok=True)
    label_lines = "".join(f"{label} {name}\n" for label, name in enumerate(collection.class_names))
    _write(output / LABEL_LIST, label_lines, lambda path: read_class_id_map(path) == collection.class_names)
    for part in PARTS:
        rows = [(_listed(item.name), item.label) for item, own in zip(collection.items, parts) if own == part]
        path = output / LIST_NAMES[part]
        if not rows:
            path.unlink(missing_ok=True)  # of an earlier data set, which may be overwritten
            continue
        text = "".join(f"{name}{delimiter or ' '}{label}\n" for name, label in rows)

        def is_same(aside: Path, rows: Sequence[tuple[str, int]] = rows) -> bool:
            found, labels = read_label_list(aside, delimiter, collection.image_root)
            return list(zip(found, labels.tolist())) == list(rows)

        _write(path, text, is_same)
    content = {
        **report,
        "image_root": Path(_relative(collection.image_root, output)).as_posix(),
        "delimiter": delimiter,
    }
    json_text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    _write(output / REPORT, json_text, lambda aside: True)
    return PreparedDataset(output, content)


def open_dataset(folder: Path) -> Optional[PreparedDataset]:
    """Return the data set that ``prepare`` wrote into a folder; None if there is none.

    Raises:
        PreparationError: if its ``report.json`` is damaged.
    """
    path = folder / REPORT
    if not path.is_file() or not (folder / LIST_NAMES["train"]).is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        dataset = PreparedDataset(folder, content)
        _ = dataset.image_root, dataset.delimiter, dataset.class_names, [dataset.count(part) for part in PARTS]
    except (ValueError, KeyError, TypeError) as error:
        raise PreparationError(f"{printable(path)} is not what `prepare` writes ({error}); prepare it again") from None
    return dataset


def _listed(name: str) -> str:
    """Return a path as a list holds it: a blank at its beginning would be lost."""
    return f"./{name}" if name[:1].isspace() or name.startswith("\ufeff") else name


def _relative(folder: Path, start: Path) -> str:
    try:
        return os.path.relpath(folder.resolve(), start.resolve())
    except ValueError:  # another drive of Windows
        return str(folder.resolve())


def _write(path: Path, text: str, is_right) -> None:
    def write(aside: Path) -> None:
        aside.write_bytes(text.encode("utf-8", "surrogateescape"))  # names that are not UTF-8 stay the bytes they are
        if not is_right(aside):
            raise PreparationError(
                f"{printable(path)} does not read as it was meant: a name holds characters that lists cannot carry "
                "(blanks at an end, or bytes that are no UTF-8); rename it"
            )

    write_atomically(path, write)
