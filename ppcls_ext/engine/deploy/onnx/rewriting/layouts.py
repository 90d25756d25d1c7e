"""Chains of Reshape and Transpose: at most one Transpose between two Reshapes, and none where nothing moves."""

from __future__ import annotations

from typing import Optional, Sequence

from ppcls_ext.engine.deploy.onnx.graph import Graph, Node, Tensor
from ppcls_ext.engine.deploy.onnx.rewriting.constants import sole_user
from ppcls_ext.engine.deploy.onnx.sizes import Size, exact_quotient, product

LAYOUT = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")


class Factors:
    """How the axes of a tensor come from those of another: each axis is a list of factors, the slowest first.

    Attributes:
        source: the factors of each axis of the tensor that the chain starts from.
        axes: the factors of each axis where the chain has come to.
        sizes: the size of each factor.
    """

    def __init__(self, shape: Sequence[Size]):
        self.sizes: list[Size] = []
        self.source = [self._new(size) for size in shape]
        self.axes = [list(axis) for axis in self.source]

    def _new(self, size: Size) -> list[int]:
        if size == 1:
            return []
        self.sizes.append(size)
        return [len(self.sizes) - 1]

    def transpose(self, perm: Sequence[int]) -> None:
        """Follow a Transpose."""
        self.axes = [self.axes[axis] for axis in perm]

    def reshape(self, shape: Sequence[Size]) -> bool:
        """Follow a Reshape by taking factors apart; return whether that was possible."""
        rest = [factor for axis in self.axes for factor in axis]
        axes = []
        for size in shape:
            taken: list[int] = []
            while True:
                missing = exact_quotient(size, product(self.sizes[factor] for factor in taken))
                if missing is None:
                    return False
                if missing == 1:
                    break
                if not rest:
                    return False
                factor = rest.pop(0)
                if exact_quotient(missing, self.sizes[factor]) is None:
                    pieces = self._split(factor, missing)
                    if pieces is None:
                        return False
                    factor, other = pieces
                    rest.insert(0, other)
                taken.append(factor)
            axes.append(taken)
        if rest:
            return False
        self.axes = axes
        return True

    def _split(self, factor: int, size: Size) -> Optional[tuple[int, int]]:
        """Take a factor apart into one of ``size`` and what is left."""
        left = exact_quotient(self.sizes[factor], size)
        if left is None:
            return None
        self.sizes[factor] = size
        self.sizes.append(left)
        other = len(self.sizes) - 1
        for axes in (self.source, self.axes):
            for axis in axes:
                if factor in axis:
                    axis.insert(axis.index(factor) + 1, other)
        return factor, other

    def groups(self) -> tuple[list[list[int]], list[int]]:
        """Return the factors of the source in runs that stay together, and the order that the runs take."""
        source = [factor for axis in self.source for factor in axis]
        place = {factor: index for index, factor in enumerate(source)}
        target = [place[factor] for axis in self.axes for factor in axis]
        runs: list[list[int]] = []
        for index in target:
            if runs and runs[-1][-1] + 1 == index:
                runs[-1].append(index)
            else:
                runs.append([index])
        ordered = sorted(runs)
        return [[source[index] for index in run] for run in ordered], [ordered.index(run) for run in runs]

    def size_of(self, factors: Sequence[int]) -> Size:
        """Return the product of factors."""
        return product(self.sizes[factor] for factor in factors)


def follow(factors: Factors, node: Node) -> bool:
    """Follow a node of a chain; return whether that was possible."""
    if node.operator == "Transpose":
        factors.transpose(node.attributes["perm"])
        return True
    return factors.reshape(node.output.shape)


def merge_layouts(graph: Graph) -> None:
    """Rewrite every chain of layout nodes that can be shorter."""
    users = graph.users()
    done: set = set()
    for node in list(graph.nodes):
        if node.operator not in LAYOUT or node in done or node.operand(0).value is not None:
            continue
        chain = [node]
        while True:
            after = sole_user(users, chain[-1].output)
            if after is None or after.operator not in LAYOUT or after.inputs[0] is not chain[-1].output:
                break
            chain.append(after)
        done.update(chain)
        _shorten(graph, chain)
    graph.prune()


def _shorten(graph: Graph, chain: list[Node]) -> None:
    """Replace a chain by the shortest form of its longest part that can be followed."""
    while chain:
        factors, followed = Factors(chain[0].operand(0).shape), 0
        for node in chain:
            if not follow(factors, node):
                break
            followed += 1
        if followed == 0:
            chain = chain[1:]
            continue
        part, chain = chain[:followed], chain[followed:]
        factors = Factors(part[0].operand(0).shape)  # as if what could not be followed had not been tried
        for node in part:
            follow(factors, node)
        _replace(graph, part, factors)


def _replace(graph: Graph, part: list[Node], factors: Factors) -> None:
    source, target = part[0].operand(0), part[-1].output
    forms = (_moved_axes(source, target, factors), _moved_runs(source, target, factors))
    steps = min((form for form in forms if form is not None), key=_cost)
    if _cost(steps) >= (sum(node.operator == "Transpose" for node in part), len(part)):
        return
    x = source
    for kind, argument in steps:
        if kind == "Transpose":
            x = graph.add("Transpose", [x], [x.shape[axis] for axis in argument], perm=argument)
        else:
            x = graph.add("Reshape", [x, graph.shape_for(x, argument)], argument)
    graph.replace(target, x)


def _cost(steps: list) -> tuple[int, int]:
    """Return what is to be as small as possible: first the number of Transposes, then that of all nodes."""
    return sum(kind == "Transpose" for kind, _ in steps), len(steps)


def _moved_runs(source: Tensor, target: Tensor, factors: Factors) -> list:
    """Reshape to runs that stay together, move these, reshape again; each only where something changes."""
    runs, order = factors.groups()
    inner = [factors.size_of(run) for run in runs]
    steps: list = []
    shape = list(source.shape)
    if order != list(range(len(order))):
        if inner != shape:
            steps.append(("Reshape", inner))
        steps.append(("Transpose", order))
        shape = [inner[index] for index in order]
    return steps if shape == list(target.shape) else [*steps, ("Reshape", list(target.shape))]


def _moved_axes(source: Tensor, target: Tensor, factors: Factors) -> Optional[list]:
    """Move whole axes of the source and reshape; None if that does not do."""
    place = {factor: axis for axis, held in enumerate(factors.source) for factor in held}
    perm: list[int] = [axis for axis, held in enumerate(factors.source) if not held]  # of one element, anywhere
    flat = [factor for axis in factors.axes for factor in axis]
    position = 0
    while position < len(flat):
        held = factors.source[place[flat[position]]]
        if flat[position : position + len(held)] != held:
            return None
        perm.append(place[flat[position]])
        position += len(held)
    if not any(not held for held in factors.source) and perm == list(range(len(perm))):
        steps: list = []
        shape = list(source.shape)
    else:
        steps = [("Transpose", perm)]
        shape = [source.shape[axis] for axis in perm]
    return steps if shape == list(target.shape) else [*steps, ("Reshape", list(target.shape))]
