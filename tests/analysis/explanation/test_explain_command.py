"""The command, on a trained run and on what was exported from it."""

import json

import numpy as np
import pytest
from PIL import Image

from ppcls_ext import cli
from ppcls_ext.analysis.explanation.subject import open_subject, shown

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "digits"
    words = ["export", "-c", str(trained.output_dir / "config.yaml"), "--format", "onnx", "-o"]
    words += [f"Global.pretrained_model={trained.output_dir / 'best_model'}", f"Global.save_inference_dir={folder}"]
    assert cli.main(words) == 0
    return folder


@pytest.fixture(scope="module")
def photo(trained):
    return sorted((trained.digits / "images").glob("*.png"))[0]


def run(*words):
    try:
        return cli.main(["explain", *map(str, words)])
    except SystemExit as stop:
        return stop.code


def test_maps_pictures_and_figures(trained, photo, tmp_path):
    pytest.importorskip("skimage")
    methods = ["gradcam", "integrated_gradients", "smoothgrad", "rollout", "occlusion", "lime"]
    words = [f"数字={trained.output_dir}", "--infer_imgs", photo, "--output", tmp_path, "--faithfulness"]
    assert run(*words, "--method", *methods, "--samples", 60, "--segments", 12) == 0
    rows = json.loads((tmp_path / "explain.json").read_text(encoding="utf-8"))
    assert [row["method"] for row in rows] == methods and {row["model"] for row in rows} == {"数字"}
    assert ["error" in row for row in rows] == [method == "rollout" for method in methods]
    assert all(0 <= row["deletion"] <= 1 and 0 <= row["insertion"] <= 1 for row in rows if "error" not in row)
    stem = f"0_{photo.stem}.数字"
    with np.load(tmp_path / f"{stem}.npz") as maps:
        assert set(maps) == {*methods} - {"rollout"}
        assert all(maps[name].shape == (16, 16) and maps[name].any() for name in maps)
    for name in ("grid", f"{stem}.gradcam"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) >= 224 and len(picture.convert("RGB").getcolors(10**6)) > 10


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_exported_model_is_explained_alike(trained, exported, photo, tmp_path, engine):
    pytest.importorskip(engine)
    pytest.importorskip("skimage")
    found = []
    for number, model in enumerate((trained.output_dir, exported)):
        words = [f"m={model}", "--infer_imgs", photo, "--output", tmp_path / str(number), "--class", "seven"]
        assert run(*words, "--method", "occlusion", "lime", "--samples", 50, "--engine", engine) == 0
        with np.load(tmp_path / str(number) / f"0_{photo.stem}.m.npz") as maps:
            found.append({name: maps[name] for name in maps})
    for name in ("occlusion", "lime"):
        np.testing.assert_allclose(found[0][name], found[1][name], atol=2e-6)
        assert np.abs(found[0][name]).max() > 1e-4
    assert json.loads((tmp_path / "1" / "explain.json").read_text())[0]["class_id"] == 7


def test_methods_that_need_layers_refuse_an_export(exported, photo, tmp_path, capsys):
    assert run(exported, "--infer_imgs", photo, "--output", tmp_path, "--method", "gradcam") == 1
    assert "occlusion and lime work" in capsys.readouterr().err


def test_what_the_model_saw_is_shown(trained, photo):
    subject = open_subject(str(trained.output_dir))
    image = subject.preprocess(photo.read_bytes())
    with Image.open(photo) as original:
        expected = np.asarray(original.convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)) / 255
    assert np.abs(shown(image, subject.transforms) - expected).max() < 0.05
    assert shown(image, []).max() <= 1


def test_bad_input(trained, photo, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no image")
    words = [trained.output_dir, "--output", tmp_path / "out", "--infer_imgs"]
    for more, code, message in (
        ([photo, "--class", "sevn"], 1, "no class 'sevn'; did you mean seven"),
        ([photo, "--class", "99"], 1, "no class '99'"),
        ([tmp_path / "bad.png"], 1, "bad.png cannot be read"),
        (
            [photo, "--method", "gradcam", "--layer", "stages.0.bloks"],
            1,
            "no layer 'stages.0.bloks'; did you mean stages.0",
        ),
        ([photo, "--method", "gradcam", "--kernel_width", "0"], 2, "--kernel_width"),
        ([photo, "--method", "grad"], 2, "did you mean gradcam"),
    ):
        assert run(*words, *more) == code
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "what is wrong is found before anything is written"
