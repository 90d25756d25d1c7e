"""CIFAR from its archive to an export: the archive's own class names are what prediction shows."""

import yaml
from cifar_files import Archive
from PIL import Image
from training_runs import Runs

from ppcls_ext import cli
from ppcls_ext.engine.deploy.predictor import Predictor


def test_names_of_the_archive_reach_the_deployed_model(monkeypatch, tmp_path):
    runs = Runs(tmp_path, tmp_path)
    archive = Archive(tmp_path, monkeypatch, "Cifar10", count=8)
    for split, mode in (("Train", "train"), ("Eval", "test")):
        section = runs.config["DataLoader"][split]["dataset"]
        operators = [operator for operator in section["transform_ops"] if "DecodeImage" not in operator]
        runs.config["DataLoader"][split]["dataset"] = {
            "name": "Cifar10",
            "data_file": str(archive.path),
            "mode": mode,
            "transform_ops": operators,
        }
    runs.config["Global"].update(epochs=1, save_inference_dir=str(tmp_path / "inference"))
    runs.train()
    words = ["-o", f"Global.pretrained_model={runs.output_dir / 'best_model'}"]
    assert cli.main(["export", "-c", str(runs.write()), "--no_onednn", *words]) == 0
    content = yaml.safe_load((tmp_path / "inference" / "inference.yml").read_text(encoding="utf-8"))
    assert content["PostProcess"]["Topk"]["label_list"] == archive.names["labels"]
    (result,) = Predictor(tmp_path / "inference", topk=1).predict(Image.fromarray(archive.pixels["test"][0]))
    assert result["label_names"][0] == archive.names["labels"][result["class_ids"][0]]
