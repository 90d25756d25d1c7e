"""The recipes that come with the package: ``configs/`` in a clone, ``ppcls_ext/recipes`` in a wheel."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from ppcls_ext.utils.spelling import nearest

_PACKAGE = Path(__file__).resolve().parents[1]
_PLACES = (_PACKAGE / "recipes", _PACKAGE.parent / "configs")


def recipes_folder() -> Path:
    """Return the folder that holds the recipes.

    Raises:
        FileNotFoundError: if the installation is incomplete.
    """
    for folder in _PLACES:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"this installation has no recipes: neither {_PLACES[0]} nor {_PLACES[1]} exists")


def list_recipes(pattern: str = "*") -> list[str]:
    """Return the names of the recipes that match the shell pattern, case-insensitively: paths without ``.yaml``."""
    folder = recipes_folder()
    names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return [name for name in names if fnmatch.fnmatchcase(name.lower(), pattern.lower())]


def find_recipe(name: str) -> Path:
    """Return the file of a recipe: its name, or the last parts of it where they are unique.

    Raises:
        KeyError: with the names to choose from, if there is none or several.
    """
    wanted = name.removesuffix(".yaml")
    names = list_recipes()
    found = [wanted] if wanted in names else [known for known in names if f"/{known}".endswith(f"/{wanted}")]
    if len(found) == 1:
        return recipes_folder() / f"{found[0]}.yaml"
    if found:
        raise KeyError(f"{name!r} names several recipes: {', '.join(found)}")
    by_last_part = {known.rpartition("/")[2]: known for known in reversed(names)}
    hint = nearest(wanted, names) or [by_last_part[last] for last in nearest(wanted, by_last_part)]
    advice = f"; did you mean {', '.join(hint)}?" if hint else ""
    raise KeyError(f"{name!r} is neither a file nor a recipe{advice}")


def find_config(name: str) -> Path:
    """Return the path of a configuration: a file, or a recipe by name. What ends in ``.yaml`` or ``.yml`` is a file.

    Raises:
        KeyError: if it is neither.
    """
    path = Path(name)
    return path if path.exists() or path.suffix in (".yaml", ".yml") else find_recipe(name)


def title(name: str) -> str:
    """Return the first comment line of a recipe."""
    with (recipes_folder() / f"{name}.yaml").open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()
