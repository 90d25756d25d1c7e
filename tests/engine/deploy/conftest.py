"""An export, and a copy of it to damage."""

import copy
import types

import pytest
import yaml

from ppcls_ext.config import load_config
from ppcls_ext.engine.deploy.exporter import export


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    """A legacy export, which every Paddle reads, and the config that it was made with."""
    folder = tmp_path_factory.mktemp("exported")
    config = copy.deepcopy(trained.config)
    config["Global"]["save_inference_dir"] = str(folder / "inference")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    export(load_config(path, mode="export"), "legacy", onednn=False)
    return types.SimpleNamespace(folder=folder / "inference", config=path, digits=trained.digits)


@pytest.fixture(scope="session")
def exported_onnx(exported, tmp_path_factory):
    """The same model as graphs of Paddle and of ONNX."""
    folder = tmp_path_factory.mktemp("exported_onnx") / "inference"
    export(
        load_config(exported.config, [f"Global.save_inference_dir={folder}"], mode="export"),
        ["default", "onnx"],
        onednn=False,
    )
    return types.SimpleNamespace(folder=folder, config=exported.config, digits=exported.digits)


@pytest.fixture
def editable(exported, tmp_path):
    """A copy of the export with its inference.yml as a dict; ``write`` puts the dict back."""
    folder = tmp_path / "inference"
    folder.mkdir()
    for file in exported.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    content = yaml.safe_load((folder / "inference.yml").read_text())
    write = lambda: (folder / "inference.yml").write_text(yaml.safe_dump(content))  # noqa: E731
    return types.SimpleNamespace(folder=folder, content=content, write=write)
