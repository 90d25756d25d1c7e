"""What a predictor takes, and that each image gets its own result."""

import io
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from ppcls_ext.data.image_files import list_images
from ppcls_ext.engine.deploy.inputs import inputs_of
from ppcls_ext.engine.deploy.predictor import Predictor


@pytest.fixture(scope="module")
def images(exported):
    return list_images(exported.digits / "val_list.txt")[:96]


@pytest.fixture(scope="module")
def predictor(exported):
    return Predictor(exported.folder, batch_size=8, workers=2)


@pytest.mark.compat
def test_four_threads_get_the_results_of_their_own_images(predictor, images):
    """One predictor: without turns, a thread would fetch what another one's images gave."""
    expected = [predictor.predict(images[number::4]) for number in range(4)]
    found, failed = {}, []

    def work(number):
        own = images[number::4]
        try:
            for _ in range(6):
                found[number] = predictor.predict(own)
                assert found[number] == expected[number]
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and len(found) == 4


@pytest.mark.sampled
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_threads_that_preprocess_change_no_result(exported, images, tmp_path, workers, batch_size):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    mixed = [broken, *images[:7], broken, broken, *images[7:11], broken]
    results = Predictor(exported.folder, batch_size=batch_size, workers=workers).predict(mixed)
    assert [result["file_name"] for result in results] == [str(path) for path in mixed]
    alone = [Predictor(exported.folder).predict(path)[0] for path in mixed]
    assert [result["class_ids"] for result in results] == [result["class_ids"] for result in alone]


def test_images_are_read_as_they_are_needed(exported, images):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield images[len(taken) % 4]

    stream = Predictor(exported.folder, batch_size=2, workers=2).stream(endless())
    first = [next(stream) for _ in range(6)]
    assert len(first) == 6 and len(taken) <= 6 + 2 * (2 * 2 + 2)


def test_one_image_in_every_form_gives_one_result(exported, images, tmp_path):
    """Grey, RGBA, Pillow images and bytes are taken as their file would be."""
    predictor = Predictor(exported.folder)
    expected = predictor.predict(images[0])[0]
    rgb = cv2.imread(str(images[0]))[:, :, ::-1]
    alpha = np.full((*rgb.shape[:2], 1), 7, np.uint8)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "0.png").write_bytes(images[0].read_bytes())
    (tmp_path / "list.txt").write_text("folder/0.png\n")
    assert np.array_equal(rgb[:, :, 0], rgb[:, :, 1])  # the digits are grey
    forms = {
        "path": images[0],
        "string": str(images[0]),
        "bytes": images[0].read_bytes(),
        "bytearray": bytearray(images[0].read_bytes()),
        "Pillow, grey": Image.open(io.BytesIO(images[0].read_bytes())),
        "Pillow, RGBA": Image.fromarray(np.concatenate([rgb, alpha], 2)),
        "[H, W, 3]": rgb,
        "[H, W]": rgb[:, :, 0],
        "[H, W, 1]": rgb[:, :, :1],
        "[H, W, 4]": np.concatenate([rgb, alpha], 2),
        "[1, H, W, 3]": rgb[None],
        "folder": folder,
        "list": tmp_path / "list.txt",
        "several": [rgb],
    }
    for form, image in forms.items():
        (result,) = predictor.predict(image)
        assert (result["class_ids"], result["scores"]) == (expected["class_ids"], expected["scores"]), form


def test_the_order_of_channels_is_that_of_a_file(exported, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colour.png")
    predictor = Predictor(exported.folder)
    from_file, from_array = predictor.predict([tmp_path / "colour.png", pixels])
    assert from_file["scores"] == from_array["scores"] != predictor.predict(pixels[:, :, ::-1])[0]["scores"]


def test_a_batch_is_one_result_an_image(predictor):
    batch = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    results = predictor.predict(batch)
    assert [result["file_name"] for result in results] == ["array 0[0]", "array 0[1]", "array 0[2]"]


@pytest.mark.compat
@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), ValueError, r"array 0: .*uint8 .*0 to 255, got float32 .*image \* 255"),
        (np.full((8, 8, 3), 200.0), ValueError, "got float64 from 200 to 200$"),
        (np.zeros((8, 8, 3), np.uint16), ValueError, "got uint16 from 0 to 0"),
        (np.zeros((8, 8, 3), bool), ValueError, "got bool"),
        (np.zeros((8, 8, 3), object), ValueError, "got object"),
        (np.zeros((3, 8, 8), np.uint8), ValueError, r"got \[3, 8, 8\]; image.transpose\(1, 2, 0\)"),
        (np.zeros((2, 3, 8, 8), np.uint8), ValueError, r"array 0\[0\]: .*transpose"),
        (np.zeros((8, 8, 2), np.uint8), ValueError, r"got \[8, 8, 2\]"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, r"got \[0, 8, 3\]"),
        (np.zeros((), np.uint8), ValueError, r"got \[\]"),
        (7, TypeError, "expected a path, bytes, .* or several of them; got a int"),
        ([None], TypeError, "image 0: expected a path.*got a NoneType"),
        ({"image": "a.png"}, TypeError, "got a dict"),
    ],
    ids=lambda value: "" if not isinstance(value, np.ndarray) else f"{value.dtype}{list(value.shape)}",
)
def test_what_is_no_image_is_refused_with_what_is_expected(predictor, image, error, message):
    with pytest.raises(error, match=message):
        predictor.predict(image)


def test_what_cannot_be_read_without_end_is_named(predictor, tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.png")
    results = predictor.predict([tmp_path / "pipe.png", "/dev/zero"])
    assert [result["error"].partition(" is ")[2] for result in results] == [
        "a named pipe; expected a regular file",
        "a device; expected a regular file",
    ]


def test_names_tell_inputs_apart():
    array = np.zeros((4, 4, 3), np.uint8)
    names = [item.name for item in inputs_of([b"x", array, Image.fromarray(array), "a.png", np.stack([array] * 2)])]
    assert names == ["bytes 0", "array 1", "image 2", "a.png", "array 4[0]", "array 4[1]"]
