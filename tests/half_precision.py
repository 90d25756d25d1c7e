"""A CPU that takes half precision: a stand-in for the GPU that continuous integration lacks.

Paddle's CPU kernels compute in float32 and float64, apart from a few; mixed precision switches itself off on a CPU.
:func:`half_precision_device` makes this process take the CPU for a device that has it:

- Tensors really are float16 or bfloat16. An operator takes them to float32, computes there, and rounds its result, as a
  kernel does that accumulates in float32. Gradients pass the same casts, so they are rounded too, and overflow in
  float16. An operator that meets half precision and float32 at once outside autocast is an error, as on a GPU; norms
  may have float32 parameters.
- ``paddle.amp.auto_cast``, ``decorate`` and ``GradScaler`` are Paddle's own: only their question for the device is
  answered with yes. What Paddle does in C++, choosing each operator's type by level, lists and promotion, is done here
  by the same rule (``GetAmpDestDtype`` in ``paddle/fluid/imperative/amp_utils.h``).
- As on a GPU, ``rnn`` has kernels for float32 and float64 alone (``paddle/phi/kernels/gpu/rnn_kernel.cu.cc``).

What it cannot show: speed, the rounding of particular kernels, and whatever else is the GPU's own.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Callable, Iterator

import paddle
from paddle import _C_ops, _legacy_C_ops
from paddle.distributed.fleet.recompute import recompute as _recompute  # noqa: F401 - imported for sys.modules

HALVES = (paddle.float16, paddle.bfloat16)
#: Operators without a half-precision kernel on GPUs.
UNSUPPORTED = {"rnn"}
#: Those whose other inputs than the first stay float32.
NORMS = {"layer_norm", "batch_norm", "batch_norm_", "sync_batch_norm_"}
#: Names in autocast's lists, where they are not the operators' own.
LISTED_AS = {
    "matmul": "matmul_v2",
    "sum": "reduce_sum",
    "mean": "reduce_mean",
    "cross_entropy_with_softmax": "softmax_with_cross_entropy",
    "bicubic_interp": "bicubic_interp_v2",
    "bilinear_interp": "bilinear_interp_v2",
    "p_norm": "pnorm",
    "batch_norm_": "batch_norm",
}
#: Left as they are: they have kernels for half precision on CPUs, or no kernel at all.
NATIVE = {"cast", "cast_", "assign", "assign_", "assign_out_", "share_data", "full_like", "coalesce_tensor"}
OPERATORS = {
    "add": ("__add__", "__radd__"),
    "subtract": ("__sub__", "__rsub__"),
    "multiply": ("__mul__", "__rmul__"),
    "divide": ("__truediv__", "__rtruediv__"),
    "pow": ("__pow__",),
    "matmul": ("__matmul__",),
    "compare": ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"),
}


class _Tracer:
    """Paddle's tracer, but on a GPU, as far as autocast and the loss scaler ask, and with autocast's state here."""

    _own = ("_amp_level", "_amp_dtype", "_use_promote")

    def __init__(self, tracer):
        place = SimpleNamespace(is_gpu_place=lambda: True, is_xpu_place=lambda: False, is_custom_place=lambda: False)
        off = sys.modules["paddle.amp.auto_cast"].AMP_LEVEL.O0
        state = {"_amp_level": off, "_amp_dtype": "float32", "_use_promote": True}
        self.__dict__.update(_tracer=tracer, _expected_place=place, _lists=(set(), set()), **state)

    def __getattr__(self, name):
        return getattr(self._tracer, name)

    def __setattr__(self, name, value):
        if name in self._own:
            self.__dict__[name] = value
        else:
            setattr(self._tracer, name, value)

    def _get_amp_op_list(self):
        return self._lists

    def _set_amp_op_list(self, white, black):
        self.__dict__["_lists"] = (set(white), set(black))


class _Device:
    def __init__(self):
        self.levels = sys.modules["paddle.amp.auto_cast"].AMP_LEVEL
        self.tracer = _Tracer(paddle.base.framework._dygraph_tracer())
        self.cast = _C_ops.cast

    def to(self, tensor: paddle.Tensor, dtype) -> paddle.Tensor:
        return tensor if tensor.dtype == dtype else self.cast(tensor, dtype)

    def autocast_type(self, name: str, tensors: list):
        """Return the type that an operator's inputs are cast to, or None without autocast."""
        level = self.tracer._amp_level
        if level == self.levels.O0:
            return None
        if name == "einsum" and len(tensors) == 1:
            return None  # the layers' way to transpose on a CPU; on a GPU they call transpose, which keeps the type
        half = getattr(paddle, self.tracer._amp_dtype)
        white, black = self.tracer._get_amp_op_list()
        listed = LISTED_AS.get(name, name)
        decisive = tensors[:1] if name in NORMS else tensors
        if listed in black or name in UNSUPPORTED:
            return paddle.float32
        if listed in white or (level == self.levels.O2 and not self.tracer._use_promote):
            return half
        return paddle.float32 if any(tensor.dtype == paddle.float32 for tensor in decisive) else half

    def wrap(self, name: str, function: Callable) -> Callable:
        """Return ``function`` for tensors of half precision too."""

        def operator(*arguments, **keywords):
            tensors = [t for t in _tensors([*arguments, *keywords.values()]) if t.is_floating_point()]
            wanted = self.autocast_type(name, tensors)
            if wanted is not None:
                first = tensors[0] if tensors else None

                def chosen(tensor):
                    fixed = tensor.dtype not in (*HALVES, paddle.float32) or (name in NORMS and tensor is not first)
                    return tensor if fixed else self.to(tensor, wanted)

                arguments, keywords = _map(chosen, (arguments, keywords))
                tensors = [t for t in _tensors([*arguments, *keywords.values()]) if t.is_floating_point()]
            halves = {tensor.dtype for tensor in tensors} & set(HALVES)
            if not halves:
                return function(*arguments, **keywords)
            mixed = tensors[:1] if name in NORMS else tensors
            if name in UNSUPPORTED or len({tensor.dtype for tensor in mixed}) > 1:
                raise TypeError(f"{name} has no kernel for {', '.join(str(t.dtype) for t in tensors)}")
            half = tensors[0].dtype

            def widened(tensor):
                return self.to(tensor, paddle.float32) if tensor.dtype in HALVES else tensor

            arguments, keywords = _map(widened, (arguments, keywords))
            result = function(*arguments, **keywords)
            if name.endswith("_") and name not in NORMS:  # in place: the first tensor takes the result
                return paddle.assign(self.to(result, half), output=tensors[0])
            if name in NORMS and isinstance(result, (tuple, list)):
                return type(result)([self.to(result[0], half), *result[1:]])
            return _map(lambda tensor: self.to(tensor, half) if tensor.dtype == paddle.float32 else tensor, result)

        return operator

    def wrap_linear(self, function: Callable) -> Callable:
        """Return the kernel of ``F.linear``: on GPUs one operator of Paddle 3, two of Paddle 2.6."""
        if hasattr(_C_ops, "linear_v2"):
            return self.wrap("linear_v2", function)

        def linear(x, weight, bias=None):
            product = _C_ops.matmul(x, weight, False, False)
            return product if bias is None else _C_ops.add(product, bias)

        return linear

    def wrap_adamw(self, function: Callable) -> Callable:
        """Return AdamW's kernel with float32 master weights: it updates those, and the half-precision ones follow."""

        def adamw_(*arguments):
            parameter, gradient, *rest = arguments
            if parameter.dtype not in HALVES:
                return function(*arguments)
            master, multi_precision = (6, 16) if len(arguments) == 21 else (5, 15)  # Paddle 3 has amsgrad's besides
            weights, rest[master], rest[multi_precision] = rest[master], None, False
            function(weights, self.to(gradient, paddle.float32), *rest)
            parameter.set_value(self.to(weights, parameter.dtype))
            return (None,) * (7 if len(arguments) == 21 else 6)

        return adamw_

    def wrap_unscale(self, function: Callable) -> Callable:
        def check_finite_and_unscale(gradients, scale, outputs, found, *rest):
            if gradients[0].dtype not in HALVES:
                return function(gradients, scale, outputs, found, *rest)
            wide = [self.to(gradient, paddle.float32) for gradient in gradients]
            result = function(wide, scale, wide, found, *rest)
            for gradient, value in zip(outputs, wide):
                paddle.assign(self.to(value, gradient.dtype), output=gradient)
            return result

        return check_finite_and_unscale


def _is_tensor(value) -> bool:
    return isinstance(value, paddle.Tensor)


def _tensors(value) -> list:
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return [value] if _is_tensor(value) else []


def _map(function: Callable, value):
    if isinstance(value, dict):
        return {key: _map(function, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_map(function, item) for item in value])
    # einsum returns a cache besides, of tensors that may be empty
    is_number = _is_tensor(value) and value.is_floating_point() and value._is_initialized()
    return function(value) if is_number else value


@contextmanager
def half_precision_device() -> Iterator[None]:
    """Let the CPU take half precision, autocast and loss scaling, for the length of a ``with`` block."""
    device = _Device()
    patched = []

    def patch(owner, name, value):
        patched.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    auto_cast, grad_scaler = sys.modules["paddle.amp.auto_cast"], sys.modules["paddle.amp.grad_scaler"]
    try:
        for owner in (auto_cast, grad_scaler, paddle.framework):
            patch(owner, "_dygraph_tracer", lambda: device.tracer)
        for name in ("_is_gpu_float16_supported", "_is_gpu_bfloat16_supported"):
            patch(auto_cast, name, lambda: True)
        special = {"adamw_": device.wrap_adamw, "linear": device.wrap_linear}
        for name, function in list(vars(_C_ops).items()):
            if not name.startswith("__") and callable(function) and name not in NATIVE:
                wrapped = special[name](function) if name in special else device.wrap(name, function)
                patch(_C_ops, name, wrapped)
        unscale = _legacy_C_ops.check_finite_and_unscale
        patch(_legacy_C_ops, "check_finite_and_unscale", device.wrap_unscale(unscale))
        for name, methods in OPERATORS.items():
            for method in methods:
                patch(paddle.Tensor, method, device.wrap(name, getattr(paddle.Tensor, method)))
        yield
    finally:
        for owner, name, value in reversed(patched):
            setattr(owner, name, value)
