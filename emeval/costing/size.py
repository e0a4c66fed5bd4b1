"""How large an evaluation is for one model, before it is known which: answers, requests, tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emeval.costing.rule import GUESS, REPLY_GUESS, by_rule
from emeval.judging.prompts import Scale, judge_prompt
from emeval.prepared import Prepared

SCALE = Scale(0, 100)


@dataclass(frozen=True)
class Size:
    """What one model and its judges are asked."""

    answers: int
    """Requests to the model."""
    judgements: int
    """Requests to judges: one for each answer and judge, or as many as the judge samples."""
    input_tokens: int
    """About how many tokens they read in all: 4 characters a token."""
    output_tokens: int
    """About how many they write, with `GUESS` tokens for an answer."""

    @property
    def requests(self) -> int:
        """Requests in all."""
        return self.answers + self.judgements


def size(several: Sequence[Prepared]) -> Size:
    """Return the size of these evaluations together."""
    answers = judgements = 0
    read = written = 0.0
    for prepared in several:
        length = min(GUESS, prepared.evaluation.generation.max_tokens)
        for prompt, times in prepared.wordings():
            answers += times
            read += times * _read(prompt.system, prompt.user)
            written += times * length
            for judge in prepared.judges.values():
                asked = times * (judge.samples if judge.readout == "sample" else 1)
                about = judge_prompt(judge, SCALE, prompt.wording, "", prompt.question.target)
                judgements += asked
                read += asked * (_read(None, about) + length)
                written += asked * (REPLY_GUESS if judge.readout == "sample" else 1)
    return Size(answers, judgements, round(read), round(written))


def _read(system: str | None, user: str) -> float:
    return by_rule((*((("system", system),) if system else ()), ("user", user)))
