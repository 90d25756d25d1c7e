"""Small files of predictions, with images."""

import numpy as np
import pytest
from PIL import Image
from small_predictions import NAMES, SAMPLES, make_scores, write_predictions


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Images in a folder; the first is damaged, the second is not there."""
    folder = tmp_path_factory.mktemp("images")
    files = [f"{number}.png" for number in range(SAMPLES)]
    for number, file in enumerate(files[2:]):
        Image.new("RGB", (40 + number, 30), (6 * number, 90, 200 - 5 * number)).save(folder / file)
    (folder / files[0]).write_bytes(b"no image")
    return folder, files


@pytest.fixture
def one(tmp_path, images):
    """A file of predictions."""
    labels, scores = make_scores(0)
    return write_predictions(tmp_path / "one.npz", images[1], labels, scores, NAMES, model="ResNet<50>")


@pytest.fixture
def other(tmp_path, images):
    """Another model's, in another order."""
    labels, scores = make_scores(5)
    order = np.random.default_rng(2).permutation(SAMPLES)
    files = [images[1][row] for row in order]
    return write_predictions(tmp_path / "other.npz", files, labels[order], scores[order], NAMES, model="int8")
