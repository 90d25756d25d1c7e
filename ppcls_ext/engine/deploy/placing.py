"""Files of a new export take the places of an old one's."""

from __future__ import annotations

import os
from pathlib import Path

from ppcls_ext.engine.deploy.engines.graphs import PADDLE_SUFFIXES, PREFIX
from ppcls_ext.engine.deploy.inference_yml import FILE_NAME
from ppcls_ext.engine.deploy.triton import remove_repositories
from ppcls_ext.utils.files import flush

#: What quantising came to; it belongs to the graph beside it.
REPORT_FILE = "quantization.json"


def move_into_place(aside: Path, folder: Path) -> None:
    """Exchange the files of the old export for the new ones.

    Not one step, but at every instant the folder holds one export or none: a reader needs ``inference.yml`` and the
    graph, which go first and come last. Both formats name their weights alike, so an old graph of the other format
    would be wrong beside the new weights.
    """
    new = sorted(aside.iterdir(), key=lambda path: (path.name == FILE_NAME, path.suffix in (*PADDLE_SUFFIXES, ".onnx")))
    for path in aside.rglob("*"):
        if path.is_file():
            flush(path)
    weights = (".pdiparams.info", ".pdiparams", ".onnx.data")
    old = [FILE_NAME, REPORT_FILE, *(PREFIX + suffix for suffix in (*PADDLE_SUFFIXES, ".onnx", *weights))]
    for name in old:
        (folder / name).unlink(missing_ok=True)
    remove_repositories(folder)
    for path in new:
        os.replace(path, folder / path.name)
