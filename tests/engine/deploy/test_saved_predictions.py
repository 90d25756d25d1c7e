"""Deployed models write the same file of predictions as evaluation."""

import json

import numpy as np
import pytest

from ppcls_ext.cli import main
from ppcls_ext.config import load_config
from ppcls_ext.engine.deploy.shares import Share
from ppcls_ext.engine.evaluator import EvaluationOptions, evaluate
from ppcls_ext.engine.predictions import PROBABILITIES, UNKNOWN, PredictionsFileError, read_predictions
from ppcls_ext.engine.predictions.deployed import DeployedRecorder

pytestmark = pytest.mark.compat


def predict(exported, *arguments) -> int:
    return main(["predict", "--model_dir", str(exported.folder), *map(str, arguments)])


def test_the_file_is_that_of_evaluation(exported, tmp_path, capsys):
    """The same images, labels, classes and, but for rounding, probabilities; results and accuracy are as without it."""
    evaluated, deployed, lines = tmp_path / "a.npz", tmp_path / "b.csv", tmp_path / "out.jsonl"
    evaluate(load_config(exported.config, mode="eval"), options=EvaluationOptions(save_predictions=evaluated))
    arguments = ["--infer_imgs", exported.digits / "val_list.txt", "--batch_size", 50, "--topk", 2, "--output", lines]
    assert predict(exported, *arguments, "--save-predictions", deployed, "--metrics") == 0
    first, second = read_predictions(evaluated), read_predictions(deployed)
    assert second.files == first.files and second.labels.tolist() == first.labels.tolist()
    assert second.header.kind == PROBABILITIES
    np.testing.assert_allclose(np.exp(first.log_probabilities()), second.scores, atol=1e-5)
    top1 = (second.ranked(1)[:, 0] == second.labels).mean()
    assert f"top1 {top1:.5f}" in capsys.readouterr().err
    results = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [result["class_ids"] for result in results] == second.ranked(2).tolist()
    assert not any("all_scores" in result for result in results)


def test_an_image_that_cannot_be_read_is_left_out_and_the_others_keep_their_labels(exported, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    known = [line.split() for line in (exported.digits / "val_list.txt").read_text().splitlines()[:3]]
    listed, path = tmp_path / "list.txt", tmp_path / "out.npz"
    lines = [f"{exported.digits / file} {label}\n" for file, label in known]
    listed.write_text("".join([lines[0], "broken.png 7\n", *lines[1:]]))
    assert predict(exported, "--infer_imgs", listed, "--save_predictions", path, "--save_topk", 3) == 1
    found = read_predictions(path)
    assert found.labels.tolist() == [int(label) for _, label in known] and found.class_ids.shape == (3, 3)
    assert found.header.class_names[0] == "zero" and found.header.source["engine"]


def test_images_without_a_list_have_no_label(exported, tmp_path):
    image = exported.digits / "images" / "0000.png"
    assert predict(exported, "--infer_imgs", image, "--save_predictions", tmp_path / "out.npz") == 0
    assert read_predictions(tmp_path / "out.npz").labels.tolist() == [UNKNOWN]


def test_results_of_other_processes_keep_their_scores(tmp_path):
    """They come as JSON, in order."""
    scores = np.random.default_rng(0).dirichlet(np.ones(3), 4).astype(np.float32)
    results = [{"file_name": f"{row}.png", "all_scores": scores[row].tolist()} for row in range(4)]
    folder = Share(0, 2, "run").folder(tmp_path / "out.json")
    Share(1, 2, "run").leave(results[2:], folder)
    merged = Share(0, 2, "run").merge(results[:2], folder)
    recorder = DeployedRecorder(tmp_path / "out.npz", ["a", "b", "c"], np.array([0, 1, 2, 0]), {})
    assert [result for result in recorder.through(merged)] == [{"file_name": f"{row}.png"} for row in range(4)]
    np.testing.assert_array_equal(read_predictions(tmp_path / "out.npz").scores, scores)


def test_no_image_at_all(tmp_path):
    recorder = DeployedRecorder(tmp_path / "out.npz", ["a", "b"], None, {})
    with pytest.raises(PredictionsFileError, match="there is no prediction to write"):
        list(recorder.through([{"file_name": "a.png", "error": "no image"}]))


@pytest.mark.parametrize(
    "words, message",
    [
        (["--save_predictions", "{folder}/out.txt"], "expected a name that ends in .parquet, .npz, .csv"),
        (["--save_topk", "3"], "--save_topk needs --save_predictions"),
        (["--save_predictions", "{folder}/out.csv", "--save_topk", "11"], "topk is 11; expected 1 to the number of"),
        (["--save_predictions", "{folder}/out.csv", "--infer_imgs", "{folder}/list.txt"], 'expected "<path> <int>"'),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(exported, tmp_path, capsys, words, message):
    (tmp_path / "list.txt").write_text("a.png\n")
    words = [word.format(folder=tmp_path) for word in words]
    assert predict(exported, "--infer_imgs", exported.digits / "val_small.txt", *words) == 2
    assert message in capsys.readouterr().err
