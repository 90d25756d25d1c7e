"""Subjects that child processes of the tests measure."""

import os
import signal
import sys
import time

import numpy as np

MEGABYTE = 10**6


class Subject:
    """Does nothing, and prints where a library would."""

    def __init__(self, case, options):
        self.case, self.options = case, options
        print("a library greets")

    def open(self):
        print("and talks while it loads")
        return {"library": "test 1.0", "place": os.environ["OMP_NUM_THREADS"]}

    def run(self):
        print("and while it runs")


class Greedy(Subject):
    """Needs so many bytes while it runs, and gives them back."""

    def run(self):
        np.ones(self.options["bytes"], np.uint8)


class Refused(Subject):
    """Cannot be opened."""

    def open(self):
        raise ValueError("height must be a multiple of 32, got 33")


class Broken(Subject):
    """Fails after it has run for a while, with the message of a library."""

    runs = 0

    def run(self):
        self.runs += 1
        if self.runs > self.options["after"]:
            raise ImportError("\n\nC++ call stack\n0 somewhere\n\nkernel is not registered\n")


class Killed(Subject):
    """Ends as the system ends a process without memory left, or as a crash ends it."""

    def run(self):
        print("FatalError: heap is corrupted", file=sys.stderr, flush=True)
        os.kill(os.getpid(), getattr(signal, self.options["signal"]))


class Hangs(Subject):
    """Never comes back."""

    def run(self):
        time.sleep(600)
