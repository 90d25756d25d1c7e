"""ImageNet-C: a model on images with 15 corruptions at 5 severities, and its mean corruption error.

The published archives (noise, blur, weather and digital ``.tar`` of zenodo.org/record/2235448) unpack to
``<corruption>/<severity>/<WordNet id>/<image>``, with or without a folder of the archive's name above.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Optional

from ppcls_ext.config import Config
from ppcls_ext.data import LabelFileError
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.evaluator import EvaluationOptions, Evaluator
from ppcls_ext.engine.logger import log_config, start_logging
from ppcls_ext.engine.model import load_trained
from ppcls_ext.engine.precision import Precision
from ppcls_ext.metrics.corruption import ALEXNET_ERRORS, SEVERITIES, CorruptionErrors, corruption_errors
from ppcls_ext.utils.files import write_atomically
from ppcls_ext.utils.tables import write_table

logger = logging.getLogger("ppcls_ext")

ARCHIVES = ("", "noise", "blur", "weather", "digital")
SOURCE = "https://zenodo.org/record/2235448"


def find_corruptions(root: Path) -> dict[tuple[str, int], Path]:
    """Return the folder of each (corruption, severity).

    Raises:
        FileNotFoundError: naming the first that is missing; a mean over a part of them is no mCE.
    """
    found = {}
    for name in ALEXNET_ERRORS:
        for severity in SEVERITIES:
            places = [root / archive / name / str(severity) for archive in ARCHIVES]
            place = next((place for place in places if place.is_dir()), None)
            if place is None:
                raise FileNotFoundError(
                    f"{places[0]} is not there; mCE needs {len(ALEXNET_ERRORS)} corruptions at severities 1 to "
                    f"{max(SEVERITIES)}, the archives noise, blur, weather and digital of {SOURCE}"
                )
            found[name, severity] = place
    return found


def evaluate_imagenet_c(
    cfg: Config, root: Path, random_weights: bool = False, classes: Optional[Path] = None
) -> CorruptionErrors:
    """Evaluate on ImageNet-C, with the operators of ``DataLoader.Eval``.

    Writes ``imagenet_c.csv`` and ``imagenet_c.json`` into ``Global.output_dir``. Class folders are numbered by
    ``class_id_map_file`` of ``DataLoader.Eval.dataset``, else, with 1000 classes, as ImageNet's, else as in training.

    Args:
        cfg: the validated config of mode "eval"; ``Global.pretrained_model`` names the weights.
        root: folder of the corruptions.
        random_weights: accept a config that names no weights.
        classes: see :class:`EvaluationOptions`.

    Raises:
        FileNotFoundError: if a corruption is missing.
        MissingWeightsError: see :func:`ppcls_ext.engine.evaluator.evaluate`.
        LabelFileError: if class folders are not known, or there is no ``TopkAcc`` with k = 1.
    """
    session = Session(cfg.Global.device)
    output_dir = Path(cfg.Global.output_dir)
    start_logging(session.is_main, output_dir / "eval.log")
    log_config(cfg)
    folders = find_corruptions(root)
    if not any(1 in item.get("TopkAcc", {}).get("topk", []) for item in cfg.section("Metric.Eval") or []):
        raise LabelFileError("Metric.Eval: mCE is made of top-1 errors; expected TopkAcc with topk: [1]")
    options = EvaluationOptions(classes=classes)
    model = load_trained(cfg, "evaluated", random_weights)
    errors = {}
    for (name, severity), folder in folders.items():
        logger.info("[Eval] %s, severity %d", name, severity)
        evaluator = Evaluator(cfg, session, Precision.from_config(cfg), options, _dataset(cfg, folder))
        errors[name, severity] = 1 - evaluator.run(model)["top1"]
        evaluator.loader.close()
    result = corruption_errors(errors)
    logger.info("[Eval] mCE: %.2f", 100 * result.mce)
    if session.is_main:
        _write(output_dir, errors, result)
    return result


def _dataset(cfg: Config, folder: Path) -> dict:
    """Return what ``DataLoader.Eval.dataset`` is here; keys of other datasets are taken out by None."""
    section = cfg.section("DataLoader.Eval.dataset")
    names = section.get("class_id_map_file") or ("imagenet1k_wnids" if cfg.Arch.class_num == 1000 else None)
    dataset = {"name": "ImageFolder", "image_root": str(folder), "class_id_map_file": names}
    return {**dict.fromkeys(set(section) - {"transform_ops"}), **dataset}


def _write(folder: Path, errors: dict, result: CorruptionErrors) -> None:
    rows: list[list] = [["corruption", *(f"error_{severity}" for severity in SEVERITIES), "mean_error", "ce"]]
    for name, mean in result.errors.items():
        cells = [*(errors[name, severity] for severity in SEVERITIES), mean, result.normalised[name]]
        rows.append([name, *(f"{cell:.6f}" for cell in cells)])
    table = write_table(folder / "imagenet_c.csv", rows)
    path = folder / "imagenet_c.json"
    write_atomically(path, lambda aside: aside.write_text(json.dumps(asdict(result), indent=1), encoding="utf-8"))
    logger.info("[Eval] errors: %s, %s", table, path)
