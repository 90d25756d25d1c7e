"""Weight files of every format, the files of a checkpoint, and those of an export."""

import shutil

import numpy as np
import paddle
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from invariants import run
from mutations import damaged, yaml_files
from safetensors.numpy import save_file
from test_fuzz_data import configured
from torch_writer import state, write_legacy, write_zip

FORMATS = ("pdparams", "pth", "tar", "npz", "safetensors")


@pytest.fixture(scope="session")
def weight_files(workshop) -> dict:
    """The trained weights in every format that is read; ``tar`` stands for PyTorch's older one."""
    arrays = {key: value.numpy() for key, value in paddle.load(f"{workshop.weights}.pdparams").items()}
    paths = {suffix: workshop.inputs / f"weights.{suffix}" for suffix in FORMATS}
    shutil.copy(f"{workshop.weights}.pdparams", paths["pdparams"])
    write_zip(paths["pth"], *state(arrays))
    write_legacy(paths["tar"], *state(arrays))
    np.savez(paths["npz"], **arrays)
    save_file(arrays, paths["safetensors"])
    return paths


@pytest.mark.parametrize("suffix", FORMATS)
@given(data=st.data())
def test_a_damaged_weight_file(workshop, weight_files, suffix, data):
    other = data.draw(st.sampled_from((suffix, suffix, suffix, *FORMATS)), label="content of")
    content = data.draw(damaged(weight_files[other].read_bytes()))
    command = data.draw(st.sampled_from(("eval", "export")))
    arguments = configured(workshop, command)
    place = arguments[2].parent
    (place / f"weights.{suffix}").write_bytes(content)
    arguments[4] = f"Global.pretrained_model=weights.{suffix}"
    event(f"exit {run(f'weights (.{suffix})', arguments, place).code}")


@pytest.mark.parametrize("part", ["manifest.json", "pdparams", "pdopt", "pdema", "pdstates"])
@given(data=st.data())
def test_a_damaged_checkpoint(workshop, part, data):
    """Resuming it is refused, or goes on as from the whole one."""
    arguments = configured(workshop, "train", "Global.epochs=2", "Global.checkpoints=run/latest")
    place = arguments[2].parent
    (place / "run").mkdir()
    for file in (workshop.inputs / "run").glob("latest.*"):
        shutil.copy(file, place / "run")
    file = place / "run" / f"latest.{part}"
    file.write_bytes(data.draw(damaged(file.read_bytes())))
    event(f"exit {run(f'checkpoint (.{part})', arguments, place).code}")


def predict(workshop, name: str, content: bytes, *more: str) -> int:
    """Predict with the export whose file ``name`` has another content; return the exit code."""
    place = workshop.place()
    shutil.copytree(workshop.export, place / "inference")
    assert (place / "inference" / name).exists(), name
    (place / "inference" / name).write_bytes(content)
    image = workshop.inputs / "0.png"
    outcome = run(f"export ({name})", ["predict", "--model_dir", "inference", "--infer_imgs", image, *more], place)
    event(f"exit {outcome.code}")
    return outcome.code


@given(data=st.data())
def test_a_changed_inference_yml(workshop, data):
    text = (workshop.export / "inference.yml").read_text(encoding="utf-8")
    predict(workshop, "inference.yml", data.draw(yaml_files(text)))


@pytest.mark.parametrize("kind", ["graph", "weights"])
@given(data=st.data())
def test_a_damaged_export(workshop, kind, data):
    """No change of a single bit predicts."""
    weights = workshop.export / "inference.pdiparams"
    graph = next(file for file in workshop.export.iterdir() if file.suffix in (".json", ".pdmodel"))
    file = weights if kind == "weights" else graph
    before = file.read_bytes()
    content = data.draw(damaged(before))
    code = predict(workshop, file.name, content)
    assert code == (0 if content == before else 1)
