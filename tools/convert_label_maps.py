"""Convert the label maps of token labelling's official code.

`python tools/convert_label_maps.py --help` explains the arguments.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a plain clone works

from ppcls_ext.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert-label-maps", *sys.argv[1:]]))
