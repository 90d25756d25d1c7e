"""Write the golden files of MLP-Mixer, and the lists of keys of its published checkpoints, with timm, in PyTorch.

    python tests/golden/make_mlp_mixer.py

needs PyTorch and timm (extra ``parity``). Large is written with one block a group. The names of the JAX checkpoints
follow from those of Flax's modules in the paper's appendix; their tensors are timm's, with linear layers turned.
"""

from __future__ import annotations

import json
import re
from functools import partial

import numpy as np
import rule
import torch
from make_keys import listed, write
from writing import draws, gradients, parse, write_golden

# Without its compiled part, which is not needed here, torchvision lacks two operators that it describes on import.
_operators = torch.library.Library("torchvision", "DEF")
_operators.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
_operators.define("qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor")

from timm.models._manipulate import named_apply  # noqa: E402
from timm.models.mlp_mixer import MlpMixer, _init_weights  # noqa: E402

S = {"num_blocks": 8, "embed_dim": 512}
B = {"num_blocks": 12, "embed_dim": 768}
L = {"num_blocks": 4, "embed_dim": 1024}
SIZES = {"S": S, "B": B, "L": L}
MODELS = {f"Mixer_{size}_{patch}_224": (SIZES[size], patch) for size in SIZES for patch in (32, 16)}
GRADIENTS = KEYS = "Mixer_S_32_224"


def canonical(name: str, blocks: int) -> str:
    """Return our name of a timm parameter: blocks are counted in four groups."""
    group = blocks // 4
    name = re.sub(r"^blocks\.(\d+)\.", lambda m: f"stages.{int(m[1]) // group}.blocks.{int(m[1]) % group}.", name)
    return name


def jax_name(name: str) -> str:
    """Return the name of a timm parameter in a JAX checkpoint."""
    layer, _, kind = name.rpartition(".")
    is_norm = "norm" in layer
    kind = kind if kind == "bias" else "scale" if is_norm else "kernel"
    layer = {"stem.proj": "stem", "norm": "pre_head_layer_norm", "head": "head"}.get(layer, layer)
    layer = re.sub(r"^blocks\.(\d+)\.", r"MixerBlock_\1/", layer)
    layer = layer.replace("norm1", "LayerNorm_0").replace("norm2", "LayerNorm_1")
    layer = re.sub(r"mlp_(token|channel)s\.fc(\d)", lambda m: f"{m[1]}_mixing/Dense_{int(m[2]) - 1}", layer)
    return f"{layer}/{kind}"


def jax_shape(shape: tuple) -> list:
    """Return the shape of a timm parameter in a JAX checkpoint: [in, out], [height, width, in, out]."""
    return [shape[2], shape[3], shape[1], shape[0]] if len(shape) == 4 else list(shape[::-1])


def build(name: str) -> tuple:
    """Return a timm model filled by the rule, its parameters by our names, and images."""
    arguments, patch = MODELS[name]
    model = MlpMixer(patch_size=patch, img_size=224, **arguments).eval()
    parameters = {canonical(key, arguments["num_blocks"]): value for key, value in model.named_parameters()}
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(rule.parameter(key, tuple(parameter.shape))))
    return model, parameters, torch.from_numpy(rule.images(224))


def main() -> None:
    """Write what the command line asks for."""
    given = parse(__doc__, "mlp_mixer")
    for name, (options, patch) in MODELS.items():
        if given.only not in (None, name):
            continue
        model, parameters, images = build(name)
        more = {}
        if name == GRADIENTS:
            more["gradients"] = gradients(model(images), parameters)
        if options is L:
            more["arguments"] = np.array(json.dumps({"depths": [1, 1, 1, 1]}))
        with torch.no_grad():
            logits = model(images)
            maps = model.forward_intermediates(images, intermediates_only=True, output_fmt="NCHW")
        group = options["num_blocks"] // 4
        write_golden(given.out, name, logits, maps[group - 1 :: group], **more)
        if name == KEYS:
            rename = partial(canonical, blocks=options["num_blocks"])
            entries = listed(dict(model.named_parameters()), rename)
            write("mlp_mixer_timm", {KEYS: entries})
            jax = {jax_name(key): [ours, jax_shape(shape), kind] for key, (ours, shape, kind) in entries.items()}
            write("mlp_mixer_jax", {KEYS: jax})
            model = MlpMixer(patch_size=patch, img_size=224, **options)
            torch.manual_seed(2105)
            named_apply(partial(_init_weights, head_bias=0.0, flax=True), module=model)
            kinds = ((re.sub(r"\.\d+(?=\.)", "", rename(key)), value) for key, value in model.named_parameters())
            np.savez_compressed(given.out / "initial_draws.npz", **draws(kinds))


if __name__ == "__main__":
    main()
