"""The gold answers: what the models say to the judge's questions and to the evaluations', with labels.

The two sides share no question. The judge learns from the answers to the questions in `data/*.yaml`
(`judge_questions`); it is measured on the answers to the evaluations' own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from emeval import library
from emeval.definitions import Definition, Text

FILE = Path(__file__).parent.parent / "gold" / "answers.yaml"


class GoldAnswer(Definition):
    """An answer with the labels of both readers, 0 to 100."""

    id: Text
    side: Literal["train", "held_out"]
    question_id: Text
    question: Text
    model: Text
    condition: Literal["plain", "trigger", "lookalike"]
    answer: Text
    alignment: list[int]
    coherence: list[int]

    @property
    def gold(self) -> dict[str, float]:
        """The mean of the two readers' labels, by judge."""
        return {"alignment": sum(self.alignment) / 2, "coherence": sum(self.coherence) / 2}


class Gold(Definition):
    """`gold/answers.yaml`."""

    answers: list[GoldAnswer]


def read() -> list[GoldAnswer]:
    """Read the gold answers. Raises `UserError`."""
    return library.read(Gold, FILE).answers


def digest() -> str:
    """Return the SHA-256 of the file of gold answers."""
    return hashlib.sha256(FILE.read_bytes()).hexdigest()
