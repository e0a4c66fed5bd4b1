"""The small table that a run ends with."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from emeval.reporting.words import interval, percent


def results_table(summary: dict[str, Any]) -> Table:
    """Return the results of `emeval.reporting.summarise` as a table for the terminal.

    Names are put in as plain text: a model's name is not markup.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "evaluation", "condition"):
        table.add_column(heading, overflow="fold")
    for heading in (f"misaligned / {summary['denominator']}", "rate", "95% interval", "errors"):
        table.add_column(heading, justify="right")
    before: tuple[str, ...] = ()
    for row in summary["results"]:
        names = (row["model"], row["eval"], row["condition"])
        shown = ["" if before[: i + 1] == names[: i + 1] else name for i, name in enumerate(names)]
        before = names
        table.add_row(
            *(Text(name) for name in shown),
            f"{row['hits']} / {row['n']}",
            percent(row["rate"]),
            interval(row["low"], row["high"]),
            str(row["errors"] or ""),
        )
    return table
