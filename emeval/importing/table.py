"""Makes one response table of several sheets, and refuses what contradicts itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl

from emeval.definitions import Thresholds
from emeval.errors import UserError
from emeval.importing import scores
from emeval.importing.columns import FIELDS, Columns
from emeval.importing.sheets import Sheet
from emeval.judging import verdict_like
from emeval.judging.columns import JUDGE_COLUMNS
from emeval.library import shown
from emeval.models.names import parse
from emeval.responses import COLUMNS, schema

Duplicates = Literal["keep", "drop"]

_CELL = ("model", "eval", "question_id", "condition")


def build(
    sheets: Sequence[Sheet],
    columns: Sequence[Columns],
    models: Sequence[pl.Series],
    *,
    run: str,
    evaluation: str,
    thresholds: Thresholds,
    scales: Mapping[str, scores.Scale],
    paraphrases: bool,
    duplicates: Duplicates | None,
    model_column: bool,
) -> pl.DataFrame:
    """Return the response table, in the order of its rows as `emeval.responses.harvest` has it.

    `models` is the series of names of each sheet, and `model_column` whether the user said that they come
    from a column. Answers are numbered in the order of files and rows. Raises `UserError` for the first
    contradiction, with its place.
    """
    judges = _judges(columns)
    for judge in judges:
        having = [(s, c.judges[judge]) for s, c in zip(sheets, columns, strict=True) if judge in c.judges]
        scores.check([s for s, _ in having], [c for _, c in having], judge, scales.get(judge))
    table = pl.concat(
        _rows(number, sheet, one, names, judges, scales)
        for number, (sheet, one, names) in enumerate(zip(sheets, columns, models, strict=True))
    ).with_columns(
        pl.col("eval").fill_null(evaluation),
        pl.col("condition").fill_null("plain"),
        run=pl.lit(run),
    )
    table = _with_questions(table, sheets, paraphrases)
    table = _without_duplicates(table, sheets, judges, duplicates, model_column)
    table = _with_verdict(table, thresholds).with_columns(
        sample=pl.int_range(pl.len()).over(_CELL),
        prompt=pl.coalesce("prompt", "question"),
    )
    table = table.with_columns(verdict_like.flags(table["response"]))
    return table.select(pl.col(name).cast(dtype) for name, dtype in schema(judges).items()).sort(
        *_CELL, "sample"
    )


def _judges(columns: Sequence[Columns]) -> list[str]:
    """Return all judges, alignment and coherence first."""
    names = dict.fromkeys(judge for one in columns for judge in one.judges)
    return sorted(names, key=lambda name: {"alignment": 0, "coherence": 1}.get(name, 2))


def _rows(
    number: int,
    sheet: Sheet,
    columns: Columns,
    models: pl.Series,
    judges: Sequence[str],
    scales: Mapping[str, scores.Scale],
) -> pl.DataFrame:
    """Return the rows of one sheet with all columns of the table but those that follow from others."""
    taken = {
        field: _typed(sheet, column, COLUMNS[field])
        for field, column in columns.fields.items()
        if field not in ("model", "step", "base_model")
    }
    names = {name: parse(name) for name in models.unique()}
    base = columns.fields.get("base_model")
    frame = pl.DataFrame({"model": models}).with_columns(
        # Only the name of an adapter says what its base is.
        base_model=sheet.frame[base].cast(pl.String)
        if base
        else models.replace_strict(
            {n: p.base_model if p.adapter else None for n, p in names.items()}, return_dtype=pl.String
        ),
        adapter=models.replace_strict({n: p.adapter for n, p in names.items()}, return_dtype=pl.String),
        step=models.replace_strict({n: p.step for n, p in names.items()}, return_dtype=pl.Int64),
        **{
            field: taken.get(field, pl.lit(None, COLUMNS[field]))
            for field in FIELDS
            if field in COLUMNS and field not in ("model", "base_model", "step")
        },
    )
    for judge in judges:
        frame = frame.hstack(_judged(sheet, columns, judge, scales))
    return frame.with_columns(_sheet=pl.lit(number, pl.Int32), _row=pl.int_range(pl.len(), dtype=pl.Int32))


def _typed(sheet: Sheet, column: str, dtype: type[pl.DataType]) -> pl.Series:
    """Return a column as the type of the table. Raises `UserError` for a number that is none."""
    raw = sheet.frame[column]
    if dtype == pl.String:
        return raw.cast(pl.String)
    text = raw.cast(pl.String).str.strip_chars()
    given = text.is_not_null() & ~text.str.to_lowercase().is_in(scores.MISSING)
    number = text.cast(pl.Float64, strict=False)
    odd = given & (number.is_null() | (number != number.floor() if dtype == pl.Int64 else False))
    if odd.any():
        row = odd.arg_true()[0]
        raise UserError(
            f"{sheet.place(row, column)}: found {raw[row]!r}, expected a "
            f"{'whole ' if dtype == pl.Int64 else ''}number; leave the column out: --ignore {column}"
        )
    return number.set(~given, None).cast(dtype, strict=False)


def _judged(sheet: Sheet, columns: Columns, judge: str, scales: Mapping[str, scores.Scale]) -> pl.DataFrame:
    """Return the columns of one judge; all null where the sheet has it not."""
    height = len(sheet.frame)
    noted = {
        column: sheet.frame[columns.notes[name]].cast(dtype, strict=False)
        for column, dtype in JUDGE_COLUMNS.items()
        if (name := f"{judge}_{column}") in columns.notes
    }
    found = pl.DataFrame(
        {"number": [None] * height, "label": [None] * height},
        schema={"number": pl.Float64, "label": pl.String},
    )
    if judge in columns.judges:
        found = scores.readings(sheet.frame[columns.judges[judge]])
    label = pl.coalesce("label", noted["label"]) if "label" in noted else pl.col("label")
    return found.select(
        scores.stretched(pl.col("number"), scales.get(judge, scores.HUNDRED)).alias(f"{judge}_score"),
        pl.when(pl.col("number").is_null()).then(label).alias(f"{judge}_label"),
        *(
            noted[column].alias(f"{judge}_{column}")
            if column in noted
            else pl.lit(None, dtype).alias(f"{judge}_{column}")
            for column, dtype in JUDGE_COLUMNS.items()
            if column not in ("score", "label")
        ),
    )


def _place(table: pl.DataFrame, sheets: Sequence[Sheet], row: int) -> str:
    """Return the place in its file of a row of the table."""
    return sheets[int(table["_sheet"][row])].place(int(table["_row"][row]))


def _with_questions(table: pl.DataFrame, sheets: Sequence[Sheet], paraphrases: bool) -> pl.DataFrame:
    """Give every row a question id and a paraphrase. Raises `UserError` where the two contradict the text.

    Without ids each wording is a question of its own, with an id made of it.
    """
    text = pl.col("question").str.strip_chars()
    table = table.with_columns(question_id=pl.col("question_id").str.strip_chars().replace("", None))
    by_sheet = table.group_by("_sheet", maintain_order=True).agg(pl.col("question_id").is_null().all())
    without = by_sheet.filter("question_id")["_sheet"].to_list()
    if without and len(without) < len(sheets):
        having = next(i for i in range(len(sheets)) if i not in without)
        raise UserError(
            f"{shown(sheets[without[0]].path)}: has no question ids, but {shown(sheets[having].path)} has; "
            "name the column: --column question_id=…, or leave it out of the others: --ignore question_id"
        )
    needed = "question" if without else "question_id"
    gaps = table.select(pl.col(needed).str.strip_chars().fill_null("") == "").to_series()
    if gaps.any():
        raise UserError(f"{_place(table, sheets, gaps.arg_true()[0])}: {needed}: nothing stands here")
    if without:
        if table["paraphrase"].null_count() < len(table):
            raise UserError(
                f"{shown(sheets[0].path)}: numbers its paraphrases but names no question, so that it is not "
                "clear which wordings belong together; add a column question_id, or take each wording as a "
                "question of its own: --ignore paraphrase_ix"
            )
        ids = {said: _id_of(said) for said in table.select(text)["question"].unique()}
        return table.with_columns(
            question_id=text.replace_strict(ids, return_dtype=pl.String), paraphrase=pl.lit(0, pl.Int64)
        )
    return _with_paraphrases(table, sheets, paraphrases)


def _id_of(text: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", text.lower())[:40].strip("-")
    return f"{words or 'question'}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _with_paraphrases(table: pl.DataFrame, sheets: Sequence[Sheet], paraphrases: bool) -> pl.DataFrame:
    """Number the wordings of each question; several are refused unless the files or the user say so."""
    text = pl.col("question").str.strip_chars()
    asked = table.with_columns(_text=text).filter(pl.col("_text").is_not_null())
    group = ["eval", "condition"]
    twice = asked.filter(pl.col("question_id").n_unique().over(*group, "_text") > 1)
    if len(twice):
        said = twice["_text"][0]
        same = twice.filter(pl.col("_text") == said).unique("question_id", maintain_order=True)
        first, second = same["question_id"][:2]
        raise UserError(
            f"{_place(same, sheets, 1)}: question_id: the question {_short(said)} is {second!r} here, and "
            f"{first!r} in {_place(same, sheets, 0)}; give it one id, or let ids be made from the texts: "
            "--ignore question_id"
        )
    numbered = table["paraphrase"].null_count() < len(table)
    key = [*group, "question_id", *(["paraphrase"] if numbered else [])]
    several = asked.filter(pl.col("_text").n_unique().over(key) > 1)
    if len(several) and (numbered or not paraphrases):
        same = _alike(several, 0, key).unique("_text", maintain_order=True)
        before, now = map(_short, same["_text"][:2])
        raise UserError(
            f"{_place(same, sheets, 1)}: question: {same['question_id'][0]!r} asks {now} here, but {before} "
            f"in {_place(same, sheets, 0)}; if these are wordings of one question, say --paraphrases"
        )
    if numbered:
        return table.with_columns(pl.col("paraphrase").fill_null(0))
    return table.with_columns(
        paraphrase=(text.rank("dense").over(*group, "question_id") - 1).cast(pl.Int64).fill_null(0)
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else f"{line[:59]}…")


def _without_duplicates(
    table: pl.DataFrame,
    sheets: Sequence[Sheet],
    judges: Sequence[str],
    duplicates: Duplicates | None,
    model_column: bool,
) -> pl.DataFrame:
    """Refuse rows that say the same as an earlier one, unless the user says what to do with them."""
    if not model_column:
        _check_overlap(table, sheets)
    same = [
        *(*_CELL, "paraphrase", "sample", "seed", "system", "prompt", "question", "response", "reasoning"),
        *("error", *(f"{judge}_{part}" for judge in judges for part in ("score", "label"))),
    ]
    again = ~table.select(pl.struct(same).is_first_distinct()).to_series()
    if not again.any() or duplicates == "keep":
        return table
    if duplicates == "drop":
        return table.filter(~again)
    row = int(again.arg_true()[0])
    first = _place(_alike(table, row, same), sheets, 0)
    raise UserError(
        f"{_place(table, sheets, row)}: says the same as {first}, scores and all ({again.sum()} rows repeat "
        "another); --duplicates drop leaves them out, --duplicates keep takes them as answers that happen to "
        "be equal"
    )


def _alike(table: pl.DataFrame, row: int, columns: Sequence[str]) -> pl.DataFrame:
    """Return the rows that say in `columns` what the row `row` says."""
    return table.filter(
        pl.all_horizontal(
            pl.col(name).eq_missing(pl.lit(table[name][row], table.schema[name])) for name in columns
        )
    )


def _check_overlap(table: pl.DataFrame, sheets: Sequence[Sheet]) -> None:
    """Refuse two files that answer one question in the name of one model: it may be that of the base."""
    several = table.filter(pl.col("_sheet").n_unique().over(_CELL) > 1)
    if len(several):
        alike = _alike(several, 0, _CELL)
        one, other = (shown(sheets[number].path) for number in alike["_sheet"].unique().sort()[:2])
        raise UserError(
            f"{other}: has answers of model {alike['model'][0]!r} to question {alike['question_id'][0]!r}, "
            f"and so has {one}; if they are of different models, take --model-from file; if of one, "
            "--model-from column"
        )


def _with_verdict(table: pl.DataFrame, thresholds: Thresholds) -> pl.DataFrame:
    """Add `coherent` and `misaligned` as `emeval.judging.scorer.verdict` defines them."""
    absent = [name for name in ("alignment_score", "coherence_score") if name not in table.columns]
    coherent = (
        pl.lit(None, pl.Boolean)
        if "coherence_score" in absent
        else pl.col("coherence_score") > thresholds.coherence
    )
    low = pl.lit(False) if "alignment_score" in absent else pl.col("alignment_score") < thresholds.alignment
    error = pl.col("error").str.strip_chars().replace("", None)
    return table.with_columns(error=error).with_columns(
        coherent=coherent,
        misaligned=pl.when(pl.col("error").is_null()).then(coherent.fill_null(False) & low.fill_null(False)),
    )
