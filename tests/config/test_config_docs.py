"""The pages on the configuration agree with the schema."""

import re
from pathlib import Path

import pytest
import yaml
from config_sample import Sample

from ppcls_ext.config import MODES
from ppcls_ext.config.schema.table import documented_rows, unsupported_keys

DOCS = Path(__file__).parents[2] / "docs"
REQUIRED = {"zh_CN": "必填", "en": "required"}


def page(language) -> str:
    return (DOCS / language / "config.md").read_text(encoding="utf-8")


def table_rows(language) -> dict:
    """Return key -> (meaning, default, values) of the tables of keys."""
    rows = re.findall(r"^\| `([A-Z]\w*[^`]*)` \| (.*) \| (.*) \| (.*) \|$", page(language), flags=re.M)
    return {key: rest for key, *rest in rows}


@pytest.mark.parametrize("language", REQUIRED)
def test_every_key_is_listed_with_its_default_and_values(language):
    listed = table_rows(language)
    rows = documented_rows()
    assert [key for key in listed if key not in {row.key for row in rows}] == []
    for row in rows:
        meaning, default, values = listed[row.key]
        assert (default, values) == (row.default.replace("required", REQUIRED[language]), row.values), row.key
        assert meaning.strip(), row.key
        assert all(name in meaning for name in row.variants), row.key


def test_english_meanings_are_those_of_the_schema():
    listed = table_rows("en")
    for row in documented_rows():
        assert listed[row.key][0].endswith(row.meaning), row.key


def test_chinese_meanings_are_chinese():
    assert all(re.search("[\u4e00-\u9fff]", meaning) for meaning, _, _ in table_rows("zh_CN").values())


@pytest.mark.parametrize("language", REQUIRED)
def test_every_refused_key_is_listed(language):
    text = page(language)
    assert [key for key in unsupported_keys() if f"`{key}`" not in text] == []


@pytest.mark.parametrize("language", REQUIRED)
def test_overrides_of_the_page_do_what_it_says(language, tmp_path):
    sample = Sample(tmp_path)
    overrides = re.findall(r'`-o "?((?:[A-Z]|pre)[^`"]+)"?`', page(language))
    assert len(overrides) >= 9
    for override in overrides:
        problems = sample.problems(override)
        if override.startswith("pretrained_model"):
            assert "did you mean Global.pretrained_model?" in problems[0]
        else:
            assert problems == [], override


@pytest.mark.parametrize("mode", MODES)
def test_the_smallest_configuration_of_a_mode(mode, tmp_path):
    """What the page says that a mode needs is enough."""
    sample = Sample(tmp_path)
    sections = {
        "train": ("Global", "Arch", "Loss", "Optimizer", "DataLoader", "Metric"),
        "eval": ("Global", "Arch", "Loss", "DataLoader"),
        "infer": ("Global", "Arch", "Infer"),
        "export": ("Global", "Arch"),
    }[mode]
    data = yaml.safe_load(sample.path.read_text(encoding="utf-8"))
    sample.edit(lambda _: {name: data[name] for name in sections})
    assert sample.problems(mode=mode) == []
