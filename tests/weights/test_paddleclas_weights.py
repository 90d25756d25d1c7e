"""PaddleClas's own backbones: its rule says which file, and the file is loaded strictly, not by its own loader."""

import numpy as np
import paddle
import pytest

import ppcls_ext
from ppcls_ext import plugin
from ppcls_ext.utils.state_dict import state_arrays
from ppcls_ext.weights.download import DownloadError
from ppcls_ext.weights.errors import NoPublishedWeightsError, WeightMismatchError, WeightPlanError
from ppcls_ext.weights.resolver import plan_weights

pytestmark = [
    pytest.mark.compat,
    pytest.mark.skipif(not plugin.HAS_PADDLECLAS, reason="PaddleClas is not installed"),
]

NAME = "PPLCNet_x0_25"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PPCLS_EXT_HOME", str(tmp_path))
    monkeypatch.setenv("PPCLS_EXT_OFFLINE", "1")
    folder = tmp_path / "weights" / f"paddleclas.{NAME}"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(("use_ssld", "file"), [(False, f"{NAME}_pretrained"), (True, f"{NAME}_ssld_pretrained")])
def test_the_address_is_paddleclas_own(cache, use_ssld, file):
    with pytest.raises(DownloadError, match=rf"https://\S+/{file}\.pdparams is needed and PPCLS_EXT_OFFLINE is set"):
        ppcls_ext.create_backbone(NAME, pretrained=True, use_ssld=use_ssld)


def test_published_weights_are_loaded_strictly(cache):
    source = ppcls_ext.create_backbone(NAME, class_num=1000)
    state = state_arrays(source)
    file = cache / f"{NAME}_pretrained.pdparams"
    paddle.save(state, str(file))
    found = state_arrays(ppcls_ext.create_backbone(f"paddleclas.{NAME}", pretrained=True))
    assert all(np.array_equal(array, found[name]) for name, array in state.items())
    del state["conv1.conv.weight"]
    paddle.save(state, str(file))
    for pretrained in (True, file):
        with pytest.raises(WeightMismatchError, match="missing in the file: conv1.conv.weight"):
            ppcls_ext.create_backbone(NAME, pretrained=pretrained)


def test_what_paddleclas_does_not_publish(cache):
    def Unpublished(pretrained=False, **_arguments):
        return paddle.nn.Linear(1, 1)

    Unpublished.__module__ = plugin.paddleclas_factory(NAME).__module__
    with pytest.raises(NoPublishedWeightsError, match="PaddleClas publishes no weights of its Unpublished"):
        plan_weights(Unpublished, {}, pretrained=True).fetch()
    with pytest.raises(WeightPlanError, match="pretrained_source='timm': PPLCNet_x0_25 is PaddleClas's"):
        plan_weights(plugin.paddleclas_factory(NAME), {}, pretrained=True, source="timm")
