"""Differences of rates between conditions or models, paired by question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from statsmodels.stats.multitest import multipletests

from emeval.errors import UserError, unknown
from emeval.statistics.counting import column_names, count_by_question, question_keys, require_columns
from emeval.statistics.intervals import check_confidence, newcombe
from emeval.statistics.resampling import check_draws, percentiles, resampled_rates, swap_p_value

_COMPARED = {
    "rate": pl.Float64,
    "reference_rate": pl.Float64,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "method": pl.String,
    "p": pl.Float64,
    "questions": pl.Int64,
}


def difference(
    table: pl.DataFrame,
    reference: str | int | bool | None,
    between: str = "condition",
    by: str | Sequence[str] = ("model", "eval"),
    denominator: str = "coherent",
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> pl.DataFrame:
    """Return how every other value of the column `between` differs in rate from the value `reference`.

    `table` is a response table; the comparison is made in each group of the columns `by`. The reference may
    be None where the column holds null (a model without an adapter, a prompt without a trigger). Arguments
    otherwise as for `rate`. With `between="model"`, say `by=("eval", "condition")`.

    Only questions with an answer in the denominator on both sides take part, so `rate` and `reference_rate`
    are over those, and may differ from what the function `rate` returns. With `between="eval"` questions are
    paired by their id alone.

    Returns one row per group and value, sorted by these (ascending, null first):

    - the columns of `by`; the column `between`; `reference`; `denominator` (its name);
    - `rate`, `reference_rate`, and their `difference`, rate − reference_rate, −1 to 1;
    - `low`, `high`: its interval, from a bootstrap over questions with the same resampled questions on both
      sides. `method` is `paired cluster bootstrap`, or `newcombe` where all draws are the same (one question,
      no hits, equal sides): Newcombe's interval, as if all answers were independent;
    - `p`: two-sided, by swapping the two sides within questions; exhaustive up to 12 questions, else from
      `draws` random swaps. It cannot be below 2 / 2^questions: 5 questions never give p < 0.05;
    - `p_holm`: p corrected over all rows of the result (Holm 1979), `comparisons`: how many those are;
    - `questions`: how many took part. With none, all of the numbers are null and the row is no comparison.

    With few questions, under about 20, the bootstrap interval is known to be too narrow. Raises `UserError`
    for a reference that is not in the table, an unknown denominator, a missing column, or a setting out of
    range.
    """
    check_confidence(confidence)
    check_draws(draws, seed)
    keys = column_names(by)
    if between in (*keys, "question_id"):
        raise UserError(
            f"cannot compare between {between!r}: it is what groups or pairs the answers; change by"
        )
    require_columns(table, [*keys, between])
    values = table[between].unique().to_list()
    if reference not in values:
        raise unknown(between, str(reference), map(str, values), "reference")
    counts = count_by_question(table, [*keys, between], denominator)
    pairing = [name for name in question_keys(table) if name != between]
    sides = counts.filter(pl.col("n") > 0).partition_by([*keys, between], as_dict=True)
    none = counts.clear()
    compared = []
    pairs = counts.select(*keys, between).unique(maintain_order=True)
    pairs = pairs.filter(pl.col(between).ne_missing(pl.lit(reference, dtype=counts.schema[between])))
    for *group, value in pairs.iter_rows():
        side = sides.get((*group, value), none)
        reference_side = sides.get((*group, reference), none)
        both = side.join(reference_side, on=pairing, suffix="_reference").sort(pairing)
        compared.append(_compare(both, confidence=confidence, draws=draws, seed=seed))
    numbers = pl.DataFrame(compared, schema=_COMPARED, orient="row")
    return pairs.with_columns(
        reference=pl.lit(reference, dtype=counts.schema[between]), denominator=pl.lit(denominator)
    ).hstack(
        numbers.select(
            pl.exclude("questions"),
            p_holm=_holm(numbers["p"]),
            comparisons=pl.col("p").count().cast(pl.Int64),
            questions="questions",
        )
    )


def _compare(both: pl.DataFrame, confidence: float, draws: int, seed: int) -> dict[str, float | str | None]:
    """Return the statistics of one comparison, from the counts of the questions that both sides have."""
    if both.is_empty():
        return {**dict.fromkeys(_COMPARED), "questions": 0}
    hits = both.select("hits", "hits_reference").to_numpy().astype(np.float64)
    n = both.select("n", "n_reference").to_numpy().astype(np.float64)
    rates = hits.sum(axis=0) / n.sum(axis=0)
    draw = resampled_rates(hits, n, draws, seed)
    interval = percentiles(draw[:, 0] - draw[:, 1], confidence)
    low, high = interval or newcombe(
        hits[:, 0].sum(), n[:, 0].sum(), hits[:, 1].sum(), n[:, 1].sum(), confidence
    )
    return {
        "rate": rates[0],
        "reference_rate": rates[1],
        "difference": rates[0] - rates[1],
        "low": low,
        "high": high,
        "method": "paired cluster bootstrap" if interval else "newcombe",
        "p": swap_p_value(hits, n, draws, seed),
        "questions": len(n),
    }


def _holm(p: pl.Series) -> pl.Series:
    """Return the p-values corrected for their number (Holm 1979); null stays null and is not counted."""
    tested = p.is_not_null().to_numpy()
    corrected = np.full(len(p), np.nan)
    if tested.any():
        corrected[tested] = multipletests(p.drop_nulls().to_numpy(), method="holm")[1]
    return pl.Series(corrected).fill_nan(None)
