"""Write small files with PyTorch's own ``torch.save``, for the tests of the reader, which needs no PyTorch.

    python tests/golden/make_torch_files.py

needs PyTorch (extra ``parity``). Each object is written in the zip format and in the one before it; ``values.npz``
holds what PyTorch itself reads back.
"""

from __future__ import annotations

import argparse
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "torch"
DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int16", "int32", "int64", "bool", "complex64")


def tensors() -> dict:
    """Return tensors of every type, and every kind of view."""
    base = torch.arange(24.0).reshape(2, 3, 4) - 7
    found = {name: base.to(getattr(torch, name)) for name in DTYPES}
    found["uint16"] = (base + 7).to(torch.uint16)  # a type of later PyTorch, saved in an untyped storage
    found.update(
        {
            "whole": base,
            "permuted": base.permute(2, 0, 1),
            "slice": base[1, :, 1:3],
            "strided": base.reshape(-1)[3::5],
            "same again": base,
            "scalar": torch.tensor(2.5),
            "one": torch.tensor([True]),
            "empty": torch.zeros(0, 3),
            "expanded": torch.ones(1).expand(3, 4),
            "parameter": torch.nn.Parameter(base[0].clone()),
        }
    )
    with_attribute = torch.nn.Parameter(torch.ones(3))
    with_attribute.note = "a Python attribute"
    found["with attribute"] = with_attribute
    return found


def checkpoint() -> dict:
    """Return what a training script saves: weights and all that goes with a run."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    averaged = {f"module.{key}": value + 1 for key, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 1, 4, 4)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "model_ema": averaged,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2]).state_dict(),
        "epoch": 3,
        "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(lr=0.1, output=Path("run"), milestones=Counter([1])),
        "max_accuracy": np.float64(71.5),
        "rng": torch.get_rng_state()[:16].clone(),
        "device": torch.device("cpu"),
        "shape": torch.Size([2, 3]),
        "dtype": torch.float32,
    }


def label_map() -> torch.Tensor:
    """Return scores and classes ``[2, 5, 3, 4]`` as generate_label.py of zihangJiang/TokenLabeling makes them."""
    scores = ((torch.arange(60) * 7 % 61) / 4).reshape(3, 4, 5).half()
    classes = (torch.arange(60) * 13 % 1000).reshape(3, 4, 5).half()
    return torch.stack([scores, classes]).permute(0, 3, 1, 2)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, made in (("tensors", tensors()), ("checkpoint", checkpoint()), ("label_map", label_map())):
        torch.save(made, FOLDER / f"{name}.zip.pth")
        torch.save(made, FOLDER / f"{name}.legacy.pth", _use_new_zipfile_serialization=False)
    torch.serialization.set_crc32_options(False)
    torch.save({"w": torch.arange(3.0)}, FOLDER / "no_checksum.zip.pth")
    torch.save(torch.nn.Linear(2, 2), FOLDER / "whole_model.zip.pth")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(FOLDER / "torchscript.pt"))
    values = {}
    for name, tensor in torch.load(FOLDER / "tensors.zip.pth", weights_only=False).items():
        tensor = tensor.detach()
        values[name] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    np.savez(FOLDER / "values.npz", **values)
    for file in sorted(FOLDER.iterdir()):
        print(f"{file.name}: {file.stat().st_size} bytes{', zip' if zipfile.is_zipfile(file) else ''}")


if __name__ == "__main__":
    main()
