"""Rounds: every participant once, in an order that turns round."""

from __future__ import annotations

from typing import Callable, Protocol, Sequence


class Participant(Protocol):
    """Something that can be measured for a while; ``failed`` once it cannot any more."""

    @property
    def failed(self) -> bool:
        """Whether it takes no further part."""
        ...

    def measure(self) -> None:
        """Run for one round and keep the figures."""
        ...


def run_rounds(
    participants: Sequence[Participant], rounds: int, before_each: Callable[[], object] = lambda: None
) -> None:
    """Measure all participants, each once a round.

    Every second round goes backwards, so that nobody always follows the same other or always comes first: what drifts
    (heat, other work on the machine) falls on all alike, and a ratio of two in one round compares like with like.

    Args:
        participants: who takes part.
        rounds: number of rounds.
        before_each: called before each measurement.
    """
    for number in range(rounds):
        for participant in participants if number % 2 == 0 else reversed(participants):
            if not participant.failed:
                before_each()
                participant.measure()
