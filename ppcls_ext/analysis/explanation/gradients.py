"""The gradient of a class's logit with respect to the image."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from ppcls_ext.analysis.explanation.errors import ExplanationError
from ppcls_ext.engine.model import logits_of


def image_gradients(model: nn.Layer, images: np.ndarray, class_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the logit of a class for each image, and its gradient with respect to the image.

    The parameters keep their gradients as they are.

    Args:
        model: in evaluation mode.
        images: float32 ``[N, C, H, W]``, preprocessed.
        class_id: the class.

    Returns:
        ``[N]`` and ``[N, C, H, W]``.

    Raises:
        ExplanationError: the logits do not depend on the image by operators that have gradients, or are not finite.
    """
    x = paddle.to_tensor(images, stop_gradient=False)
    logits = logits_of(model(x))[:, class_id]
    try:
        # Images do not meet in evaluation mode, so the sum has the gradient of each.
        backward(model, logits.sum())
    except RuntimeError as error:
        raise ExplanationError(f"{type(model).__name__} gives no gradients: {_last_line(error)}") from None
    if x.grad is None:
        raise ExplanationError(f"{type(model).__name__} gives no gradients: its output does not depend on the image")
    found = logits.numpy(), x.grad.numpy()
    if not all(np.isfinite(values).all() for values in found):
        raise ExplanationError(f"{type(model).__name__}: the logits or their gradients are not finite")
    return found


def backward(model: nn.Layer, value: paddle.Tensor) -> None:
    """Run the backward pass of a scalar, and leave the gradients of the parameters as they were.

    ``paddle.grad`` would leave the parameters out, and Paddle's RNN kernels then fail (3.3) or crash (2.6).
    """
    before = {id(parameter): parameter.grad for parameter in model.parameters()}
    kept = {key: None if gradient is None else gradient.clone() for key, gradient in before.items()}
    try:
        value.backward()
    finally:
        for parameter in model.parameters():
            parameter.clear_gradient(False)
            if kept[id(parameter)] is not None:
                parameter.grad = kept[id(parameter)]


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
