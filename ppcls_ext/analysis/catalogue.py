"""Write ``ppcls_ext/catalogue.json``, from which ``list`` and ``info`` answer without Paddle.

    python -m ppcls_ext.analysis.catalogue

A test fails while the file differs from what the families say.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from ppcls_ext import registry


def catalogue() -> str:
    """Return the variants of all families as JSON, one variant a line."""
    rows = [variant for family in registry.families() for variant in family.variants]
    lines = [json.dumps(asdict(registry.get_spec(row.name)), ensure_ascii=False) for row in rows]
    return "[\n" + ",\n".join(lines) + "\n]\n"


if __name__ == "__main__":
    registry.CATALOGUE.write_text(catalogue(), encoding="utf-8")
