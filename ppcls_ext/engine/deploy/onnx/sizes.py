"""Sizes that are known as formulas: what a reshape must know of batch, height and width before they are numbers.

A size is a Python int or a :class:`Formula`: a polynomial with integer coefficients in atoms, which are symbols (an
axis of the input) and rounded-down quotients. Formulas have one form each, so that equal ones compare equal:
``x % n`` is written ``x - n (x // n)``, which turns a side that was padded to whole windows into ``n`` times the number
of windows.
"""

from __future__ import annotations

from collections import Counter
from typing import Iterable, NamedTuple, Optional, Sequence, Union


class Symbol(NamedTuple):
    """An unknown number of at least 1."""

    name: str

    def __str__(self) -> str:
        return self.name


class Quotient(NamedTuple):
    """``numerator // denominator``."""

    numerator: Size
    denominator: Size

    def __str__(self) -> str:
        return f"({self.numerator})//({self.denominator})"


class Formula:
    """A polynomial in atoms, immutable and hashable; :func:`symbol` and arithmetic make one.

    ``terms`` maps a monomial, the sorted tuple of its atoms, to its coefficient.
    """

    __slots__ = ("_key", "terms")

    def __init__(self, terms: dict):
        self.terms = terms
        self._key = frozenset(terms.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Formula) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __add__(self, other: Size) -> Size:
        total = Counter(self.terms)
        for monomial, factor in _terms(other).items():
            total[monomial] += factor
        return _simplified(total)

    def __mul__(self, other: Size) -> Size:
        total: Counter = Counter()
        for monomial, factor in self.terms.items():
            for more, by in _terms(other).items():
                total[tuple(sorted(monomial + more, key=str))] += factor * by
        return _simplified(total)

    def __neg__(self) -> Size:
        return self * -1

    def __sub__(self, other: Size) -> Size:
        return self + -other

    def __rsub__(self, other: Size) -> Size:
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, other: Size) -> Size:
        return floor_divide(self, other)

    def __rfloordiv__(self, other: Size) -> Size:
        return floor_divide(other, self)

    def __mod__(self, other: Size) -> Size:
        return self - other * floor_divide(self, other)

    def __rmod__(self, other: Size) -> Size:
        return other - self * floor_divide(other, self)

    def __int__(self) -> int:
        raise TypeError(f"the size {self} is known at run time only")

    def __str__(self) -> str:
        parts = []
        for monomial, factor in sorted(self.terms.items(), key=str):
            atoms = "*".join(map(str, monomial))
            parts.append(atoms if factor == 1 and atoms else f"{factor}*{atoms}" if atoms else str(factor))
        return " + ".join(parts)

    __repr__ = __str__


Size = Union[int, Formula]


def symbol(name: str) -> Formula:
    """Return the size that is called ``name``."""
    return Formula({(Symbol(name),): 1})


def is_known(*sizes: Size) -> bool:
    """Return whether all of the sizes are numbers."""
    return all(isinstance(size, int) for size in sizes)


def _terms(size: Size) -> dict:
    return size.terms if isinstance(size, Formula) else {(): int(size)}


def _simplified(terms: dict) -> Size:
    terms = {monomial: factor for monomial, factor in terms.items() if factor}
    if not terms:
        return 0
    return terms[()] if set(terms) == {()} else Formula(terms)


def product(sizes: Iterable[Size]) -> Size:
    """Return the product of the sizes."""
    result: Size = 1
    for size in sizes:
        result = result * size
    return result


def exact_quotient(numerator: Size, denominator: Size) -> Optional[Size]:
    """Return ``numerator / denominator`` if it is a polynomial too, as far as division by one term can tell."""
    if numerator == denominator:
        return 1
    terms = _terms(denominator)
    if len(terms) != 1:
        return None
    ((divisor, by),) = terms.items()
    quotient: Counter = Counter()
    for monomial, factor in _terms(numerator).items():
        left = Counter(monomial)
        left.subtract(divisor)
        if by == 0 or factor % by or min(left.values(), default=0) < 0:
            return None
        quotient[tuple(sorted(left.elements(), key=str))] += factor // by
    return _simplified(quotient)


def quotient_of_products(numerator: Sequence[Size], denominator: Sequence[Size]) -> Optional[Size]:
    """Return the product of one list over that of the other if it is known to be whole, else None."""
    above, below = Counter(numerator), Counter(denominator)
    common = above & below
    return exact_quotient(product((above - common).elements()), product((below - common).elements()))


def floor_divide(numerator: Size, denominator: Size) -> Size:
    """Return ``numerator // denominator``, simplified: whole parts are taken out, nested quotients joined."""
    if is_known(numerator, denominator):
        return numerator // denominator
    exact = exact_quotient(numerator, denominator)
    if exact is not None:
        return exact
    whole: Size = 0
    rest: Size = 0
    for monomial, factor in _terms(numerator).items():
        term = _simplified({monomial: factor})
        part = exact_quotient(term, denominator)
        if part is not None:
            whole = whole + part
        elif isinstance(denominator, int) and monomial == ():
            whole, rest = whole + factor // denominator, rest + factor % denominator
        else:
            rest = rest + term
    if is_known(rest) and isinstance(denominator, int):
        return whole + rest // denominator
    return whole + _nested(rest, denominator)


def _nested(numerator: Size, denominator: Size) -> Size:
    """Return the atom ``numerator // denominator``; ``(a // b) // c`` is ``a // (b c)``, ``-a // b`` is rounded up."""
    terms = _terms(numerator)
    if isinstance(denominator, int) and denominator > 0 and all(factor <= 0 for m, factor in terms.items() if m):
        return -floor_divide(-numerator + (denominator - 1), denominator)
    if len(terms) == 1 and isinstance(denominator, int):
        ((monomial, factor),) = terms.items()
        if factor == 1 and len(monomial) == 1 and isinstance(monomial[0], Quotient):
            inner = monomial[0]
            if isinstance(inner.denominator, int):
                return floor_divide(inner.numerator, inner.denominator * denominator)
    return Formula({(Quotient(numerator, denominator),): 1})


def may_be_negative(size: Size) -> bool:
    """Return whether the signs of the terms leave it open that ``size`` is below 0."""
    return any(factor < 0 for factor in _terms(size).values())


def as_symbol(size: Size) -> Optional[Symbol]:
    """Return the symbol that ``size`` is, if it is one and nothing more."""
    terms = _terms(size)
    if len(terms) != 1:
        return None
    ((monomial, factor),) = terms.items()
    return monomial[0] if factor == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol) else None
