"""Zip archives read as data: nothing is unpacked to disk, and what a member declares is checked against the file."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ppcls_ext.utils.safe_pickle import DamagedFileError, MemoryBudget, UnsafeFileError

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")


class Archive:
    """The members of a zip file.

    Args:
        path: the file.
        data: its bytes, mapped into memory.

    Raises:
        UnsafeFileError: for a name that points outside the archive, or that occurs twice.
        DamagedFileError: if the file contradicts itself.
    """

    def __init__(self, path: Path, data: memoryview):
        self._data = data
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:  # OSError: an offset below 0
            raise DamagedFileError(str(error)) from error
        self._members: dict = {}
        for member in members:
            _check_name(member.orig_filename)
            if member.is_dir():
                continue
            if member.filename in self._members:
                raise UnsafeFileError(f"it has two members named {member.filename!r}")
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DamagedFileError(
                    f"its member {member.filename!r} is encrypted or compressed by an unknown method"
                )
            self._members[member.filename] = member

    def __iter__(self):
        return iter(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def refuse_compressed(self) -> None:
        """Check that every member is stored as it is.

        Raises:
            UnsafeFileError: naming the first that is compressed.
        """
        for name, member in self._members.items():
            if member.compress_type != zipfile.ZIP_STORED:
                raise UnsafeFileError(f"its member {name!r} is compressed, which torch.save never does")

    def read(self, name: str, budget: MemoryBudget) -> memoryview:
        """Return the content of a member: a view of the file if it is stored, new memory if it is compressed.

        Raises:
            UnsafeFileError: if it inflates to more than ``budget`` allows.
            DamagedFileError: if there is no such member, or it is not what its header and checksum say.
        """
        if name not in self._members:
            raise DamagedFileError(f"it has no member {name!r}")
        member = self._members[name]
        raw = self._raw(member)
        if member.compress_type == zipfile.ZIP_DEFLATED:
            budget.spend(member.file_size, f"its member {name!r}")
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                content = inflater.decompress(raw, member.file_size + 1)
            except zlib.error as error:
                raise DamagedFileError(f"its member {name!r} does not inflate: {error}") from error
            raw = memoryview(content)
        if len(raw) != member.file_size:
            raise DamagedFileError(f"its member {name!r} is not {member.file_size} bytes long, as it declares")
        # PyTorch can be told to leave the checksum out, and writes 0.
        if member.CRC and zlib.crc32(raw) != member.CRC:
            raise DamagedFileError(f"the checksum of its member {name!r} is wrong")
        return raw

    def _raw(self, member: zipfile.ZipInfo) -> memoryview:
        start = member.header_offset
        header = self._data[start : start + _LOCAL_HEADER.size]
        if len(header) < _LOCAL_HEADER.size or bytes(header[:4]) != b"PK\x03\x04":
            raise DamagedFileError(f"its member {member.filename!r} has no header")
        *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        start += _LOCAL_HEADER.size
        name = member.orig_filename.encode("utf-8" if member.flag_bits & 0x800 else "cp437")
        if bytes(self._data[start : start + name_length]) != name:
            raise DamagedFileError(f"its member {member.filename!r} has a different name in its own header")
        start += name_length + extra_length
        if start + member.compress_size > len(self._data):
            raise DamagedFileError(f"its member {member.filename!r} lies outside the file")
        return self._data[start : start + member.compress_size]


def _check_name(name: str) -> None:
    """Refuse a name that points outside; nothing is ever unpacked, but such a file was made to do harm."""
    if name.startswith("/") or "\\" in name or ":" in name[:2] or "\0" in name or ".." in PurePosixPath(name).parts:
        raise UnsafeFileError(f"its member {name!r} points outside the archive")
