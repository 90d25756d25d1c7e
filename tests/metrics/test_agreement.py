"""Statistics of two models: against sums of binomial coefficients, published tables, and their own promise."""

import math

import numpy as np
import pytest

from ppcls_ext.metrics.agreement import accuracy_difference, compare_predictions, mcnemar

pytestmark = pytest.mark.compat


@pytest.mark.parametrize("first, second", [(0, 0), (0, 5), (3, 10), (7, 7), (1, 23)])
def test_few_discordant_pairs_are_tested_exactly(first, second):
    """Twice the smaller tail of the binomial distribution (n, 1/2), at most 1."""
    pairs = first + second
    tail = sum(math.comb(pairs, k) for k in range(min(first, second) + 1)) / 2**pairs
    found = mcnemar(first, second)
    assert found.exact and found.statistic is None
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))


def test_many_discordant_pairs_are_tested_by_chi_squared():
    """The continuity-corrected statistic; with one degree of freedom 3.841 is the 5 % point."""
    found = mcnemar(150, 86)  # the example of many textbooks: (|150 - 86| - 1)² / 236 = 16.82
    assert not found.exact and found.statistic == pytest.approx(63**2 / 236)
    assert found.p_value == pytest.approx(math.erfc(math.sqrt(found.statistic / 2)))
    assert mcnemar(13, 13).p_value == pytest.approx(1.0)


def test_both_ways_meet_where_they_change():
    exact, approximate = mcnemar(6, 18), mcnemar(6, 19)
    assert exact.exact and not approximate.exact
    assert approximate.p_value == pytest.approx(exact.p_value, abs=0.01)


def test_the_interval_by_hand():
    """3 and 10 of 100: (11 - 4) / 102 ± 1.96 · sqrt((11/102 + 4/102 - (7/102)²) / 102)."""
    found = accuracy_difference(3, 10, 100)
    half = 1.959964 * math.sqrt((15 / 102 - (7 / 102) ** 2) / 102)
    assert found.value == pytest.approx(0.07)
    assert (found.low, found.high) == (pytest.approx(7 / 102 - half, abs=1e-6), pytest.approx(7 / 102 + half, abs=1e-6))


@pytest.mark.parametrize("shares", [(0.9, 0.05, 0.05), (0.93, 0.06, 0.01), (0.5, 0.3, 0.2)])
def test_the_interval_keeps_its_level(shares):
    """The probability that it holds the true difference, summed over all tables of 40 images: at least 94 %."""
    samples, covered = 40, 0.0
    same, first, second = shares
    for a in range(samples + 1):
        for b in range(samples + 1 - a):
            rest = samples - a - b
            ways = math.comb(samples, a) * math.comb(samples - a, b)
            found = accuracy_difference(a, b, samples)
            if found.low <= second - first <= found.high:
                covered += ways * first**a * second**b * same**rest
    assert 0.94 <= covered <= 1


def test_images_are_sorted_by_who_is_right():
    labels = np.array([0, 1, 2, 0, 1, 2])
    first = np.array([0, 1, 2, 1, 1, 0])
    second = np.array([0, 1, 1, 0, 2, 1])
    found = compare_predictions(first, second, labels)
    assert (found.both_right, found.mcnemar.only_first, found.mcnemar.only_second, found.both_wrong) == (2, 2, 1, 1)
    assert found.agreement == pytest.approx(2 / 6)
    assert found.accuracy == (pytest.approx(4 / 6), pytest.approx(3 / 6))
    assert found.difference.value == pytest.approx(-1 / 6)


def test_without_labels_there_is_agreement_alone():
    found = compare_predictions(np.array([0, 1]), np.array([0, 2]))
    assert found.to_dict() == {"samples": 2, "agreement": 0.5}


def test_other_numbers_of_images():
    with pytest.raises(ValueError, match="of the same images"):
        compare_predictions(np.array([0, 1]), np.array([0]))
    with pytest.raises(ValueError, match="3 \\+ 4 discordant images of 6"):
        accuracy_difference(3, 4, 6)
