"""Profiles of the fuzz suite, and the small run that its inputs are made from.

``pytest tests/fuzz`` tries a few dozen inputs, the same ones every time. By hand, for hours::

    pytest -m fuzz --hypothesis-profile=long

What the commands promise is written in :mod:`invariants`.
"""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from config_sample import TEXT, Sample
from hypothesis import HealthCheck, Phase, settings
from invariants import COUNTS, run

from ppcls_ext.data.shards import write_shards

_COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}
settings.register_profile(
    "ci", max_examples=12, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate], **_COMMON
)
settings.register_profile("long", max_examples=int(os.environ.get("FUZZ_EXAMPLES", "500")), **_COMMON)
settings.load_profile("ci")

HERE = Path(__file__).parent
#: A network that builds, trains and exports in a second.
_TINY = """\
name: ppcls_ext.ViT_small_patch16_224
  class_num: 3
  img_size: 32
  embed_dim: 16
  depths: [1]
  num_heads: 2
"""


def pytest_collection_modifyitems(items):
    """Mark what is in this folder."""
    for item in items:
        if HERE in Path(item.fspath).parents:
            item.add_marker(pytest.mark.fuzz)


def pytest_terminal_summary(terminalreporter):
    """Say how many inputs of each kind were tried, and with which exit codes."""
    if COUNTS:
        terminalreporter.section("fuzz: inputs tried")
        for (kind, command, code), count in sorted(COUNTS.items(), key=str):
            terminalreporter.write_line(f"{kind:20} {command:14} exit {code}: {count}")


class Workshop:
    """Valid inputs, and a new empty folder for each command.

    Attributes:
        inputs: folder of the inputs, which no command may change.
        text: a valid configuration, whose output goes to ``output`` in the current folder.
        weights: prefix of a trained checkpoint.
        export: folder of an exported model.
        shards: folder of a shard with its index.
    """

    def __init__(self, folder: Path):
        self.folder, self.inputs, self._place = folder, folder / "inputs", folder / "place"
        self.inputs.mkdir()
        Sample(self.inputs)
        self._draw_images()
        os.mkfifo(self.inputs / "pipe")
        (self.inputs / "labels.txt").write_text("0 zero\n1 one\n2 two\n", encoding="utf-8")
        self.text = TEXT.format(root=self.inputs)
        for old, new in (
            (f"output_dir: {self.inputs}/output", "output_dir: output"),
            ("name: ppcls_ext.Sequencer2D_S\n  class_num: 3\n", _TINY),
            ("epochs: 4", "epochs: 1"),
            ("warmup_epoch: 1", "warmup_epoch: 0"),
        ):
            assert old in self.text, old
            self.text = self.text.replace(old, new)
        self.make()

    def _draw_images(self) -> None:
        random = np.random.default_rng(0)
        for index in range(3):
            pixels = cv2.resize(random.integers(0, 256, (4, 4, 3), np.uint8), (32, 32))
            cv2.imwrite(str(self.inputs / f"{index}.png"), pixels)
            cv2.imwrite(str(self.inputs / f"{index}.jpg"), pixels)

    def make(self) -> None:
        """Train and export."""
        place = self.place()
        config = place / "config.yaml"
        config.write_text(self.text, encoding="utf-8")
        assert run("valid", ["train", "-c", config], place).code == 0
        shutil.move(place / "output", self.inputs / "run")
        self.weights = self.inputs / "run" / "best_model"
        given = f"Global.pretrained_model={self.weights}"
        assert run("valid", ["export", "-c", config, "-o", given], place).code == 0
        self.export = self.inputs / "inference"
        shutil.move(place / "inference", self.export)
        for command in ("eval", "infer"):
            assert run("valid", [command, "-c", config, "-o", given], place).code == 0
        self.shards = self.inputs / "shards"
        self.shards.mkdir()
        write_shards(str(self.inputs), str(self.inputs / "list.txt"), str(self.shards / "s"), progress=False)

    def place(self) -> Path:
        """Return an empty folder for a command to run in."""
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir()
        return self._place


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Workshop:
    """Valid inputs, made once; a test that changes one gives it back."""
    return Workshop(tmp_path_factory.mktemp("fuzz"))
