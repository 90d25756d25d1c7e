"""ViT's published weights: the source of the JAX original, and position tables of another size."""

import checkpoints
import compare
import numpy as np
import paddle
import rule

import ppcls_ext
from ppcls_ext.weights.conversion import convert_file
from ppcls_ext.weights.loading import load_pretrained

ARCH = "ViT_S_32_224"
HEADS = 6


def jax_value(key: str, name: str, shape: tuple) -> np.ndarray:
    """Return what ``rule`` gives the tensor ``name``, or its part, in the shape and orientation of JAX."""
    if name.endswith("qkv.weight"):  # [C, heads, D]
        part = ("query", "key", "value").index(key.split("/")[-2])
        return rule.parameter(name, (3 * shape[0], shape[0])).reshape(3, *shape[1:], shape[0])[part].transpose(2, 0, 1)
    if name.endswith("qkv.bias"):
        part = ("query", "key", "value").index(key.split("/")[-2])
        return rule.parameter(name, (3 * shape[0] * shape[1],)).reshape(3, *shape)[part]
    if name.endswith("attn.proj.weight"):  # [heads, D, C]
        return rule.parameter(name, (shape[2], shape[2])).T.reshape(shape)
    if name == "stem.proj.weight":  # [height, width, in, out]
        return rule.parameter(name, (shape[3], shape[2], *shape[:2])).transpose(2, 3, 1, 0)
    return rule.parameter(name, shape[::-1]).T if len(shape) == 2 else rule.parameter(name, shape)


def original(path) -> None:
    """Write a file as the JAX original has it."""
    entries = checkpoints.keys("vit_jax")[ARCH]
    np.savez(path, **{key: jax_value(key, name, tuple(shape)) for key, (name, shape, _) in entries.items()})


def test_logits_of_the_original_source(tmp_path):
    original(tmp_path / "in.npz")
    record = convert_file(ARCH, tmp_path / "in.npz", tmp_path / "out.pdparams")
    assert record.layout == "jax" and record.tensors == 152 and not record.dropped and not record.adaptation
    model = ppcls_ext.create_backbone(ARCH, pretrained=str(tmp_path / "out"))
    model.eval()
    golden = np.load(compare.FOLDERS["ViT"] / f"{ARCH}.npz")
    with paddle.no_grad():
        logits = model(paddle.to_tensor(rule.images(224))).numpy()
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=2e-5)


SMALL = {"class_num": 3, "patch_size": 2, "embed_dim": 8, "num_heads": 2, "depths": [1, 1]}


def test_positions_of_another_size_are_resampled_as_in_the_forward_pass(tmp_path):
    """A model whose native size is the new one gives what the published one gives at that size."""
    source = ppcls_ext.create_backbone("ppcls_ext.VisionTransformer", img_size=12, **SMALL)
    paddle.save(source.state_dict(), str(tmp_path / "in.pdparams"))
    target = ppcls_ext.create_backbone("ppcls_ext.VisionTransformer", img_size=[8, 20], **SMALL)
    report = load_pretrained(target, tmp_path / "in")
    assert report.adapted == {"stem.pos_embed": "resampled from (6, 6) to (4, 10)"}
    source.eval()
    target.eval()
    images = paddle.randn([1, 3, 8, 20])
    np.testing.assert_allclose(
        target.forward_features(images).numpy(), source.forward_features(images).numpy(), atol=1e-6
    )
