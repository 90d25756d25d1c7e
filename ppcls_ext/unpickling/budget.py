"""A bound on the memory that reading a file may take."""

from __future__ import annotations

from ppcls_ext.unpickling.errors import UnsafeFileError


class MemoryBudget:
    """How much memory the tensors of a file may take: in proportion to the file, so that no small file fills it.

    Weights hardly compress and rarely share memory; eight times the file's size is more than any real one needs.
    """

    def __init__(self, file_size: int):
        self.limit = max(8 * file_size, 64 << 20)
        self._file_size, self._spent = file_size, 0

    def spend(self, count: int, what: str) -> None:
        """Count ``count`` bytes.

        Raises:
            UnsafeFileError: naming ``what`` takes too much.
        """
        self._spent += count
        if self._spent > self.limit:
            raise UnsafeFileError(
                f"{what} would bring its tensors to {self._spent:,} bytes, and the file has {self._file_size:,}"
            )
