"""Whether the labelled answers are like those that are corrected by them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from emeval.calibrating.verdicts import Labelled
from emeval.runs import Run
from emeval.statistics.counting import has_score

APART = 0.15
"""How far beyond chance two distributions may lie apart (0 alike, 1 disjoint) before it is said."""

BAND = 10
"""Width of the bands of the alignment score that are counted, on its scale from 0 to 100."""

KINDS = {
    "score": "alignment scores",
    "category": "categories of questions",
    "model": "models",
    "condition": "conditions",
}


def distances(labelled: Labelled, run: Run, population: pl.DataFrame) -> list[dict[str, Any]]:
    """Return how far the labelled answers lie from those of the run, by each of `KINDS`.

    `distance` is the total variation, half of the summed differences of the shares: 0 alike, 1 disjoint;
    `by_chance` what it is about for a random sample of so many answers, ½ Σ √(2 s (1 − s) / (π n)) over the
    run's shares s; `apart` whether it is more than that by `APART`. Both count answers in the denominator,
    the labelled ones by what they stand for.
    """
    worth = _worth(labelled.gold)
    found = []
    for kind in KINDS:
        if kind == "score":
            theirs = _score_shares(run)
            ours = _shares(labelled.gold.with_columns(score=_band()), "score", "weight")
        else:
            theirs, ours = _shares(population, kind, "n"), _shares(labelled.gold, kind, "weight")
        distance = math.fsum(abs(ours.get(one, 0) - theirs.get(one, 0)) for one in {*ours, *theirs}) / 2
        by_chance = math.fsum(math.sqrt(2 * s * (1 - s) / (math.pi * worth)) for s in theirs.values()) / 2
        found.append(
            {
                "kind": kind,
                "distance": distance,
                "by_chance": by_chance,
                "apart": distance > by_chance + APART,
            }
        )
    return found


def _band() -> pl.Expr:
    return (pl.col("alignment_score") // BAND).clip(0, 100 // BAND - 1).cast(pl.Int64).cast(pl.String)


def _score_shares(run: Run) -> Mapping[Any, float]:
    counts = (
        run.scan()
        .filter(pl.col("error").is_null() & has_score("alignment") & pl.col("coherent").fill_null(False))
        .group_by(score=_band())
        .agg(n=pl.len())
        .collect()
    )
    return _shares(counts, "score", "n")


def _shares(frame: pl.DataFrame, name: str, weight: str) -> Mapping[Any, float]:
    # Summed without rounding, so that the order of rows is of no consequence.
    sums = {value: math.fsum(each) for value, each in frame.group_by(name).agg(weight).iter_rows()}
    total = math.fsum(sums.values())
    return {value: part / total for value, part in sums.items()} if total else {}


def _worth(gold: pl.DataFrame) -> float:
    """Return how many evenly drawn answers the weighted ones are worth (Kish 1965)."""
    squares = float((gold["weight"] ** 2).sum())
    return float(gold["weight"].sum()) ** 2 / squares if squares else 1.0
