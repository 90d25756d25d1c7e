"""What quantising a model came to, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Optional

from ppcls_ext.metrics.agreement import Agreement


@dataclass
class QuantizationReport:
    """The figures of one quantised model.

    Attributes:
        model: its name.
        engine: that was gated, and that ``auto`` takes for the folder.
        versions: of the engines.
        settings: how it was quantised.
        operators: heavy operators in int8 and in float, by type.
        bytes: of the float and of the int8 graph with its weights.
        labelled: whether accuracies are known.
        comparison: of the float and the int8 model in ``engine``.
        unread: images that could not be read, of the calibration and of the evaluation.
        in_float: groups of layers that returned to float.
        damages: what each group alone does in int8, if it was measured.
        tried: why the models on the way did not pass.
        milliseconds: an image, by ``float/<engine>`` and ``int8/<engine>``.
        timing: how they were taken.
        not_run: engines that cannot run the int8 graph, with the reason.
        other_engines: the comparison for the int8 graph in the other engines.
    """

    model: str
    engine: str
    versions: dict
    settings: dict
    operators: dict
    bytes: dict
    labelled: bool
    comparison: Agreement
    unread: dict
    in_float: list
    damages: dict
    tried: list
    milliseconds: dict
    timing: dict
    not_run: dict
    other_engines: dict

    @property
    def same_engine_ratio(self) -> float:
        """Time of the int8 model, as a fraction of the float model's in the same engine."""
        return self.milliseconds[f"int8/{self.engine}"] / self.milliseconds[f"float/{self.engine}"]

    @property
    def best_float(self) -> str:
        """The engine that runs the float graph fastest."""
        return min(
            (name.partition("/")[2] for name in self.milliseconds if name.startswith("float/")),
            key=lambda engine: self.milliseconds[f"float/{engine}"],
        )

    @property
    def best_ratio(self) -> float:
        """Time of the int8 model, as a fraction of the float model's in the engine that is fastest for it."""
        return self.milliseconds[f"int8/{self.engine}"] / self.milliseconds[f"float/{self.best_float}"]

    def to_dict(self) -> dict:
        """Return plain data, for JSON."""
        content = asdict(self)
        content["comparison"] = self.comparison.to_dict()
        content["other_engines"] = {name: found.to_dict() for name, found in self.other_engines.items()}
        content["milliseconds"] = {name: round(value, 3) for name, value in self.milliseconds.items()}
        content["ratio"] = {
            "same_engine": round(self.same_engine_ratio, 3),
            "best_float": round(self.best_ratio, 3),
            "best_float_engine": self.best_float,
        }
        return content

    def rows(self) -> list[tuple[str, str, str]]:
        """Return what is shown: a figure, its value for the float model, and for the int8 model."""
        found, engine = self.comparison, self.engine
        rows: list = [
            ("size", *(f"{self.bytes[kind] / 1e6:.2f} MB" for kind in ("float", "int8"))),
            ("operators in int8", "", _counted(self.operators["int8"])),
            ("operators in float", "", _counted(self.operators["float"])),
        ]
        if found.accuracy is not None and found.mcnemar is not None:
            rows.append((f"top-1 ({found.samples} images)", *(f"{100 * value:.2f} %" for value in found.accuracy)))
            only = f"{found.mcnemar.only_first} right in float only, {found.mcnemar.only_second} in int8 only"
            rows.append(("McNemar's test", "", f"p = {found.mcnemar.p_value:.3g} ({only})"))
        else:
            rows.append(("top-1", "not measured: no labels", "not measured: no labels"))
        rows.append(("agreement", "", f"{100 * found.agreement:.2f} % of {found.samples} images"))
        for name in sorted({key.partition("/")[2] for key in self.milliseconds}, key=lambda name: name != engine):
            times = [self.milliseconds.get(f"{kind}/{name}") for kind in ("float", "int8")]
            rows.append((f"{name}, ms an image", *(_time(value) for value in times)))
        rows.append((f"time of float in {engine}", "1", f"{self.same_engine_ratio:.2f}"))
        if self.best_float != engine:
            rows.append((f"time of float in {self.best_float}", "1", f"{self.best_ratio:.2f}"))
        for name, other in self.other_engines.items():
            said = f"{100 * other.agreement:.2f} %"
            if other.accuracy is not None:
                said = f"{100 * other.accuracy[1]:.2f} % top-1, {said} agreement"
            rows.append((f"the int8 graph in {name}", "", said))
        rows += [(f"the int8 graph in {name}", "", f"does not run: {reason}") for name, reason in self.not_run.items()]
        rows.append(("back in float", "", ", ".join(self.in_float) or "nothing"))
        return rows


def _counted(counts: dict) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"


def _time(value: Optional[float]) -> str:
    return "" if value is None else f"{value:.2f}"
