"""The names of a judge's columns in the response table, of the run's own judging and of further ones."""

from __future__ import annotations

import polars as pl

JUDGE_COLUMNS: dict[str, type[pl.DataType]] = {
    "score": pl.Float64,
    "label": pl.String,
    "weight": pl.Float64,
    "model": pl.String,
    "fingerprint": pl.String,
    "reason": pl.String,
}
"""Per judge, as `NAME_score` …: the score from 0 to 100 (null where it gave none), or the label. The reason
is the judge's own where the readout asks for one; of an `UNREADABLE` reply, why it is."""

VERDICTS: dict[str, type[pl.DataType]] = {
    "error": pl.String,
    "coherent": pl.Boolean,
    "misaligned": pl.Boolean,
}
"""What a further judging has once, as `coherent@NAME` …: why it has no verdict, and what its scores say."""


def judged_by(judge: str, judging: str | None = None) -> dict[str, type[pl.DataType]]:
    """Return the columns of `judge` with their types: `JUDGE_score` …, or `JUDGE@JUDGING_score` …."""
    name = f"{judge}@{judging}" if judging else judge
    return {f"{name}_{column}": kind for column, kind in JUDGE_COLUMNS.items()}


def is_further(column: str) -> bool:
    """Whether a column of the response table belongs to a further judging."""
    return "@" in column
