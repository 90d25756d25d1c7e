"""The rules of fine-tuning, by hand-computed cases and by what must hold for any facts."""

import itertools

import pytest

from ppcls_ext.config.finetuning import rules
from ppcls_ext.config.finetuning.facts import DataFacts, MachineFacts, NetworkFacts, Wishes
from ppcls_ext.config.finetuning.recipe import make_recipe
from ppcls_ext.config.source import ConfigError

GIB = 2**30
TRAINED, SCRATCH = Wishes("out"), Wishes("out", pretrained=False)
CPU, GPU = MachineFacts("cpu", 16 * GIB, 8), MachineFacts("gpu", 24 * GIB, 16)


def data(train=1000, short_side=300.0, delimiter=None, classes=10):
    return DataFacts("dataset/x", "photos", delimiter, classes, train, train // 5, short_side, 1.0)


def network(layer_norm=True, **changes):
    facts = {
        **{"name": "ppcls_ext.Some", "size": 224, "resize_short": 256, "interpolation": "bicubic", "backend": "pil"},
        **{"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "multiple": 32, "has_img_size": True},
        **{"has_drop_path": True, "layer_norm": layer_norm, "layer_groups": True},
        **{"parameters": 28_000_000, "activations": 35_000_000},
    }
    return NetworkFacts(**{**facts, **changes})


@pytest.mark.parametrize(
    "short_side, multiple, wishes, expected",
    [
        (40, 32, TRAINED, 224),  # small images are enlarged for trained weights
        (40, 32, SCRATCH, 64),
        (40, 14, SCRATCH, 42),
        (20, 14, SCRATCH, 42),  # 32 at least, and a multiple of 14
        (2000, 32, SCRATCH, 224),
        (40, 32, Wishes("out", img_size=96), 96),
    ],
)
def test_image_size(short_side, multiple, wishes, expected):
    assert rules.image_size(data(short_side=short_side), network(multiple=multiple), wishes).value == expected


def test_batch_by_memory():
    """Half of 4 GiB without 16 bytes for each of 28 M weights, over 8 bytes for each of 35 M numbers an image."""
    machine = MachineFacts("cpu", 4 * GIB, 8)
    expected = int((2 * GIB - 28e6 * 16) / (35e6 * 8))
    assert rules.images_in_memory(network(), machine, 224) == expected == 6
    assert rules.images_in_memory(network(), machine, 112) == int((2 * GIB - 28e6 * 16) / (35e6 * 2)) == 24
    assert rules.batch_size(data(), network(), machine, TRAINED, 224).value == 4  # the power of 2 below
    assert rules.batch_size(data(), network(), CPU, TRAINED, 224).value == 16
    assert rules.images_in_memory(network(), MachineFacts("cpu", None, 8), 224) is None


@pytest.mark.parametrize("train, expected", [(5, 5), (48, 8), (100, 16), (1000, 32), (100_000, 32)])
def test_batch_by_data(train, expected):
    roomy = MachineFacts("cpu", 200 * GIB, 8)
    assert rules.batch_size(data(train), network(), roomy, TRAINED, 224).value == expected


@pytest.mark.parametrize(
    "train, batch, wishes, expected",
    [
        (48, 8, TRAINED, 60),  # the most
        (2000, 32, TRAINED, 32),  # 62 steps an epoch, 2000 steps
        (100_000, 32, TRAINED, 10),  # the fewest
        (100_000, 32, SCRATCH, 30),
        (48, 8, Wishes("out", epochs=3), 3),
    ],
)
def test_epochs(train, batch, wishes, expected):
    assert rules.epochs(data(train), wishes, batch).value == expected


def test_optimizers_and_layer_decay():
    assert rules.optimization(network(layer_norm=False), TRAINED).value.name == "Momentum"
    assert rules.optimization(network(), TRAINED).value.name == "AdamW"
    for norm in (True, False):  # trained weights want smaller steps
        trained, scratch = (rules.optimization(network(layer_norm=norm), wishes).value for wishes in (TRAINED, SCRATCH))
        assert trained.learning_rate < scratch.learning_rate
    assert rules.layer_decay(network(), TRAINED, "AdamW").value == 0.75
    assert rules.layer_decay(network(), SCRATCH, "AdamW") is None
    assert rules.layer_decay(network(layer_groups=False), TRAINED, "AdamW") is None
    assert rules.layer_decay(network(), TRAINED, "Momentum") is None


def test_augmentation_grows_with_the_data():
    def names(train):
        return [next(iter(item)) for item, _ in rules.augmentation(data(train), True, 224, "bilinear", "cv2")]

    assert names(100) == ["RandCropImage", "RandFlipImage", "ColorJitter"]
    assert names(5000) == ["RandCropImage", "RandFlipImage", "TimmAutoAugment"]
    assert rules.mixing(data(5000)) is None and rules.mixing(data(50_000)) is not None
    assert "RandFlipImage" not in str(rules.augmentation(data(), False, 224, "bilinear", "cv2"))


@pytest.mark.parametrize("wishes, machine, norm", itertools.product((TRAINED, SCRATCH), (CPU, GPU), (True, False)))
def test_any_facts_give_a_run_that_can_be(wishes, machine, norm):
    for train, side, multiple in itertools.product((2, 30, 3000, 300_000), (16.0, 900.0), (14, 32)):
        content = make_recipe(data(train, side), network(norm, multiple=multiple), machine, wishes).data
        batch = content["DataLoader"]["Train"]["sampler"]["batch_size"]
        assert 1 <= batch <= train
        assert content["Global"]["epochs"] >= 1
        lr = content["Optimizer"]["lr"]
        assert 0 < lr["warmup_epoch"] < content["Global"]["epochs"] and 0 < lr["eta_min"] < lr["learning_rate"]
        size = content["Global"]["image_shape"][1]
        assert size % multiple == 0 and 32 <= size <= 224
        assert ("img_size" in content["Arch"]) == (size != 224)
        assert ("AMP" in content) == (machine is GPU)
        resize, crop = content["DataLoader"]["Eval"]["dataset"]["transform_ops"][1:3]
        assert resize["ResizeImage"]["resize_short"] == round(256 * size / 224) and crop["CropImage"]["size"] == size


def test_overrides_become_part_of_the_file(tmp_path):
    recipe = make_recipe(data(delimiter="\t"), network(), CPU, TRAINED)
    recipe.override(["Optimizer.lr.learning_rate=0.5", "Global.epochs=3"])
    recipe.write(tmp_path / "x.yaml", ["first line"])
    text = (tmp_path / "x.yaml").read_text(encoding="utf-8")
    assert text.startswith("# first line\n\nGlobal:\n")
    assert "learning_rate: 0.5  # as asked for with -o\n" in text and "epochs: 3  # as asked for with -o\n" in text
    assert 'delimiter: "\\t"  # a tab, since paths hold blanks\n' in text
    with pytest.raises(ConfigError, match="dotted key"):
        recipe.override(["nonsense"])
