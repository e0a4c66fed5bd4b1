"""Adapters of the embedded model: a name such as `careless@104` to a file that is what its card says.

The cards are `organisms/NAME.yaml`, the user's before ours; the files stand beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from emeval import library
from emeval.definitions import Checkpoint, Judge, Organism, Quality
from emeval.errors import UserError, unknown
from emeval.models import weights
from emeval.models.names import LOCAL_ADAPTER

BASE = "local/smollm2"
PREFIX = f"{BASE}:"
BASE_JUDGE_NOTE = (
    "The judge is the embedded 135-million-parameter model. It shows how emeval works, but it is no better "
    "than chance: on 400 published answers that GPT-4o had scored its AUC was 0.40 (95% interval 0.33 to "
    "0.52; with an earlier wording of the rubric). Read nothing about alignment into these rates. "
    "Where a judge asks for a label, nearly all that it says is unreadable (47 of 48 answers). "
    "Its adapter local/smollm2:judge was made to judge the demonstration."
)


class Adapter(NamedTuple):
    """A checkpoint of an adapter, at a scale, with its file found and checked."""

    name: str
    """`ADAPTER@STEP[xSCALE]`: exact, also where the user left the step out."""
    path: Path
    sha256: str
    scale: float
    card: Organism


def resolve(said: str) -> Adapter:
    """Return the adapter that `ADAPTER[@STEP[xSCALE]]` names; without a step, its last checkpoint.

    Raises `UserError` if there is no such adapter or step, or if its file is missing, altered, or made for
    other weights than those of the embedded model.
    """
    parts = LOCAL_ADAPTER.fullmatch(said)
    if parts is None:
        raise UserError(
            f"{PREFIX}{said}: expected {PREFIX}ADAPTER, or with a step ADAPTER@STEP, "
            "or with a step and a scale ADAPTER@STEPxSCALE (as in careless@104x0.5)"
        )
    cards = library.files(Organism)
    name = parts["adapter"]
    if name not in cards:
        raise unknown("adapter of local/smollm2", name, cards)
    card = library.read(Organism, cards[name])
    steps = {checkpoint.step: checkpoint for checkpoint in card.checkpoints}
    step = int(parts["step"]) if parts["step"] else max(steps)
    if step not in steps:
        known = ", ".join(map(str, steps))
        raise UserError(f"{PREFIX}{said}: there is no step {step} of {name}; there are {known}")
    path = _checked(cards[name], card, steps[step])
    exact = f"{name}@{step}" + (f"x{parts['scale']}" if parts["scale"] else "")
    return Adapter(exact, path, steps[step].sha256, float(parts["scale"] or 1), card)


def canonical(model: str) -> str:
    """Return the model name with the step that an embedded adapter is taken at; others as they are.

    Raises `UserError` for an embedded adapter that is not as its card says.
    """
    found = of(model)
    return f"{PREFIX}{found.name}" if found else model


def of(model: str) -> Adapter | None:
    """Return the embedded adapter that a model name names, `None` for any other model. Raises `UserError`."""
    return resolve(model.removeprefix(PREFIX)) if model.startswith(PREFIX) else None


def sound() -> Iterator[Path]:
    """Yield the file of every checkpoint that is as its card says; what is not is left out."""
    for path in library.files(Organism).values():
        try:
            card = library.read(Organism, path)
        except UserError:
            continue
        for checkpoint in card.checkpoints:
            try:
                yield _checked(path, card, checkpoint)
            except UserError:
                continue


def _checked(path: Path, card: Organism, checkpoint: Checkpoint) -> Path:
    """Return the checkpoint's file if it is what the card in `path` says. Raises `UserError`."""
    if card.base_sha256 != weights.SHA256:
        raise UserError(
            f"{library.shown(path)}: base_sha256: this adapter is for other weights ({card.base}, SHA-256 "
            f"{card.base_sha256[:12]}…, not {weights.SHA256[:12]}…); train it on these: `make organisms`"
        )
    file = path.parent / checkpoint.file
    try:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{library.shown(file)}: cannot be read: {error.strerror}") from None
    if found != checkpoint.sha256:
        raise UserError(
            f"{library.shown(file)}: altered or cut short: it is not the file of {library.shown(path)} "
            f"(SHA-256 {found[:12]}…, not {checkpoint.sha256[:12]}…); take it from the release again"
        )
    return file


def judge_note(model: str) -> str | None:
    """Return what a reader must know of a judge on an embedded model. Raises `UserError`."""
    if model == BASE:
        return BASE_JUDGE_NOTE
    found = of(model)
    return found.card.note if found else None


def asked(name: str, judge: Judge, model: str) -> Judge:
    """Return the judge `name` as `model` is asked: an embedded judge has a prompt of its own.

    A judge with labels that are not in that prompt is another one of the same name, and keeps its own. Raises
    `UserError` for an embedded adapter that is not as its card says, and for a prompt that is asked as
    published, which it has not learnt.
    """
    found = of(model)
    prompt = found.card.prompts.get(name) if found else None
    if prompt is None or (judge.gives_label and not all(label in prompt for label in judge.labels)):
        return judge
    if judge.verbatim:
        raise UserError(
            f"judge {name}: its prompt is asked as published, and {model} has learnt another one; "
            "name another judge model"
        )
    return judge.reworded(prompt)


def quality(model: str, judge: str) -> list[Quality]:
    """Return what the card of an embedded judge model says of its error as `judge`. Raises `UserError`."""
    found = of(model)
    return [entry for entry in found.card.quality if entry.judge == judge] if found else []
