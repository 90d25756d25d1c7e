"""Fixtures that every test shares."""

import logging

import pytest


@pytest.fixture(autouse=True)
def fresh_logger():
    """Let caplog see the package's log again after a test has run the engine, which redirects it."""
    yield
    logger = logging.getLogger("ppcls_ext")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = True
