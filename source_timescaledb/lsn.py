"""Positions in the write-ahead log."""

from __future__ import annotations

from typing_extensions import Self


class Lsn(int):
    """A position in the WAL: ordered like an integer, printed as PostgreSQL prints it."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `16/B374D848`; raise ValueError on anything else."""
        high, slash, low = text.partition("/")
        if not slash:
            raise ValueError("not a position in the WAL")
        return cls(int(high, 16) << 32 | int(low, 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"
