"""The build step that pyproject.toml cannot state: a wheel holds the recipes of configs/ as ppcls_ext/recipes."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Copies the recipes beside the modules; an editable installation finds them in the clone."""

    def run(self) -> None:
        """Build."""
        super().run()
        if not self.editable_mode:
            shutil.copytree("configs", Path(self.build_lib, "ppcls_ext", "recipes"), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithRecipes})
