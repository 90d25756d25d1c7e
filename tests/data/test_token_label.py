"""Token labels: maps on disk, cut out along with the image, mixed along with the image."""

import numpy as np
import paddle
import pytest
from PIL import Image

from ppcls_ext.data import DataFileError, build_dataloader, build_dataset
from ppcls_ext.data.preprocess import build_transforms, geometry
from ppcls_ext.data.preprocess import pillow_operations as operations
from ppcls_ext.data.preprocess.geometry import affine_map, chained, noting, scaling, shift
from ppcls_ext.data.preprocess.timm_levels import Style
from ppcls_ext.data.preprocess.timm_policies import RandPolicy
from ppcls_ext.data.token_label import (
    LabelMap,
    TokenLabels,
    TokenScores,
    read_label_map,
    sampling_shares,
    token_scores,
    top_scores,
    write_label_map,
)

# ---------------------------------------------------------------- maps on disk


@pytest.mark.compat
@pytest.mark.parametrize("classes", (1000, 21841, 70000))
def test_a_map_comes_back_as_it_was_written(tmp_path, classes):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 5, (classes, 3, 4)).astype(np.float16)
    scores, ids = top_scores(logits.astype(np.float32), 5)
    write_label_map(tmp_path / "deep" / "er" / "a.npz", scores, ids)
    label_map = read_label_map(tmp_path / "deep" / "er" / "a.npz")
    for row in range(3):
        for column in range(4):
            ranked = sorted(range(classes), key=lambda c: (-float(logits[c, row, column]), c))[:5]
            assert list(label_map.classes[:, row, column]) == ranked
            assert list(label_map.scores[:, row, column]) == [logits[c, row, column] for c in ranked]
    assert [path.name for path in (tmp_path / "deep" / "er").iterdir()] == ["a.npz"]


@pytest.mark.parametrize(
    "scores, classes, message",
    (
        (np.zeros((2, 3, 3)), np.zeros((2, 3, 3), int), "a class occurs twice in a cell"),
        (np.zeros((1, 3, 3)), np.full((1, 3, 3), -1), "class -1 is negative"),
        (np.full((1, 3, 3), np.nan), np.zeros((1, 3, 3), int), "NaN"),
        (np.zeros((1, 3, 3)), np.zeros((1, 3, 4), int), "expected scores and classes"),
        (np.zeros((1, 3, 3)), np.zeros((1, 3, 3)), "integer classes"),
    ),
)
def test_what_is_no_map_is_not_written_and_not_read(tmp_path, scores, classes, message):
    with pytest.raises(ValueError, match=message):
        write_label_map(tmp_path / "a.npz", scores, classes)
    np.savez(tmp_path / "b.npz", scores=scores, classes=classes)
    with pytest.raises(DataFileError, match=message):
        read_label_map(tmp_path / "b.npz")


def test_a_damaged_or_foreign_file_is_named(tmp_path):
    for name, content in (("a.npz", b"PK\x03\x04 no archive"), ("b.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataFileError, match=f"{name} is no label map"):
            read_label_map(tmp_path / name)
    np.savez(tmp_path / "c.npz", scores=np.array([object()]), classes=np.zeros(1))
    with pytest.raises(DataFileError, match="c.npz is no label map"):
        read_label_map(tmp_path / "c.npz")


# ---------------------------------------------------------------- where pixels come from


SOURCE = np.zeros((120, 160, 3), np.uint8)
SOURCE[..., 0] = np.arange(160)[None]
SOURCE[..., 1] = np.arange(120)[:, None]
SOURCE[..., 2] = 255


def assert_pixels_come_from(result, to_source, tolerance):
    """Every pixel holds its own place in the source: red is the column, green the row, blue says that it is one."""
    rows, columns = np.nonzero(result[..., 2] == 255)
    assert len(rows) > 200
    x, y, _ = to_source @ np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    red, green = result[rows, columns, 0] + 0.5, result[rows, columns, 1] + 0.5
    # Interpolation next to the border is pulled inwards.
    inner = (x > 1.5) & (x < 158.5) & (y > 1.5) & (y < 118.5)
    assert inner.sum() > 150
    assert max(np.abs(x - red)[inner].max(), np.abs(y - green)[inner].max()) <= tolerance


GEOMETRIC = {
    "crop": [{"CropImage": {"size": [100, 80]}}],
    "resize short": [{"ResizeImage": {"resize_short": 77}}],
    "resize": [{"ResizeImage": {"size": [211, 90]}}],
    "random crop": [{"RandCropImage": {"size": [90, 70]}}],
    "random crop, pil": [{"RandCropImage": {"size": 64, "backend": "pil", "scale": [0.5, 1.0]}}],
    "left-right": [{"RandFlipImage": {"flip_code": 1}}],
    "top-bottom": [{"RandFlipImage": {"flip_code": 0}}],
    "both": [{"RandFlipImage": {"flip_code": -1}}],
    "border": [{"Pad": {"padding": [3, 5, 7, 9]}}],
    "rotation": [{"RandomRotation": {"degrees": 40, "prob": 1.0}}],
    "rotation, larger": [{"RandomRotation": {"degrees": [15, 15], "prob": 1.0, "expand": True}}],
    "rotation, elsewhere": [{"RandomRotation": {"degrees": 20, "prob": 1.0, "center": [10, 100]}}],
    "all": [
        {"ResizeImage": {"size": [211, 150]}},
        {"RandFlipImage": {"flip_code": 1}},
        {"RandomRotation": {"degrees": 20, "prob": 1.0}},
        {"Pad": {"padding": 4}},
        {"RandCropImage": {"size": 112, "scale": [0.3, 1.0]}},
    ],
}


@pytest.mark.compat
@pytest.mark.parametrize("operators", GEOMETRIC.values(), ids=GEOMETRIC)
def test_operators_say_where_their_pixels_come_from(operators):
    pipeline = build_transforms([{"DecodeImage": {"to_rgb": False}}, *operators], from_bytes=True)
    for seed in range(6):
        result, to_source, source = pipeline.traced(SOURCE, np.random.default_rng(seed))
        assert source == (160, 120)
        np.testing.assert_array_equal(result, pipeline(SOURCE, np.random.default_rng(seed)))
        assert_pixels_come_from(result, to_source, tolerance=1.6)


@pytest.mark.parametrize("name", ("shear_x", "shear_y", "translate_x", "translate_y", "rotate"))
@pytest.mark.parametrize("sign", (1, -1))
def test_geometric_operations_say_so_as_well(name, sign):
    value = sign * (20 if name == "rotate" else 0.2)
    with noting() as maps:
        result = getattr(operations, name)(Image.fromarray(SOURCE), value, Image.Resampling.NEAREST, (0, 0, 0))
    assert_pixels_come_from(np.asarray(result), chained(maps), tolerance=1.0)


def test_a_policy_is_the_chain_of_its_operations():
    names = "Rotate ShearX ShearY TranslateXRel TranslateYRel".split()
    style = Style(0.5, 0.45, (0, 0, 0), (Image.Resampling.NEAREST,))
    policy = RandPolicy(names, 3, 5, 1.0, None, style)
    for seed in range(5):
        with noting() as maps:
            result = policy(Image.fromarray(SOURCE), np.random.default_rng(seed))
        assert len(maps) == 3
        assert_pixels_come_from(np.asarray(result), chained(maps), tolerance=2.5)


@pytest.mark.parametrize("policy", ("RandAugment", "RandAugmentV3", "AutoAugment", "TimmAutoAugment"))
def test_no_geometric_operation_of_a_policy_is_forgotten(policy, monkeypatch):
    """A picture changes place if and only if a map was noted: counted against Pillow's own methods."""
    moved = []
    for method in ("transform", "rotate"):
        original = getattr(Image.Image, method)

        def counted(self, *arguments, original=original, **options):
            moved.append(1)
            return original(self, *arguments, **options)

        monkeypatch.setattr(Image.Image, method, counted)
    pipeline = build_transforms([{"DecodeImage": None}, {policy: None}], from_bytes=True)
    seen = 0
    for seed in range(40):
        moved.clear()
        with noting() as maps:
            pipeline(SOURCE, np.random.default_rng(seed))
        # Pillow's rotate may call transform by itself.
        assert bool(maps) == bool(moved)
        seen += bool(maps)
    assert seen > 5


def test_nobody_listens_unless_asked():
    geometry.note(shift(1, 2))
    with noting() as outer:
        with noting() as inner:
            geometry.note(shift(1, 2))
        geometry.note(shift(3, 4))
    assert len(inner) == len(outer) == 1


# ---------------------------------------------------------------- sampling


@pytest.mark.compat
@pytest.mark.parametrize("count", (1, 4, 7))
def test_boxes_are_sampled_as_paddles_roi_align_does(count):
    rng = np.random.default_rng(count)
    raster = rng.normal(size=(3, 18, 15)).astype(np.float32)
    for _ in range(12):
        left, right = np.sort(rng.uniform(0, 15, 2))
        top, bottom = np.sort(rng.uniform(0, 18, 2))
        box = np.array([[left, top, right, bottom]], np.float32)
        expected = paddle.vision.ops.roi_align(
            paddle.to_tensor(raster[None]), paddle.to_tensor(box), paddle.to_tensor([1], dtype="int32"), count
        ).numpy()[0]
        to_cells = shift(left, top) @ scaling((right - left, bottom - top), (count, count))
        shares = sampling_shares(to_cells, count, (15, 18))
        found = shares @ raster.reshape(3, -1).T
        np.testing.assert_allclose(found.T.reshape(3, count, count), expected, atol=2e-5)


def test_what_lies_outside_contributes_nothing():
    shares = sampling_shares(shift(-2, 0) @ scaling((4, 4), (4, 4)), 4, (4, 4))
    assert np.abs(shares.sum(axis=1).reshape(4, 4) - [[0, 0, 1, 1]] * 4).max() < 1e-6


def test_a_turned_image_turns_its_labels():
    """A rotation by a quarter takes the column of a token to a row, exactly."""
    scores = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    label_map = LabelMap(scores, np.full((1, 4, 4), 3))
    quarter = shift(20, 20) @ affine_map(0, -1, 0, 1, 0, 0) @ shift(-20, -20)
    found = token_scores(label_map, quarter, (40, 40), (40, 40), 4)
    assert list(found.classes) == [3]
    np.testing.assert_allclose(found.values[1:, 0].reshape(4, 4), np.rot90(scores[0]), atol=1e-5)
    np.testing.assert_allclose(found.values[0, 0], scores.mean(), atol=1e-5)


# ---------------------------------------------------------------- labels


def test_labels_by_hand():
    """Two tokens' scores: softmax over all classes, the others at 0."""
    values = np.array([[np.log(2), 0], [0, 0], [np.log(5), np.log(3)], [0, np.log(7)], [np.log(6), 0]], np.float32)
    scores = TokenScores(values, np.array([0, 2]))
    expected = np.array([[2, 1, 1], [1, 1, 1], [5, 1, 3], [1, 1, 7], [6, 1, 1]]) / [[4], [3], [9], [9], [8]]
    for target, first in (
        ("teacher", expected[0]),
        ("ground_truth", [1, 0, 0]),
        ("blend", 0.5 * expected[0] + [0.5, 0, 0]),
    ):
        dense = TokenLabels("maps", 2, target).dense([scores], np.array([0]), 3)
        np.testing.assert_allclose(dense[0], [first, *expected[1:]], atol=1e-6)
    blended = TokenLabels("maps", 2, "blend").dense([scores], np.array([1]), 3)
    np.testing.assert_allclose(blended[0, 0], 0.9 * expected[0] + [0, 0.1, 0], atol=1e-6)
    with pytest.raises(ValueError, match="a label map names class 2, but class_num 2 allows 0 to 1"):
        TokenLabels("maps", 2).dense([scores], np.array([0]), 2)


# ---------------------------------------------------------------- through dataset and loader

COLOURS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [200, 200, 30], [30, 200, 200]], np.uint8)
RAW = {"NormalizeImage": {"scale": 1.0, "mean": [0, 0, 0], "std": [1, 1, 1], "order": ""}}
SIDE, GRID = 56, 7


class Mosaics:
    """Images of coloured cells, and label maps that name the colour of each cell."""

    def __init__(self, root, count=10):
        self.root, self.maps, lines = root, root / "maps", []
        for index in range(count):
            rng = np.random.default_rng(index)
            # Large patches, so that most tokens see one colour.
            classes = rng.integers(len(COLOURS), size=(3, 4)).repeat(3, axis=0).repeat(3, axis=1)
            pixels = COLOURS[classes].repeat(8, axis=0).repeat(8, axis=1)
            path = root / "images" / f"c{index % 2}" / f"{index:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            ids = np.stack([classes, (classes + 1) % len(COLOURS)])
            write_label_map(
                self.maps / path.relative_to(root).with_suffix(".npz"),
                np.stack([classes * 0 + 12.0, classes * 0.0]),
                ids,
            )
            lines.append(f"{path.relative_to(root)} {int(classes[0, 0])}\n")
        (root / "list.txt").write_text("".join(lines))

    def section(self, operators, batch_ops=None, workers=0, **token_label):
        dataset = {
            "name": "ImageNetDataset",
            "image_root": str(self.root),
            "cls_label_path": str(self.root / "list.txt"),
            "transform_ops": [{"DecodeImage": None}, *operators, RAW],
            "token_label": {"root": str(self.maps), "size": GRID, **token_label},
        }
        if batch_ops:
            dataset["batch_transform_ops"] = batch_ops
        return {"dataset": dataset, "sampler": {"batch_size": 5}, "loader": {"num_workers": workers}}


@pytest.fixture
def mosaics(tmp_path):
    return Mosaics(tmp_path)


AUGMENT = [
    {"RandFlipImage": {"flip_code": 1}},
    {"RandomRotation": {"degrees": 25, "prob": 0.5}},
    {"RandCropImage": {"size": SIDE, "scale": [0.2, 1.0], "interpolation": "nearest"}},
]


def pure_tokens(images):
    """Return the colour of each token's cell ``[n, GRID, GRID]``, -1 where a cell holds more than one."""
    cell = SIDE // GRID
    cells = (
        images.reshape(-1, 3, GRID, cell, GRID, cell).transpose(0, 2, 4, 3, 5, 1).reshape(-1, GRID, GRID, cell**2, 3)
    )
    distance = np.abs(cells[..., None, :] - COLOURS.astype(np.float32)).max(axis=-1)
    nearest = np.where(distance.min(axis=-1) < 1, distance.argmin(axis=-1), -1)
    one = (nearest == nearest[..., :1]).all(axis=-1)
    return np.where(one, nearest[..., 0], -1)


@pytest.mark.compat
@pytest.mark.parametrize("batch_ops", (None, [{"MixToken": {"grid": GRID}}]), ids=("plain", "MixToken"))
def test_labels_follow_the_pixels_of_their_tokens(mosaics, batch_ops):
    """Brute force: what a token's cell shows, after flip, rotation, crop and mixing, is what its label says."""
    loader = build_dataloader(mosaics.section(AUGMENT, batch_ops), "Train", class_num=len(COLOURS))
    checked = 0
    for epoch in range(1, 6):
        for batch in loader.epoch(epoch):
            labels = batch.labels.numpy()
            assert labels.dtype == np.float32 and labels.shape == (5, 1 + GRID**2, len(COLOURS))
            np.testing.assert_allclose(labels.sum(axis=2), 1, atol=1e-5)
            shown = pure_tokens(batch.images.numpy())
            named = labels[:, 1:].argmax(axis=2).reshape(shown.shape)
            # Two classes may have the same score where a cell ends at a colour's border.
            certain = (shown >= 0) & (labels[:, 1:].max(axis=2).reshape(shown.shape) > 0.9)
            assert (named == shown)[certain].all()
            checked += certain.sum()
    assert checked > 1000


def test_the_image_is_labelled_by_the_cells_that_it_shows(mosaics):
    """MixToken weights the labels of two images by their cells; without it the label is that of the crop."""
    plain = build_dataloader(mosaics.section(AUGMENT), "Train", class_num=len(COLOURS))
    mixed = build_dataloader(mosaics.section(AUGMENT, [{"MixToken": {"grid": GRID}}]), "Train", class_num=len(COLOURS))
    shares = []
    for one, other in zip(plain.epoch(1), mixed.epoch(1)):
        before, after = one.labels.numpy(), other.labels.numpy()
        came = (np.abs(one.images.numpy() - other.images.numpy()).max(axis=1) > 0).any(
            axis=0
        )  # some image changed here
        cells = came.reshape(GRID, SIDE // GRID, GRID, SIDE // GRID).any(axis=(1, 3))
        share = cells.mean()
        np.testing.assert_allclose(after[:, 0], before[:, 0] * (1 - share) + before[::-1, 0] * share, atol=1e-5)
        moved = cells.ravel()
        np.testing.assert_array_equal(after[:, 1:][:, moved], before[::-1, 1:][:, moved])
        np.testing.assert_array_equal(after[:, 1:][:, ~moved], before[:, 1:][:, ~moved])
        shares.append(share)
    assert any(0 < share < 1 for share in shares)


def test_worker_processes_give_the_same_labels(mosaics):
    here = build_dataloader(mosaics.section(AUGMENT, [{"MixToken": {"grid": GRID}}]), "Train", class_num=5)
    there = build_dataloader(mosaics.section(AUGMENT, [{"MixToken": {"grid": GRID}}], workers=2), "Train", class_num=5)
    try:
        for one, other in zip(here.epoch(3), there.epoch(3)):
            np.testing.assert_array_equal(one.images.numpy(), other.images.numpy())
            np.testing.assert_array_equal(one.labels.numpy(), other.labels.numpy())
    finally:
        there.close()


def test_images_are_the_same_with_and_without_labels_of_tokens(mosaics):
    with_labels = mosaics.section(AUGMENT)["dataset"]
    without = {key: value for key, value in with_labels.items() if key != "token_label"}
    for one, other in zip(build_dataset(with_labels, "Train"), build_dataset(without, "Train")):
        np.testing.assert_array_equal(one.image, other.image)
        assert one.label == other.label and one.tokens is not None and other.tokens is None


def test_folders_mirror_each_other(mosaics):
    dataset = mosaics.section(AUGMENT)["dataset"]
    folder = {"name": "ImageFolder", "image_root": str(mosaics.root / "images")}
    folder["token_label"] = {"root": str(mosaics.maps / "images"), "size": GRID}
    built = build_dataset({**folder, "transform_ops": dataset["transform_ops"]}, "Train")
    assert built.label_maps[0] == str(mosaics.maps / "images" / "c0" / "00.npz")
    assert built[0].tokens.values.shape[0] == 1 + GRID**2


def test_missing_and_damaged_maps_are_errors(mosaics):
    section = mosaics.section(AUGMENT)
    path = mosaics.maps / "images" / "c1" / "03.npz"
    content = path.read_bytes()
    path.write_bytes(content[:100])
    loader = build_dataloader(mosaics.section(AUGMENT, workers=1), "Train", class_num=5)
    with pytest.raises(DataFileError, match="03.npz is no label map"):
        list(loader.epoch(1))
    path.unlink()
    with pytest.raises(FileNotFoundError, match="1 of 20 image files and label maps do not exist(.|\n)*03.npz"):
        build_dataloader(section, "Train", class_num=5)


@pytest.mark.parametrize(
    "change, message",
    (
        (
            {"transform_ops": [{"DecodeImage": None}, {"TimmAutoAugment": {"config_str": "augmix-m3"}}]},
            "1.TimmAuto.*AugMix",
        ),
        ({"relabel": True}, "relabel: False"),
        ({"token_label": {"root": "maps", "size": 0}}, "size: expected a positive integer"),
        ({"token_label": {"root": "maps", "size": 7, "class_target": "techer"}}, "did you mean 'teacher'"),
        ({"batch_transform_ops": [{"CutmixOperator": None}]}, "0.CutmixOperator: tears the cells of tokens"),
        ({"batch_transform_ops": [{"MixToken": None}]}, "grid: expected that of dataset.token_label.size, 7, got 14"),
        (
            {
                "batch_transform_ops": [
                    {"OpSampler": {"MixToken": {"grid": 7, "prob": 0.5}, "CutmixOperator": {"prob": 0.5}}}
                ]
            },
            "0.OpSampler.CutmixOperator",
        ),
    ),
)
def test_mistakes_are_named(mosaics, change, message):
    section = mosaics.section(AUGMENT)
    section["dataset"].update(change)
    with pytest.raises(ValueError, match=message):
        build_dataloader(section, "Train", class_num=5)


def test_evaluation_has_no_labels_of_tokens(mosaics):
    with pytest.raises(ValueError, match="token_label: expected none in Eval"):
        build_dataloader(mosaics.section(AUGMENT), "Eval")
