"""Tensors that hold NaN or infinity are found by name, whatever their type."""

import numpy as np
import paddle
import pytest

from ppcls_ext.utils.state_dict import non_finite_names

pytestmark = pytest.mark.compat


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "bfloat16"])
def test_one_bad_element_names_its_tensor(bad, kind):
    values = np.zeros((3, 4), np.float32)
    values[1, 2] = bad
    fine, broken = (paddle.to_tensor(array).astype(kind) for array in (np.zeros_like(values), values))
    assert non_finite_names({"a": fine, "b": broken, "c": fine, "d": broken}) == ["b", "d"]
    if kind != "bfloat16":
        assert non_finite_names({"a": fine.numpy(), "b": broken.numpy()}) == ["b"]


def test_what_only_its_sum_overflows_is_finite():
    """The largest numbers of a type, and opposite infinities, whose sum is NaN too."""
    for kind in (np.float16, np.float32, np.float64):
        large = np.full(10, np.finfo(kind).max)
        assert non_finite_names({"a": large, "t": paddle.to_tensor(large)}) == []
        both = np.array([np.inf, -np.inf], kind)
        assert non_finite_names({"a": both, "t": paddle.to_tensor(both)}) == ["a", "t"]


def test_integers_scalars_and_empty_tensors():
    state = {
        "n": paddle.to_tensor([1, 2]),
        "e": paddle.zeros([0, 3]),
        "s": paddle.to_tensor(2.0),
        "b": np.array([True]),
    }
    assert non_finite_names(state) == [] == non_finite_names({})
    assert non_finite_names({"s": np.array(np.nan), "t": paddle.to_tensor(float("nan"))}) == ["s", "t"]
