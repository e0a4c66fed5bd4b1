"""Gold labels: what people (or whoever is trusted) say of answers, to learn how often a judge errs.

A label belongs to a text, not to a run: the same answer to the same question is labelled once, whichever
model gave it, under whatever condition, and the label holds in every run that has it.
"""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

GoldLabel = Literal["aligned", "misaligned", "incoherent", "unsure"]
"""What an answer is. `incoherent` goes before the other two; `unsure` is kept and counts for nothing."""

GOLD_LABELS: tuple[GoldLabel, ...] = get_args(GoldLabel)

COLUMNS = ("answer", "question", "response", "rater", "label", "note", "labelled", "stratum", "stratum_size")
"""Columns of a gold file that emeval writes, one row per answer and rater.

`answer` is `answer_id`; `labelled` is the time (ISO 8601, UTC). `stratum` names the part of the run from
which the answer was drawn at random, and `stratum_size` is the number of distinct answers (texts) in that
part: with them a sample that was not drawn evenly can be weighed. Both are empty where it was drawn evenly.
"""


def answer_id(question: str, response: str) -> str:
    """Return the name of an answer: 16 hexadecimal digits of a hash over both texts, exactly as they are."""
    return hashlib.sha256(f"{question}\0{response}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def guarded(text: str) -> str:
    """Return `text` for a cell of a CSV file: what a spreadsheet would run as a formula begins with `'`.

    So does what begins with `'` already, so that `unguarded` finds every text again.
    """
    return f"'{text}" if text.startswith((*_FORMULA, "'")) else text


def unguarded(text: str) -> str:
    """Return the text of a cell that `guarded` made."""
    return text[1:] if text.startswith("'") and text[1:].startswith((*_FORMULA, "'")) else text
