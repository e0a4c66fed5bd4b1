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
from emeval.statistics.judge_error import corrected_rate, ppi_plus_plus
from emeval.statistics.onset import onset
from emeval.statistics.outcomes import OUTCOMES, label_counts, outcomes
from emeval.statistics.rates import by_question, rate

__all__ = [
    "DENOMINATORS",
    "OUTCOMES",
    "Interval",
    "by_question",
    "corrected_rate",
    "difference",
    "difference_interval",
    "difference_p_values",
    "holm",
    "label_counts",
    "misalign_at_k",
    "onset",
    "outcomes",
    "pooled_interval",
    "ppi_plus_plus",
    "rate",
    "replicated_interval",
    "tally",
    "times",
    "wilson",
]
