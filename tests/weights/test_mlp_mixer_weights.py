"""The JAX checkpoints of MLP-Mixer: names of Flax modules, kernels ``[in, out]`` and ``[height, width, in, out]``."""

import checkpoints
import compare
import numpy as np
import paddle
import rule

import ppcls_ext
from ppcls_ext import registry
from ppcls_ext.weights.conversion import convert_file

ARCH = "Mixer_S_32_224"


def test_logits_of_a_converted_jax_checkpoint(tmp_path):
    """Filled by the rule, it gives the logits that timm gives with the same numbers."""
    arrays = {}
    for key, (name, shape, _) in checkpoints.keys("mlp_mixer_jax")[ARCH].items():
        if len(shape) == 4:  # from PyTorch's [out, in, height, width]
            value = rule.parameter(name, (shape[3], shape[2], shape[0], shape[1]))
            arrays[key] = value.transpose(2, 3, 1, 0)
        else:
            arrays[key] = rule.parameter(name, tuple(shape[::-1])).T
    np.savez(tmp_path / "in.npz", **arrays)
    record = convert_file(ARCH, tmp_path / "in.npz", tmp_path / "out.pdparams")
    assert record.layout == "jax"
    model = ppcls_ext.create_backbone(ARCH, pretrained=str(tmp_path / "out"))
    model.eval()
    with paddle.no_grad():
        logits = model(paddle.to_tensor(rule.images(224))).numpy()
    expected = compare.golden(registry.get_spec(ARCH))["logits"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)
