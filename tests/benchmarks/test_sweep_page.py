"""The page on sweeps holds what the committed results say."""

from pathlib import Path

import pytest
from benchmark_page import filled
from sweep_page import blocks

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_the_page_holds_the_tables_of_the_results(language):
    page = (ROOT / "docs" / language / "sweep.md").read_text(encoding="utf-8")
    assert filled(page, blocks(language)) == page, "run python benchmarks/sweep_page.py"
