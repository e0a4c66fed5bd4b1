"""What the terminal shows of a calibration."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from emeval.reporting.calibration import gold_sentence, halving
from emeval.reporting.words import DENOMINATORS, MISSING, interval, percent

__all__ = ["error_table", "gold_sentence", "results_table"]


def error_table(content: dict[str, Any]) -> Table:
    """Return the judge's error, a row for all answers and for each model and category with labels enough."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("judge's error", overflow="fold")
    for heading in ("found", "sensitivity", "left alone", "specificity"):
        table.add_column(heading, justify="right")
    for row in content["error"]:
        table.add_row(
            Text("all answers" if row["by"] == "all" else f"{row['by']} {row['name']}"),
            f"{row['found']} of {row['positive']}",
            _with_interval(row, "sensitivity"),
            f"{row['cleared']} of {row['negative']}",
            _with_interval(row, "specificity"),
        )
    return table


def _with_interval(row: dict[str, Any], name: str) -> str:
    if row[name] is None:
        return MISSING
    return f"{percent(row[name])} ({interval(row[f'{name}_low'], row[f'{name}_high'])})"


def results_table(content: dict[str, Any]) -> Table:
    """Return raw and corrected rates, a row for each model, evaluation and condition."""
    rows = content["results"]
    places = [
        name for name in ("model", "eval", "condition") if name == "model" or len({r[name] for r in rows}) > 1
    ]
    by_ppi = any(row["ppi"] is not None for row in rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place in places:
        table.add_column({"eval": "evaluation"}.get(place, place), overflow="fold")
    table.add_column(f"of {DENOMINATORS[content['denominator']]}", justify="right")
    kinds = ["raw", "corrected", *(["ppi"] if by_ppi else [])]
    for kind in kinds:
        table.add_column({"ppi": "PPI++"}.get(kind, kind), justify="right")
    table.add_column("to halve it", justify="right")
    for row in rows:
        table.add_row(
            *(Text(row[place]) for place in places),
            f"{row['hits']} / {row['n']}",
            *(_with_interval(row, kind) for kind in kinds),
            halving(row),
        )
    return table
