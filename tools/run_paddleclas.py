"""Run a script of a PaddleClas source checkout, unchanged, with our backbones in its table.

python tools/run_paddleclas.py /path/to/PaddleClas/tools/train.py -c configs/quick_start/Sequencer2D_digits.yaml
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppcls_ext.checkout import main

if __name__ == "__main__":
    main()
