"""The model pages: tables are what the registry says, the code runs, and so do the commands."""

import ast
import re
import shlex
import shutil
from pathlib import Path

import paddle
import pytest
from families import FAMILIES

from ppcls_ext import cli, registry
from ppcls_ext.analysis.model_table import main, model_table

ROOT = Path(__file__).parents[2]
LANGUAGES = ("zh_CN", "en")
PAGES = {family: row.page for family, row in FAMILIES.items()}
every_family = pytest.mark.parametrize("family", PAGES)


def page(family: str, language: str) -> str:
    return (ROOT / "docs" / language / "models" / "ImageNet1k" / PAGES[family]).read_text(encoding="utf-8")


def blocks(family: str, language: str, kind: str) -> str:
    """Return the page's code of one language, without its comments."""
    code = "\n".join(re.findall(rf"```{kind}\n(.*?)```", page(family, language), re.DOTALL))
    return re.sub(r" *#.*", "", code)


def test_every_family_has_a_page():
    assert set(PAGES) == {spec.family for spec in registry.specs()}


@every_family
def test_the_readme_states_the_ranges_of_the_registry(family):
    specs = [spec for spec in registry.specs() if spec.family == family]
    values = (
        [spec.accuracy.top1 for spec in specs if spec.accuracy],
        [spec.params / 1e6 for spec in specs],
        [spec.macs / 1e9 for spec in specs],
    )
    cells = [str(len(specs)), *(f"{min(of):.1f} – {max(of):.1f}" for of in values)]
    row = f"(docs/en/models/ImageNet1k/{PAGES[family]}) | {' | '.join(cells)} |"
    assert row in (ROOT / "README.md").read_text(encoding="utf-8"), row


@every_family
@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_hold_the_generated_table(family, language):
    assert model_table(family) in page(family, language), f"run python -m ppcls_ext.analysis.model_table {family}"


@every_family
def test_both_languages_show_the_same_code(family):
    for kind in ("python", "bash"):
        assert blocks(family, "en", kind) == blocks(family, "zh_CN", kind) != ""


@pytest.mark.sampled
@every_family
def test_the_code_runs_and_its_comments_are_true(family):
    """A line ``name = …  # [2, 10]`` promises the shape of a tensor, or the shapes of a list of them."""
    source = "\n".join(re.findall(r"```python\n(.*?)```", page(family, "en"), re.DOTALL))
    names: dict = {}
    exec(source, names)
    promises = re.findall(r"^(\w+) = .*# (\[[\d, \[\]]+\])$", source, re.MULTILINE)
    assert promises
    for name, shapes in promises:
        value = names[name]
        actual = [value] if isinstance(value, paddle.Tensor) else value
        assert [tuple(tensor.shape) for tensor in actual] == [tuple(shape) for shape in ast.literal_eval(f"[{shapes}]")]


def command_of(tool: str) -> str:
    """Return the command of ``ppcls_ext`` that a script in ``tools/`` runs."""
    return re.search(r'main\(\["([\w-]+)"', (ROOT / tool).read_text(encoding="utf-8"))[1]


@pytest.mark.slow
@every_family
def test_the_commands_run(family, tmp_path, monkeypatch):
    """In the order of the page, in a folder with nothing but the configs; training is cut to one epoch."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    done = []
    for line in filter(None, blocks(family, "en", "bash").splitlines()):
        words = shlex.split(line)
        assert words[0] == "python" and words[1].startswith("tools/"), line
        command, arguments = command_of(words[1]), words[2:]
        if command == "train":
            arguments += ["-o", "Global.epochs=1", "Optimizer.lr.warmup_epoch=0"]
        assert cli.main([command, *arguments]) == cli.OK, line
        done.append(command)
    assert {"prepare-digits", "train", "eval", "infer", "export", "predict"} <= set(done)


def test_row_and_errors(capsys):
    main(["Sequencer"])
    rows = capsys.readouterr().out.splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert "| Sequencer2D_L_392 | 392 | 0.8460 | - | 50.49 | 54.30 | - |" in rows
    with pytest.raises(KeyError, match="unknown family 'Swim'; there are .*Sequencer"):
        model_table("Swim")
