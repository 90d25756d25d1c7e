"""Packaging of ppcls_ext. Build system, linter and pytest settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    """Read ``__version__`` without importing the package, which would import Paddle."""
    for line in (ROOT / "ppcls_ext" / "version.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise RuntimeError("ppcls_ext/version.py holds no __version__")


setup(
    name="ppcls_ext",
    version=version(),
    description="PaddleClas-compatible model zoo: backbones, and the engine that trains, evaluates and exports them",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.9",
    packages=find_packages(include=["ppcls_ext", "ppcls_ext.*"]),
    install_requires=[
        "numpy",
        "pyyaml",
        "pillow",
        "tqdm",
        "requests",
        "filelock",
        "pydantic>=2",
        "rich",
        "visualdl>=2.2",
        "scikit-learn",
        "safetensors>=0.4",
        # PaddleClas 2.6.0 pins numpy 1.24.4, which has no wheel for Python 3.12 and later.
        'paddleclas>=2.6.0; python_version < "3.12"',
        # Below 3.12 PaddleClas brings OpenCV; two OpenCV packages in one environment overwrite each other.
        'opencv-python-headless; python_version >= "3.12"',
        # Paddle imports it and asks for it from Python 3.12 on only; a virtual environment may come without.
        "setuptools",
    ],
    extras_require={
        "cpu": ["paddlepaddle>=2.6.2"],
        "gpu": ["paddlepaddle-gpu>=2.6.2"],
        "test": ["pytest>=7", "simplejpeg>=1.9"],
        # To ONNX; resolved together with PaddleClas, whose numpy 1.24.4 anything installed afterwards would replace.
        # What is missing of it, paddle2onnx installs in mid-export by itself, and NumPy 2 with it.
        "export": [
            'paddle2onnx>=1.3; python_version < "3.13"',  # 2.x wants Paddle 3, 1.x is for Paddle 2.6; none for 3.13
            "onnx>=1.16",
            "onnx-graphsurgeon",
            "onnxruntime>=1.17",
            "sympy",
        ],
        "fast": ["simplejpeg>=1.9"],  # JPEG decoding, the same pixels in half the time
        "lint": ["ruff==0.17.5"],  # pinned: a newer one may ask for another format
        "parity": ["torch", "torchvision", "timm"],
    },
    entry_points={"console_scripts": ["ppcls_ext = ppcls_ext.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
