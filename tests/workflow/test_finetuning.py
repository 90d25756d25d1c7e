"""What finetune does before it trains: configuration, weights, and what it refuses."""

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from own_images import CLASSES, write_images

import ppcls_ext
from ppcls_ext import cli
from ppcls_ext.config import load_config
from ppcls_ext.engine.model import build_model
from ppcls_ext.registry import get_spec
from ppcls_ext.utils.files import write_atomically
from ppcls_ext.weights.conversion_record import record_path
from ppcls_ext.weights.pretrained import choose, converted_path
from ppcls_ext.workflow.finetuning import FinetuneOptions, finetune
from ppcls_ext.workflow.measuring import count_activations, measure_machine

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_images(folder / "photos")
    assert cli.main(["prepare", str(folder / "photos"), "--output", str(folder / "set"), "--quiet"]) == 0
    return folder / "set"


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("PPCLS_EXT_OFFLINE", "1")
    monkeypatch.setenv("PPCLS_EXT_HOME", str(tmp_path / "home"))


def run(capsys, *words) -> tuple:
    code = cli.main([str(word) for word in words])
    return (code, *capsys.readouterr())


@pytest.mark.sampled
@pytest.mark.parametrize(
    "arch, scratch_size",
    [
        ("SwinTransformer_tiny_patch4_window7_224", 64),
        ("Sequencer2D_S", 42),
        ("ResNet18", 64),
        ("ViT_S_16_224", 48),
        ("DilateFormer_Tiny", 64),
    ],
)
def test_the_configuration_of_each_kind_of_network_is_valid(dataset, tmp_path, arch, scratch_size):
    """From random weights it builds at the size of the images; from published ones it has their size."""
    options = FinetuneOptions(from_scratch=True, dry_run=True, say=lambda line: None)
    cfg = load_config(finetune(dataset, arch, tmp_path / "a", options).config)
    assert cfg.Global.image_shape == [3, scratch_size, scratch_size] and cfg.warnings == []
    model = build_model(cfg)
    assert count_activations(model, scratch_size) > 0
    if any(not weights.manual for weights in get_spec(arch).weights):
        cfg = load_config(finetune(dataset, arch, tmp_path / "b", FinetuneOptions(dry_run=True)).config)
        assert cfg.Global.image_shape == [3, 224, 224] and cfg.Arch.pretrained is True
        decay = cfg.section("Optimizer").get("layerwise_decay")
        assert decay == (None if arch == "ResNet18" else 0.75)


def test_no_weights_is_an_error_that_tells_how_to_get_them(dataset, tmp_path, capsys):
    code, _, error = run(capsys, "finetune", "--data", dataset, "--arch", "ResNet18", "--output", tmp_path / "out")
    assert code == 2
    for words in ("not here", "ppcls_ext download ResNet18", "PPCLS_EXT_MIRROR", "--pretrained", "--from_scratch"):
        assert words in error
    assert not (tmp_path / "out").exists()
    code, _, error = run(capsys, "finetune", "--data", dataset, "--arch", "DilateFormer_Tiny", "--output", tmp_path)
    assert code == 2 and "Download one in a browser" in error and "--pretrained" in error


def test_weights_that_are_here_are_taken(dataset, tmp_path, capsys):
    path = converted_path("ResNet18", choose("ResNet18", get_spec("ResNet18").weights))
    path.parent.mkdir(parents=True)
    for file in (path, record_path(path)):
        write_atomically(file, lambda aside: aside.write_text("{}"))
    command = ["finetune", "--data", dataset, "--arch", "ResNet18", "--output", tmp_path / "out", "--dry_run"]
    code, out, _ = run(capsys, *command)
    assert code == 0 and "the published weights, which are here" in out


def test_a_file_of_weights_is_started_from(dataset, tmp_path):
    import paddle

    model = ppcls_ext.create_backbone("ResNet18", class_num=7)
    paddle.save(model.state_dict(), str(tmp_path / "mine.pdparams"))
    options = FinetuneOptions(pretrained=str(tmp_path / "mine"), dry_run=True)
    cfg = load_config(finetune(dataset, "ResNet18", tmp_path / "out", options).config)
    built = build_model(cfg)
    own, theirs = built.state_dict(), model.state_dict()
    name = next(name for name in own if name.startswith("stages") and own[name].ndim == 4)
    assert np.array_equal(own[name].numpy(), theirs[name].numpy()) and cfg.Arch.class_num == 3


@pytest.mark.parametrize(
    "words, message",
    [
        (["--arch", "SwinTransformer_tiny_patch4_window7"], "did you mean SwinTransformer_tiny_patch4_window7_224"),
        (["--arch", "ResNet18", "--from_scratch", "--pretrained", "x"], "exclude each other"),
        (["--arch", "ResNet18", "--pretrained", "nowhere.pdparams"], "nowhere.pdparams is not there"),
        (["--arch", "ResNet18", "--from_scratch", "-o", "Optimizer.nme=AdamW"], "Optimizer"),
        (["--arch", "ResNet18", "--from_scratch", "-o", "epochs"], "dotted key"),
        (["--arch", "ViT_S_32_224", "--from_scratch", "--img_size", "50"], "img_size"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_trained(dataset, tmp_path, capsys, words, message):
    code, _, error = run(capsys, "finetune", "--data", dataset, "--output", tmp_path / "out", *words)
    assert code == 2 and message in error
    assert not (tmp_path / "out" / "finetune.yaml").exists() and not (tmp_path / "out" / "latest.pdparams").exists()


def test_a_folder_of_images_is_prepared_first(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(Path("photos"), count=5)
    Path("photos", CLASSES[0], "broken.jpg").write_bytes(b"x")
    command = ["finetune", "--data", "photos", "--arch", "ResNet18", "--from_scratch", "--dry_run"]
    code, out, _ = run(capsys, *command)
    assert code == 0 and "broken.jpg" in out and "next: ppcls_ext train -c output/photos_ResNet18/finetune.yaml" in out
    assert Path("output/photos_ResNet18/dataset/report.md").is_file()


def test_without_validation_images_nothing_starts(tmp_path, capsys):
    write_images(tmp_path / "photos", count=3)
    run(capsys, "prepare", tmp_path / "photos", "--output", tmp_path / "set", "--val", "0")
    code, _, error = run(capsys, "finetune", "--data", tmp_path / "set", "--arch", "ResNet18", "--from_scratch")
    assert code == 2 and "no validation images" in error and "--val" in error


def test_the_machine_is_measured():
    machine = measure_machine("cpu")
    assert machine.device == "cpu" and machine.cpus >= 1
    if os.path.exists("/proc/meminfo"):
        assert 2**26 < machine.free_bytes < 2**50


@pytest.mark.parametrize("page", ["README.md", "README_cn.md", "docs/en/own_data.md", "docs/zh_CN/own_data.md"])
def test_commands_of_the_page_parse(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = re.findall(r"^ppcls_ext (?:prepare|finetune) .*$", text, re.MULTILINE)
    lines += re.findall(r"^ppcls_ext serve --model_dir output/photos/.*$", text, re.MULTILINE)
    commands = [cli.build_parser().parse_args(shlex.split(line, comments=True)[1:]).command for line in lines]
    assert {"prepare", "finetune", "serve"} <= set(commands)


@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_the_pages_state_the_numbers_of_the_rules(language):
    from ppcls_ext.config.finetuning import rules

    text = (ROOT / "docs" / language / "own_data.md").read_text(encoding="utf-8").replace(",", "")
    numbers = {float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", text)}
    stated = [rules.LAYER_DECAY, rules.MEDIUM, rules.LARGE, rules.EMA_STEPS, rules.BYTES_PER_ACTIVATION]
    stated += [rules.BYTES_PER_PARAMETER, rules.STEPS_PER_EPOCH, rules.SMALLEST_BATCH, *rules.LARGEST_BATCH.values()]
    stated += [*rules.STEPS.values(), *rules.EPOCHS[True], *rules.EPOCHS[False], rules.SMALLEST_SIDE]
    stated += [number for chosen in rules.OPTIMIZATION.values() for number in (chosen.learning_rate, chosen.base)]
    assert [number for number in stated if number not in numbers] == []
