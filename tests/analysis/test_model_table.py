"""The model pages: tables are what the registry says, and the code runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ppcls_ext.analysis.model_table import main, model_table

ROOT = Path(__file__).parents[2]
LANGUAGES = ("zh_CN", "en")


def page(language: str) -> str:
    return (ROOT / "docs" / language / "models" / "ImageNet1k" / "Sequencer.md").read_text(encoding="utf-8")


def code(language: str) -> str:
    """Return the page's Python without its comments."""
    blocks = re.findall(r"```python\n(.*?)```", page(language), re.DOTALL)
    return re.sub(r" *#.*", "", "\n".join(blocks))


@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_hold_the_generated_table(language):
    assert model_table("Sequencer") in page(language), "run python -m ppcls_ext.analysis.model_table Sequencer"


def test_the_pages_code_runs_and_its_comments_are_true():
    """The shapes that the comments promise are printed by the same code."""
    assert code("zh_CN") == code("en")
    script = code("en") + "\nprint(logits.shape, [map_.shape for map_ in maps], groups[0][0], groups[-1][0])"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    printed = run.stdout.splitlines()[-1].replace("paddle.Size(", "").replace(")", "")
    assert printed == "[2, 10] [[2, 192, 32, 28], [2, 384, 16, 14]] stem tail"
    for language in LANGUAGES:
        assert "# [2, 10]" in page(language) and "# [2, 192, 32, 28], [2, 384, 16, 14]" in page(language)


def test_row_and_errors(capsys):
    main(["Sequencer"])
    rows = capsys.readouterr().out.splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert "| Sequencer2D_L_392 | 392 | 0.8460 | - | 50.49 | 54.30 | - |" in rows
    with pytest.raises(KeyError, match="unknown family 'Swim'; there are .*Sequencer"):
        model_table("Swim")
