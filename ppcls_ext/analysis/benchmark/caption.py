"""What stands beside the figures, in either language: machine, versions, how it was measured, the limit, ratios."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from ppcls_ext.analysis.benchmark.columns import label, shared
from ppcls_ext.analysis.benchmark.results import Report


def caption(report: Report, language: str = "en") -> list[str]:
    """Return what a reader must know of the figures, a line for each thing."""
    machine, settings = report.machine, report.settings
    lines = of_machine(report, language)
    same = shared(report, language)
    lines.append(
        _two(
            language,
            f"Measured on {machine.date} UTC: {settings.rounds} interleaved rounds of at least {settings.seconds:g} s "
            f"and {settings.runs} runs, after {settings.warmup} runs to warm up; load before: {machine.load}",
            f"测于 {machine.date}（UTC）：交错进行 {settings.rounds} 个回合，每回合至少 {settings.seconds:g} 秒、"
            f"{settings.runs} 次运行，此前预热 {settings.warmup} 次；开始前的系统负载：{machine.load}",
        )
    )
    if same:
        lines.append(_two(language, "All rows: " + ", ".join(same), "各行相同：" + "，".join(same)))
    lines += limits(report, language)
    if settings.command:
        lines.append(_two(language, f"Command: `{settings.command}`", f"命令：`{settings.command}`"))
    return lines


def of_machine(report: Report, language: str = "en") -> list[str]:
    """Return what the machine and the installation are."""
    machine = report.machine
    lines = [
        _two(
            language,
            f"Machine: {machine.cpu}, {machine.cores} cores ({' '.join(machine.flags)}), {machine.system}"
            + _joined(_places(report, language), "; "),
            f"机器：{machine.cpu}，{machine.cores} 核（{' '.join(machine.flags)}），{machine.system}"
            + _joined(_places(report, language), "；"),
        ),
        _two(language, "Versions: Python ", "版本：Python ")
        + _two(language, ", ", "、").join([machine.python, *(f"{k} {v}" for k, v in machine.versions.items())]),
    ]
    if machine.environment:
        settings_text = ", ".join(f"{name}={value}" for name, value in machine.environment.items())
        lines.append(_two(language, f"Environment: `{settings_text}`", f"环境变量：`{settings_text}`"))
    return lines


def limits(report: Report, language: str = "en") -> list[str]:
    """Return a line on the matrix products: the speed of each library on each number of threads."""
    speeds: dict = {}
    for limit in report.limits:
        if not limit.error and limit.gmacs_per_second:
            key = (limit.case.threads, limit.library)
            speeds.setdefault(key, []).append(limit.gmacs_per_second)
    if not speeds:
        return []
    side = next(limit.case.height for limit in report.limits)
    found = []
    for threads in sorted({threads for threads, _ in speeds}):
        libraries = [
            f"{library} {np.median(values):.0f}" for (count, library), values in speeds.items() if count == threads
        ]
        noun = _two(language, "thread" if threads == 1 else "threads", "线程")
        found.append(f"{threads} {noun}{_two(language, ': ', '：')}{', '.join(libraries)}")
    return [
        _two(
            language,
            f"Float32 GEMM {side}x{side}x{side} in the same rounds, GMAC/s; {'; '.join(found)}",
            f"同一批回合中的 float32 矩阵乘（{side}×{side}×{side}），GMAC/s；{'；'.join(found)}",
        )
    ]


def ratio_table(report: Report, language: str = "en") -> list[list[str]]:
    """Return head and rows of a table of ratios."""
    head = ["A", "B", _two(language, "Time A / B", "耗时 A / B"), _two(language, "Quartiles", "四分位数")]
    rows = []
    for ratio in report.ratios:
        a, b = label(report, ratio.a), label(report, ratio.b)
        if ratio.median is None:
            rows.append([a, b, "-", ratio.error or "-"])
        else:
            rows.append([a, b, f"{ratio.median:.2f}", f"{ratio.low:.2f}–{ratio.high:.2f}"])
    return [head, *rows]


def _places(report: Report, language: str) -> list[str]:
    found = dict.fromkeys(row.place for row in report.rows if row.place)
    return [_two(language, "CPU only", "仅 CPU")] if list(found) == ["CPU"] else list(found)


def _joined(items: Sequence[str], separator: str) -> str:
    return separator + ", ".join(items) if items else ""


def _two(language: str, english: str, chinese: str) -> str:
    return english if language == "en" else chinese
