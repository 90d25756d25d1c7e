"""Write the lists of keys that the published checkpoints have, taken from the modules that wrote them.

    python tests/golden/make_keys.py --sequencer <checkout of okojoalg/sequencer>

needs PyTorch and timm (extra ``parity``). ``keys/<layout>.json.gz`` maps each of our names of a backbone to
``{key: [our name of the tensor, shape, type]}``; tests of the converter make checkpoints from it.
"""

from __future__ import annotations

import argparse
import gzip
import json
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
            continue  # the keys are those at 224
        model = getattr(official, theirs)()
        depths = [sum(hasattr(block, "mlp_channels") for block in stage) for stage in model.blocks]

        def canonical(key: str, depths: list = depths) -> str:
            return golden.canonical(key, depths)

        lists["sequencer"][ours] = listed(model.state_dict(), canonical)
        if ours in ("Sequencer2D_S", "Sequencer2D_M", "Sequencer2D_L"):
            lists["sequencer_timm"][ours] = listed(timm.create_model(theirs).state_dict(), canonical)
    for layout, found in lists.items():
        write(layout, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequencer", type=Path, metavar="CHECKOUT", help="a checkout of okojoalg/sequencer")
    arguments = parser.parse_args()
    if arguments.sequencer:
        sequencer(arguments.sequencer)


if __name__ == "__main__":
    main()
