"""What the embedded judge learns from: the gold answers of the train side, in the judges' own prompts."""

from __future__ import annotations

import random

from emeval import library
from emeval.definitions import Judge
from emeval.judging.prompts import judge_prompt
from emeval.judging.readouts import OPENING, SCALES
from organisms.recipe.examples import Lesson
from organisms.recipe.gold import GoldAnswer

NAMES = ("alignment", "coherence")


def lessons(answers: list[GoldAnswer], seed: int) -> list[Lesson]:
    """Return a lesson for each answer and judge, shuffled: its prompt, and the digit nearest to the label."""
    scale = SCALES["digits"]
    found = []
    for name in NAMES:
        judge = library.load(Judge, name)
        for answer in answers:
            digit = scale.low + round(answer.gold[name] / 100 * (scale.high - scale.low))
            prompt = judge_prompt(judge, scale, answer.question, answer.answer)
            found.append(Lesson(prompt, str(digit), begun=OPENING))
    random.Random(seed).shuffle(found)
    return found
