"""What a configuration is checked for beyond its keys: files, labels, devices, backbones, contradictions."""

import os
import sys

import paddle
import pytest
from config_sample import Sample

from ppcls_ext import plugin
from ppcls_ext.config import ConfigError
from ppcls_ext.config.checks.backbone import factory_arguments
from ppcls_ext.data.shards import write_shards
from ppcls_ext.metrics import build_metrics

pytestmark = pytest.mark.compat


@pytest.fixture
def sample(tmp_path):
    return Sample(tmp_path)


@pytest.mark.parametrize(
    "key, package, extra",
    [
        ("use_visualdl", "visualdl", "tracking"),
        ("use_tensorboard", "tensorboardX", "tensorboard"),
        ("plot_curves", "matplotlib", "plot"),
    ],
)
def test_what_writes_and_draws_curves_is_an_extra(sample, monkeypatch, key, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    problem = sample.problem(f"Global.{key}=True", mode="train")
    assert f"Global.{key}" in problem and f'pip install "ppcls_ext[{extra}]"' in problem
    assert sample.load(f"Global.{key}=True", mode="eval")


# ---- files and labels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "mode", "message"),
    [
        ("DataLoader.Train.dataset.image_root", "train", "there is no such folder"),
        ("DataLoader.Train.dataset.cls_label_path", "train", "there is no such file"),
        ("DataLoader.Eval.dataset.cls_label_path", "eval", "there is no such file"),
        ("Global.pretrained_model", "eval", "there is neither such a file nor"),
        ("Arch.pretrained", "train", "there is neither such a file nor"),
        ("Global.checkpoints", "train", "there is no checkpoint of that prefix"),
        ("Infer.infer_imgs", "infer", "there is no such file or folder"),
        ("Infer.PostProcess.class_id_map_file", "infer", "there is no such file; None shows class ids alone"),
    ],
)
def test_missing_file(sample, tmp_path, key, mode, message):
    missing = f"{tmp_path}/absent"
    problem = sample.problem(f"{key}={missing}", mode=mode)
    assert problem.startswith(f"command line (-o {key}={missing}): {key}: got '{missing}'") and message in problem


def test_files_of_unused_splits_are_not_looked_for(sample):
    sample.load("DataLoader.Train.dataset.image_root=/absent", mode="eval")
    sample.load("DataLoader.Eval.dataset.image_root=/absent", mode="export")
    sample.load("DataLoader.Eval.dataset.image_root=/absent", "Global.eval_during_train=False")


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
@pytest.mark.parametrize("given", [True, False], ids=["with suffix", "without suffix"])
def test_weights_with_and_without_suffix(sample, tmp_path, suffix, given):
    (tmp_path / f"weights{suffix}").write_bytes(b"")
    sample.load(f"Global.pretrained_model={tmp_path}/weights{suffix if given else ''}", mode="eval")


def test_weights_that_cannot_be_read_or_belong_to_other_classes(sample, tmp_path):
    """What lies beside the weights is read before anything is built."""
    os.mkfifo(tmp_path / "pipe")
    problem = sample.problem(f"Global.pretrained_model={tmp_path}/pipe", mode="eval")
    assert "Global.pretrained_model: " in problem and "pipe is a named pipe; expected a regular file" in problem
    (tmp_path / "w.pdparams").write_bytes(b"")
    record, given = tmp_path / "w.pdparams.json", f"Global.pretrained_model={tmp_path}/w"
    record.write_text('{"needs": {}, "class_num": 7}')
    assert "w.pdparams holds weights for 7 classes; Arch.class_num is" in sample.problem(given, mode="eval")
    record.write_text('{"needs": {}, "class_num": 0}')
    assert "w.pdparams holds weights without a classifier" in sample.problem(given, mode="export")
    sample.load(given)  # training starts the classifier afresh
    record.write_text('{"needs": 3}')
    assert "w.pdparams.json: needs is a int; expected constructor arguments by name" in sample.problem(given)


@pytest.mark.parametrize("key", ["pretrained_source", "pretrained_layout"])
def test_a_source_that_is_not_published(sample, key):
    arch = "Arch.name=ppcls_ext.ViT_base_patch16_224"
    problem = sample.problem(arch, "Arch.pretrained=True", f"Arch.{key}=swin")
    assert f"Arch.{key}: pretrained_source='swin': the weights of ViT_base_patch16_224 have" in problem
    problem = sample.problem(arch, f"Arch.{key}=timm")
    assert f"Arch.{key}: pretrained_source='timm' requires pretrained=True, got pretrained=False" in problem


def test_address_of_weights_is_refused(sample):
    assert "download it first" in sample.problem("Global.pretrained_model=https://host/w.pdparams?x=1")


@pytest.mark.parametrize("suffix", ["pdparams", "staged.manifest.json"])
def test_prefix_of_a_checkpoint(sample, tmp_path, suffix):
    (tmp_path / f"latest.{suffix}").write_bytes(b"")
    sample.load(f"Global.checkpoints={tmp_path}/latest")


def test_labels_beyond_the_classes(sample):
    sample.write_list([0, 1, 7])
    problems = sample.problems()
    assert len(problems) == 2  # both splits read the list
    assert all("labels go from 0 to 7, but class_num 3 allows 0 to 2" in problem for problem in problems)


def test_labels_that_look_one_based(sample):
    sample.write_list([1, 2, 3])
    assert any("look 1-based" in problem for problem in sample.problems())


def test_fewer_classes_than_the_head_is_a_warning(sample):
    assert any("the list has 3 classes, Arch.class_num is 5" in w for w in sample.load("Arch.class_num=5").warnings)


def test_malformed_list_is_named_with_its_line(sample, tmp_path):
    (tmp_path / "list.txt").write_text("0.png 0\n1.png one\n", encoding="utf-8")
    assert any("list.txt:2" in problem for problem in sample.problems())


def test_label_file_of_another_class_count(sample, tmp_path):
    (tmp_path / "names.txt").write_text("0 cat\n1 dog\n", encoding="utf-8")
    problem = sample.problem(f"Infer.PostProcess.class_id_map_file={tmp_path}/names.txt", mode="export")
    assert "names 2 classes, Arch.class_num is 3" in problem


def test_image_folder(sample, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / "folder" / name).mkdir(parents=True)
        (tmp_path / "folder" / name / "0.png").write_bytes((tmp_path / "0.png").read_bytes())
    overrides = [
        "DataLoader.Train.dataset.name=ImageFolder",
        f"DataLoader.Train.dataset.image_root={tmp_path}/folder",
    ]
    problem = sample.problem(*overrides)
    assert "DataLoader.Train.dataset.cls_label_path: ImageFolder has no such argument" in problem
    sample.load(*overrides, "DataLoader.Train.dataset.cls_label_path=None")


def test_shards(sample, tmp_path):
    shards = write_shards(tmp_path, tmp_path / "list.txt", tmp_path / "train", samples=1, progress=False)
    overrides = [
        "DataLoader.Train.dataset.name=ShardDataset",
        "DataLoader.Train.dataset.cls_label_path=None",
        "DataLoader.Train.dataset.image_root=None",
        f"DataLoader.Train.dataset.shards={tmp_path}/train-{{000000..000002}}.tar",
    ]
    sample.load(*overrides, "DataLoader.Train.dataset.num_samples=3")
    problem = sample.problem(*overrides, "DataLoader.Train.dataset.num_samples=4")
    assert "DataLoader.Train.dataset.num_samples: expected 4 samples, the 3 shards hold 3" in problem
    problem = sample.problem(*overrides, "DataLoader.Train.sampler.name=RASampler")
    assert "DataLoader.Train.sampler.name: RASampler jumps between shards" in problem
    assert "ShardDataset needs it" in sample.problem(*overrides[:3])
    os.remove(shards[1])
    problem = sample.problem(*overrides)
    assert f"1 of 3 files do not exist: {shards[1]}" in problem and "DataLoader.Train.dataset.shards" in problem


def test_dataset_without_its_list(sample):
    problem = sample.problem("DataLoader.Train.dataset.cls_label_path=None")
    assert "the key is missing; ImageNetDataset needs it" in problem


# ---- operators -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("DataLoader.Train.dataset.transform_ops.1={RandCropImag: {size: 3}}", "did you mean 'RandCropImage'?"),
        ("DataLoader.Train.dataset.transform_ops.1.RandCropImage.sise=3", "did you mean 'size'?"),
        ("DataLoader.Eval.dataset.transform_ops.1.ResizeImage.size=big", "size"),
    ],
    ids=["name", "argument", "value"],
)
def test_operators(sample, override, message):
    found = sample.problems(override)
    assert any(message in problem and problem.startswith("command line") for problem in found), found


def test_operators_of_prediction(sample):
    assert "Infer.transforms.1.ResizeImage.sise" in sample.problem(
        "Infer.transforms.1.ResizeImage.sise=3", mode="infer"
    )


def test_order_of_operators(sample):
    problem = sample.problem("DataLoader.Eval.dataset.transform_ops.1={ToCHWImage: null}")
    assert "DataLoader.Eval.dataset.transform_ops.2.NormalizeImage: needs HWC but the image is CHW" in problem


# ---- backbone --------------------------------------------------------------------------------------------------


def test_unknown_backbone(sample):
    problem = sample.problem("Arch.name=ppcls_ext.Sequencer2D_XS")
    assert "unknown backbone 'ppcls_ext.Sequencer2D_XS'; did you mean" in problem and "Sequencer2D_S" in problem


@pytest.mark.parametrize("name", ["Sequencer2D_S", "ppcls_ext.Sequencer2D_S"])
def test_our_backbones(sample, name):
    sample.load(f"Arch.name={name}")


@pytest.mark.skipif(not plugin.HAS_PADDLECLAS, reason="PaddleClas is not installed")
def test_backbones_of_paddleclas(sample):
    sample.load("Arch.name=PPLCNet_x0_25")


def test_published_weights_where_there_are_none(sample):
    problem = sample.problem("Arch.name=ppcls_ext.VSequencer_S", "Arch.pretrained=True")
    assert "no weights of VSequencer_S are published" in problem


def test_published_weights_of_other_arguments_than_the_names_own(sample):
    huge = ("Arch.name=ppcls_ext.ViT_huge_patch14_224", "Arch.pretrained=True")
    problem = sample.problem(*huge)
    assert "Arch.representation_size: the jax weights of" in problem and "representation_size=1280" in problem
    sample.load(*huge, "Arch.representation_size=1280")


def test_arguments_of_a_factory():
    def closed(class_num, depth=3):
        pass

    def open_ended(pretrained=False, **kwargs):
        pass

    assert factory_arguments(closed) == ["class_num", "depth"]
    assert factory_arguments(open_ended) is None
    open_ended.arguments = ["depth"]
    assert {"depth", "pretrained", "stop_after"} <= set(factory_arguments(open_ended))


@pytest.mark.parametrize(
    "argument",
    ["drop_path_rate=0.1", "use_ssld=False", "freeze_befor=stages[0]", "return_stages=True", "pretrained=False"],
)
def test_arguments_that_our_backbones_take(sample, argument):
    sample.load(f"Arch.{argument}")


def test_backbone_of_another_package(sample):
    assert "unknown backbone 'timm.Sequencer2D_S'" in sample.problem("Arch.name=timm.Sequencer2D_S")


def test_argument_that_our_backbone_does_not_have(sample):
    assert "did you mean drop_path_rate?" in sample.problem("Arch.drop_path_rat=0.1")


def test_argument_that_the_backbone_does_not_have(sample, monkeypatch):
    def factory(class_num, pretrained=False, drop_path_rate=0.0):
        pass

    monkeypatch.setattr("ppcls_ext.config.checks.backbone.backbone_factory", lambda name: factory)
    assert "did you mean drop_path_rate?" in sample.problem("Arch.drop_pathrate=0.1")


@pytest.mark.parametrize("name", ["num_classes", "class_nums", "pretraned"])
def test_misspelt_key_that_the_backbone_would_swallow(sample, monkeypatch, name):
    def factory(pretrained=False, **kwargs):
        pass

    monkeypatch.setattr("ppcls_ext.config.checks.backbone.backbone_factory", lambda name: factory)
    meant = "pretrained" if name.startswith("p") else "class_num"
    assert f"Arch.{name}: unknown key; did you mean Arch.{meant}?" in sample.problem(f"Arch.{name}=10")
    sample.load("Arch.depths=[1, 1]", "Arch.use_ssld=False")


# ---- device and precision --------------------------------------------------------------------------------------


@pytest.mark.skipif(paddle.is_compiled_with_cuda(), reason="this Paddle has CUDA")
def test_gpu_without_cuda(sample):
    problem = sample.problem("Global.device=gpu")
    assert "this Paddle is built without CUDA" in problem and "Global.device=cpu" in problem


def test_gpu_that_is_not_visible(sample, monkeypatch):
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 0)
    assert "no GPU is visible" in sample.problem("Global.device=gpu")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_has_no_effect_on_a_cpu(sample, dtype):
    assert "Paddle computes in float32 on a CPU" in sample.problem("AMP.use_amp=True", f"AMP.dtype={dtype}")
    sample.load("AMP.use_amp=True", mode="eval")
    assert "float32 on a CPU" in sample.problem("AMP.use_amp=True", "AMP.use_fp16_test=True", mode="eval")


def test_why_mixed_precision_is_refused_on_a_cpu():
    """The fact behind the refusal: autocast leaves the computation in float32 there."""
    if paddle.is_compiled_with_cuda():
        paddle.set_device("cpu")
    with pytest.warns(UserWarning), paddle.amp.auto_cast(level="O1", dtype="bfloat16"):
        product = paddle.matmul(paddle.ones([2, 2]), paddle.ones([2, 2]))
    assert product.dtype == paddle.float32


def test_bfloat16_on_a_gpu_without_it(sample, monkeypatch):
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(paddle.amp, "is_bfloat16_supported", lambda: False)
    overrides = ("Global.device=gpu", "AMP.use_amp=True", "AMP.dtype=bfloat16")
    assert "this GPU has no bfloat16" in sample.problem(*overrides)


# ---- contradictions --------------------------------------------------------------------------------------------


def test_k_above_the_number_of_classes(sample):
    """Defect 26."""
    problem = sample.problem("Metric.Eval.0.TopkAcc.topk=[1, 5]")
    assert "Metric.Eval.0.TopkAcc.topk: got 5; expected at most the number of classes, Arch.class_num = 3" in problem
    assert "Infer.PostProcess.topk: got 5" in sample.problem("Infer.PostProcess.topk=5", mode="infer")


@pytest.mark.parametrize(
    "override, message",
    [
        (
            "Metric.Train=[{PerClass: }]",
            "Metric.Train.0.PerClass: a table of a whole evaluation; expected in Metric.Eval",
        ),
        ("Metric.Eval=[{F1: }, {F1: {average: macro}}]", "Metric.Eval.1.F1: macro is asked for more than once"),
        ("Metric.Eval=[{PerClass: }, {PerClass: }]", "Metric.Eval.1.PerClass: the table is asked for more than once"),
        ("Metric.Eval=[{ConfusionMatrix: }]", "Metric.Eval: ConfusionMatrix has no figure to choose the best model by"),
        ("Metric.Eval=[{Recall: {average: median}}]", "median"),
        ("Metric.Eval=[{Precison: }]", "did you mean Metric.Eval.0.Precision?"),
    ],
)
def test_metrics_of_classes_that_cannot_be(sample, override, message):
    assert message in sample.problem(override)


def test_metrics_of_classes(sample):
    config = sample.load("Metric.Eval=[{F1: {average: weighted}}, {Recall: }, {PerClass: }, {ConfusionMatrix: }]")
    metrics = build_metrics(config.section("Metric.Eval"), 3)
    assert metrics.names == ["f1_weighted", "recall_macro", "mean_class_accuracy"] and metrics.has_tables


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["Optimizer.lr.warmup_start_lr=0.1"], "expected less than the learning rate, 0.001"),
        (["Optimizer.lr.by_epoch=True", "Optimizer.lr.warmup_epoch=0.5"], "expected whole epochs with by_epoch"),
        (["Optimizer.lr.cooldown_epoch=3"], "got 3; expected less than the 3 of the 4 epochs that the warm-up leaves"),
        (["Optimizer.lr.eta_min=0.1"], "Optimizer.lr.eta_min: got 0.1; expected at most the learning rate, 0.001"),
        (["Loss.Train=[{CELoss: {weight: 0}}]"], "Loss.Train: Loss: every weight is 0"),
        (["Metric.Eval=[{TopkAcc: {topk: 0}}]"], "Metric.Eval.0.TopkAcc.topk"),
        (["Optimizer.clip_norm=1", "Optimizer.clip_global_norm=1"], "not both"),
        (["Optimizer.name=AdamWDL"], "AdamWDL needs it"),
        (
            ["Optimizer={name: SGD, weight_decay: 1e-4, regularizer: {name: L2, coeff: 1}, lr: {learning_rate: 1}}"],
            "give weight_decay or regularizer, not both",
        ),
        (
            ["Optimizer.lr={name: Piecewise, learning_rate: 0.2, decay_epochs: [1], values: [0.1, 0.01]}"],
            "learning_rate 0.2 contradicts values[0] 0.1",
        ),
        (["Optimizer.lr={name: Piecewise, decay_epochs: [1], values: [0.1]}"], "one longer than decay_epochs"),
        (["Optimizer.lr={name: MultiStepDecay, learning_rate: 1, milestones: [3, 1]}"], "expected increasing epochs"),
    ],
    ids=(
        "warm-up start,by epoch,cool-down,rising,no weight,top 0,two clips,AdamWDL,two decays,piecewise,table,steps"
    ).split(","),
)
def test_contradiction(sample, overrides, message):
    problem = sample.problem(*overrides)
    assert problem.startswith("command line") or overrides == ["Optimizer.name=AdamWDL"]
    assert message in problem


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Optimizer.lr.warmup_epoch=20", "20 epochs of warm-up in a run of 4"),
        ("Optimizer.clip_norm=1.0", "the usual clipping, of all gradients together, is clip_global_norm"),
        (
            "Optimizer.clip_grad=5.0",
            "its recipes train unclipped, and so does this run; write clip_global_norm to clip",
        ),
        ("Global.start_eval_epoch=5", "5 is beyond the last epoch, 4: nothing is evaluated"),
    ],
)
def test_doubtful_settings_are_warned_of(sample, override, message):
    """Defect 31 among them: clip_norm is per tensor."""
    (warning,) = sample.load(override).warnings
    assert message in warning and warning.startswith(f"command line (-o {override})")


def test_relabelling_must_number_both_lists_alike(sample, tmp_path):
    """Defect 36: each list is relabelled by itself, so a class missing from one would get another class' number."""
    (tmp_path / "val.txt").write_text("0.png 3\n2.png 10\n", encoding="utf-8")
    sample.write_list([3, 7, 10])
    both = ["DataLoader.Train.dataset.relabel=True", "DataLoader.Eval.dataset.relabel=True"]
    sample.load(*both)
    problem = sample.problem(*both, f"DataLoader.Eval.dataset.cls_label_path={tmp_path}/val.txt")
    assert "DataLoader.Eval.dataset.relabel" in problem and "labels in one list alone: [7]" in problem


# ---- operators on batches --------------------------------------------------------------------------------------

BATCH_OPS = "DataLoader.Train.dataset.batch_transform_ops"
HYBRID = "[{MixupCutmixHybrid: {mixup_alpha: 0.8, cutmix_alpha: 1.0}}]"


def test_mixing_is_accepted_with_a_word_on_training_accuracy(sample):
    override = f"{BATCH_OPS}=[{{OpSampler: {{MixupOperator: {{alpha: 0.8, prob: 0.5}}}}}}]"
    (warning,) = sample.load(override).warnings
    assert "Metric.Train: batch_transform_ops mix labels" in warning
    assert sample.load(override, "Metric.Train=None").warnings == []


@pytest.mark.parametrize(
    ("overrides", "key", "message"),
    [
        ([f"{BATCH_OPS}=[{{MixupOperater: {{}}}}]"], f"{BATCH_OPS}.0.MixupOperater", "did you mean 'MixupOperator'?"),
        ([f"{BATCH_OPS}=[{{MixupOperator: {{alpha: 0}}}}]"], f"{BATCH_OPS}.0.MixupOperator", "a number above 0"),
        (
            [f"{BATCH_OPS}=[{{OpSampler: {{MixupOperator: {{aplha: 1, prob: 1}}}}}}]"],
            f"{BATCH_OPS}.0.OpSampler.MixupOperator.aplha",
            "did you mean 'alpha'?",
        ),
        ([f"{BATCH_OPS}={HYBRID}"], "Loss.Train.0.CELoss.epsilon", "has smoothed by 0.1"),
        (
            [f"{BATCH_OPS.replace('Train', 'Eval')}={HYBRID}"],
            "DataLoader.Eval.dataset.batch_transform_ops",
            "cannot be evaluated",
        ),
        (["DataLoader.Eval.sampler.name=RASampler"], "DataLoader.Eval.sampler.name", "RASampler repeats images"),
        (["DataLoader.Train.sampler.num_repeats=3"], "DataLoader.Train.sampler.num_repeats", "sampler.name: RASampler"),
    ],
    ids=["operator", "value", "argument", "smoothed twice", "evaluation", "repeats in evaluation", "repeats"],
)
def test_mistake_in_mixing_or_repeating(sample, overrides, key, message):
    problem = sample.problem(*overrides)
    assert f": {key}" in problem and message in problem


def test_normalising_on_the_device_needs_a_last_normalisation(sample):
    key = "DataLoader.Train.loader.normalize_on_device"
    sample.load(f"{key}=True")
    mixing = f"{BATCH_OPS}=[{{OpSampler: {{MixupOperator: {{alpha: 0.8, prob: 0.5}}}}}}]"
    assert f"{key}: batch_transform_ops mix" in sample.problem(f"{key}=True", mixing)
    erasing = (
        "DataLoader.Train.dataset.transform_ops=[{DecodeImage: {}}, {NormalizeImage: {order: ''}}, {RandomErasing: {}}]"
    )
    assert f"{key}: the last operator must be NormalizeImage" in sample.problem(f"{key}=True", erasing)


def test_smoothing_once_and_repeats_are_accepted(sample):
    sample.load(f"{BATCH_OPS}={HYBRID}", "Loss.Train.0.CELoss.epsilon=None")
    sample.load("DataLoader.Train.sampler.name=RASampler", "DataLoader.Train.sampler.num_repeats=2")
    sample.load(f"{BATCH_OPS}={HYBRID}", "DataLoader.Train.sampler.name=RASampler", mode="eval")


# ---- prediction beside evaluation ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["train", "infer", "export"])
@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "Infer.transforms.1.ResizeImage.size=24",
            "ResizeImage(size=32) in DataLoader.Eval, ResizeImage(size=24) in Infer",
        ),
        (
            "Infer.transforms.2.NormalizeImage={order: '', mean: [0.5, 0.5, 0.5]}",
            "NormalizeImage(order='', mean=[0.5, 0.5, 0.5]) in Infer",
        ),
        ("Infer.transforms.0.DecodeImage.to_rgb=False", "DecodeImage(to_rgb=False) in Infer"),
        (
            "Infer.transforms=[{DecodeImage: {}}, {ResizeImage: {size: 32}}, {CropImage: {size: 28}}, "
            "{NormalizeImage: {order: ''}}, {ToCHWImage: }]",
            "NormalizeImage(order='') in Infer alone",
        ),
    ],
    ids=["size", "mean", "channel order", "another operator"],
)
def test_other_pixels_than_in_evaluation_are_warned_of(sample, mode, override, message):
    (warning,) = sample.load(override, mode=mode).warnings
    assert "Infer.transforms: prediction sees other pixels than evaluation" in warning and message in warning


def test_the_same_pixels_spelt_otherwise_are_not_warned_of(sample):
    same = "Infer.transforms.2.NormalizeImage={scale: 0.00392156862745098, order: hwc, std: [0.229, 0.224, 0.225]}"
    assert sample.load(same).warnings == []


def test_a_mistake_in_prediction_is_a_warning_while_training(sample):
    override = "Infer.PostProcess.class_id_map_file=/none/labels.txt"
    (warning,) = sample.load(override).warnings
    assert "there is no such file" in warning and "infer and export will refuse it" in warning
    assert "there is no such file" in sample.problem(override, mode="infer")


# ---- values out of all bounds ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Arch.class_num=1000000000000", "expected a value of at most 1000000"),
        ("Global.output_dir=''", "got '' (str); expected a name"),
        ("Global.output_dir='  '", "expected a name"),
        ("Global.save_inference_dir=''", "expected a name"),
        ("Metric.Eval.0.TopkAcc.topk=0", "expected a value of at least 1"),
        ("Global.epochs=100000000000000000000", "expected an integer"),
    ],
)
def test_values_that_nothing_can_do_with_are_refused(sample, override, message):
    assert any(message in problem for problem in sample.problems(override))


def test_many_mistakes_are_counted_and_the_first_shown(sample):
    sample.edit(lambda data: data["Global"].update({f"key_{i}": i for i in range(3000)}))
    problems = sample.problems()
    assert len(problems) == 101 and problems[-1].endswith("2,900 more problems are not shown")


def test_what_only_paddleclas_supports_is_refused_with_the_way_out_once(sample):
    with pytest.raises(ConfigError) as error:
        sample.load("Global.use_dali=True", "Global.use_multilabel=True")
    assert str(error.value).count("ppcls_ext paddleclas") == 1


@pytest.mark.parametrize("transforms", ["[]", "[{ResizeImage: {size: 32}}, {ToCHWImage: }]"])
def test_prediction_reads_files_and_so_has_to_decode_them(sample, transforms):
    """Fuzzing found it: the bytes of the file went to the model, or to the first operator, of every image."""
    assert "Infer.transforms.0: the first operator must be DecodeImage" in sample.problem(
        f"Infer.transforms={transforms}", mode="infer"
    )
