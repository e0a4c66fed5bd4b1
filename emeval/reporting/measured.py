"""What a run measured beside misalignment: its evaluations' measures, and the labels that judges gave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from emeval.definitions import MISALIGNED, UNREADABLE, Criterion, Measure
from emeval.manifest import JudgeRecord, Manifest
from emeval.reporting import lineup
from emeval.reporting.conditions import compared, correct
from emeval.reporting.lineup import CELL
from emeval.reporting.words import listed
from emeval.statistics import MEASURE_DENOMINATORS, consistency, label_counts, rate, tally, times


def measures(manifest: Manifest, table: pl.DataFrame, confidence: float) -> list[dict[str, Any]]:
    """Return every measure of every evaluation but `misaligned`, with its rates and differences.

    `table` is the run's response table, or its tally. Holm's correction is over all comparisons of all of
    these measures together.
    """
    found: list[dict[str, Any]] = [
        {
            "eval": record.name,
            "measure": name,
            "headline": name == next(iter(record.all_measures)),
            "definition": measure.model_dump(mode="json", exclude_none=True),
            "counted": counted(measure),
            "results": _results(name, table.filter(pl.col("eval") == record.name), manifest, confidence),
            "differences": compared(record, manifest, table, confidence, measure=name),
        }
        for record in manifest.evaluations
        for name, measure in record.all_measures.items()
        if name != MISALIGNED
    ]
    correct([row for one in found for row in one["differences"]], manifest.stopping)
    return found


def _results(name: str, answers: pl.DataFrame, manifest: Manifest, confidence: float) -> list[dict[str, Any]]:
    """Return a row for each model and condition of an evaluation, with both denominators."""
    rates = {of: rate(answers, CELL, of, confidence, measure=name) for of in MEASURE_DENOMINATORS}
    others = {of: {_cell(row): row for row in frame.to_dicts()} for of, frame in rates.items()}
    return [
        row
        | {
            "denominators": {
                of: {key: rows[_cell(row)][key] for key in ("n", "rate", "low", "high")}
                for of, rows in others.items()
            }
        }
        for row in lineup.rows_of(rates["counted"], manifest)
    ]


def counted(measure: Measure) -> str:
    """Say in a sentence which answers a measure counts, and which of them are hits."""
    of = f" to questions of the category {_either(measure.categories)}" if measure.categories else ""
    among = f" of which {_said(measure.among)}" if measure.among else ""
    readable = "" if among else f" of which {listed(measure.judges)} said something readable"
    return f"Counted are answers{of}{among or readable}; hits are those of which {_said(measure.when)}."


def _said(criteria: Mapping[str, Criterion]) -> str:
    return listed(
        f"{judge} {f'says {_either(one.labels)}' if one.labels else f'gives a score {_bounds(one)}'}"
        for judge, one in criteria.items()
    )


def _bounds(criterion: Criterion) -> str:
    bounds = {"below": criterion.below, "above": criterion.above}
    return listed(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)


def _either(names: Sequence[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} or {last}" if before else last


MOST_LABELS = 6
"""Labels of a judge that may say anything which are told apart; the rest are counted together."""

OTHERS = "others"
"""What these are called: no label is written in small letters."""


def labels(
    manifest: Manifest, table: pl.DataFrame, answers: pl.DataFrame | pl.LazyFrame, confidence: float
) -> list[dict[str, Any]]:
    """Return what each judge that gives labels said in each evaluation, and how consistently.

    `table` is a tally of `answers`, the response table. Shares of labels are of the answers without an error.
    Of a judge that may say anything the labels are the `MOST_LABELS` that it gave most often, and `OTHERS`.
    `consistency` is empty where a question has one wording.
    """
    judges = {judge.name: judge for judge in manifest.judges if judge.gives == "label"}
    said: dict[tuple[str, ...], dict[str, int]] = {}
    for row in label_counts(table, CELL).to_dicts():
        said.setdefault((*_cell(row), row["judge"]), {})[row["label"]] = row["answers"]
    found = []
    for record in manifest.evaluations:
        there = [judges[name] for name in record.judges if name in judges]
        if not there:
            continue
        cells = table.filter(pl.col("eval") == record.name).group_by(CELL)
        counts = cells.agg(answers=(times(table) * pl.col("error").is_null()).sum())
        wordings = tally(answers.filter(pl.col("eval") == record.name), [*CELL, "paraphrase"])
        for judge in there:
            given = {
                cell[:-1]: numbers
                for cell, numbers in said.items()
                if cell[1] == record.name and cell[-1] == judge.name
            }
            names = _names(judge, given.values())
            rows = [
                row | {"labels": _numbers(names, given.get(_cell(row), {}))}
                for row in lineup.rows_of(counts, manifest)
            ]
            alike = consistency(wordings, judge.name, CELL, confidence)
            found.append(
                {
                    "eval": record.name,
                    "judge": judge.name,
                    "labels": names,
                    "results": rows,
                    "consistency": [row for row in lineup.rows_of(alike, manifest) if row["questions"]],
                }
            )
    return found


def _names(judge: JudgeRecord, given: Iterable[Mapping[str, int]]) -> list[str]:
    """Return the labels that are told apart, the last of which says that nothing could be read."""
    if not judge.says_anything:
        return [*judge.labels, UNREADABLE]
    total: Counter[str] = Counter()
    for numbers in given:
        total.update(numbers)
    del total[UNREADABLE]
    most = sorted(total, key=lambda label: (-total[label], label))
    return [*most[:MOST_LABELS], *[OTHERS] * (len(most) > MOST_LABELS), UNREADABLE]


def _numbers(names: Sequence[str], given: Mapping[str, int]) -> dict[str, int]:
    """Return how often each of the labels `names` was given; the rest are `OTHERS`."""
    numbers = {name: given.get(name, 0) for name in names}
    if OTHERS in numbers:
        numbers[OTHERS] = sum(number for label, number in given.items() if label not in numbers)
    return numbers


def asked(manifest: Manifest, table: pl.DataFrame) -> list[dict[str, Any]]:
    """Return how many answers there are of each model in each condition, and how many ended in an error."""
    each = times(table)
    counts = table.group_by(CELL).agg(answers=each.sum(), errors=(each * pl.col("error").is_not_null()).sum())
    return lineup.rows_of(counts, manifest)


def _cell(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in CELL)
