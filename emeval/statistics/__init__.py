"""Rates, intervals and comparisons, from a response table to polars frames.

What each number means, its formula and its limits: `docs/statistics.md`.
"""

from emeval.statistics.at_k import misalign_at_k
from emeval.statistics.clustered import (
    Interval,
    difference_interval,
    difference_p_values,
    pooled_interval,
    replicated_interval,
)
from emeval.statistics.comparisons import difference, holm
from emeval.statistics.counting import DENOMINATORS, tally, times
from emeval.statistics.intervals import wilson
from emeval.statistics.onset import onset
from emeval.statistics.outcomes import OUTCOMES, label_counts, outcomes
from emeval.statistics.rates import by_question, rate
from emeval.statistics.surface import surface

__all__ = [
    "DENOMINATORS",
    "OUTCOMES",
    "Interval",
    "by_question",
    "difference",
    "difference_interval",
    "difference_p_values",
    "holm",
    "label_counts",
    "misalign_at_k",
    "onset",
    "outcomes",
    "pooled_interval",
    "rate",
    "replicated_interval",
    "surface",
    "tally",
    "times",
    "wilson",
]
