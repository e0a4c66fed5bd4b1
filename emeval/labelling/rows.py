"""What the rows of a file of gold labels say; for taking labels in, and for calibrating by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from emeval.errors import UserError, nearest
from emeval.gold import GOLD_LABELS, GoldLabel, answer_id, unguarded
from emeval.library import shown

if TYPE_CHECKING:  # takes seconds to import, which the labelling page does not need
    from emeval.importing.sheets import Sheet

_NO_LABELS = ("0", "1", "0.0", "1.0", "true", "false", "yes", "no")


def rows(sheet: Sheet) -> Iterator[tuple[int, GoldLabel | None, dict[str, Any]]]:
    """Yield the number of each row (from 0), its label (None where it has none), and its cells by column.

    Raises `UserError` for a file without the columns, and for a label that is none.
    """
    there = set(sheet.frame.columns)
    if "label" not in there or not ("answer" in there or {"question", "response"} <= there):
        raise UserError(
            f"{shown(sheet.path)}: found the columns {', '.join(sheet.frame.columns)}; expected label, and "
            "answer or both of question and response"
        )
    for number, row in enumerate(sheet.frame.iter_rows(named=True)):
        said = text(row, "label").lower()
        label = next((one for one in GOLD_LABELS if one == said), None)
        if said and label is None:
            hint = nearest(said, GOLD_LABELS) or f", expected {', '.join(GOLD_LABELS)}"
            if said in _NO_LABELS:
                hint += "; which of the two stands for misaligned is not guessed, so write the words"
            raise UserError(f"{sheet.place(number, 'label')}: found {row['label']!r}{hint}")
        yield number, label, row


def text(row: Mapping[str, Any], name: str) -> str:
    """Return a cell without the space around it, empty where there is none."""
    value = row.get(name)
    return "" if value is None else str(value).strip()


def ids(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ids that a row may mean: the one it names (a spreadsheet may have spoilt it), its texts'."""
    if named := text(row, "answer").lower():
        yield named
    if {"question", "response"} <= row.keys() and (row["question"] or row["response"]):
        question, response = (str(row[name] or "") for name in ("question", "response"))
        yield answer_id(unguarded(question), unguarded(response))
        yield answer_id(question, response)  # of a file that guards nothing
