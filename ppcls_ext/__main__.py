"""``python -m ppcls_ext``: the command."""

import sys

from ppcls_ext.cli import main

if __name__ == "__main__":
    sys.exit(main())
