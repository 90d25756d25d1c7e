"""Write the lists of keys that the published checkpoints have, taken from the modules that wrote them.

    python tests/golden/make_keys.py --sequencer <checkout of okojoalg/sequencer>
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


VIP = {"ViP_Small_14": "vip_s14", "ViP_Small_7": "vip_s7", "ViP_Medium_7": "vip_m7", "ViP_Large_7": "vip_l7"}
FAMILIES = {
    "sequencer": (sequencer, "okojoalg/sequencer"),
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
