"""Strict loading: everything fits, or nothing is loaded and everything is listed."""

import os
import shlex
import time

import numpy as np
import paddle
import pytest
import torch_writer as writer
from paddle import nn
from safetensors.numpy import load_file, save_file

import ppcls_ext
from ppcls_ext.cli import main
from ppcls_ext.utils.state_dict import state_arrays, unique_tensors
from ppcls_ext.weights.conversion import convert_file
from ppcls_ext.weights.errors import NonFiniteWeightsError, RecordError
from ppcls_ext.weights.expected import arch_of
from ppcls_ext.weights.loading import WeightMismatchError, load_pretrained, load_state


class Small(nn.Layer):
    """An LSTM, a batch norm and a classifier: what names and buffers can do wrong."""

    def __init__(self, class_num=3, width=4):
        super().__init__()
        self.rnn = nn.LSTM(4, 2, direction="bidirect")
        self.norm = nn.BatchNorm1D(width)
        self.proj = nn.Linear(width, width)
        self.head = nn.Linear(width, class_num) if class_num else nn.Identity()
        self.class_num = class_num

    def forward(self, x):
        return self.head(self.proj(self.norm(self.rnn(x)[0].mean(1))))


@pytest.fixture
def saved(tmp_path):
    model = Small()
    paddle.save(model.state_dict(), str(tmp_path / "m.pdparams"))
    return model, tmp_path / "m.pdparams"


@pytest.mark.compat
def test_lstm_tensors_count_once():
    """Paddle lists an LSTM tensor under two names; the state has each once, under PyTorch's name."""
    model = Small()
    names = list(state_arrays(model))
    assert len(model.state_dict()) == len(names) + 8
    assert [name for name in names if "rnn" in name] == [
        f"rnn.{kind}_{part}_l0{suffix}"
        for suffix in ("", "_reverse")
        for kind, part in (("weight", "ih"), ("weight", "hh"), ("bias", "ih"), ("bias", "hh"))
    ]
    assert unique_tensors(model)["rnn.bias_hh_l0_reverse"][1] == ("rnn.bias_hh_l0_reverse", "rnn.0.cell_bw.bias_hh")


@pytest.mark.compat
@pytest.mark.parametrize("names", ["both", "flat", "cell"])
def test_round_trip_under_either_name(names):
    source, target = Small(), Small()
    state = {name: tensor.numpy() for name, tensor in source.state_dict().items()}
    if names == "flat":
        state = state_arrays(source)
    elif names == "cell":
        state = {name: array for name, array in state.items() if "_l0" not in name}
    report = load_state(target, state)
    assert not report.problems() and len(report.loaded) == len(unique_tensors(target))
    x = paddle.randn([2, 5, 4])
    source.eval(), target.eval()
    assert np.array_equal(source(x).numpy(), target(x).numpy())


def test_two_values_for_one_tensor_is_an_error():
    state = {name: tensor.numpy() for name, tensor in Small().state_dict().items()}
    state["rnn.0.cell_fw.bias_ih"] = state["rnn.0.cell_fw.bias_ih"] + 1
    with pytest.raises(WeightMismatchError, match=r"rnn.bias_ih_l0 and rnn.0.cell_fw.bias_ih are one tensor"):
        load_state(Small(), state)


def test_every_difference_is_listed_and_nothing_loaded(saved, tmp_path):
    """Defect 8: missing, unexpected and mis-shaped tensors are errors, all in one message."""
    model, _ = saved
    state = state_arrays(model)
    del state["proj.bias"]
    state["extra.weight"] = np.zeros(2, dtype=np.float32)
    state["norm._mean"] = np.zeros(7, dtype=np.float32)
    paddle.save(state, str(tmp_path / "bad.pdparams"))
    target = Small()
    before = state_arrays(target)
    with pytest.raises(WeightMismatchError) as error:
        load_pretrained(target, tmp_path / "bad")
    text = str(error.value)
    assert "missing in the file: proj.bias" in text and "unexpected in the file: extra.weight" in text
    assert "norm._mean: file has shape [7], model has [4]" in text and "3 of its tensors differ" in text
    assert all(np.array_equal(before[name], array) for name, array in state_arrays(target).items())


@pytest.mark.compat
def test_other_class_count_keeps_the_fresh_classifier(saved, caplog):
    model, path = saved
    target = Small(class_num=10)
    fresh = target.head.weight.numpy()
    with caplog.at_level("INFO", logger="ppcls_ext"):
        report = load_pretrained(target, path)
    assert report.reinitialised["head.weight"] == "file has shape [4, 3], model has [4, 10]"
    assert list(report.reinitialised) == ["head.weight", "head.bias"] and "a different class count" in caplog.text
    assert np.array_equal(target.head.weight.numpy(), fresh)
    assert np.array_equal(target.proj.weight.numpy(), model.proj.weight.numpy())


def test_another_width_is_no_other_class_count(tmp_path):
    """A layer that differs in more than the class dimension is no classifier, even if its width is class_num."""
    paddle.save(Small(class_num=3, width=4).state_dict(), str(tmp_path / "m.pdparams"))
    with pytest.raises(WeightMismatchError, match=r"proj.weight: file has shape \[4, 4\], model has \[6, 6\]"):
        load_pretrained(Small(class_num=6, width=6), tmp_path / "m")


def test_model_without_classifier_leaves_the_files_out(saved, caplog):
    _, path = saved
    with caplog.at_level("WARNING", logger="ppcls_ext"):
        report = load_pretrained(Small(class_num=0), path)
    assert sorted(report.left_out) == ["head.bias", "head.weight"] and "class_num is 0" in caplog.text


@pytest.mark.compat
def test_a_file_without_classifier(tmp_path, caplog):
    """What ``--backbone-only`` writes: the classifier stays fresh, and the model remembers that it is."""
    model, target = Small(class_num=0), Small(class_num=7)
    paddle.save(model.state_dict(), str(tmp_path / "m.pdparams"))
    fresh = target.head.weight.numpy()
    with caplog.at_level("WARNING", logger="ppcls_ext"):
        report = load_pretrained(target, tmp_path / "m")
    assert (
        list(report.reinitialised) == ["head.weight", "head.bias"] and "has no classifier: head.weight" in caplog.text
    )
    assert target.fresh_tensors["head.bias"] == "missing in the file" and np.array_equal(
        target.head.weight.numpy(), fresh
    )
    assert np.array_equal(target.proj.weight.numpy(), model.proj.weight.numpy())
    paddle.save(Small(class_num=7).state_dict(), str(tmp_path / "whole.pdparams"))
    load_pretrained(target, tmp_path / "whole")
    assert target.fresh_tensors == {}


def test_a_missing_layer_of_another_width_is_no_classifier(tmp_path):
    state = state_arrays(Small(class_num=7))
    del state["proj.weight"], state["proj.bias"]
    paddle.save(state, str(tmp_path / "m.pdparams"))
    with pytest.raises(WeightMismatchError, match="missing in the file: proj.weight"):
        load_pretrained(Small(class_num=7), tmp_path / "m")


def test_a_safetensors_file_of_ours(saved, tmp_path):
    model, _ = saved
    save_file(state_arrays(model), tmp_path / "s.safetensors", metadata={"format": "pd"})
    target = Small()
    load_pretrained(target, tmp_path / "s")
    assert all(np.array_equal(array, state_arrays(target)[name]) for name, array in state_arrays(model).items())


@pytest.mark.compat
@pytest.mark.parametrize(
    ("wrap", "line"),
    [
        (lambda state: {f"module.{name}": array for name, array in state.items()}, "without the prefix 'module.'"),
        (lambda state: {"model": state, "epoch": 3}, "taken under 'model'"),
        (lambda state: {"net": {f"module.{name}": array for name, array in state.items()}}, "under 'net' and without"),
    ],
    ids=["prefix", "beside an epoch", "both"],
)
def test_what_training_scripts_save_around_weights(saved, tmp_path, caplog, wrap, line):
    """Read as it is, with a line in the log."""
    model, _ = saved
    paddle.save(wrap(state_arrays(model)), str(tmp_path / "w.pdparams"))
    target = Small()
    with caplog.at_level("INFO", logger="ppcls_ext"):
        load_pretrained(target, tmp_path / "w")
    assert all(np.array_equal(array, state_arrays(target)[name]) for name, array in state_arrays(model).items())
    assert line in caplog.text and ("also holds epoch, which are not read" in caplog.text) is ("model" in line)


# ---- files that have to be converted: the command in the error is the one that works ------------------------------

SEQUENCER = {"depths": [1], "patch_sizes": [4], "embed_dims": [8], "hidden_sizes": [2], "mlp_ratios": [1.0]}


def sequencer(**arguments):
    model = ppcls_ext.create_backbone("Sequencer2D", **{"img_size": 16, "class_num": 3, **SEQUENCER, **arguments})
    for parameter in model.parameters():
        parameter.set_value(paddle.randn(parameter.shape))
    return model


def published(model, path, **options):
    """Write the weights of a model with timm's names."""
    paddle.save(model.state_dict(), str(path.with_name("own.pdparams")))
    arguments = {key: value for key, value in model.config().items() if key != "class_num"}
    own = path.with_name("own.pdparams")
    convert_file("Sequencer2D", own, path, to="torch", source="timm", arguments=arguments)
    own.unlink()


def run_advised(error):
    """Run the command that an error advises, as printed, and return the path of its result."""
    command = str(error.value).partition("convert it: ")[2].partition("\n")[0]
    program, *words = shlex.split(command)
    assert program == "ppcls_ext" and main(words) == 0
    return words[words.index("--dst") + 1]


@pytest.mark.parametrize(
    ("file", "model"),
    [({}, {}), ({}, {"class_num": 7}), ({}, {"in_channels": 1, "activation": "relu"}), ({"in_channels": 4},) * 2],
    ids=["same", "classes", "arguments of the config", "channels"],
)
def test_the_advised_command_converts_what_the_model_takes(tmp_path, file, model):
    shared = {"activation": model.get("activation", "gelu")}
    source, target = sequencer(**file, **shared), sequencer(**{**model, **shared})
    published(source, tmp_path / "it is.safetensors")
    with pytest.raises(WeightMismatchError, match=r"is a file of the format safetensors, not one of") as error:
        load_pretrained(target, tmp_path / "it is.safetensors")
    load_pretrained(target, run_advised(error))
    assert np.array_equal(target.norm.weight.numpy(), source.norm.weight.numpy())
    assert np.array_equal(*(m.stages[0].blocks[0].mlp_channels.fc1.weight.numpy() for m in (source, target)))


def test_other_names_in_a_file_of_paddle(tmp_path):
    """PaddleClas's file for the model of the same name, and a moving average beside the weights."""
    theirs = load_file(_timm_file(tmp_path))
    ours = sequencer()
    swapped = {key: np.ascontiguousarray(array) for key, array in theirs.items()}
    for choice in ({"model": swapped}, {"model": swapped, "model_ema": swapped}):
        writer.write_zip(tmp_path / "c.pth", *_torch(choice))
        with pytest.raises(WeightMismatchError, match="convert it: ppcls_ext convert --arch Sequencer2D") as error:
            load_pretrained(ours, tmp_path / "c.pth")
        assert ("--no-ema" in str(error.value)) is ("model_ema" in choice)
        load_pretrained(ours, run_advised(error))
        assert np.array_equal(ours.stem.proj.bias.numpy(), theirs["stem.proj.bias"])


def _timm_file(folder):
    published(sequencer(), folder / "timm.safetensors")
    return folder / "timm.safetensors"


def _torch(groups):
    tree, storages = {}, {}
    for group, state in groups.items():
        named, bytes_of = writer.state(state)
        tree[group], storages = named, {**storages, **bytes_of}
    return tree, storages


def test_no_command_where_none_would_work(saved, tmp_path):
    model, _ = saved
    save_file(state_arrays(model), tmp_path / "pt.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightMismatchError, match=r"pt\.safetensors is a file of the format safetensors, not one of"):
        load_pretrained(Small(), tmp_path / "pt.safetensors")
    with pytest.raises(WeightMismatchError, match="nor can it be converted for Sequencer2D: its keys .* fit no source"):
        load_pretrained(sequencer(), tmp_path / "pt.safetensors")
    paddle.save({f"network.{i}.weight": np.zeros(1) for i in range(50)}, str(tmp_path / "other.pdparams"))
    with pytest.raises(WeightMismatchError, match="nor can it be converted for Sequencer2D: its keys .* fit no source"):
        load_pretrained(sequencer(), tmp_path / "other")


# ---- weights that mean nothing, records that say nothing -----------------------------------------------------------


@pytest.mark.compat
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_of_a_run_that_diverged(saved, tmp_path, bad):
    state = state_arrays(saved[0])
    state["proj.weight"][1, 2] = state["norm._variance"][0] = bad
    paddle.save(state, str(tmp_path / "bad.pdparams"))
    target = Small()
    before = state_arrays(target)
    with pytest.raises(NonFiniteWeightsError, match=r"2 of its 16 tensors hold NaN or infinity") as error:
        load_pretrained(target, tmp_path / "bad")
    assert "\n  norm._variance" in str(error.value) and "\n  proj.weight" in str(error.value)
    assert all(np.array_equal(before[name], array) for name, array in state_arrays(target).items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"needs": {"form": Infinity}}', "is not valid JSON: it holds Infinity"),
        (b'{"needs": {"width": 1180591620717411303424}}', "beyond 64 bits"),
        (b'{"needs": [1, 2]}', "needs is a list; expected constructor arguments by name"),
        (b'{"needs": {}, "licence": 3}', "licence is a int; expected text"),
        (b'{"needs": {}, "class_num": "ten"}', "class_num is a str; expected a number of classes"),
        (b'{"needs": "\xff"}', "is not UTF-8"),
        (b'{"needs": ' + b"[" * 100_000, "nests deeper than 64 levels"),
        (b" " * (2 << 20), "more than 1,048,576 bytes"),
        (None, "is a named pipe; expected a regular file"),
    ],
    ids=["infinity", "huge", "list", "licence", "classes", "encoding", "depth", "size", "pipe"],
)
@pytest.mark.parametrize("name", ["m.pdparams.json", "m.manifest.json"])
def test_a_damaged_record_is_named(saved, content, message, name):
    """It says which model the weights belong to: without it, the same tensors might be a different model's."""
    if name == "m.manifest.json" and content is not None:
        content = content.replace(b"needs", b"arguments")
        message = message.replace("needs", "arguments")
    record = saved[1].with_name(name)
    os.mkfifo(record) if content is None else record.write_bytes(content)
    start = time.process_time()
    with pytest.raises(RecordError, match=f"{name}.*{message}"):
        load_pretrained(Small(), saved[1])
    assert time.process_time() - start < 1


@pytest.mark.parametrize("content", ["[]", "3", '{"other": "program"}'])
def test_json_of_another_program_says_nothing(saved, content):
    saved[1].with_name("m.pdparams.json").write_text(content)
    load_pretrained(Small(), saved[1])


def test_the_variant_that_a_model_is():
    assert arch_of(ppcls_ext.create_backbone("Sequence_2d", class_num=3, img_size=56)) == "Sequence_2d"
    assert arch_of(ppcls_ext.create_backbone("Sequencer2D_S", depths=[1, 1, 1, 1])) == "Sequencer2D"
    assert arch_of(Small()) is None
