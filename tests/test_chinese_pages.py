"""The Chinese pages keep the glossary's terms and the typography that it sets down."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "zh_CN"
GLOSSARY = FOLDER / "glossary.md"
PAGES = sorted([*ROOT.glob("*_cn.md"), *FOLDER.rglob("*.md")])
HAN = "[\u4e00-\u9fff]"
FAULTS = {
    "half-width punctuation": rf'{HAN}[,;:!?()."]|[,;:!?()"]{HAN}|{HAN} [,;:!?]|[,;:!?] {HAN}',
    "no space between Chinese and Latin": rf"{HAN}[A-Za-z0-9]|[A-Za-z0-9]{HAN}",
    "space beside full-width punctuation": r" [，。；：！？）”]|[，。；：！？（“] ",
}
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def without_code(text: str) -> str:
    """Return a page, of fenced code only the comments; a code span becomes one Latin letter, a link its text."""
    text = re.sub(r"^```.*?^```", comments, text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "x", text)
    text = re.sub(r"!?\[([^\]\n]*)\]\([^)\n]*\)", r"\1", text)
    return re.sub(r"<[^>\n]*>", "\n", text).replace("*", "")


def comments(code: re.Match) -> str:
    return "\n".join(re.findall(rf"(?:#|//) (.*{HAN}.*)$", code[0], re.MULTILINE))


def faults(text: str) -> list:
    """Return (fault, excerpt) for each breach of the typography."""
    prose = without_code(text)
    return [
        (fault, prose[max(0, match.start() - 12) : match.end() + 12].replace("\n", " "))
        for fault, pattern in FAULTS.items()
        for match in re.finditer(pattern, prose)
    ]


def unwanted_terms(glossary: str) -> list:
    """Return (unwanted, wanted) pairs of the table of terms."""
    rows = [re.split(r" *\| *", line.strip("| ")) for line in glossary.splitlines() if line.startswith("| ")]
    terms = [row for row in rows if len(row) == 4 and row[0] != "英文"]
    return [(word, wanted) for _, wanted, _, words in terms for word in words.split("、") if word != "–"]


def wrapped_lines(text: str) -> list:
    """Return the lines that continue a paragraph or a list item of the line before."""
    lines = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE).splitlines()
    begins = re.compile(r" *([-*] |\d+\. |\||#|$)").match
    return [line for before, line in zip(lines, lines[1:]) if before.strip() and not begins(line)]


@every_page
def test_punctuation_and_spaces(page):
    assert faults(page.read_text(encoding="utf-8")) == []


@every_page
def test_a_paragraph_is_one_line(page):
    assert wrapped_lines(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != GLOSSARY], ids=lambda page: page.name)
def test_terms_are_those_of_the_glossary(page):
    prose = without_code(page.read_text(encoding="utf-8"))
    pairs = unwanted_terms(GLOSSARY.read_text(encoding="utf-8"))
    assert [(word, f"write {wanted}") for word, wanted in pairs if word in prose] == []


@every_page
def test_the_language_switch_follows_the_title_and_headings_are_the_anchors(page):
    text = re.sub(r"`[^`\n]*`", "x", page.read_text(encoding="utf-8"))
    assert re.match(r"# .+\n\n简体中文( \| \[English\]\([\w./]+\))?\n\n", text)
    assert "<a " not in text


@pytest.mark.parametrize(
    "text, count",
    [
        ("结果是什么,以及", 1),
        ("说明(见下)。", 2),
        ("用 `infer`,然后", 1),
        ("每轮100步", 2),
        ("用`infer`", 1),
        ("图像 ，标签", 1),
        ("结束.", 1),
        ("用 `a,b`（共 3 个），见[训练](training.md)。\n\n```\n代码,代码\n```\n", 0),
        ("```\nx = 1  # 注释,注释\n```\n", 1),
    ],
)
def test_faults_are_found(text, count):
    assert len(faults(text)) == count


def test_unwanted_terms_and_wrapped_lines_are_found():
    head = "| 英文 | 中文 | 说明 | 不用的说法 |\n|---|---|---|---|\n"
    table = f"{head}| image | 图像 | 说明 | 图片、照片 |\n| step | 步 | | – |\n"
    assert unwanted_terms(table) == [("图片", "图像"), ("照片", "图像")]
    assert len(unwanted_terms(GLOSSARY.read_text(encoding="utf-8"))) > 50
    assert wrapped_lines("一段\n两行\n\n- 项\n  又一行\n- 项\n") == ["两行", "  又一行"]
