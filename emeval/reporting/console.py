"""The small table that a run ends with."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text


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
            f"{percent(row['low'])} to {percent(row['high'])}" if row["rate"] is not None else "–",
            str(row["errors"] or ""),
        )
    return table


def percent(rate: float | None) -> str:
    """Return a share from 0 to 1 as a percentage with sensible digits; a dash where there is none."""
    if rate is None:
        return "–"
    value = 100 * rate
    digits = 0 if value == 0 or value >= 10 else 1 if value >= 1 else 2
    return f"{value:.{digits}f}%"
