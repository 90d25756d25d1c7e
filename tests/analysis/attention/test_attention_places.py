"""Attention brought back to places: hand-made probabilities, planted places, and networks of every kind."""

import importlib
import json

import numpy as np
import paddle
import pytest
from small_models import build

from ppcls_ext import cli, registry
from ppcls_ext.analysis.attention.geometry import dilated_attention, global_attention, window_attention
from ppcls_ext.analysis.attention.recording import (
    AttentionError,
    attention_layers,
    feature_maps,
    position_similarity,
)
from ppcls_ext.arch.layers import attention_recording
from ppcls_ext.arch.layers.attention_recording import record_attention

NETWORKS = ("ViT_S_16_224", "SwinTransformer_tiny_patch4_window7_224", "DilateFormer_Tiny")


def network(name):
    model = build(registry.get_spec(name))
    model.eval()
    return model


def noise(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


# ---- recording -----------------------------------------------------------------------------------------------------


@pytest.mark.compat
@pytest.mark.parametrize("name", NETWORKS)
def test_probabilities_are_recorded_and_change_nothing(name):
    model = network(name)
    x = paddle.to_tensor(noise(2, 3, 56, 84))
    with paddle.no_grad():
        expected = model(x).numpy()
        with record_attention(model) as maps:
            found = model(x).numpy()
    assert np.array_equal(found, expected) and maps
    for name_, tensors in maps.items():
        for tensor in tensors:
            np.testing.assert_allclose(tensor.numpy().sum(axis=-1), 1, atol=1e-5, err_msg=name_)
    assert not attention_recording.is_recorded()
    assert not any(layer._forward_pre_hooks or layer._forward_post_hooks for layer in model.sublayers())


def test_probabilities_times_values_are_the_layers_output():
    model = network("ViT_S_16_224")
    layer = dict(model.named_sublayers())["stages.0.blocks.0.attn"]
    x = paddle.to_tensor(noise(2, 5, model.num_features))
    with record_attention(layer) as inside, paddle.no_grad():
        with pytest.raises(IndexError):  # only what runs below the network that is recorded has a name
            layer(x)
    assert not inside
    holder = paddle.nn.Sequential(layer)
    with record_attention(holder) as maps, paddle.no_grad():
        expected = holder(x).numpy()
    (probabilities,) = maps["0"]
    heads, size = layer.heads, model.num_features // layer.heads
    value = layer.qkv(x).numpy().reshape(2, 5, 3, heads, size)[:, :, 2].transpose(0, 2, 1, 3)
    mixed = (probabilities.numpy() @ value).transpose(0, 2, 1, 3).reshape(2, 5, -1)
    found = mixed @ layer.proj.weight.numpy() + layer.proj.bias.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_fused_kernel_gives_way(monkeypatch):
    module = importlib.import_module("ppcls_ext.arch.layers.attention")
    monkeypatch.setattr(module, "has_fused_kernel", lambda query: True)
    model = network("ViT_S_16_224")
    x = paddle.to_tensor(noise(1, 3, 56, 56))
    with record_attention(model) as maps, paddle.no_grad():
        model(x)
    assert len(maps) == sum(layer.__class__.__name__ == "SelfAttention" for layer in model.sublayers())


def test_nothing_is_left_after_an_error():
    model = network("ViT_S_16_224")
    with pytest.raises(ValueError, match="multiples"), record_attention(model):
        model(paddle.zeros([1, 3, 57, 57]))
    assert not attention_recording.is_recorded()
    assert not any(layer._forward_pre_hooks for layer in model.sublayers())


# ---- geometry ------------------------------------------------------------------------------------------------------


def test_uniform_and_identical_attention_by_hand():
    uniform = global_attention("g", np.full((2, 9, 9), 1 / 9, np.float32), (3, 3), 4)
    distances = [np.hypot(a // 3 - b // 3, a % 3 - b % 3) for a in range(9) for b in range(9)]
    distance, nearby, entropy = uniform.locality()
    assert distance == pytest.approx(4 * np.mean(distances), rel=1e-6) and entropy == pytest.approx(np.log(9), rel=1e-5)
    assert nearby == pytest.approx((4 * 4 + 4 * 6 + 9) / 81, rel=1e-5)  # corners see 4 of 9, sides 6, the middle all
    own = global_attention("g", np.eye(10, dtype=np.float32)[None], (3, 3), 4)  # with a class token
    assert own.locality() == pytest.approx((0, 1, 0), abs=1e-6)
    assert own.spread(1, 2)[0].argmax() == 5


def test_a_class_token_is_left_out():
    shares = np.zeros((1, 5, 5), np.float32)
    shares[..., 0], shares[..., 4] = 0.75, 0.25  # three quarters to the class token, the rest to the last patch
    layer = global_attention("g", shares, (2, 2), 1)
    assert layer.spread(0, 0)[0].tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("shift", [(0, 0), (1, 2)])
def test_windows_and_their_shift(shift):
    """Each query of a rolled map attends to the place right of it, in its window."""
    window, grid = 3, (5, 6)
    shares = np.zeros((4, 1, 9, 9), np.float32)
    for query in range(9):
        row, column = divmod(query, 3)
        shares[:, :, query, row * 3 + (column + 1) % 3] = 1
    layer = window_attention("w", shares, grid, 2, window, shift)
    for row in range(5):
        for column in range(6):
            rolled = (column - shift[1]) % 6
            beside = rolled // 3 * 3 + (rolled + 1) % 3
            found = layer.spread(row, column)[0]
            assert found.shape == grid and np.argwhere(found).tolist() == [[row, (beside + shift[1]) % 6]]
    # Two of three steps are one place long, the third goes two back.
    assert layer.locality().distance == pytest.approx(2 * (1 + 1 + 2) / 3)


def test_dilation():
    shares = np.zeros((5, 5, 2, 9), np.float32)
    shares[:, :, 0, 0] = shares[:, :, 1, 5] = 1  # up and left; right
    layer = dilated_attention("d", shares, 4, 3, 2)
    found = layer.spread(3, 2)
    assert np.argwhere(found).tolist() == [[0, 1, 0], [1, 3, 4]]
    assert not layer.spread(1, 1)[0].any(), "outside the map"
    assert layer.locality().distance == pytest.approx(4 * (2 * 2**0.5 + 2) / 2) and layer.locality().nearby == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_a_query_of_a_network(name):
    layers = attention_layers(network(name), noise(3, 56, 84))
    assert {layer.stride for layer in layers} <= {4, 8, 14, 16, 28, 32} and len(layers) >= 2
    for layer in layers:
        found = layer.of_pixel(30, 50)
        assert found.shape[1:] == layer.grid and (found >= 0).all()
        assert 0 < layer.locality().entropy <= np.log(layer.probabilities.shape[-1]) + 1e-6
        # Keys outside the map take part in windows at its border and with dilation, and are not shown.
        assert (found.sum(axis=(1, 2)) < 1 + 1e-5).all()
        if name.startswith("ViT"):
            np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, atol=1e-5)


def test_swin_follows_its_own_roll():
    """The places a query of a shifted layer attends to are those whose input changes its output."""
    model = network("SwinTransformer_tiny_patch4_window7_224")
    name, layer = [
        (name, layer)
        for name, layer in model.named_sublayers()
        if type(layer).__name__ == "WindowAttention" and layer.shift
    ][0]
    width = layer.qkv.weight.shape[0]
    x = paddle.to_tensor(noise(1, 14, 14, width))
    holder = paddle.nn.Sequential(layer)
    with record_attention(holder) as maps, paddle.no_grad():
        before = holder(x).numpy()
    shift = int(layer.shift_along(2))
    found = window_attention(name, maps["0"][0].numpy(), (14, 14), 4, layer.window, (shift, shift)).spread(2, 9)
    reached = found.max(axis=0) > 1e-6
    for row, column in ((2, 8), (2, 2), (13, 9), (6, 12), (9, 9)):
        moved = x.numpy().copy()
        moved[0, row, column] += 5
        with paddle.no_grad():
            changed = np.abs(holder(paddle.to_tensor(moved)).numpy() - before)[0, 2, 9].max() > 1e-4
        assert changed == reached[row, column], (row, column)


# ---- positions and feature maps -------------------------------------------------------------------------------------


def test_position_embeddings():
    model = network("ViT_S_16_224")
    found = position_similarity(model)
    rows, columns = found.shape[:2]
    table = model.stem.pos_embed.numpy()[0, 1:]
    expected = table[1] @ table[columns] / np.linalg.norm(table[1]) / np.linalg.norm(table[columns])
    assert found.shape == (rows, columns, rows, columns) and found[0, 1, 1, 0] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(AttentionError, match="no position embeddings; ViT has"):
        position_similarity(network("DilateFormer_Tiny"))


def test_feature_maps():
    model = network("ResNet18")
    image = noise(3, 64, 96)
    found = feature_maps(model, image, 3)
    maps = model.extract_features(paddle.to_tensor(image[None]))
    assert len(found) == len(maps) == 4
    for (_, channels), tensor in zip(found, maps):
        spreads = tensor.numpy()[0].std(axis=(1, 2))
        assert np.allclose(channels.std(axis=(1, 2)), np.sort(spreads)[::-1][:3], rtol=1e-4)


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def photo(tmp_path):
    from PIL import Image
    from sklearn.datasets import load_sample_image

    path = tmp_path / "china.png"
    Image.fromarray(load_sample_image("china.jpg")).save(path)
    return path


def test_the_command(photo, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    words = ["attention", "digits=quick_start/ViT_digits", "--random_weights", "--infer_imgs", str(photo), "--heads"]
    words += ["-o", "Infer=null", "--query", "3", "12", "--position_embeddings", "--feature_maps", "--format", "json"]
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    (found,) = json.loads(printed[printed.index("[\n") :])
    assert [row["name"] for row in found["layers"]] == [f"stages.{stage}.blocks.0.attn" for stage in range(4)]
    assert all((tmp_path / "out" / name).stat().st_size > 100 for name in found["files"]) and len(found["files"]) == 7
    with np.load(tmp_path / "out" / "china.digits.attention.npz") as maps:
        assert maps["stages.0.blocks.0.attn"].shape == (4, 4, 4)


@pytest.mark.parametrize(
    "words, message",
    [
        (["quick_start/ResNet_digits"], "ResNet has no attention; ViT, Swin and DilateFormer have"),
        (["quick_start/ViT_digits", "--query", "3", "16"], r"(3, 16) is outside the image of 16x16 pixels"),
        (["quick_start/ViT_digits", "--layers", "stage.0"], "no attention layer is called 'stage.0'"),
        (["quick_start/SwinTransformer_digits", "--position_embeddings"], "no position embeddings; ViT has"),
    ],
)
def test_mistakes(photo, tmp_path, capsys, words, message):
    pytest.importorskip("matplotlib")
    words = [*words, "--random_weights", "--infer_imgs", str(photo), "-o", "Infer=null"]
    assert cli.main(["attention", *words, "--output", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
