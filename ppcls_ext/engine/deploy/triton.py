"""A model repository for NVIDIA's Triton Inference Server: ``<name>/config.pbtxt`` and ``<name>/1/model.onnx``.

The fields are those of ``ModelConfig`` in Triton's ``model_config.proto``. Triton runs the ONNX graph in ONNX Runtime;
decoding, resizing and normalising are the client's task, as ``inference.yml`` describes them.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Iterable, Sequence, Union

from ppcls_ext.engine.deploy.errors import ExportError

CONFIG_FILE, LABELS_FILE, VERSION = "config.pbtxt", "labels.txt", "1"
#: Begins the file, by which an earlier repository is known.
MARK = "# Written by ppcls_ext; "
#: The most images a batch, and how long Triton waits for others to fill it. Both may be edited in the file.
MAX_BATCH_SIZE, MAX_DELAY_MICROSECONDS = 32, 3000
_TYPES = {"FLOAT": "TYPE_FP32", "UINT8": "TYPE_UINT8"}


def check_place(folder: Path, name: str) -> None:
    """Check that ``folder / name`` can be the repository of a model.

    Raises:
        ExportError: the name cannot be that of a folder, or something else is there.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ExportError(
            f"the model name {name!r} cannot be a folder of a model repository; set Global.pdx_model_name"
        )
    target = folder / name
    if target.exists() and not _is_ours(target):
        raise ExportError(f"{target} is in the way of the model repository; move it, or set Global.pdx_model_name")


def _is_ours(target: Path) -> bool:
    config = target / CONFIG_FILE
    return config.is_file() and config.read_bytes().startswith(MARK.encode())


def write_repository(folder: Path, name: str, graph: Path, labels: Sequence[str]) -> Path:
    """Write the repository of one model.

    Args:
        folder: in which ``<name>`` is made, see :func:`check_place`.
        name: of the model.
        graph: an ONNX file, with what belongs to it beside it.
        labels: names of the classes, in the order of their ids.

    Returns:
        ``folder / name``.
    """
    target = folder / name
    (target / VERSION).mkdir(parents=True)
    shutil.copyfile(graph, target / VERSION / "model.onnx")
    for data in graph.parent.glob(f"{graph.name}.*"):  # its weights, if they are too many for one file, by their name
        shutil.copyfile(data, target / VERSION / data.name)
    (target / CONFIG_FILE).write_text(config_text(name, graph), encoding="utf-8")
    lines = "".join(f"{' '.join(label.split())}\n" for label in labels)
    (target / LABELS_FILE).write_text(lines, encoding="utf-8")
    return target


def remove_repositories(folder: Path) -> None:
    """Remove what :func:`write_repository` has written into ``folder``."""
    for config in folder.glob(f"*/{CONFIG_FILE}"):
        if _is_ours(config.parent):
            shutil.rmtree(config.parent)


def config_text(name: str, graph: Path) -> str:
    """Return ``config.pbtxt`` for an ONNX file whose first axis is the batch."""
    import onnx

    model = onnx.load(str(graph), load_external_data=False).graph
    (given,) = model.input
    layout = "FORMAT_NHWC" if _type_of(given) == "TYPE_UINT8" else "FORMAT_NCHW"
    inputs = [_tensor(given, [f"format: {layout}"])]
    # The scores come first; Triton's classification extension names them.
    outputs = [
        _tensor(output, [f'label_filename: "{LABELS_FILE}"'] if index == 0 else [])
        for index, output in enumerate(model.output)
    ]
    return (
        f"{MARK}ONNX Runtime runs {VERSION}/model.onnx\n"
        f'name: "{name}"\n'
        'backend: "onnxruntime"\n'
        f"max_batch_size: {MAX_BATCH_SIZE}\n"
        f"{_list('input', inputs)}"
        f"{_list('output', outputs)}"
        f"dynamic_batching {{ max_queue_delay_microseconds: {MAX_DELAY_MICROSECONDS} }}\n"
    )


def _list(field: str, messages: Iterable[str]) -> str:
    return f"{field} [\n" + ",\n".join(messages) + "\n]\n"


def _tensor(info, more: Sequence[str]) -> str:
    """Return a ``ModelInput`` or ``ModelOutput``: the axes after the batch, -1 where a size is open."""
    lines = [f'name: "{info.name}"', f"data_type: {_type_of(info)}", *more, f"dims: {_dims(info)}"]
    return "  {\n" + "".join(f"    {line}\n" for line in lines) + "  }"


def _type_of(info) -> str:
    import onnx

    return _TYPES[onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type)]


def _dims(info) -> list[Union[int, str]]:
    return [axis.dim_value or -1 for axis in info.type.tensor_type.shape.dim][1:]
