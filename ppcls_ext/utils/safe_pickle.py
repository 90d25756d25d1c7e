"""An unpickler that builds data and nothing else.

A pickle is a program: it may name any function and call it. :class:`DataUnpickler` knows a short table of names, each
bound to a function of this module that checks its arguments, and refuses every other name before anything happens.
State is set on arrays, which are checked first, and on inert records; sizes that the file declares are checked against
the file, and the work that it can cause is bounded.

The base is the standard library's Python implementation, not the C one: only there can single instructions be replaced,
and the C one reserves memory that the file merely announces.
"""

from __future__ import annotations

import functools
import math
import pickle
import re
import struct
from collections import OrderedDict
from typing import Any, Callable, Optional

import numpy as np


class UnsafeFileError(ValueError):
    """The file asks for something that is not data, or for far more memory than its size accounts for."""


class DamagedFileError(ValueError):
    """The file ends early, contradicts itself, or is in none of the formats that are read."""


class MemoryBudget:
    """What reading a file may cost: memory in proportion to the file, and a fixed number of keys that can collide.

    Weights hardly compress and rarely share memory; eight times the file's size is more than any real one needs.
    Python hashes text by a secret, but numbers and tuples by a known rule: a dictionary of chosen ones takes time in
    the square of their number. Real files have some hundred, such as the parameter indices of an optimizer.
    """

    def __init__(self, file_size: int):
        self.limit = max(8 * file_size, 64 << 20)
        self._file_size, self._spent, self._keys = file_size, 0, 0

    def checked_key(self, key: Any) -> Any:
        """Return a key of a dictionary, or a member of a set, after checking that it is plain and cheap to hash.

        Raises:
            DamagedFileError: if it is not.
            UnsafeFileError: if there are too many whose hashes can be chosen.
        """
        if isinstance(key, (str, bytes)):
            return key
        items = key if isinstance(key, tuple) else (key,)
        if any(not isinstance(item, (str, bytes, int, float, type(None), Name)) for item in items):
            raise DamagedFileError(f"it has a {type(key).__name__} as a key")
        if len(items) > _KEY_ITEMS:
            raise DamagedFileError(f"it has a tuple of {len(items):,} items as a key")
        self._keys += 1
        if self._keys > _KEYS:
            raise UnsafeFileError(f"it has more than {_KEYS:,} keys that are not text; no file of weights needs them")
        return key

    def spend(self, count: int, what: str) -> None:
        """Count ``count`` bytes.

        Raises:
            UnsafeFileError: naming ``what``, if it takes too much.
        """
        self._spent += count
        if self._spent > self.limit:
            raise UnsafeFileError(
                f"{what} would bring its tensors to {self._spent:,} bytes, and the file has {self._file_size:,}"
            )


#: What a file that breaks somewhere may raise, depending on the byte.
DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    AssertionError,
    RecursionError,
    struct.error,
)

_INTEGER_BYTES = 32  # the longest integer; random number generators keep 128 bits
_INTEGER_DIGITS = 80
_ITEM_BYTES = 64  # of a container in memory, roughly
_KEYS = 5000  # of one file, that are not text
_KEY_ITEMS = 16  # of a tuple; it is hashed anew each time
_AXES = 32  # the most that every NumPy takes
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_NUMBERS = re.compile(r"[<>|=]?(?:[biufc]\d{1,2}|\?)")


class Record(dict):
    """The state of an object whose class is not data: what it held, under the name of its class, and no behaviour."""

    def __init__(self, name: str, items: tuple = ()):
        super().__init__(items)
        self.name = name


class Name:
    """A global of the file that has a meaning here: calling it runs ``make``, never the function of that name."""

    def __init__(self, name: str, make: Callable):
        self.name, self.make = name, make

    def __call__(self, *arguments: Any) -> Any:
        """Build what the file asks for."""
        return self.make(*arguments)


class Bytes:
    """Bytes in memory (or mapped into it) as the file of an unpickler; nothing is read beyond their end.

    ``position`` is where the next read starts.
    """

    def __init__(self, data: memoryview, position: int = 0):
        self.data, self.position = data, position

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes.

        Raises:
            DamagedFileError: if fewer are left.
        """
        left = len(self.data) - self.position
        if not 0 <= count <= left:
            raise DamagedFileError(f"it announces {count} bytes where {left} are left")
        self.position += count
        return bytes(self.data[self.position - count : self.position])

    def readline(self) -> bytes:
        """Return the bytes to the next newline, which is included."""
        start, step = self.position, 1 << 16
        for at in range(start, len(self.data), step):
            found = bytes(self.data[at : at + step]).find(b"\n")
            if found >= 0:
                return self.read(at + found + 1 - start)
        raise DamagedFileError("it ends in the middle of a line")


class DataUnpickler(pickle._Unpickler):
    """Builds numbers, strings, containers, arrays, and what ``names`` adds.

    Args:
        source: where the pickle is; its position afterwards is the pickle's end.
        budget: what the pickle may cost: it can hold a thing once and ask for many copies of it.
        names: function by (module, name), besides :data:`COMMON_NAMES`.
    """

    # What the base has and its type stubs leave out.
    stack: list
    append: Callable[[Any], None]
    pop_mark: Callable[[], list]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]

    # Python 2 wrote text and bytes alike; Latin-1 keeps every byte.
    def __init__(self, source: Bytes, budget: MemoryBudget, names: Optional[dict] = None):
        super().__init__(source, encoding="latin1")
        self._budget = budget
        self._names = {**_containers(budget), **(names or {})}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a global of the file.

        Raises:
            UnsafeFileError: naming it, if it is not data.
        """
        key = (_PYTHON_2.get(module, module), name)
        found = self._names.get(key, COMMON_NAMES.get(key))
        if found is None:
            raise UnsafeFileError(f"it asks for {module}.{name}, which is not data")
        return Name(f"{module}.{name}", found) if callable(found) else found

    # ---- instructions that differ from the standard library's --------------------------------------------------

    dispatch = dict(pickle._Unpickler.dispatch)

    def _instruction(*codes: bytes, table: dict = dispatch) -> Callable:
        def enter(function: Callable) -> Callable:
            for code in codes:
                table[code[0]] = function
            return function

        return enter

    @_instruction(pickle.REDUCE)
    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.append(self._call(function, arguments))

    @_instruction(pickle.NEWOBJ)
    def _new_object(self) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        self.append(self._call(cls, arguments))

    @_instruction(pickle.INST)
    def _instance(self) -> None:
        name = self.find_class(*(self.readline()[:-1].decode("utf-8") for _ in range(2)))
        raise UnsafeFileError(f"it asks for an instance of {getattr(name, 'name', name)}, which is not data")

    @_instruction(pickle.NEWOBJ_EX, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4)
    def _other_object(self) -> None:
        # No format that is read here uses them.
        names = [item.name for item in self.stack if isinstance(item, Name)]
        raise UnsafeFileError(f"it asks for an instance of {names[-1] if names else 'a class'}, which is not data")

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise UnsafeFileError(f"it calls a {type(function).__name__}, which is not data")
        for argument in arguments:
            if isinstance(argument, (str, bytes)):
                self._budget.spend(len(argument), "a copy of a string")
            elif isinstance(argument, (list, tuple, dict)):
                self._budget.spend(_ITEM_BYTES * len(argument), f"a copy of a {type(argument).__name__}")
        return function(*arguments)

    @_instruction(pickle.BUILD)
    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, np.ndarray):
            _set_array(target, state)
            self._budget.spend(target.nbytes, f"an array of the shape {target.shape}")
        elif isinstance(target, np.dtype):
            _set_dtype(target, state)
        elif isinstance(target, Record) and isinstance(state, dict):
            target.update((self._budget.checked_key(key), value) for key, value in state.items())
        elif not (isinstance(target, OrderedDict) and isinstance(state, dict)):
            # An OrderedDict's attributes (PyTorch's _metadata) say nothing about the weights.
            named = target.name if isinstance(target, Name) else type(target).__name__
            raise UnsafeFileError(f"it sets the state of a {named}, which is not data")

    @_instruction(pickle.SETITEM)
    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _expect(self.stack[-1], dict)[self._budget.checked_key(key)] = value

    @_instruction(pickle.SETITEMS)
    def _set_items(self) -> None:
        items = self.pop_mark()
        keys = map(self._budget.checked_key, items[::2])
        _expect(self.stack[-1], dict).update(zip(keys, items[1::2]))

    @_instruction(pickle.DICT)
    def _dict(self) -> None:
        items = self.pop_mark()
        self.append(dict(zip(map(self._budget.checked_key, items[::2]), items[1::2])))

    @_instruction(pickle.APPEND)
    def _append(self) -> None:
        value = self.stack.pop()
        _expect(self.stack[-1], list).append(value)

    @_instruction(pickle.APPENDS)
    def _appends(self) -> None:
        items = self.pop_mark()
        _expect(self.stack[-1], list).extend(items)

    @_instruction(pickle.ADDITEMS)
    def _add_items(self) -> None:
        items = self.pop_mark()
        _expect(self.stack[-1], set).update(map(self._budget.checked_key, items))

    @_instruction(pickle.FROZENSET)
    def _frozenset(self) -> None:
        self.append(frozenset(map(self._budget.checked_key, self.pop_mark())))

    @_instruction(pickle.INT, pickle.LONG)
    def _integer_as_text(self) -> None:
        text = self.readline()[:-1].rstrip(b"L")
        if len(text) > _INTEGER_DIGITS:
            raise DamagedFileError(f"it holds an integer of {len(text)} digits")
        self.append({b"00": False, b"01": True}[text] if text in (b"00", b"01") else int(text))

    @_instruction(pickle.LONG4)
    def _long_integer(self) -> None:
        (count,) = struct.unpack("<i", self.read(4))
        if not 0 <= count <= _INTEGER_BYTES:
            raise DamagedFileError(f"it holds an integer of {count} bytes")
        self.append(int.from_bytes(self.read(count), "little", signed=True))

    @_instruction(pickle.BYTEARRAY8)
    def _bytearray(self) -> None:
        (count,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(count)))  # read first: it checks the count

    del _instruction


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise DamagedFileError(f"it puts items into a {type(value).__name__}")
    return value


# ---- containers ------------------------------------------------------------------------------------------------


def _containers(budget: MemoryBudget) -> dict:
    """Return the functions that stand for containers whose items are hashed, by (module, name)."""

    def ordered_dict(items: Any = ()) -> OrderedDict:
        pairs = items.items() if isinstance(items, dict) else plain_sequence(items)
        return OrderedDict((budget.checked_key(key), value) for key, value in pairs)

    def default_dict(_factory: Any = None, items: Any = ()) -> dict:
        return dict(ordered_dict(items))

    def make_set(items: Any = ()) -> set:
        return set(map(budget.checked_key, plain_sequence(items)))

    return {
        ("builtins", "set"): make_set,
        ("builtins", "dict"): ordered_dict,
        ("collections", "OrderedDict"): ordered_dict,
        ("collections", "defaultdict"): default_dict,
    }


def plain_sequence(items: Any) -> Any:
    """Return ``items``, which must be a list or tuple: the items of an array would each become an object."""
    if not isinstance(items, (list, tuple)):
        raise DamagedFileError(f"it makes a container of a {type(items).__name__}")
    return items


def _tensor_from_parts(parts: tuple = ()) -> Any:
    """Rebuild a nested Tensor: Paddle reduces it to ``tuple((name, array))``."""
    items = tuple(plain_sequence(parts))
    if len(items) == 2 and isinstance(items[0], str) and isinstance(items[1], np.ndarray):
        return items[1]
    return items


def _latin1_bytes(text: str, encoding: str = "latin1") -> bytes:
    """Rebuild bytes, which pickle protocol 2 (PaddleClas's published weights) writes as Latin-1 text."""
    if encoding != "latin1":
        raise UnsafeFileError(f"it asks for the codec {encoding!r}, which is not data")
    return text.encode("latin1")


# ---- NumPy -----------------------------------------------------------------------------------------------------


def _dtype(code: Any, _align: bool = False, _copy: bool = True) -> np.dtype:
    """Return a type of numbers; ``_set_dtype`` may still set its byte order."""
    if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
        raise UnsafeFileError(f"it asks for an array of the type {code!r}, which holds no numbers")
    return np.dtype(code, copy=True)


def _set_dtype(target: np.dtype, state: Any) -> None:
    _version, order, subtype, names, fields = _expect(state, tuple)[:5]
    if order not in ("<", ">", "|", "=") or (subtype, names, fields) != (None, None, None):
        raise UnsafeFileError("it asks for an array of a compound type, which holds no numbers")
    target.__setstate__((3, order, None, None, None, -1, -1, 0))


def _empty_array(cls: Any, _shape: Any = (0,), _kind: Any = b"b") -> np.ndarray:
    """Return what NumPy pickles first; ``_set_array`` gives it shape and content."""
    if not isinstance(cls, Name) or cls.name != "numpy.ndarray":
        raise UnsafeFileError(f"it rebuilds an array of the class {getattr(cls, 'name', cls)!r}, which is not data")
    return np.empty(0, dtype=np.int8)


def _set_array(target: np.ndarray, state: Any) -> None:
    if target.size:
        raise UnsafeFileError("it sets the state of a finished array, which is not data")
    _version, shape, dtype, fortran, data = _expect(state, tuple)
    if not isinstance(dtype, np.dtype):
        raise DamagedFileError("it holds an array without a type")
    if isinstance(data, str):  # written by Python 2
        data = data.encode("latin1")
    _check_size(shape, dtype, data)
    target.__setstate__((1, tuple(shape), dtype, bool(fortran), bytes(data)))


def _buffer_array(data: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    """Rebuild an array of pickle protocol 5."""
    if not isinstance(dtype, np.dtype):
        raise DamagedFileError("it holds an array without a type")
    _check_size(shape, dtype, data)
    return np.frombuffer(bytes(data), dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, data: Any) -> np.generic:
    if not isinstance(dtype, np.dtype):
        raise DamagedFileError("it holds a number without a type")
    data = data.encode("latin1") if isinstance(data, str) else data
    _check_size((), dtype, data)
    return np.frombuffer(data, dtype)[0]


def _check_size(shape: Any, dtype: np.dtype, data: Any) -> None:
    if not isinstance(data, (bytes, bytearray)):
        raise UnsafeFileError(f"it holds an array whose content is a {type(data).__name__}, not numbers")
    sizes = _expect(shape, tuple)
    if len(sizes) > _AXES:
        raise DamagedFileError(f"it holds an array of {len(sizes):,} axes; expected at most {_AXES}")
    if any(not isinstance(size, int) or size < 0 for size in sizes):
        raise DamagedFileError(f"it holds an array of the shape {sizes}")
    if math.prod(sizes) * dtype.itemsize != len(data):
        raise DamagedFileError(
            f"it holds an array of the shape {sizes} and type {dtype} with {len(data)} bytes of content"
        )


def record(name: str) -> Callable:
    """Return what stands for the class ``name``: its objects become a :class:`Record`, their arguments are dropped."""
    return functools.partial(_record, name)


def _record(name: str, *_arguments: Any) -> Record:
    return Record(name)


_RECORDS = (  # classes that training scripts keep beside the weights
    ("argparse", "Namespace"),
    ("types", "SimpleNamespace"),
    ("collections", "Counter"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("pathlib", "PurePosixPath"),
    ("yacs.config", "CfgNode"),
)

#: (module, name) -> our function, or plain data that stands for the name.
COMMON_NAMES: dict = {
    ("numpy", "ndarray"): record("numpy.ndarray"),  # never called: it is an argument of ``_reconstruct``
    ("numpy", "dtype"): _dtype,
    ("builtins", "tuple"): _tensor_from_parts,
    ("_codecs", "encode"): _latin1_bytes,
    **{key: record(".".join(key)) for key in _RECORDS},
}
for _module in ("numpy.core", "numpy._core"):  # NumPy 2 moved it; a file written by either NumPy is read by either
    COMMON_NAMES[f"{_module}.multiarray", "_reconstruct"] = _empty_array
    COMMON_NAMES[f"{_module}.multiarray", "scalar"] = _scalar
    COMMON_NAMES[f"{_module}.numeric", "_frombuffer"] = _buffer_array
