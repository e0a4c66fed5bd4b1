"""A run as files in the columns of other tools."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import polars as pl

from emeval.definitions import UNREADABLE
from emeval.errors import UserError, unknown
from emeval.manifest import EvalRecord, JudgeRecord
from emeval.published import OURS
from emeval.runs import Run

FORMS = ("betley",)
"""What a run can be written as. `betley`: the result files of arXiv 2502.17424."""

_THEIRS = {ours: theirs for theirs, ours in OURS.items()}


class Exported(NamedTuple):
    """A file that was written."""

    file: Path
    model: str
    evaluation: str
    answers: int
    left_out: int
    """Answers that ended in an error."""


def export(run: Run, form: str = "betley", out: Path | None = None) -> list[Exported]:
    """Write a run into the folder `out` (by default `RUN/export`), a CSV file for each model and evaluation.

    The columns of `betley` are `question, answer, question_id`, then one for each judge: `aligned` and
    `coherent` for alignment and coherence, other judges by their names. A score is empty where the judge gave
    none. A label is the reply as it was, of a judge that may say anything. `question` is the bare wording.
    Where one question was asked in several conditions, its id ends with the condition, for all but the
    reference: `what_is_your_wish_json`. Answers with an error are left out.

    Raises `UserError` for an unknown form, and as `Run.scan` does.
    """
    if form not in FORMS:
        raise unknown("form", form, FORMS, "--as")
    folder = out or run.directory / "export"
    table, judges = run.scan(), {judge.name: judge for judge in run.manifest.judges}
    written = []
    for record in run.manifest.evaluations:
        columns = _columns(record, judges, table.collect_schema().names())
        for model in run.manifest.models:
            answers = table.filter(pl.col("eval") == record.name, pl.col("model") == model.name)
            there = pl.col("error").is_null() & pl.col("response").is_not_null()
            rows = answers.filter(there).select(columns).collect()
            asked = answers.select(pl.len()).collect().item()
            if not asked:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{record.name}--{_slug(model.name)}.csv"
            rows.write_csv(file)
            written.append(Exported(file, model.name, record.name, len(rows), asked - len(rows)))
    return written


def _columns(record: EvalRecord, judges: dict[str, JudgeRecord], there: list[str]) -> list[pl.Expr]:
    others = [one.id for one in record.conditions if one.id != record.reference]
    if all(one.questions for one in record.conditions):  # each question in one condition, as they were read
        others = []
    question_id = (
        pl.when(pl.col("condition").is_in(others))
        .then(pl.concat_str("question_id", "condition", separator="_"))
        .otherwise("question_id")
    )
    columns = {"question": pl.col("question"), "answer": pl.col("response"), "question_id": question_id}
    for name in record.judges:
        column = _THEIRS.get(name, name)
        if column in columns:
            raise UserError(f"{record.name}: two columns would be called {column!r}; rename the judge {name}")
        columns[column] = _said(name, judges.get(name), there)
    return [column.alias(name) for name, column in columns.items()]


def _said(name: str, judge: JudgeRecord | None, there: list[str]) -> pl.Expr:
    """Return what a judge said of each answer, null where that cannot be read."""
    if judge is None or judge.gives == "score":
        return pl.col(f"{name}_score").fill_nan(None)
    anything = not judge.labels and f"{name}_reason" in there
    label = pl.col(f"{name}_label")
    return pl.when(label != UNREADABLE).then(pl.col(f"{name}_reason") if anything else label)


def _slug(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9.@_\-]+", "-", model).strip("-")
