"""What PaddleClas and torchvision publish for several families: addresses, licences, preprocessing, figures."""

from __future__ import annotations

from ppcls_ext.registry import Accuracy, Preprocessing, Weights

PADDLECLAS_LICENCE = "Apache-2.0 (of PaddleClas; no other is stated for the weights)"
#: PaddleClas's configurations resize with OpenCV's bilinear interpolation.
PADDLECLAS_PREPROCESSING = Preprocessing(interpolation="bilinear", backend="cv2")
TORCHVISION_LICENCE = "BSD-3-Clause (of torchvision)"

_BCEBOS = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/"
_PYTORCH = "https://download.pytorch.org/models/"


def paddleclas_weights(file: str, source: str = "paddleclas", licence: str = PADDLECLAS_LICENCE) -> Weights:
    """Return the entry of PaddleClas's ``<file>_pretrained.pdparams``."""
    return Weights(f"{_BCEBOS}{file}_pretrained.pdparams", source, licence)


def ssld_weights(file: str, source: str, page: str, top1: float, top5: float) -> Weights:
    """Return the entry of PaddleClas's weights distilled by SSLD, ``<file>_ssld_pretrained.pdparams``, with figures."""
    return Weights(
        f"{_BCEBOS}{file}_ssld_pretrained.pdparams",
        source,
        PADDLECLAS_LICENCE,
        ssld=True,
        accuracy=paddleclas_accuracy(page, top1, top5),
    )


def paddleclas_accuracy(page: str, top1: float, top5: float) -> Accuracy:
    """Return the accuracy of PaddleClas's weights, as stated on a page of its documentation."""
    return Accuracy(top1, f"PaddleClas's weights, docs/zh_CN/models/ImageNet1k/{page}.md", top5)


def torchvision_weights(file: str, licence: str = TORCHVISION_LICENCE) -> Weights:
    """Return the entry of ``<file>.pth`` on torchvision's server; its name ends with the first digits of its SHA-256.

    So do the WSL files of the same server: their hub entry loads by PyTorch's ``load_state_dict_from_url``, which in
    release 1.1, of their time, always compared them.
    """
    return Weights(f"{_PYTORCH}{file}.pth", "torchvision", licence, sha256=file.rpartition("-")[2])
