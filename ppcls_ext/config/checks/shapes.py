"""Shapes: what the operators hand to the model, what the model takes, and what an export is given."""

from __future__ import annotations

from typing import Optional

from ppcls_ext.config.report import Report
from ppcls_ext.data.build import DATASETS
from ppcls_ext.data.preprocess import ImageShape, check_transform_ops, shapes_after
from ppcls_ext.factory import is_ours


def check_shapes(report: Report) -> None:
    """Check the channels and sizes that leave the operators against ``Arch.in_channels`` and ``Global.image_shape``."""
    arguments = report.config.Arch.kwargs()
    expected = arguments.get("in_channels", 3 if is_ours(report.config.Arch.name) else None)
    shapes = _shapes(report)
    if expected is not None:
        for key, shape in shapes.items():
            if shape.channels != expected:
                place = "Arch.in_channels" if "in_channels" in arguments else key
                report.wrong(
                    place,
                    f"the operators of {key} give images with {shape.channels} channels, but "
                    f"{report.config.Arch.name} takes {expected} (Arch.in_channels)",
                )
                return
    for key, shape in shapes.items():
        batch_size = report.config.section(f"{key.partition('.dataset')[0]}.sampler.batch_size")
        if not shape.is_known and key.startswith("DataLoader") and batch_size != 1:
            report.warn(
                key, f"gives images {shape}; a batch needs one size: end with CropImage, or ResizeImage with size"
            )
    settings = report.config.Global
    if "image_shape" not in settings.model_fields_set or len(settings.image_shape) != 3:
        return
    channels, height, width = settings.image_shape
    if expected is not None and channels != expected:
        report.wrong(
            "Global.image_shape",
            f"got {list(settings.image_shape)}; expected [channels, height, width] with the {expected} channels that "
            f"{report.config.Arch.name} takes (Arch.in_channels)",
        )
        return
    for key, shape in shapes.items():
        if "Eval" in key and shape.is_known and (shape.width, shape.height) != (width, height):
            report.warn(
                "Global.image_shape",
                f"is {width}x{height} (width x height), but the operators of {key} give {shape.width}x{shape.height}",
            )


def _shapes(report: Report) -> dict[str, ImageShape]:
    """Return the shape that leaves each list of operators that the mode uses, where it is without a mistake."""
    shapes = {}
    for split, is_used in (("Train", report.mode == "train"), ("Eval", report.mode in ("train", "eval", "export"))):
        dataset = report.config.section(f"DataLoader.{split}.dataset")
        if dataset is not None and is_used:
            size = DATASETS[dataset["name"]].image_size if dataset["name"] in DATASETS else None
            shapes[f"DataLoader.{split}.dataset.transform_ops"] = _last(dataset.get("transform_ops"), size)
    if report.config.Infer is not None and report.mode in ("infer", "export"):
        shapes["Infer.transforms"] = _last(report.config.Infer.transforms)
    return {key: shape for key, shape in shapes.items() if shape is not None}


def _last(operators: Optional[list], size: Optional[tuple[int, int]] = None) -> Optional[ImageShape]:
    if not operators or check_transform_ops(operators, size=size):
        return None
    return shapes_after(operators, size)[-1]
