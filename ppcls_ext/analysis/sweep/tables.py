"""A sweep as text: rows of a table in either language, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Optional

from ppcls_ext.analysis.benchmark.caption import caption, of_machine
from ppcls_ext.analysis.benchmark.columns import LANGUAGES, megabytes, milliseconds
from ppcls_ext.analysis.benchmark.tables import markdown_table
from ppcls_ext.analysis.sweep.results import Point, Sweep, exponent
from ppcls_ext.utils.files import write_atomically

NAME = "sweep"
#: What stands in every column: titles in the order of LANGUAGES.
MODEL, SIZE = ("Model", "模型"), ("Size", "尺寸")
SPEED = ("Images/s", "图像/秒"), ("p50, ms", "p50，ms"), ("Peak, MB", "峰值，MB"), ("Above libraries, MB", "扣除库，MB")
MACS, EXPONENT, REASON = ("MMACs", "MMACs"), ("MACs ~ side^p, p", "MACs ∝ 边长^p，p"), ("Why not", "缺失原因")


def table(found: Sweep, language: str = "en") -> list[list[str]]:
    """Return head and rows; columns without any figure are left out.

    The power p is that of multiply-adds between a size and the one before it.
    """
    titles = [MODEL, SIZE, (f"{found.criterion}, %", f"{found.criterion}，%"), *SPEED, MACS, EXPONENT, REASON]
    rows = []
    for points in found.lines.values():
        for number, point in enumerate(points):
            rows.append(_cells(point, exponent(points[: number + 1]) if point.macs else None, found.criterion))
    kept = [column for column in range(len(titles)) if column < 2 or any(row[column] != "-" for row in rows)]
    number = LANGUAGES.index(language)
    return [[titles[column][number] for column in kept], *([row[column] for column in kept] for row in rows)]


def _cells(point: Point, power: Optional[float], criterion: Optional[str]) -> list[str]:
    accuracy = point.metrics.get(criterion or "")
    p50 = point.speed.p50_ms if point.speed else None
    return [
        point.label,
        f"{point.resolution} *" if point.native else point.resolution,
        "-" if accuracy is None else f"{100 * accuracy:.2f}",
        "-" if point.images_per_second is None else f"{point.images_per_second:.1f}",
        "-" if p50 is None else milliseconds(p50),
        "-" if point.peak_bytes is None else megabytes(point.peak_bytes),
        "-" if point.model_bytes is None else megabytes(point.model_bytes),
        "-" if point.macs is None else f"{point.macs / 1e6:,.1f}",
        "-" if power is None else f"{power:.2f}",
        point.error or "-",
    ]


def notes(found: Sweep, language: str = "en") -> list[str]:
    """Return what stands beside the table."""
    english = language == "en"
    lines = ["\\* the model's own size" if english else "\\* 模型自身的尺寸"]
    if found.samples:
        counts = dict.fromkeys(found.samples.values())
        text = ", ".join(f"{count:,}" for count in counts)
        lines.append(f"Accuracy over {text} images" if english else f"精度统计了 {text} 张图像")
    speeds = [point.speed for point in found.points if point.speed]
    if not speeds:
        return lines + of_machine(found.measured, language)
    case = speeds[0].case
    lines.append(
        f"Time and memory: forward in eager mode, batch {case.batch}, {case.threads} thread{'s' * (case.threads > 1)}"
        if english
        else f"时间与内存：动态图前向，批大小 {case.batch}，{case.threads} 线程"
    )
    return lines + caption(found.measured, language)


def to_markdown(found: Sweep, language: str = "en") -> str:
    """Return the table with what stands beside it, as a page of the documentation holds it."""
    head, *rows = table(found, language)
    last = head[-1] in REASON
    right = [False, *[True] * (len(head) - 1 - last), *[False] * last]
    lines = "\n".join(f"- {line}" for line in notes(found, language))
    return f"{markdown_table([head, *rows], right)}\n\n{lines}\n"


def to_csv(found: Sweep) -> str:
    """Return one line for each point, with full precision; cells of what is not known are empty."""
    figures = list(dict.fromkeys(name for point in found.points for name in point.metrics))
    head = ["label", "arch", "height", "width", "native", *figures, "images_per_second", "p50_ms"]
    head += ["peak_bytes", "model_bytes", "params", "macs", "error"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    for point in found.points:
        values = [point.label, point.arch, point.height, point.width, point.native]
        values += [point.metrics.get(name) for name in figures]
        values += [point.images_per_second, point.speed.p50_ms if point.speed else None]
        writer.writerow([*values, point.peak_bytes, point.model_bytes, point.params, point.macs, point.error])
    return stream.getvalue()


def to_json(found: Sweep) -> str:
    """Return everything, a line for each point; :meth:`Sweep.model_validate_json` reads it."""
    content = found.model_dump(mode="json")
    points = ",\n".join(json.dumps(point, ensure_ascii=False) for point in content.pop("points"))
    rest = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items())
    return f'{{\n{rest},\n"points": [\n{points}\n]\n}}\n'


def write_all(found: Sweep, folder: Path) -> None:
    """Write ``sweep.json``, ``.csv`` and ``.md`` into a folder."""
    for suffix, text in ((".json", to_json(found)), (".csv", to_csv(found)), (".md", to_markdown(found))):
        _write(folder / f"{NAME}{suffix}", text)


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))
