"""What answers where Paddle is not installed, or before it is imported, and how PaddleClas is met then."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ppcls_ext import registry
from ppcls_ext.analysis.catalogue import catalogue

REPOSITORY = Path(__file__).parents[1]
needs_wheel = pytest.mark.skipif(importlib.util.find_spec("paddleclas") is None, reason="PaddleClas is not installed")
pytestmark = pytest.mark.compat


def run(code: str, hidden=("paddle", "paddleclas")) -> list:
    """Run ``code`` where the modules ``hidden`` cannot be imported; return its last line, read as JSON."""
    prelude = f"import json, sys\nsys.modules.update(dict.fromkeys({list(hidden)!r}))\n"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", prelude + code], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


# ---- without Paddle -----------------------------------------------------------------------------------------------


def test_the_catalogue_is_what_the_families_say():
    """So that both ways give equal rows, in the same order."""
    registry.families()
    assert registry.CATALOGUE.read_text(encoding="utf-8") == catalogue(), "run python -m ppcls_ext.analysis.catalogue"
    assert list(registry._catalogue().values()) == list(registry.specs())


def test_the_registry_answers():
    ask = "[ppcls_ext.list_backbones('resnet*'), ppcls_ext.backbone_info('ResNet50')]"
    names, info = run(f"import ppcls_ext; print(json.dumps({ask}))")
    assert names == registry.list_backbones("resnet*")
    assert info == json.loads(json.dumps(registry.backbone_info("ResNet50")))


@pytest.mark.sampled
@pytest.mark.parametrize(
    "module",
    [
        "ppcls_ext.analysis.benchmark.exported",
        "ppcls_ext.analysis.benchmark.session",
        "ppcls_ext.cli",
        "ppcls_ext.analysis.report.paired",
        "ppcls_ext.analysis.report.single",
        "ppcls_ext.config",
        "ppcls_ext.config.schema",
        "ppcls_ext.data.preprocess",
        "ppcls_ext.engine.deploy.pipeline",
        "ppcls_ext.engine.deploy.postprocess",
        "ppcls_ext.engine.deploy.quantization.quantizer",
        "ppcls_ext.engine.deploy.serving.app",
        "ppcls_ext.engine.predictions.deployed",
        "ppcls_ext.metrics.agreement",
        "ppcls_ext.plugin",
    ],
)
def test_modules_that_need_no_paddle(module):
    assert run(f"import {module}; print('[]')") == []


@pytest.mark.sampled
@pytest.mark.parametrize(
    "words", [["--help"], ["list"], ["info", "ViP_Small_7"], ["recipes", "list"], ["train", "--help"]], ids=" ".join
)
def test_commands_answer(words):
    code = f"""
from ppcls_ext import cli
try:
    code = cli.main({words!r})
except SystemExit as stop:
    code = stop.code
print(json.dumps([code, sys.modules["paddle"]]))
"""
    assert run(code) == [0, None]


def test_a_command_that_needs_paddle_says_so():
    code = """
import contextlib, io
from ppcls_ext import cli
said = io.StringIO()
with contextlib.redirect_stderr(said):
    code = cli.main(["info", "PPLCNet_x1_0"])
print(json.dumps([code, said.getvalue()]))
"""
    expected = 'ppcls_ext info: error: this needs Paddle, which is not installed: pip install "ppcls_ext[cpu]"\n'
    assert run(code) == [1, expected]


def test_what_needs_paddle_says_so():
    code = """
import ppcls_ext
try:
    ppcls_ext.create_backbone("ResNet18")
except ImportError as error:
    print(json.dumps(str(error)))
"""
    assert "paddle" in run(code)


def test_help_comes_at_once():
    """Within half a second of processor time, where importing Paddle takes several."""
    resource = pytest.importorskip("resource", reason="the system does not count the time of child processes")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "ppcls_ext", "--help"], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime) < 0.5


# ---- before Paddle is imported ------------------------------------------------------------------------------------


def test_importing_the_package_imports_no_paddle():
    assert run("import ppcls_ext; print(json.dumps('paddle' in sys.modules))", hidden=()) is False


@pytest.mark.sampled
@needs_wheel
@pytest.mark.parametrize(
    "line",
    [
        "import paddleclas",
        "from paddleclas.ppcls.arch import build_model",
        "ppcls_ext.create_backbone('ResNet18')",
        "from ppcls_ext.arch.backbone.resnet import ResNet",
        "from ppcls_ext.plugin import HAS_PADDLECLAS",
        "import ppcls_ext.factory",
        "from ppcls_ext.weights.loading import load_pretrained",
        "from ppcls_ext.engine.train.trainer import train",
    ],
)
def test_who_imports_paddleclas_finds_the_backbones_there(line):
    """Whatever it is that imports PaddleClas first."""
    code = f"""
import ppcls_ext
{line}
import paddleclas
from paddleclas.ppcls import arch
print(json.dumps([
    paddleclas.Sequencer2D_S is arch.Sequencer2D_S is arch.backbone.Sequencer2D_S is ppcls_ext.Sequencer2D_S,
    getattr(arch, "ppcls_ext.ResNet18") is ppcls_ext.ResNet18 is not paddleclas.ResNet18,
    isinstance(ppcls_ext.Sequencer2D_S(class_num=2), arch.TheseusLayer),
    arch.backbone.__all__.count("Sequencer2D_S"),
]))
"""
    assert run(code, hidden=()) == [True, True, True, 1]


def test_the_import_hook(tmp_path):
    """It calls once, after the modules of the package are whole, and leaves to a module the loader that found it."""
    (tmp_path / "listened_for.py").write_text("import sys\nvalue = 1\n", encoding="utf-8")
    (tmp_path / "broken.py").write_text("raise RuntimeError('broken')\n", encoding="utf-8")
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "inner.py").write_text("import listened_for, __main__\nseen = list(__main__.calls)\n")
    code = f"""
import inspect
from importlib.machinery import SourceFileLoader
from ppcls_ext.utils import import_hook
sys.path.insert(0, {str(tmp_path)!r})
calls = []
import_hook.when_imported(["listened_for", "broken"], lambda: calls.append(1), package="held")
import held.inner
try:
    import broken
except RuntimeError:
    pass
listened_for = sys.modules["listened_for"]
kept = type(listened_for.__loader__) is type(listened_for.__spec__.loader) is SourceFileLoader
print(json.dumps([held.inner.seen, calls, kept, inspect.getsource(listened_for)]))
"""
    assert run(code) == [[], [1], True, "import sys\nvalue = 1\n"]
