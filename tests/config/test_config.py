"""Loading a configuration: what is accepted, what is refused and how, what is saved."""

import copy
import re

import paddle
import pytest
import yaml
from config_sample import Sample

from ppcls_ext.config import MODES, ConfigError, load_config
from ppcls_ext.config.messages import all_keys
from ppcls_ext.config.writer import summary_lines, write_yaml
from ppcls_ext.losses import build_loss
from ppcls_ext.metrics import build_metrics
from ppcls_ext.optim import build_optimizer


@pytest.fixture
def sample(tmp_path):
    return Sample(tmp_path)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.compat
def test_sample_is_valid(sample, mode):
    config = sample.load(mode=mode)
    assert (config.mode, config.warnings) == (mode, [])


def test_values_and_defaults(sample):
    config = sample.load()
    assert (config.Global.epochs, config.Global.save_interval, config.Global.keep_last) == (4, 1, 0)
    assert (config.Optimizer.lr.learning_rate, config.Optimizer.lr.eta_min) == (1e-3, 1e-6)
    assert config.DataLoader.Train.dataset.transform_ops[1] == {"RandCropImage": {"size": 32}}
    assert config.section("Loss.Train") == [{"CELoss": {"weight": 1.0, "epsilon": 0.1, "reduction": "mean"}}]
    assert config.section("Metric.Eval") == [{"TopkAcc": {"topk": [1, 2]}}]
    assert config.section("DataLoader.Eval")["sampler"] == {
        "name": "DistributedBatchSampler",
        "batch_size": 2,
        "drop_last": False,
    }
    assert config.section("DataLoader.Test") is None


def test_mixed_precision_scales_unless_told_otherwise(sample):
    """Defect 13: bfloat16 can be chosen, and float16 does not run without loss scaling because a key is missing."""
    sample.edit(lambda data: data.update(AMP={"use_amp": False}))
    amp = sample.load().AMP
    assert (amp.dtype, amp.scale_loss, amp.use_dynamic_loss_scaling) == ("float16", 2.0**15, True)
    assert sample.load("AMP.dtype=bfloat16", "AMP.use_promote=True").AMP.dtype == "bfloat16"


def test_builders_leave_the_configuration_as_it_is(sample):
    """Defects 20 and 21: nothing is popped from the sections that others read as well."""
    config = sample.load()
    sections = {name: config.section(name) for name in ("Loss.Train", "Metric.Train", "Optimizer")}
    before = copy.deepcopy(sections)
    build_loss(sections["Loss.Train"])
    build_metrics(sections["Metric.Train"], config.Arch.class_num)
    build_optimizer(sections["Optimizer"], paddle.nn.Linear(2, 3), config.Global.epochs, steps_per_epoch=2)
    assert sections == before
    sections["Loss.Train"].clear()
    assert config.section("Loss.Train")


def test_arch_hands_every_other_key_to_the_backbone(sample):
    config = sample.load("Arch.drop_path_rate=0.2", "Arch.use_sync_bn=True")
    assert config.Arch.kwargs() == {"class_num": 3, "pretrained": False, "drop_path_rate": 0.2}


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("Global.epochs=7", lambda c: c.Global.epochs == 7),
        ("Global.pretrained_model=None", lambda c: c.Global.pretrained_model is None),
        ("Global.eval_during_train=false", lambda c: c.Global.eval_during_train is False),
        ("Global.seed=False", lambda c: c.Global.seed is None),
        ("Optimizer.lr.learning_rate=5e-4", lambda c: c.Optimizer.lr.learning_rate == 5e-4),
        ("Optimizer.weight_decay='1e-4'", lambda c: c.Optimizer.weight_decay == 1e-4),
        ("Loss.Train.0.CELoss.epsilon=None", lambda c: c.Loss.Train[0].CELoss.epsilon is None),
        ("Metric.Eval.0.TopkAcc.topk=1", lambda c: c.Metric.Eval[0].TopkAcc.topk == [1]),
        (
            "DataLoader.Train.dataset.transform_ops.1.RandCropImage.size=16",
            lambda c: c.DataLoader.Train.dataset.transform_ops[1] == {"RandCropImage": {"size": 16}},
        ),
    ],
)
def test_override(sample, override, read):
    assert read(sample.load(override))


# ---- wrong keys and values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("pretrained_model=weights", "did you mean Global.pretrained_model?"),
        ("ARCHITECTURE.name=ResNet50", "did you mean Arch.name?"),
        ("epochs=3", "did you mean Global.epochs?"),
        ("Global.epoch=3", "did you mean Global.epochs?"),
        ("Global.learning_rate=3", "did you mean Optimizer.lr.learning_rate?"),
        ("global.epochs=3", "did you mean Global?"),
        ("Optimizer.weight_decey=0.1", "did you mean Optimizer.weight_decay?"),
        ("Optimizer.momentum=0.9", "; it belongs to Momentum"),
        ("Optimizer.lr.step_size=3", "; it belongs to Step"),
        ("Optimizer.lr.warmup_epochs=3", "did you mean Optimizer.lr.warmup_epoch?"),
        ("Optimizer.no_weight_decay_names=bias", "did you mean Optimizer.no_weight_decay_name?"),
        ("DataLoader.Train.sampler.batchsize=3", "did you mean DataLoader.Train.sampler.batch_size?"),
        ("Loss.Train.0.CELoss.eps=0.1", "unknown key"),
        ("x=0.1", "the configuration has Global, Arch,"),
    ],
)
def test_unknown_key(sample, override, suggestion):
    """Defect 43, and the wrong overrides that made people evaluate random weights."""
    problem = sample.problem(override)
    assert problem.startswith(f"command line (-o {override}): ")
    assert "unknown key" in problem and suggestion in problem


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("Global.epochs=1e1", "got 10.0 (float); expected an integer"),
        ("Global.epochs=True", "got True (bool); expected an integer"),
        ("Global.epochs=ten", "got 'ten' (str); expected an integer"),
        ("Global.epochs=0", "got 0 (int); expected a value of at least 1"),
        ("Global.seed=__import__('os').getpid()", "expected an integer"),
        ("Global.eval_during_train=1", "got 1 (int); expected True or False"),
        ("Global.output_dir=[a]", "got ['a']; expected a string"),
        ("Global.image_shape=[3, 32]", "got [3, 32]; expected at least 3 items"),
        ("Global.max_bad_image_ratio=1", "expected a value below 1"),
        ("Optimizer.lr.learning_rate=.inf", "expected a finite number"),
        ("Optimizer.lr.learning_rate=fast", "got 'fast' (str); expected a number"),
        ("Optimizer.lr.learning_rate=0", "expected a value above 0"),
        ("Optimizer.lr=0.1", "expected a mapping of keys"),
        ("Optimizer.lr.name=Cosin", "got 'Cosin'; did you mean Cosine?"),
        ("Optimizer.name=Adamw2", "got 'Adamw2'; did you mean AdamW?"),
        ("AMP.level=O3", "got 'O3' (str); expected 'O1' or 'O2'"),
        ("Loss.Train.0.CELoss.epsilon=1.5", "expected a value below 1"),
        ("Loss.Train=[]", "expected at least 1 items"),
        ("Loss.Train.0={CELoss: null, X: null}", "expected one 'Name: {arguments}' per list item"),
        ("Arch.class_num=-1", "expected a value of at least 1"),
        ("Arch.pretrained=3", "expected True or False or a string"),
        ("Global.device=gpus", "unknown device 'gpus'; did you mean gpu?"),
    ],
)
def test_wrong_value(sample, override, expected):
    problem = sample.problem(override)
    key = override.partition("=")[0]
    assert problem.startswith(f"command line (-o {override}): {key}") and expected in problem


def test_every_problem_is_listed_with_its_line(sample):
    sample.replace("epochs: 4", "epochs: four")
    sample.replace("decay: 0.99", "decay: 2")
    sample.replace("num_workers: 0", "numworkers: 0")
    sample.replace("level: O1", "level: O1\n  level: O2")
    found = sample.problems("Metric.Eval.0.TopkAcc.topk=[9]")
    lines = sample.path.read_text(encoding="utf-8").splitlines()
    for text, message in (
        ("level: O2", "AMP.level: the key is given twice"),
        ("epochs: four", "Global.epochs: got 'four'"),
        ("decay: 2", "EMA.decay: got 2"),
        ("numworkers: 0", "did you mean DataLoader.Train.loader.num_workers?"),
    ):
        line = next(number for number, content in enumerate(lines, start=1) if content.strip() == text)
        assert any(entry.startswith(f"{sample.path}:{line}: ") and message in entry for entry in found), (text, found)
    # The rest is checked as well, although some of it is wrong.
    assert any("got 9; expected at most the number of classes" in entry for entry in found)
    assert len(found) == 5


def test_error_text_counts_the_problems(sample):
    with pytest.raises(ConfigError, match="^2 problems in the configuration\n  1. command line .*\n  2. command line "):
        sample.load("Global.epochs=x", "EMA.decay=x")


def keys_of(value, path=()):
    """Return the path of every key of plain data."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from keys_of(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from keys_of(item, (*path, index))


def test_fuzz_every_key(sample):
    """A typo in any key, and a value of a wrong type under it, is found and named."""
    data = yaml.safe_load(sample.path.read_text(encoding="utf-8"))
    paths = [path for path in keys_of(data) if path[0] != "Arch"]
    assert len(paths) > 70
    for path in paths:
        dotted = ".".join(map(str, path))

        def misspell(data, path=path):
            for step in path[:-1]:
                data = data[step]
            data[path[-1] + "x"] = data.pop(path[-1])

        original = sample.path.read_text(encoding="utf-8")
        sample.edit(misspell)
        assert any(path[-1] + "x" in problem for mode in MODES for problem in sample.problems(mode=mode)), dotted
        sample.path.write_text(original, encoding="utf-8")
        wrong = f"{dotted}={{wrong: [1]}}"
        assert any(dotted in problem for mode in MODES for problem in sample.problems(wrong, mode=mode)), dotted


# ---- what is not supported -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("Global.use_dali=True", "DALI is not supported"),
        ("Global.to_static=True", "training through to_static is not supported"),
        ("Global.train_mode=progressive", "train modes"),
        ("Global.eval_mode=retrieval", "retrieval is not supported"),
        ("Global.use_multilabel=True", "multi-label classification is not supported"),
        ("Global.device=npu", "the device npu of PaddleClas is not supported; supported: cpu, gpu"),
        ("Arch.name=DistillationModel", "DistillationModel of PaddleClas is not supported"),
        ("Arch.models=[]", "distillation is not supported"),
        ("Arch.Head.name=ArcMargin", "models with a separate head"),
        ("Arch.use_ml_decoder=True", "the ML-Decoder head is not supported"),
        ("Slim.quant.name=pact", "pruning and quantisation are not supported"),
        ("Loss.Train=[{TripletLossV2: {weight: 1.0}}]", "the loss TripletLossV2 of PaddleClas is not supported"),
        ("Metric.Eval=[{Recallk: {topk: [1]}}]", "the metric Recallk of PaddleClas is not supported"),
        ("Optimizer.lr.name=Cyclic", "Cyclic of PaddleClas is not supported"),
        ("Optimizer.regularizer={name: L2, coeff: 1e-4}", "give weight_decay instead"),
        ("DataLoader.Train.sampler.name=PKSampler", "the sampler PKSampler of PaddleClas is not supported"),
        ("DataLoader.Train.dataset.name=MultiLabelDataset", "the dataset MultiLabelDataset of PaddleClas"),
        ("DataLoader.Train.dataset.transform_ops.1={Cutout: {length: 3}}", "Cutout is an operator of PaddleClas"),
    ],
)
def test_what_paddleclas_has_and_we_have_not(sample, override, sentence):
    """Defects 30 and 33, and the rest of PaddleClas's schema: refused by name, never ignored."""
    found = sample.problems(override)
    assert any(problem.startswith("command line") and sentence in problem for problem in found), found


@pytest.mark.parametrize(
    "override",
    ["Global.use_dali=False", "Global.train_mode=None", "Optimizer.clip_grad=None", "Slim=None", "Arch.is_rec=False"],
)
def test_what_is_switched_off_is_accepted(sample, override):
    assert sample.load(override) == sample.load()


@pytest.mark.parametrize("mode", ["eval", "infer", "export"])
def test_what_the_mode_does_not_use_is_no_obstacle(sample, mode):
    overrides = (
        "Global.to_static=True",
        "Loss.Train=[{TripletLoss: {weight: 1.0}}]",
        "Optimizer.lr.name=Cyclic",
        "DataLoader.Train.sampler.name=PKSampler",
    )
    config = sample.load(*overrides, mode=mode)
    assert config.Optimizer is None and config.section("DataLoader.Train") is None
    assert config.section("DataLoader.Eval") is not None
    assert [warning.split()[0] for warning in config.warnings] == [
        "DataLoader.Train",
        "Global.to_static",
        "Loss.Train",
        "Optimizer",
    ]
    assert len(sample.problems(*overrides)) == 4


def test_a_typo_counts_in_every_mode(sample):
    assert "did you mean Optimizer.weight_decay?" in sample.problem("Optimizer.weight_decai=1", mode="export")


def test_keys_without_effect_are_named(sample):
    config = sample.load("Global.log_ranks=0,1", "Optimizer.lr.verbose=True", "Global.print_mem_info=False")
    assert [warning.split(": ")[1:3] for warning in config.warnings] == [
        ["Global.log_ranks", "has no effect"],
        ["Optimizer.lr.verbose", "has no effect"],
    ]


# ---- sections and modes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "needed"),
    [
        ("train", {"Global.epochs", "Loss.Train", "Optimizer", "DataLoader.Train", "DataLoader.Eval", "Metric.Eval"}),
        ("eval", {"DataLoader.Eval", "Metric.Eval"}),
        ("infer", {"Infer.infer_imgs"}),
        ("export", set()),
    ],
)
def test_sections_of_a_mode(sample, mode, needed):
    """Defects 24 and 38: a missing section is named, and export needs neither data nor metric."""

    def keep_the_least(data):
        data["Global"].pop("epochs")
        return {name: data[name] for name in ("Global", "Arch")}

    sample.edit(keep_the_least)
    found = sample.problems(mode=mode)
    assert {problem.split(": ")[1] for problem in found} == needed
    assert all("the key is missing" in problem for problem in found)


def test_training_without_evaluation_needs_no_metric(sample):
    sample.edit(lambda data: {name: value for name, value in data.items() if name != "Metric"})
    assert "Metric.Eval: the key is missing; train with Global.eval_during_train needs it" in sample.problem()
    assert sample.load("Global.eval_during_train=False").Metric is None


def test_a_missing_section_is_named(sample):
    sample.edit(lambda data: {name: value for name, value in data.items() if name != "Arch"})
    assert any("Arch: the key is missing" in problem for problem in sample.problems())


def test_unknown_mode(sample):
    with pytest.raises(ValueError, match="mode must be one of train, eval, infer, export, got 'test'"):
        load_config(sample.path, mode="test")


def test_list_form_of_the_optimizer(sample):
    plain = sample.load()

    def to_list(data):
        optimizer = data["Optimizer"]
        data["Optimizer"] = [{optimizer.pop("name"): {"scope": "all", **optimizer}}]

    sample.edit(to_list)
    assert sample.load() == plain
    assert sample.load("Optimizer.0.AdamW.lr.learning_rate=2e-3").Optimizer.lr.learning_rate == 2e-3
    assert "scope 'backbone' is not supported" in "".join(sample.problems("Optimizer.0.AdamW.scope=backbone"))


def test_two_optimizers_are_refused(sample):
    sample.edit(lambda data: data.update(Optimizer=[{"SGD": {}}, {"SGD": {}}]))
    assert any("a list of 2 optimizers is not supported" in problem for problem in sample.problems())
    assert sample.load(mode="eval").Optimizer is None


def test_class_num_of_global_moves_to_arch(sample):
    sample.edit(lambda data: data["Global"].update(class_num=data["Arch"].pop("class_num")) or data)
    assert sample.load().Arch.class_num == 3
    assert "Arch.class_num is 4; leave Global.class_num out" in "".join(sample.problems("Arch.class_num=4"))


def test_default_k_is_no_more_than_the_classes(sample):
    config = sample.load("Metric.Eval=[{TopkAcc: null}]", "Infer.PostProcess=null", "Infer.PostProcess.name=Topk")
    assert (config.Metric.Eval[0].TopkAcc.topk, config.Infer.PostProcess.topk) == ([1], 3)
    config.save(sample.folder / "saved.yaml")
    assert load_config(sample.folder / "saved.yaml") == config


def test_schedule_without_a_name_is_constant(sample):
    sample.edit(lambda data: data["Optimizer"].update(lr={"learning_rate": 0.1}) or data)
    assert sample.load().Optimizer.lr.name == "Constant"


# ---- saving ----------------------------------------------------------------------------------------------------


def test_saved_file_says_where_each_value_came_from(sample, tmp_path):
    config = sample.load("Optimizer.lr.learning_rate=5e-5", "Metric.Train.0.TopkAcc.topk=[1, 3]")
    config.save(tmp_path / "out" / "config.yaml")
    text = (tmp_path / "out" / "config.yaml").read_text(encoding="utf-8")
    assert f"  epochs: 4  # {sample.path}:4\n" in text
    assert "    learning_rate: 5.0e-05  # command line (-o Optimizer.lr.learning_rate=5e-5)\n" in text
    assert "        topk: [1, 3]  # command line (-o Metric.Train.0.TopkAcc.topk=[1, 3])\n" in text
    assert "  save_interval: 1  # default\n" in text
    values = [line for line in text.splitlines() if not line.split("#")[0].rstrip().endswith(":")]
    assert all("  # " in line for line in values)


@pytest.mark.parametrize("mode", MODES)
def test_saved_file_loads_as_the_same_configuration(sample, tmp_path, mode):
    config = sample.load("Optimizer.no_weight_decay_name=bias 1e-3", "Arch.drop_path_rate=0.1", mode=mode)
    config.save(tmp_path / "saved.yaml")
    again = load_config(tmp_path / "saved.yaml", mode=mode)
    assert again == config and again.to_dict() == config.to_dict()
    assert config != sample.load("Global.epochs=5", mode=mode)


@pytest.mark.parametrize("text", ["1e-3", "None ", "a: b", "# x", "true", "2024-01-01", "two\nlines", "ü", "- x", "''"])
def test_any_string_survives_saving(sample, tmp_path, text):
    config = sample.load()
    config.Optimizer.no_weight_decay_name = text
    config.save(tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml").Optimizer.no_weight_decay_name == text


def test_summary_shows_what_is_not_default(sample):
    lines = sample.load("Global.keep_last=2").summary().splitlines()
    assert lines[0].startswith(f"Global: output_dir={sample.folder}/output device=cpu epochs=4 keep_last=2 ")
    assert "save_interval" not in lines[0] and len(lines) < 30
    assert "Optimizer.lr: name=Cosine learning_rate=0.001 warmup_epoch=1.0 eta_min=1.0e-06" in lines
    assert "Loss.Train.0.CELoss: weight=1.0 epsilon=0.1" in lines
    assert "DataLoader.Train.dataset.transform_ops.1.RandCropImage: size=32" in lines


def test_schema_knows_the_keys_that_are_promised():
    keys = set(all_keys())
    assert {
        "Global.save_interval_steps",
        "Global.keep_last",
        "Global.max_bad_image_ratio",
        "Global.find_unused_parameters",
        "Global.log_grad_norm",
        "Optimizer.clip_global_norm",
        "Optimizer.layerwise_decay",
        "AMP.dtype",
        "EMA.decay",
        "EMA.warmup",
    } <= keys


@pytest.mark.parametrize(
    "value", [[1, {"b": 2}, [3, {"c": 1}], "x"], [[{"b": 1}]], [{}, []], {"a": [1, {"z": [{"y": 2}, 3]}]}, [None, {}]]
)
def test_lists_of_anything_are_written_and_summarised(tmp_path, value):
    """Scalars beside mappings and lists: a configuration that is wrong is still shown whole."""
    data = {"Section": {"key": value}}
    write_yaml(tmp_path / "saved.yaml", data, lambda *path: "file")
    assert yaml.safe_load((tmp_path / "saved.yaml").read_text()) == data
    shown = " ".join(summary_lines(data, lambda *path: "file"))
    assert all(text in shown for text in re.findall(r"\d+|x", str(value)))
