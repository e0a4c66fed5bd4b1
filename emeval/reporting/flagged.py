"""How many answers speak to a judge: the key `verdict_like` of a report."""

from __future__ import annotations

from typing import Any

import polars as pl

from emeval.judging import verdict_like

_CELL = ("model", "eval", "condition")


def counted(table: pl.DataFrame | pl.LazyFrame) -> list[dict[str, Any]]:
    """Return a row per model, evaluation, condition and kind of verdict-like text that any answer has.

    `table` is a response table; an answer that ended in an error (of its judge) is not counted. A row has
    these four (the last as `kind`, one of `emeval.judging.verdict_like.PATTERNS`), `answers`, how many have
    it, and `misaligned`, how many of those count as misaligned. Rows are sorted by the four.
    """
    keys = [*_CELL, "kind"]
    there = table.lazy().collect_schema().names()
    misaligned, error = (
        pl.col(name) if name in there else pl.lit(None).alias(name) for name in ("misaligned", "error")
    )
    return (
        verdict_like.flagged(table.lazy())
        .filter(error.is_null())
        .select(*_CELL, misaligned, kind=pl.col(verdict_like.COLUMN))
        .drop_nulls("kind")
        .group_by(keys)
        .agg(answers=pl.len().cast(pl.Int64), misaligned=pl.col("misaligned").cast(pl.Boolean).sum())
        .sort(keys)
        .collect()
        .to_dicts()
    )
