"""`emeval calibrate`: the judge's error from gold labels, and every rate of the run corrected for it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from emeval import __version__
from emeval.calibrating import doubts, labels
from emeval.calibrating.likeness import distances
from emeval.calibrating.verdicts import CELL, Labelled, answers_of, cells, labelled
from emeval.comparability import judge_mismatches
from emeval.errors import UserError
from emeval.reporting import calibration as kept
from emeval.reporting import looks
from emeval.runs import Run, now
from emeval.statistics.clustered import ASSUMED_CORRELATION
from emeval.statistics.judge_error import (
    Measured,
    corrected,
    labels_to_halve,
    parts,
    ppi_plus_plus,
    sampled_error,
    share,
    youden,
)

LEAST = 10
"""Gold positives or negatives that a model's or category's own sensitivity or specificity is shown from."""


@dataclass(frozen=True)
class Calibration:
    """What gold labels say of a run's judge."""

    run: Run
    content: dict[str, Any]
    """What `calibration.json` holds; its keys are described in `docs/calibration.md`."""

    def write(self) -> Path:
        """Write the file into the run directory, whole or not at all, and return its path."""
        path = kept.path(self.run.directory, self.run.judging)
        draft = path.with_name(f".{path.name}.part")
        text = json.dumps(self.content, ensure_ascii=False, allow_nan=False, indent=1)
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(path)
        return path


def calibrate(
    run: Run | Path | str, gold: Sequence[Path | str], source: Run | Path | str | None = None
) -> Calibration:
    """Hold gold labels against the judge of `run`, and correct the run's rates for the judge's error.

    `gold` are files of labels; `source` is the run whose answers were labelled, if it is another one: its
    judge must be the same. Nothing is written before `Calibration.write`.

    Raises `UserError` for a run that is not finished, a file that cannot be used, labels that fit no answer,
    and a source with another judge.
    """
    judged = run if isinstance(run, Run) else Run(run)
    origin = judged if source is None else source if isinstance(source, Run) else Run(source)
    for one in (judged, origin):
        if one.manifest.status == "started":
            raise UserError(f"{one.path}: this run is not finished; start its command again first")
    unequal = [] if origin is judged else judge_mismatches(origin.manifest, judged.manifest)
    if known_unequal := [mismatch for mismatch in unequal if mismatch.known]:
        raise UserError(
            f"{origin.path}: its answers were judged otherwise than those of {judged.path} "
            f"({known_unequal[0]}): the error of the one judge says nothing of the other; judge one of the "
            "runs as the other was"
        )
    found = labels.read([Path(file) for file in gold])
    known = labelled(origin, found, answers_of(origin, found.answers))
    own = known if origin is judged else None
    population = known.population if own else _population(judged)
    sure = looks.confidence(judged.manifest.stopping)
    whole = _error(known, "all", None, sure)
    measured = whole.pop("measured")
    content: dict[str, Any] = {
        "schema": kept.SCHEMA,
        "emeval": __version__,
        "created": now(),
        "run": judged.manifest.run,
        "judging": judged.judging,
        "labelled_run": origin.manifest.run,
        "denominator": "coherent",
        "confidence": sure,
        "judges": kept.judges(judged.manifest),
        "thresholds": {one.name: one.thresholds.model_dump() for one in judged.manifest.evaluations},
        "gold": {"files": found.files, "weighted": known.weighted, **known.counted},
        "error": [whole, *_parted(known, sure)],
        "results": [
            _corrected(cell, population, own, measured, known, sure) for cell in cells(population, CELL)
        ],
        "likeness": distances(known, judged, population),
        "not_known": [mismatch.what for mismatch in unequal],
    }
    content["warnings"] = list(doubts.doubts(content))
    return Calibration(judged, content)


def _population(run: Run) -> pl.DataFrame:
    from emeval.statistics.counting import count_by_question, tally

    by = [*CELL, "category"]
    return count_by_question(tally(run.scan(), by), by, "coherent")


def _measure(known: Labelled, sure: float) -> tuple[Measured, Measured]:
    """Return sensitivity and specificity, by what the labelled answers stand for.

    `sure` is the confidence of their bounds.
    """
    hits, n, gold = known.arrays()
    if known.weighted:
        return sampled_error(hits, n, gold, sure, ASSUMED_CORRELATION)
    return (
        share(gold.found, gold.found + gold.missed, sure),
        share(gold.cleared, gold.cleared + gold.false_alarms, sure),
    )


def _error(known: Labelled, by: str, name: str | None, sure: float) -> dict[str, Any]:
    """Return a row of the judge's error: counts as they are, shares by what they stand for."""
    sensitivity, specificity = _measure(known, sure)
    counts = known.confusion()
    positive, negative = counts["found"] + counts["missed"], counts["cleared"] + counts["false_alarms"]
    enough = by == "all" or positive >= LEAST, by == "all" or negative >= LEAST
    return {
        "by": by,
        "name": name,
        **counts,
        "positive": positive,
        "negative": negative,
        **_shown("sensitivity", sensitivity, enough[0]),
        **_shown("specificity", specificity, enough[1]),
        **_shown("youden", youden(sensitivity, specificity), all(enough)),
        **({"measured": (sensitivity, specificity)} if by == "all" else {}),
    }


def _parted(known: Labelled, sure: float) -> list[dict[str, Any]]:
    """Return the judge's error by model and by category, where there are several and labels enough."""
    rows = []
    for by in ("model", "condition", "category"):
        values = [value for (value,) in cells(known.population, [by]) if value is not None]
        for value in values if len(values) > 1 else ():
            row = _error(known.within(**{by: value}), by, value, sure)
            if row["sensitivity"] is not None or row["specificity"] is not None:
                rows.append(row)
    return rows


def _corrected(
    cell: tuple[str, str, str],
    population: pl.DataFrame,
    own: Labelled | None,
    error: tuple[Measured, Measured],
    known: Labelled,
    sure: float,
) -> dict[str, Any]:
    """Return a cell's rate as the judge has it, corrected, and by PPI++."""
    where = dict(zip(CELL, cell, strict=True))
    part = Labelled(known.gold.clear(), population, known.weighted, {}).within(**where)
    hits, n, _ = part.arrays()
    rate = share(hits, n, sure, ASSUMED_CORRELATION)
    sensitivity, specificity = error
    row: dict[str, Any] = {
        **where,
        "n": int(n.sum()),
        "hits": int(hits.sum()),
        **_shown("raw", rate),
        **_shown("corrected", corrected(rate, sensitivity, specificity), bool(n.sum())),
    }
    counts = known.confusion()
    sources = parts(rate, sensitivity, specificity)
    row["parts"] = {name: _number(value) for name, value in sources._asdict().items()}
    row["halving"] = labels_to_halve(
        sources, counts["found"] + counts["missed"], counts["cleared"] + counts["false_alarms"]
    )
    mine = own.within(**where) if own else None
    row["labels"] = mine.gold.height if mine else 0
    enough = mine is not None and mine.gold.height >= kept.LEAST_LABELS
    nothing = Measured(*(np.asarray(math.nan),) * 3)
    row |= _shown("ppi", ppi_plus_plus(*mine.arrays(), sure) if mine and enough else nothing, enough)
    return row


def _shown(name: str, measured: Measured, known: bool = True) -> dict[str, float | None]:
    """Return value and bounds as plain numbers, null where there are none."""
    value = _number(measured.value)
    there = known and value is not None
    return {
        name: value if there else None,
        f"{name}_low": _number(measured.low) if there else None,
        f"{name}_high": _number(measured.high) if there else None,
    }


def _number(value: Any) -> float | None:  # noqa: ANN401  # a number of numpy's, of any kind
    number = float(value)
    return number if math.isfinite(number) else None
