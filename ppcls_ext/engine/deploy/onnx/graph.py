"""The ONNX graph while it is made: constants are folded, and sizes stay formulas until a node needs them.

A :class:`Tensor` knows its shape as :mod:`sizes <ppcls_ext.engine.deploy.onnx.sizes>`. A small tensor of integers, such
as ``paddle.shape(x)`` and what is computed from it, holds formulas as its *content* and becomes nodes only if
something at run time asks for it. Integers are int64 throughout.
"""

from __future__ import annotations

from typing import Iterable, Optional, Sequence, Union

import numpy as np

from ppcls_ext.engine.deploy.onnx import sizes
from ppcls_ext.engine.deploy.onnx.folding import evaluate
from ppcls_ext.engine.deploy.onnx.sizes import Formula, Quotient, Size, Symbol, is_known

INT64 = np.dtype(np.int64)
FLOAT32 = np.dtype(np.float32)
BOOL = np.dtype(bool)


class Tensor:
    """A value of the graph.

    Attributes:
        name: its name in the file.
        dtype: of its elements.
        shape: its sizes.
        value: the array, of a constant.
        content: an object array of sizes, of a tensor of integers that are known as formulas.
        fill: the number that all elements are equal to, if that is known.
        node: what computes it; None for inputs, constants and what is no node yet.
    """

    def __init__(
        self,
        name: str,
        dtype: np.dtype,
        shape: Sequence[Size],
        value: Optional[np.ndarray] = None,
        content: Optional[np.ndarray] = None,
        fill: Optional[float] = None,
    ):
        self.name = name
        self.dtype = np.dtype(dtype)
        self.shape = tuple(shape)
        self.value = value
        self.content = content
        self.fill = fill
        self.node: Optional[Node] = None

    @property
    def array(self) -> np.ndarray:
        """Return the array of a constant.

        Raises:
            ValueError: if the tensor is none.
        """
        if self.value is None:
            raise ValueError(f"{self} is no constant")
        return self.value

    @property
    def rank(self) -> int:
        """Return the number of axes."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"{self.name}{list(self.shape)}"


class Node:
    """An operator of ONNX; an input that is left out is None."""

    def __init__(self, operator: str, inputs: Sequence[Optional[Tensor]], outputs: Sequence[Tensor], attributes: dict):
        self.operator = operator
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.attributes = attributes
        for tensor in outputs:
            tensor.node = self

    @property
    def output(self) -> Tensor:
        """Return the first output."""
        return self.outputs[0]

    def operand(self, index: int) -> Tensor:
        """Return an input that must be there.

        Raises:
            ValueError: if it is left out.
        """
        tensor = self.inputs[index]
        if tensor is None:
            raise ValueError(f"{self} has no input {index}")
        return tensor

    def __repr__(self) -> str:
        return f"{self.operator}({', '.join(map(repr, self.inputs))}) -> {self.outputs}"


class Graph:
    """A graph in the making.

    Attributes:
        opset: version of ONNX's operators.
        inputs: what is fed.
        outputs: name of each result and its tensor.
        nodes: in an order in which they can run.
        scope: prefix of the names of new nodes and tensors, such as ``stages.0.blocks.1``.
    """

    def __init__(self, opset: int):
        self.opset = opset
        self.inputs: list[Tensor] = []
        self.outputs: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.scope = ""
        self._counts: dict = {}
        self._sources: dict = {}  # where a symbol can be read: {symbol: (tensor, axis)}
        self._materialised: dict = {}

    # ---- tensors -----------------------------------------------------------------------------------------------

    def unique_name(self, kind: str) -> str:
        """Return a name for a tensor or node of this kind in the current scope."""
        name = f"{self.scope}/{kind}" if self.scope else kind
        count = self._counts[name] = self._counts.get(name, -1) + 1
        return f"{name}_{count}" if count else name

    def add_input(self, name: str, dtype: np.dtype, shape: Sequence[Size]) -> Tensor:
        """Add an input."""
        tensor = Tensor(name, dtype, shape)
        self._counts[name] = 0
        self.inputs.append(tensor)
        self.remember(tensor)
        return tensor

    def constant(self, value: Union[np.ndarray, Sequence, float], dtype=None, name: Optional[str] = None) -> Tensor:
        """Return a constant; float64 becomes float32 and int32 becomes int64 unless ``dtype`` is given."""
        array = np.asarray(value, dtype=dtype)
        if dtype is None:
            array = _usual(array)
        content = array.astype(object) if array.dtype == INT64 and array.size <= 64 else None
        if content is not None:
            content = np.vectorize(int, otypes=[object])(content) if content.size else content
        return Tensor(name or self.unique_name("constant"), array.dtype, array.shape, value=array, content=content)

    def integers(self, content: Union[np.ndarray, Sequence[Size], Size]) -> Tensor:
        """Return a tensor of int64 that holds these sizes."""
        array = np.empty(np.shape(content), dtype=object)
        array[...] = content
        if all(isinstance(size, (int, np.integer)) for size in array.flat):
            return self.constant(array.astype(np.int64))
        return Tensor(self.unique_name("sizes"), INT64, array.shape, content=array)

    def filled(self, shape: Sequence[Size], fill: float, dtype: np.dtype) -> Tensor:
        """Return a tensor of equal elements."""
        if is_known(*shape):
            tensor = self.constant(np.full(shape, fill, dtype=dtype))
            tensor.fill = fill
            return tensor
        return Tensor(self.unique_name("filled"), dtype, shape, fill=fill)

    def remember(self, tensor: Tensor) -> None:
        """Note that symbols among the sizes of this tensor can be read from it."""
        for axis, size in enumerate(tensor.shape):
            atom = sizes.as_symbol(size)
            if atom is not None:
                self._sources.setdefault(atom, (tensor, axis))

    def sizes_in(self, tensor: Tensor) -> list[Size]:
        """Return the integers in a small tensor; what is known at run time only becomes new sizes."""
        if tensor.content is not None:
            return list(tensor.content.flat)
        if tensor.fill is not None:
            return [int(tensor.fill)] * int(sizes.product(tensor.shape))
        if tensor.value is not None:
            return [int(item) for item in tensor.value.flat]
        found: list[Size] = []
        tensor = self.real(tensor)
        for index in range(int(sizes.product(tensor.shape))):
            flat = self.add("Reshape", [tensor, self.constant([-1], np.int64)], [sizes.product(tensor.shape)])
            if tensor.dtype != INT64:
                flat = self.add("Cast", [flat], flat.shape, INT64, to=INT64)
            bounds = [self.constant([item], np.int64) for item in (index, index + 1)]
            size = self.new_size("size")
            element = flat if flat.shape == (1,) else self.add("Slice", [flat, *bounds], [1])
            self._materialised[sizes.as_symbol(size)] = element
            found.append(size)
        return found

    def shape_for(self, tensor: Tensor, shape: Sequence[Size]) -> Tensor:
        """Return what a Reshape of ``tensor`` to ``shape`` takes: constant if 0 (copied) and one -1 can say it."""
        target: list[Size] = []
        for axis, size in enumerate(shape):
            copied = axis < tensor.rank and tensor.shape[axis] == size and not is_known(size)
            target.append(0 if copied else size)
        unknown = [axis for axis, size in enumerate(target) if not is_known(size)]
        if unknown:  # leave the one that is dearest to compute to the runtime
            target[max(unknown, key=lambda axis: len(str(target[axis])))] = -1
        return self.vector(target)

    def new_size(self, name: str) -> Formula:
        """Return a size that nothing is known about."""
        return sizes.symbol(self.unique_name(name))

    # ---- nodes -------------------------------------------------------------------------------------------------

    def add(
        self,
        operator: str,
        inputs: Sequence[Optional[Tensor]],
        shape: Sequence[Size],
        dtype: Optional[np.dtype] = None,
        **attributes,
    ) -> Tensor:
        """Append a node of one output and return this; from constants alone a constant.

        Args:
            operator: ONNX's name.
            inputs: its inputs; None where one is left out.
            shape: of the output.
            dtype: of the output; by default that of the first input.
            **attributes: ONNX's attributes; None means that one is left out.
        """
        if dtype is None:
            if inputs[0] is None:
                raise ValueError(f"{operator}: give dtype where the first input is left out")
            dtype = inputs[0].dtype
        return self.add_many(operator, inputs, [(shape, np.dtype(dtype))], **attributes)[0]

    def add_many(
        self, operator: str, inputs: Sequence[Optional[Tensor]], outputs: Sequence[tuple], **attributes
    ) -> list[Tensor]:
        """Append a node of several outputs, each given as ``(shape, dtype)``; see :meth:`add`."""
        attributes = {key: value for key, value in attributes.items() if value is not None}
        inputs = [tensor if tensor is None else self.real(tensor) for tensor in inputs]
        if inputs and all(tensor is None or tensor.value is not None for tensor in inputs):
            arrays = [None if tensor is None else tensor.value for tensor in inputs]
            found = evaluate(operator, arrays, attributes, self.opset, len(outputs))
            if found is not None:
                return [self.constant(array, name=self._folded_name(inputs)) for array in found]
        made = [Tensor(self.unique_name(operator), dtype, shape) for shape, dtype in outputs]
        self.nodes.append(Node(operator, inputs, made, attributes))
        for tensor in made:
            self.remember(tensor)
        return made

    def _folded_name(self, inputs: Sequence[Optional[Tensor]]) -> str:
        """Name a folded constant after the largest that it was made from."""
        largest = max((tensor for tensor in inputs if tensor is not None), key=lambda tensor: tensor.array.size)
        base = largest.name.split(":")[0]
        count = self._counts[base] = self._counts.get(base, 0) + 1
        return f"{base}:{count}"

    # ---- sizes as tensors --------------------------------------------------------------------------------------

    def real(self, tensor: Tensor) -> Tensor:
        """Return ``tensor`` as something that a node can take: known formulas and fills become nodes."""
        if tensor.value is not None or tensor.node is not None or tensor in self.inputs:
            return tensor
        if tensor.name not in self._materialised:
            if tensor.content is not None:
                made = self._vector(list(tensor.content.flat))
                if tensor.rank != 1:
                    made = self.add("Reshape", [made, self.constant(list(tensor.shape), np.int64)], tensor.shape)
            else:
                fill = np.asarray([tensor.fill], dtype=tensor.dtype)
                made = self.add("ConstantOfShape", [self.vector(tensor.shape)], tensor.shape, tensor.dtype, value=fill)
            self._materialised[tensor.name] = made
        return self._materialised[tensor.name]

    def vector(self, content: Sequence[Size]) -> Tensor:
        """Return the sizes as a one-dimensional tensor that a node can take."""
        return self.real(self.integers(list(content)))

    def _vector(self, content: list) -> Tensor:
        pieces, run = [], []
        for size in content:
            if is_known(size):
                run.append(int(size))
                continue
            if run:
                pieces.append(self.constant(run, np.int64))
                run = []
            pieces.append(self._scalar(size))
        if run:
            pieces.append(self.constant(run, np.int64))
        if len(pieces) == 1:
            return pieces[0]
        return self.add("Concat", pieces, [len(content)], axis=0)

    def _scalar(self, size: Size) -> Tensor:
        """Return ``size`` as a tensor of one element, ``[1]``."""
        if isinstance(size, int):
            return self.constant([size], np.int64)
        if size not in self._materialised:
            self._materialised[size] = self._compute(size)
        return self._materialised[size]

    def _compute(self, size: Formula) -> Tensor:
        total: Optional[Tensor] = None
        for monomial, factor in size.terms.items():
            pieces = [self._atom(atom) for atom in monomial]
            if factor != 1 or not pieces:
                pieces.append(self.constant([factor], np.int64))
            part = pieces[0]
            for piece in pieces[1:]:
                part = self.add("Mul", [part, piece], [1])
            total = part if total is None else self.add("Add", [total, part], [1])
        return self.constant([0], np.int64) if total is None else total

    def _atom(self, atom: Union[Symbol, Quotient]) -> Tensor:
        """Return an atom as ``[1]``. Symbols are axes of tensors, of the inputs mostly."""
        if atom not in self._materialised:
            if isinstance(atom, Symbol):
                tensor, axis = self._sources[atom]
                made = self.add("Shape", [tensor], [1], INT64, start=axis, end=axis + 1)
            else:
                above, below = self._scalar(atom.numerator), self._scalar(atom.denominator)
                if sizes.may_be_negative(atom.numerator):  # Div rounds towards zero; Mod has the divisor's sign
                    above = self.add("Sub", [above, self.add("Mod", [above, below], [1])], [1])
                made = self.add("Div", [above, below], [1])
            self._materialised[atom] = made
        return self._materialised[atom]

    # ---- uses --------------------------------------------------------------------------------------------------

    def users(self) -> dict:
        """Return the nodes that take each tensor; a result of the graph is used by None."""
        table: dict = {}
        for node in self.nodes:
            for tensor in node.inputs:
                if tensor is not None:
                    table.setdefault(tensor, []).append(node)
        for tensor in self.outputs.values():
            table.setdefault(tensor, []).append(None)
        return table

    def replace(self, old: Tensor, new: Tensor) -> None:
        """Let everything that takes ``old`` take ``new``."""
        for node in self.nodes:
            node.inputs = [new if tensor is old else tensor for tensor in node.inputs]
        self.outputs = {name: new if tensor is old else tensor for name, tensor in self.outputs.items()}

    def prune(self) -> None:
        """Keep the nodes that the outputs need, each behind those that it needs itself."""
        ordered: list[Node] = []
        state: dict[Node, bool] = {}  # False while what a node needs is looked at
        stack = [tensor.node for tensor in reversed(list(self.outputs.values())) if tensor.node is not None]
        while stack:
            node = stack[-1]
            if node in state:
                stack.pop()
                if not state[node]:
                    state[node] = True
                    ordered.append(node)
                continue
            state[node] = False
            for tensor in reversed(node.inputs):
                if tensor is not None and tensor.node is not None and tensor.node not in state:
                    stack.append(tensor.node)
        self.nodes = ordered


def _usual(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.float64 or array.dtype == np.float16:
        return array.astype(np.float32)
    return array.astype(np.int64) if array.dtype in (np.int32, np.int16, np.int8) else array


def all_constant(tensors: Iterable[Optional[Tensor]]) -> bool:
    """Return whether all of the tensors are constants."""
    return all(tensor is None or tensor.value is not None for tensor in tensors)
