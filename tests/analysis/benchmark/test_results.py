"""Figures against arithmetic by hand, and files that come back as they were."""

import csv
import io

import pytest

from ppcls_ext.analysis.benchmark.results import Case, Ratio, Report, Row, Settings
from ppcls_ext.analysis.benchmark.tables import to_csv, to_json, write_all
from ppcls_ext.analysis.machine import Machine

CASE = Case(model="ResNet50", batch=8, threads=2)
#: Of 11 runs sorted: percentiles fall on the runs 5, 9 and, for p99, nine tenths of the way from 9 to 10.
SECONDS = [[0.05, 0.03, 0.01, 0.02], [0.04, 0.06, 0.11], [0.10, 0.07, 0.09, 0.08]]


def row(**given):
    return Row(**{"case": CASE, "seconds": SECONDS, "macs": 4 * 10**9, **given})


def gemm(speed, part=0, threads=2, **given):
    """A product that does so many billions of multiply-adds a second."""
    case = Case(model="GEMM", source="gemm", engine="numpy", mode="gemm", threads=threads)
    return Row(case=case, macs=10**9, seconds=[[1 / speed]], part=part, **given)


def test_percentiles_and_throughput():
    found = row()
    assert found.runs == 11
    assert (found.p50_ms, found.p90_ms) == pytest.approx((60, 100))
    assert found.p99_ms == pytest.approx(100 + 0.9 * 10)
    assert found.images_per_second == pytest.approx(8 / 0.060)
    assert found.gmacs_per_second == pytest.approx(4 * 8 / 0.060)


def test_percentiles_of_all_runs_do_not_depend_on_the_rounds():
    flat = row(seconds=[[value for one in SECONDS for value in one]])
    assert (flat.p50_ms, flat.p99_ms) == (row().p50_ms, row().p99_ms)


def test_a_row_without_runs_has_no_figures():
    found = row(seconds=[], error="no kernel")
    assert [found.p50_ms, found.p99_ms, found.images_per_second, found.gmacs_per_second] == [None] * 4


def test_training_has_no_speed_of_the_forward_pass():
    assert row(case=CASE.model_copy(update={"mode": "train"})).gmacs_per_second is None


def test_prediction_has_the_speed_of_its_inference_alone():
    stages = {"read": [[0.5]], "infer": [[0.02, 0.04], [0.03]]}
    found = row(case=CASE.model_copy(update={"mode": "predict"}), stages=stages)
    assert found.stage_ms("infer") == pytest.approx(30) and found.stage_ms("decode") is None
    assert found.gmacs_per_second == pytest.approx(4 * 8 / 0.030)


def test_the_ratio_is_the_median_of_the_rounds():
    """Medians of the rounds 2, 3, 8 over 1, 2, 2: ratios 2, 1.5 and 4, though the medians of all are 3 and 2."""
    a = row(seconds=[[2, 2, 9], [3], [7, 8, 9]])
    b = row(seconds=[[1, 1, 7], [2, 2, 2], [2]])
    found = Ratio.of(a, b)
    assert (found.low, found.median, found.high) == pytest.approx(((1.5 + 2) / 2, 2, (2 + 4) / 2))


def test_the_ratio_of_other_batches_is_that_of_the_time_for_an_image():
    single = row(case=Case(model="ResNet50", batch=1), seconds=[[0.02]])
    assert Ratio.of(row(seconds=[[0.08]]), single).median == pytest.approx(0.01 / 0.02)


@pytest.mark.parametrize(
    "given, reason",
    [({"error": "no kernel", "seconds": []}, "eager was not measured: no kernel"), ({"part": 1}, "not .* same rounds")],
)
def test_what_cannot_be_compared_says_why(given, reason):
    found = Ratio.of(row(), row(**given))
    assert found.median is None
    with pytest.raises(ValueError, match=reason):
        raise ValueError(found.error)


def test_the_limit_is_the_fastest_product_of_the_same_rounds_and_threads():
    limits = [gemm(100), gemm(160), gemm(900, part=1), gemm(800, threads=4), gemm(700, error="it crashed")]
    report = Report(machine=Machine(), settings=Settings(), rows=[row()], limits=limits)
    assert report.share_of_limit(report.rows[0]) == pytest.approx((4 * 8 / 0.060) / 160)
    assert report.share_of_limit(row(macs=None)) is None
    assert Report(machine=Machine(), settings=Settings()).share_of_limit(row()) is None


def report() -> Report:
    failed = Row(case=CASE.model_copy(update={"model": "dir/a, b", "engine": "auto"}), error='it says "no", twice\nso')
    predicted = row(case=CASE.model_copy(update={"mode": "predict"}), stages={"read": [[0.1 / 3]]}, peak_bytes=7)
    rows = [row(params=25, top1=78.3, library="paddlepaddle 3.3.1"), predicted, failed]
    return Report(
        machine=Machine(cpu='AMD "EPYC", 2', flags=["avx2"], versions={"numpy": "1.24.4"}, date="2026-01-01 00:00"),
        settings=Settings(rounds=3, command="ppcls_ext benchmark 'a b'"),
        rows=rows,
        limits=[gemm(160)],
        ratios=[Ratio.of(rows[0], predicted), Ratio.of(rows[0], failed)],
    )


def test_json_comes_back_equal_and_states_the_figures():
    before = report()
    text = to_json(before)
    assert Report.model_validate_json(text) == before
    assert '"p90_ms": 100.0' in text


def test_csv_comes_back_equal():
    before = report()
    read = list(csv.DictReader(io.StringIO(to_csv(before))))
    assert len(read) == len(before.rows)
    for cells, expected in zip(read, before.rows):
        assert cells["model"] == expected.case.model and int(cells["batch"]) == expected.case.batch
        for name in ("p50_ms", "p90_ms", "p99_ms", "images_per_second", "gmacs_per_second"):
            value = getattr(expected, name)
            assert (float(cells[name]) if cells[name] else None) == value
        assert cells["error"] == (expected.error or "")
        assert (cells["cpu"], cells["cpu_flags"]) == ('AMD "EPYC", 2', "avx2")
    assert float(read[1]["read_ms"]) == before.rows[1].stage_ms("read")
    assert float(read[0]["share_of_gemm"]) == before.share_of_limit(before.rows[0])


def test_all_files_are_written(tmp_path):
    write_all(report(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["benchmark.csv", "benchmark.json", "benchmark.md"]
    assert Report.model_validate_json((tmp_path / "benchmark.json").read_text(encoding="utf-8")) == report()
