"""Images that are there more than once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

from ppcls_ext.data.errors import PreparationError
from ppcls_ext.data.preparation.collection import SHOWN, Collection
from ppcls_ext.data.preparation.inspection import ImageFacts
from ppcls_ext.data.text_files import printable

POLICIES = ("keep", "drop")


@dataclass(frozen=True)
class Copies:
    """Images with the same pixels.

    Attributes:
        indices: of the images, in their order.
        same_file: whether their files are the same byte for byte.
        conflict: whether they have different labels.
        parts: the parts that the user's data has them in.
    """

    indices: tuple[int, ...]
    same_file: bool
    conflict: bool
    parts: tuple[str, ...]


def find_copies(collection: Collection, facts: Sequence[ImageFacts]) -> list[Copies]:
    """Return the images that have the same pixels, largest part first as they come."""
    by_pixels: dict[str, list[int]] = {}
    for index, fact in enumerate(facts):
        if not fact.error:
            by_pixels.setdefault(fact.pixels, []).append(index)
    return [
        Copies(
            tuple(indices),
            len({facts[index].content for index in indices}) == 1,
            len({collection.items[index].label for index in indices}) > 1,
            tuple(sorted({part for part in (collection.items[index].part for index in indices) if part})),
        )
        for indices in by_pixels.values()
        if len(indices) > 1
    ]


def dropped_copies(collection: Collection, copies: Sequence[Copies], policy: str) -> dict[int, str]:
    """Return which copies are left out, each with the reason.

    With ``keep`` none is; copies stay in one part, and those that the user's own parts share are refused. With ``drop``
    one of each stays, that of the test or validation part where it is in several; of copies with different labels
    none does, since nobody knows which is right.

    Raises:
        PreparationError: naming the copies in several parts, if they are kept.
    """
    if policy == "keep":
        shared = [item for item in copies if len(item.parts) > 1]
        if shared:
            lines = []
            for item in shared[:SHOWN]:
                members = [collection.items[index] for index in item.indices]
                lines.append("  " + " = ".join(f"{printable(member.name)} ({member.part})" for member in members))
            raise PreparationError(
                f"{len(shared)} images are in several parts, so that evaluation would ask for what training has seen, "
                "the first:\n" + "\n".join(lines) + "\nDelete one of each, or give --duplicates drop, which leaves it "
                "out of training"
            )
        return {}
    dropped: dict[int, str] = {}
    for item in copies:
        if item.conflict:
            dropped.update(dict.fromkeys(item.indices, "copies of it have another label"))
            continue
        kept = min(item.indices, key=lambda index: (_rank(collection.items[index].part), index))
        name = collection.items[kept].name
        dropped.update({index: f"a copy of {printable(name)}" for index in item.indices if index != kept})
    return dropped


def _rank(part: Optional[str]) -> int:
    return ("test", "val", "train", None).index(part)
