"""Operators that make maps smaller or larger: pooling, interpolation, unfolding."""

from __future__ import annotations

from typing import Optional

import numpy as np

from ppcls_ext.engine.deploy.onnx.graph import FLOAT32, Tensor
from ppcls_ext.engine.deploy.onnx.operators.call import Call, translates
from ppcls_ext.engine.deploy.onnx.operators.network import window_pads, window_shape
from ppcls_ext.engine.deploy.onnx.operators.reduction import mean_over_pixels, reduced
from ppcls_ext.engine.deploy.onnx.sizes import Size, is_known

INTERPOLATIONS = {
    "nearest_interp": "nearest",
    "bilinear_interp": "linear",
    "bicubic_interp": "cubic",
    "linear_interp": "linear",
    "trilinear_interp": "linear",
}


@translates("pool2d")
def pool2d(call: Call) -> Tensor:
    """The mean or largest element of each window."""
    x = call.tensor("x")
    last = call.attribute("data_format") == "NHWC"
    x = call.to_channels_first(x) if last else x
    kernel, mean = call.known_integers("kernel_size"), call.attribute("pooling_type") == "avg"
    if call.attribute("global_pooling") or (call.attribute("adaptive") and kernel == [1, 1]):
        out = mean_over_pixels(call, x) if mean else reduced(call, "ReduceMax", x, [2, 3], True)
    elif call.attribute("adaptive"):
        out = _adaptive(call, x, kernel, mean)
    else:
        out = _windows(call, x, kernel, mean)
    return call.to_channels_last(out) if last else out


def _windows(call: Call, x: Tensor, kernel: list, mean: bool) -> Tensor:
    pads, strides, ceil = window_pads(call, 2), list(call.attribute("strides")), bool(call.attribute("ceil_mode"))
    options = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": pads,
        "auto_pad": "SAME_UPPER" if pads is None else None,
        "ceil_mode": 1 if ceil else None,
    }
    if mean:
        options["count_include_pad"] = 0 if call.attribute("exclusive") else 1
    shape = [*x.shape[:2], *window_shape(x.shape[2:], kernel, strides, pads, [1, 1], ceil)]
    return call.graph.add("AveragePool" if mean else "MaxPool", [x], shape, **options)


def _adaptive(call: Call, x: Tensor, target: list, mean: bool) -> Tensor:
    """Pool to a given size: by equal windows, or, where the size is no divisor, by a matrix for each axis."""
    sides = x.shape[2:]
    if not is_known(*sides):
        call.unsupported(f"it pools a map of unknown size to {target}; export for one height and width")
    operator = "AveragePool" if mean else "MaxPool"
    if all(side % size == 0 for side, size in zip(sides, target)):
        kernel = [side // size for side, size in zip(sides, target)]
        return call.graph.add(operator, [x], [*x.shape[:2], *target], kernel_shape=kernel, strides=kernel)
    if not mean:
        call.unsupported(f"it pools {sides[0]} x {sides[1]} to {target}, in windows of different sizes")
    height, width = (_averages(int(side), size) for side, size in zip(sides, target))
    rows = call.graph.add("MatMul", [call.graph.constant(height), x], [*x.shape[:2], target[0], sides[1]], FLOAT32)
    return call.graph.add("MatMul", [rows, call.graph.constant(width.T.copy())], [*x.shape[:2], *target])


def _averages(side: int, target: int) -> np.ndarray:
    """Return the matrix ``[target, side]`` whose rows average the windows of adaptive pooling."""
    matrix = np.zeros([target, side], np.float32)
    for row in range(target):
        start, end = row * side // target, -(-(row + 1) * side // target)
        matrix[row, start:end] = 1 / (end - start)
    return matrix


@translates("max_pool2d_with_index")
def max_pool2d_with_index(call: Call) -> list:
    """The largest element of each window and its place, which nothing may use."""
    x, kernel = call.tensor("x"), call.known_integers("kernel_size")
    if call.attribute("global_pooling") or (call.attribute("adaptive") and kernel == [1, 1]):
        return [reduced(call, "ReduceMax", x, [2, 3], True), None]
    if call.attribute("adaptive"):
        return [_adaptive(call, x, kernel, False), None]
    strides, pads = list(call.attribute("strides")), list(call.attribute("paddings")) * 2
    ceil = bool(call.attribute("ceil_mode", default=False))
    shape = [*x.shape[:2], *window_shape(x.shape[2:], kernel, strides, pads, [1, 1], ceil)]
    options = {"kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": 1 if ceil else None}
    return [call.graph.add("MaxPool", [x], shape, **options), None]


def _target(call: Call, x: Tensor) -> tuple[Optional[list], list]:
    """Return the height and width wanted and no factors, or else None and the factors."""
    if call.given("size_tensor"):
        return call.integers("size_tensor"), []
    if call.given("out_size"):
        return call.integers("out_size"), []
    sides = [call.attribute(name) for name in ("out_d", "out_h", "out_w")][-(x.rank - 2) :]
    if all(side > 0 for side in sides):
        return sides, []
    if call.given("scale_tensor"):
        call.unsupported("its factor is computed")
    factors = list(call.attribute("scale"))
    return None, factors * (x.rank - 2) if len(factors) == 1 else factors


@translates(*INTERPOLATIONS)
def interpolate(call: Call) -> Tensor:
    """Another height and width, by interpolation."""
    x = call.tensor("x")
    if call.attribute("data_format", "data_layout") != "NCHW":
        call.unsupported("it is channels-last")
    mode = INTERPOLATIONS[call.name]
    sides, factors = _target(call, x)
    aligned = call.attribute("align_corners")
    if factors and all(float(factor).is_integer() for factor in factors):
        sides = [size * int(factor) for size, factor in zip(x.shape[2:], factors)]
    if sides is not None and list(sides) == list(x.shape[2:]):
        return x  # every mode keeps the pixels then
    if aligned:
        transform = "align_corners"
    elif mode == "nearest" or (mode == "linear" and call.attribute("align_mode") == 1):
        transform = "asymmetric"
    else:
        # For one pixel Paddle, like PyTorch, samples at the edge. (Bicubic it looks half a pixel further out.)
        transform = "pytorch_half_pixel"
    options = {
        "mode": mode,
        "coordinate_transformation_mode": transform,
        "cubic_coeff_a": -0.75 if mode == "cubic" else None,
        "nearest_mode": ("round_prefer_ceil" if aligned else "floor") if mode == "nearest" else None,
    }
    shape: list[Size] = list(x.shape[:2])
    if sides is None:
        scales = call.graph.constant([1.0, 1.0, *factors], np.float32)
        shape = [*shape, *[call.graph.new_size("size") for _ in factors]]
        return call.graph.add("Resize", [x, None, scales], shape, **options)
    shape = [*shape, *sides]
    return call.graph.add("Resize", [x, None, None, call.graph.vector(shape)], shape, **options)


@translates("unfold")
def unfold(call: Call) -> Tensor:
    """The windows of a map as columns ``[N, C * kh * kw, windows]``: a convolution by one 1 for each place."""
    x = call.tensor("x")
    kernel, strides, dilations = (list(call.attribute(name)) for name in ("kernel_sizes", "strides", "dilations"))
    pads, channels = list(call.attribute("paddings")), int(x.shape[1])
    pads = pads * 2 if len(pads) == 2 else pads
    places = kernel[0] * kernel[1]
    weight = np.eye(places, dtype=np.float32).reshape(1, places, 1, *kernel).repeat(channels, 0)
    sides = window_shape(x.shape[2:], kernel, strides, pads, dilations)
    out = call.graph.add(
        "Conv",
        [x, call.graph.constant(weight.reshape(channels * places, 1, *kernel))],
        [x.shape[0], channels * places, *sides],
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
        group=channels,
    )
    return call.reshape(out, [x.shape[0], channels * places, sides[0] * sides[1]])


@translates("grid_sample")
def grid_sample(call: Call) -> Tensor:
    """Pixels at given places, in [-1, 1]."""
    x, grid = call.tensor("x"), call.tensor("grid")
    mode = call.attribute("mode")
    if call.graph.opset >= 20 and mode == "bilinear":
        mode = "linear"
    return call.graph.add(
        "GridSample",
        [x, grid],
        [*x.shape[:2], *grid.shape[1:3]],
        mode=mode,
        padding_mode=call.attribute("padding_mode"),
        align_corners=int(call.attribute("align_corners")),
    )
