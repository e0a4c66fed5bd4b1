"""Looking at a rate again and again while answers come in: when to look, and how sure each look must be."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.polynomial.legendre import leggauss
from scipy.optimize import brentq
from scipy.stats import chi2, norm, t

from emeval.errors import UserError
from emeval.statistics.clustered import design_effect
from emeval.statistics.intervals import Floats

FIRST_LOOK = 5
"""Answers to each question in each condition before the first look; each further look has twice as many."""

SHAPE = 0.25
"""Of the boundary over the looks: 1/2 gives every look the same level (Pocock 1977), 0 saves nearly all of
the error for the last one (O'Brien and Fleming 1979). Half-way little power is lost, and much is saved."""

_NODES = 200
_LOWEST = -9.0
"""No statistic falls below this: the normal tail is 1e-19."""

SURE = 0.95
"""How sure it must be that the questions are too few before asking is given up."""

_ENOUGH_BEARING = 3
"""With hits in fewer questions nothing is known of how much questions differ."""


def looks(most: int) -> list[int]:
    """Return after how many answers to each question there is a look: 5, 10, 20, 40 …, and at `most`.

    `most` is 1 or more; up to 5 there is the one look at the end.
    """
    return [FIRST_LOOK * 2**k for k in range(most) if FIRST_LOOK * 2**k < most] + [most]


def look_alphas(at: Sequence[int], alpha: float, tests: int = 1) -> list[float]:
    """Return the error that a one-sided decision may have at each look, so that over all it is `alpha`.

    `at` are the looks as `looks` returns them, `alpha` is between 0 and 0.5. The boundary is that of Wang and
    Tsiatis (1987): a statistic is significant at a look with a answers of A at most if it exceeds
    c · (a / A)^(`SHAPE` − 1/2). c is found by the recursion of Armitage, McPherson and Rowe (1969) for
    statistics whose correlation between looks with a and b answers is √(a / b). That holds where answers are
    independent. Where questions differ, the looks share the same questions and are correlated more, and the
    error is smaller than `alpha`.

    Where one look makes several tests that are corrected for their number (Holm, or Bonferroni), the levels
    are worked out for the single test: `tests` times those for alpha / tests, and no higher than those of one
    test, so that they hold for a decision that needs no correction as well. Raises `UserError` for an alpha
    out of range.
    """
    if not 0 < alpha < 0.5:
        raise UserError(f"alpha is {alpha}; it must be between 0 and 0.5, for example 0.05")
    if len(at) == 1:
        return [alpha]
    one = alpha / tests
    shape = (np.asarray(at) / at[-1]) ** (SHAPE - 0.5)

    def beyond(c: float) -> float:
        return 1 - _never_above(c * shape, at) - one

    # Between no correction of the last look and the union bound at every one.
    c = brentq(beyond, norm.isf(one) - 1e-6, norm.isf(one / len(at)) + 1e-6, xtol=1e-10)
    levels = [float(tests * norm.sf(c * stretch)) for stretch in shape]
    return levels if tests == 1 else list(map(min, levels, look_alphas(at, alpha)))


def look_confidences(at: Sequence[int], confidence: float = 0.95) -> list[float]:
    """Return the confidence of the interval at each look with which all of them hold at `confidence`."""
    return [1 - 2 * alpha for alpha in look_alphas(at, (1 - confidence) / 2)]


def look_p_value(p: float, at: Sequence[int], look: int) -> float:
    """Return the p-value of what was found with `p` (two-sided) at `at[look]`, the looks counted.

    It is the smallest error over all looks with which that look would have been significant: the boundary of
    `look_alphas` through the statistic that has `p`. It is never below `p`.
    """
    if p <= 0:  # so small that no floating-point number is; it has no statistic
        return p
    shape = (np.asarray(at) / at[-1]) ** (SHAPE - 0.5)
    crossed = 1 - _never_above(norm.isf(p / 2) / shape[look] * shape, at)
    return float(np.clip(2 * crossed, p, 1))


class Reach(NamedTuple):
    """How narrow an interval these questions allow."""

    hopeless: bool
    """Whether no number of answers to these questions would make it as narrow as wanted."""
    questions: int | None
    """About how many questions would, with `most` answers to each; `None` where the counts do not say."""


def reach(hits: npt.ArrayLike, n: npt.ArrayLike, width: float, most: int, confidence: float) -> Reach:
    """Say whether more answers to the same questions can make the interval of their rate `width` wide.

    `hits` and `n` are the counts of each question. With ever more answers the interval's half goes towards
    t · √(rate · (1 − rate) · ρ / Q), for Q questions whose answers have the intra-class correlation ρ: what
    is left are the differences between the questions. ρ is (design effect − 1) / (m − 1) with m = Σ n² / Σ n
    answers each. It is `hopeless` where that is too wide even for the smallest ρ that the counts allow, the
    lower 95% bound of the design effect by the χ² distribution of a variance.
    """
    counted, of = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    counted, of = counted[of > 0], of[of > 0]
    bearing = min(np.count_nonzero(counted), np.count_nonzero(of - counted))
    if len(of) < 2 or bearing < _ENOUGH_BEARING or of.sum() <= len(of):
        return Reach(False, None)
    rate = counted.sum() / of.sum()
    each = np.sum(of**2) / of.sum()
    effect = float(design_effect(counted, of))
    least = effect * (bearing - 1) / chi2.ppf(SURE, bearing - 1)
    alike, least_alike = (float(np.clip((d - 1) / (each - 1), 0, 1)) for d in (effect, least))
    tail = (1 - confidence) / 2
    floor = 2 * t.isf(tail, len(of) - 1) * np.sqrt(rate * (1 - rate) * least_alike / len(of))
    spread = rate * (1 - rate) * (alike + (1 - alike) / most)
    return Reach(bool(floor > width), ceil(4 * norm.isf(tail) ** 2 * spread / width**2))


def _never_above(bounds: Floats, at: Sequence[int]) -> float:
    """Return the chance that at no look the normal statistic is above its bound."""
    nodes, weights = leggauss(_NODES)
    reach_of = (bounds - _LOWEST) / 2
    x: Floats = _LOWEST + (nodes + 1) * reach_of[0]
    density: Floats = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    for index, (before, now) in enumerate(pairwise(at)):
        new = 1 - before / now
        y: Floats = _LOWEST + (nodes + 1) * reach_of[index + 1]
        off = y[:, np.newaxis] - np.sqrt(before / now) * x
        step = np.exp(-(off**2) / (2 * new)) / np.sqrt(2 * np.pi * new)
        density, x = step @ (weights * reach_of[index] * density), y
    return float((weights * reach_of[-1]) @ density)
