"""The command erf: from runs, backbones and PaddleClas's own to files, and what is wrong with its input."""

import importlib.util
import json

import numpy as np
import paddle
import pytest
from PIL import Image

from ppcls_ext import cli
from ppcls_ext.analysis.receptive_field.session import Fields
from ppcls_ext.analysis.subjects import open_network
from ppcls_ext.data.preprocess import build_transforms

needs_wheel = pytest.mark.skipif(importlib.util.find_spec("paddleclas") is None, reason="PaddleClas is not installed")


def run(capsys, *words):
    try:
        code = cli.main(["erf", *map(str, words)])
    except SystemExit as stop:  # argparse
        code = stop.code
    return (code, *capsys.readouterr())


@pytest.mark.compat
def test_a_run_over_images(capsys, tmp_path, trained):
    """Figures and arrays are those of the gradient, taken here by hand; the picture is there."""
    pytest.importorskip("matplotlib")
    words = [trained.output_dir, "--infer_imgs", trained.digits / "images", "--output", tmp_path, "--images", 5]
    code, out, err = run(capsys, *words, "--stage", 0, -1, "--batch_size", 2, "--format", "json")
    assert code == 0, err
    found = Fields.model_validate_json(out[out.index("{\n") :])  # after the log of the run that the fixture made
    assert found.images == 5 and [field.stage for field in found.fields] == ["stages[0]", "stages[1]"]
    network = open_network(str(trained.output_dir))
    pipeline = build_transforms(network.transforms)
    files = sorted((trained.digits / "images").rglob("*.png"))[:5]
    expected = np.zeros((16, 16))
    for file in files:
        pixels = paddle.to_tensor(pipeline(file.read_bytes())[None])
        pixels.stop_gradient = False
        (features,) = network.model.extract_features(pixels, [1])
        features[0, :, 1, 1].sum().backward()
        expected += pixels.grad.numpy()[0].clip(0).sum(axis=0)
    arrays = np.load(tmp_path / "erf.npz")
    np.testing.assert_allclose(arrays["output|stages[1]"], expected, rtol=1e-4, atol=1e-6)
    assert found.fields[1].peak == pytest.approx(expected.max(), rel=1e-4)
    assert Fields.model_validate_json((tmp_path / "erf.json").read_text()) == found
    assert Image.open(tmp_path / "erf.png").size[1] > 300


def test_another_resolution_and_a_layer_by_name(capsys, tmp_path, trained):
    """The resizing of evaluation goes along; tables name what was asked."""
    code, out, _ = run(
        capsys,
        *(f"a={trained.output_dir}", f"b={trained.output_dir / 'latest'}", "--infer_imgs", trained.digits / "images"),
        *("--output", tmp_path, "--images", 2, "--resolution", 24, "--stage", "stages[0].blocks[0]", "--no_plot"),
        *("--scale", "relative", "--gradient", "abs"),
    )
    assert code == 0 and "stages[0].blocks[0]" in out and not (tmp_path / "erf.png").exists()
    fields = json.loads((tmp_path / "erf.json").read_text())["fields"]
    assert [(field["label"], field["height"], field["map_height"]) for field in fields] == [("a", 24, 6), ("b", 24, 6)]


@needs_wheel
def test_paddleclas_own_by_their_stages_and_layers(capsys, tmp_path, trained):
    images = trained.digits / "images"
    words = ["--infer_imgs", images, "--output", tmp_path, "--images", 1, "--resolution", 64, "--random_weights"]
    code, _, err = run(capsys, "paddleclas.PPLCNet_x0_25", *words, "--no_plot", "--stage", 0, -1, "blocks3[0]")
    assert code == 0, err
    fields = json.loads((tmp_path / "erf.json").read_text())["fields"]
    assert fields[0]["map_height"] == 32 and fields[1]["map_height"] == 2 and fields[2]["stage"] == "blocks3[0]"
    assert [field["weights"] for field in fields] == ["random"] * 3
    code, _, err = run(capsys, "paddleclas.AlexNet", *words, "--no_plot")
    assert code == 1 and "PaddleClas does not say which layers of AlexNet end its stages; name one with --stage" in err


def test_what_is_wrong_is_named(capsys, tmp_path, trained):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (20, 20)).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no image")
    words = ["--infer_imgs", folder, "--output", tmp_path / "out"]
    code, _, err = run(capsys, trained.output_dir, *words)
    assert code == 1 and f"{folder / 'b.png'} cannot be read" in err and "output: " in err
    code, _, err = run(capsys, trained.output_dir, *words, "--images", 1, "--resolution", 18)
    assert code == 1 and "output: " in err and "multiples of 4" in err
    code, _, err = run(capsys, trained.output_dir, "--infer_imgs", tmp_path / "none", "--output", tmp_path / "out")
    assert code == 2 and "no such image" in err
    (tmp_path / "inference.yml").write_text("")
    code, _, err = run(capsys, tmp_path, *words)
    assert code == 2 and "exported model, which has no layers" in err
    code, _, err = run(capsys, trained.output_dir, trained.output_dir, *words, "--images", 1)
    assert code == 1 and "two models are called output" in err
    assert not (tmp_path / "out").exists()


def test_a_map_that_sees_nothing_is_an_error(capsys, tmp_path, trained):
    """All weights zero: the gradient is zero everywhere."""
    state = paddle.load(str(trained.output_dir / "best_model.pdparams"))
    paddle.save({key: value * 0 for key, value in state.items()}, str(tmp_path / "zero.pdparams"))
    words = ["--infer_imgs", trained.digits / "images", "--images", 1, "--output", tmp_path / "out"]
    code, _, err = run(capsys, f"zero={trained.write()}", "-o", f"Global.pretrained_model={tmp_path / 'zero'}", *words)
    assert code == 1 and "zero: the gradient of stages[1] is zero everywhere" in err
