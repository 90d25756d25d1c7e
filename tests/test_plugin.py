"""Registration into the PaddleClas that is installed, proven through PaddleClas's own functions."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys

import paddle
import pytest
from paddle import nn

import ppcls_ext
from ppcls_ext import plugin, registry
from ppcls_ext.factory import backbone_factory

needs_wheel = pytest.mark.skipif(
    sys.version_info >= (3, 12) and importlib.util.find_spec("paddleclas") is None,
    reason="PaddleClas 2.6.0 cannot be installed on Python 3.12 and later",
)
pytestmark = pytest.mark.compat

SMALL = {
    "class_num": 5,
    "img_size": 8,
    "depths": [1, 1],
    "patch_sizes": [2, 2],
    "embed_dims": [8, 16],
    "hidden_sizes": [2, 4],
    "mlp_ratios": [1.0, 1.0],
}
BOTH_NAMES = pytest.mark.parametrize("name", ["Sequencer2D_S", "ppcls_ext.Sequencer2D_S"])
EVERY_BACKBONE = pytest.mark.parametrize("name", registry.factories())
IMAGES = [2, 3, 8, 12]


@pytest.fixture(scope="module")
def arch():
    return importlib.import_module("paddleclas.ppcls.arch")


@pytest.fixture
def restored(restored_registry):
    """Undo at the end what a test does to the registry and to PaddleClas's table."""
    modules = [module for tree in plugin.trees() for module in tree.namespaces]
    before = [dict(vars(module)) for module in modules]
    lists = [(tree.backbone.__all__, list(tree.backbone.__all__)) for tree in plugin.trees()]
    yield
    for module, content in zip(modules, before):
        vars(module).clear()
        vars(module).update(content)
    for exported, content in lists:
        exported[:] = content


def enter(name: str):
    """Enter a backbone of one layer into our registry, under a name that may be PaddleClas's."""

    def factory(pretrained=False, use_ssld=False, class_num=1000):
        return nn.Sequential(nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(3, class_num))

    factory.__name__ = name
    registry.add_factory(name, factory)
    return factory


# ---- PaddleClas's functions -------------------------------------------------------------------------------------


@needs_wheel
@EVERY_BACKBONE
def test_every_backbone_is_in_the_wheels_table_under_both_names(arch, name):
    """The bare name is ours unless PaddleClas has a backbone of that name."""
    factory = registry.factories()[name]
    assert getattr(arch, f"ppcls_ext.{name}") is factory  # what build_model does
    assert eval(f"ppcls_ext.{name}", vars(arch)) is factory  # noqa: S307  what RecModel does
    is_ours = name not in plugin.paddleclas_names()
    for module in (arch, arch.backbone, sys.modules["paddleclas"]):
        assert (getattr(module, name) is factory) == is_ours
    assert arch.backbone.__all__.count(name) == 1


@EVERY_BACKBONE
def test_a_factory_bears_its_registered_name(name):
    """PaddleClas's star import lists functions by ``__name__``; another one would be an AttributeError there."""
    assert registry.factories()[name].__name__ == name


@needs_wheel
@BOTH_NAMES
def test_build_model(arch, name):
    """pain 4: a registered name builds through PaddleClas's own builder, its arguments and TheseusLayer included."""
    model = arch.build_model({"Arch": {"name": name, **SMALL, "return_stages": [1]}, "Global": {"device": "cpu"}})
    assert isinstance(model, arch.TheseusLayer)
    outputs = model(paddle.randn(IMAGES))
    assert outputs["logits"].shape == [2, 5]
    assert outputs["stages[1]"].shape == [2, 2, 3, 16]


@needs_wheel
@BOTH_NAMES
def test_rec_model(arch, name):
    model = arch.RecModel(
        Backbone={"name": name, **SMALL},
        BackboneStopLayer={"name": "pool"},
        Neck={"name": "FC", "embedding_size": 16, "class_num": 6},
        Head={"name": "FC", "embedding_size": 6, "class_num": 7},
    )
    outputs = model(paddle.randn(IMAGES))
    assert outputs["backbone"].shape == [2, 16]
    assert outputs["logits"].shape == [2, 7]


@needs_wheel
@BOTH_NAMES
def test_distillation_model(arch, name):
    models = [{"Teacher": {"name": name, **SMALL}}, {"Student": {"name": "PPLCNet_x0_25", "class_num": 5}}]
    model = arch.DistillationModel(models=models, freeze_params_list=[True, False])
    outputs = model(paddle.randn([2, 3, 32, 32]))
    assert {key: value.shape for key, value in outputs.items()} == {"Teacher": [2, 5], "Student": [2, 5]}
    assert not any(parameter.trainable for parameter in model.Teacher.parameters())


@needs_wheel
def test_log_lines_appear_once():
    """The wheel and a checkout log through one ``logging`` logger, and each adds a handler to it."""
    importlib.import_module("paddleclas")
    plugin._prepare_logger(plugin.WHEEL)
    names = [handler.get_name() for handler in logging.getLogger("ppcls").handlers]
    assert names.count("stream_handler") == 1


# ---- register ---------------------------------------------------------------------------------------------------


@needs_wheel
def test_registering_again_changes_nothing(arch):
    modules = (arch, arch.backbone, sys.modules["paddleclas"])
    before = [dict(vars(module)) for module in modules]
    exported = list(arch.backbone.__all__)
    first, second = ppcls_ext.register(), ppcls_ext.register()
    assert [tree.package for tree in first] == [tree.package for tree in second] == ["paddleclas.ppcls"]
    assert [dict(vars(module)) for module in modules] == before
    assert arch.backbone.__all__ == exported


@needs_wheel
def test_paddleclas_keeps_its_own_names(arch, restored):
    theirs = arch.VGG11
    ours = enter("VGG11")
    ppcls_ext.register()
    assert arch.VGG11 is arch.backbone.VGG11 is sys.modules["paddleclas"].VGG11 is theirs
    assert getattr(arch, "ppcls_ext.VGG11") is ours
    assert eval("ppcls_ext.VGG11", vars(arch)) is ours  # noqa: S307
    assert plugin.paddleclas_factory("VGG11") is theirs
    assert backbone_factory("VGG11") is theirs and backbone_factory("ppcls_ext.VGG11") is ours  # in a YAML file
    for name, built in (("VGG11", "Sequential"), ("ppcls_ext.VGG11", "Sequential"), ("paddleclas.VGG11", "VGGNet")):
        assert type(ppcls_ext.create_backbone(name, class_num=5)).__name__ == built


@needs_wheel
def test_override_replaces_paddleclass_own(arch, restored):
    ours = enter("VGG11")
    ppcls_ext.register(override=True)
    for _ in range(2):
        assert arch.VGG11 is arch.backbone.VGG11 is sys.modules["paddleclas"].VGG11 is ours
        assert arch.backbone.__all__.count("VGG11") == 1
        assert "VGG11" not in plugin.paddleclas_names()
        assert backbone_factory("VGG11") is ours
        ppcls_ext.register()  # does not bring PaddleClas's back


# ---- our own builder --------------------------------------------------------------------------------------------


@BOTH_NAMES
def test_create_backbone_of_ours(name):
    model = ppcls_ext.create_backbone(name, **SMALL)
    assert isinstance(model, plugin.TheseusLayer)
    assert model(paddle.randn(IMAGES)).shape == [2, 5]


@needs_wheel
def test_create_backbone_of_paddleclas(arch):
    for name in ("PPLCNet_x0_25", "paddleclas.PPLCNet_x0_25"):
        model = ppcls_ext.create_backbone(name, class_num=5)
        assert type(model).__module__ == "paddleclas.ppcls.arch.backbone.legendary_models.pp_lcnet"
        assert model(paddle.randn([2, 3, 32, 32])).shape == [2, 5]


@needs_wheel
def test_a_checkpoint_is_loaded_strictly_whoever_owns_the_backbone(arch, tmp_path):
    """PaddleClas's loader takes what fits and drops the rest without an error; a bare name both have is not its."""
    small = {"class_num": 5, "depths": [1, 1, 1, 1], "planes": [8, 8, 8, 8]}
    ours = ppcls_ext.create_backbone("ResNet18", **small)
    assert type(ours).__module__ == "ppcls_ext.arch.backbone.resnet"
    paddle.save(ours.state_dict(), str(tmp_path / "ours.pdparams"))
    again = ppcls_ext.create_backbone("ResNet18", pretrained=str(tmp_path / "ours.pdparams"), **small)
    ours.eval()
    again.eval()
    x = paddle.randn([1, 3, 32, 32])
    assert (again(x) == ours(x)).all()
    theirs = ppcls_ext.create_backbone("PPLCNet_x0_25", class_num=5)
    paddle.save(theirs.state_dict(), str(tmp_path / "theirs.pdparams"))
    again = ppcls_ext.create_backbone("PPLCNet_x0_25", class_num=5, pretrained=tmp_path / "theirs.pdparams")
    for name, tensor in theirs.state_dict().items():
        assert (again.state_dict()[name] == tensor).all(), name
    for name in ("PPLCNet_x0_25", "paddleclas.ResNet18"):
        with pytest.raises(ValueError, match="does not fit"):
            ppcls_ext.create_backbone(name, class_num=5, pretrained=str(tmp_path / "ours.pdparams"))


@needs_wheel
def test_paddleclas_names_are_the_table_without_ours(arch):
    names = plugin.paddleclas_names()
    assert len(names) == 373  # counted in the wheel of 2.6.0
    assert {"ResNet50", "PPLCNet_x0_25", "SwinTransformer_tiny_patch4_window7_224"} <= set(names)
    both = set(names) & set(ppcls_ext.list_backbones())
    assert "ResNet50" in both and not any(getattr(arch, name) is getattr(ppcls_ext, name) for name in both)
    assert plugin.paddleclas_factory("ResNet50") is arch.ResNet50
    assert plugin.paddleclas_factory("Sequencer2D_S") is None
    assert plugin.paddleclas_factory("build_model") is None


@pytest.mark.parametrize(
    "wrong, nearest",
    [
        ("Sequencer2d_s", "Sequencer2D_S"),
        ("ppcls_ext.Sequencer2DS", "Sequencer2D_S"),
        pytest.param("ResNet_50", "ResNet50", marks=needs_wheel),
        pytest.param("PPLCNet_0_25", "PPLCNet_x0_25", marks=needs_wheel),
        pytest.param("paddleclas.ResNet_50", "paddleclas.ResNet50", marks=needs_wheel),
    ],
)
def test_a_wrong_name_suggests_the_nearest_of_both_tables(wrong, nearest):
    with pytest.raises(KeyError, match=f"unknown backbone '{wrong}'; did you mean .*{nearest}"):
        ppcls_ext.create_backbone(wrong)


def test_the_prefix_means_ours_only():
    with pytest.raises(KeyError, match="unknown backbone 'ppcls_ext.PPLCNet_x0_25'"):
        ppcls_ext.create_backbone("ppcls_ext.PPLCNet_x0_25")


@EVERY_BACKBONE
def test_a_backbone_is_an_attribute_of_the_package(name):
    assert getattr(ppcls_ext, name) is registry.factories()[name]
    assert name in dir(ppcls_ext)


def test_an_unknown_attribute_suggests_the_nearest():
    with pytest.raises(AttributeError, match="no attribute 'Sequencer_S'.*did you mean .*Sequencer2D_S"):
        ppcls_ext.Sequencer_S  # noqa: B018
    assert not hasattr(ppcls_ext, "__wrapped__")
