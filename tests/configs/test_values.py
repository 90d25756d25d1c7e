"""The values of the recipes against what papers and official repositories say, written down here by hand, and against
the registry; and the variants of a recipe against each other."""

import re

import pytest
from recipe_files import CONFIGS, ROOT, read, relative

import ppcls_ext
from ppcls_ext import registry
from ppcls_ext.optim import build_lr_scheduler

RECIPES = {path.stem: path for path in CONFIGS if path.relative_to(ROOT / "configs").parts[0] == "ImageNet"}
BACKBONES = [name for name in RECIPES if name in ppcls_ext.list_backbones()]
TRANSFERS = [path for path in CONFIGS if path.name == "Sequencer2D_S.yaml" and "ImageNet" not in path.parts]
SWIN = "SwinTransformer_{}_patch4_window{}"
S_LIKE = (
    "unidirectional add h2x without_fc vertical horizontal".split(),
    "GRUSequencer2D_S RNNSequencer2D_S VSequencer_S VSequencer_S_H VSequencer_S_PE Sequence_2d".split(),
)

MIXERS = "S_32 S_16 B_32 B_16 L_32 L_16".split()

#: Epochs (with cool-down), images a step, learning rate, weight decay, drop path, clipping by the global norm.
VALUES = {
    # README of okojoalg/sequencer; batches of M and L from a digest of the paper, their rates by the linear rule
    "Sequencer2D_S": (310, 2048, 2e-3, 0.05, 0.1, None),
    "Sequencer2D_M": (310, 1536, 1.5e-3, 0.05, 0.2, None),
    "Sequencer2D_L": (310, 1024, 1e-3, 0.05, 0.4, None),
    "Sequencer2D_L_d4_3x": (310, 1024, 1e-3, 0.05, 0.4, None),
    **{f"Sequencer2D_S_{name}": (310, 2048, 2e-3, 0.05, 0.1, None) for name in S_LIKE[0]},
    **{name: (310, 2048, 2e-3, 0.05, 0.1, None) for name in S_LIKE[1]},
    "Sequencer2D_S_392": (30, 512, 5e-5, 1e-8, 0.1, None),
    "Sequencer2D_M_392": (30, 512, 5e-5, 1e-8, 0.2, None),
    "Sequencer2D_L_392": (30, 512, 5e-5, 1e-8, 0.4, None),
    # README and main.py of houqb/VisionPermutator; drop path of M and L from PaddleViT's vip_m7.yaml and vip_l7.yaml
    "ViP_Small_14": (310, 2048, 2e-3, 0.05, 0.1, None),
    "ViP_Small_7": (310, 2048, 2e-3, 0.05, 0.1, None),
    "ViP_Small_7_unweighted": (310, 2048, 2e-3, 0.05, 0.1, None),
    "ViP_Medium_7": (310, 2048, 2e-3, 0.05, 0.2, None),
    "ViP_Large_7": (310, 2048, 2e-3, 0.05, 0.3, None),
    # dist_train.sh and main.py of JIAOJIAYUASD/dilateformer: 8 x 128 images, 1e-3 x 1024 / 512
    **{f"DilateFormer_{size}": (300, 1024, 1e-3 * 1024 / 512, 0.05, 0.1, None) for size in ("Tiny", "Small", "Base")},
    # fine-tuning of LV-ViT at 384, README of zihangJiang/TokenLabeling
    "DilateFormer_Base_384": (30, 512, 5e-6, 1e-8, 0.1, None),
    # configs/swin/*.yaml and config.py of microsoft/Swin-Transformer: BASE_LR x images / 512
    SWIN.format("tiny", "7_224"): (300, 1024, 5e-4 * 2, 0.05, 0.2, 5.0),
    SWIN.format("small", "7_224"): (300, 1024, 5e-4 * 2, 0.05, 0.3, 5.0),
    SWIN.format("base", "7_224"): (300, 1024, 5e-4 * 2, 0.05, 0.5, 5.0),
    SWIN.format("base", "12_384"): (30, 1024, 2e-5 * 2, 1e-8, 0.5, 5.0),
    SWIN.format("large", "7_224"): (30, 1024, 2e-5 * 2, 1e-8, 0.2, 5.0),
    SWIN.format("large", "12_384"): (30, 1024, 2e-5 * 2, 1e-8, 0.2, 5.0),
    SWIN.format("tiny", "7_224_22kto1k"): (30, 1024, 2e-5 * 2, 1e-8, 0.1, 5.0),
    SWIN.format("small", "7_224_22kto1k"): (30, 1024, 2e-5 * 2, 1e-8, 0.2, 5.0),
    SWIN.format("base", "7_224_22kto1k"): (30, 1024, 2e-5 * 2, 1e-8, 0.2, 5.0),
    SWIN.format("base", "12_384_22kto1k"): (30, 1024, 2e-5 * 2, 1e-8, 0.2, 5.0),
    SWIN.format("tiny", "7_224_22k"): (90, 4096, 1.25e-4 * 8, 0.05, 0.1, 5.0),
    SWIN.format("small", "7_224_22k"): (90, 4096, 1.25e-4 * 8, 0.05, 0.2, 5.0),
    SWIN.format("base", "7_224_22k"): (90, 4096, 1.25e-4 * 8, 0.05, 0.2, 5.0),
    SWIN.format("large", "7_224_22k"): (90, 4096, 1.25e-4 * 8, 0.05, 0.2, 5.0),
    SWIN.format("base", "12_384_22k"): (30, 1024, 2e-5 * 2, 1e-8, 0.2, 5.0),
    SWIN.format("large", "12_384_22k"): (30, 1024, 2e-5 * 2, 1e-8, 0.2, 5.0),
    # ViT, Table 3; S/16 by the name of AugReg's file S_16-i1k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.0-sd_0.0
    **{f"ViT_{name}_224": (300, 4096, 3e-3, 0.3, None, 1.0) for name in ("base_patch16", "base_patch32")},
    **{f"ViT_{name}_224": (300, 4096, 3e-3, 0.3, None, 1.0) for name in ("large_patch16", "large_patch32")},
    **{f"ViT_{name}_224": (300, 4096, 3e-3, 0.3, None, 1.0) for name in ("small_patch16", "huge_patch14")},
    **{f"ViT_S_{patch}_224": (300, 4096, 1e-3, 0.1, None, 1.0) for patch in (16, 32)},
    # vit_jax/configs/common.py: 20,000 steps of 512; rates of the table of AugReg models in the README
    **{f"ViT_{name}_384": (8, 512, 3e-2, None, None, 1.0) for name in ("base_patch16", "S_16")},
    **{f"ViT_{name}_384": (8, 512, 1e-2, None, None, 1.0) for name in ("base_patch32", "S_32")},
    **{f"ViT_large_patch{patch}_384": (8, 512, 1e-2, None, None, 1.0) for patch in (16, 32)},
    "ViT_huge_patch14_384": (8, 512, 1e-2, None, None, 1.0),
    # big_vision/configs/mlp_mixer_i1k.py, whose decay is stated times the learning rate
    **{f"Mixer_{size}_224": (300, 4096, 1e-3, 0.1, 0.1, 1.0) for size in MIXERS},
    # ResNet, section 3.4: 60e4 iterations of 256 images
    **{f"ResNet{depth}": (120, 256, 0.1, 1e-4, None, None) for depth in (18, 34, 50, 101, 152)},
    # opts.lua and train.lua of facebookresearch/ResNeXt; res2net_pami/main.py of Res2Net/Res2Net-ImageNet-Training
    **{
        f"ResNeXt{depth}_{width}x4d": (100, 256, 0.1, 1e-4, None, None)
        for depth in (50, 101, 152)
        for width in (32, 64)
    },
    **{
        f"Res2Net50_{split}": (100, 256, 0.1, 1e-4, None, None)
        for split in "26w_4s 14w_8s 48w_2s 26w_6s 26w_8s".split()
    },
    **{
        name: (100, 256, 0.1, 1e-4, None, None)
        for name in "Res2Net101_26w_4s Res2NeXt50_4s SE_Res2Net50 Res2Net_DLA60 Res2NeXt_DLA60 bLRes2Net50".split()
    },
    # ppcls/configs/ImageNet/Res2Net of PaddleClas
    **{f"Res2Net{depth}_vd_26w_4s": (200, 256, 0.1, 1e-4, None, None) for depth in (50, 101, 200)},
    # ours
    **{f"ResNeXt101_32x{width}d_wsl": (10, 256, 1e-3, 1e-4, None, None) for width in (8, 16, 32, 48)},
}
#: Learning rates at some epochs, from the sources' formulas: first, in mid warm-up, at its end, in the middle, last.
RATES = {
    "Sequencer2D_S": {0: 1e-6, 10: 1.0005e-3, 20: 1.978158526933439e-3, 150: 1.0005e-3, 299: 1.0548e-6, 309: 1e-6},
    "ViP_Small_7": {0: 1e-6, 19: 1.90005e-3, 20: 1.9782568627e-3, 150: 1.005e-3, 299: 1.00545565e-5, 309: 1e-5},
    "DilateFormer_Tiny": {0: 1e-6, 5: 1.0005e-3, 10: 1.9945492859e-3, 150: 1.005e-3, 299: 1.00545565e-5},
    "Sequencer2D_L_392": {0: 5e-5, 15: 2.55e-5, 29: 1.13421356e-6},
    SWIN.format("tiny", "7_224"): {0: 1e-6, 10: 5.005e-4, 20: 1e-3, 150: 5.60422416e-4},
    SWIN.format("base", "12_384"): {0: 4e-8, 5: 4e-5, 17.5: 2.02e-5},
    SWIN.format("base", "7_224_22k"): {0: 1e-6, 5: 1e-3, 47.5: 5.05e-4},
    "ViT_base_patch16_224": {0: 0.0, 16: 1.5e-3, 32: 3e-3, 166: 1.5e-3},
    "Mixer_B_16_224": {0: 0.0, 16: 5e-4, 32: 1e-3, 166: 5.05e-4},
    "ResNet50": {0: 0.1, 29: 0.1, 30: 0.01, 60: 1e-3, 90: 1e-4, 119: 1e-4},
    "Res2Net50_26w_4s": {29: 0.1, 30: 0.01, 99: 1e-4},
    "Res2Net50_vd_26w_4s": {0: 0.1, 100: 0.05, 199: 6.1684e-6},
}
#: What the variants of one recipe may differ in, beside names, folders and the cost-driven split of the batch.
FREE = (
    "Global.output_dir Global.save_inference_dir Global.base_batch_size Global.update_freq Arch.name "
    "DataLoader.Train.sampler.batch_size DataLoader.Eval.sampler.batch_size"
).split()
PREPROCESSING = [r"DataLoader\.Eval\..*(resize_short|interpolation|backend)", r"Infer\.transforms.*"]
GROUPS = {
    "Sequencer": (["Sequencer2D_S", "Sequencer2D_M", "Sequencer2D_L", "Sequencer2D_L_d4_3x", *S_LIKE[1]]
                  + [f"Sequencer2D_S_{name}" for name in S_LIKE[0]],
                  [r"Arch\.drop_path_rate", r"Optimizer\.lr\.learning_rate"]),
    "Sequencer at 392": ([f"Sequencer2D_{size}_392" for size in "SML"],
                         [r"Arch\.drop_path_rate", r"Global\.pretrained_model"]),
    "ViP": ("ViP_Small_7 ViP_Small_14 ViP_Small_7_unweighted ViP_Medium_7 ViP_Large_7".split(),
            [r"Arch\.drop_path_rate", *PREPROCESSING]),
    "DilateFormer": ([f"DilateFormer_{size}" for size in ("Tiny", "Small", "Base")], []),
    "Swin": ([SWIN.format(size, "7_224") for size in ("tiny", "small", "base")], [r"Arch\.drop_path_rate"]),
    "Swin, 22k": ([SWIN.format(size, "7_224_22k") for size in ("tiny", "small", "base", "large")],
                  [r"Arch\.drop_path_rate"]),
    "Swin, fine-tuning at 224": ([SWIN.format(size, "7_224_22kto1k") for size in ("tiny", "small", "base")]
                                 + [SWIN.format("large", "7_224")],
                                 [r"Arch\.drop_path_rate", r"Global\.pretrained_model"]),
    "Swin, fine-tuning at 384": ([SWIN.format("base", "12_384"), SWIN.format("base", "12_384_22kto1k"),
                                  SWIN.format("large", "12_384")],
                                 [r"Arch\.drop_path_rate", r"Global\.pretrained_model"]),
    "ViT": ([f"ViT_{size}_224" for size in
             "base_patch16 base_patch32 large_patch16 large_patch32 huge_patch14 small_patch16".split()],
            PREPROCESSING),
    "ViT at 384": ([f"ViT_{size}_384" for size in
                    "base_patch16 base_patch32 large_patch16 large_patch32 huge_patch14 S_16 S_32".split()],
                   [r"Optimizer\.lr\.learning_rate", r"Global\.pretrained_model", *PREPROCESSING]),
    "MLPMixer": ([f"Mixer_{size}_224" for size in MIXERS], []),
    "ResNet": ([f"ResNet{depth}" for depth in (18, 34, 50, 101, 152)], []),
    "ResNeXt": ([f"ResNeXt{depth}_{width}x4d" for depth in (50, 101, 152) for width in (32, 64)], []),
    "WSL": ([f"ResNeXt101_32x{width}d_wsl" for width in (8, 16, 32, 48)], []),
    "Res2Net": ("Res2Net50_26w_4s Res2Net50_14w_8s Res2Net50_48w_2s Res2Net50_26w_6s Res2Net50_26w_8s "
                "Res2Net101_26w_4s Res2NeXt50_4s SE_Res2Net50 Res2Net_DLA60 Res2NeXt_DLA60 "
                "bLRes2Net50".split(), [r"Arch\.form", *PREPROCESSING]),
    "Res2Net vd": ([f"Res2Net{depth}_vd_26w_4s" for depth in (50, 101, 200)], []),
}  # fmt: skip


def test_every_backbone_has_a_recipe():
    assert sorted(BACKBONES) == sorted(ppcls_ext.list_backbones())


@pytest.mark.compat
@pytest.mark.parametrize("name", VALUES)
def test_values_are_the_sources(name):
    config = read(RECIPES[name])
    optimizer, sampler = config["Optimizer"], config["DataLoader"]["Train"]["sampler"]
    decay = optimizer.get("weight_decay", optimizer.get("regularizer", {}).get("coeff"))
    lr = optimizer["lr"]
    images = config["Global"]["base_batch_size"]
    assert (
        config["Global"]["epochs"],
        images,
        lr["values"][0] if "values" in lr else lr["learning_rate"],
        decay,
        config["Arch"].get("drop_path_rate"),
        optimizer.get("clip_global_norm"),
    ) == VALUES[name]
    assert 8 * sampler["batch_size"] * config["Global"].get("update_freq", 1) == images


def test_no_recipe_is_without_values():
    assert [name for name in RECIPES if name not in VALUES and not name.endswith("_token_label")] == []


@pytest.mark.parametrize("name", RATES)
def test_rates_are_the_sources(name):
    config = read(RECIPES[name])
    steps = 2 if not config["Optimizer"]["lr"].get("by_epoch") else 1
    scheduler = build_lr_scheduler(config["Optimizer"]["lr"], config["Global"]["epochs"], steps)
    for epoch, rate in RATES[name].items():
        scheduler.step(int(epoch * steps))
        assert scheduler() == pytest.approx(rate, rel=1e-5), epoch


OPERATORS = ["RandFlipImage", "NormalizeImage", "DecodeImage", "RandCropImage"]
TIMM = [*OPERATORS, "TimmAutoAugment", "RandomErasing"]


@pytest.mark.parametrize(
    ("family", "augmentation", "smoothing", "mixing", "sampler", "ema", "amp"),
    [
        ("Sequencer", TIMM, 0.1, True, "DistributedBatchSampler", None, True),
        ("VisionPermutator", TIMM, 0.1, True, "DistributedBatchSampler", None, True),
        ("DilateFormer", TIMM, 0.1, True, "RASampler", 0.99996, True),
        ("SwinTransformer", TIMM, 0.1, True, "DistributedBatchSampler", None, True),
        ("ResNet", OPERATORS, None, False, "DistributedBatchSampler", None, False),
        ("ResNeXt101_wsl", OPERATORS, None, False, "DistributedBatchSampler", None, False),
    ],
)
def test_regularisation_is_the_sources(family, augmentation, smoothing, mixing, sampler, ema, amp):
    """RandAugment m9-mstd0.5-inc1, erasing 0.25 by pixels, mixup 0.8, CutMix 1.0, half of the batches each."""
    found = [path for path in RECIPES.values() if path.parent.name == family and "token_label" not in path.stem]
    assert found
    for path in found:
        config = read(path)
        train = config["DataLoader"]["Train"]
        operators = {name: value for item in train["dataset"]["transform_ops"] for name, value in item.items()}
        assert sorted(operators) == sorted(augmentation)
        if augmentation is TIMM:
            assert operators["TimmAutoAugment"]["config_str"] == "rand-m9-mstd0.5-inc1"
            erasing = operators["RandomErasing"]
            assert (erasing["EPSILON"], erasing["mode"], erasing["sl"]) == (0.25, "pixel", 0.02)
            optimizer = config["Optimizer"]
            assert (optimizer["beta1"], optimizer["beta2"], optimizer["epsilon"]) == (0.9, 0.999, 1e-8)
            assert optimizer["one_dim_param_no_weight_decay"] is True
        mixers = {"MixupOperator": {"alpha": 0.8, "prob": 0.5}, "CutmixOperator": {"alpha": 1.0, "prob": 0.5}}
        assert train["dataset"].get("batch_transform_ops") == ([{"OpSampler": mixers}] if mixing else None)
        assert train["sampler"]["name"] == sampler
        assert config["Loss"]["Train"][0]["CELoss"].get("epsilon") == smoothing
        assert config.get("EMA", {}).get("decay") == ema
        assert config["AMP"]["use_amp"] is amp and config["AMP"]["level"] == "O1"


def test_resnexts_augmentation_is_its_authors():
    """datasets/imagenet.lua of facebookresearch/ResNeXt: jitter of 0.4, lighting on pixels in [0, 1]."""
    for width in (32, 64):
        config = read(RECIPES[f"ResNeXt101_{width}x4d"])
        operators = config["DataLoader"]["Train"]["dataset"]["transform_ops"]
        names = [name for item in operators for name in item]
        jitter = operators[names.index("ColorJitter")]["ColorJitter"]
        assert jitter == dict.fromkeys(("brightness", "contrast", "saturation"), 0.4)
        place = names.index("PCALighting")
        before, after = operators[place - 1]["NormalizeImage"], operators[place + 1]["NormalizeImage"]
        assert (before["scale"], before["mean"], before["std"]) == ("1.0/255.0", [0, 0, 0], [1, 1, 1])
        assert (after["scale"], after["mean"][0], after["std"][0]) == (1.0, 0.485, 0.229)


@pytest.mark.parametrize("path", TRANSFERS, ids=relative)
def test_transfer_is_the_readmes(path):
    """README of okojoalg/sequencer: 4 x 128 images, AdamW 1e-4, decay 1e-4, clipping at 1, 5 + 200 + 10 epochs."""
    config = read(path)
    optimizer, lr = config["Optimizer"], config["Optimizer"]["lr"]
    assert (optimizer["weight_decay"], optimizer["clip_global_norm"]) == (1e-4, 1.0)
    assert (lr["learning_rate"], lr["warmup_epoch"], lr["warmup_start_lr"], lr["cooldown_epoch"]) == (1e-4, 5, 1e-6, 10)
    assert (config["Global"]["epochs"], config["Global"]["base_batch_size"]) == (210, 4 * 128)
    operators = [name for item in config["DataLoader"]["Train"]["dataset"]["transform_ops"] for name in item]
    assert "TimmAutoAugment" in operators and "RandomErasing" not in operators
    assert config["Arch"]["pretrained"] is True and config["Arch"]["drop_path_rate"] == 0.1
    classes = {"CIFAR10": 10, "CIFAR100": 100, "Flowers102": 102, "StanfordCars": 196}[path.parent.name]
    assert config["Arch"]["class_num"] == classes


@pytest.mark.compat
@pytest.mark.parametrize("name", RECIPES)
def test_images_and_head_are_the_registrys(name):
    config, text = read(RECIPES[name]), RECIPES[name].read_text(encoding="utf-8")
    arch = config["Arch"]["name"].replace("ppcls_ext.", "")
    assert re.sub("_(22kto1k|token_label)$", "", name) == arch
    spec = registry.get_spec(arch)
    wanted = spec.preprocessing
    size = wanted.input_size[1]
    assert config["Global"]["image_shape"] == list(wanted.input_size)
    evaluation = config["DataLoader"]["Eval"]["dataset"]["transform_ops"]
    operators = {operator: value for item in evaluation for operator, value in item.items()}
    resize, normalize = operators["ResizeImage"], operators["NormalizeImage"]
    found = (resize["resize_short"], resize["interpolation"], resize["backend"])
    assert found == (wanted.resize_short, wanted.interpolation, wanted.backend)
    assert operators["CropImage"]["size"] == size
    assert (tuple(normalize["mean"]), tuple(normalize["std"])) == (wanted.mean, wanted.std)
    assert config["Infer"]["transforms"] == [*evaluation, {"ToCHWImage": None}]
    training = config["DataLoader"]["Train"]["dataset"]["transform_ops"]
    crops = [item["RandCropImage"]["size"] for item in training if "RandCropImage" in item]
    assert crops == [size]
    head = text[: text.index("# global configs")]
    assert f"tools/train.py -c {RECIPES[name].relative_to(ROOT)}" in head
    assert f"{spec.params / 1e6:.2f} M parameters, {spec.macs / 1e9:.2f} G multiply-adds" in head
    one_line = " ".join(head.replace("#", " ").split())
    assert spec.paper in one_line
    if spec.accuracy and name == arch and f"{spec.accuracy.top1:g} published ({spec.accuracy.source}" not in one_line:
        assert "published" in one_line and arch.startswith("ViT"), (
            "Table 5 of the paper stands for the registry's figure"
        )


def flat(value, key=""):
    """Return every leaf of a configuration by its dotted key."""
    if isinstance(value, dict):
        return {k: v for name, item in value.items() for k, v in flat(item, f"{key}.{name}".lstrip(".")).items()}
    if isinstance(value, list):
        return {k: v for index, item in enumerate(value) for k, v in flat(item, f"{key}.{index}").items()}
    return {key: value}


@pytest.mark.parametrize("group", GROUPS)
def test_variants_differ_only_in_what_they_may(group):
    names, allowed = GROUPS[group]
    first, *others = (flat(read(RECIPES[name])) for name in names)
    for name, other in zip(names[1:], others):
        differing = [key for key in {**first, **other} if first.get(key) != other.get(key) and key not in FREE]
        assert [key for key in differing if not any(re.fullmatch(rule, key) for rule in allowed)] == [], name


@pytest.mark.parametrize("name", GROUPS["Res2Net"][0])
def test_recipes_that_quote_the_authors_train_the_block_of_the_paper(name):
    """Two of the names stand for PaddleClas's block, of which the authors' accuracy is not."""
    arguments = {**getattr(ppcls_ext, name).arguments, **read(RECIPES[name])["Arch"]}
    assert arguments.get("form", "official") == "official"
