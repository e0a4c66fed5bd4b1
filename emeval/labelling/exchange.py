"""Labels in and out: a CSV file with a row for each answer and rater."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from emeval.errors import UserError
from emeval.gold import COLUMNS, GoldLabel, answer_id, guarded, unguarded
from emeval.labelling.drawing import Drawn, kept
from emeval.labelling.rows import ids, rows, text
from emeval.labelling.store import Label, RaterFile, check_rater, raters
from emeval.runs import Run, now


def export(run: Path, file: Path) -> dict[str, Any]:
    """Write all labels of the run directory `run` into the CSV `file`, whole or not at all.

    The strata are those of the drawing that the run has now, whenever a label was given; a label of an answer
    that is not in it has none. Where there is no drawing, they are what each label says of itself.

    A cell that a spreadsheet would take for a formula is guarded (`emeval.gold.guarded`). Returns how many
    `labels` of how many `answers` and `raters` were written. Raises `UserError` if there is no label, and
    for a drawing that cannot be read.
    """
    drawing = kept(run)
    strata = {one.answer: one for one in drawing.answers} if drawing else None
    labels = [_placed(label, strata) for one in raters(run) for label in one.labels().values()]
    if not labels:
        raise UserError(f"{run}: has no labels yet; `emeval label {run}` makes some")
    draft = file.with_name(f".{file.name}.part")
    with draft.open("w", encoding="utf-8", newline="") as out:
        # All in quotes: a lone carriage return in a cell would otherwise end the row for some readers.
        writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(COLUMNS)
        for label in labels:
            row = label.model_dump()
            writer.writerow("" if row[name] is None else guarded(str(row[name])) for name in COLUMNS)
    draft.replace(file)
    return {
        "file": str(file),
        "labels": len(labels),
        "answers": len({label.answer for label in labels}),
        "raters": len({label.rater for label in labels}),
    }


def _placed(label: Label, strata: Mapping[str, Drawn] | None) -> Label:
    if strata is None:
        return label
    drawn = strata.get(label.answer)
    stratum = {"stratum": drawn and drawn.stratum, "stratum_size": drawn and drawn.stratum_size}
    return label.model_copy(update=stratum)


TOLD = {
    "added": "added",
    "changed": "changed: the file's label is the later one",
    "older": "left out: the rater has a later label here",
    "known": "here already",
    "empty": "left out: without a label",
    "unmatched": "left out: their answers are not in this run",
}
"""What becomes of a row, and how that is said."""


def take_in(run: Run, file: Path, rater: str | None = None) -> dict[str, Any]:
    """Take in labels that were made elsewhere: CSV, TSV, JSON lines, JSON or Parquet.

    A row is matched to the run by its column `answer`, else by `question` and `response` to the letter.
    `rater` is who labelled where the file does not say. Where a rater has a label for the answer, the later
    one counts; a row without a time is of now. Returns how many rows came to what (the keys of `TOLD`).

    Raises `UserError` for a file without the columns, and for a label, a rater or a size that is none;
    nothing is taken in then.
    """
    from emeval.importing import sheets  # takes seconds to import, which the page does not need

    sheet = sheets.read(file)
    said = list(rows(sheet))
    texts = _wanted(run, {one for _, _, row in said for one in ids(row)})
    counts = Counter(dict.fromkeys(TOLD, 0))
    before: dict[str, dict[str, Label]] = {}
    new: dict[str, dict[str, Label]] = {}
    for number, given, row in said:
        if given is None:
            counts["empty"] += 1
            continue
        answer = next((one for one in ids(row) if one in texts), None)
        label = _label(
            sheet.place(number), row, given, rater, answer or "", *texts.get(answer or "", ("", ""))
        )
        if answer is None:
            counts["unmatched"] += 1
            continue
        known = before.setdefault(label.rater, RaterFile(run.directory, label.rater).labels())
        became = _compared(known.get(answer), label)
        counts[became] += 1
        if became in ("added", "changed"):
            known[answer] = label
            new.setdefault(label.rater, {})[answer] = label
    for name, labels in new.items():
        RaterFile(run.directory, name).add(list(labels.values()))
    return {"file": str(file), **counts}


def _wanted(run: Run, ids: set[str]) -> dict[str, tuple[str, str]]:
    """Return question and response of each answer of the run whose id is in `ids`."""
    rows = (
        run.scan()
        .filter(pl.col("response").is_not_null())
        .select(pl.col("question").fill_null(""), "response")
    )
    found = {}
    for question, response in rows.collect().iter_rows():
        if (one := answer_id(question, response)) in ids:
            found[one] = (question, response)
    return found


def _label(
    place: str,
    row: Mapping[str, Any],
    said: GoldLabel,
    rater: str | None,
    answer: str,
    question: str,
    response: str,
) -> Label:
    name = text(row, "rater") or rater
    if not name:
        raise UserError(f"{place}: does not say who labelled; say it with --rater NAME")
    size = text(row, "stratum_size").removesuffix(".0")
    if not re.fullmatch(r"[0-9]*", size):
        raise UserError(f"{place}: stratum_size: found {size!r}, expected a whole number")
    return Label(
        answer=answer,
        question=question,
        response=response,
        rater=check_rater(name, f"{place}: rater"),
        label=said,
        note=unguarded(str(row.get("note") or "")),
        labelled=text(row, "labelled") or now(),
        stratum=unguarded(str(row.get("stratum") or "")) or None,
        stratum_size=int(size) if size else None,
    )


def _compared(before: Label | None, label: Label) -> str:
    """Return what becomes of a label where the rater's label of the same answer is `before`."""
    if before is None:
        return "added"
    if (before.label, before.note) == (label.label, label.note):
        return "known"
    return "changed" if label.labelled >= before.labelled else "older"
