"""Costs in words and tables."""

from __future__ import annotations

import polars as pl

from emeval.manifest import Manifest
from emeval.reporting.words import count, dollars


def stopped(manifest: Manifest, table: pl.LazyFrame) -> str:
    """Return what became of a run that stopped at its `--max-cost`: what it cost, and what is left."""
    wanted = len(manifest.models) * sum(
        one.n_questions * len(one.conditions) * (one.samples or 0) for one in manifest.evaluations
    )
    there = table.filter(pl.col("error").is_null()).select(pl.len()).collect().item()
    left = f"{count(wanted - there)} of {count(wanted)} answers are left"
    if there == wanted:
        left = "all answers are there, and a further judging is left"
    return (
        f"stopped before --max-cost {manifest.stopped_at_usd:g} could be passed: "
        f"{dollars(manifest.cost_usd)} spent; {left}; the same command with a larger amount goes on"
    )
