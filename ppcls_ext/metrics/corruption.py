"""The corruption errors of ImageNet-C, normalised by AlexNet's.

Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations (ICLR 2019,
arXiv 1903.12261), section 4.1. AlexNet's errors are those of the authors, in the six digits that AugMix's published
evaluation (google-research/augmix, imagenet.py) holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

import numpy as np

SEVERITIES = (1, 2, 3, 4, 5)
#: AlexNet's top-1 error of each corruption, the mean over the five severities.
ALEXNET_ERRORS = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
#: Folders of the archive ``extra.tar``, which mCE leaves out.
EXTRA = ("gaussian_blur", "saturate", "spatter", "speckle_noise")


@dataclass(frozen=True)
class CorruptionErrors:
    """Errors on ImageNet-C.

    Attributes:
        errors: top-1 error by corruption, the mean over the severities, in [0, 1].
        normalised: corruption error CE by corruption: the error over AlexNet's; 1.0 is as robust as AlexNet.
        mce: the mean of the CEs; published ones are 100 times that.
    """

    errors: dict[str, float]
    normalised: dict[str, float]
    mce: float


def corruption_errors(errors: Mapping[tuple[str, int], float]) -> CorruptionErrors:
    """Return the corruption errors of a model and their mean, mCE.

    Args:
        errors: top-1 error in [0, 1] by (corruption, severity); all 15 corruptions at all 5 severities. Extra ones are
            left out.

    Raises:
        ValueError: naming what is missing; a mean over a part of them is no mCE.
    """
    cells = [(name, severity) for name in ALEXNET_ERRORS for severity in SEVERITIES]
    missing = [f"{name}/{severity}" for name, severity in cells if (name, severity) not in errors]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ValueError(f"mCE is the mean over 15 corruptions at 5 severities; {len(missing)} are missing: {shown}")
    means = {name: float(np.mean([errors[name, severity] for severity in SEVERITIES])) for name in ALEXNET_ERRORS}
    normalised = {name: mean / ALEXNET_ERRORS[name] for name, mean in means.items()}
    return CorruptionErrors(means, normalised, float(np.mean(list(normalised.values()))))
