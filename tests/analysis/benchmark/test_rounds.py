"""Who is measured when, on a clock that the tests turn; nothing here depends on how fast a machine is."""

import pytest

from ppcls_ext.analysis.benchmark.results import Case, Ratio, Row
from ppcls_ext.analysis.benchmark.rounds import run_rounds
from ppcls_ext.analysis.benchmark.worker import Runs


class Clock:
    """A clock that stands still unless it is turned."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Model:
    """Takes ``seconds`` a run on a machine that becomes slower and slower."""

    def __init__(self, name, seconds, clock, log, fails_in=None):
        self.row = Row(case=Case(model=name))
        self.seconds, self.clock, self.log, self.fails_in = seconds, clock, log, fails_in

    @property
    def failed(self):
        return self.row.error is not None

    def run(self):
        self.clock.now += self.seconds * (1 + self.clock.now / 3)

    def measure(self):
        self.log.append(self.row.case.model)
        if len(self.row.seconds) == self.fails_in:
            self.row.error = "it crashed"
            return
        self.row.seconds.append(Runs.measure(self.run, least=3, seconds=0.5, clock=self.clock).seconds)


def test_a_planted_slow_model_is_found_slower_though_the_machine_slows_down():
    """The machine ends up several times slower, so that medians over everything would mislead; rounds do not."""
    clock, log = Clock(), []
    fast, slow = Model("fast", 0.10, clock, log), Model("slow", 0.15, clock, log)
    run_rounds([slow, fast], 8)
    assert slow.row.seconds[-1][0] > 3 * slow.row.seconds[0][0]
    found = Ratio.of(slow.row, fast.row)
    assert found.median == pytest.approx(1.5, rel=0.05)
    assert Ratio.of(fast.row, slow.row).median == pytest.approx(1 / 1.5, rel=0.05)
    assert slow.row.images_per_second < fast.row.images_per_second


def test_every_second_round_goes_backwards():
    clock, log = Clock(), []
    pauses = []
    run_rounds([Model(name, 0.1, clock, log) for name in "ABC"], 3, lambda: pauses.append(len(log)))
    assert "".join(log) == "ABCCBAABC"
    assert pauses == list(range(9))


def test_one_that_failed_has_no_further_turn():
    clock, log = Clock(), []
    models = [Model("A", 0.1, clock, log), Model("B", 0.1, clock, log, fails_in=1), Model("C", 0.1, clock, log)]
    run_rounds(models, 3)
    assert "".join(log) == "ABCCBAAC"
    assert [len(model.row.seconds) for model in models] == [3, 1, 3]


@pytest.mark.parametrize(
    "least, seconds, expected",
    [(3, 0.5, 3), (1, 0.5, 2), (1, 1.0, 4), (6, 0.1, 6)],  # a run takes a quarter of a second
)
def test_a_turn_has_so_many_runs_and_so_much_time_at_least(least, seconds, expected):
    clock = Clock()
    calls = []

    def run():
        calls.append(clock.now)
        clock.now += 0.25
        return {"read": 0.05, "infer": 0.2}

    found = Runs.measure(run, least, seconds, clock)
    assert found.seconds == [0.25] * expected
    assert found.stages == {"read": [0.05] * expected, "infer": [0.2] * expected}
    assert len(calls) == expected + 1, "the first run warms the caches and is not timed"
