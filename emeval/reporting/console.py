"""The small table that a run ends with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table
from rich.text import Text

from emeval.reporting.comparison import compared_rows
from emeval.reporting.lineup import CELL
from emeval.reporting.words import interval, p_value, percent, points


def comparison_tables(summary: dict[str, Any]) -> list[Table]:
    """Return the content of `comparison.json` as tables for the terminal: `misaligned`, the others."""
    return [*([comparison_table(summary)] if summary["results"] else []), *measures_tables(summary)]


def comparison_table(summary: dict[str, Any]) -> Table:
    """Return the content of `comparison.json` as a table for the terminal; of a training the last step.

    The evaluation and the condition have a column where there are several.
    """
    rows = compared_rows(summary)
    label = {model["name"]: model["label"] for model in summary["models"]}
    places = [name for name in ("eval", "condition") if len({row[name] for row in rows}) > 1]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold")
    for place in places:
        table.add_column({"eval": "evaluation"}.get(place, place), overflow="fold")
    for heading in (
        f"of {summary['denominator']}",
        "rate",
        "95% interval",
        "points",
        "95% interval",
        "p (Holm)",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        found = row["difference"]
        table.add_row(
            *(Text(name) for name in (label[row["model"]], *(row[place] for place in places))),
            f"{row['hits']} / {row['n']}",
            percent(row["rate"]),
            interval(row["low"], row["high"]),
            points(found["difference"]) if found else "",
            f"{points(found['low'])} to {points(found['high'])}"
            if found
            else "reference" * row["held_against"],
            p_value(found["p_holm"]) if found else "",
        )
    return table


def sweep_tables(summary: dict[str, Any]) -> list[Table]:
    """Return the curves of a sweep as a table, and what stands in none (a single checkpoint) in another."""
    drawn = {row["model"] for training in summary["trainings"] for row in training["points"]}
    single = any(row["model"] not in drawn and row["difference"] for row in compared_rows(summary))
    return [curve_table(summary)] * bool(drawn) + [comparison_table(summary)] * single


def curve_table(summary: dict[str, Any]) -> Table:
    """Return the curves of a comparison over training as a table for the terminal: a row for each step.

    The training has a column where there are several; each evaluation and condition has one, with the
    misaligned answers, those that they are counted among, the rate and its interval.
    """
    trainings = summary["trainings"]
    points = [row for training in trainings for row in training["points"]]
    cells = list(dict.fromkeys((row["eval"], row["condition"]) for row in points))
    several, evaluations = len(trainings) > 1, {evaluation for evaluation, _ in cells}
    table = Table(box=None, pad_edge=False, header_style="bold")
    if several:
        table.add_column("training", overflow="fold")
    table.add_column("step", justify="right")
    for evaluation, condition in cells:
        heading = condition if len(evaluations) == 1 else f"{evaluation}, {condition}"
        table.add_column(Text(f"{heading}, misaligned / {summary['denominator']}"), justify="right")
    for training in trainings:
        there = {(row["step"], row["eval"], row["condition"]): row for row in training["points"]}
        for step in sorted({row["step"] for row in training["points"]}):
            shown = [there.get((step, *cell)) for cell in cells]
            table.add_row(
                *[Text(training["label"])] * several,
                f"{step:,}",
                *(_counted(row) if row else "" for row in shown),
            )
    return table


def _counted(row: Mapping[str, Any]) -> str:
    return f"{row['hits']} / {row['n']}  {percent(row['rate'])} ({interval(row['low'], row['high'])})"


def comparison_notes(summary: dict[str, Any]) -> list[str]:
    """Return what the terminal says below the table of a comparison: what is unequal, then the cautions."""
    unequal = [
        f"Run {pair['other']} is not like run {pair['one']} ({pair['one']} is the one, {pair['other']} the "
        f"other): {'; '.join(pair['differs'])}."
        for pair in summary["unequal"]
    ]
    return [*unequal, *summary["cautions"]]


def onset_lines(summary: dict[str, Any]) -> list[str]:
    """Return since which step each training of a comparison is above its start, a line per condition."""
    return [
        f"{training['label']}, {row['eval']}, {row['condition']}: {row['said']}"
        for training in summary["trainings"]
        for row in training["onsets"]
    ]


def error_lines(table: Path, most: int = 3) -> list[str]:
    """Return the commonest errors of the answers in `table`: how many, of which model, what was said."""
    failed = pl.scan_parquet(table).filter(pl.col("error").is_not_null())
    found = failed.group_by("model", "error").len().sort(-pl.col("len").cast(pl.Int64), "model", "error")
    rows = found.collect().rows()
    lines = [f"{count} of {model}: {error}" for model, error, count in rows[:most]]
    others = sum(count for _, _, count in rows[most:])
    return [*lines, f"{others} with other errors"] if others else lines


def result_tables(summary: dict[str, Any]) -> list[Table | Text]:
    """Return what `emeval.reporting.summarise` found as tables for the terminal: `misaligned`, the others.

    A sentence, where no judge says what a rate is made of.
    """
    tables = [*([results_table(summary)] if summary["results"] else []), *measures_tables(summary)]
    return [*tables] or [
        Text("No rate: no measure is made of these labels. The report shows how often each was given.")
    ]


def measures_tables(summary: dict[str, Any]) -> list[Table]:
    """Return a table for each measure other than `misaligned`, of a report or a comparison.

    The last two columns are each condition's difference from what it is held against, where there is one.
    """
    label = {model["name"]: model["label"] for model in summary["models"]}
    return [_measure_table(one, label) for one in summary["measures"]]


def _measure_table(one: dict[str, Any], label: dict[str, str]) -> Table:
    title = Text(f"\n{one['eval']}: {one['measure']}", style="bold")
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for heading in ("model", "condition"):
        table.add_column(heading, overflow="fold")
    for heading in (
        "hits / counted",
        "rate",
        "95% interval",
        *["points", "p (Holm)"] * bool(one["differences"]),
    ):
        table.add_column(heading, justify="right")
    differences = {tuple(row[name] for name in CELL): row for row in reversed(one["differences"])}
    before = None
    for row in one["results"]:
        found = differences.get(tuple(row[name] for name in CELL))
        table.add_row(
            Text(label[row["model"]] if row["model"] != before else ""),
            Text(row["condition"]),
            f"{row['hits']} / {row['n']}",
            percent(row["rate"]),
            interval(row["low"], row["high"]),
            *([points(found["difference"]), p_value(found["p_holm"])] if found else []),
        )
        before = row["model"]
    return table


def results_table(summary: dict[str, Any]) -> Table:
    """Return the results of `emeval.reporting.summarise` as a table for the terminal.

    Models are called what the page calls them. The evaluation and the condition have a column where there
    are several, errors where there are some. Names are put in as plain text: a model's name is not markup.
    """
    rows = summary["results"]
    label = {model["name"]: model["label"] for model in summary["models"]}
    places = [name for name in ("eval", "condition") if len({row[name] for row in rows}) > 1]
    errors = any(row["errors"] for row in rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place in ("model", *places):
        table.add_column({"eval": "evaluation"}.get(place, place), overflow="fold")
    for heading in (f"misaligned / {summary['denominator']}", "rate", "95% interval", *["errors"] * errors):
        table.add_column(heading, justify="right")
    before: tuple[str, ...] = ()
    for row in rows:
        names = (label[row["model"]], *(row[place] for place in places))
        shown = ["" if before[: i + 1] == names[: i + 1] else name for i, name in enumerate(names)]
        before = names
        table.add_row(
            *(Text(name) for name in shown),
            f"{row['hits']} / {row['n']}",
            percent(row["rate"]),
            interval(row["low"], row["high"]),
            *[str(row["errors"] or "")] * errors,
        )
    return table
