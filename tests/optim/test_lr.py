"""Schedules step by step against PaddleClas's formulas, written down in NumPy."""

import math

import numpy as np
import pytest

from ppcls_ext.optim import build_lr_scheduler

pytestmark = pytest.mark.compat

EPOCHS, STEPS = 6, 5


def values(section, epochs=EPOCHS, steps=STEPS):
    """Return the learning rate of every optimizer step of a run."""
    scheduler = build_lr_scheduler(section, epochs, steps)
    rates = []
    for _ in range(epochs):
        for _ in range(steps):
            rates.append(scheduler())
            if not scheduler.by_epoch:
                scheduler.step()
        if scheduler.by_epoch:
            scheduler.step()
    return np.array(rates)


def expected(rule, warmup=0, start=0.0, peak=0.4, by_epoch=False):
    """Return ``rule(t)`` after ``warmup`` units of a linear rise from ``start`` to ``peak``."""
    rates = []
    for step in range(EPOCHS * STEPS):
        unit = step // STEPS if by_epoch else step
        rates.append(start + (peak - start) * unit / warmup if unit < warmup else rule(unit - warmup))
    return np.array(rates)


def cosine(length, low=0.0, peak=0.4):
    return lambda t: low + (peak - low) * (1 + math.cos(math.pi * t / length)) / 2


def one_cycle(points, form):
    """Return the rule that joins (position, rate) by a form of [0, 1] -> [0, 1]."""

    def rule(t):
        for (x0, y0), (x1, y1) in zip(points, points[1:]):
            if t <= x1:
                return y0 + (y1 - y0) * form((t - x0) / (x1 - x0))
        raise AssertionError(t)

    return rule


def half_cosine(x):
    return (1 - math.cos(math.pi * x)) / 2


CASES = {
    # Smith and Topin's cycle; of 30 steps 0.3 rise, so the peak is at step 8
    "one cycle": (
        {"name": "OneCycleLR", "learning_rate": None, "max_learning_rate": 0.4, "divide_factor": 10.0},
        expected(one_cycle([(0, 0.04), (8, 0.4), (29, 1e-4)], half_cosine)),
    ),
    "one cycle by epoch in three lines": (
        {
            **{"name": "OneCycleLR", "learning_rate": None, "max_learning_rate": 0.4, "divide_factor": 4.0},
            **{"three_phase": True, "phase_pct": 1 / 3, "anneal_strategy": "linear", "by_epoch": True},
        },
        expected(one_cycle([(0, 0.1), (1, 0.4), (2, 0.1), (5, 1e-4)], lambda x: x), by_epoch=True),
    ),
    "constant": ({"name": "Constant"}, expected(lambda t: 0.4)),
    "no name": ({}, expected(lambda t: 0.4)),
    "ConstLR with warm-up": (
        {"name": "ConstLR", "warmup_epoch": 2, "warmup_start_lr": 0.1},
        expected(lambda t: 0.4, warmup=10, start=0.1),
    ),
    "cosine": ({"name": "Cosine"}, expected(cosine(30))),
    "cosine to eta_min": ({"name": "Cosine", "eta_min": 0.01}, expected(cosine(30, 0.01))),
    "cosine, its length is without the warm-up": (
        {"name": "Cosine", "warmup_epoch": 2, "warmup_start_lr": 1e-3, "eta_min": 0.01},
        expected(cosine(20, 0.01), warmup=10, start=1e-3),
    ),
    "cosine, fractional warm-up": (
        {"name": "Cosine", "warmup_epoch": 0.6},
        expected(cosine(27), warmup=3),
    ),
    "cosine with a cool-down": (
        {"name": "Cosine", "eta_min": 0.01, "warmup_epoch": 1, "cooldown_epoch": 2},
        expected(lambda t: cosine(15, 0.01)(min(t, 15)), warmup=5),
    ),
    "cosine from the first step on, hidden by the warm-up": (
        {"name": "Cosine", "warmup_epoch": 2, "warmup_prefix": False},
        expected(lambda t: cosine(30)(t + 10), warmup=10),
    ),
    "cosine by epoch": (
        {"name": "Cosine", "warmup_epoch": 2, "by_epoch": True},
        expected(cosine(4), warmup=2, by_epoch=True),
    ),
    "linear": ({"name": "Linear", "end_lr": 0.1}, expected(lambda t: 0.1 + 0.3 * (1 - t / 30))),
    "polynomial with warm-up": (
        {"name": "Linear", "power": 2.0, "warmup_epoch": 1},
        expected(lambda t: 0.4 * (1 - t / 25) ** 2, warmup=5),
    ),
    "linear by epoch": (
        {"name": "Linear", "warmup_epoch": 2, "by_epoch": True},
        expected(lambda t: 0.4 * (1 - t / 4), warmup=2, by_epoch=True),
    ),
    "step": ({"name": "Step", "step_size": 2, "gamma": 0.5}, expected(lambda t: 0.4 * 0.5 ** (t // 10))),
    "step of a fraction of an epoch": (
        {"name": "Step", "step_size": 1.5, "gamma": 0.9},
        expected(lambda t: 0.4 * 0.9 ** (t // 7)),
    ),
    "milestones": (
        {"name": "MultiStepDecay", "milestones": [2, 4], "gamma": 0.1},
        expected(lambda t: 0.4 * 0.1 ** ((t >= 10) + (t >= 20))),
    ),
    "milestones by epoch": (
        {"name": "MultiStepDecay", "milestones": [2, 4], "by_epoch": True},
        expected(lambda t: 0.4 * 0.1 ** ((t >= 2) + (t >= 4)), by_epoch=True),
    ),
}


#: Rates of timm 1.0.31's CosineLRScheduler (cycle_limit=1) with the arguments of the official training codes, by the
#: number of the epoch; Swin's by the number of the step, 1,252 steps an epoch.
TIMM = {
    "Sequencer2D_S": (
        {"learning_rate": 2e-3, "eta_min": 1e-6, "warmup_epoch": 20, "warmup_start_lr": 1e-6, "cooldown_epoch": 10},
        310,
        {
            0: 1e-06,
            1: 0.00010095,
            19: 0.00190005,
            20: 0.001978158526933439,
            21: 0.001975928803557778,
            150: 0.0010005,
            299: 1.054803219170613e-06,
            300: 1e-06,
            309: 1e-06,
        },
    ),
    "DilateFormer_Tiny": (
        {"learning_rate": 2e-3, "eta_min": 1e-5, "warmup_epoch": 10, "warmup_start_lr": 1e-6},
        300,
        {0: 1e-06, 5: 0.0010005, 10: 0.001994549285891432, 150: 0.001005, 299: 1.0054556481315418e-05},
    ),
    "Sequencer2D_L at 392": (
        {"learning_rate": 5e-5, "eta_min": 1e-6},
        30,
        {0: 5e-05, 1: 4.98657864365227e-05, 15: 2.55e-05, 29: 1.1342135634773016e-06},
    ),
}


@pytest.mark.parametrize("recipe", TIMM)
def test_rates_are_timms(recipe):
    section, epochs, expected_rates = TIMM[recipe]
    section = {"name": "Cosine", "warmup_prefix": False, "by_epoch": True, **section}
    rates = values(section, epochs, steps=1)
    assert len(rates) == epochs
    for epoch, rate in expected_rates.items():
        np.testing.assert_allclose(rates[epoch], rate, rtol=1e-12, err_msg=f"epoch {epoch}")


def test_rates_by_step_are_timms_with_a_warm_up_before_the_cosine():
    """Swin's schedule, which needs none of our keys."""
    section = {"name": "Cosine", "learning_rate": 1e-3, "eta_min": 1e-5, "warmup_epoch": 20, "warmup_start_lr": 1e-6}
    scheduler = build_lr_scheduler(section, 300, 1252)
    expected_rates = {
        1: 1.0398961661341853e-06,
        12520: 0.0005005,
        25039: 0.0009999601038338658,
        25040: 0.001,
        187800: 0.0005604224156711374,
        375599: 1.0000000019876996e-05,
    }
    for step, rate in expected_rates.items():
        scheduler.step(step)
        np.testing.assert_allclose(scheduler(), rate, rtol=1e-9, err_msg=f"step {step}")


@pytest.mark.parametrize("case", CASES)
def test_values(case):
    section, rates = CASES[case]
    np.testing.assert_allclose(values({"learning_rate": 0.4, **section}), rates, rtol=1e-9, atol=1e-12)


def test_kind_and_by_epoch_survive_the_warm_up():
    scheduler = build_lr_scheduler({"name": "Cosine", "learning_rate": 1.0, "warmup_epoch": 1, "by_epoch": True}, 3, 5)
    assert (scheduler.kind, scheduler.by_epoch) == ("Cosine", True)


def test_piecewise_honours_its_table_beside_the_same_learning_rate():
    """PaddleClas throws the table away when learning_rate is there as well."""
    table = {"name": "Piecewise", "decay_epochs": [1, 3], "values": [0.4, 0.2, 0.05]}
    rates = expected(lambda t: 0.4 if t < 5 else 0.2 if t < 15 else 0.05)
    np.testing.assert_allclose(values(table), rates)
    np.testing.assert_allclose(values({**table, "learning_rate": 0.4}), rates)


def test_piecewise_by_learning_rate_alone():
    rates = values({"name": "Piecewise", "learning_rate": 0.4}, epochs=70, steps=1)
    np.testing.assert_allclose(rates, [0.4] * 30 + [0.04] * 30 + [0.004] * 10)
    np.testing.assert_allclose(values({"name": "Piecewise", "learning_rate": 0.4}, epochs=20, steps=1), [0.4] * 20)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"learning_rate": 0.1, "decay_epochs": [1], "values": [0.4, 0.2]}, r"0.1 contradicts values\[0\] 0.4"),
        ({"decay_epochs": [1], "values": [0.4]}, "values must be one longer than decay_epochs"),
        ({"decay_epochs": [2, 1], "values": [3, 2, 1]}, "decay_epochs must increase"),
        ({"decay_epochs": [2]}, "needs both decay_epochs and values"),
        ({}, "needs decay_epochs and values, or learning_rate alone"),
    ],
    ids=["contradiction", "lengths", "order", "half a table", "nothing"],
)
def test_wrong_piecewise(table, message):
    with pytest.raises(ValueError, match=message):
        build_lr_scheduler({"name": "Piecewise", **table}, EPOCHS, STEPS)


def test_warm_up_longer_than_the_run_ends_at_its_peak():
    rates = values({"name": "Cosine", "learning_rate": 0.4, "warmup_epoch": 20})
    np.testing.assert_allclose(rates, np.arange(30) / 30 * 0.4)


@pytest.mark.parametrize(
    ("section", "error", "message"),
    [
        ({"name": "Cosin", "learning_rate": 1.0}, KeyError, "unknown schedule 'Cosin'; supported: Cosine"),
        ({"name": "Cosine"}, ValueError, "the schedule Cosine needs learning_rate"),
        (
            {"learning_rate": 1.0, "warmup_epoch": 1, "warmup_start_lr": 1.0},
            ValueError,
            "warmup_start_lr: got 1.0; expected less than the learning",
        ),
        (
            {"learning_rate": 1.0, "warmup_epoch": 1.5, "by_epoch": True},
            ValueError,
            "warmup_epoch: got 1.5; expected whole epochs with by_epoch",
        ),
        ({"name": "Cosine", "learning_rate": 1.0, "eta_mim": 0}, TypeError, "eta_mim"),
        (
            {"name": "Cosine", "learning_rate": 1.0, "warmup_epoch": 2, "cooldown_epoch": 4},
            ValueError,
            "cooldown_epoch: got 4; expected less than the 4 of the 6 epochs that the warm-up leaves",
        ),
        ({"name": "Cosine", "learning_rate": 0.1, "eta_min": 0.2}, ValueError, "eta_min: got 0.2; expected at most"),
        ({"name": "Linear", "learning_rate": 0.1, "end_lr": 0.2}, ValueError, "end_lr: got 0.2; expected at most"),
        ({"name": "OneCycleLR"}, ValueError, "OneCycleLR needs max_learning_rate"),
        (
            {"name": "OneCycleLR", "max_learning_rate": 0.001},
            ValueError,
            "end_learning_rate: got 0.0001; expected at most .* = 4e-05",
        ),
        (
            {"name": "OneCycleLR", "max_learning_rate": 1.0, "phase_pct": 0.03},
            ValueError,
            "phase_pct: got 0.03; expected more than 0.0333",
        ),
        (
            {"name": "ReduceOnPlateau", "learning_rate": 0.1, "warmup_epoch": 1},
            ValueError,
            "warmup_epoch: ReduceOnPlateau follows the evaluations alone",
        ),
    ],
    ids=[
        *("name", "no rate", "start above peak", "fraction by epoch", "unknown argument", "only cool-down"),
        *("rising cosine", "rising line"),
        *("one cycle, no rate", "one cycle, end", "one cycle, phase", "plateau with warm-up"),
    ],
)
def test_wrong_section(section, error, message):
    with pytest.raises(error, match=message):
        build_lr_scheduler(section, EPOCHS, STEPS)


@pytest.mark.parametrize("name", ["Cosine", "MultiStepDecay"])
def test_state_restores_the_schedule(name):
    section = {"name": name, "learning_rate": 0.4, "warmup_epoch": 1}
    section.update({"milestones": [2, 3]} if name == "MultiStepDecay" else {})
    first, second = (build_lr_scheduler(section, EPOCHS, STEPS) for _ in range(2))
    for _ in range(13):
        first.step()
    second.set_state_dict(first.state_dict())
    for _ in range(10):
        first.step()
        second.step()
        assert first() == second()


def test_the_rate_falls_where_the_figure_does_not_rise():
    """Patience 1 bears one evaluation without an improvement; 0.61 exceeds 0.6 by less than a tenth of it."""
    section = {"name": "ReduceOnPlateau", "learning_rate": 0.4, "mode": "max", "factor": 0.5, "patience": 1}
    schedule = build_lr_scheduler({**section, "threshold": 0.1}, EPOCHS, STEPS)
    rates = []
    for figure in (0.5, 0.6, 0.61, 0.62, 0.9, 0.9, 0.9):
        schedule.step()  # steps and epochs do not count
        schedule.observe(figure)
        rates.append(schedule())
        state = schedule.state_dict()
        schedule = build_lr_scheduler({**section, "threshold": 0.1}, EPOCHS, STEPS)
        schedule.set_state_dict(state)  # what a resumed run goes on with
    assert rates == [0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.1]
