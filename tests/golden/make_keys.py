"""Write the lists of keys that the published checkpoints have, taken from the modules that wrote them.

    python tests/golden/make_keys.py --sequencer <checkout of okojoalg/sequencer>
    python tests/golden/make_keys.py --res2net <checkout of Res2Net/Res2Net-PretrainedModels>
    python tests/golden/make_keys.py --swin <checkout of microsoft/Swin-Transformer>
    python tests/golden/make_keys.py --vip <checkout of houqb/VisionPermutator>
    python tests/golden/make_keys.py --dilateformer <checkout of JIAOJIAYUASD/dilateformer>
    python tests/golden/make_keys.py --paddlevit <checkout of BR-IDL/PaddleViT>
    python tests/golden/make_keys.py --paddleclas

need PyTorch and timm (extra ``parity``), and the last two Paddle. Other lists are written by the scripts that make the
golden files of their family. ``keys/<layout>.json.gz`` maps each of our names of a
backbone to ``{key: [our name of the tensor, shape, type]}``; tests of the converter make checkpoints from it.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Callable

KEYS = Path(__file__).parent / "keys"


def listed(state: dict, canonical: Callable[[str], str]) -> dict:
    """Return the keys of a state dict with our name, shape and type of each tensor."""
    return {
        key: [canonical(key), list(tensor.shape), str(tensor.dtype).partition(".")[2]] for key, tensor in state.items()
    }


def write(layout: str, lists: dict) -> None:
    """Write ``keys/<layout>.json.gz``, the same bytes for the same lists."""
    KEYS.mkdir(exist_ok=True)
    text = json.dumps(lists, separators=(",", ":"))
    (KEYS / f"{layout}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{layout}: {', '.join(f'{arch} {len(keys)}' for arch, keys in lists.items())}", flush=True)


def sequencer(checkout: Path) -> None:
    """The official and timm's layout of Sequencer."""
    import make_sequencer as golden
    import timm

    official = golden.import_official(checkout)
    lists: dict = {"sequencer": {}, "sequencer_timm": {}}
    for ours, theirs in golden.OFFICIAL.items():
        if ours.endswith("_392"):
            continue  # its keys are those at 224
        model = getattr(official, theirs)()
        depths = [sum(hasattr(block, "mlp_channels") for block in stage) for stage in model.blocks]

        def canonical(key: str, depths: list = depths) -> str:
            return golden.canonical(key, depths)

        lists["sequencer"][ours] = listed(model.state_dict(), canonical)
        if ours in ("Sequencer2D_S", "Sequencer2D_M", "Sequencer2D_L"):
            lists["sequencer_timm"][ours] = listed(timm.create_model(theirs).state_dict(), canonical)
    for layout, found in lists.items():
        write(layout, found)


def dilateformer(checkout: Path) -> None:
    """The official layout of DilateFormer."""
    import make_dilateformer as golden

    official = golden.import_official(checkout)
    variants = {ours: factory for ours, (factory, size) in golden.OFFICIAL.items() if size == 224}
    lists = {
        ours: listed(getattr(official, factory)().state_dict(), golden.canonical) for ours, factory in variants.items()
    }
    write("dilateformer", lists)


def res2net(checkout: Path) -> None:
    """The official layouts of Res2Net, and torchvision's of ResNet, which is the first of them."""
    import make_res2net as golden
    import make_resnet
    import torch

    sys.path.insert(0, str(checkout))
    lists: dict = {"torchvision": {}, "res2net": {}, "res2net_v1b": {}, "res2net_dla": {}}
    for ours in ("ResNet18", "ResNet50", "ResNeXt50_32x4d"):
        block, depths, groups, width = make_resnet.VARIANTS[ours][:4]
        model = make_resnet.ResNet(block, depths, groups=groups, width_per_group=width)
        lists["torchvision"][ours] = listed(model.state_dict(), make_resnet.canonical)
    layouts = {"dla": "res2net_dla", "res2net_v1b": "res2net_v1b"}
    for ours, (module, name, depths, options, size, _) in golden.VARIANTS.items():
        if module in (None, "models.blresnet") or depths == golden._SHORT:
            continue
        with torch.device("meta"):
            state = golden.reference(module, name, depths, options, size).state_dict()
        names = golden.canonical_deep if module == "res2net_v1b" else golden.canonical
        lists[layouts.get(module, "res2net")][ours] = listed(state, names)
    for layout, found in lists.items():
        write(layout, found)


def swin(checkout: Path) -> None:
    """The official layout of Swin, with what its code computes and stores: it has an empty name here.

    The official model must also give timm's logits, from which the golden files are.
    """
    import make_resnet  # noqa: F401  it makes torchvision importable, which the official code needs
    import make_swin as golden
    import torch

    spec = importlib.util.spec_from_file_location("official_swin", checkout / "models" / "swin_transformer.py")
    official = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(official)
    arch = golden.KEYS
    arguments, size, window = golden.MODELS[arch]
    model = official.SwinTransformer(img_size=size, window_size=window, **arguments).eval()

    def canonical(key: str) -> str:
        if key.endswith(("relative_position_index", "attn_mask")):
            return ""
        key = re.sub(r"^layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) + 1}.downsample", key)
        return golden.canonical(key)

    lists = listed(model.state_dict(), canonical)
    reference, images = golden.build(arch)
    values = {golden.canonical(key): tensor for key, tensor in reference.named_parameters()}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(values[canonical(key)])
        gap = (model(images) - reference(images)).abs().max().item()
    if gap > 2e-5:
        raise SystemExit(f"{arch}: the official model and timm's differ by {gap}")
    print(f"{arch}: differs from timm by {gap:.1e}")
    write("swin", {arch: lists})


def vip(checkout: Path) -> None:
    """The official layout of Vision Permutator."""
    import make_vip as golden

    official = golden.import_official(checkout)
    lists = {}
    for ours, factory in VIP.items():
        model = getattr(official, factory)()
        names = {id(parameter): name for name, parameter in golden.canonical(model).items()}
        parameters = dict(model.named_parameters())
        lists[ours] = listed(model.state_dict(), lambda key, p=parameters, n=names: n[id(p[key])])
    write("vip", lists)


def paddlevit(checkout: Path) -> None:
    """The layout of Vision Permutator in PaddleViT, whose keys mirror the official ones."""
    folder = checkout / "image_classification" / "ViP"
    sys.path.insert(0, str(folder))
    import vip as port
    import yaml

    official = json.loads(gzip.decompress((KEYS / "vip.json.gz").read_bytes()))
    lists = {}
    for ours, name in VIP.items():
        if not (folder / "configs" / f"{name}.yaml").exists():
            continue  # Small/14 was not ported
        mixer = yaml.safe_load((folder / "configs" / f"{name}.yaml").read_text())["MODEL"]["MIXER"]
        model = port.VisionPermutator(
            mixer["LAYER"],
            patch_size=7,
            embed_dims=mixer["EMBED_DIMS"],
            transitions=mixer["TRANSITIONS"],
            segment_dim=mixer["SEGMENT_DIM"],
            mlp_ratios=[3, 3, 3, 3],
        )
        lists[ours] = listed(model.state_dict(), lambda key, n=official[ours]: n[key][0])
    write("paddlevit", lists)


def paddleclas() -> None:
    """The layouts of ViT and Swin in PaddleClas, of which the package is enough."""
    from paddleclas.ppcls.arch.backbone.legendary_models import swin_transformer
    from paddleclas.ppcls.arch.backbone.model_zoo import vision_transformer

    arch = "ViT_small_patch16_224"
    state = getattr(vision_transformer, arch)().state_dict()

    def canonical(key: str) -> str:
        match = re.match(r"blocks\.(\d)\.(.*)", key)
        if match:
            return f"stages.{int(match[1]) // 2}.blocks.{int(match[1]) % 2}.{match[2]}"
        return f"stem.{key}" if key in ("cls_token", "pos_embed") else key.replace("patch_embed.", "stem.")

    write("vit_paddleclas", {arch: listed(state, canonical)})

    arch = "SwinTransformer_tiny_patch4_window7_224"
    state = getattr(swin_transformer, arch)().state_dict()

    def canonical(key: str) -> str:
        if key.endswith("relative_position_index"):
            return ""  # computed here
        key = re.sub(r"^layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) + 1}.downsample", key)
        return key.replace("patch_embed.", "stem.").replace("layers.", "stages.")

    write("swin_paddleclas", {arch: listed(state, canonical)})
    resnets_of_paddleclas()


def resnets_of_paddleclas() -> None:
    """PaddleClas's three layouts of ResNet and ResNeXt, and its two of Res2Net."""
    from paddle.utils import unique_name
    from paddleclas.ppcls import arch as theirs

    def canonical(key: str, starts: list) -> str:
        key = re.sub(r"\b_?conv(?=\.(weight|_))|\b_conv(?=\.weight)", "conv", key)
        key = re.sub(r"\.(_batch_norm|_bn|bn)\.", ".norm.", key)
        if match := re.match(r"blocks\.(\d+)\.(.*)", key):
            s = sum(start <= int(match[1]) for start in starts) - 1
            key = f"stages.{s}.blocks.{int(match[1]) - starts[s]}.{match[2]}"
        key = re.sub(r"^bb_(\d)_(\d+)\.", r"stages.\1.blocks.\2.", key)
        key = re.sub(r"^_conv(\d)_(\d+)\.", lambda m: f"stages.{int(m[1]) - 1}.blocks.{m[2]}.", key)
        key = re.sub(r"\.res\d\w+_branch2b_(\d)\.", lambda m: f".split.convs.{int(m[1]) - 1}.", key)
        key = re.sub(r"(blocks\.\d+\.)_?conv(\d)\.", lambda m: f"{m[1]}conv{int(m[2]) + 1}.", key)
        key = re.sub(r"_?short\.(conv\.(?=conv|norm))?", "shortcut.", key)
        key = re.sub(r"^conv1_(\d)\.", lambda m: f"stem.{int(m[1]) - 1}.", key)
        key = re.sub(r"^(conv1|conv|_conv_stem)\.", "stem.0.", key)
        return re.sub(r"^(fc|_?out)\.", "head.", key).replace("._conv.", ".conv.")

    archs = {
        "resnet_paddleclas": ("ResNet18", "ResNet50"),
        "resnext_paddleclas": ("ResNeXt50_32x4d",),
        "wsl_paddleclas": ("ResNeXt101_32x8d_wsl",),
        "res2net_paddleclas": ("Res2Net50_26w_4s", "Res2Net50_14w_8s"),
        "res2net_vd_paddleclas": ("Res2Net50_vd_26w_4s", "Res2Net101_vd_26w_4s"),
    }
    for layout, names in archs.items():
        lists = {}
        for name in names:
            with unique_name.guard():
                state = getattr(theirs, name)().state_dict()
            starts = [0, 2, 4, 6] if name == "ResNet18" else [0, 3, 7, 13]
            lists[name] = listed(state, lambda key, starts=starts: canonical(key, starts))
        write(layout, lists)


VIP = {"ViP_Small_14": "vip_s14", "ViP_Small_7": "vip_s7", "ViP_Medium_7": "vip_m7", "ViP_Large_7": "vip_l7"}
FAMILIES = {
    "sequencer": (sequencer, "okojoalg/sequencer"),
    "res2net": (res2net, "Res2Net/Res2Net-PretrainedModels"),
    "swin": (swin, "microsoft/Swin-Transformer"),
    "vip": (vip, "houqb/VisionPermutator"),
    "dilateformer": (dilateformer, "JIAOJIAYUASD/dilateformer"),
    "paddlevit": (paddlevit, "BR-IDL/PaddleViT"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, (_, repository) in FAMILIES.items():
        parser.add_argument(f"--{name}", type=Path, metavar="CHECKOUT", help=f"a checkout of {repository}")
    parser.add_argument("--paddleclas", action="store_true", help="the installed PaddleClas")
    arguments = vars(parser.parse_args())
    if arguments.pop("paddleclas"):
        paddleclas()
    for name, checkout in arguments.items():
        if checkout:
            FAMILIES[name][0](checkout)


if __name__ == "__main__":
    main()
