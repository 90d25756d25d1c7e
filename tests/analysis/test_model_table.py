"""The tables of the model pages are what the registry says."""

from pathlib import Path

import pytest

from ppcls_ext.analysis.model_table import main, model_table

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_pages_hold_the_generated_table(language):
    page = (DOCS / language / "models" / "ImageNet1k" / "Sequencer.md").read_text(encoding="utf-8")
    assert model_table("Sequencer") in page, "regenerate it: python -m ppcls_ext.analysis.model_table Sequencer"


def test_row_and_errors(capsys):
    main(["Sequencer"])
    rows = capsys.readouterr().out.splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert "| Sequencer2D_L_392 | 392 | 0.8460 | - | 50.49 | 54.30 | - |" in rows
    with pytest.raises(KeyError, match="unknown family 'Swim'; there are .*Sequencer"):
        model_table("Swim")
