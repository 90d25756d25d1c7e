"""What the processes of a sweep time: a model that a word names, on a batch of noise."""

from __future__ import annotations

import paddle

from ppcls_ext.analysis.benchmark.eager import Eager
from ppcls_ext.analysis.subjects import open_network


class Opened(Eager):
    """See :class:`~ppcls_ext.analysis.benchmark.eager.Eager`.

    Args:
        case: the configuration.
        options: ``word``, ``overrides`` and ``random_weights`` of :func:`ppcls_ext.analysis.subjects.open_network`.
    """

    def build(self) -> paddle.nn.Layer:
        """Return the model that the word names."""
        options = self.options
        return open_network(options["word"], options["overrides"], options["random_weights"]).model
