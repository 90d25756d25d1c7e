"""Operators that move elements about: shapes, slices, joins and permutations."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from ppcls_ext.engine.deploy.onnx.graph import Tensor
from ppcls_ext.engine.deploy.onnx.operators.call import Call, broadcast, numpy_type, translates
from ppcls_ext.engine.deploy.onnx.sizes import Size, is_known, product, quotient_of_products

#: A slice that ends here ends with its axis.
FAR = 2**31 - 1


@translates("shape", "shape64")
def shape(call: Call) -> Tensor:
    """The sizes of a tensor."""
    return call.graph.integers(list(call.tensor("input").shape))


@translates("numel")
def numel(call: Call) -> Tensor:
    """The number of elements."""
    return call.graph.integers(product(call.tensor("x").shape))


@translates("assign", "share_data", "memcpy_h2d", "memcpy_d2h", "print", "dropout", "assign_out", "shadow_output")
def identity(call: Call) -> Tensor:
    """Nothing, in evaluation."""
    if call.name == "dropout" and call.attribute("mode") == "downgrade_in_infer":
        probability = call.number("p")
        return call.binary("Mul", call.tensor("x"), call.like(1 - probability, call.tensor("x")))
    return call.tensor("x")


@translates("cast")
def cast(call: Call) -> Tensor:
    """Another type; integers are of one type here."""
    x, dtype = call.tensor("x"), numpy_type(call.attribute("dtype"))
    return x if x.dtype == dtype else call.cast(x, dtype)


@translates("reshape")
def reshape(call: Call) -> Tensor:
    """Another shape; 0 copies a size, -1 stands for what is left."""
    x = call.tensor("x")
    target = [x.shape[axis] if size == 0 else size for axis, size in enumerate(call.integers("shape"))]
    if -1 in target:
        place = target.index(-1)
        rest = target[:place] + target[place + 1 :]
        left = quotient_of_products(x.shape, rest)
        if left is None:
            left = call.graph.new_size("size")
            made = call.graph.add("Reshape", [x, call.graph.vector(target)], rest[:place] + [left] + rest[place:])
            return made
        target[place] = left
    return call.reshape(x, target)


@translates("flatten")
def flatten(call: Call) -> Tensor:
    """Several neighbouring axes as one."""
    x = call.tensor("x")
    if x.rank == 0:
        return call.reshape(x, [1])
    start, stop = (call.axis(call.attribute(name), x.rank) for name in ("start_axis", "stop_axis"))
    return call.reshape(x, [*x.shape[:start], product(x.shape[start : stop + 1]), *x.shape[stop + 1 :]])


@translates("squeeze")
def squeeze(call: Call) -> Tensor:
    """Without axes of one element."""
    x = call.tensor("x")
    axes = [call.axis(axis, x.rank) for axis in call.known_integers("axis")]
    axes = axes or [axis for axis, size in enumerate(x.shape) if size == 1]
    return call.squeeze(x, [axis for axis in axes if x.shape[axis] == 1])


@translates("unsqueeze")
def unsqueeze(call: Call) -> Tensor:
    """With new axes, each counted in the result of the ones before."""
    x = call.tensor("x")
    for axis in call.known_integers("axis"):
        x = call.unsqueeze(x, [call.axis(axis, x.rank + 1)])
    return x


@translates("transpose")
def transpose(call: Call) -> Tensor:
    """The axes in another order."""
    x = call.tensor("x")
    return call.transpose(x, [call.axis(axis, x.rank) for axis in call.attribute("perm")])


def _bounds(size: Size, start: Size, end: Size) -> tuple[Size, Optional[Size]]:
    """Return the first element and the length of a slice with step 1; None for a length that depends on numbers."""
    if isinstance(start, int) and start < 0:
        start = start + size
    if isinstance(end, int):
        if end >= FAR:
            end = size
        elif end < 0:
            end = end + size
        elif isinstance(size, int):
            end = min(end, size)
        elif end != 1:  # an axis has one element at least
            return start, None
    return start, end - start


@translates("slice")
def slice_(call: Call) -> Tensor:
    """A part of each of some axes."""
    x, axes = call.tensor("input"), list(call.attribute("axes"))
    starts, ends = call.integers("starts"), call.integers("ends")
    dropped = [call.axis(axis, x.rank) for axis in call.attribute("decrease_axis", default=[])]
    axes = [call.axis(axis, x.rank) for axis in axes]
    if x.content is not None and is_known(*starts, *ends):
        index = [slice(None)] * x.rank
        for axis, start, end in zip(axes, starts, ends):
            index[axis] = slice(start, end if end else None)
        return call.graph.integers(_without(x.content[tuple(index)], dropped))
    if len(axes) == 1 and axes == dropped and is_known(starts[0]):
        return gathered(call, x, call.graph.constant(np.asarray(starts[0]), np.int64), axes[0])
    kept = []
    new_shape = list(x.shape)
    for axis, start, end in zip(axes, starts, ends):
        first, length = _bounds(x.shape[axis], start, end)
        if axis in dropped:
            length = 1
            if is_known(start) and start == -1:
                end = FAR
        if first == 0 and length == x.shape[axis]:
            continue
        new_shape[axis] = call.graph.new_size("size") if length is None else length
        kept.append((axis, start, end))
    if kept:
        starts, ends = ([item[place] for item in kept] for place in (1, 2))
        x = call.graph.add(
            "Slice",
            [
                x,
                call.graph.vector(starts),
                call.graph.vector(ends),
                call.graph.constant([item[0] for item in kept], np.int64),
            ],
            new_shape,
        )
    return call.squeeze(x, dropped)


def _without(array: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    return np.squeeze(array, tuple(axes)) if axes else array


@translates("strided_slice")
def strided_slice(call: Call) -> Tensor:
    """A part of each of some axes, with steps."""
    x = call.tensor("x")
    axes = [call.axis(axis, x.rank) for axis in call.attribute("axes")]
    starts, ends = call.integers("starts"), call.integers("ends")
    steps = call.known_integers("strides")
    new_shape = list(x.shape)
    for axis, start, end, step in zip(axes, starts, ends, steps):
        size = x.shape[axis]
        length: Optional[Size] = None
        if isinstance(start, int) and isinstance(end, int):
            if isinstance(size, int):
                length = len(range(*slice(start, end, step).indices(size)))
            elif step > 0 and end >= FAR and start >= 0:
                length = (size - start + step - 1) // step
        new_shape[axis] = call.graph.new_size("size") if length is None else length
    vectors = [call.graph.vector(values) for values in (starts, ends, axes, steps)]
    return call.graph.add("Slice", [x, *vectors], new_shape)


@translates("crop")
def crop(call: Call) -> Tensor:
    """A box out of a tensor."""
    x, offsets, sizes = call.tensor("x"), call.integers("offsets"), call.integers("shape")
    sizes = [x.shape[axis] - offsets[axis] if size == -1 else size for axis, size in enumerate(sizes)]
    ends = [offset + size for offset, size in zip(offsets, sizes)]
    vectors = [call.graph.vector(values) for values in (offsets, ends, list(range(x.rank)))]
    return call.graph.add("Slice", [x, *vectors], sizes)


@translates("concat")
def concat(call: Call) -> Tensor:
    """Tensors behind one another."""
    inputs = call.tensors("x")
    axis = call.axis(int(call.number("axis")), inputs[0].rank)
    if all(x.content is not None for x in inputs):
        return call.graph.integers(np.concatenate([x.content for x in inputs], axis))
    inputs = [x for x in inputs if x.shape[axis] != 0]
    if len(inputs) == 1:
        return inputs[0]
    new_shape = list(inputs[0].shape)
    for other, size in enumerate(new_shape):  # another input may know more of a size
        new_shape[other] = next((x.shape[other] for x in inputs if is_known(x.shape[other])), size)
    new_shape[axis] = sum((x.shape[axis] for x in inputs[1:]), inputs[0].shape[axis])
    return call.graph.add("Concat", inputs, new_shape, axis=axis)


@translates("stack")
def stack(call: Call) -> Tensor:
    """Tensors along a new axis."""
    inputs = call.tensors("x")
    axis = call.axis(call.attribute("axis"), inputs[0].rank + 1)
    if all(x.content is not None for x in inputs):
        return call.graph.integers(np.stack([x.content for x in inputs], axis))
    inputs = [call.unsqueeze(x, [axis]) for x in inputs]
    new_shape = list(inputs[0].shape)
    new_shape[axis] = len(inputs)
    return call.graph.add("Concat", inputs, new_shape, axis=axis)


def parts(call: Call, x: Tensor, axis: int, lengths: Sequence[Size]) -> list[Tensor]:
    """Return pieces of these lengths along an axis."""
    if len(lengths) == 1:
        return [x]
    shapes = [([*x.shape[:axis], length, *x.shape[axis + 1 :]], x.dtype) for length in lengths]
    return call.graph.add_many("Split", [x, call.graph.vector(lengths)], shapes, axis=axis)


@translates("split")
def split(call: Call) -> list:
    """Pieces of given lengths."""
    x = call.tensor("x")
    axis = call.axis(int(call.number("axis")), x.rank)
    lengths = call.integers("sections")
    if -1 in lengths:
        rest = sum(length for length in lengths if length != -1)
        lengths = [x.shape[axis] - rest if length == -1 else length for length in lengths]
    return [parts(call, x, axis, lengths)]


@translates("split_with_num")
def split_with_num(call: Call) -> list:
    """A number of equal pieces."""
    x, count = call.tensor("x"), call.attribute("num")
    axis = call.axis(int(call.number("axis")), x.rank)
    length = quotient_of_products([x.shape[axis]], [count])
    if length is None:
        call.unsupported(f"it splits an axis of {x.shape[axis]} elements into {count}")
    return [parts(call, x, axis, [length] * count)]


@translates("unbind", "unstack")
def unbind(call: Call) -> list:
    """Every element of an axis as a tensor."""
    x = call.tensor("input" if call.given("input") else "x")
    axis = call.axis(call.attribute("axis"), x.rank)
    count = x.shape[axis]
    if not is_known(count):
        call.unsupported(f"it takes an axis of {count} elements apart")
    if x.content is not None:
        return [[call.graph.integers(piece) for piece in np.moveaxis(x.content, axis, 0)]]
    return [[call.squeeze(piece, [axis]) for piece in parts(call, x, axis, [1] * int(count))]]


@translates("builtin.split")
def builtin_split(call: Call) -> list:
    """The tensors of a list; of one that nothing has to know, no tensors."""
    return call.tensors("x") or []


@translates("builtin.slice")
def builtin_slice(call: Call) -> Tensor:
    """A tensor of a list."""
    return call.tensors("x")[call.attribute("index")]


@translates("expand", "expand_as", "broadcast_tensors")
def expand(call: Call) -> Tensor:
    """Axes of one element repeated; -1 leaves a size as it is."""
    x = call.tensor("x")
    if call.name == "expand_as":
        target = call.attribute("target_shape", default=None)
        target = list(call.tensor("y").shape) if call.given("y") else target
    else:
        target = call.integers("shape")
    own = [1] * (len(target) - x.rank) + list(x.shape)
    target = [own[axis] if size == -1 else size for axis, size in enumerate(target)]
    target = broadcast(own, target)
    if target == list(x.shape):
        return x
    if x.fill is not None:
        return call.graph.filled(target, x.fill, x.dtype)
    return call.graph.add("Expand", [x, call.graph.vector(target)], target)


@translates("tile")
def tile(call: Call) -> Tensor:
    """A tensor several times behind itself."""
    x, times = call.tensor("x"), call.integers("repeat_times")
    x = call.unsqueeze(x, list(range(len(times) - x.rank)))
    times = [*[1] * (x.rank - len(times)), *times]
    if all(number == 1 for number in times):
        return x
    new_shape = [size * number for size, number in zip(x.shape, times)]
    return call.graph.add("Tile", [x, call.graph.vector(times)], new_shape)


@translates("repeat_interleave")
def repeat_interleave(call: Call) -> Tensor:
    """Every element of an axis several times."""
    x = call.tensor("x")
    axis = call.axis(call.attribute("axis"), x.rank)
    (times,) = call.known_integers("repeats")
    wide = call.unsqueeze(x, [axis + 1])
    target = [*x.shape[: axis + 1], times, *x.shape[axis + 1 :]]
    wide = call.graph.add("Expand", [wide, call.graph.vector(target)], target)
    return call.reshape(wide, [*x.shape[:axis], x.shape[axis] * times, *x.shape[axis + 1 :]])


def gathered(call: Call, x: Tensor, index: Tensor, axis: int) -> Tensor:
    """Return the elements of an axis that ``index`` names, with the axes of ``index`` in its place."""
    if x.content is not None and index.value is not None:
        return call.graph.integers(np.take(x.content, index.value, axis))
    return call.graph.add("Gather", [x, index], [*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]], axis=axis)


@translates("gather")
def gather(call: Call) -> Tensor:
    """Elements of an axis."""
    x, index = call.tensor("x"), call.tensor("index")
    return gathered(call, x, index, call.axis(int(call.number("axis")), x.rank))


@translates("index_select")
def index_select(call: Call) -> Tensor:
    """Elements of an axis."""
    x = call.tensor("x")
    return gathered(call, x, call.tensor("index"), call.axis(call.attribute("axis"), x.rank))


@translates("embedding")
def embedding(call: Call) -> Tensor:
    """Rows of a table."""
    return gathered(call, call.tensor("weight"), call.tensor("x"), 0)


@translates("gather_nd")
def gather_nd(call: Call) -> Tensor:
    """Elements at whole coordinates."""
    x, index = call.tensor("x"), call.tensor("index")
    depth = index.shape[-1]
    if depth == 1:
        return gathered(call, x, call.squeeze(index, [index.rank - 1]), 0)
    return call.graph.add("GatherND", [x, index], [*index.shape[:-1], *x.shape[int(depth) :]])


@translates("take_along_axis")
def take_along_axis(call: Call) -> Tensor:
    """Elements of an axis, chosen for each place."""
    x, index = call.tensor("arr"), call.tensor("indices")
    return call.graph.add("GatherElements", [x, index], index.shape, axis=call.axis(call.attribute("axis"), x.rank))


@translates("roll")
def roll(call: Call) -> Tensor:
    """A cyclic shift along axes."""
    x, shifts, axes = call.tensor("x"), call.known_integers("shifts"), list(call.attribute("axis"))
    old_shape = x.shape
    if not axes:
        x, axes = call.reshape(x, [product(x.shape)]), [0]
    for shift, axis in zip(shifts, axes):
        axis = call.axis(axis, x.rank)
        size = x.shape[axis]
        if isinstance(size, int):
            shift = shift % size
        if shift == 0:
            continue
        # What a shift by k moves to the front are the last k elements.
        pieces = []
        for start, end, length in ((-shift, FAR, shift), (0, -shift, size - shift)):
            length = size + shift if shift < 0 and start else (-shift if shift < 0 else length)
            vectors = [call.graph.constant([value], np.int64) for value in (start, end, axis)]
            pieces.append(call.graph.add("Slice", [x, *vectors], [*x.shape[:axis], length, *x.shape[axis + 1 :]]))
        x = call.graph.add("Concat", pieces, x.shape, axis=axis)
    return call.reshape(x, old_shape)


@translates("flip")
def flip(call: Call) -> Tensor:
    """Axes in reverse."""
    x = call.tensor("x")
    axes = [call.axis(axis, x.rank) for axis in call.attribute("axis")]
    count = len(axes)
    values = ([-1] * count, [-(2**62)] * count, axes, [-1] * count)
    return call.graph.add("Slice", [x, *[call.graph.constant(value, np.int64) for value in values]], x.shape)


def padded(call: Call, x: Tensor, before: Sequence[Size], after: Sequence[Size], fill: float, mode: str) -> Tensor:
    """Return ``x`` with these numbers of elements added on both sides of each axis."""
    if all(size == 0 for size in (*before, *after)):
        return x
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    if mode not in modes or (mode == "circular" and call.graph.opset < 19):
        call.unsupported(f"it pads in the mode {mode!r}")
    new_shape = [size + first + last for size, first, last in zip(x.shape, before, after)]
    inputs = [x, call.graph.vector([*before, *after])]
    if mode == "constant":
        inputs.append(call.like(fill, x))
    return call.graph.add("Pad", inputs, new_shape, mode=modes[mode])


@translates("pad3d")
def pad3d(call: Call) -> Tensor:
    """Padding of the last three axes, or of those before the channels, given from the innermost on."""
    x, pads = call.tensor("x"), call.integers("paddings")
    first = 1 if call.attribute("data_format") == "NDHWC" else 2
    before: list[Size] = [0] * x.rank
    after: list[Size] = [0] * x.rank
    for place, axis in enumerate(reversed(range(first, first + 3))):
        before[axis], after[axis] = pads[2 * place : 2 * place + 2]
    wrapped = _unwrapped(call, x, before, after)
    if wrapped is not None:
        return wrapped
    return padded(call, x, before, after, call.attribute("pad_value", "value"), call.attribute("mode"))


def _unwrapped(call: Call, x: Tensor, before: list, after: list) -> Optional[Tensor]:
    """Pad a map that Paddle only gave an axis of depth for this operator without it, or return None."""
    if x.node is None or x.node.operator != "Unsqueeze" or len(x.node.operand(1).array) != 1:
        return None
    axis = int(x.node.operand(1).array[0])
    if before[axis] != 0 or after[axis] != 0:
        return None
    before, after = (pads[:axis] + pads[axis + 1 :] for pads in (before, after))
    fill, mode = call.attribute("pad_value", "value"), call.attribute("mode")
    inner = padded(call, x.node.operand(0), before, after, fill, mode)
    return call.unsqueeze(inner, [axis])


@translates("pad")
def pad(call: Call) -> Tensor:
    """Padding of all axes with a number."""
    x, pads = call.tensor("x"), call.integers("paddings")
    return padded(call, x, pads[0::2], pads[1::2], call.number("pad_value"), "constant")


@translates("pixel_shuffle")
def pixel_shuffle(call: Call) -> Tensor:
    """Channels to pixels."""
    x, factor = call.tensor("x"), call.attribute("upscale_factor")
    batch, channels, height, width = x.shape
    new_shape = [batch, channels // factor**2, height * factor, width * factor]
    return call.graph.add("DepthToSpace", [x], new_shape, blocksize=factor, mode="CRD")


@translates("shuffle_channel", "channel_shuffle")
def channel_shuffle(call: Call) -> Tensor:
    """Channels of several groups in turn."""
    x, groups = call.tensor("x"), call.attribute("group", "groups")
    batch, channels, height, width = x.shape
    grouped = call.reshape(x, [batch, groups, channels // groups, height, width])
    return call.reshape(call.transpose(grouped, [0, 2, 1, 3, 4]), x.shape)


@translates("set_value_with_tensor", "set_value")
def set_value(call: Call) -> Tensor:
    """A tensor with a part written over."""
    call.unsupported("it writes into a tensor in place")
