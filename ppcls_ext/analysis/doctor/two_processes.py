"""What two processes run: each adds its number to the other's and writes the sum into a folder."""

from __future__ import annotations

import sys
from pathlib import Path


def main(device: str, folder: str) -> None:
    """Sum 1 and 2 over the processes."""
    import numpy as np

    from ppcls_ext.engine.distributed import Session

    session = Session(device)
    total = session.sum(np.array([session.rank + 1.0]))
    Path(folder, f"sum-{session.rank}").write_text(str(float(total[0])))


if __name__ == "__main__":
    main(*sys.argv[1:])
