"""One file of predictions: what ``eval`` and ``predict`` write, and what every report is made from.

A row is an image: ``file``, ``label`` (-1 where it is not known), and either a score of each class (``logits`` or
``probabilities``) or the best classes alone (``class_ids`` with the probabilities ``scores``). The suffix chooses the
format: ``.parquet`` (a fixed-size list a row), ``.npz`` (arrays ``files``, ``labels`` and the scores)
or ``.csv`` (columns ``logit_0``, ``probability_0`` or ``class_1``, ``score_1`` and so on; it holds no names of
classes).

Needs neither Paddle nor, but for Parquet, more than NumPy.
"""

from ppcls_ext.engine.predictions.content import LOGITS, PROBABILITIES, TOPK, UNKNOWN, Header, Predictions
from ppcls_ext.engine.predictions.errors import PredictionsFileError
from ppcls_ext.engine.predictions.reading import read_predictions
from ppcls_ext.engine.predictions.writing import PredictionsWriter, check_suffix

__all__ = [
    "LOGITS",
    "PROBABILITIES",
    "TOPK",
    "UNKNOWN",
    "Header",
    "Predictions",
    "PredictionsFileError",
    "PredictionsWriter",
    "check_suffix",
    "read_predictions",
]
