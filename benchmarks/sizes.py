"""How much is measured: enough that start-up does not show, little enough that all of it takes some minutes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rows and chunks of each part; the fields are the command's arguments."""

    rounds: int = 5
    """How often everybody takes a turn."""
    warm_ups: int = 1
    """Rounds before, which count for nothing."""
    rows: int = 2_000_000
    """Rows of ten columns."""
    wide_rows: int = 50_000
    """Rows of 200 columns."""
    array_rows: int = 500_000
    """Rows of arrays."""
    text_rows: int = 600
    """Rows of a megabyte."""
    stock_rows: int = 200_000
    """The most rows that the stock source reads of a table; it is compared per row."""
    few_chunks: int = 1_000
    many_chunks: int = 5_000
    rows_per_chunk: int = 10
    """Rows in each of the many chunks."""
    huge_chunk_rows: int = 5_000_000
    """Rows of three columns in one chunk."""
    change_rows: int = 500_000
    """Rows inserted and decoded, for each size of transactions."""
    large_transaction_rows: int = 5_000_000
    """Rows of ten columns in one transaction."""
    slow_rows: int = 100_000
    """Rows of a transaction that a slow destination takes."""


QUICK = Sizes(
    rounds=1,
    warm_ups=0,
    rows=2_000,
    wide_rows=100,
    array_rows=500,
    text_rows=4,
    stock_rows=1_000,
    few_chunks=10,
    many_chunks=30,
    rows_per_chunk=2,
    huge_chunk_rows=20_000,
    change_rows=200,
    large_transaction_rows=2_000,
    slow_rows=1_000,
)
"""Sizes that show whether the command works, and nothing else."""
