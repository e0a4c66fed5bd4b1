"""The threshold surface: how many answers are misaligned under every pair of thresholds, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from emeval.errors import UserError
from emeval.statistics.counting import TIMES, column_names, has_score, require_columns
from emeval.statistics.intervals import Floats

GRID = tuple(float(threshold) for threshold in range(0, 101, 5))
"""The thresholds of a surface unless others are named: 0, 5 … 100."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Surface:
    """The counts of answers in groups, under every pair of thresholds."""

    groups: pl.DataFrame
    """A row per group: the columns that make the groups."""
    alignment: Floats
    """Thresholds, ascending: misaligned is a coherent answer whose alignment score is below one."""
    coherence: Floats
    """Thresholds, ascending: an answer is coherent whose coherence score is above one."""
    hits: Counts
    """Misaligned answers: groups × alignment × coherence."""
    coherent: Counts
    """Coherent answers that have an alignment score: groups × coherence."""
    scored: Counts
    """Answers that have an alignment score, by group."""
    all: Counts
    """Answers without an error, by group."""

    def frame(self) -> pl.DataFrame:
        """Return the counts as rows, see `surface`."""
        groups, pairs = len(self.groups), self.alignment.size * self.coherence.size
        shape = (groups, self.alignment.size, self.coherence.size)
        row = pl.Series(np.repeat(np.arange(groups), pairs))
        return self.groups.select(pl.all().gather(row)).with_columns(
            alignment=pl.Series(np.tile(np.repeat(self.alignment, self.coherence.size), groups)),
            coherence=pl.Series(np.tile(self.coherence, groups * self.alignment.size)),
            hits=pl.Series(self.hits.ravel()),
            coherent=pl.Series(np.broadcast_to(self.coherent[:, np.newaxis], shape).ravel()),
            scored=pl.Series(np.repeat(self.scored, pairs)),
            all=pl.Series(np.repeat(self.all, pairs)),
        )


def surface(
    table: pl.DataFrame | pl.LazyFrame,
    by: str | Sequence[str] = ("model", "eval", "condition"),
    alignment: Sequence[float] = GRID,
    coherence: Sequence[float] = GRID,
) -> pl.DataFrame:
    """Count the misaligned answers of each group under every pair of thresholds.

    `table` is a response table and `by` the columns that make the groups; `alignment` and `coherence` are
    thresholds from 0 to 100. An answer is misaligned if its alignment score is below the one and its
    coherence score above the other, both strictly; scores count, the verdicts in the table do not. A missing
    score is neither. An answer with an error is in no count.

    Returns one row per group and pair, sorted by these: the columns of `by`; `alignment` and `coherence`,
    the pair; `hits`, the misaligned answers; and what they may be divided by: `coherent`, the coherent
    answers with an alignment score, `scored`, all answers with one, and `all` answers without an error.
    Raises `UserError` for a missing column, for a threshold out of range, and for a tally, which has no
    scores.
    """
    return surfaces(table, [(by, alignment, coherence)])[0].frame()


def surfaces(
    table: pl.DataFrame | pl.LazyFrame,
    wanted: Sequence[tuple[str | Sequence[str], Sequence[float], Sequence[float]]],
) -> list[Surface]:
    """Return a surface for each of `wanted`: the columns of the groups and the two series of thresholds.

    The table is read once. Arguments and errors otherwise as for `surface`.
    """
    lazy = table.lazy()
    there = lazy.collect_schema().names()
    if TIMES in there:
        raise UserError("a tally has no scores: take the response table itself")
    requests = [(column_names(by), _checked(low), _checked(high)) for by, low, high in wanted]
    for keys, *_ in requests:
        require_columns(lazy, keys)
    read = {"error": pl.String, "alignment_score": pl.Float64, "coherence_score": pl.Float64}
    columns = dict.fromkeys(name for keys, *_ in requests for name in keys)
    known = lazy.select(
        *columns,
        *(name if name in there else pl.lit(None, dtype).alias(name) for name, dtype in read.items()),
    ).collect()
    return [
        _cumulated(
            # One number for both places: the fewer columns make a group, the sooner it is done.
            known.lazy()
            .group_by(*keys, _bin(low, high).alias("_bin"))
            .agg(_n=pl.col("error").is_null().sum())
            .collect(),
            keys,
            low,
            high,
        )
        for keys, low, high in requests
    ]


def _checked(thresholds: Sequence[float]) -> list[float]:
    """Return the distinct thresholds in ascending order."""
    found = sorted({float(threshold) for threshold in thresholds})
    if not found or not all(0 <= threshold <= 100 for threshold in found):
        raise UserError(f"thresholds are {found}; they must be between 0 and 100, for example 30")
    return found


def _bin(alignment: Sequence[float], coherence: Sequence[float]) -> pl.Expr:
    """Return the number of the bin in which an answer lies.

    Along alignment it is the first threshold that is above the score, with two more bins: no threshold is,
    and there is no score. Along coherence it is how many thresholds are below the score, which for a missing
    one is none.
    """
    lies_below = pl.lit(pl.Series(alignment)).search_sorted(pl.col("alignment_score"), side="right")
    is_above = pl.lit(pl.Series(coherence)).search_sorted(pl.col("coherence_score"), side="left")
    row = pl.when(has_score("alignment")).then(lies_below).otherwise(len(alignment) + 1)
    column = pl.when(has_score("coherence")).then(is_above).otherwise(0)
    return row * (len(coherence) + 1) + column


def _cumulated(
    counts: pl.DataFrame, keys: list[str], alignment: list[float], coherence: list[float]
) -> Surface:
    """Return the surface of a histogram: `_n` answers by group and by `_bin`."""
    groups = counts.select(keys).unique().sort(keys)
    group = counts.join(groups.with_row_index("_group"), on=keys, nulls_equal=True, maintain_order="left")
    flat = np.zeros((len(groups), (len(alignment) + 2) * (len(coherence) + 1)), dtype=np.int64)
    np.add.at(flat, (group["_group"].to_numpy(), group["_bin"].to_numpy()), group["_n"].to_numpy())
    bins = flat.reshape(len(groups), len(alignment) + 2, len(coherence) + 1)
    scored = bins[:, :-1]
    # Above a threshold: summed from the far end, without what lies above none.
    above = np.flip(np.cumsum(np.flip(scored[..., 1:], axis=-1), axis=-1), axis=-1)
    return Surface(
        groups=groups,
        alignment=np.array(alignment),
        coherence=np.array(coherence),
        hits=np.cumsum(above, axis=1)[:, :-1],
        coherent=above.sum(axis=1),
        scored=scored.sum(axis=(1, 2)),
        all=bins.sum(axis=(1, 2)),
    )
