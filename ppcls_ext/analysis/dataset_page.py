"""The report of a prepared data set: ``report.md`` and the picture of its classes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

from ppcls_ext.analysis.drawing import BLUE, GREY, RED, figure, short
from ppcls_ext.data.preparation.collection import PARTS
from ppcls_ext.data.preparation.writing import HISTOGRAM, PAGE, PreparedDataset
from ppcls_ext.utils.files import write_atomically

#: Width of the longest bar of a histogram in text.
BAR = 30
#: Classes that a picture shows with their names.
WITH_NAMES = 60
LISTED = 50


def bar(count: int, most: int, width: int = BAR) -> str:
    """Return a bar for a histogram in text, at least a sliver for what is not 0."""
    eighths = round(8 * width * count / max(most, 1))
    if count and not eighths:
        eighths = 1
    return "█" * (eighths // 8) + "▏▎▍▌▋▊▉"[eighths % 8 - 1] * bool(eighths % 8)


def write_histogram(dataset: PreparedDataset) -> Optional[Path]:
    """Draw the images of each class by part into ``classes.png``; None where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.ticker import MaxNLocator

    classes = dataset.report["classes"]
    names = [short(row["name"]) for row in classes]
    named = len(classes) <= WITH_NAMES
    path = dataset.folder / HISTOGRAM
    with figure(path, (7, 1.2 + 0.28 * len(classes) if named else 7), names) as (drawn, fonts):
        axes = drawn.add_subplot()
        left = [0] * len(classes)
        for part, colour in zip(PARTS, (BLUE, RED, GREY)):
            counts = [row[part] for row in classes]
            if sum(counts):
                axes.barh(range(len(classes)), counts, left=left, color=colour, label=f"{part}, {sum(counts):,}")
                left = [before + count for before, count in zip(left, counts)]
        axes.invert_yaxis()
        axes.set_xlabel("images")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if named:
            ticks = [name if fonts.can_show(name) else str(row["id"]) for name, row in zip(names, classes)]
            axes.set_yticks(range(len(classes)), ticks)
        else:
            axes.set_ylabel("class id")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return path


def write_page(dataset: PreparedDataset, histogram: Optional[Path]) -> Path:
    """Write ``report.md``."""
    path = dataset.folder / PAGE
    text = "\n".join(_lines(dataset, histogram)) + "\n"
    write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8", errors="backslashreplace"))
    return path


def _lines(dataset: PreparedDataset, histogram: Optional[Path]) -> Iterator[str]:
    report = dataset.report
    yield f"# Data set of {_cell(report['source'])}"
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in overview(report):
        yield f"| {name} | {_cell(value)} |"
    yield ""
    yield "## What deserves a look"
    yield ""
    yield from [f"- {_cell(sentence)}" for sentence in report["warnings"]] or ["Nothing."]
    yield ""
    yield "## Classes"
    yield ""
    yield "| id | class | train | val | test | balanced weight | images |"
    yield "|---:|---|---:|---:|---:|---:|---|"
    most = max(sum(row[part] for part in PARTS) for row in report["classes"])
    for row in report["classes"]:
        counts = " | ".join(str(row[part]) for part in PARTS)
        total = sum(row[part] for part in PARTS)
        yield f"| {row['id']} | {_cell(row['name'])} | {counts} | {row['weight']:.3f} | {bar(total, most)} |"
    yield ""
    yield "The balanced weight is that of scikit-learn: images / (classes × images of the class), in training."
    if histogram is not None:
        yield ""
        yield f"![images of each class]({histogram.name})"
    copies = [(" = ".join(item["files"]), _kind(item)) for item in report["copies"]]
    left_out = [(item["file"], item["reason"]) for item in report["left_out"]]
    tiny = [(item["file"], f"{item['width']}×{item['height']}") for item in report["tiny"]["files"]]
    others = [(name, "format that is not read here") for name in report["unsupported"]]
    others += [(name, "image without a class") for name in report["without_class"]]
    others += [(name, "no image by its name") for name in report["other_files"]]
    yield from _section("Images that are left out", ("file", "reason"), left_out)
    yield from _section("Images that are there more than once", ("files", "what they share"), copies)
    yield from _section(f"Images with a side below {report['tiny']['below']} pixels", ("file", "size"), tiny)
    yield from _section("Files that are in no list", ("file", "why"), others)


def overview(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures of a data set, as names and texts."""
    size, short_side = report["size"], report["short_side"]
    parts = ", ".join(f"{part} {report['parts'][part]:,}" for part in PARTS if report["parts"][part])
    ignored = report["ignored"]
    return [
        ("images", f"{report['images']:,} ({parts})"),
        ("classes", f"{len(report['classes']):,}"),
        ("largest class / smallest, in training", f"{report['imbalance']:.1f}"),
        *((f"{side}, min / median / max", _spread(size[side])) for side in ("width", "height")),
        ("shorter side, min / median / max", _spread(short_side)),
        ("colour modes", _counts(report["modes"])),
        ("formats", _counts(report["formats"])),
        ("left out", str(len(report["left_out"]))),
        ("copies", str(len(report["copies"]))),
        ("hidden images, system files (ignored)", f"{ignored['hidden_images']}, {ignored['system_files']}"),
        ("seed of the split", str(report["seed"])),
    ]


def _kind(item: dict) -> str:
    shared = "the same file" if item["same_file"] else "the same pixels"
    return f"{shared}, **different classes: {', '.join(item['classes'])}**" if item["conflict"] else shared


def _section(title: str, header: Sequence[str], rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield f"## {title}"
    yield ""
    yield f"| {' | '.join(header)} |"
    yield "|---|---|"
    for row in rows[:LISTED]:
        yield f"| {' | '.join(map(_cell, row))} |"
    if len(rows) > LISTED:
        yield f"| … and {len(rows) - LISTED} more in report.json | |"


def _spread(values: dict) -> str:
    return f"{values['min']:g} / {values['median']:g} / {values['max']:g}"


def _counts(counts: dict) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
