"""A part of the classes: ImageNet-A and ImageNet-R have images of 200 of ImageNet's 1000, and are scored among those.

The classes are told by a text file with a class on each line (an id, or a name such as a WordNet id, which more words
may follow), or by a folder whose folders are named after them, such as the unpacked archive itself: ImageNet-A is
github.com/hendrycks/natural-adv-examples, ImageNet-R github.com/hendrycks/imagenet-r.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.errors import LabelFileError
from ppcls_ext.data.label_names import BUNDLED, read_class_names
from ppcls_ext.data.text_files import read_text_file, shown
from ppcls_ext.utils.spelling import nearest

MAX_BYTES = 64 << 20


def read_class_subset(
    path: Union[str, Path], class_num: int, class_names: Optional[Sequence[str]] = None
) -> np.ndarray:
    """Read which classes count.

    Args:
        path: a text file or a folder, see above.
        class_num: number of classes of the model.
        class_names: their names by id, if they are known; for 1000 classes ImageNet's WordNet ids are known as well.

    Returns:
        Their ids, ascending, int64 ``[at least 2]``.

    Raises:
        FileNotFoundError: if it is not there.
        LabelFileError: if a class is unknown or there twice, or there are fewer than two.
    """
    if os.path.isdir(path):
        entries = [(str(path), name) for name in sorted(os.listdir(path)) if os.path.isdir(os.path.join(path, name))]
        entries = [(where, name) for where, name in entries if not name.startswith(".")]
    else:
        file = read_text_file(path, "list of classes", MAX_BYTES)
        entries = [(file.where(line), line.text or "") for line in file.lines]
    names = dict(zip(class_names or (), range(class_num)))
    if class_num == 1000:
        wnids = read_class_names(BUNDLED["imagenet1k_wnids"])
        names = {**{name: number for number, name in wnids.items()}, **names}
    ids: dict[int, str] = {}
    for where, text in entries:
        number = _class_of(text, names, class_num)
        if number is None:
            hint = nearest(text, names, count=1)
            advice = f"; did you mean {hint[0]}?" if hint else ""
            raise LabelFileError(f"{where}: {shown(text)!r} is none of the {class_num} classes of the model{advice}")
        if number in ids:
            raise LabelFileError(f"{where}: class {number} ({shown(text)!r}) is there twice")
        ids[number] = text
    if len(ids) < 2:
        raise LabelFileError(f"{path} names {len(ids)} classes; expected two or more")
    return np.array(sorted(ids), np.int64)


def _class_of(text: str, names: dict[str, int], class_num: int) -> Optional[int]:
    """Return the class that a line means; a name counts before a number, since classes may be named by numbers."""
    for candidate in (text, text.split()[0].rstrip(",:") if text.split() else ""):
        if candidate in names:
            return names[candidate]
        if candidate.isdecimal() and int(candidate) < class_num:
            return int(candidate)
    return None
