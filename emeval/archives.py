"""Zip files with more members than memory should hold: a member is found without an object for each.

The standard library's `zipfile` keeps an object of nearly a kilobyte for every member, and takes longer to
begin reading a small member than to read it. An Inspect log has a member for every answer. zlib-ng unpacks as
the standard library's `zlib` does, in two thirds of the time.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from os import SEEK_END
from pathlib import Path
from typing import NamedTuple, Self
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile

import zstandard
from zlib_ng import zlib_ng as zlib

# The records of a zip file, and where in them stands what is read (APPNOTE.TXT 4.3, 4.4 and 4.5.3).
_END = struct.Struct("<10xH4xI2x")  # members in the directory, where it begins
_END_64_PLACE = struct.Struct("<8xQ4x")  # just before the end, where one of its fields is too small
_END_64 = struct.Struct("<32xQ8xQ")  # as _END
_ENTRY = struct.Struct("<10xH4xIIIHHH8xI")  # how packed, checksum, sizes, three lengths, where it is
_LOCAL = struct.Struct("<26xHH")  # lengths of name and extra field
_USUAL_HEAD = 512  # of a member before its content: with it, one reading is enough
_LONGEST_COMMENT = 0xFFFF
_ZIP_ZSTANDARD = 93  # what Inspect writes; the standard library has the name since Python 3.14
_ELSEWHERE = 0xFFFFFFFF  # the number has 64 bits, and stands in the extra field


class Member(NamedTuple):
    """Where in its file a member stands: its first byte, its bytes there, how they are packed, a checksum."""

    offset: int
    packed: int
    method: int
    crc: int


class Archive:
    """A zip file that is read. Raises `BadZipFile` where it is none, or is damaged.

    Whoever replaces the file while it is open changes nothing here: it stays as it was.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._zstandard = zstandard.ZstdDecompressor()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def members(self) -> Iterator[tuple[str, Member]]:
        """Yield name and place of each member, in their order."""
        count, offset = self._directory()
        self._file.seek(offset)
        for _ in range(count):
            entry = self._file.read(_ENTRY.size)
            if len(entry) < _ENTRY.size or entry[:4] != b"PK\x01\x02":
                raise BadZipFile("its directory is damaged")
            method, crc, packed, unpacked, *lengths, start = _ENTRY.unpack(entry)
            text = self._file.read(sum(lengths))
            name, rest = text[: lengths[0]].decode(errors="replace"), text[lengths[0] :]
            if _ELSEWHERE in (packed, start):
                packed, start = _wide(rest[: lengths[1]], unpacked, packed, start)
            yield name, Member(start, packed, method, crc)

    def read(self, member: Member) -> bytes:
        """Return the content of a member."""
        block = os.pread(self._file.fileno(), _USUAL_HEAD + member.packed, member.offset)
        if len(block) < _LOCAL.size or block[:4] != b"PK\x03\x04":
            raise BadZipFile("no member is where one should be")
        begin = _LOCAL.size + sum(_LOCAL.unpack_from(block))
        packed = block[begin : begin + member.packed]
        if len(packed) < member.packed:
            packed = self._at(member.offset + begin, member.packed)
        try:
            content = self._unpacked(packed, member.method)
        except (zlib.error, zstandard.ZstdError) as error:  # type: ignore[misc]  # zlib-ng's types lack the class
            raise BadZipFile(f"a member cannot be unpacked: {error}") from None
        if zlib.crc32(content) != member.crc:
            raise BadZipFile("a member is not what was written")
        return content

    def _unpacked(self, packed: bytes, method: int) -> bytes:
        if method == ZIP_STORED:
            return packed
        if method == ZIP_DEFLATED:
            return zlib.decompress(packed, -zlib.MAX_WBITS)
        if method == _ZIP_ZSTANDARD:  # Inspect writes a long member in several frames
            return self._zstandard.stream_reader(packed, read_across_frames=True).read()
        raise BadZipFile(f"a member is packed in a way that is not known here ({method})")

    def _at(self, offset: int, size: int) -> bytes:
        content = os.pread(self._file.fileno(), size, offset)
        if len(content) != size:
            raise BadZipFile("it ends too early")
        return content

    def _directory(self) -> tuple[int, int]:
        """Return the number of members, and where the directory begins."""
        length = self._file.seek(0, SEEK_END)
        begin = max(0, length - _END.size - _LONGEST_COMMENT - _END_64_PLACE.size)
        tail = self._at(begin, length - begin)
        end = tail.rfind(b"PK\x05\x06", 0, max(0, len(tail) - _END.size + 4))
        if end < 0:
            raise BadZipFile("it is no zip file, or its end is missing")
        count, offset = _END.unpack_from(tail, end)
        before = tail[max(0, end - _END_64_PLACE.size) : end]
        if before.startswith(b"PK\x06\x07"):
            (place,) = _END_64_PLACE.unpack(before)
            count, offset = _END_64.unpack(self._at(place, _END_64.size))
        return count, offset


def _wide(extra: bytes, unpacked: int, packed: int, start: int) -> tuple[int, int]:
    """Return the two numbers from the extra field, where those that need it stand in this order."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, 4))
            _, packed, start = (
                next(wide, value) if value == _ELSEWHERE else value for value in (unpacked, packed, start)
            )
        extra = extra[4 + length :]
    return packed, start
