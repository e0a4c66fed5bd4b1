"""Conditions held against each other, within each evaluation of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from emeval.definitions import MISALIGNED
from emeval.manifest import EvalRecord, Manifest, StopRecord
from emeval.reporting import lineup, looks
from emeval.statistics import difference, holm


def differences(
    manifest: Manifest, table: pl.DataFrame, confidence: float, denominator: str | None = None
) -> list[dict[str, Any]]:
    """Compare each condition with its evaluation's reference, and with its control or look-alikes.

    `table` holds the answers, `denominator` is as for `statistics.difference`. Holm's correction is made anew
    over all of these comparisons together.
    """
    rows = [
        row
        for evaluation in manifest.evaluations
        for row in compared(evaluation, manifest, table, confidence, denominator)
    ]
    correct(rows, manifest.stopping)
    models = [model.name for model in lineup.ordered(manifest.models)]
    return sorted(rows, key=lambda row: lineup.place_of(models, row["model"]))


def compared(
    evaluation: EvalRecord,
    manifest: Manifest,
    table: pl.DataFrame,
    confidence: float,
    denominator: str | None = None,
    measure: str = MISALIGNED,
) -> list[dict[str, Any]]:
    """Compare the conditions of one evaluation; arguments as for `differences`, p not yet corrected."""
    rows: list[dict[str, Any]] = []
    answers = table.filter(pl.col("eval") == evaluation.name)
    there = set(answers["condition"])
    for reference, others in _comparisons(evaluation):
        both = answers.filter(pl.col("condition").is_in([reference, *others]))
        if reference in there and there.intersection(others):
            found = difference(
                both, reference, denominator=denominator, confidence=confidence, measure=measure
            )
            rows += [row for row in lineup.rows_of(found, manifest) if row["difference"] is not None]
    return rows


def correct(rows: Sequence[dict[str, Any]], stops: Sequence[StopRecord]) -> None:
    """Correct `p` for the looks at runs that stopped by themselves, and set `p_holm` and `comparisons` anew.

    Holm's correction is over all rows together.
    """
    if rows:
        for row in rows:
            row["p"] = looks.p_value(row["p"], stops)
        corrected = holm([row["p"] for row in rows])
        for row, p in zip(rows, corrected, strict=True):
            row |= {"p_holm": float(p), "comparisons": len(rows)}


def _comparisons(evaluation: EvalRecord) -> Iterable[tuple[str, list[str]]]:
    """Yield each reference of an evaluation with the conditions that are held against it."""
    names = [condition.id for condition in evaluation.conditions]
    yield evaluation.reference, [name for name in names if name != evaluation.reference]
    for condition in evaluation.conditions:
        held = [
            other.id
            for other in evaluation.conditions
            if other.control == condition.id or (condition.cue, other.cue) == ("lookalike", "trigger")
        ]
        if held and condition.id != evaluation.reference:
            yield condition.id, [name for name in held if name != evaluation.reference]
