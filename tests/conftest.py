"""Fixtures that every test shares."""

import logging
import signal
from pathlib import Path

import pytest

# A shell starts what it runs in the background with Ctrl-C ignored, and children inherit that: tests send it to theirs.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def fresh_logger():
    """Let caplog see the package's log again after a test has run the engine, which redirects it."""
    yield
    logger = logging.getLogger("ppcls_ext")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = True


@pytest.fixture
def restored_registry(monkeypatch):
    """Forget at the end of a test what it adds to the registry."""
    from ppcls_ext import registry  # not above: it changes settings of Paddle, which most tests import first

    for table in ("_FAMILIES", "_SPECS", "_FACTORIES"):
        monkeypatch.setattr(registry, table, getattr(registry, table).copy())


TESTS = Path(__file__).parent
#: They train, export, measure, draw and fuzz in every test.
SLOW_FOLDERS = (
    *("engine/train", "engine/deploy", "analysis/benchmark", "analysis/report", "analysis/sweep"),
    *("benchmarks", "configs", "fuzz"),
)


@pytest.hookimpl(tryfirst=True)  # before the option -m is applied
def pytest_collection_modifyitems(items):
    """Leave the first case of a test marked `sampled` in the quick loop; the others are slow, and whole folders are."""
    sampled = set()
    for item in items:
        if item.path.is_relative_to(TESTS) and str(item.path.relative_to(TESTS)).startswith(SLOW_FOLDERS):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("sampled"):
            test = item.nodeid.partition("[")[0]
            if test in sampled:
                item.add_marker(pytest.mark.slow)
            sampled.add(test)
