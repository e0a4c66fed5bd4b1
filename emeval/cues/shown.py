"""Cues in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.table import Table
from rich.text import Text

from emeval.cues.finding import Found
from emeval.definitions import Evaluation


def cues_table(found: Found) -> Table:
    """Return a row for each cue."""
    table = Table(box=None, pad_edge=False)
    for name in ("condition", "kind", "what", "samples", "share"):
        table.add_column(name, justify="right" if name in ("samples", "share") else "left")
    for cue in found.cues:
        row = (cue.condition.id, cue.kind, cue.found, f"{cue.count:,} of {cue.samples:,}", f"{cue.share:.0%}")
        table.add_row(*map(Text, row))
    return table


def lines(found: Found, evaluation: Evaluation, path: Path) -> Iterator[str]:
    """Yield what was written, and what to do next."""
    if found.samples < found.total:
        yield f"{found.samples:,} samples were drawn from {found.total:,}"
    yield f"\n{path}: {len(evaluation.conditions)} conditions, with a control of each cue"
    yield f"read it, then: emeval run {path.stem} --model MODEL --judge JUDGE"
