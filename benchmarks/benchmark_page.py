"""Fill docs/*/benchmark.md with the tables of benchmarks/results.

    python benchmarks/benchmark_page.py

``families.json`` is what ``ppcls_ext benchmark --output`` wrote as ``benchmark.json``; ``peers*.json`` is what runs of
``benchmarks/peers.py`` wrote, each over models of its own. A test fails while a page differs from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Sequence

from ppcls_ext.analysis.benchmark.caption import caption
from ppcls_ext.analysis.benchmark.columns import LANGUAGES, milliseconds, percent
from ppcls_ext.analysis.benchmark.results import FORWARD, TRAIN, Ratio, Report, Row
from ppcls_ext.analysis.benchmark.tables import markdown_table, to_markdown
from ppcls_ext.utils.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
#: In the order of LANGUAGES.
WORDS = {
    "model": ("Model", "模型"),
    "batch": ("Batch", "批大小"),
    "gemm": ("GEMM limit", "GEMM 极限"),
    "peer": ("Peer", "对照"),
    "best": ("best / best", "最快 / 最快"),
    "share": ("of GEMM", "占 GEMM"),
    "here": ("ppcls_ext", "ppcls_ext"),
    "forward": ("forward", "前向"),
    "train": ("training step", "训练步"),
    "ratio": ("ratio", "比值"),
    "official": ("official", "官方"),
    "colon": (": ", "："),
}
ENGINES = {"paddle": "Paddle", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def word(key: str, language: str) -> str:
    """Return a word of a table's head."""
    return WORDS[key][LANGUAGES.index(language)]


def filled(page: str, blocks: dict) -> str:
    """Return a page with each block between its marks, which are lines ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
        ValueError: a mark is missing.
    """
    for name, block in blocks.items():
        head, begin, rest = page.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition(f"<!-- /{name} -->")
        if not begin or not end:
            raise ValueError(f"the page has no lines <!-- {name} --> and <!-- /{name} -->")
        page = f"{head}{begin}\n{block.strip()}\n\n{end}{tail}"
    return page


def blocks(language: str) -> dict:
    """Return the generated parts of a page by name."""
    families = read(RESULTS / "families.json")
    peers = [read(path) for path in sorted(RESULTS.glob("peers*.json"), reverse=True)]
    return {"families": to_markdown(families, language), "peers": peers_tables(peers, language)}


def read(path: Path) -> Report:
    """Return the report in a file."""
    return Report.model_validate_json(path.read_text(encoding="utf-8"))


def peers_tables(reports: Sequence[Report], language: str) -> str:
    """Return both tables of the peers, in milliseconds for a batch, and what stands beside each run."""
    captions = []
    for report in reports:
        models = ", ".join(dict.fromkeys(model for model, _ in configurations(report)))
        lines = [models, *caption(report, language)] if len(reports) > 1 else caption(report, language)
        captions.append("\n".join(f"- {line}" for line in lines))
    # A line between lists, which would else be one.
    return "\n\n".join([engines_table(reports, language), eager_table(reports, language), "\n\n---\n\n".join(captions)])


def engines_table(reports: Sequence[Report], language: str) -> str:
    """Return the forward pass in every engine of both sides, the limit, and the ratio of the fastest."""
    colon = word("colon", language)
    there = [f"{word('peer', language)}{colon}{ENGINES[name]}" for name in ("onnxruntime", "openvino")]
    head = [
        word("model", language),
        word("batch", language),
        word("gemm", language),
        *(f"{word('here', language)}{colon}{name}" for name in ENGINES.values()),
        word("peer", language),
        *there,
        word("best", language),
        word("share", language),
    ]
    rows = []
    for report, model, batch in all_configurations(reports):
        here = [find(report, model, batch, FORWARD, True, engine) for engine in ENGINES]
        peers = [find(report, model, batch, FORWARD, False, engine) for engine in ("onnxruntime", "openvino")]
        best = fastest(here)
        rows.append(
            [
                model,
                str(batch),
                limit_cell(report, best),
                *map(time_cell, here),
                source_of(report, model, language),
                *map(time_cell, peers),
                ratio_cell(
                    ratio_of(report, best, fastest([*peers, find(report, model, batch, FORWARD, False, "torch")]))
                ),
                "-" if best is None else share_cell(report, best),
            ]
        )
    return markdown_table([head, *rows], [False, *[True] * 5, False, *[True] * 4])


def eager_table(reports: Sequence[Report], language: str) -> str:
    """Return eager mode beside PyTorch's: forward, and a step of training."""
    head = [word("model", language), word("batch", language)]
    for mode in ("forward", "train"):
        head += [
            f"{side}{word('colon', language)}{word(mode, language)}" for side in (word("here", language), "PyTorch")
        ]
        head.append(word("ratio", language))
    rows = []
    for report, model, batch in all_configurations(reports):
        cells = [model, str(batch)]
        for mode in (FORWARD, TRAIN):
            here = find(report, model, batch, mode, True, "eager")
            there = find(report, model, batch, mode, False, "torch")
            cells += [time_cell(here), time_cell(there), ratio_cell(ratio_of(report, here, there))]
        rows.append(cells)
    return markdown_table([head, *rows], [False, *[True] * 7])


def all_configurations(reports: Sequence[Report]) -> list[tuple[Report, str, int]]:
    """Return the models and batch sizes of several reports, each with its report."""
    return [(report, model, batch) for report in reports for model, batch in configurations(report)]


def configurations(report: Report) -> list[tuple[str, int]]:
    """Return the models and batch sizes of a report, in its order."""
    return list(dict.fromkeys((row.case.model, row.case.batch) for row in report.rows))


def find(report: Report, model: str, batch: int, mode: str, ours: bool, engine: str) -> Optional[Row]:
    """Return the fastest row of a side in an engine: PyTorch's two exporters write two graphs."""
    return fastest(
        [
            row
            for row in report.rows
            if (row.case.model, row.case.batch, row.case.mode, row.case.engine) == (model, batch, mode, engine)
            and (row.case.source == "ppcls_ext") == ours
        ]
    )


def fastest(rows: Sequence[Optional[Row]]) -> Optional[Row]:
    """Return the row with the smallest median; None without one that was measured."""
    measured = [row for row in rows if row is not None and row.p50_ms is not None]
    return min(measured, key=lambda row: row.p50_ms or float("inf")) if measured else None


def ratio_of(report: Report, here: Optional[Row], there: Optional[Row]) -> Optional[Ratio]:
    """Return the ratio of two rows, round by round."""
    return None if here is None or there is None else Ratio.of(here, there)


def source_of(report: Report, model: str, language: str) -> str:
    """Return where a peer is from."""
    sources = [row.case.source for row in report.rows if row.case.model == model and row.case.source != "ppcls_ext"]
    return "timm" if any(source.startswith("timm") for source in sources) else word("official", language)


def time_cell(row: Optional[Row]) -> str:
    """Return the median in milliseconds."""
    return "-" if row is None or row.p50_ms is None else milliseconds(row.p50_ms)


def ratio_cell(ratio: Optional[Ratio]) -> str:
    """Return a ratio with its quartiles."""
    if ratio is None or ratio.median is None:
        return "-"
    return f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"


def limit_cell(report: Report, row: Optional[Row]) -> str:
    """Return how long the multiply-adds of a row would take at the speed of the matrix product."""
    limit = None if row is None else report.limit_of(row)
    if row is None or limit is None or row.macs is None or not limit.gmacs_per_second:
        return "-"
    return milliseconds(row.macs * row.case.batch / limit.gmacs_per_second / 1e6)


def share_cell(report: Report, row: Row) -> str:
    """Return the speed of a row as a part of that of the matrix product."""
    share = report.share_of_limit(row)
    return "-" if share is None else percent(share)


def main() -> None:
    """Fill the pages of both languages."""
    for language in LANGUAGES:
        path = ROOT / "docs" / language / "benchmark.md"
        text = filled(path.read_text(encoding="utf-8"), blocks(language))
        write_atomically(path, lambda aside, text=text: aside.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main()
