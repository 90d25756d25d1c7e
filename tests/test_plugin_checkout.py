"""Registration into a source checkout: a stand-in for it here, and the real one when $PPCLS_CHECKOUT names it.

Each test is a process of its own, because what matters is the order of imports. The wheel is hidden unless a test
says otherwise, so that the checkout is the only PaddleClas.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_checkout import write_checkout

REPOSITORY = Path(__file__).parents[1]
SMALL = {
    "class_num": 5,
    "img_size": 8,
    "depths": [1, 1],
    "patch_sizes": [2, 2],
    "embed_dims": [8, 16],
    "hidden_sizes": [2, 4],
    "mlp_ratios": [1.0, 1.0],
}
pytestmark = [pytest.mark.compat, pytest.mark.slow]

# Builds a model by both names through the three ways of PaddleClas, and prints what came of it.
PROBE = """
import json, logging, sys
from ppcls import arch

def build(name):
    row = {"name": name, **SMALL}
    models = [{"Teacher": dict(row)}, {"Student": dict(row)}]
    return [
        arch.build_model({"Arch": row, "Global": {"device": "cpu"}}),
        arch.RecModel(Backbone=dict(row)).backbone,
        arch.DistillationModel(models=models).Student,
    ]

models = [model for name in ("Sequencer2D_S", "ppcls_ext.Sequencer2D_S") for model in build(name)]
arch.build_model({"Arch": {"name": "Sequencer2D_S", **SMALL}, "Global": {"device": "cpu"}})
from ppcls_ext import plugin
print(json.dumps({
    "types": sorted({type(model).__name__ for model in models}),
    "classes": sorted({model.class_num for model in models}),
    "is_theseus": [isinstance(model, arch.TheseusLayer) for model in models],
    "base": plugin.TheseusLayer.__module__,
    "trees": [tree.package for tree in plugin.trees()],
    "in_table": arch.backbone.__all__.count("Sequencer2D_S"),
    "handlers": [handler.get_name() for handler in logging.getLogger("ppcls").handlers],
}))
"""
CHECKOUT_BASE = "ppcls.arch.backbone.base.theseus_layer"


def run(code: str, path=(), hidden=("paddleclas",), environment=None, arguments=None):
    """Run ``code`` (or a command's ``arguments``) in a process; return its last line as JSON, and its stderr."""
    prelude = f"import sys\nsys.modules.update(dict.fromkeys({list(hidden)!r}))\nSMALL = {SMALL!r}\n"
    process = subprocess.run(
        [sys.executable, *(arguments or ["-c", prelude + code])],
        env={
            **{key: value for key, value in os.environ.items() if key != "PPCLS_EXT_CHECKOUT"},
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *map(str, path)]),
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return json.loads(process.stdout.splitlines()[-1]), process.stderr


def assert_all_names_work(result: dict, base: str = CHECKOUT_BASE, trees=("ppcls",)) -> None:
    assert result["types"] == ["Sequencer2D"]
    assert result["classes"] == [5]
    assert result["is_theseus"] == [base == CHECKOUT_BASE] * 6
    assert result["base"] == base
    assert result["trees"] == list(trees)
    assert result["in_table"] == 1
    assert result["handlers"].count("stream_handler") == 1


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.checkout)])
def checkout(request, tmp_path) -> Path:
    """A checkout that a test may change."""
    root = tmp_path / "PaddleClas"
    if request.param == "stand-in":
        return write_checkout(root)
    source = os.environ.get("PPCLS_CHECKOUT")
    if not source:
        pytest.skip("needs PPCLS_CHECKOUT, the root of a PaddleClas source checkout")
    shutil.copytree(Path(source) / "ppcls", root / "ppcls")
    shutil.copy(Path(source) / "paddleclas.py", root)
    return root


def test_found_on_the_path(checkout):
    """pain 2: checkout only."""
    result, errors = run("import ppcls_ext" + PROBE, path=[checkout])
    assert_all_names_work(result)
    assert "there is a PaddleClas" not in errors


def test_named_by_the_environment(checkout):
    """pain 2: wheel and checkout; the checkout, which trains, gives the base class."""
    result, _ = run("import ppcls_ext" + PROBE, environment={"PPCLS_EXT_CHECKOUT": str(checkout)})
    assert_all_names_work(result)


def test_found_after_import_by_register(checkout):
    code = f"import ppcls_ext; sys.path.append({str(checkout)!r}); ppcls_ext.register(); ppcls_ext.register()"
    result, _ = run(code + PROBE)
    assert_all_names_work(result, base="paddle.nn.layer.layers")


def test_found_after_import_by_load_checkout(checkout):
    code = f"from ppcls_ext import plugin; plugin.load_checkout({str(checkout)!r})"
    result, errors = run(code + PROBE)
    assert_all_names_work(result, base="paddle.nn.layer.layers")
    assert "our models do not derive from this checkout's TheseusLayer; set PPCLS_EXT_CHECKOUT" in errors


@pytest.mark.skipif(
    sys.version_info >= (3, 12) and importlib.util.find_spec("paddleclas") is None,
    reason="PaddleClas 2.6.0 cannot be installed on Python 3.12 and later",
)
def test_wheel_and_checkout_at_once(checkout):
    """pain 2: both. Each log line appears once although both add a handler to the logger that they share."""
    result, _ = run(f"sys.path.append({str(checkout)!r}); import ppcls_ext" + PROBE, hidden=())
    assert_all_names_work(result, trees=("ppcls", "paddleclas.ppcls"))


def test_a_checkouts_paddleclas_py_is_not_taken_for_the_wheel(tmp_path):
    result, errors = run("import ppcls_ext" + PROBE, path=[write_checkout(tmp_path)], hidden=())
    assert_all_names_work(result)
    assert "there is a PaddleClas" not in errors


@pytest.mark.parametrize("place", ["top", "before __all__", "bottom", "after ppcls_ext"])
def test_one_import_line_in_the_backbone_package(checkout, place):
    """The line runs while that package, ``ppcls.arch`` and ``ppcls`` are themselves still being imported."""
    path = checkout / "ppcls" / "arch" / "backbone" / "__init__.py"
    text, line = path.read_text(encoding="utf-8"), "import ppcls_ext  # noqa\n"
    at = {"top": 0, "before __all__": text.index("__all__ =")}.get(place, len(text))
    path.write_text(f"{text[:at].rstrip()}\n{line}{text[at:]}".lstrip("\n"), encoding="utf-8")
    # `tarfile` is what PaddleClas's tools import first; the line is harmless where ppcls_ext comes first.
    result, _ = run(("import ppcls_ext" if place == "after ppcls_ext" else "import tarfile") + PROBE, path=[checkout])
    assert_all_names_work(result)


def test_paddleclas_keeps_its_names_whatever_comes_first(tmp_path):
    """The line stands above PaddleClas's own imports, when nobody can know yet which names it will have."""
    path = write_checkout(tmp_path) / "ppcls" / "arch" / "backbone" / "__init__.py"
    path.write_text("import ours  # noqa\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "ours.py").write_text(
        """
import ppcls_ext
from ppcls_ext import registry

def toy_small(**kwargs):
    return "ours"

registry.add_factory("toy_small", toy_small)
ppcls_ext.register()
""",
        encoding="utf-8",
    )
    code = """
import json, ppcls_ext
from ppcls import arch

def seen():
    return [arch.toy_small.__module__, arch.backbone.toy_small.__module__, getattr(arch, "ppcls_ext.toy_small")()]

before = seen()
ppcls_ext.register()
between = seen()
ppcls_ext.register(override=True)
print(json.dumps([before, between, seen()]))
"""
    result, _ = run("import ppcls" + code, path=[tmp_path])
    theirs = "ppcls.arch.backbone.toy"
    assert result == [[theirs, theirs, "ours"], [theirs, theirs, "ours"], ["ours", "ours", "ours"]]


def test_theseus_layer_can_log_before_any_engine_runs(tmp_path):
    """A checkout's logger is None until its engine starts, and its TheseusLayer logs."""
    code = 'import ppcls_ext; m = ppcls_ext.create_backbone("toy_small"); m.init_net(return_stages=True); print("{}")'
    assert run(code, path=[write_checkout(tmp_path)])[0] == {}


def test_a_broken_paddleclas_is_passed_over_with_the_reason(tmp_path):
    write_checkout(tmp_path)
    (tmp_path / "ppcls" / "arch" / "backbone" / "toy.py").write_text("import not_installed_here\n", encoding="utf-8")
    code = """
import ppcls_ext, json
from ppcls_ext import plugin
print(json.dumps([plugin.HAS_PADDLECLAS, len(plugin.trees()), type(ppcls_ext.Sequencer2D_S(**SMALL)).__name__]))
"""
    result, errors = run(code, path=[tmp_path])
    assert result == [False, 0, "Sequencer2D"]
    assert "there is a PaddleClas (ppcls) but its import fails: " in errors
    assert "No module named 'not_installed_here'" in errors


def test_without_any_paddleclas():
    """pain 3: PaddleClas is optional; what is its own is missing, and the message says why."""
    code = """
import json, paddle, ppcls_ext
from ppcls_ext import plugin
answer = [plugin.TheseusLayer is paddle.nn.Layer, plugin.HAS_PADDLECLAS, ppcls_ext.register()]
answer.append(plugin.paddleclas_names())
answer.append(ppcls_ext.create_backbone("Sequencer2D_S", **SMALL)(paddle.randn([2, 3, 8, 8])).shape)
for name in ("PPLCNet_x0_25", "Sequencer2d_s"):
    try:
        ppcls_ext.create_backbone(name)
    except KeyError as error:
        answer.append(error.args[0])
print(json.dumps(answer))
"""
    result, errors = run(code)
    assert result[:5] == [True, False, [], [], [2, 5]]
    assert result[5] == (
        "unknown backbone 'PPLCNet_x0_25'; PaddleClas is not installed, so its own backbones are not available"
    )
    assert "'Sequencer2d_s'; did you mean Sequencer2D_S" in result[6]
    assert "there is a PaddleClas" not in errors


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    code = f"""
import json
from ppcls_ext import plugin
try:
    plugin.load_checkout({str(tmp_path)!r})
except ValueError as error:
    print(json.dumps(str(error)))
"""
    message, _ = run(code)
    assert message.endswith("is in no PaddleClas checkout: no folder above it holds ppcls/arch/__init__.py")


# ---- running a checkout's own script ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["tools/run_paddleclas.py"], ["-m", "ppcls_ext.checkout"]], ids=["tool", "module"])
def test_run_a_script_of_the_checkout_unchanged(tmp_path, command):
    script = write_checkout(tmp_path / "PaddleClas") / "tools" / "train.py"
    if command[0].endswith(".py"):
        command = [str(REPOSITORY / command[0])]
    row = json.dumps({"name": "ppcls_ext.Sequencer2D_S", **SMALL})
    result, _ = run("", arguments=[*command, str(script), "-c", "a b.yaml", "-o", row])
    assert result == {"name": "__main__", "argv": ["-c", "a b.yaml", "-o", row], "is_theseus": True}


@pytest.mark.parametrize(
    "script, message",
    [("nothing.py", "there is no script"), ("here.py", "is in no PaddleClas checkout")],
    ids=["no file", "no checkout"],
)
def test_a_wrong_script_is_refused(tmp_path, capsys, script, message):
    from ppcls_ext import checkout

    (tmp_path / "here.py").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        checkout.main([str(tmp_path / script)])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
