"""How far several judges, or raters, say the same of the same answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from emeval.statistics.intervals import Floats


class Agreement(NamedTuple):
    """How far judges agree, and on what it rests."""

    value: float | None
    """1 is perfect agreement, 0 what chance gives; `None` where it is not defined."""
    low: float | None
    high: float | None
    answers: int
    """Answers about which two judges or more said something."""
    questions: int


def krippendorff_alpha(
    values: Sequence[Sequence[Any]], level: Literal["nominal", "interval"], questions: Sequence[Any]
) -> Agreement:
    """Return Krippendorff's alpha with its 95% interval, a jackknife over questions.

    `values` are judges × answers, `None` where a judge said nothing. Formula: Krippendorff, Content Analysis
    (2004), chapter 11.
    """

    def measure(codes: Floats) -> float:
        return _alpha(codes, level)

    return _measured(measure, *_coded(values), questions)


def cohen_kappa(first: Sequence[Any], second: Sequence[Any], questions: Sequence[Any]) -> Agreement:
    """Return Cohen's kappa (1960) of two judges with its 95% interval, a jackknife over questions."""
    return _measured(_kappa, *_coded([first, second]), questions)


def _coded(values: Sequence[Sequence[Any]]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    names = sorted({value for row in values for value in row if value is not None})
    codes = np.array([[np.nan if v is None else names.index(v) for v in row] for row in values], np.float64)
    return codes, (~np.isnan(codes)).sum(axis=0) > 1


def _measured(
    measure: Callable[[Floats], float],
    codes: Floats,
    shared: npt.NDArray[np.bool_],
    questions: Sequence[Any],
) -> Agreement:
    codes, names = codes[:, shared], np.asarray(questions, dtype=object)[shared]
    asked = list(dict.fromkeys(names))
    value = measure(codes)
    left = np.array([measure(codes[:, names != name]) for name in asked])
    if np.isnan(value):
        return Agreement(None, None, None, codes.shape[1], len(asked))
    error = np.sqrt((len(asked) - 1) / len(asked) * np.sum((left - left.mean()) ** 2))
    if len(asked) < 2 or value == 1 or np.isnan(error):
        return Agreement(value, None, None, codes.shape[1], len(asked))
    reach = -stdtrit(len(asked) - 1, 0.025) * error
    return Agreement(value, max(-1.0, value - reach), min(1.0, value + reach), codes.shape[1], len(asked))


def _alpha(codes: Floats, level: str) -> float:
    names = np.unique(codes[~np.isnan(codes)])
    if len(names) < 2:
        return float("nan")
    said = np.stack([(codes == name).sum(axis=0) for name in names])
    pairs = (said / (said.sum(axis=0) - 1)) @ said.T - np.diag((said / (said.sum(axis=0) - 1)).sum(axis=1))
    apart = names[:, None] - names[None, :]
    distance = apart**2 if level == "interval" else (apart != 0).astype(np.float64)
    totals = pairs.sum(axis=1)
    expected = (np.outer(totals, totals) * distance).sum() / (totals.sum() - 1)
    return float(1 - (pairs * distance).sum() / expected)


def _kappa(codes: Floats) -> float:
    names = np.unique(codes)
    shares = [[(row == name).mean() for name in names] for row in codes]
    chance = float(np.dot(shares[0], shares[1])) if codes.size else 1.0
    return (float((codes[0] == codes[1]).mean()) - chance) / (1 - chance) if chance < 1 else float("nan")
