"""Runs held against each other: `emeval.compare`."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emeval import library
from emeval.errors import UserError
from emeval.runs import Run

if TYPE_CHECKING:
    from emeval.reporting.comparison import Comparison as Compared


class Comparison:
    """Runs that are held against each other, model by model or condition by condition."""

    def __init__(self, runs: Sequence[Run], reference: str | None = None) -> None:
        self.runs = list(runs)
        self.wanted = reference

    @cached_property
    def compared(self) -> Compared:
        """What is compared with what. Raises `UserError` as `compare` does."""
        from emeval.reporting.comparison import Comparison as Compared
        from emeval.reporting.entrants import Source

        return Compared(
            [
                Source(name, run.manifest, run.scan(), run.directory.resolve())
                for name, run in zip(_names(self.runs), self.runs, strict=True)
            ],
            self.wanted,
        )

    def summary(self) -> dict[str, Any]:
        """Return the content of `comparison.json`."""
        return self.compared.summary

    def report(self, out: Path | None = None, files: bool = True) -> Path:
        """Write the pages (by default into `default_directory()`) and return the path of the page.

        With `files` every chart is a file too.
        """
        from emeval.reporting.comparison_page import write_comparison

        return write_comparison(
            self.compared,
            out or self.default_directory(),
            templates=library.folders("reports")[:-1],
            files=files,
        )

    def default_directory(self) -> Path:
        """Return `runs/compare-HASH`: the same runs with the same reference have the same directory."""
        identity = [[str(run.path), run.manifest.plan_sha256] for run in self.runs]
        content = json.dumps([identity, self.compared.reference])
        return Path("runs") / f"compare-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def compare(runs: Sequence[Run | Path | str], reference: str | None = None) -> Comparison:
    """Hold the models of all `runs` (directories, or `Run`s) against a reference.

    `reference` is a model (its name, `RUN: MODEL` where several runs asked it, or the name of a run that has
    one model) or a condition; by default the base model of another one, else the first model; of one model
    alone its evaluation's reference condition. Raises `UserError` for a directory that is no run or is named
    twice, for a reference that is not there, and where nothing shares a question with it.
    """
    if not runs:
        raise UserError("name a run directory to compare; several may be given")
    opened = [run if isinstance(run, Run) else Run(run) for run in runs]
    there = Counter(run.path.resolve() for run in opened)
    twice = next((path for path, number in there.items() if number > 1), None)
    if twice is not None:
        raise UserError(f"{library.shown(twice)}: this run is named twice; once is enough")
    comparison = Comparison(opened, reference)
    _ = comparison.compared  # a reference that is not there is an error now
    return comparison


def _names(runs: Sequence[Run]) -> list[str]:
    """Return what to call each run: the name of its directory, with those above it where two are the same."""
    paths = [run.path.resolve() for run in runs]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
