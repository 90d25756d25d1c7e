"""From the options of a command line to the configurations that are run, and to the pairs that are compared."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Optional, Sequence

from ppcls_ext.analysis.benchmark.results import MODES, TRAIN, Case, Row
from ppcls_ext.analysis.benchmark.targets import Target
from ppcls_ext.utils.spelling import nearest

EAGER, AUTO = "eager", "auto"
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
#: The fields of a configuration that ``--compare`` may name, by the names of their options.
FIELDS = {
    "model": "model",
    "engine": "engine",
    "precision": "precision",
    "batch_size": "batch",
    "resolution": "resolution",
    "threads": "threads",
    "mode": "mode",
}


@dataclass(frozen=True)
class Options:
    """Values of which the product is run.

    Attributes:
        engines: None means eager for backbones and ``auto`` for exports.
        precisions: None means the export's own, and fp32 for backbones.
        batches: images a run.
        resolutions: (height, width) each; None means each model's own.
        threads: on the CPU.
        modes: of :data:`~ppcls_ext.analysis.benchmark.results.MODES`.
        device: ``cpu``, ``gpu`` or ``gpu:<number>``.
    """

    engines: Optional[Sequence[str]] = None
    precisions: Optional[Sequence[str]] = None
    batches: Sequence[int] = (1,)
    resolutions: Optional[Sequence[tuple[int, int]]] = None
    threads: Sequence[int] = (1,)
    modes: Sequence[str] = MODES[:1]
    device: str = "cpu"


@dataclass
class Job:
    """One configuration of a target, and why it cannot be, if that is known beforehand."""

    case: Case
    target: Target
    refusal: Optional[str] = None
    options: dict = field(default_factory=dict)


def plan(targets: Sequence[Target], options: Options) -> list[Job]:
    """Return the product of the options for all targets; what cannot be is there with its reason."""
    jobs = []
    for target in targets:
        exported = target.folder is not None
        product = itertools.product(
            options.modes,
            options.threads,
            options.resolutions or [target.size],
            options.batches,
            options.precisions or [target.precision or PRECISIONS[0]],
            options.engines or [AUTO if exported else EAGER],
        )
        for mode, threads, (height, width), batch, precision, engine in product:
            case = Case(
                model=target.name,
                source=target.source,
                engine=engine,
                precision=precision,
                batch=batch,
                height=height,
                width=width,
                threads=threads,
                mode=mode,
                device=options.device,
            )
            jobs.append(Job(case, target, _refusal(case, target)))
    return jobs


def _refusal(case: Case, target: Target) -> Optional[str]:
    """Return why a configuration cannot be, as far as that needs no trying."""
    exported = target.folder is not None
    if exported and case.engine == EAGER:
        return "an exported folder runs in an engine, not in eager mode"
    if case.mode == TRAIN and case.engine != EAGER:
        return "an exported graph cannot be trained; only the engine eager can"
    if exported and case.precision != target.precision:
        return f"the folder was exported in {target.precision}"
    if exported:
        return None
    if case.precision == "int8":
        return "int8 is an export of its own: give the folder of a quantised export"
    if case.engine != EAGER and case.precision != PRECISIONS[0]:
        return f"a backbone is exported in fp32; {case.precision} is for the engine eager"
    return None


# ---- comparing ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selector:
    """Rows by the values of some fields."""

    wanted: tuple[tuple[str, str], ...]

    def matches(self, case: Case) -> bool:
        """Return whether a configuration has all of the values."""
        return all(str(getattr(case, FIELDS[name])) == value for name, value in self.wanted)


def parse_selectors(words: Sequence[str], cases: Sequence[Case]) -> tuple[Selector, ...]:
    """Return the two sides of ``--compare A B``.

    Args:
        words: each ``value`` or ``field=value``, several joined by commas; a bare value is that of a field of which it
            is a value in this run.
        cases: of this run.

    Raises:
        ValueError: a field or a value does not occur, or a bare value is one of several fields.
    """
    return tuple(Selector(tuple(_term(term, cases) for term in word.split(","))) for word in words)


def _term(term: str, cases: Sequence[Case]) -> tuple[str, str]:
    name, equals, value = term.partition("=")
    values = {key: list(dict.fromkeys(str(getattr(case, attr)) for case in cases)) for key, attr in FIELDS.items()}
    if equals:
        if name not in FIELDS:
            hint = nearest(name, FIELDS, 1)
            raise ValueError(
                f"--compare {term}: there is no {name!r}; "
                + (f"did you mean {hint[0]}?" if hint else f"one of {', '.join(FIELDS)}")
            )
        if value not in values[name]:
            raise ValueError(f"--compare {term}: {name} is {' or '.join(values[name])} in this run")
        return name, value
    owners = [key for key, known in values.items() if term in known]
    if not owners:
        hint = nearest(term, [value for known in values.values() for value in known], 1)
        raise ValueError(
            f"--compare {term}: nothing in this run is called so" + (f"; did you mean {hint[0]}?" if hint else "")
        )
    if len(owners) > 1:
        raise ValueError(f"--compare {term}: say which is meant, {' or '.join(f'{key}={term}' for key in owners)}")
    return owners[0], term


def pairs(cases: Sequence[Case], sides: Sequence[Selector]) -> list[tuple[Case, Case]]:
    """Return the configurations that the two sides of a comparison pair: equal in every field that neither names.

    Raises:
        ValueError: there is no such pair, or one side names no single partner.
    """
    a, b = sides
    named = {FIELDS[name] for side in sides for name, _ in side.wanted}
    if "resolution" in named:
        named |= {"height", "width"}
    if "model" in named:
        named |= {"source"}

    def rest(case: Case) -> tuple:
        return tuple((name, value) for name, value in case.model_dump().items() if name not in named)

    found = []
    for case in filter(a.matches, cases):
        partners = [other for other in cases if other != case and b.matches(other) and rest(other) == rest(case)]
        if len(partners) > 1:
            raise ValueError(f"--compare: {case} has several partners; name more fields on both sides")
        found += [(case, partner) for partner in partners]
    if not found:
        raise ValueError(
            "--compare: no two configurations differ in nothing else than what it names; models of different sizes "
            "need --resolution"
        )
    return found


def parts(jobs: Sequence[Job], compared: Sequence[tuple[Case, Case]], at_once: int) -> list[list[Job]]:
    """Divide the jobs into parts whose processes are open side by side, and whose rounds are therefore interleaved.

    Those of one model, mode, resolution, batch size and number of threads stay together, and so do those that are
    compared; besides, a part is filled up to ``at_once``.
    """
    groups: dict = {}
    for job in jobs:
        case = job.case
        key = (case.model, case.mode, case.threads, case.height, case.width, case.batch)
        groups.setdefault(key, []).append(job)
    merged = list(groups.values())
    for pair in compared:
        touched = [group for group in merged if any(job.case in pair for job in group)]
        if len(touched) > 1:
            first, *others = touched
            for other in others:
                first.extend(other)
                merged.remove(other)
    filled: list[list[Job]] = []
    for group in merged:
        if filled and len(filled[-1]) + len(group) <= at_once:
            filled[-1].extend(group)
        else:
            filled.append(list(group))
    return filled


def row_of(rows: Sequence[Row], case: Case) -> Row:
    """Return the row of a configuration."""
    return next(row for row in rows if row.case == case)
