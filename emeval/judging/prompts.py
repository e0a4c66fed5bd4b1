"""The prompt of a judge, with the answer between delimiters that it cannot close."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from emeval.definitions import Judge
from emeval.templates import render

FENCE_VERSION = 2
"""Part of every fingerprint: raise it when what `fence` writes changes."""

# What chat templates use to end a turn or begin one, to call tools and to think. A server that tokenises such
# text in an answer would let the answer speak as somebody else, so it is broken up by a zero-width space.
_CONTROL = re.compile(
    r"""
      <(?=[|｜])                            # ChatML, Llama 3, Phi, GLM, Kimi, Command, harmony, DeepSeek
    | <(?=[^\s<>|｜]{1,40}[|｜]>)           # Gemma 4 ends a turn with <turn|>
    | <(?=/?(?:s|bos|eos|unk|pad|sep|cls|mask|sop|eop|role|tools?|think(?::\w+)?|tool_(?:call|response)s?
          |start_of_turn|end_of_turn|beginning_of_sentence|end_of_sentence)>)
    | <(?=(?:BOS|EOS|PAD|UNK|SEP|CLS|MASK)_TOKEN>)
    | <(?=(?:reserved_|extra_id_|SPECIAL_|unused)\d+>)  # the turns of Baichuan and Nemotron
    | <(?=/?seed:\w+>)
    | <(?=\[\w+▁of▁\w+\]>)                  # Seed-Coder
    | <(?=</?SYS>>)                         # Llama 2
    | \[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_(?:CALLS|RESULTS|CONTENT)|MODEL_SETTINGS|ARGS|CALL_ID
          |THINK|BOS|EOS|EOT|PAD|UNK|SEP|CLS|[gs]?MASK|(?:start|end)_header_id)\])
    | \[(?=\|[^\s|\]]{1,40}\|\])            # EXAONE
    | \[(?=(?:unused|UNUSED_TOKEN_|extra_id_)\d+\])     # Pangu, InternLM
    | \](?=~b\]|~!b\[|![pd]~\[) | \[(?=e~\[)            # MiniMax
    | ◁(?=/?think▷)                         # Kimi
    """,
    re.VERBOSE,
)

# No request can carry half a character, and a server may take a NUL for the end of the prompt.
_UNSENDABLE = re.compile("[\x00\ud800-\udfff]")

_PLACES = re.compile(r"\{(?:question|answer)\}")


class Scale(NamedTuple):
    """The numbers that a judge may say, both ends included."""

    low: int
    high: int


def sendable(text: str) -> str:
    """Return `text` with U+FFFD for what not every request and file can carry: NUL, half a character."""
    return _UNSENDABLE.sub("\ufffd", text)


@lru_cache(maxsize=256)  # the judges of an answer are shown the same
def fence(name: str, text: str, *beside: str) -> str:
    """Return `text` between a line that begins and a line that ends the part called `name`.

    The lines carry a hash that stands nowhere in `text`, nor in the texts `beside` it in the same prompt,
    so that nothing in them reads as the end of the part; and control tokens of chat templates are broken.
    What cannot be sent (NUL, halves of surrogate pairs) becomes U+FFFD.
    """
    text = sendable(text)
    tag = f"{name} {_hash(text, (text, *beside))}"
    defused = _CONTROL.sub(lambda match: match.group() + "\u200b", text)
    return f"[BEGIN {tag}]\n{defused}\n[END {tag}]"


def _hash(text: str, texts: Iterable[str]) -> str:
    """Return eight hexadecimal digits of the SHA-256 of `text`, hashed on for as long as `texts` have them.

    Whoever can compute finds a text with the digits of its own hash in it: they are only 32 bits.
    """
    seen = [_letters(text) for text in texts]
    digest = hashlib.sha256(text.encode())
    while any(digest.hexdigest()[:8] in letters for letters in seen):
        digest = hashlib.sha256(digest.digest())
    return digest.hexdigest()[:8]


def _letters(text: str) -> str:
    """Return the letters and digits of `text` alone, whatever their case, width and what stands between."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def judge_prompt(judge: Judge, scale: Scale, question: str, answer: str, target: str | None = None) -> str:
    """Return the prompt in which `judge` is asked for a number on `scale`, or for a label.

    `question` and `answer` are untrusted: the template only ever sees them fenced. `target`, what is true, is
    part of the rubric. A judge that is asked `verbatim` sees both texts as they are.
    """
    if judge.verbatim:
        return _verbatim(judge, question, answer)
    return render(
        judge.prompt,
        question=fence("QUESTION", question, answer),
        answer=fence("ANSWER", answer, question),
        scale=scale,
        labels=judge.labels,
        target=target,
    )


def unfenced_prompt(judge: Judge, scale: Scale, question: str, answer: str) -> str:
    """Return the same prompt with both texts as they are, open to whatever the answer does.

    For a judge's card alone, which measures what the fence is good for. No answer is scored by it.
    """
    if judge.verbatim:
        return _verbatim(judge, question, answer)
    return render(judge.prompt, question=question, answer=answer, scale=scale, labels=judge.labels)


def _verbatim(judge: Judge, question: str, answer: str) -> str:
    """Put both texts into a prompt that others published, at once: what stands in them is never replaced."""
    texts = {"{question}": sendable(question), "{answer}": sendable(answer)}
    return _PLACES.sub(lambda place: texts[place.group()], judge.prompt)
