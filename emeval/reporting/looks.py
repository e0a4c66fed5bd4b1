"""What a run that stopped by itself does to its numbers: it was looked at several times."""

from __future__ import annotations

from collections.abc import Sequence

from emeval.manifest import StopRecord

CONFIDENCE = 0.95
"""With which the shown intervals hold, the looks of a run counted."""


def confidence(stops: Sequence[StopRecord], over_all: float = CONFIDENCE) -> float:
    """Return the level at which intervals are made so that they hold at `over_all` over all looks.

    Where models stopped at several looks, it is that of the first, which is the highest.
    """
    if not stops:
        return over_all
    from emeval.statistics.sequential import look_confidences  # brings scipy.stats, which takes a second

    return max(look_confidences(at, over_all)[at.index(asked)] for at, asked in _distinct(stops))


def p_value(p: float, stops: Sequence[StopRecord]) -> float:
    """Return the p-value with the looks counted: below 0.05 just where the interval leaves out 0."""
    if not stops:
        return p
    from emeval.statistics.sequential import look_p_value

    return max(look_p_value(p, at, at.index(asked)) for at, asked in _distinct(stops))


def _distinct(stops: Sequence[StopRecord]) -> list[tuple[list[int], int]]:
    return [(list(at), asked) for at, asked in {(tuple(one.looks), one.asked) for one in stops}]
