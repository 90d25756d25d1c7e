"""Conversion: every tensor accounted for, the right way round, and recorded."""

import hashlib
import json
import logging
import re

import checkpoints
import compare
import numpy as np
import paddle
import pytest
import rule
import torch_writer as writer
from families import FAMILIES
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import ppcls_ext
from ppcls_ext.cli import main
from ppcls_ext.utils.key_rules import Rule, Source, Structure, Transform
from ppcls_ext.utils.state_dict import state_arrays
from ppcls_ext.weights import conversion
from ppcls_ext.weights.conversion import convert_file, record_path
from ppcls_ext.weights.errors import ConversionError
from ppcls_ext.weights.expected import Target, TensorSpec, describe, target_of, variant_with_depths
from ppcls_ext.weights.loading import WeightMismatchError, load_pretrained
from ppcls_ext.weights.remap import fill, publish, rename

SMALL = {"class_num": 5, "depths": [1, 2], "patch_sizes": [4, 2], "embed_dims": [8, 8], "hidden_sizes": [2, 2]}
SMALL["mlp_ratios"] = [1.0, 1.0]
ARGUMENTS = {key: value for key, value in SMALL.items() if key != "class_num"}
LINEAR = re.compile(r".*(\.fc|\.fc1|\.fc2|^head)\.weight")


def small(**arguments):
    paddle.seed(5)
    model = ppcls_ext.create_backbone("Sequencer2D", img_size=16, **{**SMALL, **arguments})
    if model.class_num:
        model.head.weight.set_value(paddle.randn(model.head.weight.shape))  # the official head starts at zero
    model.eval()
    return model


def official(model, depths=(1, 2)) -> dict:
    """Return the model's state as the official code would hold it, by hand."""
    state = {}
    for name, array in state_arrays(model).items():
        if LINEAR.fullmatch(name):
            array = np.ascontiguousarray(array.T)
        if match := re.fullmatch(r"stages\.(\d)\.downsample\.(.+)", name):
            stage = int(match[1]) - 1
            name = f"blocks.{stage}.{depths[stage]}.{match[2]}"
        state[re.sub(r"^stages\.(\d)\.blocks\.", r"blocks.\1.", name)] = array
    return state


def images(channels=3):
    return paddle.to_tensor(rule.unit("small images", (2, channels, 16, 16)))


def convert(tmp_path, state, dst="out.pdparams", **options):
    checkpoints.write_torch(tmp_path / "in.pth", state)
    return convert_file("Sequencer2D", tmp_path / "in.pth", tmp_path / dst, **{"arguments": ARGUMENTS, **options})


# ---- against the golden files ------------------------------------------------------------------------------------

#: list of keys: (smallest variant, how its file is written)
GOLDEN = {name: how for row in FAMILIES.values() for name, how in row.converted.items()}


@pytest.mark.sampled
@pytest.mark.parametrize("name", GOLDEN)
def test_logits_of_a_converted_checkpoint(tmp_path, name):
    """The published source, filled by the rule, gives the logits that the reference gives with the same numbers.

    Many of the matrices are square, so that no shape could tell a wrong transpose. And back it is what it was.
    """
    arch, how = GOLDEN[name]
    state = checkpoints.checkpoint(checkpoints.keys(name)[arch], in_out="paddle" in how)
    if "paddle" in how:
        paddle.save(state, str(tmp_path / "in.pth"))
    else:
        checkpoints.write_torch(tmp_path / "in.pth", state, **how)
    record = convert_file(arch, tmp_path / "in.pth", tmp_path / "out.pdparams")
    assert record.tensors + len(record.dropped) == len(state) and not record.adaptation
    model = ppcls_ext.create_backbone(f"ppcls_ext.{arch}", pretrained=str(tmp_path / "out"))
    model.eval()
    spec = ppcls_ext.registry.get_spec(arch)
    golden = np.load(compare.FOLDERS[spec.family] / f"{arch}.npz")
    with paddle.no_grad():
        logits = model(paddle.to_tensor(rule.images(spec.preprocessing.input_size[1]))).numpy()
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=2e-5)
    if "paddle" not in how:
        back = tmp_path / "back.safetensors"
        convert_file(arch, tmp_path / "out.pdparams", back, source=record.layout, to="torch")
        found = load_file(back)
        assert set(found) == set(state) - set(record.dropped)
        assert all(np.array_equal(array, state[key]) for key, array in found.items())


# ---- names and orientation ---------------------------------------------------------------------------------------


@pytest.mark.compat
def test_square_matrices_are_turned_where_the_layer_is_linear(tmp_path):
    source, target = small(), small()
    convert(tmp_path, official(source))
    for parameter in target.parameters():
        parameter.set_value(paddle.zeros_like(parameter))
    report = load_pretrained(target, tmp_path / "out")
    assert len(report.loaded) == len(state_arrays(target))
    assert np.array_equal(source(images()).numpy(), target(images()).numpy())
    square = "stages.0.blocks.0.rnn_tokens"
    converted = state_arrays(target)
    assert converted[f"{square}.fc.weight"].shape == converted[f"{square}.rnn_v.weight_ih_l0"].shape == (8, 8)


@pytest.mark.compat
def test_the_result_is_an_ordinary_paddle_file(tmp_path):
    source, target = small(), small()
    convert(tmp_path, official(source))
    target.head.weight.set_value(paddle.zeros([8, 5]))
    target.set_state_dict(paddle.load(str(tmp_path / "out.pdparams")))
    assert np.array_equal(source(images()).numpy(), target(images()).numpy())


@pytest.mark.compat
@pytest.mark.parametrize("source", ["sequencer", "timm"])
def test_back_to_torch_bit_for_bit(tmp_path, source):
    state = official(small())
    convert(tmp_path, state, "ours.safetensors")
    back = tmp_path / "back.safetensors"
    record = convert_file(
        "Sequencer2D", tmp_path / "ours.safetensors", back, source=source, to="torch", arguments=ARGUMENTS
    )
    assert (record.layout, record.to, record.source["format"]) == (source, "torch", "safetensors")
    with safe_open(str(back), framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
    found = load_file(back)
    if source == "sequencer":
        assert set(found) == set(state) and all(np.array_equal(found[key], state[key]) for key in state)
    else:
        assert np.array_equal(found["head.fc.weight"], state["head.weight"])
        assert np.array_equal(found["stages.1.downsample.down.weight"], state["blocks.0.1.down.weight"])
    again = convert_file("Sequencer2D", back, tmp_path / "again.safetensors", arguments=ARGUMENTS)
    assert again.layout == source
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "ours.safetensors").read_bytes()


@pytest.mark.parametrize("orientation", ["torch", "paddle"])
def test_a_linear_layer_and_a_1x1_convolution_are_one_thing(orientation):
    """Whatever the source has, the model's layer decides; the numbers are those of ``y = W x``."""
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)  # [out, in]
    forms = {"linear": matrix if orientation == "torch" else matrix.T, "convolution": matrix[:, :, None, None]}
    specs = {
        "linear": TensorSpec((3, 2), np.dtype("float32"), True),
        "convolution": TensorSpec((2, 3, 1, 1), np.dtype("float32"), False),
    }
    source = Source("toy", "a toy", (Rule("{rest}", "{rest}"),), orientation)
    for spec in specs.values():
        target = Target({"w": spec}, {}, Structure((), (), {}))
        for array in forms.values():
            arrays, _ = fill(rename({"w": array}, source, target), target, source)
            assert np.array_equal(arrays["w"], matrix.T if spec.linear else matrix[:, :, None, None])


def test_scalars_stay_scalars():
    target = Target({"scale": TensorSpec((), np.dtype("float32"), False)}, {}, Structure((), (), {}))
    source = Source("toy", "a toy", (Rule("{rest}", "{rest}"),))
    arrays, _ = fill(rename({"scale": np.array(2.0)}, source, target), target, source)
    assert arrays["scale"].shape == () == publish(arrays, target, source)["scale"].shape


def test_a_source_without_a_way_back(tmp_path):
    """Only read, or without a name for a tensor: that is an error, which lists the tensors."""
    rules = (Rule("a.{rest}", "stem.{rest}", Transform(lambda arrays: arrays[0])), Rule("b.{rest}", "norm.{rest}"))
    target = target_of(small(class_num=0))
    with pytest.raises(ConversionError) as error:
        publish(state_arrays(small(class_num=0)), target, Source("toy", "a toy", rules))
    assert "no way back to the toy source: stem.proj.weight" in str(error.value)
    assert "no way back to the toy source: stages.1.downsample.down.bias" in str(error.value)
    assert ": norm.weight" not in str(error.value)


@pytest.mark.parametrize(("kind", "exact"), [("float16", False), ("float64", True)])
def test_other_types_become_the_models(tmp_path, kind, exact):
    source, target = small(), small()
    record = convert(tmp_path, {key: array.astype(kind) for key, array in official(source).items()})
    assert record.types == {kind: record.tensors}
    load_pretrained(target, tmp_path / "out")
    np.testing.assert_allclose(target(images()).numpy(), source(images()).numpy(), atol=0 if exact else 2e-3)


def test_our_own_file_in_another_container(tmp_path):
    """A file of ``paddle.save(model.state_dict())`` has every LSTM tensor twice; the result has each once."""
    source, target = small(), small()
    paddle.save(source.state_dict(), str(tmp_path / "in.pdparams"))
    record = convert_file("Sequencer2D", tmp_path / "in.pdparams", tmp_path / "o.safetensors", arguments=ARGUMENTS)
    assert (record.layout, record.tensors) == ("ppcls_ext", len(state_arrays(source)))
    target.head.weight.set_value(paddle.zeros([8, 5]))
    load_pretrained(target, tmp_path / "o")
    assert np.array_equal(source(images()).numpy(), target(images()).numpy())


# ---- what does not fit -------------------------------------------------------------------------------------------


def test_every_difference_is_in_one_message(tmp_path):
    state = official(small())
    del state["blocks.0.0.norm1.bias"], state["blocks.0.1.down.bias"]
    state["blocks.1.0.extra.weight"] = state["unheard.of"] = np.zeros(2, np.float32)
    state["norm.weight"] = np.zeros(7, np.float32)
    state["norm.bias"] = np.zeros(8, np.int64)
    with pytest.raises(ConversionError) as error:
        convert(tmp_path, state)
    text = str(error.value)
    assert "in.pth does not fit Sequencer2D: 6 tensors differ" in text
    for line in (
        "missing in the file: blocks.0.0.norm1.bias (here stages.0.blocks.0.norm1.bias)",
        "missing in the file: blocks.0.1.down.bias (here stages.1.downsample.down.bias)",
        "unexpected in the file: blocks.1.0.extra.weight (here stages.1.blocks.0.extra.weight)",
        "unknown in the sequencer source: unheard.of",
        "norm.weight: file has shape [7], which does not give [8]",
        "norm.bias: file has int64, model has float32",
    ):
        assert line in text
    assert not (tmp_path / "out.pdparams").exists() and not record_path(tmp_path / "out.pdparams").exists()


def test_two_keys_for_one_tensor_is_an_error(tmp_path):
    model = small()
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    state["stages.0.blocks.0.rnn_tokens.rnn_v.0.cell_fw.bias_ih"] += 1
    paddle.save(state, str(tmp_path / "in.pdparams"))
    with pytest.raises(ConversionError, match=r"bias_ih_l0 and .*cell_fw\.bias_ih: 2 tensors for .*takes 1"):
        convert_file("Sequencer2D", tmp_path / "in.pdparams", tmp_path / "out.pdparams", arguments=ARGUMENTS)


def test_keys_of_another_family(tmp_path):
    with pytest.raises(ConversionError, match=r"its keys \(conv1\.weight, .* fit no source of Sequencer"):
        convert(tmp_path, {f"conv{i}.weight": np.zeros(2, np.float32) for i in range(1, 9)})


def test_a_source_that_only_the_user_can_know(tmp_path):
    """Without the classifier, timm's names are ours; only the orientation differs, and square weights hide it."""
    model = small(class_num=0)
    ours = state_arrays(model)
    timm = {name: np.ascontiguousarray(a.T) if LINEAR.fullmatch(name) else a for name, a in ours.items()}
    save_file(timm, tmp_path / "in.safetensors")
    with pytest.raises(ConversionError, match="choose one by --source timm or --source ppcls_ext"):
        convert_file("Sequencer2D", tmp_path / "in.safetensors", tmp_path / "out.pdparams", arguments=ARGUMENTS)
    for source, state in (("timm", timm), ("ppcls_ext", ours)):
        save_file(state, tmp_path / "in.safetensors")
        convert_file(
            "Sequencer2D", tmp_path / "in.safetensors", tmp_path / "o.safetensors", source, arguments=ARGUMENTS
        )
        assert all(np.array_equal(array, ours[name]) for name, array in load_file(tmp_path / "o.safetensors").items())


def test_a_source_that_the_family_does_not_have(tmp_path):
    with pytest.raises(ConversionError, match=r"no source 'tim'; it has sequencer, timm, ppcls_ext; did you mean timm"):
        convert(tmp_path, official(small()), source="tim")


# ---- depths, classes, subsets ------------------------------------------------------------------------------------


def test_depths_are_read_from_the_file(tmp_path, caplog):
    """Where the name has others, the file's count, and log and record say what to build."""
    four = {**{key: [value[0]] * 4 for key, value in ARGUMENTS.items()}, "patch_sizes": [4, 1, 1, 1]}
    four["depths"] = [2, 1, 3, 1]
    source, target = small(**four), small(**four)
    del four["depths"]
    with caplog.at_level(logging.WARNING, logger="ppcls_ext"):
        record = convert(tmp_path, official(source, (2, 1, 3, 1)), arguments=four)
    sentence = (
        "the file has depths [2, 1, 3, 1], Sequencer2D has [4, 3, 8, 3]: build the model with depths=[2, 1, 3, 1]"
    )
    assert record.depths == record.arguments["depths"] == [2, 1, 3, 1] and record.adaptation == [sentence]
    assert sentence in caplog.text
    with pytest.raises(
        WeightMismatchError, match=r"those of the model \[4, 3, 8, 3\]: build it with depths=\[2, 1, 3, 1\]"
    ):
        load_pretrained(small(**four, depths=[4, 3, 8, 3]), tmp_path / "out")
    load_pretrained(target, tmp_path / "out")
    assert np.array_equal(source(images()).numpy(), target(images()).numpy())


def test_the_model_is_built_once_and_again_only_for_a_different_one(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(conversion, "describe", lambda *given: built.append(given) or describe(*given))
    convert(tmp_path, official(small()), arguments={**ARGUMENTS, "class_num": 5})
    assert len(built) == 1
    convert(tmp_path, official(small(class_num=7)))  # the name has 1,000 classes
    assert len(built) == 3


def test_a_file_of_another_variant_is_named():
    assert variant_with_depths("Sequencer2D_S", (4, 3, 14, 3)) == "Sequencer2D_M"
    assert variant_with_depths("Sequencer2D_S", (4, 3, 9, 3)) is None
    assert variant_with_depths("Sequencer2D_S_add", (4, 3, 14, 3)) is None
    assert variant_with_depths("DilateFormer_Tiny", (3, 5, 8, 3)) == "DilateFormer_Small"
    assert variant_with_depths("DilateFormer_Base", (2, 2, 18, 2)) is None  # what the published file is said to have


def test_another_number_of_stages_is_an_error(tmp_path):
    arguments = {**ARGUMENTS, "depths": [1], **{key: ARGUMENTS[key][:1] for key in ARGUMENTS if key != "depths"}}
    with pytest.raises(ConversionError, match=r"its depths are \[1, 2\], those of the model are \[1\]"):
        convert(tmp_path, official(small()), arguments=arguments)


@pytest.mark.parametrize(
    ("options", "why"),
    [({"backbone_only": True}, "only the backbone was asked for"), ({"class_num": 7}, "it has 5 classes, not 7")],
)
def test_the_classifier_can_be_left_out(tmp_path, options, why):
    source, target = small(), small(class_num=0)
    record = convert(tmp_path, official(source), **options)
    assert record.adaptation == [f"the classifier (head.weight, head.bias) is left out: {why}"]
    assert record.class_num == 0 and record.tensors == len(state_arrays(target))
    load_pretrained(target, tmp_path / "out")
    features = source.forward_head(source.forward_features(images()), pre_logits=True)
    assert np.array_equal(features.numpy(), target(images()).numpy())


def test_the_class_count_is_the_files(tmp_path):
    assert convert(tmp_path, official(small(class_num=9))).class_num == 9
    assert convert(tmp_path, official(small(class_num=9)), class_num=9).adaptation == []
    record = convert(tmp_path, official(small(class_num=0)))
    assert record.class_num == 0 and record.adaptation == ["the file has no classifier"]


def test_constructor_arguments(tmp_path):
    record = convert(tmp_path, official(small(in_channels=1)), arguments={**ARGUMENTS, "in_channels": 1})
    assert record.arguments["in_channels"] == 1
    with pytest.raises(ConversionError, match=r"stem\.proj\.weight: file has shape \[8, 1, 4, 4\]"):
        convert(tmp_path, official(small(in_channels=1)))


# ---- record, files, command line ---------------------------------------------------------------------------------


@pytest.mark.compat
def test_the_record(tmp_path):
    state = official(small())
    checkpoints.write_torch(tmp_path / "in.pth", state, wrapper="state_dict", prefix="module.", legacy=True)
    record = convert_file("ppcls_ext.Sequencer2D", tmp_path / "in.pth", tmp_path / "o.pdparams", arguments=ARGUMENTS)
    written = json.loads((tmp_path / "o.pdparams.json").read_text())
    assert written == json.loads(record.text()) and list(tmp_path.glob("*.tmp")) == []
    source = (tmp_path / "in.pth").read_bytes()
    assert written["source"] == {
        "file": "in.pth",
        "bytes": len(source),
        "sha256": hashlib.sha256(source).hexdigest(),
        "format": "torch (legacy)",
        "wrapper": "state_dict",
        "prefix": "module.",
        "skipped": [],
    }
    assert (written["arch"], written["family"], written["layout"]) == ("Sequencer2D", "Sequencer", "sequencer")
    assert written["tensors"] == len(state) and written["depths"] == [1, 2] and written["class_num"] == 5
    assert written["versions"]["paddle"] == paddle.__version__
    assert written["result"]["sha256"] == hashlib.sha256((tmp_path / "o.pdparams").read_bytes()).hexdigest()


def test_the_licence_of_published_weights(tmp_path):
    from ppcls_ext.weights.conversion import _licence

    assert _licence("Sequencer2D_S", "sequencer").startswith("Apache-2.0")
    assert _licence("Sequencer2D", "sequencer") == "not known here: that of whoever published the file"


def test_the_same_source_gives_the_same_bytes(tmp_path):
    first, second = (convert(tmp_path, official(small()), name) for name in ("a.pdparams", "b.pdparams"))
    assert first.result["sha256"] == second.result["sha256"]


def test_random_states_stay(tmp_path):
    """``pretrained=True`` converts on the way: a seeded run must not depend on whether it did."""
    state = official(small())
    paddle.seed(11)
    expected = paddle.randn([4]).numpy()
    paddle.seed(11)
    convert(tmp_path, state)
    assert np.array_equal(paddle.randn([4]).numpy(), expected)


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "out.pdparams").write_bytes(b"old")

    def fail(_state, path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(paddle, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        convert(tmp_path, official(small()))
    assert (tmp_path / "out.pdparams").read_bytes() == b"old" and list(tmp_path.glob("*.tmp")) == []


@pytest.mark.parametrize(
    ("dst", "options", "error", "message"),
    [
        ("o.pth", {}, ValueError, r"must end in \.pdparams or \.safetensors"),
        ("o.pdparams", {"to": "torch"}, ValueError, r"must end in \.safetensors with --to torch"),
        ("o.safetensors", {"to": "torch", "source": "ppcls_ext"}, ValueError, "is Paddle's"),
        ("no/o.pdparams", {}, FileNotFoundError, "there is no folder"),
        ("o.pdparams", {"to": "onnx"}, ValueError, "to must be paddle or torch"),
    ],
)
def test_wrong_arguments(tmp_path, dst, options, error, message):
    with pytest.raises(error, match=message):
        convert(tmp_path, official(small()), dst, **options)


def test_the_source_is_not_overwritten(tmp_path):
    paddle.save(small().state_dict(), str(tmp_path / "in.pdparams"))
    with pytest.raises(ValueError, match="is the source itself"):
        convert_file("Sequencer2D", tmp_path / "in.pdparams", tmp_path / "in.pdparams", arguments=ARGUMENTS)


def test_command_line(tmp_path, capsys):
    checkpoints.write_torch(tmp_path / "in.pth", official(small()))
    command = ["convert", "--arch", "Sequencer2D", "--src", str(tmp_path / "in.pth")]
    given = [f"{key}={value}" for key, value in ARGUMENTS.items()]
    assert main([*command, "--dst", str(tmp_path / "out.pdparams"), "--class_num", "7", "-o", *given]) == 0
    shown = capsys.readouterr().out
    assert "source sequencer (okojoalg/sequencer, PyTorch), torch (zip)" in shown
    assert "is left out: it has 5 classes, not 7" in shown and "licence of the weights: not known here" in shown
    assert main([*command, "--dst", str(tmp_path / "out.pdparams"), "-o", "depths"]) == 2
    assert "-o depths: expected KEY=VALUE" in capsys.readouterr().err
    assert main(["convert", "--arch", "Sequencer2D_X", *command[3:], "--dst", str(tmp_path / "out.pdparams")]) == 2
    assert "unknown backbone 'Sequencer2D_X'; did you mean Sequencer2D" in capsys.readouterr().err
    writer.write_zip(tmp_path / "in.pth", {"w": writer.Call(writer.Global("os", "system"), "ls")}, {})
    assert main([*command, "--dst", str(tmp_path / "out.pdparams")]) == 1
    assert "in.pth is refused: it asks for os.system, which is not data" in capsys.readouterr().err
