"""What is particular to Vision Permutator: mixing along rows and columns, any image size, argument checks."""

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from ppcls_ext import registry
from ppcls_ext.arch.backbone.vision_permutator import PermuteMlp, VisionPermutator
from ppcls_ext.arch.layers import DropPath
from ppcls_ext.engine.deploy import paddle_writing

SMALL = {
    "class_num": 3,
    "img_size": 32,
    "depths": [1, 1],
    "patch_size": 4,
    "embed_dims": [16, 24],
    "segments": [8, 4],
    "transitions": [True],
    "mlp_ratios": [2, 2],
}


def images(*shape):
    return paddle.to_tensor(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))


def perturbed(model):
    """Set weights that are large enough for every part to matter, the same for the same shapes."""
    paddle.seed(0)
    for name, parameter in model.named_parameters():
        is_norm = parameter.ndim == 1 and name.endswith("weight")
        parameter.set_value(0.2 * paddle.randn(parameter.shape) + (1.0 if is_norm else 0.0))
    model.eval()
    return model


# ---- the mixer ---------------------------------------------------------------------------------------------------


def influence(mixer, row, column, height, width) -> np.ndarray:
    """Which output positions ``[H, W]`` depend on the input at (row, column)."""
    x = images(1, height, width, 12)
    changed = x.clone()
    changed[:, row, column] += 1.0
    with paddle.no_grad():
        return np.abs((mixer(x) - mixer(changed)).numpy()).max(axis=(0, 3)) > 1e-7


@pytest.mark.parametrize("height, width", [(6, 6), (5, 7), (12, 3)])
@pytest.mark.parametrize(
    "branches",
    [("spatial", "spatial"), ("spatial", "channel"), ("channel", "spatial"), ("channel", "channel")],
    ids=str,
)
def test_mixing_runs_along_true_rows_and_columns(branches, height, width):
    """A token reaches its own column by the height branch and its own row by the width branch, and nothing else."""
    mixer = perturbed(PermuteMlp(12, 6, False, *branches))
    expected = np.zeros((height, width), bool)
    expected[2, 1] = True
    if branches[0] == "spatial":
        expected[:, 1] = True
    if branches[1] == "spatial":
        expected[2, :] = True
    assert np.array_equal(influence(mixer, 2, 1, height, width), expected)


def test_mixer_by_loops_over_rows_columns_and_groups():
    """Algorithm 1 with loops: each column's and row's group of channels through the same matrix."""
    mixer = perturbed(PermuteMlp(12, 6, weighted=False, bias=True))
    x = images(2, 6, 6, 12)
    size = 2
    mixed = mixer.mlp_c(x).numpy()
    array = x.numpy()
    of_h, of_w = ((layer.weight.numpy(), layer.bias.numpy()) for layer in (mixer.mlp_h, mixer.mlp_w))
    for group in range(6):
        channels = slice(group * size, (group + 1) * size)
        for position in range(6):
            column = array[:, :, position, channels].reshape([2, 12]) @ of_h[0] + of_h[1]
            mixed[:, :, position, channels] += column.reshape([2, 6, size])
            row = array[:, position, :, channels].reshape([2, 12]) @ of_w[0] + of_w[1]
            mixed[:, position, :, channels] += row.reshape([2, 6, size])
    np.testing.assert_allclose(mixer(x).numpy(), mixer.proj(paddle.to_tensor(mixed)).numpy(), atol=1e-5)


def test_weights_of_the_branches():
    """Per sample and channel they sum to 1; a network of zeros weighs all alike, and its bias picks one branch."""
    mixer = perturbed(PermuteMlp(12, 6))
    weights = mixer.reweight(images(5, 12))
    assert weights.shape == [5, 12, 3]
    np.testing.assert_allclose(weights.sum(axis=-1).numpy(), 1, rtol=1e-6)
    for parameter in mixer.reweight.fc2.parameters():
        parameter.set_value(paddle.zeros_like(parameter))
    x = images(2, 6, 6, 12)
    plain = PermuteMlp(12, 6, weighted=False)
    plain.set_state_dict({name: value for name, value in mixer.state_dict().items() if "reweight" not in name})
    difference = mixer(x) - mixer.proj.bias - (plain(x) - plain.proj.bias) / 3
    assert np.abs(difference.numpy()).max() < 1e-5
    # Unit 3 c + k is branch k of channel c: the order is height, width, channels.
    for branch, alone in enumerate((mixer._along_height, mixer._along_width, mixer.mlp_c)):
        bias = np.zeros((12, 3), np.float32)
        bias[:, branch] = 50
        mixer.reweight.fc2.bias.set_value(bias.reshape(-1))
        np.testing.assert_allclose(mixer(x).numpy(), mixer.proj(alone(x)).numpy(), atol=1e-5)


# ---- any size ----------------------------------------------------------------------------------------------------


@pytest.mark.compat
def test_the_native_size_does_not_depend_on_the_rule():
    """Bit for bit; another size does."""
    models = [perturbed(VisionPermutator(**SMALL, resize_rule=rule)) for rule in ("resample", "pool", "pad")]
    for height, width, equal in ((32, 32, True), (48, 32, False), (32, 24, False)):
        outputs = [model(images(2, 3, height, width)).numpy() for model in models]
        assert [np.array_equal(outputs[0], other) for other in outputs[1:]] == [equal, equal]


@pytest.mark.compat
@pytest.mark.parametrize("height, width", [(1, 1), (33, 32), (47, 20), (30, 57)])
def test_images_are_filled_up_with_zeros_at_the_right_and_the_bottom(height, width):
    """To multiples of the last stage's stride, 8: exactly the result of an image that was filled up before."""
    model = perturbed(VisionPermutator(**SMALL))
    x = images(2, 3, height, width)
    padded = F.pad(x, [0, -width % 8, 0, -height % 8])
    assert np.array_equal(model(x).numpy(), model(padded).numpy())
    shapes = [map_.shape for map_ in model.extract_features(x)]
    rows, columns = -(-height // 8), -(-width // 8)
    assert shapes == [[2, 16, 2 * rows, 2 * columns], [2, 24, rows, columns]]


def test_size_zero_is_refused():
    with pytest.raises(ValueError, match="images of at least 1 x 1, got 0 x 8"):
        VisionPermutator(**SMALL)(paddle.zeros([1, 3, 0, 8]))


def test_a_larger_image_of_the_same_scene_gives_nearby_features():
    """What resampling is for: at twice the size of a smooth image, through smooth weights, features barely change.

    The stem averages, so that its tokens do not depend on the size. Mixing in pieces of the native length, as padding
    does, changes the features several times as much.
    """
    position = np.arange(8) / 8
    smooth = np.cos(np.pi * (position[:, None] - position)).repeat(2, axis=0).repeat(2, axis=1).astype("float32")
    scene = F.interpolate(images(2, 3, 4, 4), size=[32, 32], mode="bilinear")
    one_stage = {"depths": [1], "embed_dims": [16], "segments": [8], "transitions": [], "mlp_ratios": [2]}
    changes = {}
    for rule in ("resample", "pool", "pad"):
        model = perturbed(VisionPermutator(**{**SMALL, **one_stage}, resize_rule=rule))
        stem, mixer = model.stem.proj.weight, model.stages[0].blocks[0].attn
        stem.set_value(stem.mean(axis=[2, 3], keepdim=True).tile([1, 1, 4, 4]))
        mixer.mlp_h.weight.set_value(smooth)
        mixer.mlp_w.weight.set_value(smooth)
        native = model(scene).numpy()
        doubled = model(F.interpolate(scene, size=[64, 64], mode="bilinear")).numpy()
        changes[rule] = np.abs(doubled - native).max() / np.abs(native).max()
    assert max(changes["resample"], changes["pool"]) < 0.05
    assert changes["pad"] > 2 * max(changes["resample"], changes["pool"]), changes


def test_training_at_another_size_moves_the_native_weights():
    """A few steps at 48 x 24 lower the loss there; the parameters keep their shapes."""
    paddle.seed(0)
    model = VisionPermutator(**SMALL)
    shapes = [parameter.shape for parameter in model.parameters()]
    before = model.stages[0].blocks[0].attn.mlp_h.weight.numpy()
    optimizer = paddle.optimizer.AdamW(1e-2, parameters=model.parameters())
    x, labels = images(6, 3, 48, 24), paddle.arange(6) % 3
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert [parameter.shape for parameter in model.parameters()] == shapes
    assert np.abs(model.stages[0].blocks[0].attn.mlp_h.weight.numpy() - before).max() > 1e-3


@pytest.mark.compat
def test_tracing_without_a_size_says_what_to_give():
    model = VisionPermutator(**SMALL, in_channels=1)
    model.eval()
    spec = [paddle.static.InputSpec([None, 1, None, None], "float32")]
    static = paddle.jit.to_static(model, input_spec=spec, full_graph=True)
    with pytest.raises(ValueError, match=r"InputSpec\(\[None, 1, 32, 32\]\), Global.image_shape: \[1, 32, 32\]"):
        static.forward.concrete_program  # noqa: B018 - tracing happens on access


def test_the_exporter_writes_the_resampled_weights(tmp_path):
    """At 56 x 40 the two stages' grids are 14 x 10 and 7 x 5; S is 2 and 6. No native matrix is left."""
    model = perturbed(VisionPermutator(**SMALL))
    model.fold(56, 40)
    paddle_writing._write(model, tmp_path, (3, 56, 40))
    loaded = paddle.jit.load(str(tmp_path / paddle_writing.PREFIX))
    x = images(2, 3, 56, 40)
    np.testing.assert_allclose(loaded(x).numpy(), model(x).numpy(), atol=1e-5)
    sides = sorted(
        s[0] for s in (tensor.shape for tensor in loaded.state_dict().values()) if len(s) == 2 and s[0] == s[1]
    )
    # Besides those, mlp_c and proj of both stages: 16 and 24 wide.
    assert sides == sorted([14 * 2, 10 * 2, 7 * 6, 5 * 6, 16, 16, 24, 24])


# ---- constructor -------------------------------------------------------------------------------------------------


def test_drop_path_rates_of_the_paper():
    """Small/7 with 0.1: block i of 18 has 0.1 i / 17, both of its branches alike."""
    model = registry.get_spec("ViP_Small_7").factory(embed_dims=[32, 32, 32, 32], drop_path_rate=0.1)
    rates = [layer.rate for layer in model.sublayers() if isinstance(layer, DropPath)]
    np.testing.assert_allclose(rates[::2], [0.1 * i / 17 for i in range(18)], atol=1e-12)
    assert rates[::2] == rates[1::2] and len(rates) == 36


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"segments": [8, 8]}, ValueError, r"segments\[1\] must be the side .* 8 in the stage before and halved .* 8"),
        ({"transitions": [False]}, ValueError, r"segments\[1\] must be .* not halved behind it; got 4"),
        ({"embed_dims": [16, 22]}, ValueError, r"segments\[1\] must divide embed_dims\[1\] = 22, got 4"),
        ({"transitions": []}, ValueError, r"transitions must hold 1 flags, one for each stage but the last, got \[\]"),
        ({"transitions": True}, TypeError, "transitions must be a list of True and False, got True"),
        ({"transitions": [1]}, TypeError, r"transitions\[0\] must be True or False, got 1"),
        ({"segments": [8]}, ValueError, r"segments must hold 2 values, one per stage, got \[8\]"),
        ({"embed_dims": [16]}, ValueError, "embed_dims must hold 2 values"),
        ({"depths": 3}, TypeError, "depths must be a list of integers"),
        ({"patch_size": 0}, ValueError, "patch_size must be at least 1, got 0"),
        ({"mlp_ratios": [3, -1]}, ValueError, "mlp_ratios must hold 2 positive values"),
        ({"resize_rule": "resampl"}, ValueError, "resize_rule must be one of .*; got 'resampl', did you mean resample"),
        ({"height_branch": "chanel"}, ValueError, "height_branch must be one of spatial, channel; .* channel?"),
        ({"width_branch": "none"}, ValueError, "width_branch must be one of spatial, channel"),
        ({"activation": "gleu"}, ValueError, "did you mean gelu"),
        ({"weighted": "no"}, TypeError, "weighted must be True or False, got 'no'"),
        ({"qkv_bias": 1}, TypeError, "qkv_bias must be True or False, got 1"),
        ({"epsilon": 0}, ValueError, "epsilon must be positive, got 0"),
        ({"skip_lam": 0}, ValueError, "skip_lam must be positive, got 0"),
        ({"img_size": [28, 42, 3]}, TypeError, "img_size must be an integer or"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        VisionPermutator(**{**SMALL, **arguments})


@pytest.mark.parametrize(
    "arguments",
    [
        {"weighted": False},
        {"qkv_bias": True},
        {"height_branch": "channel", "qkv_bias": True},
        {"width_branch": "channel"},
        {"resize_rule": "pool"},
        {"resize_rule": "pad", "qkv_bias": True},
        {"activation": "silu", "epsilon": 1e-6, "skip_lam": 2.0, "drop_rate": 0.1},
        {"transitions": [False], "segments": [8, 8]},
        {"transitions": [False], "segments": [8, 8], "embed_dims": [16, 16]},
        {"depths": [2], "embed_dims": [8], "segments": [8], "transitions": [], "mlp_ratios": [0.5]},
    ],
    ids=str,
)
def test_every_option_builds_and_runs(arguments):
    """Forward and backward at the native and another size, and parameters of exactly the layers asked for."""
    model = VisionPermutator(**{**SMALL, **arguments})
    for size in (32, 40):
        model(images(2, 3, size, size)).pow(2).sum().backward()
        assert all(np.abs(parameter.grad.numpy()).max() > 0 for parameter in model.parameters())
    names = [name for name, _ in model.named_parameters()]
    config = model.config()
    assert any("reweight" in name for name in names) == config["weighted"]
    assert any(name.endswith("mlp_h.bias") for name in names) == config["qkv_bias"]
    changes = any(config["transitions"]) or len(set(config["embed_dims"])) > 1
    assert any("downsample" in name for name in names) == changes
    assert len(model.feature_info) == len(model.stages) == len(config["depths"])
