"""ResNet, ResNeXt and Res2Net: the published sources, the form that each is for, and PaddleClas's own models."""

import importlib
import importlib.util
import json
import sys

import checkpoints
import compare
import numpy as np
import paddle
import pytest
import rule
from paddle.utils import unique_name

import ppcls_ext
from ppcls_ext import registry
from ppcls_ext.weights.conversion import convert_file
from ppcls_ext.weights.conversion_record import record_path
from ppcls_ext.weights.errors import ConversionError
from ppcls_ext.weights.loading import WeightMismatchError, load_pretrained

needs_wheel = pytest.mark.skipif(
    sys.version_info >= (3, 12) and importlib.util.find_spec("paddleclas") is None,
    reason="PaddleClas 2.6.0 cannot be installed on Python 3.12 and later",
)

#: list of keys: a backbone of which there is a golden file, in the official form
GOLDEN = {
    "torchvision": "ResNet18",
    "res2net": "Res2Net50_26w_4s",
    "res2net_v1b": "Res2Net50_vd_26w_4s",
    "res2net_dla": "Res2Net_DLA60",
}


def logits_of(model, size=224):
    model.eval()
    with paddle.no_grad():
        return model(paddle.to_tensor(rule.images(size))).numpy()


@pytest.mark.sampled
@pytest.mark.parametrize("name", GOLDEN)
def test_official_weights_choose_the_official_form(tmp_path, name):
    """The names are PaddleClas's and mean its form; weights in an official source make the official model of them."""
    arch = GOLDEN[name]
    entries = checkpoints.keys(name)[arch]
    state = checkpoints.checkpoint({key: entry for key, entry in entries.items() if entry[0]})
    unused = {key: np.ones(entry[1], np.float32) for key, entry in entries.items() if not entry[0]}
    checkpoints.write_torch(tmp_path / "in.pth", {**state, **unused})
    record = convert_file(arch, tmp_path / "in.pth", tmp_path / "out.pdparams")
    is_default = registry.get_spec(arch).factory.arguments.get("form", "official") == "official"
    assert record.layout == name and record.tensors + len(record.dropped) == len(entries)
    assert record.needs == ({} if name == "res2net_dla" else {"form": "official"})
    assert bool(record.adaptation) != is_default
    model = ppcls_ext.create_backbone(f"ppcls_ext.{arch}", pretrained=str(tmp_path / "out"))
    np.testing.assert_allclose(logits_of(model), compare.golden(registry.get_spec(arch))["logits"], rtol=0, atol=2e-5)


def moderate(model) -> None:
    """Give the tensors of a model of PaddleClas values for which its logits are of order one."""
    for name, tensor in model.state_dict().items():
        values = rule.unit(name, tuple(tensor.shape))
        if name.endswith("_variance"):
            tensor.set_value(1 + 0.3 * values)
        elif tensor.ndim == 1:
            tensor.set_value((1 if name.endswith("weight") else 0) + np.float32(0.1) * values)
        elif tensor.ndim == 4:
            tensor.set_value(values * np.float32(0.7 / np.sqrt(np.prod(tensor.shape[1:]))))


#: PaddleClas's names, and the source of their weights. Their other models of a source have only other depths or widths.
THEIRS = {
    "ResNet18": "paddleclas",
    "ResNet50": "paddleclas",
    "ResNeXt50_32x4d": "paddleclas_resnext",
    "ResNeXt101_32x8d_wsl": "paddleclas_wsl",
    "Res2Net50_26w_4s": "paddleclas",
    "Res2Net50_14w_8s": "paddleclas",
    "Res2Net50_vd_26w_4s": "paddleclas_vd",
}


@pytest.mark.sampled
@needs_wheel
@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[pytest.mark.slow] if arch.endswith("_wsl") else []) for arch in THEIRS]
)
def test_equals_paddleclas(tmp_path, arch):
    """Its own class with its own state dict gives the logits that ours gives with the converted one."""
    theirs = importlib.import_module("paddleclas.ppcls.arch")
    with unique_name.guard():
        model = getattr(theirs, arch)()
    moderate(model)
    state = model.state_dict()
    expected = logits_of(model)
    assert 0.1 < expected.std() < 10
    paddle.save(state, str(tmp_path / "in.pdparams"))
    record = convert_file(arch, tmp_path / "in.pdparams", tmp_path / "out.pdparams")
    assert (record.layout, record.tensors) == (THEIRS[arch], len(state)) and not record.dropped + record.adaptation
    ours = ppcls_ext.create_backbone(f"ppcls_ext.{arch}", pretrained=str(tmp_path / "out"))
    np.testing.assert_allclose(logits_of(ours), expected, rtol=0, atol=1e-5)


SMALL = {"depths": [1, 1, 1, 1], "planes": [8, 8, 8, 8], "class_num": 3, "base_width": 16, "scale": 2}


@pytest.mark.compat
def test_weights_of_one_form_do_not_pass_for_those_of_the_other(tmp_path):
    """Their tensors are the same; the record tells them apart."""
    source = ppcls_ext.create_backbone("ppcls_ext.Res2Net", **SMALL)
    paddle.save(source.state_dict(), str(tmp_path / "ours.pdparams"))
    convert_file("Res2Net", tmp_path / "ours.pdparams", tmp_path / "torch.safetensors", to="torch", arguments=SMALL)
    record = convert_file("Res2Net", tmp_path / "torch.safetensors", tmp_path / "out.pdparams", arguments=SMALL)
    assert (record.layout, record.needs) == ("res2net", {"form": "official"})
    assert json.loads(record_path(tmp_path / "out.pdparams").read_text())["needs"] == record.needs
    ppcls_ext.create_backbone("ppcls_ext.Res2Net", pretrained=tmp_path / "out", **SMALL)  # official by default
    with pytest.raises(WeightMismatchError, match="holds weights for a model with form='official'; this Res2Net has"):
        ppcls_ext.create_backbone("ppcls_ext.Res2Net", pretrained=tmp_path / "out", form="paddleclas", **SMALL)
    other = ppcls_ext.create_backbone("ppcls_ext.Res2Net", form="paddleclas", **SMALL)
    with pytest.raises(WeightMismatchError, match="form='paddleclas'"):
        load_pretrained(other, tmp_path / "out.pdparams")
    with pytest.raises(ConversionError, match="res2net source need form='official', not 'paddleclas'"):
        convert_file(
            "Res2Net",
            tmp_path / "torch.safetensors",
            tmp_path / "other.pdparams",
            arguments={**SMALL, "form": "paddleclas"},
        )
    record_path(tmp_path / "out.pdparams").write_text("[]")  # not a record: nothing is known
    load_pretrained(other, tmp_path / "out.pdparams")
