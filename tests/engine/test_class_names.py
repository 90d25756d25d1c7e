"""Names of classes: from the checkpoint, the folders of training, or the label file."""

from types import SimpleNamespace

import pytest

from ppcls_ext.data.errors import LabelFileError
from ppcls_ext.engine.class_names import prediction_labels, trained_class_names
from ppcls_ext.engine.train.manifest import write_manifest

pytestmark = pytest.mark.compat


def config(tmp_path, recorded=None, folders=(), label_file=None):
    """A config whose weights carry ``recorded`` and whose training has ``folders``."""
    weights = tmp_path / "best_model.pdparams"
    weights.write_bytes(b"x")
    if recorded is not None:
        facts = {"files": {"pdparams": {"bytes": 1, "sha256": "0" * 64}}, "step": 3, "class_names": recorded}
        write_manifest(tmp_path / "best_model.manifest.json", facts)
    for name in folders:
        (tmp_path / "train" / name).mkdir(parents=True)
    train = {"name": "ImageFolder", "image_root": str(tmp_path / "train")}
    return SimpleNamespace(
        Global=SimpleNamespace(pretrained_model=str(weights)),
        Infer=SimpleNamespace(PostProcess=SimpleNamespace(class_id_map_file=label_file, delimiter=None)),
        section=lambda key: train if key == "DataLoader.Train.dataset" else None,
    )


def test_the_checkpoints_names_come_before_the_folders(tmp_path):
    cfg = config(tmp_path, ["b", "a"], folders=["a", "b", "c"])
    assert trained_class_names(cfg) == ["b", "a"]
    assert trained_class_names(cfg, recorded=False) == ["a", "b", "c"]
    assert prediction_labels(cfg, 2) == ["b", "a"]
    assert prediction_labels(cfg, 3) == ["b", "a", "2"]


def test_without_a_record_the_folders_name_the_classes(tmp_path):
    assert prediction_labels(config(tmp_path, folders=["a", "b"]), 2) == ["a", "b"]


def test_without_any_names_the_ids_do(tmp_path, caplog):
    assert prediction_labels(config(tmp_path), 2) == ["0", "1"]
    assert "classes are named by their ids" in caplog.text


def test_a_label_file_that_contradicts_the_checkpoint_is_refused(tmp_path):
    path = tmp_path / "labels.txt"
    cfg = config(tmp_path, ["a", "b"], label_file=str(path))
    path.write_text("0 b\n1 a\n")
    with pytest.raises(ValueError, match="calls class 0 'b', but by the folders it is 'a'"):
        prediction_labels(cfg, 2)
    path.write_text("0 Apfel\n1 Birne\n")
    assert prediction_labels(cfg, 2) == ["Apfel", "Birne"]
    with pytest.raises(ValueError, match="the model has 3 classes .* names 2"):
        prediction_labels(cfg, 3)
    path.write_text("0 a\n0 b\n")
    with pytest.raises(LabelFileError, match="there twice"):
        prediction_labels(cfg, 2)
