"""``python -m ppcls_ext.cli``; and the script that Paddle's launcher, which takes no ``-m``, starts in each process."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
if sys.path[:1] == [str(_HERE)]:  # run as a file: Python put this folder first, where the package's parent belongs
    sys.path[0] = str(_HERE.parents[1])

from ppcls_ext.cli.program import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
