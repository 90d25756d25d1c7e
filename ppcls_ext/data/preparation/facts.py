"""What is to be said of a data set: counts, sizes, modes, balance, and what deserves a look."""

from __future__ import annotations

from collections import Counter
from typing import Any, Mapping, Optional, Sequence

import numpy as np

from ppcls_ext.data.image_files import is_image
from ppcls_ext.data.preparation.collection import PARTS, Collection, some
from ppcls_ext.data.preparation.duplicates import Copies
from ppcls_ext.data.preparation.folders import UNSUPPORTED_SUFFIXES
from ppcls_ext.data.preparation.inspection import ImageFacts
from ppcls_ext.data.text_files import printable

#: A shorter side below this many pixels is tiny.
TINY = 32
#: Ratio of the largest class to the smallest above which weights are suggested.
IMBALANCED = 3.0
#: Training images of a class below which its result will be chance.
FEW = 10
LISTED = 200
#: Copies of one image that a sentence names.
COPIES_NAMED = 3


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """Return scikit-learn's ``balanced`` class weights: images / (classes * images of the class)."""
    total, classes = sum(counts), len(counts)
    return [total / (classes * count) if count else 0.0 for count in counts]


def describe(
    collection: Collection,
    facts: Sequence[ImageFacts],
    parts: Sequence[Optional[str]],
    copies: Sequence[Copies],
    left_out: Mapping[int, str],
) -> dict[str, Any]:
    """Return the facts as plain data, what ``report.json`` holds.

    Args:
        collection: what was read.
        facts: of each image.
        parts: of each image; None for those that are left out.
        copies: images that are there more than once.
        left_out: images that are in no list, with the reason.
    """
    items = collection.items
    counts = {
        part: np.bincount(
            [item.label for item, own in zip(items, parts) if own == part], minlength=len(collection.class_names)
        ).tolist()
        for part in PARTS
    }
    weights = balanced_weights(counts["train"])
    classes = [
        {"id": label, "name": name, **{part: counts[part][label] for part in PARTS}, "weight": weights[label]}
        for label, name in enumerate(collection.class_names)
    ]
    readable = [fact for fact in facts if not fact.error]
    tiny = [
        {"file": printable(items[index].name), "width": fact.width, "height": fact.height}
        for index, fact in enumerate(facts)
        if not fact.error and min(fact.width, fact.height) < TINY
    ]
    lower = {other: other.lower().endswith(UNSUPPORTED_SUFFIXES) for other in collection.others}
    content: dict[str, Any] = {
        "version": 1,
        "source": printable(collection.source),
        "kind": collection.kind,
        "found": len(items),
        "images": sum(part is not None for part in parts),
        "parts": {part: sum(counts[part]) for part in PARTS},
        "classes": classes,
        "imbalance": max(counts["train"]) / max(min(counts["train"]), 1),
        "size": {side: _spread([getattr(fact, side) for fact in readable]) for side in ("width", "height")},
        "short_side": _spread([min(fact.width, fact.height) for fact in readable]),
        "tiny": {"below": TINY, "count": len(tiny), "files": tiny[:LISTED]},
        "modes": dict(Counter(fact.mode for fact in readable).most_common()),
        "formats": dict(Counter(fact.format for fact in readable).most_common()),
        "left_out": [
            {"file": printable(items[index].name), "reason": reason} for index, reason in sorted(left_out.items())
        ],
        "unsupported": [printable(name) for name, is_unsupported in lower.items() if is_unsupported],
        "without_class": [printable(name) for name in collection.others if is_image(name)],
        "other_files": [
            printable(name) for name, is_unsupported in lower.items() if not is_unsupported and not is_image(name)
        ],
        "ignored": {"hidden_images": collection.hidden, "system_files": collection.system},
        "repeated_lines": collection.repeated,
        "copies": [
            {
                "files": [printable(items[index].name) for index in item.indices],
                "classes": [collection.class_names[items[index].label] for index in item.indices],
                "same_file": item.same_file,
                "conflict": item.conflict,
            }
            for item in copies
        ],
    }
    content["warnings"] = _warnings(content)
    return content


def joined(files: Sequence[str]) -> str:
    """Return copies as one text, a few by name."""
    more = f" = … ({len(files)} in all)" if len(files) > COPIES_NAMED else ""
    return " = ".join(files[:COPIES_NAMED]) + more


def _spread(values: Sequence[int]) -> dict[str, float]:
    return {"min": min(values), "median": float(np.median(values)), "max": max(values)}


def _warnings(content: Mapping[str, Any]) -> list[str]:
    """Return what deserves a look, one sentence each."""
    found = []

    def tell(many: Sequence, sentence: str) -> None:
        if many:
            found.append(sentence.format(n=len(many), some=some(many)))

    unreadable = [item["file"] for item in content["left_out"]]
    tell(unreadable, "{n} images are left out, each with its reason in the report: {some}")
    tell(
        content["unsupported"],
        "{n} files have a format that is not read here (convert them to JPEG or PNG): {some}",
    )
    tell(content["without_class"], "{n} images lie in no class folder, and are in no list: {some}")
    tell(content["other_files"], "{n} files are no images by their names: {some}")
    conflicts = [joined(item["files"]) for item in content["copies"] if item["conflict"]]
    tell(conflicts, "{n} images are there in several classes (correct the labels, or give --duplicates drop): {some}")
    plain = [joined(item["files"]) for item in content["copies"] if not item["conflict"]]
    tell(plain, "{n} images are there more than once: {some}")
    classes = content["classes"]
    single = [row["name"] for row in classes if sum(row[part] for part in PARTS) == 1]
    tell(single, "{n} classes have a single image, which training gets, so they are never evaluated: {some}")
    unseen = [row["name"] for row in classes if not row["val"] and row["name"] not in single]
    tell(unseen, "{n} classes have no validation image: {some}")
    few = [row["name"] for row in classes if row["train"] < FEW]
    tell(few, f"{{n}} classes have fewer than {FEW} training images: {{some}}")
    if content["tiny"]["count"]:
        files = [item["file"] for item in content["tiny"]["files"]]
        tell(files, f"{content['tiny']['count']} images are shorter than {TINY} pixels on a side: {{some}}")
    if content["imbalance"] > IMBALANCED:
        found.append(
            f"the largest class has {content['imbalance']:.1f} times the training images of the smallest; the report "
            "lists class weights, and per-class recall says more than accuracy"
        )
    if content["repeated_lines"]:
        found.append(f"{content['repeated_lines']} lines repeat an image and are counted once")
    return found
