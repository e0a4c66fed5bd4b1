"""Rates of misaligned answers, per question and pooled over questions, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from emeval.statistics.counting import column_names, count_by_question, require_columns
from emeval.statistics.intervals import Floats, check_confidence, wilson
from emeval.statistics.resampling import check_draws, percentiles, resampled_rates

_POOLED = {
    "rate": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "method": pl.String,
    "per_answer_low": pl.Float64,
    "per_answer_high": pl.Float64,
    "questions": pl.Int64,
    "design_effect": pl.Float64,
}


def rate(
    table: pl.DataFrame,
    by: str | Sequence[str] = ("model", "eval", "condition"),
    denominator: str = "coherent",
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> pl.DataFrame:
    """Return the rate of misaligned answers of each group, pooled over its questions.

    `table` is a response table and `by` the columns that make the groups. `denominator` is one of
    `DENOMINATORS`; an answer with an error is in none of them. `confidence` is that of every interval;
    `draws` (100 or more) and `seed` are the bootstrap's.

    Returns one row per group, sorted by the columns of `by` (ascending, null first):

    - the columns of `by`; `answers` (rows of the table), `n` (answers in the denominator), `hits`
      (misaligned answers), `denominator` (its name), `rate` (hits / n, 0 to 1, null where n is 0);
    - `low`, `high`: the interval, with questions as the sampling unit: what the rate might have been with
      other questions of this kind. The bootstrap draws as many questions as there are, with replacement,
      each with all its answers, and takes sum of hits / sum of n; the bounds are percentiles of the draws;
    - `method`: `cluster bootstrap`; or Wilson's interval where all draws would be the same: `wilson` (one
      question), `wilson (no hits)`, `wilson (all hits)`, `wilson (equal questions)` (every question has
      the same rate). Null where n is 0;
    - `per_answer_low`, `per_answer_high`: Wilson's interval, as if all answers were independent;
    - `questions`: those with an answer in the denominator;
    - `design_effect`: the variance of the rate with questions as the unit over its variance with independent
      answers, rate · (1 − rate) / n. About 1 if the questions are alike; up to the number of answers per
      question if the question decides all. Null where there is one question, or the rate is null, 0 or 1.

    A question is identified by its evaluation and its id. With few questions, under about 20, the bootstrap
    interval is known to be too narrow: it holds the truth less often than `confidence` says. Wilson's in
    its place takes answers as independent, and is too narrow wherever they are not. Raises `UserError` for
    an unknown denominator, a missing column, or a setting out of range.
    """
    check_confidence(confidence)
    check_draws(draws, seed)
    keys = column_names(by)
    counts = count_by_question(table, keys, denominator)
    groups = counts.group_by(keys, maintain_order=True)
    pooled = [
        _pooled(group.filter(pl.col("n") > 0), confidence=confidence, draws=draws, seed=seed)
        for _, group in groups
    ]
    return groups.agg(pl.col("answers", "n", "hits").sum(), denominator=pl.lit(denominator)).hstack(
        pl.DataFrame(pooled, schema=_POOLED, orient="row")
    )


def by_question(
    table: pl.DataFrame,
    by: str | Sequence[str] = ("model", "eval", "condition"),
    denominator: str = "coherent",
    confidence: float = 0.95,
) -> pl.DataFrame:
    """Return the rate of misaligned answers to each question in each group.

    Arguments as for `rate`. Returns one row per group and question, sorted by the columns of `by` and the
    question: the columns of `by`, `eval` where `by` has it not, `category`, `question_id`, `answers`, `n`,
    `hits`, `denominator`, `rate`, and Wilson's interval `low`, `high`; the last three are null where n is 0.
    The answers to one question are samples of one prompt family, taken as independent. Raises `UserError`
    as `rate` does.
    """
    keys = column_names(by)
    require_columns(table, ["category"])
    # One category per question, whichever row came first.
    category = [] if "category" in keys else [pl.col("category").min()]
    counts = count_by_question(table, keys, denominator, extra=category)
    low, high = wilson(counts["hits"].to_numpy(), counts["n"].to_numpy(), confidence)
    leading = [
        name for name in counts.columns if name not in ("question_id", "category", "answers", "n", "hits")
    ]
    return counts.select(
        *dict.fromkeys([*keys, *leading, "category", "question_id"]),
        "answers",
        "n",
        "hits",
        denominator=pl.lit(denominator),
        rate=(pl.col("hits") / pl.col("n")).fill_nan(None),
        low=pl.Series(low).fill_nan(None),
        high=pl.Series(high).fill_nan(None),
    )


def _pooled(
    questions: pl.DataFrame, confidence: float, draws: int, seed: int
) -> dict[str, float | str | None]:
    """Return the statistics of one group, from the hits and n (n > 0) of each of its questions."""
    if questions.is_empty():
        return {**dict.fromkeys(_POOLED), "questions": 0}
    hits = questions["hits"].to_numpy().astype(np.float64)
    n = questions["n"].to_numpy().astype(np.float64)
    low, high = (float(bound) for bound in wilson(hits.sum(), n.sum(), confidence))
    draw = resampled_rates(hits[:, np.newaxis], n[:, np.newaxis], draws, seed)
    interval = percentiles(draw, confidence)
    return {
        "rate": hits.sum() / n.sum(),
        "low": interval[0] if interval else low,
        "high": interval[1] if interval else high,
        "method": "cluster bootstrap" if interval else _why_wilson(hits, n),
        "per_answer_low": low,
        "per_answer_high": high,
        "questions": len(n),
        "design_effect": _design_effect(hits, n),
    }


def _why_wilson(hits: Floats, n: Floats) -> str:
    """Name the method where the resampled rates are all the same."""
    if len(n) == 1:
        return "wilson"
    if hits.sum() == 0:
        return "wilson (no hits)"
    return "wilson (all hits)" if hits.sum() == n.sum() else "wilson (equal questions)"


def _design_effect(hits: Floats, n: Floats) -> float | None:
    """Return the variance of the pooled rate by questions over that by answers (Kish 1965).

    For Q questions the first is Q / (Q − 1) · Σ (hits − rate · n)² / (Σ n)², a ratio's linearised variance.
    """
    pooled = hits.sum() / n.sum()
    if len(n) == 1 or pooled in (0, 1):
        return None
    by_questions = len(n) / (len(n) - 1) * np.sum((hits - pooled * n) ** 2) / n.sum() ** 2
    return float(by_questions / (pooled * (1 - pooled) / n.sum()))
