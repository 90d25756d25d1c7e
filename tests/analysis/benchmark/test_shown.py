"""Tables and pictures of a report that is made up."""

import re

import pytest
from PIL import Image

from ppcls_ext.analysis import drawing
from ppcls_ext.analysis.benchmark import pictures
from ppcls_ext.analysis.benchmark.columns import milliseconds
from ppcls_ext.analysis.benchmark.results import Case, Ratio, Report, Row, Settings
from ppcls_ext.analysis.benchmark.tables import show, to_markdown
from ppcls_ext.analysis.machine import Machine

MACHINE = Machine(
    cpu="AMD EPYC", flags=["avx2", "avx512_vnni"], cores=2, versions={"onnxruntime": "1.2"}, environment={"MKL_X": "5"}
)


def row(model="A", engine="eager", seconds=0.01, **given):
    case = Case(model=model, engine=engine, threads=2, **given.pop("case", {}))
    return Row(case=case, seconds=[[seconds]], library="onnxruntime 1.2", place="CPU", **given)


def report(*rows, ratios=()):
    gemm = Row(case=Case(model="GEMM", mode="gemm", height=64, threads=2), seconds=[[1.0]], macs=150 * 10**9)
    gemm.library = "paddlepaddle 3"
    settings = Settings(rounds=7, command="ppcls_ext benchmark A")
    return Report(machine=MACHINE, settings=settings, rows=list(rows), limits=[gemm], ratios=list(ratios))


def table(text):
    """Return the cells of the first table of a Markdown text, by the titles of the columns."""
    lines = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line[:1] == "|"
    ]
    assert len({len(line) for line in lines}) == 1
    return [dict(zip(lines[0], line)) for line in lines[2:]]


def test_a_markdown_row_says_what_was_measured():
    text = to_markdown(report(row(macs=10**9, peak_bytes=700 * 10**6, loaded_bytes=500 * 10**6)))
    (cells,) = table(text)
    expected = {"Model": "A", "Engine": "eager", "Batch": "1", "Size": "224", "p50, ms": "10.0", "Images/s": "100.0"}
    expected.update(
        {"Peak, MB": "700", "Above libraries, MB": "200", "GMACs": "1.00", "GMAC/s": "100", "Of GEMM": "67%"}
    )
    assert expected.items() <= cells.items()


@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_machine_versions_threads_and_limit_stand_beside(language):
    text = to_markdown(report(row()), language)
    wanted = ["AMD EPYC", "avx2 avx512_vnni", "onnxruntime 1.2", "MKL_X=5", "ppcls_ext benchmark A"]
    wanted += {
        "en": ["2 threads: paddlepaddle 3 150", "7 interleaved rounds", "CPU only", "threads 2, mode forward"]
    }.get(language, ["2 线程：paddlepaddle 3 150", "7 个回合", "线程数 2，模式 forward"])
    assert [piece for piece in wanted if piece not in text] == []


def test_what_all_rows_share_is_said_once():
    alike = table(to_markdown(report(row(), row("B"))))
    differing = table(to_markdown(report(row(), row("B", case={"precision": "bf16", "mode": "train"}))))
    assert not {"Precision", "Mode", "Threads", "Why not"} & set(alike[0])
    assert [(cells["Precision"], cells["Mode"]) for cells in differing] == [("fp32", "forward"), ("bf16", "train")]


def test_a_failure_is_a_row_with_its_reason():
    failed = Row(case=Case(model="A", engine="paddle", threads=2), error="a | in the message")
    ok, not_ok = table(to_markdown(report(row(), failed)))
    assert (ok["Why not"], not_ok["Why not"], not_ok["p50, ms"]) == ("-", r"a \| in the message", "-")


def test_auto_shows_what_it_chose():
    assert table(to_markdown(report(row(engine="auto"))))[0]["Engine"] == "auto (onnxruntime)"


def test_ratios_name_what_differs(capsys):
    a, b = row("A", seconds=0.02), row("A", "paddle", case={"batch": 8}, seconds=0.08)
    found = report(a, b, ratios=[Ratio.of(a, b)])
    assert "| A, eager, batch 1 | A, paddle, batch 8 | 2.00 | 2.00–2.00 |" in to_markdown(found)
    show(found)
    out = capsys.readouterr().out
    assert "A, paddle, batch 8" in out and "2.00–2.00" in out and "AMD EPYC" in out


@pytest.mark.parametrize("value, shown", [(1.234, "1.23"), (12.34, "12.3"), (123.4, "123")])
def test_times_have_three_digits(value, shown):
    assert milliseconds(value) == shown


# ---- pictures -----------------------------------------------------------------------------------------------------


def at_sizes(model, *sizes, **given):
    return [row(model, case={"height": size, "width": size}, peak_bytes=size * 10**6, **given) for size in sizes]


def test_what_pictures_show():
    """Accuracy only where it is published; a line only where there are two sizes, by growing size."""
    found = report(
        row("P", top1=80.0),
        row("T", top1=80.0, case={"mode": "train"}),
        row("Q"),
        Row(case=Case(model="R", threads=2), top1=70.0, error="x"),
        *at_sizes("S", 64, 32),
    )
    assert [point.case.model for point in pictures.accuracy_points(found)] == ["P"]
    lines = pictures.resolution_lines(found)
    heights = {name: [point.case.height for point in line] for name, line in lines.items()}
    assert heights == {"S, eager, forward": [32, 64]}


@pytest.mark.parametrize(
    "rows, names",
    [
        ([row("P", top1=80.0)], ["accuracy.png"]),
        (at_sizes("S", 64, 32, top1=80.0), ["accuracy.png", "resolution.png"]),
        ([row("Q")], []),
    ],
)
def test_pictures_are_drawn_where_there_are_figures(tmp_path, rows, names):
    pytest.importorskip("matplotlib")
    assert [path.name for path in pictures.draw_all(report(*rows), tmp_path)] == names
    for name in names:
        with Image.open(tmp_path / name) as image:
            assert len(image.convert("RGB").getcolors(10**6)) > 10, "not blank"


def test_labels_do_not_overlap():
    assert pictures.spread([1.0, 1.5, 3.0, 3.0, 9.0], 1.0) == [1.0, 2.0, 3.0, 4.0, 9.0]
    assert pictures.spread([], 1.0) == []


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(drawing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(drawing.DrawingError, match=r'pip install "ppcls_ext\[plot\]".*--no_plot'):
        drawing.require_matplotlib("leave them out with --no_plot")
