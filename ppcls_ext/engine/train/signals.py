"""Ctrl-C and SIGTERM end a run at the next step boundary, after a checkpoint."""

from __future__ import annotations

import signal
from typing import Optional


class GracefulStop:
    """Remembers the first SIGINT or SIGTERM while it is active; a second one interrupts at once, as usual.

    Use it as a context manager around the run. ``signal_number`` is None until a signal arrives.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.signal_number: Optional[int] = None
        self._previous = {}

    def __enter__(self) -> GracefulStop:
        for number in self.SIGNALS:
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception) -> None:
        self._restore()

    def _remember(self, number, frame) -> None:
        self.signal_number = number
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, the shell's convention: 130 for Ctrl-C, 143 for SIGTERM.

        A process that stops because a different one got the signal counts as stopped by SIGTERM.
        """
        return 128 + int(self.signal_number or signal.SIGTERM)
