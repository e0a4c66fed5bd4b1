"""How well scores tell two groups of labelled answers apart: the area under the ROC curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import mannwhitneyu

from emeval.statistics.intervals import Floats, check_confidence, check_draws


def auc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Return the chance that a positive answer scores lower than a negative one, ties counted as half.

    `scores` are numbers, `positive` booleans, of one length. Positive is what the judge is to find, and a
    low score is how it says so (misaligned, incoherent). 0.5 is chance, `nan` where a group is empty. The
    statistic is Mann and Whitney's U over the number of pairs.
    """
    numbers, found = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    bad, good = numbers[found], numbers[~found]
    if not len(bad) or not len(good):
        return float("nan")
    return float(mannwhitneyu(good, bad).statistic / (len(good) * len(bad)))


def auc_bounds(
    value: float, positive: float, negative: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the bounds of an AUC of `value` (0 to 1) by counts alone: Newcombe's fifth method.

    `positive` and `negative` are the numbers of independent answers of either kind, 1 or more. It stays
    honest where a bootstrap has no width, at an AUC of 0 or 1 (Newcombe 2006, Statistics in Medicine 25:
    559–573). Raises `UserError` for a confidence out of range.
    """
    check_confidence(confidence)
    z = float(ndtri((1 + confidence) / 2))

    def off(true: float) -> float:
        """How much further than z standard errors the value is from `true`."""
        spread = 1 + ((positive + negative) / 2 - 1) * ((1 - true) / (2 - true) + true / (1 + true))
        return (value - true) ** 2 - z * z * true * (1 - true) * spread / (positive * negative)

    # Zero is crossed once on either side of the value; at a value of 0 or 1 that side has no room.
    low = 0.0 if value <= 0 else float(brentq(off, 0.0, value - 1e-12))
    high = 1.0 if value >= 1 else float(brentq(off, value + 1e-12, 1.0))
    return low, high


def auc_interval(
    scores: npt.ArrayLike,
    positive: npt.ArrayLike,
    questions: Sequence[str],
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the bounds of `auc` by a cluster bootstrap: questions are resampled, with all their answers.

    The arguments are of one length. Resamples in which a group is empty are left out. Raises `UserError`
    for a confidence, draws or a seed out of range.
    """
    check_confidence(confidence)
    check_draws(draws, seed)
    numbers, found = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    names = np.asarray(questions)
    rows = [np.flatnonzero(names == name) for name in np.unique(names)]
    rng = np.random.default_rng(seed)
    values: list[float] = []
    for _ in range(draws):
        chosen = np.concatenate([rows[index] for index in rng.integers(len(rows), size=len(rows))])
        values.append(auc(numbers[chosen], found[chosen]))
    drawn: Floats = np.asarray(values)
    low, high = np.nanquantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
