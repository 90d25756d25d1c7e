"""Images to train every configuration on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """Eight images of noise, 80 x 72, in three classes."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    lines = []
    for index in range(8):
        Image.fromarray(rng.integers(0, 256, (72, 80, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        lines.append(f"{index}.png {index % 3}")
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return folder
