"""What the scripts that make golden files share: their arguments, comparisons, gradients, draws and files (PyTorch)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Iterable, Sequence

import numpy as np
import rule
import torch


def parse(doc: str, folder: str, **checkouts: str) -> argparse.Namespace:
    """Read the command line, and make the folder to write to.

    Args:
        doc: The script's docstring.
        folder: Name of the golden folder, the default of ``--out``.
        **checkouts: Options that take a checkout, and the repository of each.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    for option, repository in checkouts.items():
        parser.add_argument(
            f"--{option.replace('_', '-')}", type=Path, required=True, help=f"a checkout of {repository}"
        )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / folder)
    parser.add_argument("--only", help="one of the backbones (default: all)")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    arguments.out.mkdir(parents=True, exist_ok=True)
    return arguments


def agree(name: str, ours: Sequence, others: Sequence, whose: str, limit: float = 2e-5) -> str:
    """Compare logits and features of two references, and return a remark for the log.

    Args:
        name: Our name of the backbone.
        ours: Logits and features of the one that is written.
        others: Those of the other.
        whose: Name of the other.
        limit: Greatest difference.

    Raises:
        SystemExit: if they differ by more.
    """
    gaps = [(a - b).abs().max().item() for a, b in zip([ours[0], *ours[1]], [others[0], *others[1]])]
    if max(gaps) > limit:
        raise SystemExit(f"{name}: the official model and {whose} differ by {gaps}")
    return f", differs from {whose} by {max(gaps):.1e} at most"


def gradients(logits: torch.Tensor, parameters: dict) -> np.ndarray:
    """Run backward from the logits weighted by the rule; return one row per parameter, by sorted name."""
    (logits * torch.from_numpy(rule.unit(rule.LOSS, tuple(logits.shape)))).sum().backward()
    return np.stack([rule.gradient_summary(parameters[name].grad.numpy()) for name in sorted(parameters)])


def draws(parameters: Iterable[tuple]) -> dict:
    """Return up to 300 initial values of each kind and width of ``(kind, parameter)``."""
    found: dict = {}
    for kind, parameter in parameters:
        width = parameter.shape[1:].numel() if parameter.ndim > 1 else parameter.numel()
        found.setdefault(f"{kind} {width}", []).append(parameter.detach().numpy().reshape(-1))
    return {kind: rule.sample(np.concatenate(values), 300) for kind, values in found.items()}


def write_golden(
    out: Path, name: str, logits: torch.Tensor, features: Sequence[torch.Tensor], remark: str = "", **more
) -> None:
    """Write ``<out>/<name>.npz``: the logits, a summary of each stage's features, and ``more``."""
    stages = {f"stage {i}": rule.summary(map_.detach().numpy()) for i, map_ in enumerate(features)}
    np.savez_compressed(out / f"{name}.npz", logits=logits.detach().numpy(), **stages, **more)
    print(f"{name}: logits of deviation {logits.std().item():.2f}{remark}", flush=True)
