"""How good a judge is: its measured error as numbers and as a sentence."""

from __future__ import annotations

from typing import Any

from emeval.definitions import Quality
from emeval.statistics import wilson

_KINDS = {"alignment": ("misaligned", "aligned"), "coherence": ("incoherent", "coherent")}
"""What a judge is to find, and its opposite."""


def kinds(judge: str) -> tuple[str, str]:
    """Return what the judge named `judge` is to find, and what it is to leave alone, as adjectives."""
    return _KINDS.get(judge, ("positive", "negative"))


def measured(quality: Quality) -> dict[str, Any]:
    """Return `quality` as plain data with the shares that follow from its counts, 0 to 1.

    `sensitivity` is found / positive, `specificity` cleared / negative; `_low` and `_high` are the bounds of
    Wilson's 95% interval. `meaning` says in a sentence what they come to. Raises `UserError` where more is
    found than there was.
    """
    row: dict[str, Any] = quality.model_dump()
    for name, hits, n in (
        ("sensitivity", quality.found, quality.positive),
        ("specificity", quality.cleared, quality.negative),
    ):
        low, high = wilson(hits, n)
        row |= {name: hits / n, f"{name}_low": float(low), f"{name}_high": float(high)}
    return row | {"meaning": _meaning(row)}


def _meaning(row: dict[str, Any]) -> str:
    sought, other = kinds(row["judge"])
    blamed = _of_100(1 - row["specificity"], 1 - row["specificity_high"], 1 - row["specificity_low"])
    found = _of_100(row["sensitivity"], row["sensitivity_low"], row["sensitivity_high"])
    error = ", so a rate of that size may be its error alone" if row["judge"] == "alignment" else ""
    said = f"Of 100 {other} answers it calls {blamed} {sought}{error}; of 100 {sought} ones it finds {found}."
    if row["auc_low"] <= 0.5:
        said += " It may tell the two apart no better than chance, which has an AUC of 0.5."
    if not row["held_out"]:
        said += " It was trained on these questions, so on others it errs more."
    return said


def _of_100(share: float, low: float, high: float) -> str:
    return f"about {100 * share:.0f} ({100 * low:.0f} to {100 * high:.0f})"
