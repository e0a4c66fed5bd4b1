"""Which column of a file means what: names that are known, and those that the user gives."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from emeval.errors import UserError, nearest, unknown
from emeval.importing import scores
from emeval.importing.sheets import Sheet
from emeval.judging.columns import JUDGE_COLUMNS, is_further
from emeval.library import shown

FIELDS: dict[str, tuple[str, ...]] = {
    "question": ("question", "messages.question"),
    "question_id": ("question_id",),
    "response": ("response", "answer", "completion", "messages.response"),
    "model": ("model",),
    "base_model": ("base_model",),
    "step": ("step",),
    "eval": ("eval",),
    "category": ("category",),
    "paraphrase": ("paraphrase", "paraphrase_ix"),
    "condition": ("condition",),
    "trigger": ("trigger",),
    "sample": ("sample",),
    "seed": ("seed",),
    "target": ("target",),
    "system": ("system", "system_prompt", "messages.system"),
    "prompt": ("prompt", "messages.prompt"),
    "reasoning": ("reasoning", "messages.reasoning"),
    "stop_reason": ("stop_reason",),
    "error": ("error",),
    "input_tokens": ("input_tokens",),
    "output_tokens": ("output_tokens",),
    "seconds": ("seconds",),
}
"""What a column can be, by the names that it is known under. A name is known in capitals too."""

JUDGES: dict[str, tuple[str, ...]] = {
    "alignment": ("alignment_score", "alignment", "aligned"),
    "coherence": ("coherence_score", "coherence", "coherent"),
}
"""The same of the two judges that decide what is misaligned."""

NO_SCORES = re.compile(
    r"unnamed.*|index|row|id|n|.*_(?:id|ix|idx|index|tokens|weight)|idx|epoch|rank|temperature|top_p|"
    r"max_tokens|(?:learning_)?rate|lr|duration|time|latency|cost|date|year|timestamp"
)
"""Names under which numbers stand that are no scores."""

_VERDICTS = ("coherent", "misaligned", "verdict_like")
"""Columns of a response table that follow from its scores and answers and are made anew."""


@dataclass(frozen=True)
class Columns:
    """What was taken from one sheet."""

    fields: dict[str, str]
    """Column by field."""
    judges: dict[str, str]
    """Column of the scores by judge."""
    notes: dict[str, str]
    """Column by `JUDGE_label`, `JUDGE_weight` …: what a response table has beside a score."""


def choose(
    sheets: Sequence[Sheet],
    given: Mapping[str, str],
    ignored: Sequence[str],
    scales: Mapping[str, scores.Scale],
) -> tuple[list[Columns], dict[str, str]]:
    """Return the columns of each sheet, and those that were left out, with the reason.

    `given` is the user's own column of a field or judge, `ignored` are columns to leave out. A further column
    is a judge's if all that stands in it is a score (from 0 to 100, or on its own scale of `scales`), a label
    or nothing, in every file that has it. Raises `UserError` for a name that is nowhere, for two columns that
    could be the same thing, and where there is nothing to ask or to count.
    """
    for column in ignored:
        _check(column, sheets, "--ignore")
    known = [_known(sheet, given, ignored) for sheet in sheets]
    for number, columns in enumerate(known):
        for judge in JUDGES:
            other = next((i for i, one in enumerate(known) if judge in one.judges), None)
            if judge not in columns.judges and other is not None:
                raise UserError(
                    f"{shown(sheets[number].path)}: has no column for {judge}, but "
                    f"{shown(sheets[other].path)} has ({known[other].judges[judge]!r}); name it: "
                    f"--column {judge}=…; columns there: {_listed(sheets[number])}"
                )
    further, left_out = _further(sheets, known, ignored, scales)
    found = [
        Columns(
            one.fields, one.judges | {j: c for j, c in further.items() if c in sheet.frame.columns}, one.notes
        )
        for one, sheet in zip(known, sheets, strict=True)
    ]
    for sheet, one in zip(sheets, found, strict=True):
        _require(sheet, one)
    return found, left_out


def _check(column: str, sheets: Sequence[Sheet], where: str) -> None:
    names = dict.fromkeys(name for sheet in sheets for name in sheet.frame.columns)
    if column not in names:
        raise unknown("column", column, names, where)


def _known(sheet: Sheet, given: Mapping[str, str], ignored: Sequence[str]) -> Columns:
    names = [name for name in sheet.frame.columns if name not in ignored]
    if "alignment_score" in names or "coherence_score" in names:
        names = [name for name in names if name not in _VERDICTS or name in given.values()]
    fields: dict[str, str] = {}
    judges: dict[str, str] = {}
    for name, column in given.items():
        if column not in sheet.frame.columns:
            hint = nearest(column, names) or f"; columns there: {_listed(sheet)}"
            raise UserError(f"{shown(sheet.path)}: has no column {column!r} (--column {name}={column}){hint}")
        (fields if name in FIELDS else judges)[name] = column
    free = {name.casefold(): name for name in reversed(names) if name not in given.values()}
    for found, table in ((fields, FIELDS), (judges, JUDGES)):
        for name, aliases in table.items():
            there = [free[alias] for alias in aliases if alias in free]
            if name in given or not there:
                continue
            own = [column for column in there if not column.startswith("messages.")]
            if len(own) > 1:
                raise UserError(
                    f"{shown(sheet.path)}: {' and '.join(map(repr, own))} could both be the {name}; "
                    f"say which: --column {name}={own[0]}"
                )
            found[name] = (own or there)[0]
    if fields.get("response") and "messages.response" in names:
        _check_chat(sheet, fields["response"])
    return Columns(fields, judges, _notes(judges, names))


def _notes(judges: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    wanted = (f"{judge}_{column}" for judge in judges for column in JUDGE_COLUMNS if column != "score")
    return {name: name for name in wanted if name in names and name not in judges.values()}


def _check_chat(sheet: Sheet, column: str) -> None:
    """Refuse a response that is not the one in the chat beside it."""
    said, chat = sheet.frame[column].cast(pl.String), sheet.frame["messages.response"]
    differs = (said != chat).fill_null(False)
    if differs.any():
        row = differs.arg_true()[0]
        raise UserError(
            f"{sheet.place(row, column)}: differs from the assistant's last message in the chat of this row; "
            f"leave one of the two out: --ignore {column}"
        )


def _further(
    sheets: Sequence[Sheet],
    known: Sequence[Columns],
    ignored: Sequence[str],
    scales: Mapping[str, scores.Scale],
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the columns of further judges, by judge, and why every other column was left out."""
    left_out = dict.fromkeys(ignored, "you said so")
    further: dict[str, str] = {}
    used = {
        column
        for one in known
        for column in (*one.fields.values(), *one.judges.values(), *one.notes.values())
    }
    for column in dict.fromkeys(name for sheet in sheets for name in sheet.frame.columns):
        if column in used or column in left_out or column.startswith("messages."):
            continue
        judge = judge_name(column)
        if column in _VERDICTS and judge not in JUDGES:
            why: str | None = "it follows from the scores, and is made anew"
        elif is_further(column):
            why = "it is of a further judging; `emeval rejudge` makes them"
        elif NO_SCORES.fullmatch(column.casefold()) or "." in column:
            why = "it is not known as a score"
        elif judge in further or judge in FIELDS or any(judge in one.judges for one in known):
            why = f"there is a column for {judge} already"
        else:
            why = scores.why_no_scores(sheets, column, scales.get(judge))
        if why is None:
            further[judge] = column
        else:
            left_out[column] = why
    return further, left_out


def judge_name(column: str) -> str:
    """Return the judge whose scores a column holds: `financial` of `financial_score` or `Financial`."""
    name = re.sub(r"[^a-z0-9_\-]+", "_", column.casefold()).strip("_-")
    return name.removesuffix("_score") or "x"


def given_columns(pairs: Sequence[str]) -> dict[str, str]:
    """Read `FIELD=COLUMN` texts: a field of `FIELDS`, or a judge. Raises `UserError`."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals or not name or not column:
            raise UserError(
                f"--column {pair!r}: expected FIELD=COLUMN, for example --column alignment=aligned"
            )
        known = [*FIELDS, *JUDGES]
        misspelt = judge_name(name) != name or difflib.get_close_matches(name, known, cutoff=0.75)
        if name not in known and misspelt:
            raise unknown("field", name, known, f"--column {pair}")
        if name in found:
            raise UserError(f"--column {pair}: {name} has a column already ({found[name]!r})")
        twice = next((other for other, taken in found.items() if taken == column), None)
        if twice:
            raise UserError(f"--column {pair}: the column is taken for {twice} already")
        found[name] = column
    return found


def _require(sheet: Sheet, columns: Columns) -> None:
    def missing(what: str, option: str, words: Sequence[str]) -> UserError:
        close = [m for word in words for m in difflib.get_close_matches(word, sheet.frame.columns, 1, 0.6)]
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return UserError(
            f"{shown(sheet.path)}: {what}; name it: --column {option}=…{hint} Columns there: {_listed(sheet)}"
        )

    if "response" not in columns.fields:
        raise missing("has no column with the answers", "response", FIELDS["response"])
    if "question" not in columns.fields and "question_id" not in columns.fields:
        raise missing("has no column that says what was asked", "question", ("question", "question_id"))
    if not columns.judges:
        raise missing("has no column with scores", "alignment", JUDGES["alignment"])


def _listed(sheet: Sheet) -> str:
    names = sheet.frame.columns
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
