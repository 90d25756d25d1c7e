"""Every configuration in PaddleClas's terms: keys that it has, or documented ones of ours; nothing that it misreads.

What PaddleClas accepts is written down here from its source (develop of 2024-10-18); `test_paddleclas_builds_it` asks a
source checkout itself.
"""

import copy
import importlib
import os
import random
import re
import sys

import pytest
from recipe_files import CONFIGS, ROOT, read, relative

#: Keys of each section; what is not here PaddleClas does not read.
PADDLECLAS = {
    "Global": "checkpoints pretrained_model output_dir device save_interval eval_during_train eval_interval epochs "
    "print_batch_step use_visualdl image_shape save_inference_dir seed update_freq",
    "AMP": "use_amp use_fp16_test scale_loss use_dynamic_loss_scaling use_promote level",
    "EMA": "decay",
    "CELoss": "weight epsilon",
    "TokenLabelLoss": "",
    "AdamW": "name lr beta1 beta2 epsilon weight_decay one_dim_param_no_weight_decay no_weight_decay_name",
    "Adam": "name lr beta1 beta2 epsilon regularizer weight_decay",
    "Momentum": "name lr momentum regularizer weight_decay",
    "Cosine": "name learning_rate eta_min warmup_epoch warmup_start_lr by_epoch",
    "Linear": "name learning_rate end_lr power cycle warmup_epoch warmup_start_lr by_epoch",
    "Piecewise": "name decay_epochs values warmup_epoch warmup_start_lr by_epoch",
    "Constant": "name learning_rate",
    "ImageNetDataset": "name image_root cls_label_path transform_ops batch_transform_ops delimiter relabel",
    "Cifar10": "name data_file mode transform_ops batch_transform_ops",
    "Cifar100": "name data_file mode transform_ops batch_transform_ops",
    "DistributedBatchSampler": "name batch_size drop_last shuffle",
    "RASampler": "name batch_size num_repeats drop_last shuffle",
    "loader": "num_workers use_shared_memory",
    "DecodeImage": "to_rgb channel_first backend",
    "ResizeImage": "size resize_short interpolation backend",
    "CropImage": "size",
    "RandCropImage": "size scale ratio interpolation use_log_aspect backend",
    "RandFlipImage": "flip_code",
    "TimmAutoAugment": "prob config_str interpolation img_size mean",
    "ColorJitter": "prob brightness contrast saturation hue",
    "RandomRotation": "prob degrees interpolation",
    "NormalizeImage": "scale mean std order",
    "RandomErasing": "EPSILON sl sh r1 mean attempt use_log_aspect mode",
    "PCALighting": "",
    "ToCHWImage": "",
    "MixupOperator": "alpha",
    "CutmixOperator": "alpha",
    "MixToken": "",
    "OpSampler": "MixupOperator CutmixOperator",
    "Infer": "infer_imgs batch_size transforms PostProcess",
    "Topk": "name topk class_id_map_file",
    "TopkAcc": "topk",
}
#: Our extensions. PaddleClas has no token labelling and ignores base_batch_size and Cosine's keys; on Momentum it
#: refuses clip_global_norm, on AdamW it ignores it.
OURS = {
    "Global": "base_batch_size",
    "ImageNetDataset": "token_label",
    "TokenLabelLoss": "weight cls_weight dense_weight epsilon",
    "MixToken": "alpha grid",
    "Cosine": "warmup_prefix cooldown_epoch",
    "AdamW": "clip_global_norm",
    "Momentum": "clip_global_norm",
}
SECTIONS = {"Global", "AMP", "EMA", "Arch", "Loss", "Optimizer", "DataLoader", "Infer", "Metric"}


def uses(config: dict):
    """Yield ``(kind, arguments)`` of every part of a configuration."""
    yield from ((name, config[name]) for name in ("Global", "AMP", "EMA", "Infer") if name in config)
    yield config["Optimizer"]["name"], config["Optimizer"]
    yield config["Optimizer"]["lr"]["name"], config["Optimizer"]["lr"]
    yield config["Infer"]["PostProcess"]["name"], config["Infer"]["PostProcess"]
    items = config["Infer"]["transforms"] + [item for metric in config["Metric"].values() for item in metric]
    for split in ("Train", "Eval"):
        items = items + config["Loss"][split]
        section = config["DataLoader"][split]
        yield section["dataset"]["name"], section["dataset"]
        yield section["sampler"]["name"], section["sampler"]
        yield "loader", section["loader"]
        items = items + section["dataset"]["transform_ops"] + section["dataset"].get("batch_transform_ops", [])
    for item in items:
        ((name, arguments),) = item.items()
        yield name, arguments or {}
        if name == "OpSampler":
            for inner, given in arguments.items():
                yield inner, {key: value for key, value in given.items() if key != "prob"}


def extensions(config: dict):
    """Yield ``kind.key`` of every extension of ours that a configuration uses."""
    for kind, arguments in uses(config):
        yield from (f"{kind}.{key}" for key in arguments if key in OURS.get(kind, "").split())


@pytest.mark.parametrize("path", CONFIGS, ids=relative)
def test_every_key_is_paddleclas_or_a_documented_one_of_ours(path):
    config = read(path)
    assert set(config) <= SECTIONS
    for kind, arguments in uses(config):
        known = f"{PADDLECLAS[kind]} {OURS.get(kind, '')}".split()
        assert [key for key in arguments if key not in known] == [], kind


def test_our_keys_are_documented_as_ours():
    for language, mark in (("en", "our keys"), ("zh_CN", "本库新增的键")):
        text = (ROOT / "docs" / language / "config.md").read_text(encoding="utf-8")
        told = " ".join(line for line in text.split("\n- ") if mark in line)
        assert [key for keys in OURS.values() for key in keys.split() if f"{key}`" not in told] == []


def scalars(value, key=""):
    if isinstance(value, dict):
        for name, item in value.items():
            yield from scalars(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from scalars(item, key)
    else:
        yield key, value


@pytest.mark.parametrize("path", CONFIGS, ids=relative)
def test_nothing_is_there_that_paddleclas_misreads(path):
    config = read(path)
    # PyYAML reads 1e-3 as text, and PaddleClas rescues it in mappings alone.
    number = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?$")
    assert [pair for pair in scalars(config) if isinstance(pair[1], str) and number.match(pair[1])] == []
    # Beside learning_rate a table of rates is thrown away.
    assert not {"learning_rate", "values"} <= set(config["Optimizer"]["lr"])
    # Mixed labels go through softmax once more unless the loss smooths.
    if config["DataLoader"]["Train"]["dataset"].get("batch_transform_ops"):
        losses = [arguments for item in config["Loss"]["Train"] for arguments in item.values()]
        assert all(arguments.get("epsilon") for arguments in losses)
    # Norms of single tensors are clipped; the loss is not scaled dynamically; AdamW without a decay fails.
    assert "clip_norm" not in config["Optimizer"] and "clip_grad" not in config["Optimizer"]
    assert "AMP" not in config or {"scale_loss", "use_dynamic_loss_scaling"} <= set(config["AMP"])
    assert config["Optimizer"]["name"] != "AdamW" or isinstance(config["Optimizer"]["weight_decay"], float)
    # Without a name, a sampler gives every process all samples; a normalisation without order fails.
    for split in ("Train", "Eval"):
        section = config["DataLoader"][split]
        assert section["sampler"]["name"]
        normalisations = [
            item["NormalizeImage"] for item in section["dataset"]["transform_ops"] if "NormalizeImage" in item
        ]
        assert normalisations and all("order" in item for item in normalisations)


@pytest.fixture(scope="module")
def paddleclas():
    """The modules of a source checkout."""
    checkout = os.environ["PPCLS_CHECKOUT"]
    sys.path.insert(0, checkout)
    names = ("data", "data.preprocess", "optimizer", "loss", "utils.logger")
    modules = {name: importlib.import_module(f"ppcls.{name}") for name in names}
    modules["utils.logger"].init_logger()  # its modules log without asking whether there is a logger
    yield modules
    sys.path.remove(checkout)


@pytest.mark.checkout
@pytest.mark.skipif("PPCLS_CHECKOUT" not in os.environ, reason="PPCLS_CHECKOUT names no PaddleClas source checkout")
@pytest.mark.parametrize("path", [path for path in CONFIGS if "token_label" not in path.stem], ids=relative)
def test_paddleclas_builds_it(path, paddleclas, images):
    """Its own operators, run on an image, its batch operators, losses and schedule, from the same sections."""
    config = copy.deepcopy(read(path))
    size = config["Global"]["image_shape"][1]
    random.seed(0)  # its posterisation fails on some draws of the magnitude
    for split in ("Train", "Eval"):
        dataset = config["DataLoader"][split]["dataset"]
        operators = paddleclas["data"].create_operators(dataset["transform_ops"])
        image = paddleclas["data.preprocess"].transform((images / "0.png").read_bytes(), operators)
        assert image.shape == (size, size, 3) and abs(image.mean()) < 3
        paddleclas["data"].create_operators(dataset.get("batch_transform_ops", []), config["Arch"]["class_num"])
        assert paddleclas["loss"].build_loss(config["Loss"][split])
    section, epochs = config["Optimizer"]["lr"], config["Global"]["epochs"]
    if section.get("warmup_epoch", 0) % 1:
        # ViT's fine-tuning, which warms up for 500 steps: PaddleClas refuses a fraction of an epoch, and the clipping.
        with pytest.raises(TypeError, match="T_max"):
            paddleclas["optimizer"].build_lr_scheduler(section, epochs, 2502)
        assert path.parent.name == "VisionTransformer" and path.stem.endswith("_384")
        return
    peak = section["values"][0] if "values" in section else section["learning_rate"]
    scheduler = paddleclas["optimizer"].build_lr_scheduler(section, epochs, 40)
    rates = [scheduler()]
    for _ in range(40 * epochs - 1):
        scheduler.step()
        rates.append(scheduler())
    assert max(rates) == pytest.approx(peak)
