"""Train, evaluate, export and predict on real data, without any download."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a plain clone works

from ppcls_ext.engine.quick_start import DEFAULT_CONFIG, quick_start


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-c", "--config", type=Path, help=f"a config on the digits (default: {DEFAULT_CONFIG})")
    parser.add_argument("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help="set a config key")
    arguments = parser.parse_args()
    root = Path(__file__).resolve().parents[1]
    quick_start(root, arguments.config, tuple(arguments.override))


if __name__ == "__main__":
    main()
