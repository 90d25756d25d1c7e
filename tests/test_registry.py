"""The registry: names, listing, facts."""

import json
import re

import pytest

import ppcls_ext
from ppcls_ext import registry

FIELDS = {
    *("name", "family", "network", "arguments", "paper", "params", "macs"),
    *("preprocessing", "accuracy", "weights", "notes"),
}


def test_listing_takes_wildcards_in_any_case():
    names = registry.list_backbones()
    assert len(names) == len(set(names)) == len(registry.specs())
    assert registry.list_backbones("sequencer2d_?") == ["Sequencer2D_S", "Sequencer2D_M", "Sequencer2D_L"]
    assert [name for name in names if name in registry.list_backbones("*_S*")] == registry.list_backbones("*_S*")
    assert registry.list_backbones("*_392") == ["Sequencer2D_S_392", "Sequencer2D_M_392", "Sequencer2D_L_392"]
    assert registry.list_backbones("nothing*") == []
    with pytest.raises(TypeError, match=r"pattern must be a string such as 'resnet\*', got list \['a\*'\]"):
        registry.list_backbones(["a*"])


@pytest.mark.parametrize("name", ["Sequencer2D_S", "ppcls_ext.Sequencer2D_S"])
def test_both_ways_to_write_a_name(name):
    assert registry.get_spec(name).name == "Sequencer2D_S"


@pytest.mark.parametrize("typo", ["Sequencr2D_S", "sequencer2d_s", "Sequencer2DS"])
def test_a_wrong_name_suggests_the_nearest(typo):
    with pytest.raises(KeyError, match="did you mean Sequencer2D_S"):
        registry.get_spec(typo)
    with pytest.raises(KeyError, match=r"unknown backbone 'qqq'"):
        registry.get_spec("qqq")


def test_a_name_can_be_entered_once():
    spec = registry.get_spec("Sequencer2D_S")
    again = registry.Family("Again", networks=(dict,), paper="none", variants=(spec,))
    with pytest.raises(ValueError, match="'Sequencer2D_S' is registered already"):
        registry.add(again)
    assert again not in registry.families()


@pytest.mark.parametrize("name", registry.list_backbones())
def test_facts_are_plain_and_complete(name):
    """Plain data, a paper with its number, an accuracy only with a source, weights only with address and licence."""
    info = registry.backbone_info(name)
    assert set(info) == FIELDS
    assert json.loads(json.dumps(info))["name"] == name
    assert re.search(r"arXiv \d{4}\.\d{5}$", info["paper"])
    channels, height, width = info["preprocessing"]["input_size"]
    assert channels == 3 and height == width <= info["preprocessing"]["resize_short"]
    if info["accuracy"]:
        assert 50 < info["accuracy"]["top1"] < 95 and info["accuracy"]["source"]
    for weights in info["weights"]:
        assert re.match(
            r"https://\S+" if weights["manual"] else r"https://\S+\.(pth|npz|safetensors|pdparams)$", weights["url"]
        )
        assert weights["licence"] and weights["source"]
        assert weights["sha256"] is None or re.match(r"[0-9a-f]{8,64}$", weights["sha256"])


@pytest.mark.parametrize("name", ["Sequencer2D", "ppcls_ext.Sequencer2D"])
def test_generic_name_builds_with_every_hyper_parameter_open(name):
    model = ppcls_ext.create_backbone(
        name,
        class_num=7,
        depths=[1, 1],
        patch_sizes=[2, 3],
        embed_dims=[8, 12],
        hidden_sizes=[2, 3],
        mlp_ratios=[1.0, 2.0],
        rnn_type="gru",
        img_size=12,
        union="add",
    )
    assert [row["stride"] for row in model.feature_info] == [2, 6] and model.class_num == 7


def test_generic_name_cannot_be_taken_twice():
    with pytest.raises(ValueError, match="'Sequencer2D' is registered already"):
        registry.add_factory("Sequencer2D", lambda: None)
    with pytest.raises(ValueError, match="'Sequencer2D_S' is registered already"):
        registry.add_factory("Sequencer2D_S", lambda: None)
