"""Print the documentation's table of a family: ``python -m ppcls_ext.analysis.model_table Sequencer``.

Every figure comes from the registry; a test compares the model pages with what this prints.
"""

from __future__ import annotations

import argparse
from typing import Optional, Sequence

from ppcls_ext import registry

HEADER = "| Models | Size | Top1 | Top5 | MACs<br>(G) | Params<br>(M) | Weights |"


def model_table(family: str) -> str:
    """Return a Markdown table, one row per backbone of ``family``, in registry order.

    Raises:
        KeyError: with the known families, if there is none of that name.
    """
    specs = [spec for spec in registry.specs() if spec.family == family]
    if not specs:
        families = sorted({spec.family for spec in registry.specs()})
        raise KeyError(f"unknown family {family!r}; there are {', '.join(families)}")
    return "\n".join([HEADER, "|" + " :--: |" * (HEADER.count("|") - 1), *map(_row, specs)])


def _row(spec: registry.BackboneSpec) -> str:
    accuracy = spec.accuracy
    top1 = f"{accuracy.top1 / 100:.4f}" if accuracy else "-"
    top5 = f"{accuracy.top5 / 100:.4f}" if accuracy and accuracy.top5 else "-"
    links = "<br>".join(map(_link, spec.weights)) or "-"
    size = spec.preprocessing.input_size[1]
    return f"| {spec.name} | {size} | {top1} | {top5} | {spec.macs / 1e9:.2f} | {spec.params / 1e6:.2f} | {links} |"


def _link(weights: registry.Weights) -> str:
    """Return a link to published weights, with their accuracy where it is not that of the row."""
    kind = f"{weights.source}, SSLD" if weights.ssld else weights.source
    top1 = f": {weights.accuracy.top1 / 100:.4f}" if weights.accuracy else ""
    return f"[{kind}{top1}]({weights.url})"


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Print the table of the family named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", help="for example Sequencer")
    print(model_table(parser.parse_args(argv).family))


if __name__ == "__main__":
    main()
