"""The report of one model: its figures, its pictures, its mistakes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Optional

import numpy as np

from ppcls_ext.analysis.drawing import require_matplotlib, short
from ppcls_ext.analysis.report.calibration import Calibration, calibrate
from ppcls_ext.analysis.report.corruptions import corruption_report
from ppcls_ext.analysis.report.figures import Figures, compute_figures, real_accuracy
from ppcls_ext.analysis.report.options import ReportOptions, percent, write_json
from ppcls_ext.analysis.report.page import Page
from ppcls_ext.analysis.report.pictures import (
    Line,
    Shown,
    save_confusion_matrix,
    save_grid,
    save_reliability,
)
from ppcls_ext.analysis.report.scored import Scored, scored
from ppcls_ext.analysis.report.thumbnails import Thumbnails
from ppcls_ext.metrics.corruption import CorruptionErrors
from ppcls_ext.utils.tables import write_table

#: Images of each confused pair that the page shows.
SHOWN_PER_PAIR = 12


def report(path: Path, options: ReportOptions) -> dict:
    """Write the report of a file of predictions into ``options.output``.

    Files: ``index.html`` (the page, by itself), ``report.json``, ``per_class.csv``, ``confusion_matrix.csv`` and
    ``.png``, ``confusions.csv``, ``calibration.csv`` and ``.png``, ``worst.csv`` and ``.png``, ``least_certain.csv``
    and ``.png``, ``images.csv``.

    Args:
        path: the file.
        options: what is asked for.

    Returns:
        What ``report.json`` holds; ``not_shown`` is the number of images that could not be shown.

    Raises:
        FileNotFoundError, PredictionsFileError, LabelFileError: if a file cannot be read.
        ReportError: if no report can be made of it.
        DrawingError: if matplotlib is missing.
    """
    require_matplotlib()
    predictions = options.read(path)
    real = options.real_labels()
    images = scored(predictions, path, options.subset(predictions))
    thumbnails = Thumbnails(options.image_root)
    figures, calibration = compute_figures(images), calibrate(images)
    reassessed = None if real is None else real_accuracy(images, real)
    corruptions = corruption_report(images, path) if options.imagenet_c else None
    options.output.mkdir(parents=True, exist_ok=True)
    summary = _summary(path, images, figures, calibration, reassessed, corruptions)
    page = Page(f"Report: {_model(path, images)}")
    _write_overview(page, images, figures, calibration, reassessed, corruptions)
    _write_classes(page, options, figures)
    _write_confusions(page, options, images, figures, thumbnails)
    _write_calibration(page, options, calibration)
    _write_extremes(page, options, images, thumbnails)
    _write_images(options, images)
    failures = thumbnails.failures
    if failures:
        file, reason = next(iter(failures.items()))
        page.note(f"{len(failures)} images could not be shown, the first: {file}: {reason}")
    summary["not_shown"] = failures
    write_json(options.output / "report.json", summary)
    page.write(options.output / "index.html")
    return summary


def _model(path: Path, images: Scored) -> str:
    source = images.predictions.header.source
    return str(source.get("model") or path.stem)


def _summary(
    path: Path,
    images: Scored,
    figures: Figures,
    calibration: Calibration,
    reassessed: Optional[dict],
    corruptions: Optional[CorruptionErrors],
) -> dict:
    content = {
        "predictions": str(path),
        "source": images.predictions.header.source,
        "samples": figures.samples,
        "classes": len(images.classes),
        "left_out": images.left_out,
        "top1": figures.top1,
        "top5": figures.top5,
        "real": reassessed,
        "imagenet_c": None if corruptions is None else asdict(corruptions),
        "averages": figures.averages,
        "calibration": asdict(calibration),
        "per_class": [asdict(row) for row in figures.per_class],
        "confusions": [asdict(pair) for pair in figures.confusions],
    }
    return {name: value for name, value in content.items() if value is not None}


def _write_overview(
    page: Page,
    images: Scored,
    figures: Figures,
    calibration: Calibration,
    reassessed: Optional[dict],
    corruptions: Optional[CorruptionErrors],
) -> None:
    source = images.predictions.header.source
    page.note(", ".join(f"{name}: {value}" for name, value in source.items() if value) or "source unknown")
    rows = [("images", f"{figures.samples:,}"), ("top-1 accuracy", percent(figures.top1))]
    if figures.top5 is not None:
        rows.append(("top-5 accuracy", percent(figures.top5)))
    if reassessed is not None:
        rows.append((f"top-1 by reassessed labels ({reassessed['samples']:,} images)", percent(reassessed["top1"])))
    if corruptions is not None:
        rows.append(("mean corruption error (mCE)", f"{100 * corruptions.mce:.2f}"))
    for average, values in figures.averages.items():
        rows += [(f"{name}, {average} average", percent(value)) for name, value in values.items()]
    rows.append(("expected calibration error", percent(calibration.ece)))
    page.table(("figure", "value"), rows, numbers=(1,))
    if images.left_out:
        page.note(f"{len(images.classes)} classes count; {images.left_out:,} images of others are left out.")
    if corruptions is not None:
        page.heading("Corruptions")
        page.table(
            ("corruption", "error", "CE"),
            [
                (name, percent(error), f"{100 * corruptions.normalised[name]:.1f}")
                for name, error in corruptions.errors.items()
            ],
            numbers=(1, 2),
        )


def _write_classes(page: Page, options: ReportOptions, figures: Figures) -> None:
    header = ("class_id", "class_name", "precision", "recall", "f1", "support")
    rows = [(row.class_id, row.name, row.precision, row.recall, row.f1, row.support) for row in figures.per_class]
    table = [[*row[:2], *(f"{share:.6f}" for share in row[2:5]), row[5]] for row in rows]
    write_table(options.output / "per_class.csv", [header, *table])
    page.heading("Classes")
    page.note(
        "Precision: share of the predictions of a class that are right. Recall: share of its images that are found."
    )
    shown = [[*row[:2], *(f"{share:.4f}" for share in row[2:5]), row[5]] for row in rows]
    page.table(("id", "class", "precision", "recall", "F1", "images"), shown, numbers=(0, 2, 3, 4, 5))


def _write_confusions(
    page: Page, options: ReportOptions, images: Scored, figures: Figures, thumbnails: Thumbnails
) -> None:
    names = [row.name for row in figures.per_class]
    write_table(
        options.output / "confusion_matrix.csv",
        [["label", *names], *([name, *row] for name, row in zip(names, figures.matrix.tolist()))],
    )
    picture = options.output / "confusion_matrix.png"
    save_confusion_matrix(picture, figures.matrix, names, [row.class_id for row in figures.per_class])
    header = ("label_id", "label", "predicted_id", "predicted", "images", "share_of_class")
    pairs = [
        (pair.truth, images.name(pair.truth), pair.predicted, images.name(pair.predicted), pair.count, pair.share)
        for pair in figures.confusions
    ]
    write_table(options.output / "confusions.csv", [header, *([*pair[:5], f"{pair[5]:.6f}"] for pair in pairs)])
    page.heading("Confusions")
    page.picture(picture, "confusion matrix: labels in rows, predictions in columns")
    shown = figures.confusions[: options.confusions]
    if not shown:
        page.note("Every image is predicted as its class.")
        return
    page.note(f"The {len(shown)} most frequent of {len(pairs)} confusions; the images of each open with a click.")
    for pair in shown:
        rows = np.flatnonzero((images.labels == pair.truth) & (images.predicted == pair.predicted))
        rows = rows[np.argsort(-images.confidence[rows], kind="stable")][:SHOWN_PER_PAIR]
        files = [images.predictions.files[row] for row in rows]
        page.images(
            [(thumbnails.of(file), file, (f"{images.confidence[row]:.3f}",), False) for file, row in zip(files, rows)],
            fold=f"{images.name(pair.truth)} → {images.name(pair.predicted)}: {pair.count} images, "
            f"{percent(pair.share, 1)} of the class",
        )


def _write_calibration(page: Page, options: ReportOptions, calibration: Calibration) -> None:
    rows = [
        [
            item.low,
            item.high,
            item.samples,
            *("" if mean is None else f"{mean:.6f}" for mean in (item.confidence, item.accuracy)),
        ]
        for item in calibration.bins
    ]
    table = [[f"{row[0]:.6f}", f"{row[1]:.6f}", *row[2:]] for row in rows]
    write_table(options.output / "calibration.csv", [("low", "high", "images", "confidence", "accuracy"), *table])
    picture = options.output / "calibration.png"
    save_reliability(picture, calibration.bins, calibration.ece)
    page.heading("Calibration")
    page.picture(picture, "reliability diagram: accuracy by confidence")
    if calibration.nll is None:
        page.note("The file holds the best classes alone, so there is no cross entropy and no best temperature.")
    elif calibration.temperature is None:
        page.note("No temperature is best for these images: the cross entropy falls up to the end of the range.")
    else:
        page.note("The best temperature is fitted to these very images; for use, fit it to images kept apart.")
        page.table(
            ("", "as it is", f"at the best temperature, {calibration.temperature:.3f}"),
            [
                ("expected calibration error", percent(calibration.ece), percent(calibration.ece_at_temperature)),
                ("cross entropy", f"{calibration.nll:.4f}", f"{calibration.nll_at_temperature:.4f}"),
            ],
            numbers=(1, 2),
        )


def _write_extremes(page: Page, options: ReportOptions, images: Scored, thumbnails: Thumbnails) -> None:
    if images.losses is not None:
        worst = np.argsort(-images.losses, kind="stable")
        what = "The images with the least probability of their label."
    else:
        wrong = np.flatnonzero(~images.right)
        worst = wrong[np.argsort(-images.confidence[wrong], kind="stable")]
        what = "The wrong predictions with the greatest confidence."
    least = np.argsort(images.confidence, kind="stable")
    for name, title, note, order in (
        ("worst", "Worst images", what, worst),
        ("least_certain", "Least certain images", "The images whose best class has the least probability.", least),
    ):
        rows = order[: options.images]
        _write_grid(page, options, images, thumbnails, (name, title, note), rows)


def _write_grid(
    page: Page,
    options: ReportOptions,
    images: Scored,
    thumbnails: Thumbnails,
    words: tuple[str, str, str],
    rows: np.ndarray,
) -> None:
    name, title, note = words
    page.heading(title)
    table: list = [_IMAGE_COLUMNS]
    if not len(rows):
        page.note("There is none.")
        write_table(options.output / f"{name}.csv", table)
        return
    page.note(note)
    shown, on_page = [], []
    for row in rows:
        file, right = images.predictions.files[row], bool(images.right[row])
        truth, predicted = images.name(int(images.labels[row])), images.name(int(images.predicted[row]))
        thumbnail, confidence = thumbnails.of(file), f"{images.confidence[row]:.3f}"
        lines = (
            Line(short(truth), f"class {images.labels[row]}"),
            Line(f"→ {short(predicted)}", f"→ class {images.predicted[row]}"),
            Line(confidence),
        )
        shown.append(Shown(thumbnail, lines, right))
        on_page.append((thumbnail, file, (truth, f"→ {predicted} {confidence}"), right))
        table.append(_image_row(images, int(row)))
    write_table(options.output / f"{name}.csv", table)
    save_grid(options.output / f"{name}.png", shown)
    page.images(on_page)


_IMAGE_COLUMNS = ("file", "label_id", "label", "predicted_id", "predicted", "confidence", "right", "cross_entropy")


def _image_row(images: Scored, row: int) -> tuple:
    label, predicted = int(images.labels[row]), int(images.predicted[row])
    loss = "" if images.losses is None else f"{images.losses[row]:.6f}"
    return (
        images.predictions.files[row],
        label,
        images.name(label),
        predicted,
        images.name(predicted),
        f"{images.confidence[row]:.6f}",
        int(images.right[row]),
        loss,
    )


def _write_images(options: ReportOptions, images: Scored) -> None:
    rows = (_image_row(images, row) for row in range(len(images.labels)))
    write_table(options.output / "images.csv", [_IMAGE_COLUMNS, *rows])
