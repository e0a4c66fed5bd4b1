"""How far judges agree on the same answers: Krippendorff's alpha, Cohen's kappa, rank correlation.

Answers to one question resemble each other, so every interval takes the questions as the sampling unit. Each
number is a function of sums over questions; leaving out one question after the other costs a subtraction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import stdtrit

from emeval.errors import UserError, unknown
from emeval.statistics.counting import arranged, question_keys, require_columns
from emeval.statistics.intervals import Floats, check_confidence
from emeval.statistics.outcomes import outcome

Level = Literal["interval", "nominal"]

LEVELS: tuple[Level, ...] = ("interval", "nominal")

MEASURES: dict[str, Level] = {
    "alignment_score": "interval",
    "coherence_score": "interval",
    "misaligned": "nominal",
    "outcome": "nominal",
}
"""What `agreement` holds judges against each other by, and how two values are compared: by the square of
their distance, or by whether they are the same."""

NO_VERDICT = ("unreadable", "undecided", "error")
"""Outcomes of an answer about which nothing usable was said: missing values, here."""

FEW_QUESTIONS = 5
"""With fewer that bear on it there is no interval: it would hold the truth far too seldom."""

_GROUP, _QUESTION = "_group", "_question"

_NOTHING = 1e-10
"""Share of the mean square below which the spread of values is what floating point makes of none."""


class Agreement(NamedTuple):
    """How far judges agree, and on what it rests."""

    value: float | None
    """1 is perfect agreement, 0 what chance gives, below 0 less than that; `None` where it is not defined."""
    low: float | None
    high: float | None
    answers: int
    """Answers that count: those about which two judges or more said something."""
    questions: int
    reason: str | None
    """Why there is no value, or no interval; `None` where both are there."""


def krippendorff_alpha(
    values: npt.ArrayLike | Sequence[Sequence[Any]],
    level: Level,
    questions: Sequence[Any] | None = None,
    confidence: float = 0.95,
) -> Agreement:
    """Return Krippendorff's alpha: 1 − disagreement within answers / disagreement between any two values.

    `values` are judges × answers, numbers or (nominal) also texts and booleans, nan or None where a judge
    said nothing. `level` is `interval` (two values differ by the square of their distance; scores) or
    `nominal` (they differ or not; labels, verdicts). Answers with fewer than two values are left out.
    `questions` says to which question each answer belongs; without it every answer is one by itself.
    Formula: Krippendorff, Content Analysis (2004), chapter 11.

    The standard error is a jackknife over questions (Quenouille 1956, Tukey 1958); the interval is made on
    the scale −log(1 − alpha), with Student's quantile. Its degrees of freedom are the questions that bear on
    it less one: all of them, or (nominal) those with another value than the commonest. There is none with
    fewer than `FEW_QUESTIONS`. Raises `UserError` for an unknown level, for values that do not fit it, and
    for lengths that differ.
    """
    check_confidence(confidence)
    if level not in LEVELS:
        raise unknown("level", str(level), LEVELS)
    rows = [pl.Series(f"judge {place}", list(row), strict=False) for place, row in enumerate(_rows(values))]
    if level == "interval" and not all(row.dtype.is_numeric() or row.dtype == pl.Null for row in rows):
        raise UserError("level 'interval' is for numbers; labels and verdicts have the level 'nominal'")
    frame = _framed(rows, questions)
    judges = [row.name for row in rows]
    found = (_interval_alpha if level == "interval" else _nominal_alpha)(frame, judges, confidence)
    return found.get(0, _none(_why_no_pair(len(judges))))


def cohen_kappa(
    first: Sequence[Any],
    second: Sequence[Any],
    questions: Sequence[Any] | None = None,
    confidence: float = 0.95,
) -> Agreement:
    """Return Cohen's kappa (1960) of two judges: the agreement beyond that of two who say it by chance.

    `first` and `second` hold what each said of the same answers, nan or None where it said nothing; answers
    that either says nothing of are left out. It is null where both say the same one thing throughout: chance
    alone gives that. `questions` and the interval are as for `krippendorff_alpha`, on Fisher's scale artanh.
    Where one of the values is rare, kappa is small even though the two seldom differ. Raises `UserError` for
    lengths that differ.
    """
    check_confidence(confidence)
    rows = [pl.Series(name, list(row), strict=False) for name, row in (("first", first), ("second", second))]
    return _kappa(_framed(rows, questions), "first", "second", confidence).get(0, _none(_why_no_pair(2)))


def rank_correlation(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    questions: Sequence[Any] | None = None,
    confidence: float = 0.95,
) -> Agreement:
    """Return Spearman's rank correlation of two judges' scores; ties have the mean of their ranks.

    `first` and `second` are numbers of the same answers, nan where there is no score; answers without one on
    either side are left out. It does not see that one judge is milder throughout. `questions` is as for
    `krippendorff_alpha`. The interval is that of the infinitesimal jackknife (Jaeckel 1972) over questions:
    how much each answer weighs in the correlation, its part in everybody's rank included, summed by question;
    on Fisher's scale artanh, with Student's quantile. Raises `UserError` for lengths that differ.
    """
    check_confidence(confidence)
    rows = [
        pl.Series(name, np.asarray(row, dtype=np.float64))
        for name, row in (("first", first), ("second", second))
    ]
    found = _correlation(_framed(rows, questions), "first", "second", confidence)
    return found.get(0, _none(_why_no_pair(2)))


def agreement(
    table: pl.DataFrame | pl.LazyFrame,
    judgings: Sequence[str],
    by: Sequence[str] = ("model", "category"),
    confidence: float = 0.95,
    distinct: Mapping[str, Sequence[str]] | None = None,
) -> pl.DataFrame:
    """Return Krippendorff's alpha between judgings of a response table: over all of it, and by group.

    `judgings` are the endings of their columns: `""` for the run's own, `@NAME` for a further one. Returns
    one row for each of `MEASURES` over all answers (`by` and `group` are null), and for each value (`group`)
    of each column in `by`: `measure`, `level`, `judges` (how many judgings), `answers` (about which two or
    more said something), `questions`, `alpha` (1 at most), `low`, `high`, and `reason`, which says why there
    is no number or no interval. The measure `misaligned` is the verdict; `outcome` is what became of the
    answer (`emeval.statistics.outcomes`: a verdict or a label). A judging that said nothing usable of an
    answer has neither. Where judgings have scores of one judge, `distinct` names for that measure those that
    count, each judge once: equal by copying is no agreement. Raises `UserError` for a missing column.
    """
    check_confidence(confidence)
    judged = _judgements(table, judgings, by)
    counted = dict.fromkeys(MEASURES, judgings) | dict(distinct or {})
    rows = []
    for name, group in _scopes(judged, by):
        for measure, level in MEASURES.items():
            columns = [_column(measure, judging) for judging in counted[measure]]
            alpha = _interval_alpha if level == "interval" else _nominal_alpha
            found = alpha(group.frame, columns, confidence)
            for place, value in enumerate(group.values):
                one = found.get(place, _none(_why_no_pair(len(columns))))
                rows.append((name, value, measure, level, len(columns), *_numbers(one), one.reason))
    return pl.DataFrame(rows, _AGREEMENT, orient="row")


def pairwise(
    table: pl.DataFrame | pl.LazyFrame,
    judgings: Sequence[str],
    by: Sequence[str] = ("model", "category"),
    confidence: float = 0.95,
) -> pl.DataFrame:
    """Return how far every two judgings of a response table agree: over all of it, and by group.

    Arguments, `by` and `group` are as for `agreement`; `first` and `second` are the endings of a pair. Of the
    verdict misaligned: `verdicts` (answers that have it from both), `same` (share of these on which they
    agree), `kappa` (`cohen_kappa`), `kappa_low`, `kappa_high`, `kappa_reason`. Of the alignment scores:
    `scored` (answers that both scored), `correlation` (`rank_correlation`), `correlation_low`,
    `correlation_high`, `correlation_reason`, `shift` (mean of the first's score less the second's).
    """
    check_confidence(confidence)
    judged = _judgements(table, judgings, by)
    rows = []
    for name, group in _scopes(judged, by):
        for one, other in combinations(judgings, 2):
            verdicts = _column("misaligned", one), _column("misaligned", other)
            scores = _column("alignment_score", one), _column("alignment_score", other)
            kappas = _kappa(group.frame, *verdicts, confidence)
            correlations = _correlation(group.frame, *scores, confidence)
            means = group.frame.group_by(_GROUP).agg(
                same=(pl.col(verdicts[0]) == pl.col(verdicts[1])).mean(),
                shift=(pl.col(scores[0]) - pl.col(scores[1])).mean(),
            )
            of_both = {row[0]: row[1:] for row in means.iter_rows()}
            for place, value in enumerate(group.values):
                same, shift = of_both.get(place, (None, None))
                kappa = kappas.get(place, _none(_why_no_pair(2)))
                correlation = correlations.get(place, _none(_why_no_pair(2)))
                rows.append(
                    (
                        *(name, value, one, other, max(kappa.questions, correlation.questions)),
                        *(kappa.answers, same, *kappa[:3], kappa.reason),
                        *(correlation.answers, shift, *correlation[:3], correlation.reason),
                    )
                )
    return pl.DataFrame(rows, _PAIRWISE, orient="row")


_AGREEMENT: dict[str, type[pl.DataType]] = {
    "by": pl.String,
    "group": pl.String,
    "measure": pl.String,
    "level": pl.String,
    "judges": pl.Int64,
    "answers": pl.Int64,
    "questions": pl.Int64,
    "alpha": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "reason": pl.String,
}

_PAIRWISE: dict[str, type[pl.DataType]] = {
    "by": pl.String,
    "group": pl.String,
    "first": pl.String,
    "second": pl.String,
    "questions": pl.Int64,
    "verdicts": pl.Int64,
    "same": pl.Float64,
    "kappa": pl.Float64,
    "kappa_low": pl.Float64,
    "kappa_high": pl.Float64,
    "kappa_reason": pl.String,
    "scored": pl.Int64,
    "shift": pl.Float64,
    "correlation": pl.Float64,
    "correlation_low": pl.Float64,
    "correlation_high": pl.Float64,
    "correlation_reason": pl.String,
}


def _judgements(
    table: pl.DataFrame | pl.LazyFrame, judgings: Sequence[str], by: Sequence[str]
) -> pl.DataFrame:
    """Return what each of `judgings` said of every answer: the columns of `MEASURES`.

    What is missing, or nothing usable, is null; `_QUESTION` is a number for each question.
    """
    lazy = table.lazy()
    head = pl.DataFrame(schema=lazy.collect_schema())
    keys = question_keys(head)
    scores = [_column(name, judging) for name in MEASURES if name.endswith("_score") for judging in judgings]
    require_columns(head, [*by, *scores, *(_column("misaligned", judging) for judging in judgings)])
    said = [outcome(head.columns, judging).alias(_column("outcome", judging)) for judging in judgings]
    usable = (
        lazy.select(*dict.fromkeys([*by, *keys]), pl.col(scores).cast(pl.Float64).fill_nan(None), *said)
        .with_columns(
            pl.when(pl.col(name).is_in(NO_VERDICT).not_()).then(pl.col(name)).cast(pl.Categorical)
            for name in (_column("outcome", judging) for judging in judgings)
        )
        .with_columns(
            (pl.col(_column("outcome", judging)) == "misaligned").alias(_column("misaligned", judging))
            for judging in judgings
        )
        .collect()
    )
    return usable.with_columns(pl.struct(keys).rank("dense").alias(_QUESTION))


def _column(measure: str, judging: str) -> str:
    """Return the column of a judging that holds `measure`: `alignment@NAME_score`, `misaligned@NAME`."""
    judge, part, _ = measure.partition("_score")
    return f"{judge}{judging}{part}"


class _Scope(NamedTuple):
    """Answers that are taken apart by the values of a column, or all together."""

    values: list[str | None]
    frame: pl.DataFrame
    """With `_GROUP`, the place of an answer's value in `values`."""


def _scopes(judged: pl.DataFrame, by: Sequence[str]) -> Iterator[tuple[str | None, _Scope]]:
    yield None, _Scope([None], judged.with_columns(pl.lit(0, pl.Int64).alias(_GROUP)))
    for name in by:
        there = judged.filter(pl.col(name).is_not_null())
        values = there[name].unique().sort()
        places = pl.col(name).replace_strict(values, pl.int_range(len(values), eager=True)).alias(_GROUP)
        yield name, _Scope(list(map(str, values)), there.with_columns(places))


def _rows(values: npt.ArrayLike | Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
    rows = values if isinstance(values, Sequence) else np.asarray(values)
    if isinstance(rows, np.ndarray) and rows.ndim != 2:
        raise UserError(f"values have {rows.ndim} dimensions; give judges × answers")
    return rows  # type: ignore[return-value]


def _framed(rows: Sequence[pl.Series], questions: Sequence[Any] | None) -> pl.DataFrame:
    """Return the rows as columns, with `_GROUP` and `_QUESTION`; nan becomes null."""
    lengths = {len(row) for row in rows} | ({len(questions)} if questions is not None else set())
    if len(lengths) > 1:
        raise UserError(f"the lengths differ: {', '.join(map(str, sorted(lengths)))} answers")
    frame = pl.DataFrame([row.fill_nan(None) if row.dtype.is_float() else row for row in rows])
    frame = frame.with_columns(pl.lit(0, pl.Int64).alias(_GROUP))
    if questions is None:
        return frame.with_row_index(_QUESTION)
    return frame.with_columns(pl.Series(_QUESTION, list(questions), strict=False).rank("dense"))


def _none(reason: str) -> Agreement:
    return Agreement(None, None, None, 0, 0, reason)


def _why_no_pair(judges: int) -> str:
    return "there is only one judge" if judges < 2 else "no answer has a value of two judges"


def _numbers(one: Agreement) -> tuple[int, int, float | None, float | None, float | None]:
    return one.answers, one.questions, one.value, one.low, one.high


def _interval_alpha(frame: pl.DataFrame, judges: Sequence[str], confidence: float) -> dict[int, Agreement]:
    """Return alpha of numbers for each group that has an answer with two of them."""
    values = [pl.col(name).cast(pl.Float64) for name in judges]
    answers = frame.lazy().select(
        *(_GROUP, _QUESTION),
        n=pl.sum_horizontal(value.is_not_null() for value in values).cast(pl.Float64),
        total=pl.sum_horizontal(values),
        squares=pl.sum_horizontal(value**2 for value in values),
    )
    # What an answer's own values differ by: half the sum over all pairs of their squared distances.
    within = (pl.col("n") * pl.col("squares") - pl.col("total") ** 2) / (pl.col("n") - 1)
    counts = (
        answers.filter(pl.col("n") > 1)
        .with_columns(within=within.clip(lower_bound=0))
        .group_by(_GROUP, _QUESTION)
        .agg(pl.col("n", "total", "squares", "within").sum(), answers=pl.len())
        .sort(_GROUP, _QUESTION)
        .collect()
    )

    def alpha(sums: Floats) -> Floats:
        n, total, squares, within = np.moveaxis(sums, -1, 0)
        spread = n * squares - total**2
        expected = np.where(spread > _NOTHING * n * squares, spread / (n - 1), np.nan)
        value: Floats = 1 - within / expected
        return value

    return _by_group(counts, ["n", "total", "squares", "within"], alpha, _ALPHA, 0, confidence)


def _nominal_alpha(frame: pl.DataFrame, judges: Sequence[str], confidence: float) -> dict[int, Agreement]:
    """Return alpha of labels for each group that has an answer with two of them."""
    kinds = frame.group_by(_GROUP, _QUESTION, *judges).agg(times=pl.len()).with_row_index("kind")
    said = (
        kinds.unpivot(judges, index=[_GROUP, _QUESTION, "kind", "times"], value_name="value")
        .drop_nulls("value")
        .group_by(_GROUP, _QUESTION, "kind", "times", "value")
        .agg(judges=pl.len().cast(pl.Float64))
        .with_columns(n=pl.col("judges").sum().over("kind"))
        .filter(pl.col("n") > 1)
    )
    alike = pl.col("judges") ** 2 / (pl.col("n") - 1)
    given = (
        said.group_by(_GROUP, _QUESTION, "value")
        .agg(given=(pl.col("judges") * pl.col("times")).sum())
        .sort(_GROUP, _QUESTION)
    )
    counts = (
        said.group_by(_GROUP, _QUESTION, "kind", "times")
        .agg(n=pl.col("n").first(), alike=alike.sum())
        .with_columns(within=pl.col("n") ** 2 / (pl.col("n") - 1) - pl.col("alike"))
        .group_by(_GROUP, _QUESTION)
        .agg(within=(pl.col("within") * pl.col("times")).sum(), answers=pl.col("times").sum())
        .sort(_GROUP, _QUESTION)
    )
    if counts.is_empty():
        return {}
    values = given["value"].unique(maintain_order=True)
    places = pl.int_range(len(values), eager=True)
    wide = given.with_columns(pl.col("value").replace_strict(values, places).alias("place")).pivot(
        "place", index=[_GROUP, _QUESTION], values="given"
    )
    names = [str(place) for place in places]
    counts = counts.join(wide, on=[_GROUP, _QUESTION], how="left", maintain_order="left").fill_null(0)

    def alpha(sums: Floats) -> Floats:
        within, given = sums[..., 0], sums[..., 1:]
        n = given.sum(axis=-1)
        spread = n**2 - np.sum(given**2, axis=-1)
        return 1 - within / np.where(spread > 0, spread / (n - 1), np.nan)

    return _by_group(counts, ["within", *names], alpha, _ALPHA, len(names), confidence)


def _kappa(frame: pl.DataFrame, first: str, second: str, confidence: float) -> dict[int, Agreement]:
    """Return Cohen's kappa of two columns for each group in which both have values."""
    both = frame.select(_GROUP, _QUESTION, first, second).drop_nulls([first, second])
    if both.is_empty():  # a column without a value has no type either
        return {}
    cells = both.group_by(_GROUP, _QUESTION, first, second).agg(times=pl.len())
    values = pl.concat([cells[first].alias("value"), cells[second].alias("value")]).unique().sort()
    table = [(pl.col(first) == one) & (pl.col(second) == other) for one in values for other in values]
    names = [f"cell {place}" for place in range(len(table))]
    counts = (
        cells.group_by(_GROUP, _QUESTION)
        .agg(
            *((pl.col("times") * cell).sum().alias(name) for name, cell in zip(names, table, strict=True)),
            answers=pl.col("times").sum(),
        )
        .sort(_GROUP, _QUESTION)
    )

    def kappa(sums: Floats) -> Floats:
        square = sums.reshape(*sums.shape[:-1], len(values), len(values))
        n = square.sum(axis=(-1, -2))
        same = np.trace(square, axis1=-2, axis2=-1) / n
        by_chance = np.sum(square.sum(axis=-1) * square.sum(axis=-2), axis=-1) / n**2
        return np.where(by_chance < 1, (same - by_chance) / (1 - by_chance), np.nan)

    return _by_group(counts, names, kappa, _FISHER, len(names), confidence)


def _correlation(frame: pl.DataFrame, first: str, second: str, confidence: float) -> dict[int, Agreement]:
    """Return Spearman's correlation of two columns for each group in which both have scores."""
    both = frame.select(_GROUP, _QUESTION, first, second).drop_nulls([first, second]).sort(_GROUP)
    starts = both.group_by(_GROUP, maintain_order=True).len()
    found, at = {}, 0
    for group, length in starts.iter_rows():
        part = both.slice(at, length)
        at += length
        scores = part[first].to_numpy(), part[second].to_numpy()
        found[group] = _spearman(*scores, part[_QUESTION].to_numpy(), confidence)
    return found


def _spearman(
    first: Floats, second: Floats, questions: npt.NDArray[np.int64], confidence: float
) -> Agreement:
    n = len(first)
    one, other = _Ranks.of(first), _Ranks.of(second)
    asked, place = np.unique(questions, return_inverse=True)
    spread = np.sqrt(one.spread * other.spread)
    if spread == 0:
        return Agreement(None, None, None, n, len(asked), "a judge gives every answer the same score")
    together = np.mean(one.rank * other.rank)
    value = float(np.clip(together / spread, -1, 1))
    # How much an answer weighs: by its own ranks, and by what it does to the ranks of all others.
    weighs = one.rank * other.rank + one.lifted(other.rank) + other.lifted(one.rank) - 3 * together
    for side in (one, other):
        own = side.rank**2 + 2 * side.lifted(side.rank) - 3 * side.spread
        weighs = weighs - together / (2 * side.spread) * own
    by_question = np.bincount(place, weights=weighs / spread) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(len(asked) / np.subtract(len(asked), 1) * np.sum(by_question**2))
    low, high, reason = _bounds(value, error, len(asked), _FISHER, confidence)
    return Agreement(value, low, high, n, len(asked), reason)


class _Ranks(NamedTuple):
    """The ranks of some scores, from −1/2 to 1/2, ties at the mean of theirs."""

    rank: Floats
    place: npt.NDArray[np.int64]
    """Of each score among the distinct ones."""
    spread: float
    """Mean square of the ranks, whose mean is 0."""

    @classmethod
    def of(cls, scores: Floats) -> _Ranks:
        _, place, times = np.unique(scores, return_inverse=True, return_counts=True)
        rank = ((np.cumsum(times) - times / 2) / len(scores) - 0.5)[place]
        return cls(rank, place, float(np.mean(rank**2)))

    def lifted(self, weight: Floats) -> Floats:
        """Return the mean of `weight` over the answers above each answer, those level with it by half."""
        sums = np.bincount(self.place, weights=weight)
        above = np.cumsum(sums[::-1])[::-1] - sums / 2
        return above[self.place] / len(weight)


class _Scale(NamedTuple):
    """A scale on which a measure's error is about the same wherever its value is."""

    there: Callable[[float], float]
    back: Callable[[float], float]
    slope: Callable[[float], float]


_ALPHA = _Scale(
    lambda value: -math.log1p(-value), lambda scaled: -math.expm1(-scaled), lambda value: 1 / (1 - value)
)
_FISHER = _Scale(math.atanh, math.tanh, lambda value: 1 / (1 - value**2))


def _by_group(
    counts: pl.DataFrame,
    columns: Sequence[str],
    measure: Callable[[Floats], Floats],
    scale: _Scale,
    kinds: int,
    confidence: float,
) -> dict[int, Agreement]:
    """Return the measure of each group of `counts`, which has a row for each group and question.

    `measure` takes sums of `columns` on its last axis. Its interval is the jackknife's on the `scale`. The
    last `kinds` of `columns` count values of a kind; a question with the commonest kind alone says nothing of
    how agreement varies, so the degrees of freedom are those of the others.
    """
    if counts.is_empty():
        return {}
    arrays = arranged(counts, [_GROUP], [[_QUESTION]], [*columns, "answers"])
    sums, answers = np.stack(arrays[:-1], axis=-1), arrays[-1]
    whole = sums.sum(axis=1)
    asked = answers > 0
    questions = asked.sum(axis=1)
    bearing = _with_others(sums[..., -kinds:]).sum(axis=1) if kinds else questions
    with np.errstate(divide="ignore", invalid="ignore"):
        values = measure(whole)
        left = np.where(asked, measure(whole[:, np.newaxis] - sums), 0)
        off = np.where(asked, left - (left.sum(axis=1) / questions)[:, np.newaxis], 0)
        errors = np.sqrt((questions - 1) / questions * np.sum(off**2, axis=1))
    found = {}
    groups = counts[_GROUP].unique(maintain_order=True)
    for place, group in enumerate(groups):
        value, n, of = float(values[place]), int(answers[place].sum()), int(questions[place])
        if np.isnan(value):
            found[group] = Agreement(None, None, None, n, of, "all values are the same")
            continue
        low, high, reason = _bounds(value, errors[place], bearing[place], scale, confidence)
        found[group] = Agreement(value, low, high, n, of, reason)
    return found


def _with_others(kinds: Floats) -> npt.NDArray[np.bool_]:
    """Return which questions have a value that is not of the commonest kind of their group."""
    commonest = kinds.sum(axis=1).argmax(axis=-1)
    of_commonest = np.take_along_axis(kinds, commonest[:, np.newaxis, np.newaxis], -1)[..., 0]
    others: npt.NDArray[np.bool_] = kinds.sum(axis=-1) > of_commonest
    return others


def _bounds(
    value: float, error: float, bearing: int, scale: _Scale, confidence: float
) -> tuple[float | None, float | None, str | None]:
    """Return low, high, and why they are missing; `error` is the standard error of the value."""
    if abs(value) > 1 - _NOTHING:
        return None, None, "agreement is perfect, so nothing is known of how it varies"
    if bearing < FEW_QUESTIONS:
        return None, None, f"an interval needs {FEW_QUESTIONS} questions that bear on it; there are {bearing}"
    if not np.isfinite(error):
        return None, None, "it hangs on one question: without that there is nothing to agree on"
    reach = -float(stdtrit(bearing - 1, (1 - confidence) / 2)) * error * scale.slope(value)
    middle = scale.there(value)
    return float(scale.back(middle - reach)), float(scale.back(middle + reach)), None
