"""What a further judging is to ask, of whom, and what it takes over from the run's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from emeval import library
from emeval.definitions import DECISIVE, Judge, Name, Thresholds
from emeval.errors import UserError, unknown
from emeval.judging.panels import PANEL
from emeval.manifest import Manifest
from emeval.models import adapters
from emeval.runs import identity_sha256, sorted_judges, thresholds

READOUTS: tuple[str, ...] = get_args(Judge.model_fields["readout"].annotation)


@dataclass(frozen=True)
class Part:
    """A judge that is to be asked."""

    name: str
    """The part it plays: `alignment`, `coherence`, or that of a judge of its own."""
    rubric: str
    """The name of its definition."""
    judge: Judge
    model: str


@dataclass(frozen=True)
class Judging:
    """A further judging as it was asked for."""

    name: str
    asked: list[Part]
    taken_over: list[str]
    """Judges of the run whose scores stay as they are."""
    thresholds: dict[str, Thresholds]
    """By evaluation."""

    def identity(self) -> dict[str, Any]:
        """Return what two judgings of one name must have in common to be the same judging."""
        judges = {
            part.name: f"{part.rubric} {identity_sha256(part.judge.model_dump())[:16]} on {part.model}"
            for part in self.asked
        }
        models = {part.model for part in self.asked}
        files = {model: adapter.sha256 for model in sorted(models) if (adapter := adapters.of(model))}
        return {
            "judges": judges | dict.fromkeys(self.taken_over, "the run's own"),
            **({"adapters": files} if files else {}),
            "thresholds": {
                evaluation: f"alignment below {limits.alignment:g}, coherence above {limits.coherence:g}"
                for evaluation, limits in self.thresholds.items()
            },
        }


def plan(
    manifest: Manifest,
    judges: Sequence[str] = (),
    rubrics: Sequence[str] = (),
    readout: str | None = None,
    alignment_below: float | None = None,
    coherence_above: float | None = None,
    name: str | None = None,
) -> list[Judging]:
    """Return the judgings of the run `manifest` that the options of `emeval rejudge` ask for: one, or one for
    each judge model for all judges.

    What no option names is taken over from the run. A judge model for all judges and a readout name all of
    the run's judges, or those that are named by themselves. Raises `UserError`.
    """
    names, models, for_all = sorted_judges(judges, manifest.as_published)
    own = list(dict.fromkeys(judge for record in manifest.evaluations for judge in record.judges))
    plays = _rubrics(rubrics, own)
    if readout is not None and readout not in READOUTS:
        raise unknown("readout", readout, READOUTS, "--readout")
    if not (judges or rubrics or readout or alignment_below is not None or coherence_above is not None):
        raise UserError("name what is to judge the answers, for example --judge openai/gpt-4o")
    # The judges of an imported run are names in a file, and one of the two that decide may be missing.
    everybody = names or ((list(DECISIVE) if manifest.imported else own) if for_all or readout else [])
    asked = list(dict.fromkeys([*everybody, *models, *plays]))
    limits = {
        record.name: thresholds(record.thresholds, alignment_below, coherence_above)
        for record in manifest.evaluations
    }
    given = [names, [f"{one}-{_slug(model)}" for one, model in models.items()], plays.values(), [readout]]
    given.append([f"below{alignment_below:g}" if alignment_below is not None else None])
    given.append([f"above{coherence_above:g}" if coherence_above is not None else None])
    differs = [word for words in given for word in words if word]
    found = []
    models_for_all: list[str | None] = [*for_all] or [None]
    for model in models_for_all:
        derived = "-".join(_slug(word) for word in [*([model.rpartition("/")[2]] if model else []), *differs])
        found.append(
            Judging(
                name=_checked(name or derived),
                asked=[
                    _part(manifest, part, plays.get(part), models.get(part) or model, readout)
                    for part in asked
                ],
                # A judge that is named by itself stands alone; with NAME=MODEL or a rubric the others stay.
                taken_over=[] if names else [one for one in own if one not in asked],
                thresholds=limits,
            )
        )
    _check_measures(manifest, found)
    twice = next((one.name for one in found if [other.name for other in found].count(one.name) > 1), None)
    if twice:
        raise UserError(
            f"two judgings would be named {twice!r}; start them one after another, each with its --name"
        )
    return found


def _check_measures(manifest: Manifest, judgings: Iterable[Judging]) -> None:
    """Raise `UserError` for a judge that cannot say what a measure of the run is made of."""
    parts = {part.name: part for judging in judgings for part in judging.asked}
    for record in manifest.evaluations:
        for name, measure in record.measures.items():
            for _, judge, criterion in measure.criteria:
                if judge not in parts:
                    continue
                part = parts[judge]
                lacking = [label for label in criterion.labels or () if label not in part.judge.labels]
                if part.judge.says_anything:
                    lacking = []
                if criterion.labels is None and part.judge.gives_label:
                    lacking = ["a score"]
                if lacking:
                    raise UserError(
                        f"{judge}: the measure {name} of {record.name} is made of what this judge said, and "
                        f"{part.rubric} does not say {', '.join(lacking)}"
                    )


def _part(manifest: Manifest, name: str, rubric: str | None, model: str | None, readout: str | None) -> Part:
    """Return a judge that is asked; without a rubric that of its name, as the run asked it if published."""
    own = manifest.as_published.get(name) if rubric is None else None
    judge = own or library.load(Judge, rubric or name)
    if readout is not None:
        try:
            judge = Judge.model_validate(judge.model_dump() | {"readout": readout})
        except ValidationError as error:
            raise UserError(f"--readout {readout}: {name}: {_said(error)}") from None
    if model is None:
        known = {record.name: record.model for record in manifest.judges}
        if manifest.imported:  # it may say `gpt-4o`, but not where to find it
            raise UserError(f"{name}: name the judge model, since an imported run does not: --judge MODEL")
        model = known.get(name) or judge.model
    return Part(name, rubric or name, judge, adapters.canonical(model))


def _said(error: ValidationError) -> str:
    return error.errors()[0]["msg"].removeprefix("Value error, ")


def _rubrics(given: Iterable[str], own: Iterable[str]) -> dict[str, str]:
    """Read `ROLE=JUDGE` texts; a role is a judge of the run (`own`), or one that has a file.

    Raises `UserError`.
    """
    known = list(dict.fromkeys([*own, *DECISIVE, *library.files(Judge)]))
    plays: dict[str, str] = {}
    for text in given:
        role, equals, rubric = text.partition("=")
        if not equals or not role or not rubric:
            raise UserError(
                f"--rubric {text!r}: expected ROLE=JUDGE, for example --rubric alignment=my_alignment"
            )
        library.find(Judge, rubric)
        if role not in known:
            raise unknown("judge", role, known, f"--rubric {text}")
        plays[role] = rubric
    return plays


def _checked(name: str) -> str:
    """Return the name of a judging. Raises `UserError`."""
    if name == PANEL:
        raise UserError(f"--name {PANEL}: this is what all judgings together are called; take another")
    try:
        return str(TypeAdapter(Name).validate_python(name))
    except ValidationError:
        raise UserError(
            f"--name {name!r}: expected lower-case letters, digits, '_' and '-'; give the judging a --name"
        ) from None


def _slug(text: str) -> str:
    """Return `text` as a part of a judging's name: `smollm2-judge-100` of `local/smollm2:judge@100`."""
    last = text.rpartition("/")[2]
    return re.sub(r"[^a-z0-9_]+", "-", last.lower()).strip("-_")
