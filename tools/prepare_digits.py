"""Write scikit-learn's handwritten digits as image files with label lists."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppcls_ext.data.digits import prepare_digits


def main() -> None:
    """Parse the arguments and write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="dataset/digits", help="folder to write to (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
    arguments = parser.parse_args()
    folder = prepare_digits(arguments.output, progress=not arguments.quiet)
    print(f"{folder}: train_list.txt, val_list.txt, label_list.txt, images/")


if __name__ == "__main__":
    main()
