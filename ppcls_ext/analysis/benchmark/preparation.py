"""What is found out about a backbone before it is measured, in a process of its own: its cost, and its export."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Optional

import paddle
import yaml

from ppcls_ext.analysis.benchmark.results import Case
from ppcls_ext.analysis.benchmark.worker import reason
from ppcls_ext.analysis.macs import count_macs
from ppcls_ext.config import load_config
from ppcls_ext.engine.deploy.exporter import export
from ppcls_ext.engine.deploy.inference_yml import FILE_NAME, InferenceConfig
from ppcls_ext.factory import create_backbone

logger = logging.getLogger("ppcls_ext")


class Preparation:
    """A subject whose ``open`` is all that is wanted of it.

    Args:
        case: names the backbone.
        options: ``name`` that :func:`~ppcls_ext.factory.create_backbone` takes; ``arch`` that a YAML file would name;
            ``sizes``, a list of ``[height, width]``; ``formats`` of :mod:`ppcls_ext.engine.deploy.exporter`; the
            ``folder`` to export into; ``transforms``, the preprocessing at each size.
    """

    def __init__(self, case: Case, options: dict):
        self.options = options

    def open(self) -> dict:
        """Return ``params``, ``macs`` at each size, and folders and errors of the exports by format and size."""
        paddle.set_device("cpu")
        model = create_backbone(self.options["name"])
        params = sum(int(parameter.size) for parameter in model.parameters() if not parameter.stop_gradient)
        macs = [_macs(model, size) for size in self.options["sizes"]]
        exports = {format: self._exports(format) for format in self.options["formats"]}
        return {"params": params, "macs": macs, "exports": exports}

    def run(self) -> None:
        """Do nothing."""

    def _exports(self, format: str) -> list[dict]:
        """Return ``{"folder": …}`` or ``{"error": …}`` for each size; one graph serves all sizes that it can."""
        made: list[tuple] = []  # (folder, size, any size)
        results: list[dict] = []
        for number, (height, width) in enumerate(self.options["sizes"]):
            folder = next((folder for folder, size, any_size in made if any_size or size == (height, width)), None)
            if folder is None:
                folder = Path(self.options["folder"]) / f"{format}_{height}x{width}"
                try:
                    self._export(format, height, width, self.options["transforms"][number], folder)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason in the rows
                    results.append({"error": f"the export as {format} failed: {reason(error)}"})
                    continue
                dynamic = InferenceConfig.load(folder / FILE_NAME).facts["dynamic"]
                made.append((folder, (height, width), "height" in dynamic))
            results.append({"folder": str(folder)})
        return results

    def _export(self, format: str, height: int, width: int, transforms: list, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            content = {
                "Global": {
                    "image_shape": [3, height, width],
                    "device": "cpu",
                    "output_dir": scratch,
                    "save_inference_dir": str(folder),
                },
                "Arch": {"name": self.options["arch"], "infer_add_softmax": False},
                "Infer": {"transforms": transforms, "PostProcess": {"name": "Topk", "topk": 5}},
            }
            path = Path(scratch) / "config.yaml"
            path.write_text(yaml.safe_dump(content), encoding="utf-8")
            export(load_config(path, mode="export"), format, random_weights=True)


def _macs(model: paddle.nn.Layer, size: list) -> Optional[int]:
    try:
        return sum(count_macs(model, [3, *size]).values())
    except Exception as error:  # noqa: BLE001 - the row that runs at this size gives the reason, if it is one
        logger.warning("multiply-adds at %s are not known: %s", "x".join(map(str, size)), reason(error))
        return None
