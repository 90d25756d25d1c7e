"""Comparing an exported graph with the model that it came from."""

from __future__ import annotations

import logging
from typing import Optional, Sequence

import numpy as np

logger = logging.getLogger("ppcls_ext")

#: Largest difference between graph and dygraph, relative to the largest output. Float32 sums in another order give
#: about 1e-6; a frozen size or a lost layer gives more than 1e-2.
TOLERANCE = 1e-4
CHECKED_BATCH_SIZES = (1, 3)
#: What tracing raises when a model's Python code needs a size that is not known yet; it has no class of its own.
TRACE_ERRORS = (ValueError, TypeError, RuntimeError, AttributeError, AssertionError, LookupError, ArithmeticError)


def difference(
    shape: Sequence[int], expected: np.ndarray, output: np.ndarray, graph: str = "graph", quiet: bool = False
) -> tuple[float, Optional[str]]:
    """Return the largest difference, relative to the largest value expected, and what is wrong, if anything.

    Args:
        shape: of the input.
        expected: what dygraph gives.
        output: what the graph gives.
        graph: how messages call the graph.
        quiet: whether to log nothing.
    """
    size = "×".join(map(str, shape))
    if output.shape != expected.shape:
        return np.inf, f"for an input {size} {graph} gives {list(output.shape)}, dygraph {list(expected.shape)}"
    scale = float(np.abs(expected).max()) or 1.0
    found = float(np.abs(output - expected).max()) / scale
    # Written so that NaN, which compares false, is a problem too.
    if not found <= TOLERANCE:
        return found, (
            f"for an input {size} {graph} and dygraph differ by {found:.3g} of the largest output {scale:.3g}; "
            f"{TOLERANCE:g} is allowed"
        )
    if not quiet:
        logger.info("Checked %s: %s and dygraph differ by %.1e of the largest output", size, graph, found)
    return found, None


def last_line(error: BaseException) -> str:
    """Return the last line of an error's message, which is where Paddle says what it is about."""
    return (str(error).strip().splitlines() or [""])[-1].strip()
