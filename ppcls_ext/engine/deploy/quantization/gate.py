"""The gate: what an int8 model must reach, and which layers return to float until it does."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Callable, Collection, Optional, Sequence

from ppcls_ext.engine.deploy.quantization.errors import QuantizationError
from ppcls_ext.metrics.agreement import Agreement

logger = logging.getLogger("ppcls_ext")

DEFAULT_TOLERANCE = 0.5
DEFAULT_AGREEMENT = 98.0


@dataclass(frozen=True)
class Gate:
    """What is asked of an int8 model.

    Attributes:
        tolerance: points of top-1 accuracy that it may lose, where labels are known.
        agreement: percent of the images that must get the float model's class, where they are not.
    """

    tolerance: float = DEFAULT_TOLERANCE
    agreement: float = DEFAULT_AGREEMENT

    def problem(self, found: Agreement) -> Optional[str]:
        """Return why a model does not pass, or None; the float model comes first in ``found``."""
        if found.accuracy is None:
            reached = 100 * found.agreement
            if round(reached, 6) >= self.agreement:
                return None
            return f"agrees with the float model on {reached:.2f} % of the images, below {self.agreement:g} %"
        loss = 100 * (found.accuracy[0] - found.accuracy[1])
        if round(loss, 6) <= self.tolerance:
            return None
        return f"loses {loss:.2f} points of top-1 accuracy, more than the tolerated {self.tolerance:g}"


@dataclass
class Passed:
    """A model that passed.

    Attributes:
        found: of the comparison with the float model.
        in_float: groups that are in float, in the order in which they returned.
        damages: how much each group alone changes the probabilities in int8; empty if that was not measured.
        tried: what each model said on the way, the first with all groups in int8.
    """

    found: Agreement
    in_float: list[str]
    damages: dict[str, float] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)


def pass_gate(
    gate: Gate,
    groups: Sequence[str],
    compare: Callable[[Collection[str]], Agreement],
    damage_of: Callable[[str], float],
) -> Passed:
    """Return groups to float, the one that hurts most first, until the model passes.

    Args:
        gate: what it must reach.
        groups: that are in int8 at first.
        compare: makes the model with some groups in float and compares it with the float model.
        damage_of: measures the model in which one group alone is in int8; larger is worse. Called only if the model
            with all groups in int8 does not pass.

    Raises:
        QuantizationError: it does not pass even with one group left in int8.
    """
    in_float: list[str] = []
    damages: dict[str, float] = {}
    tried: list[str] = []
    while True:
        found = compare(in_float)
        problem = gate.problem(found)
        if problem is None:
            return Passed(found, in_float, damages, tried)
        tried.append(problem)
        logger.warning("in int8 but for %s, the model %s", ", ".join(in_float) or "nothing", problem)
        if len(in_float) + 1 >= len(groups):
            raise QuantizationError(
                f"nothing is written: with all but one of {len(groups)} groups of layers in float, the model {problem}"
            )
        if not damages:
            damages = {group: damage_of(group) for group in groups}
            worst = sorted(damages, key=lambda group: -damages[group])
            listed = ", ".join(f"{group} {damages[group]:.4f}" for group in worst[:5])
            logger.info("groups that change the probabilities most, each alone in int8: %s", listed)
        in_float.append(worst[len(in_float)])
