"""Show what a place of an image attends to. `python tools/attention.py --help` explains the arguments."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a plain clone works

from ppcls_ext.cli import main

if __name__ == "__main__":
    sys.exit(main(["attention", *sys.argv[1:]]))
