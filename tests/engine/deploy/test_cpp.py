"""The C++ program in deploy/cpp, held to Python: the same tensor within a grey level, and the same classes."""

import copy
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ppcls_ext.config import load_config
from ppcls_ext.data.preprocess import build_transforms
from ppcls_ext.engine.deploy.exporter import export
from ppcls_ext.engine.deploy.inference_yml import InferenceConfig
from ppcls_ext.engine.deploy.predictor import Predictor

SOURCE = Path(__file__).parents[3] / "deploy" / "cpp"
pytest.importorskip("openvino", reason="its package holds the headers and libraries")
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NORMALIZE = {"NormalizeImage": {"scale": 1 / 255, "mean": MEAN, "std": STD, "order": ""}}
OPERATORS = {
    "cv2": [{"ResizeImage": {"resize_short": 36, "backend": "cv2"}}, {"CropImage": {"size": 32}}],
    "cv2 bicubic": [{"ResizeImage": {"size": [40, 32], "interpolation": "bicubic", "backend": "cv2"}}],
    "pil": [
        {"ResizeImage": {"resize_short": 36, "interpolation": "bicubic", "backend": "pil"}},
        {"CropImage": {"size": [32, 24]}},
    ],
    "pil larger": [{"ResizeImage": {"size": 144, "interpolation": "lanczos", "backend": "pil"}}],
    **{
        f"pil {name}": [{"ResizeImage": {"size": [24, 40], "interpolation": name, "backend": "pil"}}]
        for name in ("bilinear", "box", "hamming", "nearest")
    },
}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program, built."""
    from openvino.utils import get_cmake_path

    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    folder = tmp_path_factory.mktemp("cpp")
    options = ["-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS=-Werror", f"-DOpenVINO_DIR={get_cmake_path()}"]
    found = subprocess.run(["cmake", "-S", SOURCE, "-B", folder, *options], capture_output=True, text=True)
    if 'package configuration file provided by "' in found.stderr:
        pytest.skip("needs libopencv-dev and libyaml-cpp-dev")
    assert found.returncode == 0, found.stderr
    built = subprocess.run(["cmake", "--build", folder, "--parallel", "2"], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "classify"


@pytest.fixture(scope="module")
def onnx_folder(trained, tmp_path_factory):
    """An export with an ONNX graph."""
    folder = tmp_path_factory.mktemp("onnx")
    config = copy.deepcopy(trained.config)
    config["Global"].update(save_inference_dir=str(folder / "inference"), output_dir=str(folder))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return export(load_config(folder / "config.yaml", mode="export"), "onnx")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Smooth colours with noise: colour, grey, with alpha, and turned by EXIF."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 9, 97), np.linspace(0, 7, 61))
    waves = np.stack([np.sin(x + phase) * np.cos(y - phase) for phase in (0, 1, 2)], axis=-1)
    pixels = np.clip(128 + 100 * waves + rng.normal(0, 20, waves.shape), 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.save(folder / "colour.png")
    image.convert("L").save(folder / "grey.png")
    image.convert("RGBA").save(folder / "alpha.png")
    image.resize((61, 97)).save(folder / "tall.bmp")
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(folder / "turned.jpg", quality=95, subsampling=0, exif=turned)
    return sorted(folder.iterdir())


def with_operators(folder, target, operators):
    """Copy an export with another preprocessing."""
    shutil.copytree(folder, target)
    content = yaml.safe_load((target / "inference.yml").read_text())
    content["PreProcess"]["transform_ops"] = [*operators, NORMALIZE, {"ToCHWImage": None}]
    (target / "inference.yml").write_text(yaml.safe_dump(content, sort_keys=False))


def rows_of(done) -> list:
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.parametrize("case", OPERATORS)
def test_the_tensor_and_the_classes_are_pythons(program, onnx_folder, photos, tmp_path, case):
    folder = tmp_path / "inference"
    with_operators(onnx_folder, folder, OPERATORS[case])
    command = [program, folder, *photos, "--topk", "10", "--tensors", tmp_path / "tensors"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config = InferenceConfig.load(folder / "inference.yml")
    transform = build_transforms(config.preprocessing)
    theirs = np.fromfile(tmp_path / "tensors", np.float32)
    for photo in photos:
        ours = transform(photo.read_bytes())
        tensor, theirs = theirs[: ours.size].reshape(ours.shape), theirs[ours.size :]
        assert np.abs((tensor - ours) * np.reshape(STD, (3, 1, 1))).max() <= 1 / 255 + 1e-6, photo.name
    assert len(theirs) == 0
    rows = rows_of(done)
    assert len(rows) == 10 * len(photos)
    if case not in ("cv2", "pil"):
        return
    for result in Predictor(folder, topk=10, engine="openvino").predict(photos):
        mine, rows = rows[:10], rows[10:]
        assert {row[0] for row in mine} == {result["file_name"]}
        by_class = {int(row[1]): float(row[2]) for row in mine}
        expected = dict(zip(result["class_ids"], result["scores"]))
        assert by_class == pytest.approx(expected, abs=0.01)
        assert {int(row[1]): row[3] for row in mine} == dict(zip(result["class_ids"], result["label_names"]))
        assert [float(row[2]) for row in mine] == sorted(by_class.values(), reverse=True)
        assert mine[0][1] == str(result["class_ids"][0])


def test_what_it_cannot_do_is_named(program, onnx_folder, photos, tmp_path):
    def said(*words, code=1):
        done = subprocess.run([program, *words], capture_output=True, text=True)
        assert done.returncode == code
        return done.stderr

    assert "usage: classify MODEL_DIR IMAGE" in said()
    assert "nowhere/inference.yml" in said("nowhere", photos[0])
    (tmp_path / "text.png").write_text("no image")
    done = subprocess.run([program, onnx_folder, tmp_path / "text.png", photos[0]], capture_output=True, text=True)
    assert done.returncode == 1 and "text.png: not an image that OpenCV can read" in done.stderr
    assert len(rows_of(done)) == 3  # the other image, with the export's topk
    with_operators(onnx_folder, tmp_path / "other", [{"Pad": {"padding": 1}}])
    assert "the operator Pad of inference.yml is not known here" in said(tmp_path / "other", photos[0])
