"""A configuration: PaddleClas's YAML with ``-o`` overrides, validated whole before any data is read."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Iterable, Optional, Union

from pydantic import ValidationError

from ppcls_ext.config.config import Config
from ppcls_ext.config.messages import problems_of
from ppcls_ext.config.report import Report
from ppcls_ext.config.source import ConfigError, Problem, Source, apply_override, read_yaml

#: Mode -> sections that it uses. What ppcls_ext does not support is no obstacle in the other ones.
MODES = {
    "train": ("Global", "Arch", "AMP", "EMA", "Loss", "Optimizer", "DataLoader", "Metric"),
    "eval": ("Global", "Arch", "AMP", "Loss.Eval", "DataLoader.Eval", "Metric.Eval"),
    "infer": ("Global", "Arch", "Infer"),
    "export": ("Global", "Arch", "DataLoader.Eval", "Infer"),
}
#: Keys of Global that say how to train.
_TRAINING_KEYS = ("Global.to_static", "Global.train_mode")


def load_config(path: Union[str, Path], overrides: Iterable[str] = (), mode: str = "train") -> Config:
    """Read, override and validate a configuration.

    Args:
        path: a YAML file in PaddleClas's schema.
        overrides: ``a.b.c=value`` each; the value is read as YAML and never evaluated, a list item is named by its
            index.
        mode: ``train``, ``eval``, ``infer`` or ``export``: it decides which sections must be there and which files.

    Raises:
        ConfigError: with every problem that was found.
        ValueError: if ``mode`` is none of these.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    source = read_yaml(path)
    for override in overrides:
        apply_override(source, override)
    _normalise(source)
    warnings: list[str] = []
    config, problems = _validate(source)
    # A recipe whose training uses what we lack can still be evaluated or exported: drop what the mode does not use.
    refused = {_unit(problem.key) for problem in source.problems + problems if problem.kind == "unsupported"}
    unused = sorted(unit for unit in refused if not _is_used(unit, mode))
    for unit in unused:
        warnings.append(f"{unit} is left out: it asks for what is not supported, and {mode} does not use it")
        _drop(source, unit)
    if unused:
        config, problems = _validate(source)
    problems = [problem for problem in source.problems if _unit(problem.key) not in unused] + problems
    rest = config or _without(source, problems)
    if rest is not None:
        rest._mode, rest._source, rest._warnings = mode, source, warnings
        report = Report(rest, source, mode)
        from ppcls_ext.config.checks import check  # needs Paddle, which this room can be imported without

        check(report)
        taken_out = [problem.key for problem in problems]
        problems += [problem for problem in report.problems if not _is_about(problem.key, taken_out)]
        warnings += report.warnings
    if problems:
        raise ConfigError(problems)
    return config


def _without(source: Source, problems: list) -> Optional[Config]:
    """Return the configuration without the values that are wrong, so that the rest can be checked as well."""
    data = copy.deepcopy(source.data)
    for problem in problems:
        *parents, last = problem.key.split(".")
        container: Any = data
        for step in parents:
            container = container.get(step) if isinstance(container, dict) else None
        if isinstance(container, dict):
            container.pop(last, None)
    try:
        return Config.model_validate(data)
    except ValidationError:
        return None


def _is_about(key: str, others: Iterable[str]) -> bool:
    """Return whether ``key`` is one of ``others``, above or below it."""
    return any(f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.") for other in others if other)


def _validate(source: Source) -> tuple:
    """Return ``(config, [])`` or ``(None, problems)``."""
    try:
        return Config.model_validate(source.data), []
    except ValidationError as error:
        return None, problems_of(error, source)


def _normalise(source: Source) -> None:
    """Bring PaddleClas's other spellings into the one form that the schema has."""
    data = source.data
    optimizer = data.get("Optimizer")
    if isinstance(optimizer, list):
        _from_list_form(source, optimizer)
    run, arch = data.get("Global"), data.get("Arch")
    if isinstance(run, dict) and isinstance(arch, dict) and "class_num" in run:
        count = run.pop("class_num")
        if arch.get("class_num", count) != count:
            source.problems.append(
                Problem(
                    source.where(("Global", "class_num")),
                    "Global.class_num",
                    f"got {count!r}, but Arch.class_num is {arch['class_num']!r}; leave Global.class_num out",
                )
            )
        elif "class_num" not in arch:
            arch["class_num"] = count
            source.move(("Global", "class_num"), ("Arch", "class_num"))


def _from_list_form(source: Source, optimizer: list) -> None:
    """Turn ``[{AdamW: {scope: all, ...}}]`` into ``{name: AdamW, ...}``."""

    def refuse(message: str, kind: str = "wrong") -> None:
        source.problems.append(Problem(source.where(("Optimizer",)), "Optimizer", message, kind))
        source.data.pop("Optimizer")

    if len(optimizer) != 1:
        refuse(f"a list of {len(optimizer)} optimizers is not supported, only a single one", "unsupported")
        return
    item = optimizer[0]
    if not isinstance(item, dict) or len(item) != 1 or not isinstance([*item.values()][0], dict):
        refuse("expected a mapping with name and lr, or a list of one {Name: {scope: all, lr: ...}}")
        return
    ((name, arguments),) = item.items()
    scope = arguments.pop("scope", "all")
    if scope != "all":
        refuse(f"scope {scope!r} is not supported, only all", "unsupported")
        return
    source.move(("Optimizer", 0, name), ("Optimizer",))
    source.data["Optimizer"] = {"name": name, **arguments}


def _unit(key: str) -> str:
    """Return the part of the configuration that is used or not as a whole, such as ``DataLoader.Train``."""
    if key in _TRAINING_KEYS:
        return key
    parts = key.split(".")
    return ".".join(parts[: 2 if parts[0] in ("DataLoader", "Loss", "Metric") else 1])


def _is_used(unit: str, mode: str) -> bool:
    if unit in _TRAINING_KEYS:
        return mode == "train"
    if unit in ("Slim", "MLDecoder"):
        return True
    return any(unit == used or unit.startswith(used + ".") or used.startswith(unit + ".") for used in MODES[mode])


def _drop(source: Source, unit: str) -> None:
    section, _, part = unit.partition(".")
    if part and isinstance(source.data.get(section), dict):
        source.data[section].pop(part, None)
    else:
        source.data.pop(section, None)
