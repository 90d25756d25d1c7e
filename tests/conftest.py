"""Fixtures that every test shares."""

import logging
import signal

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
