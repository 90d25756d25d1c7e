"""The table of translations, and what a translation is given."""

from __future__ import annotations

from typing import Any, Callable, NoReturn, Optional, Sequence, Union

import numpy as np

from ppcls_ext.engine.deploy.onnx.errors import UnsupportedOperatorError
from ppcls_ext.engine.deploy.onnx.graph import BOOL, FLOAT32, INT64, Graph, Tensor
from ppcls_ext.engine.deploy.onnx.sizes import Size, is_known
from ppcls_ext.engine.deploy.onnx.tracing import Operator

#: Paddle's operator: the function that adds its translation to the graph and returns its output or outputs.
TABLE: dict[str, Callable[[Call], Union[Tensor, Sequence]]] = {}

_MISSING = object()


def translates(*names: str) -> Callable:
    """Enter the decorated function into :data:`TABLE` under these names."""

    def enter(function: Callable) -> Callable:
        TABLE.update(dict.fromkeys(names, function))
        return function

    return enter


class Call:
    """One operator with its inputs as tensors of the graph."""

    def __init__(self, graph: Graph, operator: Operator, values: dict):
        self.graph = graph
        self.operator = operator
        self._values = values

    @property
    def name(self) -> str:
        """Return the operator's name in Paddle."""
        return self.operator.name

    def unsupported(self, why: str) -> NoReturn:
        """Raise the error that this form of the operator has no translation."""
        raise UnsupportedOperatorError(f"{describe(self.operator)} cannot be written as ONNX: {why}")

    # ---- inputs ------------------------------------------------------------------------------------------------

    def given(self, name: str) -> bool:
        """Return whether there is an input of this name."""
        return self.operator.inputs.get(name) is not None

    def tensor(self, name: str) -> Tensor:
        """Return an input."""
        return self._values[self.operator.inputs[name]]

    def optional(self, name: str) -> Optional[Tensor]:
        """Return an input, or None if it was left out."""
        return self.tensor(name) if self.given(name) else None

    def tensors(self, name: str) -> list[Tensor]:
        """Return an input that is a list of tensors."""
        value = self.operator.inputs[name]
        if isinstance(value, list):
            return [self._values[item] for item in value]
        return self._values[value]

    def attribute(self, *names: str, default: Any = _MISSING) -> Any:
        """Return the attribute that has one of these names (they changed between Paddle's versions)."""
        for name in names:
            if name in self.operator.attributes:
                return self.operator.attributes[name]
        if default is _MISSING:
            raise KeyError(f"{self.name} has no attribute {names[0]}; it has {', '.join(self.operator.attributes)}")
        return default

    def integers(self, name: str) -> list[Size]:
        """Return the integers of an input or attribute: what is only known at run time becomes a new size."""
        value = self.operator.inputs.get(name)
        if value is None:
            found = self.attribute(name)
            return [int(item) for item in found] if isinstance(found, (list, tuple)) else [int(found)]
        if isinstance(value, list):
            return [size for item in value for size in self.graph.sizes_in(self._values[item])]
        if isinstance(self._values[value], list):
            return [size for tensor in self._values[value] for size in self.graph.sizes_in(tensor)]
        return self.graph.sizes_in(self._values[value])

    def known_integers(self, name: str) -> list[int]:
        """Return the integers of an input or attribute, which must be numbers."""
        found = self.integers(name)
        if not is_known(*found):
            self.unsupported(f"its {name} is known at run time only")
        return [int(size) for size in found]

    def number(self, name: str) -> float:
        """Return an attribute, or an input that is a constant of one element, as a number."""
        if not self.given(name):
            return float(self.attribute(name))
        tensor = self.tensor(name)
        if tensor.value is None:
            self.unsupported(f"its {name} is known at run time only")
        return float(tensor.value.reshape(-1)[0])

    # ---- nodes that many translations need ---------------------------------------------------------------------

    def axis(self, axis: int, rank: int) -> int:
        """Return a possibly negative axis as one that is not."""
        return axis + rank if axis < 0 else axis

    def reshape(self, x: Tensor, shape: Sequence[Size]) -> Tensor:
        """Return ``x`` with another shape of the same number of elements."""
        shape = tuple(shape)
        if shape == x.shape:
            return x
        if x.content is not None and is_known(*shape):
            return self.graph.integers(x.content.reshape(shape))
        return self.graph.add("Reshape", [x, self.graph.shape_for(x, shape)], shape)

    def transpose(self, x: Tensor, perm: Sequence[int]) -> Tensor:
        """Return ``x`` with its axes in another order."""
        perm = list(perm)
        if perm == list(range(x.rank)):
            return x
        return self.graph.add("Transpose", [x], [x.shape[axis] for axis in perm], perm=perm)

    def squeeze(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Return ``x`` without these axes of one element."""
        kept = [size for axis, size in enumerate(x.shape) if axis not in axes]
        if not axes:
            return x
        if x.content is not None:
            return self.graph.integers(np.squeeze(x.content, tuple(axes)))
        return self.graph.add("Squeeze", [x, self.graph.constant(list(axes), np.int64)], kept)

    def unsqueeze(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Return ``x`` with new axes of one element at these places of the result."""
        if not axes:
            return x
        shape = list(x.shape)
        for axis in sorted(axes):
            shape.insert(axis, 1)
        if x.content is not None:
            return self.graph.integers(np.expand_dims(x.content, tuple(axes)))
        return self.graph.add("Unsqueeze", [x, self.graph.constant(sorted(axes), np.int64)], shape)

    def cast(self, x: Tensor, dtype: np.dtype) -> Tensor:
        """Return ``x`` with elements of another type."""
        dtype = np.dtype(dtype)
        if x.dtype == dtype:
            return x
        if x.value is not None:
            return self.graph.constant(x.value.astype(dtype), dtype)
        return self.graph.add("Cast", [x], x.shape, dtype, to=dtype)

    def binary(self, operator: str, x: Tensor, y: Tensor, dtype: Optional[np.dtype] = None) -> Tensor:
        """Return an operator of two tensors that broadcast."""
        return self.graph.add(operator, [x, y], broadcast(x.shape, y.shape), dtype or x.dtype)

    def like(self, number: float, x: Tensor) -> Tensor:
        """Return a scalar constant of the type of ``x``."""
        return self.graph.constant(np.asarray(number, dtype=x.dtype), x.dtype)

    def to_channels_first(self, x: Tensor) -> Tensor:
        """Return ``[N, ..., C]`` as ``[N, C, ...]``."""
        return self.transpose(x, [0, x.rank - 1, *range(1, x.rank - 1)])

    def to_channels_last(self, x: Tensor) -> Tensor:
        """Return ``[N, C, ...]`` as ``[N, ..., C]``."""
        return self.transpose(x, [0, *range(2, x.rank), 1])

    def spread(self, x: Tensor, rank: int, axis: int = 1) -> Tensor:
        """Return a vector so that it broadcasts along ``axis`` of a tensor of this rank."""
        return self.unsqueeze(x, [i for i in range(rank) if i != axis])


def broadcast(*shapes: Sequence[Size]) -> list[Size]:
    """Return the shape of an operator of tensors that broadcast."""
    rank = max(map(len, shapes))
    result: list[Size] = []
    for axis in range(rank):
        column = [shape[axis - rank + len(shape)] for shape in shapes if axis - rank + len(shape) >= 0]
        others = [size for size in column if size != 1]
        # Two formulas that differ are equal or one of them is 1; a number is the surer of the two.
        result.append(next((size for size in others if is_known(size)), others[0] if others else 1))
    return result


def numpy_type(dtype: Any) -> np.dtype:
    """Return the type that elements of Paddle's ``dtype`` have in the graph, where all integers are int64.

    Raises:
        UnsupportedOperatorError: for complex numbers, bfloat16 and others that no image classifier needs.
    """
    name = str(dtype).rpartition(".")[2].lower().partition(":")[0].strip("<> ")
    table = {"float32": FLOAT32, "float64": FLOAT32, "bool": BOOL, "float16": FLOAT32}
    table.update(dict.fromkeys(("int64", "int32", "int16", "int8", "uint8"), INT64))
    if name not in table:
        raise UnsupportedOperatorError(f"tensors of {name} are not written as ONNX")
    return table[name]


def describe(operator: Operator) -> str:
    """Return the operator's name and where it is."""
    inside = str(operator.attributes.get("struct_name", "")).strip("/").replace("/", " > ")
    place = f"in or after the layer {operator.layer!r}" if operator.layer else "before the first layer with weights"
    return f"Paddle's operator {operator.name!r} ({place}{f', in {inside}' if inside else ''})"
