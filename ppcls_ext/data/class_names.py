"""Names of the classes that training on a section of a configuration has, without loading its images."""

from __future__ import annotations

import os
from typing import Optional

from ppcls_ext.data import image_folder
from ppcls_ext.data.cifar import ARCHIVES, check_archive, read_class_names


def class_names_of(section: Optional[dict]) -> Optional[list[str]]:
    """Return the names of the classes by id that training on a ``dataset`` section has; no image is looked for.

    Args:
        section: ``DataLoader.Train.dataset``.

    Returns:
        None where the section is missing, its data are not on this machine, or they hold no names: lists of images.

    Raises:
        FileNotFoundError, LabelFileError: see :class:`ppcls_ext.data.image_folder.ImageFolder`.
        DataFileError: see :class:`ppcls_ext.data.cifar.Cifar10`.
    """
    if not section or section.get("name") not in ARCHIVES:
        return image_folder.class_names_of(section)
    archive, data_file = ARCHIVES[section["name"]], section.get("data_file") or ""
    if not os.path.exists(data_file):
        return None
    if not os.path.isdir(data_file):
        check_archive(archive, data_file)
    keys = list(archive.name_keys)
    label_key = f"{section.get('label_mode') or 'fine'}_labels" if len(keys) > 1 else keys[0]
    return read_class_names(archive, data_file, label_key)
