"""Who is compared: the models of all runs, each with a name of its own, and what they are held against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from emeval.errors import UserError, unknown
from emeval.manifest import Manifest, ModelRecord
from emeval.reporting import lineup


class Source(NamedTuple):
    """A run that takes part: its name in the comparison, its manifest, its response table, not yet read."""

    name: str
    manifest: Manifest
    table: pl.LazyFrame
    directory: Path | None = None
    """Where it lies: two judgings of the same answers lie in one."""


@dataclass(frozen=True)
class Entrant:
    """A model of one run."""

    name: str
    """The model's name, with the run's in front (`RUN: MODEL`) where several runs asked a model of it."""
    label: str
    """What the page calls it."""
    run: str
    record: ModelRecord
    family: str | None
    """What the checkpoints of one training share; None if fewer than two are there."""
    training: str | None
    """What the page calls that training."""


class Reference(NamedTuple):
    """What the others are held against."""

    kind: str
    """`model` or `condition`."""
    name: str | None
    """The entrant's name or the condition; None for each evaluation's own reference condition."""
    label: str
    why: str
    """Why this one, as a clause."""


def entrants(sources: Sequence[Source]) -> list[Entrant]:
    """Return the models of all runs, in the order of the runs and of their lists."""
    asked = [(source.name, record) for source in sources for record in source.manifest.models]
    times = Counter(record.name for _, record in asked)
    trained = {record.name: lineup.family(record) for _, record in asked}
    # Steps of one training may be spread over runs, unless one step was asked in two of them.
    split = {trained[name] for name, number in times.items() if number > 1}
    training = [_named(run, trained[r.name], trained[r.name] in split) for run, r in asked]
    steps: dict[str | None, set[int | None]] = {}
    for name, (_, record) in zip(training, asked, strict=True):
        steps.setdefault(name, set()).add(record.step)
    base = lineup.shared_base([record for _, record in asked])
    label = lineup.labels(list(times), base)
    called = lineup.labels([name for name in dict.fromkeys(trained.values()) if name is not None], base)
    return [
        Entrant(
            name=_named(run, record.name, times[record.name] > 1) or "",
            label=_named(run, label[record.name], times[record.name] > 1) or "",
            run=run,
            record=record,
            family=name if len(steps[name]) > 1 else None,
            training=_named(run, called.get(trained[record.name] or ""), trained[record.name] in split),
        )
        for name, (run, record) in zip(training, asked, strict=True)
    ]


def _named(run: str, name: str | None, repeated: bool) -> str | None:
    return f"{run}: {name}" if repeated and name is not None else name


def trainings(there: Sequence[Entrant]) -> dict[str, list[Entrant]]:
    """Return the checkpoints of each training, by rising step."""
    found: dict[str, list[Entrant]] = {}
    for entrant in sorted(there, key=lambda entrant: entrant.record.step or 0):
        if entrant.family is not None:
            found.setdefault(entrant.family, []).append(entrant)
    return found


def intermediate(there: Sequence[Entrant]) -> set[str]:
    """Return the names of the checkpoints that a later step of the same training follows."""
    return {entrant.name for members in trainings(there).values() for entrant in members[:-1]}


def start(members: Sequence[Entrant], there: Sequence[Entrant]) -> tuple[Entrant, str]:
    """Return what the checkpoints of a training rise from, and what that is, in words.

    The base model where it was asked (in the same run, if it can be), else step 0, else the first step.
    """
    first = members[0]
    bases = [
        entrant
        for entrant in there
        if entrant.record.name == first.record.base_model and entrant.record.adapter is None
    ]
    if bases and first.record.base_model != first.record.name:
        return next((base for base in bases if base.run == first.run), bases[0]), "the base model"
    return first, "step 0" if first.record.step == 0 else "the first step"


def reference_of(
    there: Sequence[Entrant], conditions: Sequence[str], wanted: str | None, first: str | None
) -> Reference:
    """Return what everything is held against.

    `wanted` is the name, label or run of one model, or a condition; without it, of several models the base
    model of another one, else the first; of one model each evaluation's reference condition (`first` is it
    where all agree). Raises `UserError` where `wanted` is none of these, or may mean two models.
    """
    if wanted is not None:
        named = [entrant for entrant in there if wanted in (entrant.name, entrant.label)]
        loose = named or [entrant for entrant in there if wanted in (entrant.record.name, entrant.run)]
        if len(loose) == 1:
            return Reference("model", loose[0].name, loose[0].label, "as asked")
        if loose:
            names = ", ".join(repr(entrant.name) for entrant in loose)
            raise UserError(f"--reference {wanted}: may be any of {names}; name one of these")
        if wanted in conditions:
            return Reference("condition", wanted, wanted, "as asked")
        raise unknown("model or condition", wanted, [*(e.name for e in there), *conditions], "--reference")
    if len(there) == 1:
        label = first or "each evaluation's reference condition"
        return Reference("condition", None, label, "the reference condition, since there is one model only")
    made = [entrant.record for entrant in there if entrant.record.base_model != entrant.record.name]
    bases = {record.base_model for record in made}
    for entrant in there:
        if entrant.record.adapter is None and entrant.record.name in bases:
            return Reference("model", entrant.name, entrant.label, "a base model of the others")
    return Reference(
        "model", there[0].name, there[0].label, "the first one named, since no base model of another is there"
    )
