"""Whether one instrument scored all answers of a table, or several did."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl


def instruments(table: pl.DataFrame | pl.LazyFrame, judges: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return for each judge the instruments that scored or labelled answers, the one of most answers first.

    Of each: `model` and `fingerprint` (null where the table does not say) and `answers`, their number. A
    judge of which the table says neither is left out.
    """
    lazy = table.lazy()
    there = lazy.collect_schema().names()
    wanted = [
        judge
        for judge in judges
        if {f"{judge}_{part}" for part in ("score", "label", "model", "fingerprint")} <= set(there)
    ]
    counts = [
        lazy.filter(
            pl.col(f"{judge}_score").cast(pl.Float64).is_finite() | pl.col(f"{judge}_label").is_not_null()
        )
        .group_by(model=pl.col(f"{judge}_model"), fingerprint=pl.col(f"{judge}_fingerprint"))
        .agg(answers=pl.len())
        .sort("answers", "model", "fingerprint", descending=[True, False, False])
        for judge in wanted
    ]
    return {judge: frame.to_dicts() for judge, frame in zip(wanted, pl.collect_all(counts), strict=True)}


def mixture(judge: str, used: list[dict[str, Any]]) -> str | None:
    """Say in a sentence that a judge was not one instrument for all answers; `None` where it was."""
    if len(used) < 2:
        return None
    each = ", ".join(
        f"{one['answers']:,} by {one['model'] or 'a model that is not known'}"
        f" ({one['fingerprint'] or 'no fingerprint'})"
        for one in used
    )
    return f"The judge {judge} was not the same for all answers: {each}."
