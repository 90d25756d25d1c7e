"""What every backbone in the registry must keep (DESIGN: the backbone contract), on small instances.

What a family's small instance is, and where its mathematics differ from the rule, stands in ``tests/families.py``.
"""

import copy
import inspect
import json
import pickle
import re
import subprocess
import sys

import numpy as np
import paddle
import pytest
from families import CLASSES, FAMILIES, facts
from paddle import nn
from small_models import build, images, multiple, representatives

import ppcls_ext
from ppcls_ext import registry
from ppcls_ext.arch import backbone
from ppcls_ext.arch.backbone import base
from ppcls_ext.arch.layers import DropPath

every_backbone = pytest.mark.parametrize("spec", registry.specs(), ids=lambda spec: spec.name)


def small_backbones(with_compat: bool) -> list:
    """Return the representatives as parameters; the quick loop takes the first of each network."""
    parameters, networks = [], set()
    for spec in representatives():
        compat = spec.name in facts(spec.family).compat
        marks = [pytest.mark.compat] if compat and with_compat else []
        if spec.network in networks:
            marks.append(pytest.mark.slow)
        networks.add(spec.network)
        parameters.append(pytest.param(spec, id=spec.name, marks=marks))
    return parameters


every_small_backbone = pytest.mark.parametrize("spec", small_backbones(with_compat=False))
every_small_backbone_compat = pytest.mark.parametrize("spec", small_backbones(with_compat=True))


def unpickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own


def map_of(model, output, height, width):
    """Return a stage's output for images of this size as ``[N, C, H, W]``."""
    if output.ndim == 3:  # tokens, with the class token before them
        stride = model.stage_strides[0]
        return np.moveaxis(output[:, 1:], 2, 1).reshape(len(output), -1, height // stride, width // stride)
    return np.moveaxis(output, -1, 1) if model.channels_last else output


def test_every_family_has_a_row_of_facts():
    assert set(FAMILIES) == {family.name for family in registry.families()}


# ---- building and running ----------------------------------------------------------------------------------------


@every_small_backbone_compat
def test_forward(spec):
    """Shape, finite, deterministic in evaluation; training differs when drop path is on."""
    model = build(spec, drop_path_rate=0.5)
    x = images(8, 3, 56, 56)
    model.eval()
    with paddle.no_grad():
        first, second = model(x), model(x)
        assert first.shape == [8, CLASSES] and bool(paddle.isfinite(first).all())
        assert np.array_equal(first.numpy(), second.numpy())
        model.train()
        assert not np.allclose(model(x).numpy(), first.numpy())


@every_small_backbone
def test_every_parameter_gets_a_gradient(spec):
    """Not None, finite and not zero: in training, and in evaluation, which saliency methods need."""
    weights = images(4, CLASSES, seed=1)
    for training in (True, False):
        model = build(spec)
        model.train() if training else model.eval()
        (model(images(4, 3, 56, 56)) * weights).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            gradient = parameter.grad.numpy()
            assert np.isfinite(gradient).all(), name
            if not (training and re.fullmatch(facts(spec.family).without_gradient[0], name)):
                assert np.abs(gradient).max() > 0, name


@every_small_backbone
def test_sizes(spec):
    """Square, non-square and the smallest size; a size that the family cannot take names both nearest."""
    model = build(spec)
    model.eval()
    step = multiple(model)
    with paddle.no_grad():
        for height, width in ((step, step), (4 * step, 6 * step), (16 * step, 3 * step)):
            assert model(images(1, 3, height, width)).shape == [1, CLASSES]
        if facts(spec.family).any_size:
            for height, width in ((1, 1), (4 * step + 1, 3 * step - 1), (step - 1, 2 * step)):
                assert model(images(1, 3, height, width)).shape == [1, CLASSES]
            return
        with pytest.raises(ValueError, match=rf"height {4 * step + 1} \(nearest: {4 * step} and {5 * step}\)"):
            model(images(1, 3, 4 * step + 1, 4 * step))
        with pytest.raises(ValueError, match=rf"width {step - 1} \(nearest: {step}\)"):
            model(images(1, 3, step, step - 1))


@every_small_backbone
@pytest.mark.parametrize("channels", [1, 4, 5])
def test_in_channels(spec, channels):
    model = build(spec, in_channels=channels)
    assert model(images(1, channels, 56, 56)).shape == [1, CLASSES]
    with pytest.raises(ValueError, match=rf"takes \[N, {channels}, height, width\], got .*\[1, 3, 56, 56\]"):
        model(images(1, 3, 56, 56))
    with pytest.raises(ValueError, match="got an input of shape"):
        model(images(channels, 56, 56))


@every_small_backbone
def test_head(spec):
    """0 -> 10 -> 0 -> 7 classes, pre-logits, and the backbone is untouched by all of it."""
    model = build(spec, class_num=0)
    model.eval()
    x = images(2, 3, 56, 56)
    with paddle.no_grad():
        features = model.forward_head(model.forward_features(x), pre_logits=True)
        assert features.shape == [2, model.num_features]
        assert np.array_equal(model(x).numpy(), features.numpy())
        for classes in (10, 0, 7):
            model.reset_head(classes)
            assert model(x).shape == [2, classes or model.num_features]
            assert model.config()["class_num"] == classes
            again = model.forward_head(model.forward_features(x), pre_logits=True)
            assert np.array_equal(again.numpy(), features.numpy())
    for wrong, error in ((-1, ValueError), (2.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="class_num"):
            model.reset_head(wrong)


# ---- features ----------------------------------------------------------------------------------------------------


@every_small_backbone
def test_features(spec):
    """NCHW maps with exactly the channels and strides of ``feature_info``, equal to what the stages compute."""
    model = build(spec)
    model.eval()
    computed = []
    for stage in model.stages:
        stage.register_forward_post_hook(lambda _layer, _inputs, output: computed.append(output.numpy()))
    height, width = 4 * multiple(model), 6 * multiple(model)
    x = images(2, 3, height, width)
    with paddle.no_grad():
        model(x)
        expected = [map_of(model, output, height, width) for output in computed]
        if spec.name == "Sequence_2d":  # a norm ends every stage; the last one's is the model's
            expected[-1] = map_of(model, model.norm(paddle.to_tensor(computed[-1])).numpy(), height, width)
        maps = model.extract_features(x)
        assert len(maps) == len(model.feature_info) == len(expected)
        for map_, info, reference in zip(maps, model.feature_info, expected):
            assert map_.shape == [2, info["channels"], height // info["stride"], width // info["stride"]]
            assert np.array_equal(map_.numpy(), reference)
        last, first = model.extract_features(x, indices=[-1, 0])
        assert np.array_equal(last.numpy(), expected[-1]) and np.array_equal(first.numpy(), expected[0])
        computed.clear()
        model.extract_features(x, indices=[1])
        assert len(computed) == 2, "stages after the last one wanted must not run"
    for wrong in ([4], [-5], []):
        with pytest.raises(ValueError, match="between -4 and 3"):
            model.extract_features(x, indices=wrong)


def test_strides_and_channels_of_sequencer():
    """The strides of the paper's models; there is no ladder of powers of two."""
    info = {name: registry.get_spec(name).factory(depths=[1] * 4) for name in ("Sequencer2D_S", "VSequencer_S")}
    assert [row["stride"] for row in info["Sequencer2D_S"].feature_info] == [7, 14, 14, 14]
    assert [row["channels"] for row in info["Sequencer2D_S"].feature_info] == [192, 384, 384, 384]
    assert [row["stride"] for row in info["VSequencer_S"].feature_info] == [14, 14, 14, 14]


def test_strides_and_channels_of_dilateformer():
    """The ladder of powers of two that detectors expect; odd sizes are rounded up."""
    model = registry.get_spec("DilateFormer_Base").factory(depths=[1] * 4)
    assert [row["stride"] for row in model.feature_info] == [4, 8, 16, 32]
    assert [row["channels"] for row in model.feature_info] == [96, 192, 384, 768]
    shapes = [map_.shape for map_ in model.extract_features(images(1, 3, 65, 35))]
    assert shapes == [[1, 96, 17, 9], [1, 192, 9, 5], [1, 384, 5, 3], [1, 768, 3, 2]]


# ---- drop path and recompute -------------------------------------------------------------------------------------


@every_small_backbone
def test_drop_path_is_a_linear_ramp(spec):
    """index / (blocks - 1) x rate, all branches of a block alike, as Python floats."""
    model = build(spec, perturb=False, drop_path_rate=0.4)
    layers = [(name, layer) for name, layer in model.named_sublayers() if isinstance(layer, DropPath)]
    rates = [layer.rate for name, layer in layers if ".blocks." in name]  # a little branch's blocks are further ones
    assert all(type(rate) is float for rate in rates)
    blocks = sum(len(stage.blocks) for stage in model.stages)
    assert len(rates) % blocks == 0
    np.testing.assert_allclose(rates, np.repeat(np.linspace(0, 0.4, blocks), len(rates) // blocks), atol=1e-12)


def loss_and_gradients(model, x) -> tuple:
    """Return the loss, all gradients, and the random number that is drawn next."""
    paddle.seed(3)
    loss = nn.functional.cross_entropy(model(x), paddle.arange(x.shape[0]) % CLASSES)
    loss.backward()
    after = paddle.rand([1]).item()
    gradients = {name: None if p.grad is None else p.grad.numpy() for name, p in model.named_parameters()}
    return loss.item(), gradients, after


@pytest.mark.sampled
@every_small_backbone_compat
@pytest.mark.parametrize("frozen_stem", [False, True], ids=["trainable", "frozen stem"])
def test_recompute_changes_nothing_but_memory(spec, frozen_stem):
    """Equal loss, gradients, random state and running statistics, with drop path and dropout on.

    With the stem frozen the first block's input needs no gradient, which Paddle's re-entrant recompute mistakes for
    "this block needs none".
    """
    plain, model = (build(spec, drop_path_rate=0.5, drop_rate=0.2) for _ in range(2))
    for parameter in [*plain.stem.parameters(), *model.stem.parameters()]:
        parameter.stop_gradient = frozen_stem
    x = images(6, 3, 56, 56)
    loss, gradients, after = loss_and_gradients(plain, x)
    model.set_recompute(True)
    loss_again, gradients_again, after_again = loss_and_gradients(model, x)
    assert loss_again == loss and after_again == after
    for name, gradient in gradients.items():
        if gradient is None:
            assert name.startswith("stem.") and gradients_again[name] is None
        else:
            np.testing.assert_allclose(gradients_again[name], gradient, rtol=1e-5, atol=1e-7, err_msg=name)
    statistics = dict(plain.named_buffers())
    for name, buffer in model.named_buffers():
        assert np.array_equal(buffer.numpy(), statistics[name].numpy()), name
    model.set_recompute(False)
    assert not any(getattr(layer, "recompute", False) for layer in model.sublayers())


PEAK = """
import pathlib, re, sys
import paddle
def peak():  # not getrusage(), whose figure a process inherits from the one that starts it
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
from ppcls_ext.arch.backbone.sequencer import Sequencer2D
sizes = dict(depths=[12], patch_sizes=[14], embed_dims=[96], hidden_sizes=[24], mlp_ratios=[3])
model = Sequencer2D(class_num=5, **sizes)
model.set_recompute(sys.argv[1] == "on")
x = paddle.randn([16, 3, 224, 224])
before = peak()
model(x).mean().backward()
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_recompute_lowers_peak_memory():
    """Growth of a fresh process's peak resident memory over one step."""
    peaks = {}
    for switch in ("off", "on"):
        run = subprocess.run([sys.executable, "-c", PEAK, switch], capture_output=True, text=True, check=True)
        peaks[switch] = int(run.stdout.split()[-1])
    assert peaks["on"] < 0.7 * peaks["off"], peaks


# ---- parameters --------------------------------------------------------------------------------------------------


@every_small_backbone
def test_layer_groups_cover_every_parameter_once(spec):
    model = build(spec, perturb=False)
    groups = model.layer_groups()
    names = [name for _, members in groups for name in members]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert len(names) == len(model.parameters())
    labels = [label for label, _ in groups]
    blocks = [f"stages.{s}.blocks.{b}" for s, stage in enumerate(model.stages) for b in range(len(stage.blocks))]
    assert labels == ["stem", *blocks, "tail"], "groups must run from the input to the head"


@every_small_backbone
def test_no_weight_decay(spec):
    """Norms, biases (the LSTMs' too), position embeddings and class tokens; no matrix but those."""
    model = build(spec, perturb=False)
    exempt = set(model.no_weight_decay())
    owners = dict(model.named_sublayers())
    for name, parameter in model.named_parameters():
        owner, _, kind = name.rpartition(".")
        is_norm = isinstance(owners[owner], (nn.LayerNorm, nn.BatchNorm2D))
        is_exempt = is_norm or "bias" in kind or name.startswith("pos_embed.")
        is_exempt = is_exempt or kind in ("pos_embed", "cls_token", "relative_position_bias_table")
        assert (name in exempt) == is_exempt, name
        assert is_exempt or parameter.ndim >= 2


@every_small_backbone
def test_one_tensor_counts_once(spec):
    """Paddle's state_dict() lists the tensors of an RNN twice; everything that counts must not."""
    model = build(spec)
    state = model.state_dict()
    tensors = {id(tensor) for tensor in state.values()}
    statistics = {name: tensor for name, tensor in state.items() if name.endswith(("._mean", "._variance"))}
    assert len(tensors) - len(statistics) == len(model.parameters()) == len(list(model.named_parameters()))
    has_rnn = any(isinstance(layer, paddle.nn.layer.rnn.RNNBase) for layer in model.sublayers())
    assert (len(state) > len(tensors)) == has_rnn
    model.eval()
    x = images(1, 3, 56, 56)
    expected = model(x).numpy()
    # A file may hold the flat names alone, or both names of each tensor: both fill the whole model.
    flat = {name: tensor.numpy() for name, tensor in [*model.named_parameters(), *statistics.items()]}
    for saved in (flat, {name: tensor.numpy() for name, tensor in state.items()}):
        other = build(spec, perturb=False)
        other.eval()
        other.set_state_dict(saved)
        assert np.array_equal(other(x).numpy(), expected)


@every_small_backbone_compat
def test_freezing_and_stepping_touch_one_tensor_once(spec):
    """A frozen block stays as it is, and a step of SGD moves every other tensor by exactly its gradient.

    The block lies between trainable layers. Paddle's RNN kernels fail when a weight is frozen, and its LayerNorm on the
    CPU passes on a wrong gradient.
    """
    free, model = build(spec), build(spec)
    x = images(2, 3, 56, 56)
    free(x).pow(2).mean().backward()
    unfrozen = {name: parameter.grad.numpy() for name, parameter in free.named_parameters()}
    frozen = set(dict(model.layer_groups())["stages.0.blocks.0"])
    frozen |= {name for name in unfrozen if name.startswith("stages.1.") and "bias_ih" in name}  # a part of an RNN
    for name, parameter in model.named_parameters():
        parameter.stop_gradient = name in frozen
    before = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    optimizer = paddle.optimizer.SGD(0.5, parameters=model.parameters())
    model(x).pow(2).mean().backward()
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    optimizer.step()
    assert set(gradients) == set(before) - frozen
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, unfrozen[name], rtol=1e-5, atol=1e-7, err_msg=name)
    for name, parameter in model.named_parameters():
        expected = before[name] - 0.5 * gradients[name] if name in gradients else before[name]
        np.testing.assert_allclose(parameter.numpy(), expected, rtol=1e-5, atol=1e-6, err_msg=name)


# ---- copies and configuration ------------------------------------------------------------------------------------


@every_small_backbone_compat
def test_pickle_and_deepcopy(spec):
    model = build(spec, drop_path_rate=0.1)
    model.eval()
    model.set_recompute(True)
    first = model.parameters()[0]
    first.stop_gradient = True
    x = images(2, 3, 56, 70)
    expected = model(x).numpy()
    for other in (copy.deepcopy(model), unpickled(model)):
        assert np.array_equal(other(x).numpy(), expected)
        assert not other.training and other.parameters()[0].stop_gradient
        assert other.stages[0].blocks.recompute
        assert len(other.parameters()) == len(model.parameters())
        for parameter in other.parameters():
            parameter.set_value(paddle.zeros_like(parameter))
        assert np.array_equal(model(x).numpy(), expected), "the copy must not share memory"
        assert np.abs(other(x).numpy()).max() == 0


@every_small_backbone
def test_config_round_trip(spec):
    """``config()`` survives JSON, names every constructor argument, and builds the same model."""
    model = build(spec, drop_path_rate=0.25)
    config = json.loads(json.dumps(model.config()))
    assert config == model.config()
    assert set(config) == {name for name in inspect.signature(type(model).__init__).parameters if name != "self"}
    assert config["drop_path_rate"] == 0.25 and config["class_num"] == CLASSES
    twin = type(model)(**config)
    twin.set_state_dict(model.state_dict())
    model.eval()
    twin.eval()
    x = images(1, 3, 56, 56)
    assert np.array_equal(twin(x).numpy(), model(x).numpy())
    assert str(twin).replace("\n", "") == str(model).replace("\n", "")


# ---- factories ---------------------------------------------------------------------------------------------------


@every_backbone
def test_factory_is_what_paddleclas_expects(spec):
    """A plain function with PaddleClas's signature, importable under its own name, with a docstring."""
    factory = spec.factory
    assert inspect.isfunction(factory) and factory.__name__ == factory.__qualname__ == spec.name
    assert getattr(sys.modules[factory.__module__], spec.name) is factory
    assert getattr(ppcls_ext, spec.name) is getattr(backbone, spec.name) is factory
    assert unpickled(factory) is factory
    parameters = list(inspect.signature(factory).parameters.values())
    assert [(p.name, p.default) for p in parameters[:2]] == [("pretrained", False), ("use_ssld", False)]
    assert parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    assert spec.name in factory.__doc__ and "Raises:" in factory.__doc__


@every_small_backbone
def test_every_argument_can_be_overridden(spec):
    """The caller's values win over the variant's, for all arguments at once."""
    config = {**build(spec, perturb=False).config(), "class_num": 3, "in_channels": 1, "drop_path_rate": 0.3}
    assert spec.factory(**config).config() == config


@every_backbone
def test_wrong_arguments(spec):
    with pytest.raises(TypeError, match=rf"{spec.name}\(\) got an unexpected .*'clas_num'; did you mean class_num"):
        spec.factory(clas_num=3)
    for word, hint in (
        ("num_classes", "did you mean class_num?"),
        ("in_chans", "did you mean in_channels?"),
        ("drop_path", "did you mean drop_path_rate?"),
        ("features_only", "call extract_features"),
    ):
        with pytest.raises(TypeError, match=rf"{spec.name}\(\) got an unexpected .*{word!r}; {re.escape(hint)}"):
            spec.factory(**{word: 1})
    with pytest.raises(TypeError, match="did you mean return_stages"):
        spec.factory(return_stage=True)
    ssld = [item for item in spec.weights if item.ssld]
    with pytest.raises(ValueError, match="use_ssld=True requires pretrained=True" if ssld else "no SSLD weights"):
        spec.factory(use_ssld=True)
    with pytest.raises(TypeError, match="pretrained must be a path, True or False, got 3"):
        spec.factory(pretrained=3)
    for name in ("drop_rate", "drop_path_rate"):
        with pytest.raises(ValueError, match=rf"{name} must lie in \[0, 1\), got 1"):
            build(spec, **{name: 1.0})
        with pytest.raises(TypeError, match=f"{name} must be a number, got 'x'"):
            build(spec, **{name: "x"})
    with pytest.raises(ValueError, match="class_num must be at least 0, got -1"):
        build(spec, class_num=-1)
    with pytest.raises(ValueError, match="in_channels must be at least 1, got 0"):
        build(spec, in_channels=0)


@every_backbone
def test_pretrained_true_without_a_network_says_what_to_do(spec, monkeypatch, tmp_path):
    """Where the file goes; what to download by hand, under which licence, and how to convert it; that there is none."""
    monkeypatch.setenv("PPCLS_EXT_HOME", str(tmp_path))
    monkeypatch.setenv("PPCLS_EXT_OFFLINE", "1")
    direct = [item for item in spec.weights if not item.manual]
    expected = [f"no weights of {spec.name} are published", "pretrained=<path"]
    if direct:
        expected = [direct[0].url, str(tmp_path / "weights" / spec.name), "PPCLS_EXT_OFFLINE"]
    elif spec.weights:
        expected = [text for item in spec.weights for text in (item.url, item.licence)]
        expected.append(f"ppcls_ext convert --arch {spec.name} --src")
    with pytest.raises((ValueError, OSError)) as error:
        spec.factory(pretrained=True, **(direct[0].arguments or {} if direct else {}))  # in the form of the weights
    assert all(text in str(error.value) for text in expected)


@pytest.mark.parametrize("depth, top1", [(50, 83.1), (101, 83.9), (200, 85.1)])
def test_use_ssld_means_paddleclass_distilled_weights(depth, top1, monkeypatch, tmp_path):
    """The wheel's own rule for their address, and its documentation's figures; without the flag they are not meant."""
    monkeypatch.setenv("PPCLS_EXT_HOME", str(tmp_path))
    monkeypatch.setenv("PPCLS_EXT_OFFLINE", "1")
    spec = registry.get_spec(f"Res2Net{depth}_vd_26w_4s")
    (weights,) = [item for item in spec.weights if item.ssld]
    plain = spec.weights[0]
    assert weights.url == plain.url.replace("_pretrained", "_ssld_pretrained") and weights.source == plain.source
    assert weights.accuracy.top1 == top1 > spec.accuracy.top1
    for use_ssld, expected in ((True, weights.url), (False, plain.url)):
        with pytest.raises(OSError, match=re.escape(f"{expected} is needed and PPCLS_EXT_OFFLINE is set")):
            spec.factory(pretrained=True, use_ssld=use_ssld)


@every_small_backbone
def test_pretrained_path(spec, tmp_path):
    """A checkpoint written by ``paddle.save`` loads, before PaddleClas's options change the names."""
    model = build(spec)
    path = tmp_path / "weights.pdparams"
    paddle.save(model.state_dict(), str(path))
    loaded = build(spec, perturb=False, pretrained=str(path))
    fine_tuned = build(spec, perturb=False, pretrained=path, class_num=CLASSES + 2)
    for other in (model, loaded, fine_tuned):
        other.eval()
    x = images(1, 3, 56, 56)
    assert np.array_equal(loaded(x).numpy(), model(x).numpy())
    assert np.array_equal(fine_tuned.forward_features(x).numpy(), model.forward_features(x).numpy())
    assert fine_tuned(x).shape == [1, CLASSES + 2]
    grey = build(spec, perturb=False, pretrained=path, in_channels=1)
    grey.eval()
    np.testing.assert_allclose(grey(x[:, :1]).numpy(), model(x[:, :1].tile([1, 3, 1, 1])).numpy(), rtol=1e-5, atol=1e-4)
    name = [name for name, _ in model.named_parameters() if not name.startswith("head.")][-1]
    paddle.save({**model.state_dict(), name: paddle.ones([3])}, str(path))
    with pytest.raises(ValueError, match=f"1 of its tensors differ\n  {re.escape(name)}: file has shape \\[3\\]"):
        build(spec, pretrained=path)


# ---- PaddleClas's TheseusLayer -----------------------------------------------------------------------------------

needs_theseus = pytest.mark.skipif(
    not hasattr(base.TheseusLayer, "init_net"), reason="no PaddleClas for this Python; its own features are missing"
)


@every_small_backbone
@needs_theseus
def test_return_stages_and_patterns(spec):
    x = images(2, 3, 56, 56)
    plain = build(spec)
    plain.eval()
    for argument, value, keys in (
        ("return_stages", True, [f"stages[{i}]" for i in range(4)]),
        ("return_stages", [0, 3], ["stages[0]", "stages[3]"]),
        ("return_stages", 1, ["stages[1]"]),
        ("return_patterns", ["stem", "stages[2].blocks[1]", "pool"], ["stem", "stages[2].blocks[1]", "pool"]),
    ):
        model = build(spec, **{argument: value})
        model.eval()
        outputs = model(x)
        assert set(outputs) == {"logits", *keys}
        assert np.array_equal(outputs["logits"].numpy(), plain(x).numpy())
    expected = plain.extract_features(x, [1])[0].numpy()
    map_ = build(spec, return_stages=1)
    map_.eval()
    assert np.array_equal(map_of(plain, map_(x)["stages[1]"].numpy(), 56, 56), expected)


@every_small_backbone
@needs_theseus
def test_stop_after(spec):
    x = images(2, 3, 56, 56)
    plain = build(spec)
    plain.eval()
    pooled = plain.forward_head(plain.forward_features(x), pre_logits=True)
    model = build(spec, stop_after="pool")
    model.set_state_dict(plain.state_dict())
    model.eval()
    assert np.array_equal(model(x).numpy(), pooled.numpy())
    model = build(spec, stop_after="stages[1]")
    model.set_state_dict(plain.state_dict())
    model.eval()
    expected = plain.extract_features(x, [1])[0].numpy()
    assert np.array_equal(map_of(plain, model(x).numpy(), 56, 56), expected)


@every_small_backbone
@needs_theseus
def test_freeze_befor(spec):
    """No gradient up to and including the layer, gradients for all parameters after it; the groups still hold."""
    model = build(spec, freeze_befor="stages[0]")
    model(images(2, 3, 56, 56)).pow(2).mean().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name.startswith(("stem.", "stages.0.", "pos_embed."))), name
    labels = [label for label, _ in model.layer_groups()]
    frozen = [label for label in labels if label.startswith("stages.0.")]
    assert frozen == [f"stages.0.blocks.{i}" for i in range(len(frozen))]
    assert labels[: len(frozen) + 2] == ["stem", *frozen, "stages.1.blocks.0"] and labels[-1] == "tail"
    model.eval()
    twin = unpickled(model)
    x = images(1, 3, 56, 56)
    assert np.array_equal(twin(x).numpy(), model(x).numpy())


@needs_theseus
@pytest.mark.parametrize(
    "options, message",
    [
        ({"stop_after": "stagez[1]"}, "stop_after: there is no sub-layer 'stagez\\[1\\]'; nearest"),
        ({"freeze_befor": "stages[9]"}, "freeze_befor: there is no sub-layer"),
        ({"return_patterns": ["blocks"]}, "return_patterns: there is no sub-layer 'blocks'"),
        ({"return_stages": [4]}, "return_stages must be stages between 0 and 3, got \\[4\\]"),
        ({"return_stages": 0, "return_patterns": "pool"}, "return_patterns or return_stages, not both"),
    ],
    ids=["stop_after", "freeze_befor", "return_patterns", "return_stages", "both"],
)
def test_wrong_paddleclas_options(options, message):
    """PaddleClas logs a warning for these and goes on with the model unchanged."""
    with pytest.raises(ValueError, match=message):
        build(registry.get_spec("Sequencer2D_S"), **options)


def test_paddleclas_options_without_paddleclas(monkeypatch):
    monkeypatch.setattr(base, "TheseusLayer", nn.Layer)
    spec = registry.get_spec("Sequencer2D_S")
    with pytest.raises(RuntimeError, match="return_stages, stop_after: this is a feature of PaddleClas's"):
        build(spec, return_stages=True, stop_after="pool")
    assert len(build(spec).extract_features(images(1, 3, 28, 28))) == 4


# ---- static graph ------------------------------------------------------------------------------------------------


def exported(model, path, height=None, width=None):
    """Trace ``model`` with an unknown batch, save it and read it again."""
    input_spec = [paddle.static.InputSpec([None, 3, height, width], "float32")]
    paddle.jit.save(paddle.jit.to_static(model, input_spec=input_spec, full_graph=True), str(path))
    loaded = paddle.jit.load(str(path))
    loaded.eval()
    return loaded


@pytest.mark.sampled
@every_small_backbone_compat
def test_export_with_dynamic_batch_height_and_width(spec, tmp_path):
    """Traced once with unknown sizes, saved, read again: equal to the model at two batches and three resolutions."""
    model = build(spec)
    model.eval()
    shapes = [(2, 3, 56, 56), (1, 3, 28, 70), (3, 3, 84, 42)]
    with paddle.no_grad():
        expected = [model(images(*shape)).numpy() for shape in shapes]
    for shape, reference in zip(shapes, expected):
        if facts(spec.family).fixed_export:
            loaded = exported(model, tmp_path / str(shape), *shape[2:])
            another = images(shape[0] + 1, *shape[1:])
            np.testing.assert_allclose(loaded(another).numpy(), model(another).numpy(), atol=1e-5)
        elif shape == shapes[0]:
            loaded = exported(model, tmp_path / "model")
        np.testing.assert_allclose(loaded(images(*shape)).numpy(), reference, atol=1e-5)


@pytest.mark.parametrize(
    "spec", [spec for spec in representatives() if not facts(spec.family).any_size], ids=lambda spec: spec.name
)
def test_a_fixed_wrong_size_is_refused_while_tracing(spec):
    model = build(spec)
    model.eval()
    size = 4 * multiple(model) + 1
    static = paddle.jit.to_static(model, input_spec=[paddle.static.InputSpec([1, 3, size, size])], full_graph=True)
    with pytest.raises(ValueError, match="multiples of"):
        static.forward.concrete_program  # noqa: B018 - tracing happens on access
