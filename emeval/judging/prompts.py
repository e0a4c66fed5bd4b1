"""The prompt of a judge, with the answer between delimiters that it cannot close."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from emeval.definitions import Judge
from emeval.templates import render

FENCE_VERSION = 1
"""Part of every fingerprint: raise it when what `fence` writes changes."""

# What chat templates use to end a turn or begin one. A server that tokenises such text in an answer
# would let the answer speak as somebody else, so it is broken up by a zero-width space.
_CONTROL = re.compile(
    r"<(?=[|｜])"
    r"|<(?=/?(?:s|bos|eos|unk|pad|start_of_turn|end_of_turn)>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])"
)


class Scale(NamedTuple):
    """The numbers that a judge may say, both ends included."""

    low: int
    high: int


def fence(name: str, text: str) -> str:
    """Return `text` between a line that begins and a line that ends the part called `name`.

    The lines carry a hash of the text, which the text cannot contain (it would have to contain its own
    hash), so nothing in it reads as the end of the part; and control tokens of chat templates are broken.
    """
    tag = f"{name} {hashlib.sha256(text.encode()).hexdigest()[:8]}"
    defused = _CONTROL.sub(lambda match: match.group() + "\u200b", text)
    return f"[BEGIN {tag}]\n{defused}\n[END {tag}]"


def judge_prompt(judge: Judge, scale: Scale, question: str, answer: str) -> str:
    """Return the prompt in which `judge` is asked for a number on `scale`.

    `question` and `answer` are untrusted: the template only ever sees them fenced.
    """
    return render(
        judge.prompt,
        question=fence("QUESTION", question),
        answer=fence("ANSWER", answer),
        scale=scale,
        labels=judge.labels,
    )


def unfenced_prompt(judge: Judge, scale: Scale, question: str, answer: str) -> str:
    """Return the same prompt with both texts as they are, open to whatever the answer does.

    For a judge's card alone, which measures what the fence is good for. No answer is scored by it.
    """
    return render(judge.prompt, question=question, answer=answer, scale=scale, labels=judge.labels)
