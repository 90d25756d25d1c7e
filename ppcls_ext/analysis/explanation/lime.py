"""LIME for images (Ribeiro et al., arXiv 1602.04938): a linear model of a class over superpixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ppcls_ext.analysis.explanation.errors import ExplanationError
from ppcls_ext.analysis.explanation.occlusion import Score


@dataclass(frozen=True)
class LimeOptions:
    """How LIME samples and fits.

    Attributes:
        segments: superpixels, about.
        compactness: of SLIC: how square they are, rather than of one colour.
        samples: images with some superpixels left out.
        kernel_width: of the weights exp(-d² / width²) of samples at the cosine distance d from the whole image.
        alpha: of the ridge regression.
        seed: of the samples.
        batch_size: images a pass.
    """

    segments: int = 50
    compactness: float = 10.0
    samples: int = 500
    kernel_width: float = 0.25
    alpha: float = 1.0
    seed: int = 0
    batch_size: int = 32


def require_skimage() -> None:
    """Check that scikit-image is installed.

    Raises:
        ExplanationError: it is not; the message has the command.
    """
    try:
        import skimage  # noqa: F401
    except ImportError:
        raise ExplanationError(
            'LIME needs scikit-image: pip install "ppcls_ext[explain]" together with the extras you have'
        ) from None


def superpixels(picture: np.ndarray, options: LimeOptions) -> np.ndarray:
    """Return the superpixel of each pixel, int ``[H, W]`` from 0, by SLIC.

    Args:
        picture: float ``[H, W, 3]`` in [0, 1].
        options: ``segments`` and ``compactness`` are used.
    """
    require_skimage()
    from skimage.segmentation import slic

    return slic(picture, n_segments=options.segments, compactness=options.compactness, start_label=0)


def lime(
    score: Score, image: np.ndarray, class_id: int, segments: np.ndarray, options: LimeOptions = LimeOptions()
) -> np.ndarray:
    """Return the weight of each pixel's superpixel for the probability of a class, ``[H, W]``.

    The first sample is the whole image; in the others each superpixel is kept or, with probability one half, replaced
    by its mean colour. A ridge regression over what is kept, weighted by closeness to the whole image, fits the
    probabilities: section 3.4 of the paper with the kernel of its code, where the weight is the root of exp(-d² / w²).

    Args:
        score: the model.
        image: float32 ``[C, H, W]``, preprocessed.
        class_id: the class.
        segments: int ``[H, W]``, from 0.
        options: how to sample and fit.
    """
    count = int(segments.max()) + 1
    kept = np.random.default_rng(options.seed).integers(0, 2, (options.samples, count))
    kept[0] = 1
    means = segment_means(image, segments, count)
    probabilities = []
    for begin in range(0, options.samples, options.batch_size):
        masks = kept[begin : begin + options.batch_size][:, segments][:, None]  # [n, 1, H, W]
        probabilities.append(score(np.where(masks, image, means).astype(np.float32))[:, class_id])
    weights = fit(kept, np.concatenate(probabilities), options)
    return weights[segments].astype(np.float32)


def segment_means(image: np.ndarray, segments: np.ndarray, count: int) -> np.ndarray:
    """Return the image ``[C, H, W]`` with each superpixel in its mean colour."""
    sizes = np.bincount(segments.ravel(), minlength=count)
    sums = [np.bincount(segments.ravel(), channel.ravel(), count) for channel in image]
    return np.stack([(total / np.maximum(sizes, 1))[segments] for total in sums]).astype(np.float32)


def fit(kept: np.ndarray, probabilities: np.ndarray, options: LimeOptions) -> np.ndarray:
    """Return the coefficient of each superpixel in the weighted ridge regression.

    Args:
        kept: 0 or 1, ``[samples, superpixels]``; the first row is the whole image.
        probabilities: ``[samples]``.
        options: ``kernel_width`` and ``alpha`` are used.
    """
    from sklearn.linear_model import Ridge
    from sklearn.metrics.pairwise import cosine_distances

    distances = cosine_distances(kept, kept[:1]).ravel()
    closeness = np.sqrt(np.exp(-((distances / options.kernel_width) ** 2)))
    return Ridge(alpha=options.alpha, fit_intercept=True).fit(kept, probabilities, sample_weight=closeness).coef_
