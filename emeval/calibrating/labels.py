"""Reads files of gold labels, and settles what several raters say of one answer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emeval.errors import UserError
from emeval.gold import GoldLabel
from emeval.importing import sheets
from emeval.importing.sheets import Sheet
from emeval.labelling.rows import ids, rows, text
from emeval.library import shown

_TWO_DRAWINGS = (
    "labels of two drawings cannot be weighed as one; `emeval label RUN --export FILE` writes all labels of "
    "the run with the strata of its present drawing"
)


@dataclass(frozen=True)
class Stratum:
    """The part of a run that an answer was drawn from."""

    name: str
    size: int
    """Answers of the run in it."""


@dataclass(frozen=True)
class Settled:
    """What the raters say of one answer, taken together."""

    label: GoldLabel
    """That of most raters that are sure; `unsure` where none is, or where as many say one as another."""
    raters: int
    agreed: bool
    """Whether all raters that are sure say the same."""
    stratum: Stratum | None


@dataclass(frozen=True)
class Row:
    """A label as a file has it."""

    place: str
    answers: tuple[str, ...]
    """Ids that the row may mean, the likeliest first."""
    rater: str
    label: GoldLabel
    stratum: Stratum | None


@dataclass
class Labels:
    """The labels of all files, row by row."""

    rows: list[Row] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    """Name, SHA-256 and number of labels of each."""
    empty: int = 0
    """Rows without a label."""

    @property
    def answers(self) -> set[str]:
        """All ids that the rows may mean."""
        return {answer for row in self.rows for answer in row.answers}

    @property
    def raters(self) -> int:
        """How many raters there are; those without a name are one."""
        return len({row.rater for row in self.rows})

    def settled(self, known: set[str]) -> dict[str, Settled]:
        """Return what the raters say by answer (`gold.answer_id`), taken together.

        `known` are the answers that there are: a row is of the first of its ids that is known, else of the
        first. Raises `UserError` for a rater with two labels for one answer, an answer in two strata, and a
        stratum with two sizes.
        """
        by_answer: dict[str, dict[str, Row]] = defaultdict(dict)
        strata: dict[str, Row] = {}
        sizes: dict[str, tuple[int, str]] = {}
        for row in self.rows:
            answer = next((one for one in row.answers if one in known), row.answers[0])
            other = by_answer[answer].setdefault(row.rater, row)
            if other.label != row.label:
                raise UserError(
                    f"{row.place}: {_named(row.rater)} says {row.label} of an answer of which {other.place} "
                    f"says {other.label}; leave one of the two"
                )
            if row.stratum:
                drawn = strata.setdefault(answer, row)
                if drawn.stratum and drawn.stratum.name != row.stratum.name:
                    raise UserError(
                        f"{row.place}: stratum: found {row.stratum.name!r} for an answer that {drawn.place} "
                        f"has in {drawn.stratum.name!r}; {_TWO_DRAWINGS}"
                    )
                size, place = sizes.setdefault(row.stratum.name, (row.stratum.size, row.place))
                if size != row.stratum.size:
                    raise UserError(
                        f"{row.place}: stratum_size: the stratum {row.stratum.name!r} has {row.stratum.size} "
                        f"answers here and {size} at {place}; {_TWO_DRAWINGS}"
                    )
        return {answer: _settled(list(by_rater.values())) for answer, by_rater in by_answer.items()}


def read(paths: Sequence[Path]) -> Labels:
    """Read gold labels from files (CSV, TSV, JSON lines, JSON, Parquet) with the columns of `emeval.gold`.

    Needed are `label`, and `answer` or both of `question` and `response`, to the letter. Raises `UserError`
    with file and line for a file without the columns, a label that is none, and a stratum without a size.
    """
    if not paths:
        raise UserError(
            "name a file of gold labels: --gold FILE; `emeval label RUN --export FILE` writes one"
        )
    found = Labels()
    for path in paths:
        sheet = sheets.read(path)
        said = list(_rows(sheet))
        labels = [row for row in said if row is not None]
        found.rows += labels
        found.empty += len(said) - len(labels)
        found.files.append({"file": shown(path), "sha256": sheet.sha256, "labels": len(labels)})
    return found


def _rows(sheet: Sheet) -> Iterator[Row | None]:
    """Yield the labels of a file, and None for a row without one."""
    for number, label, row in rows(sheet):
        if label is None:
            yield None
            continue
        answers = tuple(ids(row))
        if not answers:
            raise UserError(f"{sheet.place(number, 'answer')}: is empty; a label is of an answer")
        yield Row(
            place=sheet.place(number),
            answers=answers,
            rater=text(row, "rater"),
            label=label,
            stratum=_stratum(sheet, number, row),
        )


def _stratum(sheet: Sheet, number: int, row: Mapping[str, Any]) -> Stratum | None:
    name, size = text(row, "stratum"), text(row, "stratum_size").removesuffix(".0")
    if not name and not size:
        return None
    if not name or not size.isdecimal() or not int(size):
        raise UserError(
            f"{sheet.place(number, 'stratum_size')}: found {size!r} for the stratum {name!r}, expected a "
            "name and the number of answers in it, or neither"
        )
    return Stratum(name, int(size))


def _settled(rows: Sequence[Row]) -> Settled:
    votes = Counter(row.label for row in rows if row.label != "unsure")
    most = votes.most_common(2)
    tied = len(most) > 1 and most[0][1] == most[1][1]
    return Settled(
        label=most[0][0] if most and not tied else "unsure",
        raters=len(rows),
        agreed=len(votes) < 2,
        stratum=next((row.stratum for row in rows if row.stratum), None),
    )


def _named(rater: str) -> str:
    return f"the rater {rater!r}" if rater else "a rater without a name"
