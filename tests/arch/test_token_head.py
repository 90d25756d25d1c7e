"""ViP and DilateFormer with a classifier of their tokens."""

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file

import ppcls_ext
from ppcls_ext.weights.conversion import convert_file
from ppcls_ext.weights.loading import WeightMismatchError, load_pretrained

SMALL = {
    "DilateFormer": {
        "img_size": 32,
        "depths": [1, 1],
        "embed_dim": 12,
        "num_heads": [3, 3],
        "dilate_attention": [True, False],
    },
    "VisionPermutator": {
        "img_size": 28,
        "depths": [1, 1],
        "patch_size": 7,
        "embed_dims": [8, 16],
        "segments": [4, 2],
        "transitions": [True],
        "mlp_ratios": [3, 3],
    },
}
TOKENS = {"DilateFormer": (4, 4), "VisionPermutator": (2, 2)}
NAMES = list(SMALL)


def build(name, **arguments):
    paddle.seed(0)
    return ppcls_ext.create_backbone(name, class_num=5, **{**SMALL[name], **arguments})


def images(name, count=2):
    side = SMALL[name]["img_size"]
    return paddle.to_tensor(np.random.default_rng(0).normal(size=(count, 3, side, side)).astype(np.float32))


@pytest.mark.compat
@pytest.mark.parametrize("name", NAMES)
def test_what_training_and_evaluation_return(name):
    model, x = build(name, token_label=True), images(name)
    model.aux_head.weight.set_value(model.aux_head.weight * 50)
    output = model(x)
    rows, columns = TOKENS[name]
    assert set(output) == {"logits", "token_logits"}
    assert output["logits"].shape == [2, 5] and output["token_logits"].shape == [2, rows * columns, 5]
    model.eval()
    features = model.forward_features(x).numpy()
    assert features.shape[:3] == (2, rows, columns)
    logits = features.mean(axis=(1, 2)) @ model.head.weight.numpy() + model.head.bias.numpy()
    tokens = features @ model.aux_head.weight.numpy() + model.aux_head.bias.numpy()
    expected = logits + 0.5 * tokens.max(axis=(1, 2))
    np.testing.assert_allclose(model(x).numpy(), expected, rtol=1e-4, atol=1e-5)
    # Row by row: the second token is to the right of the first.
    model.train()
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer.eval()
    second = model(x)["token_logits"].numpy()[:, 1]
    np.testing.assert_allclose(second, tokens[:, 0, 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_rest_of_the_model_is_what_it_was(name):
    plain, labelled = build(name), build(name, token_label=True)
    extra = set(labelled.state_dict()) - set(plain.state_dict())
    assert extra == {"aux_head.weight", "aux_head.bias"} and not set(plain.state_dict()) - set(labelled.state_dict())
    plain.eval(), labelled.eval()
    x = images(name)
    np.testing.assert_array_equal(plain.forward_features(x).numpy(), labelled.forward_features(x).numpy())
    assert dict(labelled.layer_groups())["tail"][-2:] == ["aux_head.weight", "aux_head.bias"]
    assert "aux_head.bias" in labelled.no_weight_decay()


@pytest.mark.parametrize("name", NAMES)
def test_classifiers_change_together(name):
    model = build(name, token_label=True)
    model.reset_head(3)
    assert model(images(name))["token_logits"].shape[-1] == 3
    model.reset_head(0)
    assert model(images(name)).shape == [2, model.num_features]
    again = type(model)(**build(name, token_label=True).config())
    assert again.token_label and "aux_head.weight" in again.state_dict()
    with pytest.raises(TypeError, match="token_label must be True or False"):
        build(name, token_label="yes")


@pytest.mark.sampled
@pytest.mark.parametrize("name", NAMES)
def test_an_exported_graph_has_one_output(name, tmp_path):
    model = build(name, token_label=True)
    model.eval()
    expected = model(images(name)).numpy()
    side = SMALL[name]["img_size"]
    spec = [paddle.static.InputSpec([None, 3, side, side], "float32")]
    static = paddle.jit.to_static(model, input_spec=spec, full_graph=True)
    paddle.jit.save(static, str(tmp_path / "model"))
    found = paddle.jit.load(str(tmp_path / "model"))(images(name)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("name", NAMES)
def test_weights_with_a_classifier_of_tokens_convert_there_and_back(name, tmp_path):
    """``aux_head`` is its name in the official code of token labelling, and PyTorch's linear layers are turned."""
    model = build(name, token_label=True)
    model.aux_head.weight.set_value(model.aux_head.weight + 1)
    paddle.save(model.state_dict(), str(tmp_path / "ours.pdparams"))
    arguments = {**SMALL[name], "token_label": True}
    convert_file(
        arch=name,
        src=tmp_path / "ours.pdparams",
        dst=tmp_path / "theirs.safetensors",
        to="torch",
        class_num=5,
        arguments=arguments,
    )
    theirs = load_file(str(tmp_path / "theirs.safetensors"))
    np.testing.assert_array_equal(theirs["aux_head.weight"], model.aux_head.weight.numpy().T)
    convert_file(
        arch=name, src=tmp_path / "theirs.safetensors", dst=tmp_path / "back.pdparams", class_num=5, arguments=arguments
    )
    other = build(name, token_label=True)
    load_pretrained(other, tmp_path / "back.pdparams")
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[key].numpy(), value.numpy())


@pytest.mark.parametrize("name", NAMES)
def test_weights_without_one_begin_token_labelling(name, tmp_path):
    """Fine-tuning: everything is loaded but the classifier that the file lacks; the other way round is refused."""
    plain = build(name)
    paddle.save(plain.state_dict(), str(tmp_path / "plain.pdparams"))
    labelled = build(name, token_label=True)
    report = load_pretrained(labelled, tmp_path / "plain.pdparams")
    assert set(report.reinitialised) == {"aux_head.weight", "aux_head.bias"}
    np.testing.assert_array_equal(labelled.head.weight.numpy(), plain.head.weight.numpy())
    paddle.save(labelled.state_dict(), str(tmp_path / "labelled.pdparams"))
    with pytest.raises(WeightMismatchError, match="aux_head.weight"):
        load_pretrained(plain, tmp_path / "labelled.pdparams")
