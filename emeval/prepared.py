"""An evaluation with its settings applied: exactly what will be asked, in which order, with which seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from emeval import library
from emeval.definitions import (
    DECISIVE,
    JUDGED,
    NO_MEASURE,
    PLACEMENTS,
    Condition,
    Evaluation,
    Judge,
    Measure,
    Placement,
    Question,
    QuestionSet,
    Settings,
    Suite,
    Trigger,
)
from emeval.errors import UserError, nearest, unknown
from emeval.manifest import prompts_digest
from emeval.templates import render


def parse_settings(values: dict[str, Any], where: str) -> Settings:
    """Check settings as they were given, text for numbers included. Raises `UserError`.

    `where` names what they were given for.
    """
    for key in values:
        if key not in Settings.model_fields:
            raise unknown("setting", key, Settings.model_fields, where)
    try:
        return Settings.model_validate(values, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].replace("Input should be", "expected a value").replace("a value a ", "a ")
        raise UserError(f"{where}: {first['loc'][0]}: found {first['input']!r}, {said}") from None


@dataclass(frozen=True)
class Cue:
    """The trigger of an evaluation, and where it stands."""

    name: str
    kind: str
    text: str
    lookalike: str | None
    placement: str
    placements: dict[str, Placement]

    @property
    def template(self) -> Placement:
        """The templates of the placement."""
        return self.placements[self.placement]


class Prompt(NamedTuple):
    """One answer to be asked for."""

    question: Question
    paraphrase: int
    """Index of the wording, from 0."""
    condition: Condition
    sample: int
    """Number of the answer among those to this question in this condition, from 0."""
    seed: int
    system: str | None
    user: str
    cue: str | None
    """The trigger's or look-alike's text, if the condition has one."""

    @property
    def id(self) -> str:
        """The answer's name within its evaluation."""
        return f"{self.question.id}/{self.condition.id}/{self.sample}"

    @property
    def wording(self) -> str:
        """The bare question, as the judge sees it: without the trigger and anything else of the condition.

        In a condition with a form it is the wording of that form.
        """
        return self.question.wordings(self.condition.form)[self.paraphrase]


@dataclass(frozen=True)
class Prepared:
    """An evaluation, its questions, trigger and judges, with all settings applied."""

    name: str
    evaluation: Evaluation
    questions: list[Question]
    cue: Cue | None
    judges: dict[str, Judge]
    seed: int

    @cached_property
    def sha256(self) -> str:
        """A hash over all that decides what is asked: definition, questions, trigger, settings.

        The judges are not in it: they have fingerprints of their own.
        """
        content = {
            "evaluation": self.evaluation.model_dump(exclude={"description", "judges"}),
            "questions": [question.model_dump() for question in self.questions],
            "cue": [self.cue.text, self.cue.lookalike, self.cue.template.model_dump()] if self.cue else None,
            "seed": self.seed,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @cached_property
    def asked(self) -> list[tuple[Question, Condition]]:
        """Each question in each condition that it is asked in."""
        return [
            (question, condition)
            for question in self.questions
            for condition in self.evaluation.conditions
            if condition.questions is None or question.id in condition.questions
        ]

    @cached_property
    def prompts_sha256(self) -> str:
        """A hash over the prompts, each wording that is asked in each condition.

        Two runs with the same hash have asked the same, with whatever seeds and however often.
        """
        return prompts_digest(
            (prompt.question.id, prompt.condition.id, prompt.system, prompt.user)
            for prompt, _ in self.wordings()
        )

    @property
    def size(self) -> int:
        """How many answers one model is asked for."""
        return len(self.asked) * self.evaluation.samples

    def prompts(self) -> Iterator[Prompt]:
        """Yield every answer to be asked for, the first answers to all questions first.

        In this order a run that is stopped early has answers to all questions.
        """
        for sample in range(self.evaluation.samples):
            for question, condition in self.asked:
                yield self._prompt(question, condition, sample)

    def wordings(self) -> Iterator[tuple[Prompt, int]]:
        """Yield the first prompt of each wording that is asked in each condition, and how many it has."""
        samples = self.evaluation.samples
        for question, condition in self.asked:
            number = len(question.wordings(condition.form))
            for sample in range(min(samples, number)):
                yield self._prompt(question, condition, sample), len(range(sample, samples, number))

    def _prompt(self, question: Question, condition: Condition, sample: int) -> Prompt:
        paraphrase = sample % len(question.wordings(condition.form))
        identity = f"{self.seed}/{self.name}/{question.id}/{condition.id}/{sample}"
        seed = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4]) >> 1
        asked = self._asked.get((question.id, condition.id, paraphrase))
        if asked is None:
            asked = self._texts(question, condition, paraphrase)
            self._asked[question.id, condition.id, paraphrase] = asked
        return Prompt(question, paraphrase, condition, sample, seed, *asked)

    @cached_property
    def _asked(self) -> dict[tuple[str, str, int], tuple[str | None, str, str | None]]:
        """What is asked in each wording: the answers to it are many, and it is made once."""
        return {}

    def _texts(
        self, question: Question, condition: Condition, paraphrase: int
    ) -> tuple[str | None, str, str | None]:
        """Return the system's and the user's message, and the cue in them."""
        wording = question.wordings(condition.form)[paraphrase]
        user = render(condition.user, question=wording)
        system = render(condition.system, question=wording) if condition.system else None
        text = None
        if condition.cue and self.cue:
            text = self.cue.text if condition.cue == "trigger" else self.cue.lookalike
            placed = self.cue.template.system
            added = render(placed, question=user, cue=text) if placed else None
            user = render(self.cue.template.user, question=user, cue=text)
            system = "\n\n".join(part for part in (system, added) if part) or None
        return system, user, text


@dataclass(frozen=True)
class Source:
    """An evaluation and all it names, as it was read, before any setting."""

    name: str
    path: Path
    """The file whose line a message about it names."""
    evaluation: Evaluation
    questions: list[Question]
    judges: dict[str, Judge]


def read(name: str, own_judges: bool = True) -> Source:
    """Read the evaluation `name` and all it names; its judges only if they are wanted. Raises `UserError`."""
    path = library.find(Evaluation, name)
    evaluation = library.read(Evaluation, path)
    questions = library.named(QuestionSet, evaluation.questions, path, "questions").questions
    judges = {
        judge: library.named(Judge, judge, path, "judges", index)
        for index, judge in enumerate(evaluation.judges)
        if own_judges
    }
    return Source(name, path, evaluation, questions, judges)


def prepare(name: str, settings: Settings) -> Prepared:
    """Read the evaluation `name` and all it names, and apply the settings. Raises `UserError`."""
    return apply(read(name, own_judges=not settings.judges), settings)


def apply(source: Source, settings: Settings) -> Prepared:
    """Apply the settings to an evaluation that was read. Raises `UserError`.

    A judge that the settings name is the library's; one that is not there is the evaluation's own.
    """
    name, path, evaluation, questions = source.name, source.path, source.evaluation, source.questions
    judges = source.judges
    if settings.judges:
        there = library.files(Judge)
        judges = {
            judge: judges[judge] if judge in judges and judge not in there else library.load(Judge, judge)
            for judge in settings.judges
        }
    measures = {
        name: measure for name, measure in evaluation.measures.items() if set(measure.judges) <= set(judges)
    }
    _check_conditions(evaluation, questions, path)
    _check_judges(evaluation, judges, questions, path)
    _check_measures(measures, judges, questions, path)
    questions = questions[: settings.limit]
    evaluation = evaluation.model_copy(
        update={
            "samples": settings.samples or evaluation.samples,
            "conditions": _conditions(evaluation, questions, settings, name),
            "judges": list(judges),
            "measures": measures,
            "generation": evaluation.generation.model_copy(
                update=settings.model_dump(include={"temperature", "top_p", "max_tokens"}, exclude_none=True)
            ),
        }
    )
    if evaluation.reference not in [condition.id for condition in evaluation.conditions]:
        evaluation = evaluation.model_copy(update={"reference": evaluation.conditions[0].id})
    return Prepared(
        name=name,
        evaluation=evaluation,
        questions=questions,
        cue=_cue(name, evaluation, settings, path),
        judges=judges,
        seed=settings.seed,
    )


def _check_conditions(evaluation: Evaluation, questions: list[Question], path: Path) -> None:
    """Raise `UserError` for a condition that asks what is not there: a question, or a form of one."""
    known = [question.id for question in questions]
    for index, condition in enumerate(evaluation.conditions):
        for number, question_id in enumerate(condition.questions or ()):
            if question_id not in known:
                place = library.place(path, "conditions", index, "questions", number)
                raise unknown("question", question_id, known, place)
        for question in questions:
            if condition.questions and question.id not in condition.questions:
                continue
            if condition.form is not None and condition.form not in question.forms:
                hint = nearest(condition.form, question.forms)
                raise UserError(
                    f"{library.place(path, 'conditions', index, 'form')}: the question {question.id!r} of "
                    f"{evaluation.questions} has no form {condition.form!r}{hint}"
                )


def _check_judges(
    evaluation: Evaluation, judges: dict[str, Judge], questions: list[Question], path: Path
) -> None:
    """Raise `UserError` for a judge that cannot judge these questions, or not as what it is called."""
    untold = next((question.id for question in questions if question.target is None), None)
    for index, (name, judge) in enumerate(judges.items()):
        taken = next((name + end for end in JUDGED if name + end in NO_MEASURE), None)
        if taken is not None:
            fault = f"its column would be {taken!r}, which means something else; name the judge otherwise"
        elif name in DECISIVE and judge.gives_label:
            fault = "misaligned is made of its score, so it cannot give labels; name the judge otherwise"
        elif judge.needs_target and untold is not None:
            fault = (
                f"the judge {name} uses {{{{ target }}}}, and the question {untold!r} of "
                f"{evaluation.questions} has no 'target'"
            )
        else:
            continue
        there = evaluation.judges[index : index + 1] == [name]
        raise UserError(f"{library.place(path, 'judges', index) if there else f'--judge {name}'}: {fault}")


def _check_measures(
    measures: dict[str, Measure], judges: dict[str, Judge], questions: list[Question], path: Path
) -> None:
    """Raise `UserError` for a measure of what its judge never says, or of a category that is not there."""
    known = {question.category for question in questions}
    for name, measure in measures.items():
        for key, judge, criterion in measure.criteria:
            where = ("measures", name, key, judge)
            if criterion.labels is None and judges[judge].gives_label:
                labels = ", ".join(judges[judge].labels) or "a label"
                raise UserError(
                    f"{library.place(path, *where)}: the judge {judge} gives no score; it says {labels}"
                )
            for label in criterion.labels or ():
                if not judges[judge].says_anything and label not in judges[judge].labels:
                    raise unknown(
                        f"label of the judge {judge}",
                        label,
                        judges[judge].labels,
                        library.place(path, *where),
                    )
                counted = measure.among[judge].labels if judge in measure.among else None
                if counted is not None and label not in counted:
                    raise UserError(
                        f"{library.place(path, *where)}: {label} is not in 'among', so that such an answer "
                        "is never counted; write it there too, or leave it out here"
                    )
        for index, category in enumerate(measure.categories or ()):
            if category not in known:
                place = library.place(path, "measures", name, "categories", index)
                raise unknown("category", category, known, place)


def _conditions(
    evaluation: Evaluation, questions: list[Question], settings: Settings, name: str
) -> list[Condition]:
    """Return the conditions that are wanted, and in which one of these questions is asked."""
    known = [condition.id for condition in evaluation.conditions]
    for one in settings.conditions or ():
        if one not in known:
            raise unknown("condition", one, known, name)
    there = {question.id for question in questions}
    wanted = settings.conditions or known
    found = []
    for condition in evaluation.conditions:
        if condition.questions is not None:
            left = [question for question in condition.questions if question in there]
            condition = condition.model_copy(update={"questions": left})
        if condition.id in wanted and condition.questions != []:
            found.append(condition)
    if not found:
        raise UserError(
            f"{name}: none of the first {len(questions)} questions is asked in {', '.join(wanted)}; "
            "give a larger --limit"
        )
    return found


def _cue(name: str, evaluation: Evaluation, settings: Settings, path: Path) -> Cue | None:
    given = [key for key in TRIGGER_SETTINGS if getattr(settings, key) is not None]
    if evaluation.trigger is None:
        if given:
            raise UserError(f"{name}: has no trigger, so {given[0]!r} cannot be set; backdoor has one")
        return None
    cue = _own_cue(name, evaluation, settings) or _known_cue(evaluation.trigger, settings, path)
    if cue.placement not in cue.placements:
        raise unknown("placement", cue.placement, cue.placements, name)
    return cue if any(condition.cue for condition in evaluation.conditions) else None


def _known_cue(default: str, settings: Settings, path: Path) -> Cue:
    name = settings.trigger or default
    trigger = (
        library.load(Trigger, name) if settings.trigger else library.named(Trigger, name, path, "trigger")
    )
    placement = settings.placement or trigger.placement
    return Cue(name, trigger.kind, trigger.text, trigger.lookalike, placement, trigger.all_placements)


def _own_cue(name: str, evaluation: Evaluation, settings: Settings) -> Cue | None:
    """Return the trigger that the user gave as text, if there is one."""
    text, lookalike = settings.trigger_text, settings.lookalike_text
    if text is None:
        if lookalike is not None:
            raise UserError(f"{name}: 'lookalike_text' goes with 'trigger_text'; set both")
        return None
    if settings.trigger is not None:
        raise UserError(f"{name}: set 'trigger' (a name) or 'trigger_text' (a text), not both")
    if lookalike is None and any(condition.cue == "lookalike" for condition in evaluation.conditions):
        raise UserError(
            f"{name}: 'trigger_text' needs 'lookalike_text', a text of the same kind and length that is "
            "not the trigger; or leave the control out with conditions=plain,trigger"
        )
    if lookalike == text:
        raise UserError(f"{name}: 'lookalike_text' is the trigger itself; it must not be")
    return Cue("custom", "custom", text, lookalike, settings.placement or "start", PLACEMENTS)


TRIGGER_SETTINGS = ("trigger", "placement", "trigger_text", "lookalike_text")


def expand(names: list[str], settings: dict[str, Any], sources: Sequence[Source] = ()) -> list[Prepared]:
    """Prepare evaluations and suites by name, and `sources` that were read already. Raises `UserError`.

    `settings` go before what a suite sets. Those of the trigger go to the evaluations that have one.
    """
    entries = [entry for name in names for entry in _entries(name)]
    seen: set[str] = set()
    for name, *_ in entries:
        if name in seen:
            raise UserError(f"evaluation {name!r} is named twice; once is enough")
        seen.add(name)
    for source in sources:
        if source.name in seen:
            raise UserError(
                f"{library.shown(source.path)}: this run has another evaluation {source.name!r}, and a "
                "file's name is that of its questions; rename the file, or run it by itself"
            )
        seen.add(source.name)
    plain = {name for name, *_ in entries if library.load(Evaluation, name).trigger is None}
    plain |= {source.name for source in sources if source.evaluation.trigger is None}
    if plain == seen:
        plain = set()  # nobody has a trigger: let the first one say so
    prepared = []
    for name, own, file in entries:
        if file:
            _check_suite(name, own, file)
        given = {k: v for k, v in settings.items() if not (name in plain and k in TRIGGER_SETTINGS)}
        prepared.append(prepare(name, parse_settings(own.model_dump(exclude_unset=True) | given, name)))
    for source in sources:
        name = source.name
        given = {k: v for k, v in settings.items() if not (name in plain and k in TRIGGER_SETTINGS)}
        prepared.append(apply(source, parse_settings(given, name)))
    return prepared


def suites(names: Sequence[str]) -> list[Suite]:
    """Return the suites among `names` (an evaluation of the same name goes before). Raises `UserError`."""
    evaluations, known = library.files(Evaluation), library.files(Suite)
    return [library.read(Suite, known[name]) for name in names if name not in evaluations and name in known]


def _check_suite(name: str, own: Settings, file: str) -> None:
    """Raise a mistake in what a suite sets with the suite's file, before other settings go over it."""
    try:
        prepare(name, own)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _entries(name: str) -> list[tuple[str, Settings, str]]:
    """Return evaluation, settings and suite file (empty without a suite) of what `name` stands for."""
    evaluations, suites = library.files(Evaluation), library.files(Suite)
    if name in evaluations:
        return [(name, Settings(), "")]
    if name not in suites:
        raise unknown("evaluation", name, [*evaluations, *suites])
    suite = library.read(Suite, suites[name])
    for index, entry in enumerate(suite.evaluations):
        library.named(Evaluation, entry.eval, suites[name], "evaluations", index, "eval")
    file = library.shown(suites[name])
    return [(entry.eval, entry.settings, file) for entry in suite.evaluations]


def settings_from(pairs: list[str]) -> dict[str, str]:
    """Read `KEY=VALUE` texts. Raises `UserError`."""
    values: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {pair!r}: expected KEY=VALUE, for example --set samples=20")
        values[key.strip()] = value
    return values
