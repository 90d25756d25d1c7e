"""Where the weights lie in a checkpoint is found or asked for, never guessed."""

import numpy as np
import pytest

from ppcls_ext.weights.files.unwrap import unwrap

W, V = {"a.weight": np.zeros(2)}, {"a.weight": np.ones(2)}


@pytest.mark.parametrize(
    ("tree", "ema", "wrapper", "value"),
    [
        (W, None, "", 0),
        ({"model": W, "epoch": 1, "best": np.float64(3)}, None, "model", 0),
        ({"state_dict": W, "arch": "resnet50"}, None, "state_dict", 0),
        ({"checkpoint": 1, "state_dict": {"model": W}}, None, "state_dict.model", 0),
        ({"model": W, "model_ema": V}, False, "model", 0),
        ({"model": W, "model_ema": V}, True, "model_ema", 1),
        ({"state_dict": W, "state_dict_ema": V}, True, "state_dict_ema", 1),
        ({"state_dict_ema": V}, None, "state_dict_ema", 1),
        ({"state_dict": W, "state_dict_ema": None}, None, "state_dict", 0),
    ],
)
def test_the_weights_are_found(tree, ema, wrapper, value):
    found = unwrap(tree, ema)
    assert found.wrapper == wrapper and found.tensors["a.weight"][0] == value
    assert all(key in found.skipped for key in tree if tree is not W and key != wrapper.partition(".")[0])


@pytest.mark.parametrize(
    ("tree", "ema", "message"),
    [
        ({"model": W, "model_ema": V}, None, r"weights \(model\) and their moving average \(model_ema\): choose"),
        ({"model": W, "state_dict": V}, None, "tensors under state_dict and model; expected one"),
        ({"model": W}, True, "no averaged weights .*; leave out --ema"),
        (W, True, "no averaged weights .*; leave out --ema"),
        ({"model_ema": V}, False, r"only a moving average of the weights \(model_ema\); leave out --no-ema"),
        ({"epoch": 3}, None, "no tensors; its keys are epoch"),
        ({}, None, "no tensors; its keys are none"),
        ([1], None, "holds a list; expected a mapping"),
    ],
)
def test_what_is_not_clear_is_an_error(tree, ema, message):
    with pytest.raises(ValueError, match=message):
        unwrap(tree, ema)


def test_prefixes_come_off_only_where_every_name_has_them():
    found = unwrap({"module._orig_mod.a": np.zeros(1), "module._orig_mod.b": np.zeros(1), "note": "x"})
    assert (list(found.tensors), found.prefix, found.skipped) == (["a", "b"], "module._orig_mod.", ["note"])
    assert unwrap({"module.a": np.zeros(1), "b": np.zeros(1)}).prefix == ""
