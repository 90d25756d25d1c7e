"""Small files of predictions."""

import numpy as np

from ppcls_ext.engine.predictions import LOGITS, Header, PredictionsWriter

NAMES = ["cat", "dog", "<b>cow</b>", "猫头鹰", "fox", "owl"]
SAMPLES = 40


def make_scores(seed: int, samples: int = SAMPLES, classes: int = len(NAMES)) -> tuple:
    """Return labels and logits that are right more often than not."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % classes
    logits = np.random.default_rng(1).normal(size=(samples, classes)) + rng.normal(0, 0.4, size=(samples, classes))
    logits[np.arange(samples), labels] += 1.5
    return labels, logits.astype(np.float32)


def write_predictions(path, files, labels, scores, names=None, kind=LOGITS, topk=None, **source):
    """Write a file of predictions and return its path."""
    writer = PredictionsWriter(path, Header(kind, scores.shape[1], names, source), topk)
    writer.add(files, labels, scores)
    writer.finish()
    return path
