"""Run an unchanged script of a PaddleClas source checkout, such as its ``tools/train.py``, with our backbones in it."""

from __future__ import annotations

import argparse
import importlib
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Optional, Sequence

from ppcls_ext import plugin, registry
from ppcls_ext.version import __version__


def find_script(path: str | os.PathLike) -> Path:
    """Return the absolute path of a checkout's script.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is in no PaddleClas checkout.
    """
    script = Path(path).resolve()
    if not script.is_file():
        raise FileNotFoundError(f"there is no script {path}; expected, for example, PaddleClas/tools/train.py")
    plugin.checkout_root(script)
    return script


def run_script(script: str | os.PathLike, arguments: Sequence[str] = ()) -> None:
    """Run a script of a checkout as ``python`` would, after registering our backbones into that checkout.

    The checkout has to be imported before our models are defined, so that they derive from its ``TheseusLayer``. Unless
    ``PPCLS_EXT_CHECKOUT`` names it already, the process therefore starts itself anew, with that variable set.

    Args:
        script: The script's path.
        arguments: Its command line.

    Raises:
        FileNotFoundError: if there is no such script.
        ValueError: if it is in no PaddleClas checkout.
    """
    script = find_script(script)
    root = plugin.checkout_root(script)
    if os.environ.get(plugin.CHECKOUT_VARIABLE) != str(root):
        _start_anew(root, [str(script), *arguments])
    tree = plugin.load_checkout(root)
    logger = importlib.import_module(f"{tree.package}.utils.logger")
    logger.info(f"ppcls_ext {__version__}: {len(registry.specs())} backbones registered into {tree.location}")
    sys.argv = [str(script), *arguments]
    sys.path.insert(1, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")


def _start_anew(root: Path, argv: Sequence[str]) -> None:
    """Replace this process by one that runs the same script with ``root`` known from the start."""
    os.environ[plugin.CHECKOUT_VARIABLE] = str(root)
    package_parent = str(Path(plugin.__file__).parents[1])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != package_parent]
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, package_parent])
    command = [sys.executable, "-m", "ppcls_ext.checkout", *argv]
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execv(sys.executable, command)
    sys.exit(subprocess.call(command))  # elsewhere exec does not keep the process


def main(argv: Optional[Sequence[str]] = None, prog: Optional[str] = None) -> None:
    """Run the command line ``<script> [its arguments …]``."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("script", help="a script of the checkout, for example PaddleClas/tools/train.py")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its own arguments, for example -c model.yaml")
    options = parser.parse_args(argv)
    try:
        script = find_script(options.script)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    run_script(script, options.arguments)


if __name__ == "__main__":
    main()
