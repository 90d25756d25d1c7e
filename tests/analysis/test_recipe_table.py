"""The page on recipes holds the generated tables."""

from pathlib import Path

import pytest

from ppcls_ext.analysis.recipe_table import main, ours, ours_table, recipe_table

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_the_page_holds_the_generated_tables(language):
    page = (ROOT / "docs" / language / "recipes.md").read_text(encoding="utf-8")
    for table in (recipe_table(CONFIGS), ours_table(CONFIGS)):
        assert table in page, "run python -m ppcls_ext.analysis.recipe_table"


def test_every_mark_is_found():
    """As many keys as lines with the mark, so that none of them stands where it is not understood."""
    for path in CONFIGS.rglob("*.yaml"):
        assert len(ours(path)) == path.read_text(encoding="utf-8").count("# ours"), path


def test_rows(capsys):
    main(["--configs", str(CONFIGS)])
    lines = capsys.readouterr().out.splitlines()
    assert (
        "| [Sequencer2D_L](../../configs/ImageNet/Sequencer/Sequencer2D_L.yaml) | 310 | 1024 | 0.001 | 0.05 | 0.4 | "
        "0.8341 | 16.49 | 54.30 |" in lines
    )
    assert "| Sequencer2D_M | `drop_path_rate`, `learning_rate` |" in lines
    assert not any("digits" in line for line in lines)
