"""A prediction by several processes under ``paddle.distributed.launch``: each takes a run of images, the first merges.

The processes meet in a folder of files and nowhere else, so that this works for every engine, with Paddle or without.
If one of them ends with an error, the launcher stops the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, Optional, Sequence, TypeVar, Union

from ppcls_ext.engine.deploy.result_file import LINES, ResultFile

T = TypeVar("T")
PAUSE = 0.1  # seconds between two looks for a file


class LostProcessError(RuntimeError):
    """The launcher is gone, so the results of the other processes will never come."""


@dataclass(frozen=True)
class Share:
    """This process's part of the work.

    Attributes:
        rank: number of this process.
        size: number of processes.
        run: a name that the processes of one launch have in common, and no others.
        nodes: number of machines.
    """

    rank: int = 0
    size: int = 1
    run: str = ""
    nodes: int = 1

    @classmethod
    def from_environment(cls) -> Share:
        """Return what the launcher has set, or the whole without one."""
        addresses = os.environ.get("PADDLE_TRAINER_ENDPOINTS", "")
        # The ports in the addresses differ from launch to launch.
        run = hashlib.sha256(f"{addresses} {os.environ.get('PADDLE_JOB_ID', '')}".encode()).hexdigest()[:16]
        return cls(
            rank=int(os.environ.get("PADDLE_TRAINER_ID") or 0),
            size=max(1, int(os.environ.get("PADDLE_TRAINERS_NUM") or 1)),
            run=run,
            nodes=max(1, int(os.environ.get("PADDLE_NNODES") or 1)),
        )

    @property
    def is_first(self) -> bool:
        """Whether this process merges."""
        return self.rank == 0

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Return this process's run of ``items``; the lengths of two runs differ by one at most."""
        bounds = [len(items) * rank // self.size for rank in (self.rank, self.rank + 1)]
        return items[bounds[0] : bounds[1]]

    def folder(self, output: Optional[Union[str, Path]]) -> Path:
        """Return where the processes leave their results: beside the output, or in the system's temporary folder."""
        if output is None:
            return Path(tempfile.gettempdir(), f"ppcls_ext-predict-{self.run}")
        return Path(f"{output}.parts-{self.run}")

    def leave(self, results: Iterable[dict], folder: Path) -> int:
        """Write this process's results for the first one and return their number."""
        count = 0
        for _ in ResultFile(self._part(folder, self.rank)).through(results):
            count += 1
        return count

    def merge(self, own: Iterable[dict], folder: Path) -> Iterator[dict]:
        """Yield the results of all processes in order: this one's as they come, then each other's when it is done.

        Raises:
            LostProcessError: the launcher ended before they came.
        """
        yield from own
        launcher = os.getppid()
        for rank in range(1, self.size):
            part = self._part(folder, rank)
            while not part.is_file():
                if os.getppid() != launcher:
                    raise LostProcessError(f"the results of process {rank} will not come: the launcher has ended")
                time.sleep(PAUSE)
            with part.open(encoding="utf-8") as file:
                yield from map(json.loads, file)
            part.unlink()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    @staticmethod
    def _part(folder: Path, rank: int) -> Path:
        return folder / f"{rank}{LINES}"
