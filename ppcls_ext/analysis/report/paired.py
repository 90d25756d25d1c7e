"""The report of two models on the same images: do they agree, and which images changed?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ppcls_ext.analysis.drawing import require_matplotlib, short
from ppcls_ext.analysis.report.comparison import aligned, compare
from ppcls_ext.analysis.report.options import ReportOptions, percent, write_json
from ppcls_ext.analysis.report.page import Page
from ppcls_ext.analysis.report.pictures import Line, Shown, save_grid
from ppcls_ext.analysis.report.scored import scored
from ppcls_ext.analysis.report.thumbnails import Thumbnails
from ppcls_ext.engine.predictions import UNKNOWN, Predictions
from ppcls_ext.metrics.agreement import Agreement
from ppcls_ext.utils.tables import write_table

#: How a change counts, and in which order the page shows it.
BROKEN, MENDED, OTHER, MOVED = "broken", "mended", "wrong in both", "changed"
_TITLES = {
    BROKEN: "Right before, wrong now",
    MENDED: "Wrong before, right now",
    OTHER: "Wrong in both, differently",
    MOVED: "Changed (no label)",
}


def report_pair(first: Path, second: Path, options: ReportOptions) -> dict:
    """Write the comparison of two files of predictions into ``options.output``.

    Files: ``index.html`` (the page, by itself), ``comparison.json``, ``changed.csv`` and ``changed.png``.

    Args:
        first: of one model, such as the float32 one.
        second: of the other, such as its int8 form.
        options: what is asked for.

    Returns:
        What ``comparison.json`` holds.

    Raises:
        FileNotFoundError, PredictionsFileError, LabelFileError: if a file cannot be read.
        ReportError: if the files are not of the same images, labels and classes.
        DrawingError: if matplotlib is missing.
    """
    require_matplotlib()
    paths = (first, second)
    both = aligned(options.read(first), options.read(second), paths)
    real = options.real_labels()
    classes = options.subset(both[0])
    if classes is not None:
        one, other = (scored(item, path, classes).predictions for item, path in zip(both, paths))
        both = one, other
    agreement = compare(*both, real)
    thumbnails = Thumbnails(options.image_root)
    options.output.mkdir(parents=True, exist_ok=True)
    page = Page(f"Comparison: {_title(first, both[0])} and {_title(second, both[1])}")
    _write_overview(page, paths, agreement)
    changes = _changes(*both)
    _write_changes(page, options, both, changes, thumbnails)
    if thumbnails.failures:
        file, reason = next(iter(thumbnails.failures.items()))
        page.note(f"{len(thumbnails.failures)} images could not be shown, the first: {file}: {reason}")
    kinds = [kind for _, kind in changes]
    summary = {
        "predictions": [str(first), str(second)],
        "source": [item.header.source for item in both],
        **agreement.to_dict(),
        "changed": {kind: kinds.count(kind) for kind in _TITLES if kind in kinds},
        "not_shown": thumbnails.failures,
    }
    write_json(options.output / "comparison.json", summary)
    page.write(options.output / "index.html")
    return summary


def _title(path: Path, predictions: Predictions) -> str:
    model = predictions.header.source.get("model")
    return f"{model} ({path.name})" if model else path.name


def _write_overview(page: Page, paths: tuple[Path, Path], agreement: Agreement) -> None:
    rows = [("images", f"{agreement.samples:,}"), ("same class from both", percent(agreement.agreement))]
    if agreement.accuracy is None or agreement.difference is None or agreement.mcnemar is None:
        page.table(("figure", "value"), rows, numbers=(1,))
        page.note("Labels are not known, so the predictions are compared with each other alone.")
        return
    test, difference = agreement.mcnemar, agreement.difference
    rows += [(f"accuracy of {path}", percent(value)) for path, value in zip(paths, agreement.accuracy)]
    bounds = f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
    rows += [
        ("difference, in points", f"{100 * difference.value:+.2f}"),
        (f"its {difference.level:.0%} confidence interval", bounds),
        ("both right", f"{agreement.both_right:,}"),
        ("the first alone right", f"{test.only_first:,}"),
        ("the second alone right", f"{test.only_second:,}"),
        ("both wrong", f"{agreement.both_wrong:,}"),
        (f"McNemar's test ({'exact' if test.exact else 'chi-squared'}), p", f"{test.p_value:.4g}"),
    ]
    page.table(("figure", "value"), rows, numbers=(1,))
    page.note(
        "p is the probability of a difference at least as large, if both models err equally often. A large p is no "
        "proof that they do; the confidence interval tells which differences are still possible."
    )


def _changes(first: Predictions, second: Predictions) -> list[tuple[int, str]]:
    """Return (image, kind) of each image that the two predict differently, by kind."""
    before, now = first.ranked(1)[:, 0], second.ranked(1)[:, 0]
    labels = np.where(first.labels == UNKNOWN, second.labels, first.labels)
    found = []
    for row in np.flatnonzero(before != now):
        kind = OTHER
        if labels[row] == UNKNOWN:
            kind = MOVED
        elif before[row] == labels[row]:
            kind = BROKEN
        elif now[row] == labels[row]:
            kind = MENDED
        found.append((int(row), kind))
    order = list(_TITLES)
    return sorted(found, key=lambda change: (order.index(change[1]), change[0]))


def _write_changes(
    page: Page,
    options: ReportOptions,
    both: tuple[Predictions, ...],
    changes: list[tuple[int, str]],
    thumbnails: Thumbnails,
) -> None:
    names = both[0].header.class_names or both[1].header.class_names
    first, second = both

    def name(class_id: int) -> str:
        return "" if class_id == UNKNOWN else (str(class_id) if names is None else names[class_id])

    predicted = [item.ranked(1)[:, 0] for item in both]
    confidence = [item.confidence() for item in both]
    table: list = [
        ("file", "change", "label_id", "label", "first_id", "first", "first_confidence")
        + ("second_id", "second", "second_confidence")
    ]
    for row, kind in changes:
        label = int(max(first.labels[row], second.labels[row]))
        cells: list = [first.files[row], kind, "" if label == UNKNOWN else label, name(label)]
        for ids, scores in zip(predicted, confidence):
            cells += [int(ids[row]), name(int(ids[row])), f"{scores[row]:.6f}"]
        table.append(cells)
    write_table(options.output / "changed.csv", table)
    page.heading("Changed images")
    if not changes:
        page.note("Both models predict the same class for each image.")
        (options.output / "changed.png").unlink(missing_ok=True)  # of an earlier report
        return
    on_grid: list[Shown] = []
    for kind, title in _TITLES.items():
        rows = [row for row, found in changes if found == kind]
        if not rows:
            continue
        on_page = []
        for row in rows[: options.images]:
            label = int(max(first.labels[row], second.labels[row]))
            words = [name(int(ids[row])) for ids in predicted]
            right = {BROKEN: False, MENDED: True}.get(kind)
            thumbnail = thumbnails.of(first.files[row])
            truth = [name(label)] if label != UNKNOWN else []
            on_page.append((thumbnail, first.files[row], [*truth, " → ".join(words)], right))
            lines = [Line(f"label {short(name(label))}", f"label {label}")] if truth else []
            lines += [
                Line(f"{sign} {short(word)}", f"{sign} class {ids[row]}")
                for sign, word, ids in zip(("1:", "2:"), words, predicted)
            ]
            on_grid.append(Shown(thumbnail, tuple(lines), right))
        shown = f", the first {len(on_page)} of them" if len(on_page) < len(rows) else ""
        page.note(f"{title}: {len(rows)} images{shown}.")
        page.images(on_page)
    save_grid(options.output / "changed.png", on_grid[: options.images])
