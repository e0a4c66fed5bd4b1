"""Resampling with questions as the unit: the cluster bootstrap, and swaps of two sides within questions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from emeval.errors import UserError
from emeval.statistics.intervals import Floats

MIN_DRAWS = 100
"""With fewer draws there are no tails to read an interval off."""

EXHAUSTIVE = 12
"""Up to so many questions every way of swapping is tried: 2^12 is fewer than the usual draws."""

TOLERANCE = 1e-12
"""Resampled numbers that differ by less are the same number, but for rounding."""

_CELLS = 4_000_000
"""Numbers in one block of weights; about three such arrays are alive at a time, 100 MB."""


def check_draws(draws: int, seed: int) -> None:
    """Raise `UserError` unless there are enough draws and the seed is not negative."""
    if draws < MIN_DRAWS:
        raise UserError(f"draws is {draws}; it must be {MIN_DRAWS} or more, for example 10000")
    if seed < 0:
        raise UserError(f"seed is {seed}; it must be 0 or more")


def resampled_rates(hits: Floats, n: Floats, draws: int, seed: int) -> Floats:
    """Resample questions with replacement and pool each resample.

    `hits` and `n` (n > 0) have the shape questions × sides. Returns draws × sides rates, sum of hits over
    sum of n; within a draw every side has the same questions. The result depends on the arguments alone.
    """
    return np.concatenate([(weights @ hits) / (weights @ n) for weights in _weights(len(n), draws, seed)])


def percentiles(values: Floats, confidence: float) -> tuple[float, float] | None:
    """Return the bounds that hold the middle `confidence` of `values`; None where all values are the same."""
    if np.ptp(values) < TOLERANCE:
        return None
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def swap_p_value(hits: Floats, n: Floats, draws: int, seed: int) -> float:
    """Return the two-sided p-value of the difference of two pooled rates, by swapping within questions.

    `hits` and `n` (n > 0) have the shape questions × 2. If the sides do not differ, each question could as
    well have its two pairs of counts the other way round. p is the share of such swappings whose difference
    is at least as large as the one seen: of all 2^questions up to `EXHAUSTIVE` questions, else of `draws`
    random ones and the one seen (the +1 of Phipson and Smyth 2010, so that p is never 0).
    """
    exhaustive = len(n) <= EXHAUSTIVE
    seen = abs(hits[:, 0].sum() / n[:, 0].sum() - hits[:, 1].sum() / n[:, 1].sum())
    as_large = 0
    for swap in _all_swaps(len(n)) if exhaustive else _random_swaps(len(n), draws, seed):
        # A swapped question moves its counts from one side to the other; the totals of both sides stay.
        first_hits = hits[:, 0].sum() + swap @ (hits[:, 1] - hits[:, 0])
        first_n = n[:, 0].sum() + swap @ (n[:, 1] - n[:, 0])
        difference = first_hits / first_n - (hits.sum() - first_hits) / (n.sum() - first_n)
        as_large += int(np.count_nonzero(np.abs(difference) >= seen - TOLERANCE))
    return as_large / 2 ** len(n) if exhaustive else (as_large + 1) / (draws + 1)


def _weights(questions: int, draws: int, seed: int) -> Iterator[Floats]:
    """Yield blocks of draws × questions: how often each question is in each resample."""
    rng = np.random.default_rng(seed)
    for size in _block_sizes(questions, draws):
        # Counting random indices gives the same multinomial weights as rng.multinomial, several times faster.
        chosen = rng.integers(questions, size=(size, questions))
        chosen += np.arange(size)[:, np.newaxis] * questions
        counts = np.bincount(chosen.ravel(), minlength=size * questions)
        yield counts.reshape(size, questions).astype(np.float64)


def _all_swaps(questions: int) -> Iterator[Floats]:
    """Yield one block of 2^questions × questions: every row of 0 and 1 there is."""
    ways = np.arange(2**questions)[:, np.newaxis]
    yield ((ways >> np.arange(questions)) & 1).astype(np.float64)


def _random_swaps(questions: int, draws: int, seed: int) -> Iterator[Floats]:
    """Yield blocks of draws × questions: 0 or 1, each with a chance of one half."""
    rng = np.random.default_rng(seed)
    for size in _block_sizes(questions, draws):
        yield rng.integers(2, size=(size, questions)).astype(np.float64)


def _block_sizes(questions: int, draws: int) -> Iterator[int]:
    """Yield how many draws to make at a time."""
    step = max(1, _CELLS // questions)
    for start in range(0, draws, step):
        yield min(step, draws - start)
