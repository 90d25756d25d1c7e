"""What a contributor meets first: pinned tools, templates in both languages."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / ".github" / "ISSUE_TEMPLATE"


def test_the_hooks_lint_with_the_version_that_ci_lints_with():
    pinned = re.search(r'"(ruff==[\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")).group(1)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    used = [hook["additional_dependencies"] for hook in hooks if hook["id"].startswith("ruff")]
    assert used == [[pinned], [pinned]]


@pytest.mark.parametrize("template", ["bug_report", "feature_request"])
def test_the_issue_templates_ask_the_same_in_both_languages(template):
    english, chinese = (
        yaml.safe_load((TEMPLATES / f"{name}.yml").read_text(encoding="utf-8")) for name in (template, f"{template}_cn")
    )
    assert english["labels"] == chinese["labels"]
    asked = [[(field["id"], field.get("validations")) for field in form["body"]] for form in (english, chinese)]
    assert asked[0] == asked[1]
    assert all(re.search(r"[一-鿿]", field["attributes"]["label"]) for field in chinese["body"])
