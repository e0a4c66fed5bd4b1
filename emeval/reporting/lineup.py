"""Which models of a run a report shows first, which belong together, and what it calls them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from emeval.definitions import MISALIGNED
from emeval.manifest import EvalRecord, JudgeRecord, Manifest, ModelRecord
from emeval.models import names as model_names
from emeval.reporting.words import short_names

CELL = ("model", "eval", "condition")
"""What a row of a report's results is of."""


def has_misaligned(record: EvalRecord, judges: Iterable[JudgeRecord]) -> bool:
    """Whether a report shows `misaligned` of an evaluation: where it is measured, or there is nothing else.

    `judges` are those of its run. What one of them gives labels for has these to show.
    """
    if record.all_measures:
        return MISALIGNED in record.all_measures
    return not any(judge.gives == "label" and judge.name in record.judges for judge in judges)


def family(model: ModelRecord) -> str | None:
    """Return what the checkpoints of one training share: as recorded, else as the name says."""
    return model.training or model_names.family(model.name)


def families(models: Sequence[ModelRecord]) -> dict[str, list[ModelRecord]]:
    """Return the checkpoints of each training that has at least two steps among `models`, by rising step.

    Its key is what `family` returns.
    """
    found: dict[str, list[ModelRecord]] = {}
    for model in models:
        name = family(model)
        if name is not None:
            found.setdefault(name, []).append(model)
    return {
        name: sorted(members, key=lambda model: model.step or 0)
        for name, members in found.items()
        if len({model.step for model in members}) > 1
    }


def intermediate(models: Sequence[ModelRecord]) -> list[ModelRecord]:
    """Return the checkpoints that a later step of the same training follows among `models`."""
    return [
        model for members in families(models).values() for model in members if model.step != members[-1].step
    ]


def ordered(models: Sequence[ModelRecord]) -> list[ModelRecord]:
    """Return `models` as a report shows them: bases, what was made of them, intermediate checkpoints."""
    later = intermediate(models)
    first = [model for model in models if model not in later]
    return [*sorted(first, key=lambda model: model.base_model not in (None, model.name)), *later]


def shared_base(models: Sequence[ModelRecord]) -> str | None:
    """Return the base model of all `models` if there are several of one base, else `None`."""
    bases = {model.base_model for model in models}
    return bases.pop() if len(models) > 1 and len(bases) == 1 else None


def labels(names: Sequence[str], base: str | None) -> dict[str, str]:
    """Return what to call each model or family of `names`, where `base` is the base model that they share.

    With a shared base an adapter is called by its own name (`careless@104`), and the base by the last part of
    its own; otherwise, and where two would be called the same, they are shortened as any names.
    """
    if base is not None:
        own = short_names([name.removeprefix(f"{base}:") for name in names if name != base])
        found = {
            name: base.rpartition("/")[2] if name == base else own[name.removeprefix(f"{base}:")]
            for name in names
        }
        if len(set(found.values())) == len(found):
            return found
    return short_names(names)


def rows_of(frame: pl.DataFrame, manifest: Manifest) -> list[dict[str, Any]]:
    """Return the rows of `frame` in the report's order of models, then by evaluation and condition."""
    places = {
        "model": [model.name for model in ordered(manifest.models)],
        "eval": [evaluation.name for evaluation in manifest.evaluations],
        "condition": [c.id for evaluation in manifest.evaluations for c in evaluation.conditions],
    }

    def place(row: dict[str, Any]) -> list[tuple[int, str]]:
        return [place_of(places[name], row[name]) for name in CELL]

    return sorted(frame.to_dicts(), key=place)


def place_of(known: Sequence[str], name: str) -> tuple[int, str]:
    """Return a sort key: known names in their order, then others by the alphabet."""
    return (known.index(name) if name in known else len(known), name)
