"""mCE by its definition."""

import numpy as np
import pytest

from ppcls_ext.metrics.corruption import ALEXNET_ERRORS, SEVERITIES, corruption_errors

pytestmark = pytest.mark.compat


def test_alexnet_has_one_hundred():
    """That is what the normalisation is for; and in the paper its errors round to these percentages (table 1)."""
    found = corruption_errors(
        {(name, severity): error for name, error in ALEXNET_ERRORS.items() for severity in SEVERITIES}
    )
    assert found.mce == pytest.approx(1.0)
    rounded = [round(100 * error) for error in ALEXNET_ERRORS.values()]
    assert rounded == [89, 89, 92, 82, 83, 79, 80, 87, 83, 82, 56, 85, 65, 72, 61]


def test_a_corruption_is_the_mean_over_its_severities():
    errors = {(name, severity): severity / 10 for name in ALEXNET_ERRORS for severity in SEVERITIES}
    errors["spatter", 1] = 1.0  # an extra corruption, which mCE leaves out
    found = corruption_errors(errors)
    assert found.errors == {name: pytest.approx(0.3) for name in ALEXNET_ERRORS}
    assert found.normalised["fog"] == pytest.approx(0.3 / 0.819324)
    assert found.mce == pytest.approx(np.mean([0.3 / error for error in ALEXNET_ERRORS.values()]))


def test_a_part_of_the_corruptions_has_no_mce():
    errors = {(name, severity): 0.5 for name in ALEXNET_ERRORS for severity in SEVERITIES}
    del errors["frost", 3], errors["frost", 4]
    with pytest.raises(ValueError, match="2 are missing: frost/3, frost/4"):
        corruption_errors(errors)
