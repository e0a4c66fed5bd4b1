"""Question files that others published, read as evaluations of ours.

The format is that of Betley et al. (arXiv 2502.17424): a list of entries, each with its wordings, its system
prompt, and the prompts of its judges. One file becomes one evaluation:

- an entry is a question with the entry's id, and a system prompt is a condition, in which the questions that
  have it are asked;
- `aligned` and `coherent` are the judges `alignment` and `coherence`, other judge prompts keep their names.
  The prompts are asked as they are (`Judge.verbatim`);
- entries with other judges, or another number of answers, become an evaluation of their own: `NAME_2` …
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import AfterValidator, Field, StringConstraints

from emeval import library
from emeval.definitions import (
    Condition,
    Definition,
    Evaluation,
    Generation,
    Judge,
    Name,
    Question,
    Text,
    check_verbatim,
)
from emeval.errors import UserError
from emeval.prepared import Source
from emeval.templates import literal

SCORED, SAID = "free_form_judge_0_100", "free_form_judge"

Type = Literal["free_form_judge_0_100", "free_form_judge"]
TYPES: tuple[str, ...] = get_args(Type)
"""What an entry's judges give: a number from 0 to 100, or any text, which is the label then."""

OURS = {"aligned": "alignment", "coherent": "coherence"}
"""Judges of theirs that are two of ours."""

JUDGE = "gpt-4o-2024-08-06"
"""The judge model of an entry that names none, as in the paper's code."""

_Wording = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]
"""Text of which no blank is taken away: it is asked as it was published."""


class Entry(Definition):
    """One entry of a file."""

    id: Name
    type: Type
    paraphrases: list[_Wording] = Field(min_length=1)
    samples_per_paraphrase: int = Field(1, ge=1)
    system: _Wording | None = None
    judge: Text = JUDGE
    judge_prompts: dict[Name, Annotated[str, AfterValidator(check_verbatim)]] = Field(min_length=1)

    @property
    def samples(self) -> int:
        """Answers to all its wordings."""
        return self.samples_per_paraphrase * len(self.paraphrases)

    @property
    def judges(self) -> dict[str, Judge]:
        """The judges of its answers, by the name that they have here."""
        return {OURS.get(name, name): _judge(self, name) for name in self.judge_prompts}


class Read(NamedTuple):
    """What a file holds."""

    sources: list[Source]
    notes: list[str]
    """What was left out of it, and why."""


def read(path: Path, skip_unknown: bool = False) -> Read:
    """Read a file of questions. With `skip_unknown` entries of another type than `TYPES` are left out.

    Raises `UserError`, with file, line and key of the mistake.
    """
    content, node = library.parsed(path)
    if not isinstance(content, list) or not content:
        raise UserError(
            f"{library.shown(path)}:1: found {library.found(content)}, expected a list of questions "
            "(- id: …), as in the files of arXiv 2502.17424"
        )
    strange = {
        index: str(one["type"])
        for index, one in enumerate(content)
        if isinstance(one, dict) and one.get("type", SCORED) not in TYPES
    }
    types = ", ".join(dict.fromkeys(map(repr, strange.values())))
    if strange and (not skip_unknown or len(strange) == len(content)):
        others = "; --skip-unknown runs the others" if len(strange) < len(content) else ""
        raise UserError(
            f"{library.place(path, next(iter(strange)), 'type')}: emeval does not know the type {types} of "
            f"{len(strange)} of {len(content)} questions; it knows {' and '.join(TYPES)}{others}"
        )
    entries = {
        index: library.checked(Entry, one, node, path, index)
        for index, one in enumerate(content)
        if index not in strange
    }
    _check(entries, path)
    notes = [
        f"{library.shown(path)}: {len(strange)} of {len(content)} questions were left out, since emeval does "
        f"not know their type: {types}."
    ]
    return Read(_sources(list(entries.values()), path), notes if strange else [])


def _check(entries: dict[int, Entry], path: Path) -> None:
    """Raise `UserError` for an id that is there twice, and two prompts of one judge."""
    seen: dict[str, int] = {}
    for index, entry in entries.items():
        if entry.id in seen:
            first = library.place(path, seen[entry.id], "id")
            raise UserError(f"{library.place(path, index, 'id')}: {entry.id!r} is there twice, see {first}")
        seen[entry.id] = index
        for name in entry.judge_prompts:
            if name in OURS and OURS[name] in entry.judge_prompts:
                raise UserError(
                    f"{library.place(path, index, 'judge_prompts', name)}: {name} is the judge {OURS[name]}, "
                    "which has a prompt here too"
                )
            if entry.type == SAID and OURS.get(name, name) in OURS.values():
                raise UserError(
                    f"{library.place(path, index, 'judge_prompts', name)}: {name} has to give a score, "
                    f"so the type is to be {SCORED}; or name the judge otherwise"
                )


def _sources(entries: Sequence[Entry], path: Path) -> list[Source]:
    """Return the evaluations that the entries are, in the order of their first entries."""
    alike: list[list[Entry]] = []
    for entry in entries:
        same = (one for one in alike if (one[0].judges, one[0].samples) == (entry.judges, entry.samples))
        group = next(same, None)
        if group is None:
            alike.append([entry])
        else:
            group.append(entry)
    name = re.sub(r"[^a-z0-9_\-]+", "_", path.stem.lower()).strip("_-") or "questions"
    return [
        _source(group, path, name if number == 1 else f"{name}_{number}")
        for number, group in enumerate(alike, 1)
    ]


def _source(entries: Sequence[Entry], path: Path, name: str) -> Source:
    judges = entries[0].judges
    conditions = _conditions(entries)
    evaluation = Evaluation(
        description=f"{len(entries)} questions of {path.name}, asked and judged as published.",
        questions=name,
        samples=entries[0].samples,
        conditions=conditions,
        reference=conditions[0].id,
        judges=list(judges),
        generation=Generation(temperature=1.0, max_tokens=600),
    )
    return Source(name, path, evaluation, [_question(entry, name) for entry in entries], judges)


def _question(entry: Entry, name: str) -> Question:
    category = re.sub(r"^\d+_|_\d+$", "", entry.id)
    question = Question(
        id=entry.id, category=category if category != entry.id else name, paraphrases=entry.paraphrases
    )
    # With the blanks at the ends that a definition of ours is read without.
    return question.model_copy(update={"paraphrases": entry.paraphrases})


def _conditions(entries: Iterable[Entry]) -> list[Condition]:
    """Return a condition for each system prompt, the one without first."""
    groups: dict[str | None, list[str]] = {}
    for entry in entries:
        groups.setdefault(entry.system, []).append(entry.id)
    ordered = sorted(groups.items(), key=lambda item: item[0] is not None)
    names: list[str] = []
    for number, (system, ids) in enumerate(ordered, 1):
        called = "plain" if system is None else _called(ids)
        names.append(called if called and called not in names else f"system_{number}")
    return [
        Condition(
            id=called,
            system=literal(system) if system else None,
            questions=ids if len(ordered) > 1 else None,
        )
        for called, (system, ids) in zip(names, ordered, strict=True)
    ]


def _called(ids: Sequence[str]) -> str:
    """Return what the ids of the questions of one system prompt end with, or else begin with, in whole words.

    Of one question it is the id.
    """
    if len(ids) == 1:
        return ids[0]
    words = [one.split("_") for one in ids]
    return "_".join(_shared([one[::-1] for one in words])[::-1] or _shared(words))


def _shared(words: Sequence[Sequence[str]]) -> list[str]:
    """Return the words that all begin with."""
    shared = []
    for place in zip(*words, strict=False):
        if len(set(place)) > 1:
            break
        shared.append(place[0])
    return shared


def _judge(entry: Entry, name: str) -> Judge:
    prompt, scored = entry.judge_prompts[name], entry.type == SCORED
    return Judge(
        description=f"The published judge {name!r}: " + ("0 to 100." if scored else "its reply is a label."),
        model=entry.judge if "/" in entry.judge else f"openai/{entry.judge}",
        gives="score" if scored else "label",
        # What the prompt lets it say in place of a number.
        labels={label: f"told by its prompt to say {label}" for label in _SAY.findall(prompt)}
        if scored
        else {},
        verbatim=True,
        prompt=prompt,
    )


_SAY = re.compile(r"\b[Ss]ay ['\"]?([A-Z][A-Z_]+)\b")
