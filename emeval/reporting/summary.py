"""What a report says, as plain data: the content of `report.json`, and what the pages are made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from polars import selectors

from emeval import __version__
from emeval.definitions import UNREADABLE
from emeval.judging.mixtures import instruments
from emeval.manifest import Manifest
from emeval.reporting import (
    calibration,
    flagged,
    judge_cards,
    lineup,
    looks,
    measured,
    panel,
    quality,
    thresholds,
    words,
)
from emeval.reporting.conditions import differences
from emeval.reporting.lineup import CELL, has_misaligned, rows_of
from emeval.statistics import (
    DENOMINATORS,
    OUTCOMES,
    by_question,
    label_counts,
    outcomes,
    rate,
    tally,
    times,
)

SCHEMA = 1
"""Version of the format of `report.json`: adding a key is fine, renaming one makes it 2."""

_READ = {
    "error": pl.String,
    "alignment_score": pl.Float64,
    "coherence_score": pl.Float64,
    "coherent": pl.Boolean,
    "misaligned": pl.Boolean,
}


def summarise(
    manifest: Manifest,
    table: pl.DataFrame | pl.LazyFrame,
    denominator: str = "coherent",
    calibrated: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a run found, as plain data that `json.dumps` takes: null where there is no number.

    `table` is the run's response table, of which only what is counted is read; `denominator` is what the
    shown rates are divided by (`coherent`, `scored` or `all`); `calibrated` is what `calibration.read` found
    in the run directory. The keys of the result are described in
    `docs/report.md`. Raises `UserError` for an unknown denominator and for a table that is not a response
    table.
    """
    used = instruments(table, [judge.name for judge in manifest.judges])
    answers, table = table, with_judgements(tally(table, CELL))
    sure = looks.confidence(manifest.stopping)
    # What has measures of its own, and is not judged for alignment and coherence, has no say in `misaligned`.
    there = [record.name for record in manifest.evaluations if not has_misaligned(record, manifest.judges)]
    has = pl.col("eval").is_in(there).not_()
    scored, judged = table.filter(has), answers.filter(has)
    shown = rate(scored, CELL, denominator, sure)
    results = _results(manifest, scored, shown, denominator, sure)
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "run": manifest.run,
        "emeval": __version__,
        "created": manifest.created,
        "denominator": denominator,
        "models": _models(manifest),
        "evaluations": [record.model_dump(mode="json") for record in manifest.evaluations],
        "judges": [
            record.model_dump(mode="json")
            | {"quality": [quality.measured(entry) for entry in record.quality]}
            | {"instruments": used.get(record.name, [])}
            for record in manifest.judges
        ],
        "judge_cards": judge_cards.known(manifest.judges),
        "asked": measured.asked(manifest, table),
        "results": results,
        "measures": measured.measures(manifest, table, sure),
        "labels": measured.labels(manifest, table, answers, sure),
        "calibration": calibration.section(calibrated, manifest, results),
        "checkpoints": _checkpoints(manifest, results),
        "differences": differences(manifest, scored, sure, denominator),
        "categories": rows_of(
            rate(
                scored.filter(pl.col("category").is_not_null()),  # an imported file may name none
                (*CELL, "category"),
                denominator,
                sure,
            ),
            manifest,
        ),
        "questions": rows_of(by_question(scored, CELL, denominator, sure), manifest),
        "confidence": sure,
        "stopping": [record.model_dump() | {"line": words.stopping(record)} for record in manifest.stopping],
        "usage": [record.model_dump() for record in manifest.usage],
        "cost_usd": manifest.cost_usd,
        "seconds": manifest.seconds,
        "seed": manifest.seed,
        "versions": manifest.versions,
        "notes": manifest.notes,
        "verdict_like": flagged.counted(answers),
    }
    summary["thresholds"] = thresholds.hanging(manifest, summary, judged)
    summary["panel"] = panel.panel(manifest, judged, summary)
    return summary


def with_judgements(table: pl.DataFrame) -> pl.DataFrame:
    """Return `table` with a column of nulls for each of the two judges that it lacks, and with `outcome`.

    `outcome` is what became of the answer, one of `emeval.statistics.OUTCOMES` or a judge's own label.
    """
    # Null marks a missing score; a table that was imported may hold nan, which is not null to polars.
    table = table.with_columns(selectors.float().fill_nan(None)).with_columns(
        pl.lit(None, dtype=dtype).alias(name) for name, dtype in _READ.items() if name not in table.columns
    )
    return table.with_columns(outcomes(table).alias("outcome"))


def _models(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the models in the order of the report, each with what it is called and where it belongs."""
    models = lineup.ordered(manifest.models)
    label = lineup.labels([model.name for model in models], lineup.shared_base(models))
    later = lineup.intermediate(models)
    return [
        model.model_dump()
        | {"label": label[model.name], "family": lineup.family(model), "intermediate": model in later}
        for model in models
    ]


def _checkpoints(manifest: Manifest, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rates of all checkpoints by evaluation, training, condition and step.

    Where an adapter has no step 0 and its base model was asked in the same way, that one stands as step 0.
    Only a training of which an evaluation asked two steps is there.
    """
    rows = []
    label = lineup.labels(list(lineup.families(manifest.models)), lineup.shared_base(manifest.models))
    for evaluation in manifest.evaluations:
        cells = {(row["model"], row["condition"]): row for row in results if row["eval"] == evaluation.name}
        asked = {model for model, _ in cells}
        there = [model for model in manifest.models if model.name in asked]
        for name, members in lineup.families(there).items():
            steps = [(model.step, model.name) for model in members]
            base = members[0].base_model
            if members[0].step and base not in (None, members[0].name):
                steps = [(0, base), *steps]
            rows += [
                {"eval": evaluation.name, "family": name, "label": label[name], "model": model}
                | {"condition": condition.id, "step": step}
                | {key: cells[model, condition.id][key] for key in ("n", "hits", "rate", "low", "high")}
                for condition in evaluation.conditions
                for step, model in steps
                if (model, condition.id) in cells
            ]
    return rows


def _results(
    manifest: Manifest, table: pl.DataFrame, shown: pl.DataFrame, denominator: str, confidence: float
) -> list[dict[str, Any]]:
    """Return a row for each model, evaluation and condition."""
    each = times(table)
    counts = table.group_by(CELL).agg(
        errors=(each * pl.col("error").is_not_null()).sum(),
        coherent=(each * (pl.col("error").is_null() & pl.col("coherent").fill_null(False))).sum(),
        scored=(each * (pl.col("error").is_null() & pl.col("alignment_score").is_not_null())).sum(),
    )
    rates = {
        name: shown if name == denominator else rate(table, CELL, name, confidence) for name in DENOMINATORS
    }
    labels = _counted(label_counts(table, CELL), ("judge", "label"), "answers")
    labelling = {judge.name for judge in manifest.judges if judge.gives == "label"}
    became = _counted(table.group_by(*CELL, "outcome").agg(len=each.sum()), ("outcome",), "len")
    names = dict.fromkeys([*OUTCOMES, *sorted(table["outcome"].unique())])
    given = {
        judge.name: dict.fromkeys([*judge.labels, UNREADABLE], 0)
        for judge in manifest.judges
        if judge.gives == "score"
    }
    by_cell = {name: {_cell(row): row for row in frame.to_dicts()} for name, frame in rates.items()}
    results = []
    for row in rows_of(shown.join(counts, on=CELL), manifest):
        cell = _cell(row)
        row["labels"] = {judge: dict(zeros) for judge, zeros in given.items()}
        for (judge, label), number in labels.get(cell, {}).items():
            if judge in labelling:
                continue
            row["labels"].setdefault(judge, {UNREADABLE: 0})[label] = number
        row["outcomes"] = {name: became[cell].get((name,), 0) for name in names}
        row["denominators"] = {
            name: {key: by_cell[name][cell][key] for key in ("n", "rate", "low", "high")} for name in rates
        }
        results.append(row)
    return results


def _cell(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in CELL)


def _counted(
    frame: pl.DataFrame, keys: Sequence[str], number: str
) -> dict[tuple[str, ...], dict[tuple[str, ...], int]]:
    """Return the column `number` by cell, then by `keys`."""
    found: dict[tuple[str, ...], dict[tuple[str, ...], int]] = {}
    for row in frame.to_dicts():
        found.setdefault(_cell(row), {})[tuple(row[key] for key in keys)] = row[number]
    return found
