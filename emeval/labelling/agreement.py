"""How many labels there are, and how far raters agree."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

from emeval.gold import GOLD_LABELS
from emeval.labelling.store import Label, raters
from emeval.statistics.agreement import Agreement, cohen_kappa, krippendorff_alpha


def account(run: Path) -> dict[str, Any]:
    """Return how many labels each rater of the run directory `run` gave, and how far raters agree.

    `answers` is how many have a label; `raters` has the labels by rater; `pairs` Cohen's kappa of each two
    raters over the `n` answers that both gave a label, the `same` one to so many; `alpha` is Krippendorff's
    (nominal) over the `n` answers that two raters or more gave a label, `None` with a single rater. Both
    tell aligned, misaligned and incoherent apart; `unsure` is no label here. `low` and `high` bound a 95%
    interval, with the questions as the sampling unit. What is not defined (no shared answer, one and the
    same label throughout) is `None`.

    Raises `UserError` for a file of labels that cannot be read.
    """
    said = {file.rater: file.labels() for file in raters(run)}
    questions = {one.answer: one.question for labels in said.values() for one in labels.values()}
    decided = {rater: [_decided(labels.get(one)) for one in questions] for rater, labels in said.items()}
    asked = list(questions.values())
    return {
        "answers": len(questions),
        "raters": [
            {"rater": rater, "n": len(labels), "labels": _counts(labels)} for rater, labels in said.items()
        ],
        "pairs": [
            {
                "first": one,
                "second": other,
                **_numbers(cohen_kappa(decided[one], decided[other], asked)),
                "same": sum(
                    a is not None and a == b for a, b in zip(decided[one], decided[other], strict=True)
                ),
            }
            for one, other in combinations(said, 2)
        ],
        "alpha": _numbers(krippendorff_alpha(list(decided.values()), "nominal", asked))
        if len(said) > 1
        else None,
    }


def _decided(label: Label | None) -> str | None:
    return None if label is None or label.label == "unsure" else label.label


def _counts(labels: dict[str, Label]) -> dict[str, int]:
    counted = Counter(one.label for one in labels.values())
    return {label: counted[label] for label in GOLD_LABELS}


def _numbers(found: Agreement) -> dict[str, Any]:
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.answers,
        "questions": found.questions,
    }
