"""The page on weights: its commands and code run, and both languages show the same."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import checkpoints
import numpy as np
import pytest

from ppcls_ext import cli, registry
from ppcls_ext.weights.conversion_record import ConversionRecord
from ppcls_ext.weights.remap import sources_of

DOCS = Path(__file__).parents[2] / "docs"


def page(language: str) -> str:
    return (DOCS / language / "weights.md").read_text(encoding="utf-8")


def blocks(language: str, kind: str) -> str:
    return "\n".join(re.findall(rf"```{kind}\n(.*?)```", page(language), re.DOTALL))


def test_both_languages_show_the_same_code():
    for kind in ("bash", "python", "text"):
        assert blocks("en", kind) == blocks("zh_CN", kind) != ""


@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_every_source_and_key_of_the_record_is_on_the_page(language):
    text = page(language)
    for family in {family.name for family in registry.families()}:
        assert all(f"| {family} | `{source.name}` | " in text for source in sources_of(family)[:-1])
    section = text.partition("\n## 6. ")[2].partition("\n## 7. ")[0]
    assert set(re.findall(r"`(\w+)`", section)) == set(ConversionRecord.__dataclass_fields__)


def test_the_commands_and_the_code_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entries = checkpoints.keys("sequencer")["Sequencer2D_S"]
    state = {key: np.broadcast_to(np.float32(1), shape) for key, (_, shape, _) in entries.items()}
    checkpoints.write_torch(tmp_path / "sequencer2d_s.pth", state)
    for line in filter(None, blocks("en", "bash").splitlines()):
        words = shlex.split(line)
        assert words[:2] == ["python", "tools/convert_weights.py"]
        assert cli.main(["convert", *words[2:]]) == cli.OK
    exec(blocks("en", "python"), {})
    assert {path.name for path in tmp_path.glob("*.json")} >= {
        "Sequencer2D_S.safetensors.json",
        "backbone.pdparams.json",
    }


def test_the_converter_can_be_the_first_import():
    """Importing a backbone where PaddleClas is loaded makes the factories, which need the converter: no circle."""
    code = "from ppcls_ext.weights.conversion import convert_file"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
