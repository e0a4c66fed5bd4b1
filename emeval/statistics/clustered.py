"""Intervals and p-values for rates whose sampling unit is the question, from counts per question.

Arrays in, arrays out; leading axes are tables that are worked out together, so that a thousand cells or a
simulation cost one call. How well the intervals hold is measured by `benchmarks/coverage.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betainccinv, betaincinv, ndtr, ndtri, stdtrit

from emeval.errors import UserError
from emeval.statistics.intervals import Floats, check_confidence, wilson_bounds

ASSUMED_CORRELATION = 0.2
"""How much two answers to one question are taken to resemble each other (intra-class correlation, 0 to 1) as
far as the counts do not say. In 19 public models, 8 questions each, it is 0.02 to 0.29, the median 0.10."""

ASSUMED_QUESTIONS = 3
"""With how many questions' weight the assumption stands beside what the counts say."""

_WIDEST = 8.2
"""The largest normal quantile tried when a p-value is sought; its tail is 1.2e-16."""

_HALVINGS = 30


class Interval(NamedTuple):
    """Bounds of an interval, and the name of the method that gave them: an entry for each table."""

    low: Floats
    high: Floats
    method: npt.NDArray[np.str_]


def pooled_interval(
    hits: npt.ArrayLike,
    n: npt.ArrayLike,
    confidence: float = 0.95,
    correlation: float = ASSUMED_CORRELATION,
) -> Interval:
    """Return the interval of the pooled rate, sum of hits over sum of n, with questions as sampling unit.

    `hits` and `n` have the shape tables × questions, or any leading axes, or none; a question with n = 0 is
    none. It says what rate questions of this kind would have, which these are taken to be a random draw of:

    - The design effect is that of `design_effect`, but 1 at least, drawn towards 1 + (m − 1) ·
      `correlation`, m = Σ n² / Σ n (Kish 1965). The counts have as many votes as there are questions
      with a hit (or with an answer that is none, if these are fewer), the assumption has
      `ASSUMED_QUESTIONS`.
    - The answers are worth n / design effect independent ones, times (z / t)² with z the normal and t
      Student's quantile with questions − 1 + `ASSUMED_QUESTIONS` degrees of freedom (Korn and Graubard 1998).
    - The interval is Jeffreys' of so many answers with the same rate (Brown, Cai and DasGupta 2001): it
      starts at 0 without hits, ends at 1 without others, and is stretched to the rate where it misses it.

    `method` is `effective sample size`; `effective sample size, clustering assumed` where all answers, or
    none, are hits, so that the counts say nothing of the design effect; `wilson` for one question: Wilson's
    interval, which speaks of that question alone. Bounds are from 0 to 1; `nan` and no method without
    answers. Raises `UserError` for a confidence out of range, or for hits below 0 or above n.
    """
    check_confidence(confidence)
    sample = _sample(*_counts(hits, n), correlation)
    low, high = sample.bounds(_quantile(confidence))
    return Interval(low, high, sample.method())


def replicated_interval(hits: npt.ArrayLike, n: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the interval of a rate pooled over questions and replicates, each of them a sampling unit.

    Replicates are models of one recipe that differ in their training seed, all of them asked the same
    questions. `hits` and `n` have the shape tables × replicates × questions, or any leading axes. As
    `pooled_interval`, with one more part of the design effect: what the replicates differ by beyond chance,
    as in a two-way table with random effects (Searle, Casella and McCulloch 1992). For S replicates and
    e = hits − rate · n, it is S / (S − 1) · Σ (their sums of e)² less S Q / ((S − 1)(Q − 1)) · Σ (e less its
    replicate's and its question's share)², 0 at least. The degrees of freedom are Satterthwaite's (1946) of
    the two parts, S − 1 for the second.

    Replicates are taken as a random draw of the recipe's. Nothing is assumed of how much they differ: where
    there are few hits or two or three replicates, that is seen only roughly. `method` has `, replicated`
    after its name where there is more than one replicate; with one question it stays `wilson`, which takes
    all answers as independent.
    """
    check_confidence(confidence)
    counted, of = _counts(hits, n)
    sample = _sample(counted.sum(axis=-2), of.sum(axis=-2))
    replicates = np.count_nonzero(of.sum(axis=-1), axis=-1)
    several = np.maximum(replicates - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = counted - sample.rate[..., np.newaxis, np.newaxis] * of
        by_replicate, by_question = off.sum(axis=-1, keepdims=True), off.sum(axis=-2, keepdims=True)
        shares = (of / of.sum(axis=axis, keepdims=True) for axis in (-1, -2))
        replicate_share, question_share = (np.nan_to_num(share) for share in shares)
        chance = off - by_replicate * replicate_share - by_question * question_share
        spread = np.sum(by_replicate**2, axis=(-1, -2)) - sample.questions / np.maximum(
            sample.questions - 1, 1
        ) * np.sum(chance**2, axis=(-1, -2))
        extra = replicates / several * spread / (sample.n * sample.rate * (1 - sample.rate))
    extra = np.where(np.isfinite(extra), np.maximum(extra, 0), 0)
    whole = sample.design_effect + extra
    parts = sample.design_effect**2 / sample.degrees + extra**2 / several
    low, high = replace(sample, design_effect=whole, degrees=whole**2 / parts).bounds(_quantile(confidence))
    method = sample.method()
    counted_in = (replicates > 1) & (sample.questions > 1)
    return Interval(low, high, np.where(counted_in, np.strings.add(method, ", replicated"), method))


def difference_interval(hits: npt.ArrayLike, n: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the interval of the difference of two pooled rates, first side less second, paired by question.

    `hits` and `n` have the shape tables × questions × 2, or any leading axes; a question without answers on
    either side is none. The interval reaches to the farther end of two:

    - Student's for a difference of two ratios over the same questions (Cochran 1977): p₁ − p₂ ± t · error,
      questions − 1 degrees of freedom. The squared error is that of the linearised sum, but at least that
      of independent answers with one rate on both sides. It is short where the rates are low and skewed.
    - The bounds l, u of `pooled_interval` for the rates p, put together by the method of variance estimates
      recovery (Zou and Donner 2008; Newcombe 1998 for independent answers):

          low = p₁ − p₂ − √((p₁ − l₁)² + (u₂ − p₂)² − 2 r (p₁ − l₁)(u₂ − p₂)),   high likewise

      r is the correlation of the two rates, from the questions' deviations from them; never so high that
      less than the chance of independent answers is left, because the sides are sampled apart. Here the
      correlation that either side assumes is what the other shows, with as many votes as there, and
      `ASSUMED_CORRELATION`, with `ASSUMED_QUESTIONS`.

    Both cancel out what makes a question hard for either side. Bounds are from −1 to 1. `method` is `paired,
    effective sample size`, with `, clustering assumed` where neither side says anything of it; `newcombe`
    for one question, which has no Student's interval. `nan` and no method without a question. Raises as
    `pooled_interval`.
    """
    check_confidence(confidence)
    pair = _pair(*_counts(hits, n))
    low, high = pair.bounds(_quantile(confidence))
    return Interval(low, high, pair.method())


def difference_p_values(hits: npt.ArrayLike, n: npt.ArrayLike, margin: float = 0.0) -> tuple[Floats, Floats]:
    """Return the one-sided p-values of a difference of more, and of less, than `margin`.

    `hits` and `n` are as for `difference_interval`, `margin` is from −1 to 1. The first p-value is small
    where the first side's rate exceeds the second's by more than the margin; the second where it does not
    reach that. They are found by inverting the interval: the first is the tail left out above or below
    (half of 1 − confidence) with which the lower bound falls on the margin. So an interval at 95% lies above
    the margin where the first is below 0.025. The two add up to 1; `nan` without a question. The smallest
    is 1.2e-16. Raises `UserError` for a margin out of range, or for hits below 0 or above n.
    """
    if not -1 <= margin <= 1:
        raise UserError(f"margin is {margin}; it must be between -1 and 1, for example 0.01")
    pair = _pair(*_counts(hits, n))
    above = pair.difference > margin
    near, far = np.zeros(above.shape), np.full(above.shape, _WIDEST)
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        low, high = pair.bounds(middle)
        apart = np.where(above, low > margin, high < margin)
        near, far = np.where(apart, middle, near), np.where(apart, far, middle)
    tail = np.where(np.isnan(pair.difference), np.nan, ndtr(-near))
    return np.where(above, tail, 1 - tail), np.where(above, 1 - tail, tail)


def design_effect(hits: npt.ArrayLike, n: npt.ArrayLike) -> Floats:
    """Return the variance of the pooled rate with questions as unit over that with answers (Kish 1965).

    `hits` and `n` are as for `pooled_interval`. For Q questions the first is a ratio's linearised variance,
    Q / (Q − 1) · Σ (hits − rate · n)² / (Σ n)²; the second rate · (1 − rate) / Σ n. `nan` with fewer than two
    questions, and where the rate is 0 or 1.
    """
    counted, of = _counts(hits, n)
    questions, answers = np.count_nonzero(of, axis=-1), of.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = counted.sum(axis=-1) / answers
        spread = np.sum((counted - rate[..., np.newaxis] * of) ** 2, axis=-1)
        effect = questions / (questions - 1) * spread / (answers * rate * (1 - rate))
    return np.where((questions > 1) & (rate > 0) & (rate < 1), effect, np.nan)


@dataclass(frozen=True)
class _Sample:
    """A rate and what it was measured on, an entry for each table."""

    rate: Floats
    n: Floats
    questions: Floats
    bearing: Floats
    """Questions that bear on the design effect."""
    design_effect: Floats
    degrees: Floats

    def bounds(self, z: Floats) -> tuple[Floats, Floats]:
        """Return low and high, of which each leaves out the tail beyond the normal quantile `z` (above 0)."""
        tail = ndtr(-z)
        with np.errstate(divide="ignore", invalid="ignore"):
            worth = self.n / self.design_effect * (z / stdtrit(self.degrees, tail)) ** 2
            hits, others = self.rate * worth, (1 - self.rate) * worth
        low = np.minimum(betaincinv(hits + 0.5, others + 0.5, tail), self.rate)
        high = np.maximum(betainccinv(hits + 0.5, others + 0.5, tail), self.rate)
        alone = self.questions == 1
        if alone.any():
            hits, n = np.where(alone, self.rate * self.n, 0), np.maximum(self.n, 1)
            wilson = wilson_bounds(hits, n, z)
            low, high = np.where(alone, wilson[0], low), np.where(alone, wilson[1], high)
        return np.where(self.rate == 0, 0.0, low), np.where(self.rate == 1, 1.0, high)

    def variance(self) -> tuple[Floats, Floats]:
        """Return the variance of the rate, and the part of it that independent answers would have."""
        independent = self.rate * (1 - self.rate) / np.maximum(self.n, 1)
        return self.design_effect * independent, independent

    def method(self) -> npt.NDArray[np.str_]:
        """Name the method of each table's interval."""
        return np.select(
            [self.questions == 0, self.questions == 1, self.bearing == 0],
            ["", "wilson", "effective sample size, clustering assumed"],
            "effective sample size",
        )


@dataclass(frozen=True)
class _Pair:
    """Two rates over the same questions, an entry for each table."""

    first: _Sample
    second: _Sample
    correlation: Floats
    error: Floats
    """Standard error of the difference for Student's interval; `nan` with one question."""

    @property
    def difference(self) -> Floats:
        return self.first.rate - self.second.rate

    def bounds(self, z: Floats) -> tuple[Floats, Floats]:
        """Return low and high, of which each leaves out the tail beyond the normal quantile `z` (above 0)."""
        (low, high), (other_low, other_high) = self.first.bounds(z), self.second.bounds(z)
        down = self._joined(self.first.rate - low, other_high - self.second.rate)
        up = self._joined(high - self.first.rate, self.second.rate - other_low)
        with np.errstate(invalid="ignore"):
            reach = -stdtrit(self.first.questions - 1, ndtr(-z)) * self.error
        low, high = self.difference - np.fmax(down, reach), self.difference + np.fmax(up, reach)
        return np.maximum(low, -1), np.minimum(high, 1)

    def _joined(self, one: Floats, other: Floats) -> Floats:
        """Return the length of the third side of a triangle of which two sides and an angle are known."""
        return np.sqrt(np.maximum(one**2 + other**2 - 2 * self.correlation * one * other, 0))

    def method(self) -> npt.NDArray[np.str_]:
        """Name the method of each table's interval."""
        assumed = (self.first.bearing == 0) & (self.second.bearing == 0)
        return np.select(
            [self.first.questions == 0, self.first.questions == 1, assumed],
            ["", "newcombe", "paired, effective sample size, clustering assumed"],
            "paired, effective sample size",
        )


def _counts(hits: npt.ArrayLike, n: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return both as arrays of numbers, or raise `UserError` if hits are below 0 or above n."""
    counted, of = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if counted.shape != of.shape or not np.all((counted >= 0) & (counted <= of)):
        raise UserError("hits and n must have one shape, and hits lie between 0 and n")
    return counted, of


def _quantile(confidence: float) -> Floats:
    """Return the normal quantile of a two-sided confidence."""
    return np.asarray(ndtri((1 + confidence) / 2))


def _sample(hits: Floats, n: Floats, correlation: Floats | float = ASSUMED_CORRELATION) -> _Sample:
    """Pool the questions of each table, and estimate how much their answers are worth.

    `correlation` is what is assumed of the answers to one question.
    """
    questions, answers = np.count_nonzero(n, axis=-1), n.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = hits.sum(axis=-1) / answers
    seen, bearing, answers_each = _seen(hits, n)
    assumed = 1 + (answers_each - 1) * correlation
    effect = (bearing * seen + ASSUMED_QUESTIONS * assumed) / (bearing + ASSUMED_QUESTIONS)
    return _Sample(
        rate=rate,
        n=answers,
        questions=questions.astype(np.float64),
        bearing=bearing,
        design_effect=np.where(questions > 1, effect, 1.0),
        degrees=np.asarray(questions - 1.0 + ASSUMED_QUESTIONS),
    )


def _seen(hits: Floats, n: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the seen design effect (1 or more), the questions that bear on it, and the answers to each."""
    bearing = np.minimum(np.count_nonzero(hits, axis=-1), np.count_nonzero(n - hits, axis=-1))
    answers_each = np.sum(n**2, axis=-1) / np.maximum(n.sum(axis=-1), 1)
    return np.fmax(design_effect(hits, n), 1), bearing.astype(np.float64), answers_each


def _shown(hits: Floats, n: Floats) -> Floats:
    """Return the correlation that the other side of a pair may assume, from what this one shows."""
    seen, bearing, answers_each = _seen(hits, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.nan_to_num(np.clip((seen - 1) / (answers_each - 1), 0, 1))
    votes = bearing * (answers_each > 1)
    return (votes * correlation + ASSUMED_QUESTIONS * ASSUMED_CORRELATION) / (votes + ASSUMED_QUESTIONS)


def _pair(hits: Floats, n: Floats) -> _Pair:
    """Pool each side over the questions that both have, and estimate how their rates go together."""
    both = np.all(n > 0, axis=-1, keepdims=True)
    hits, n = np.where(both, hits, 0), np.where(both, n, 0)
    one, two = ((hits[..., side], n[..., side]) for side in (0, 1))
    first, second = _sample(*one, _shown(*two)), _sample(*two, _shown(*one))
    questions, answers = first.questions, np.stack([first.n, second.n], axis=-1)
    (variance, independent), (other, other_independent) = first.variance(), second.variance()
    with np.errstate(divide="ignore", invalid="ignore"):
        off = hits - np.stack([first.rate, second.rate], axis=-1)[..., np.newaxis, :] * n
        seen = np.sum(off[..., 0] * off[..., 1], axis=-1) / np.sqrt(np.prod(np.sum(off**2, axis=-2), axis=-1))
        most = (variance + other - independent - other_independent) / (2 * np.sqrt(variance * other))
        parts = off / answers[..., np.newaxis, :]
        spread = questions / (questions - 1) * np.sum((parts[..., 0] - parts[..., 1]) ** 2, axis=-1)
        same = hits.sum(axis=(-2, -1)) / answers.sum(axis=-1)
        alike = same * (1 - same) * np.sum(1 / answers, axis=-1)
    correlation = np.minimum(seen, most)
    return _Pair(
        first,
        second,
        correlation=np.where(np.isfinite(correlation), correlation, 0.0),
        error=np.where(questions > 1, np.sqrt(np.maximum(spread, alike)), np.nan),
    )
