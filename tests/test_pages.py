"""The pages point at what exists, and both languages have the same ones."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_configurations_that_are_named_are_there(page):
    for name in re.findall(r"configs/[\w/]+\.yaml", page.read_text(encoding="utf-8")):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("page", ["README.md", "README_cn.md"])
def test_the_example_of_the_readme_runs(page):
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(source, names)
    assert names["features"].shape[0] == len(names["images"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_named_are_there(page):
    names = re.findall(r"`(?:tests/)?([\w/]*test_\w+\.py)`", page.read_text(encoding="utf-8"))
    assert [name for name in names if not any(ROOT.glob(f"tests/**/{name}"))] == []


def anchors(text: str) -> set:
    """Return the anchors of a page: named ones, and those that its headings get."""
    named = set(re.findall(r"<a name=['\"]([^'\"]+)['\"]>", text))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return named | {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_both_languages_have_the_same_pages():
    english, chinese = (
        {str(page.relative_to(ROOT / "docs" / language)) for page in (ROOT / "docs" / language).glob("**/*.md")}
        for language in ("en", "zh_CN")
    )
    assert chinese - english == {"glossary.md"}  # the terms of the Chinese pages
    assert english <= chinese
