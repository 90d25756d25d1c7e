"""Features, neighbours and maps of images."""

import csv
import json

import numpy as np
import paddle
import pytest
from sklearn.neighbors import KNeighborsClassifier

from ppcls_ext import cli
from ppcls_ext.analysis.embedding.content import (
    UNKNOWN,
    Embeddings,
    EmbeddingsError,
    read_embeddings,
    write_embeddings,
)
from ppcls_ext.analysis.embedding.features import pooled_features
from ppcls_ext.analysis.embedding.neighbours import find_neighbours, knn_accuracy


def embeddings(features, labels=None):
    features = np.array(features, np.float32)
    labels = np.full(len(features), UNKNOWN) if labels is None else np.array(labels)
    return Embeddings([f"图 {number}.png" for number in range(len(features))], labels, features)


def noise(count, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    return embeddings(rng.normal(size=(count, 6)) + labels[:, None], labels)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_files_give_back_what_was_written(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    given = noise(7)
    write_embeddings(tmp_path / f"new/e{suffix}", given)
    found = read_embeddings(tmp_path / f"new/e{suffix}")
    assert found.files == given.files and found.features.dtype == np.float32
    assert np.array_equal(found.labels, given.labels) and np.array_equal(found.features, given.features)


def test_what_is_no_file_of_embeddings(tmp_path):
    with pytest.raises(EmbeddingsError, match=r"ends in .npz or .parquet"):
        write_embeddings(tmp_path / "e.csv", noise(2))
    (tmp_path / "e.npz").write_bytes(b"nothing")
    with pytest.raises(EmbeddingsError, match="holds no embeddings"):
        read_embeddings(tmp_path / "e.npz")
    np.savez(tmp_path / "f.npz", files=["a"], labels=[0, 1], features=np.ones((2, 3)))
    with pytest.raises(EmbeddingsError, match="1 files, 2 labels"):
        read_embeddings(tmp_path / "f.npz")


def test_neighbours_by_hand():
    # On a line from the origin the cosine is 1 whatever the length; at right angles it is 0.
    found = find_neighbours(embeddings([[1, 0], [9, 0], [0, 2], [0, 1]]), 1)
    assert found.indices[:, 0].tolist() == [1, 0, 3, 2] and np.allclose(found.distances, 0, atol=1e-6)
    found = find_neighbours(embeddings([[1, 0], [9, 0], [0, 2], [0, 1]]), 2, metric="euclidean")
    assert found.indices[0].tolist() == [3, 2] and np.allclose(found.distances[0], [2**0.5, 5**0.5])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_accuracy_is_that_of_scikit_learns_classifier(metric):
    queries, gallery = noise(40), noise(200, seed=1)
    found = knn_accuracy(find_neighbours(queries, 7, gallery, metric), queries, [1, 7], gallery)
    for k, accuracy in found.items():
        classifier = KNeighborsClassifier(k, metric=metric).fit(gallery.features, gallery.labels)
        assert accuracy == classifier.score(queries.features, queries.labels)
    assert 0.25 < found[7] < 1


def test_an_image_is_not_its_own_neighbour():
    # Two of each class: the nearest other image decides, so all are right; with itself they would be right anyway,
    # so the labels are crossed.
    items = embeddings([[0, 1], [0, 1.1], [5, 0], [5.1, 0]], [0, 1, 0, 1])
    assert knn_accuracy(find_neighbours(items, 1, metric="euclidean"), items, [1]) == {1: 0.0}


def test_what_cannot_be_compared():
    with pytest.raises(EmbeddingsError, match="of different models"):
        find_neighbours(noise(3), 1, embeddings(np.ones((4, 5))))
    with pytest.raises(EmbeddingsError, match="4 neighbours .* 3 images"):
        find_neighbours(noise(4), 4)
    unknown = embeddings(np.ones((4, 5)))
    with pytest.raises(EmbeddingsError, match="class id on every line"):
        knn_accuracy(find_neighbours(unknown, 1), unknown, [1])


@pytest.mark.compat
def test_features_are_what_the_classifier_takes():
    from ppcls_ext import create_backbone

    paddle.seed(0)
    model = create_backbone("ResNet18", class_num=5)
    model.eval()
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    features = pooled_features(model, 5)(images)
    assert features.shape == (2, 512)
    logits = model(paddle.to_tensor(images)).numpy()
    assert np.allclose(features @ model.head.weight.numpy() + model.head.bias.numpy(), logits, atol=1e-5)

    class Other(paddle.nn.Layer):
        """Not of this package: its classifier is found by its number of outputs."""

        def __init__(self):
            super().__init__()
            self.body, self.fc = paddle.nn.Linear(64, 7), paddle.nn.Linear(7, 5)

        def forward(self, x):
            return self.fc(self.body(x.mean(axis=[1, 2])))

    other = Other()
    found = pooled_features(other, 5)(images)
    assert np.allclose(found, other.body(paddle.to_tensor(images.mean(axis=(1, 2)))).numpy(), atol=1e-6)
    assert not other.fc._forward_pre_hooks
    with pytest.raises(EmbeddingsError, match="no linear layer with 6 outputs"):
        pooled_features(other, 6)


@pytest.mark.compat
def test_the_command_on_digits(trained, tmp_path, capsys):
    words = ["embed", str(trained.output_dir), "--infer_imgs", str(trained.digits / "val_small.txt")]
    words += ["--gallery", str(trained.digits / "train_small.txt"), "--k", "1", "5", "500", "--no_tsne"]
    assert cli.main([*words, "--output", str(tmp_path), "--format", "json"]) == 0
    printed = capsys.readouterr().out
    summary = json.loads(printed[printed.index("{\n") :])  # after the log
    assert summary == json.loads((tmp_path / "embed.json").read_text(encoding="utf-8"))
    assert summary["images"] == 43 and summary["dimensions"] == 16 and summary["gallery"] == 96
    assert set(summary["knn_accuracy"]) == {"1", "5"}, "500 is more than the gallery holds"
    queries, gallery = (read_embeddings(tmp_path / f"{name}.npz") for name in ("embeddings", "gallery"))
    classifier = KNeighborsClassifier(5, metric="cosine").fit(gallery.features, gallery.labels)
    assert summary["knn_accuracy"]["5"] == classifier.score(queries.features, queries.labels) > 0.5
    with (tmp_path / "neighbours.csv").open(encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 43 * 5 and rows[0]["file"].endswith(".png") and float(rows[0]["cosine_distance"]) >= 0


def test_a_map(trained, tmp_path):
    pytest.importorskip("matplotlib")
    words = ["embed", str(trained.output_dir), "--infer_imgs", str(trained.digits / "val_small.txt")]
    assert cli.main([*words, "--output", str(tmp_path)]) == 0
    with (tmp_path / "tsne.csv").open(encoding="utf-8-sig") as stream:
        places = np.array([[float(row["x"]), float(row["y"])] for row in csv.DictReader(stream)])
    assert places.shape == (43, 2) and places.std() > 1
    assert (tmp_path / "tsne.png").read_bytes()[:4] == b"\x89PNG"


def test_bad_input(trained, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no image")
    words = ["embed", str(trained.output_dir), "--output", str(tmp_path / "out")]
    assert cli.main([*words, "--infer_imgs", str(tmp_path)]) == 1
    assert "bad.png" in capsys.readouterr().err
    assert cli.main([*words, "--infer_imgs", str(tmp_path / "nowhere")]) == 1
    assert "no such image" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert cli.main([*words[:2], "--output", str(tmp_path / "file"), "--infer_imgs", str(tmp_path)]) == 2
