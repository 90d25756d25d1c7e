"""Backbones side by side: what is chosen, what is measured, and the page."""

import csv
import json
from pathlib import Path

import comparison_page
import pytest

from ppcls_ext import cli, registry
from ppcls_ext.analysis.comparison.rows import ComparisonError, compare, read_report

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "families.json"


def shown(capsys, *words) -> list:
    assert cli.main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_the_page_is_what_its_script_writes(language):
    path = comparison_page.ROOT / "docs" / language / "models" / "comparison.md"
    assert path.read_text(encoding="utf-8") == comparison_page.page(language), "run benchmarks/comparison_page.py"


def test_sorting(capsys):
    for command in ("list", "compare"):
        accuracies = [row["top1"] for row in shown(capsys, command, "--sort", "top1")]
        known = [value for value in accuracies if value is not None]
        assert known == sorted(known, reverse=True) and accuracies[len(known) :] == [None] * (
            len(accuracies) - len(known)
        )
        costs = [row["macs"] for row in shown(capsys, command, "--sort", "macs")]
        assert costs == sorted(costs) and len(costs) == len(registry.list_backbones())


def test_filters(capsys):
    words = ["list", "--max_params", "30M", "--max_macs", "5G", "--min_top1", "80", "--family", "vit"]
    found = {row["name"] for row in shown(capsys, *words)}
    expected = {
        spec.name
        for spec in registry.specs()
        if spec.family == "ViT"
        and spec.params <= 30e6
        and spec.macs <= 5e9
        and spec.accuracy is not None
        and spec.accuracy.top1 >= 80
    }
    assert found == expected and found
    assert {row["family"] for row in shown(capsys, "list", "resnet*", "vip_*")} >= {"ResNet", "VisionPermutator"}


@pytest.mark.parametrize(
    "words, message",
    [
        (["--family", "VitT"], "no family 'VitT'; did you mean ViT"),
        (["--max_params", "many"], "'many' is no number"),
        (["--sort", "top"], "did you mean top1"),
        (["--min_top1", "100"], "meets all of the conditions"),
        (["ResNet50", "Sequencr*"], "no backbone matches 'Sequencr*'; did you mean"),
    ],
)
def test_mistakes(capsys, words, message):
    try:
        code = cli.main(["compare", *words])
    except SystemExit as stop:  # argparse
        code = stop.code
    assert code == 2 and message in capsys.readouterr().err


def test_the_fastest_measured_row_counts():
    report = read_report(RESULTS)
    (row,) = compare(["ResNet50"], report)
    rows = [r for r in report.rows if r.case.model == "ResNet50" and r.images_per_second]
    best = max(rows, key=lambda r: r.images_per_second)
    assert row.images_per_second == round(best.images_per_second, 1)
    assert (row.engine, row.batch) == (best.case.engine, best.case.batch) and row.peak_mb == round(
        best.peak_bytes / 1e6
    )
    (row,) = compare(["ResNet18"], report)
    assert row.images_per_second is None and row.licence.startswith("Apache-2.0")


def test_files(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    words = ["compare", "sequencer2d_s", "resnet50", "--measured", str(RESULTS), "--output", str(tmp_path / "c")]
    assert cli.main(words) == 0
    assert str(tmp_path / "c" / "accuracy_speed.png") in capsys.readouterr().out
    with (tmp_path / "c" / "comparison.csv").open(encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == ["Sequencer2D_S", "ResNet50"]
    assert int(rows[0]["params"]) == registry.get_spec("Sequencer2D_S").params
    assert (tmp_path / "c" / "accuracy_macs.png").read_bytes()[:4] == b"\x89PNG"


def test_what_is_no_benchmark(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ComparisonError, match=r"a\.json is no benchmark\.json"):
        read_report(tmp_path / "a.json")
    with pytest.raises(ComparisonError, match="no backbone is named"):
        compare([])
