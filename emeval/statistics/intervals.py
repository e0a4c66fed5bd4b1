"""Wilson's interval, for answers that are taken as independent, and what every interval asks for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import betainccinv, betaincinv, ndtri

from emeval.errors import UserError

Floats = npt.NDArray[np.float64]

MIN_DRAWS = 100
"""With fewer draws of a bootstrap there are no tails to read an interval off."""


def check_confidence(confidence: float) -> None:
    """Raise `UserError` unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise UserError(f"confidence is {confidence}; it must be between 0 and 1, for example 0.95")


def check_draws(draws: int, seed: int) -> None:
    """Raise `UserError` unless there are enough draws and the seed is not negative."""
    if draws < MIN_DRAWS:
        raise UserError(f"draws is {draws}; it must be {MIN_DRAWS} or more, for example 10000")
    if seed < 0:
        raise UserError(f"seed is {seed}; it must be 0 or more")


def wilson(hits: npt.ArrayLike, n: npt.ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Return the bounds of Wilson's score interval for `hits` of `n` independent answers (Wilson 1927).

    `hits` and `n` are numbers or arrays of one shape, 0 ≤ hits ≤ n; `confidence` is the two-sided coverage
    aimed at. Returns the arrays low and high, proportions from 0 to 1, `nan` where n is 0. No hits give the
    bounds 0 and z²/(n + z²): seeing none is no proof of none. Raises `UserError` for counts or a
    confidence out of range.
    """
    check_confidence(confidence)
    counted, of = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if not np.all((counted >= 0) & (counted <= of)):
        raise UserError("hits must lie between 0 and n")
    low, high = wilson_bounds(counted, np.maximum(of, 1), ndtri((1 + confidence) / 2))
    # Exact in the formula; floating point may miss these two by a last digit.
    low, high = np.where(counted == 0, 0.0, low), np.where(counted == of, 1.0, high)
    return np.where(of > 0, low, np.nan), np.where(of > 0, high, np.nan)


def wilson_bounds(hits: Floats, n: Floats, z: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return the bounds that lie `z` standard errors, each at its bound, from hits / n (Wilson 1927); n > 0.

    A line of our own: statsmodels, which has it too, takes a second to be imported.
    """
    squared = np.square(z)
    centre = (hits + squared / 2) / (n + squared)
    half = np.sqrt(squared * (hits * (n - hits) / n + squared / 4)) / (n + squared)
    return centre - half, centre + half


def jeffreys(hits: npt.ArrayLike, n: npt.ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Return the bounds of Jeffreys' interval for `hits` of `n` answers (Brown, Cai and DasGupta 2001).

    Arguments and result are those of `wilson`, but `hits` and `n` may be broken numbers: what weighted
    answers are worth. It starts at 0 without hits and ends at 1 without others; where n is 0, it is 0 to 1.
    """
    check_confidence(confidence)
    counted, of = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if not np.all((counted >= 0) & (counted <= of)):
        raise UserError("hits must lie between 0 and n")
    tail, others = (1 - confidence) / 2, of - counted
    low = np.where(counted > 0, betaincinv(counted + 0.5, others + 0.5, tail), 0.0)
    high = np.where(others > 0, betainccinv(counted + 0.5, others + 0.5, tail), 1.0)
    return low, high
