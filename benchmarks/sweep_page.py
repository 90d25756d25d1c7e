"""Fill docs/*/sweep.md with the tables of benchmarks/results.

    python benchmarks/sweep_page.py

``sweep_digits.json`` and ``sweep_cost.json`` are what ``ppcls_ext sweep --output`` wrote as ``sweep.json``; the page
has the commands. A test fails while a page differs from them.
"""

from __future__ import annotations

from benchmark_page import RESULTS, ROOT, filled

from ppcls_ext.analysis.benchmark.columns import LANGUAGES
from ppcls_ext.analysis.sweep.results import Sweep
from ppcls_ext.analysis.sweep.tables import to_markdown
from ppcls_ext.utils.files import write_atomically

#: Marks on the page, and files without suffix.
BLOCKS = {"digits": "sweep_digits", "cost": "sweep_cost"}


def blocks(language: str) -> dict:
    """Return the generated parts of a page by name."""
    texts = {name: (RESULTS / f"{file}.json").read_text(encoding="utf-8") for name, file in BLOCKS.items()}
    return {name: to_markdown(Sweep.model_validate_json(text), language) for name, text in texts.items()}


def main() -> None:
    """Fill the pages of both languages."""
    for language in LANGUAGES:
        path = ROOT / "docs" / language / "sweep.md"
        text = filled(path.read_text(encoding="utf-8"), blocks(language))
        write_atomically(path, lambda aside, text=text: aside.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main()
