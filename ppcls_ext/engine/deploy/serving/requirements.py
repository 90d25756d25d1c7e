"""What the service needs beside Paddle."""

from __future__ import annotations

import importlib.util

from ppcls_ext.engine.deploy.serving.errors import ServingError

#: Module: the name of its package.
PACKAGES = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "prometheus_client": "prometheus_client",
    "python_multipart": "python-multipart",
}


def check_installed() -> None:
    """Check that the packages are there.

    Raises:
        ServingError: with the command that installs them, if not.
    """
    missing = [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ServingError(f'the service needs {", ".join(missing)}; install with: pip install "ppcls_ext[serve]"')
