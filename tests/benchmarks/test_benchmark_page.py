"""The page on the benchmark holds what the committed results say, and its tables the right figures."""

import re
import shlex
from pathlib import Path

import benchmark_page
import peers
import pytest
from benchmark_page import blocks, eager_table, engines_table, filled

from ppcls_ext import cli
from ppcls_ext.analysis.benchmark.results import Case, Machine, Report, Row, Settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_the_page_holds_the_tables_of_the_results(language):
    page = (ROOT / "docs" / language / "benchmark.md").read_text(encoding="utf-8")
    assert filled(page, blocks(language)) == page, "run python benchmarks/benchmark_page.py"


def test_the_commands_of_the_page_are_commands():
    """The same ones in both languages."""
    pages = [(ROOT / "docs" / language / "benchmark.md").read_text(encoding="utf-8") for language in ("en", "zh_CN")]
    english, chinese = (re.findall(r"```bash\n(.*?)```", page, re.DOTALL) for page in pages)
    assert english == chinese
    for line in "".join(english).splitlines():
        program, *words = shlex.split(line)
        assert program == "ppcls_ext" and cli.build_parser().parse_args(words).command == "benchmark"


def test_blocks_are_filled_again_and_again():
    page = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n"
    once = filled(page, {"x": "new\n"})
    assert once == "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb\n" == filled(once, {"x": "new"})
    with pytest.raises(ValueError, match="no lines <!-- y -->"):
        filled(page, {"y": ""})


def row(source, engine, seconds, mode="forward"):
    return Row(case=Case(model="M", source=source, engine=engine, mode=mode, batch=2), macs=3 * 10**9, seconds=seconds)


def report():
    """Rounds of which the ratios are 0.5 and 1, where the medians of all runs are 30 and 40 ms."""
    gemm = Row(case=Case(model="G", engine="numpy", mode="gemm"), seconds=[[0.01]], macs=10**9)  # 100 GMAC/s
    rows = [
        row("ppcls_ext", "eager", [[0.5], [0.5]]),
        row("ppcls_ext", "openvino", [[0.02], [0.04]]),
        row("ppcls_ext", "onnxruntime", [[0.1], [0.1]]),
        row("timm", "torch", [[0.25], [0.25]]),
        row("timm, dynamo", "onnxruntime", [[0.04], [0.04]]),
        row("timm, torchscript", "onnxruntime", [[0.09], [0.09]]),
        row("ppcls_ext", "eager", [[3.0], [3.0]], "train"),
    ]
    return Report(machine=Machine(), settings=Settings(), rows=rows, limits=[gemm])


def test_the_engines_of_both_sides():
    """2 images of 3 GMACs take 60 ms at 100 GMAC/s, and 30 ms with the best engine: twice the speed of the limit."""
    last = engines_table([report()], "en").splitlines()[-1]
    assert last == "| M | 2 | 60.0 | - | 100 | 30.0 | timm | 40.0 | - | 0.75 (0.62–0.88) | 200% |"


def test_eager_mode_of_both_sides():
    last = eager_table([report()], "en").splitlines()[-1]
    assert last == "| M | 2 | 500 | 250 | 2.00 (2.00–2.00) | 3000 | - | - |"


def test_peers_are_planned_without_pytorch(tmp_path, monkeypatch):
    """Of timm's models every engine and exporter; of the official ones, without a clone, the reason."""
    monkeypatch.setattr(peers, "export", lambda case, options, settings: None)
    targets = peers.find_targets(["ResNet50", "ViP_Small_7"])
    ours = peers.plan(targets, peers.Options(engines=["eager"], modes=["forward", "train"]))
    jobs = peers.their_jobs(ours, {}, tmp_path, Settings())
    of_timm = {(job.case.source, job.case.engine, job.case.mode) for job in jobs if job.case.model == "ResNet50"}
    assert of_timm == {
        ("timm", "torch", "forward"),
        ("timm", "torch", "train"),
        *(
            (f"timm, {exporter}", engine, "forward")
            for exporter in ("torchscript", "dynamo")
            for engine in ("onnxruntime", "openvino")
        ),
    }
    assert all(f"{job.case.source} {job.case.engine}" in peers.SUBJECTS for job in jobs)
    assert all((job.refusal is None) == (job.case.model == "ResNet50") for job in jobs)
    assert {job.refusal for job in jobs} == {None, "--vip does not name a clone of the official repository"}


def test_every_engine_has_a_column():
    assert set(benchmark_page.ENGINES) == set(peers.OURS) - {"eager"}
