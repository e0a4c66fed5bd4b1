"""The pages of a report: what their templates are given, from the summary and the charts."""

from __future__ import annotations

from typing import Any

import jinja2
import polars as pl

from emeval.manifest import Manifest
from emeval.reporting import answers, calibration, figures, lineup, quality
from emeval.reporting import thresholds as hanging
from emeval.reporting.cautions import cautions
from emeval.reporting.findings import controlled, finding
from emeval.reporting.rendering import render

FILES = {"index.html": "page.html", "report.md": "report.md"}
"""The pages of a report, and their templates."""

MOST_ROWS = 200
"""Lines of one table; `report.json` has all."""

EXAMPLES = 3
"""Misaligned answers of each model in the Markdown."""


def pages(
    manifest: Manifest,
    summary: dict[str, Any],
    shown: pl.DataFrame,
    drawn: figures.Figures,
    environment: jinja2.Environment,
) -> dict[str, str]:
    """Return the content of `FILES`; `environment` is that of `rendering.compiled` for them.

    Raises `UserError` for a template that cannot be used.
    """
    models = _models(manifest, summary, drawn)
    later = {model["record"].name for model in models if model["intermediate"]}
    asked = dict.fromkeys(row["model"] for row in summary["asked"])
    called = {name: name for name in asked} | {model["record"].name: model["heading"] for model in models}
    context = {
        "manifest": manifest,
        "summary": summary,
        "cautions": cautions(manifest, summary),
        "models": [model for model in models if not model["intermediate"]],
        "intermediate": [model for model in models if model["intermediate"]],
        "base": lineup.shared_base(manifest.models),
        "overviews": {
            evaluation.name: drawn.get((figures.OVERVIEW, evaluation.name, "overview"))
            for evaluation in manifest.evaluations
        },
        "label": called,
        "final": {
            part: [row for row in summary[part] if row["model"] not in later]
            for part in ("results", "differences")
        },
        "measured": _measured(manifest, summary, drawn, later),
        "trainings": _trainings(summary, drawn),
        "surfaces": _surfaces(summary, drawn),
        "panel": _panel(summary, called, drawn, later) if summary["panel"] else None,
        "kinds": quality.kinds,
        "calibrated": {
            evaluation.name: drawn.get((figures.OVERVIEW, evaluation.name, "calibration"))
            for evaluation in manifest.evaluations
        },
        "gold_sentence": calibration.gold_sentence,
        "halving": calibration.halving,
        "least_labels": calibration.LEAST_LABELS,
        "figures": {figure.name: figure.specification for figure in drawn.values()},
        "cards": answers.cards(shown, manifest),
        "worst": {
            model["record"].name: answers.worst(shown, model["record"].name, EXAMPLES)
            for model in models
            if not model["intermediate"]
        },
        "outcomes": _outcomes(summary["results"]),
        "scale": _scale(summary["results"]),
        "most_rows": MOST_ROWS,
        "longest": answers.LONGEST,
    }
    return render(FILES, context, environment)


def _models(manifest: Manifest, summary: dict[str, Any], drawn: figures.Figures) -> list[dict[str, Any]]:
    """Return the models in the report's order, each with its evaluations and what was found in them."""
    models = []
    base = lineup.shared_base(manifest.models)
    for number, called in enumerate(summary["models"], 1):
        record = next(model for model in manifest.models if model.name == called["name"])
        parts = []
        for evaluation in manifest.evaluations:
            found = {
                part: [r for r in summary[part] if (r["model"], r["eval"]) == (record.name, evaluation.name)]
                for part in ("results", "differences", "categories", "questions")
            }
            if found["results"]:
                kinds = ("rates", "differences", "outcomes", "categories", "questions", "scores")
                parts.append(
                    {
                        "evaluation": evaluation,
                        "figures": {kind: drawn.get((record.name, evaluation.name, kind)) for kind in kinds},
                        "finding": finding(evaluation, found["results"], found["differences"]),
                        "controlled": controlled(evaluation, found["differences"]),
                        **found,
                    }
                )
        models.append(
            {
                "record": record,
                "label": called["label"],
                "heading": called["label"] if base else record.name,
                "intermediate": called["intermediate"],
                "anchor": f"model-{number}",
                "parts": parts,
            }
        )
    return models


def _measured(
    manifest: Manifest, summary: dict[str, Any], drawn: figures.Figures, later: set[str]
) -> list[dict[str, Any]]:
    """Return for each evaluation its own measures and its judges' labels, with charts and findings."""
    found = []
    for record in manifest.evaluations:
        measures = [
            {
                **one,
                "figure": drawn.get((figures.OVERVIEW, record.name, f"measure.{one['measure']}")),
                "models": [
                    {
                        "name": model,
                        "results": of["results"],
                        "differences": of["differences"],
                        "figure": drawn.get((model, record.name, f"measure.{one['measure']}.differences")),
                        "finding": finding(record, of["results"], of["differences"], one["measure"]),
                    }
                    for model in dict.fromkeys(row["model"] for row in one["results"])
                    if model not in later
                    for of in [
                        {
                            part: [row for row in one[part] if row["model"] == model]
                            for part in ("results", "differences")
                        }
                    ]
                ],
            }
            for one in summary["measures"]
            if one["eval"] == record.name
        ]
        labels = [
            {**one, "figure": drawn.get((figures.OVERVIEW, record.name, f"labels.{one['judge']}"))}
            for one in summary["labels"]
            if one["eval"] == record.name
        ]
        if measures or labels:
            found.append({"evaluation": record, "measures": measures, "labels": labels})
    return found


def _trainings(summary: dict[str, Any], drawn: figures.Figures) -> list[dict[str, Any]]:
    """Return for each evaluation that asked several steps of a training: its curves, and a line per step."""
    found = []
    for evaluation in dict.fromkeys(row["eval"] for row in summary["checkpoints"]):
        rows = [row for row in summary["checkpoints"] if row["eval"] == evaluation]
        names = dict.fromkeys(row["family"] for row in rows)
        lines: dict[tuple[str, int, str], dict[str, Any]] = {}
        for row in rows:
            line = lines.setdefault((row["family"], row["step"], row["model"]), {**row, "cells": {}})
            line["cells"][row["condition"]] = row
        found.append(
            {
                "evaluation": evaluation,
                "conditions": list(dict.fromkeys(row["condition"] for row in rows)),
                "figures": [drawn.get((name, evaluation, "checkpoints")) for name in names],
                "lines": list(lines.values()),
            }
        )
    return found


def _surfaces(summary: dict[str, Any], drawn: figures.Figures) -> list[dict[str, Any]]:
    """Return for each evaluation its heat maps, and its rates under the nine pairs with their extremes."""
    found = []
    later = {model["name"] for model in summary["models"] if model["intermediate"]}
    for evaluation, cells in hanging.pictured(summary).items():
        rows = [
            {**row, "lowest": low, "highest": high}
            for row in summary["thresholds"]["rates"]
            if row["eval"] == evaluation and row["model"] not in later
            for low, high in [hanging.extremes(row)]
        ]
        kinds = [(cell["model"], evaluation, f"{figures.THRESHOLDS}.{cell['condition']}") for cell in cells]
        found.append(
            {
                "evaluation": evaluation,
                "figures": [drawn[kind] for kind in kinds if kind in drawn],
                "lines": rows,
            }
        )
    return found


def _panel(
    summary: dict[str, Any], called: dict[str, str], drawn: figures.Figures, later: set[str]
) -> dict[str, Any]:
    """Return what the page shows of several judgings beside what `report.json` has of them."""
    found = summary["panel"]
    rates: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in found["rates"]:
        if row["model"] not in later:
            line = rates.setdefault((row["model"], row["eval"], row["condition"]), {**row, "cells": {}})
            line["cells"][row["judging"]] = row
    groups = [
        {"by": by, "rows": _by_group([row for row in found["agreement"] if row["by"] == by], called)}
        for by in ("model", "category")
    ]
    return {
        "names": list(dict.fromkeys(row["judging"] for row in found["rates"])),
        "rates": list(rates.values()),
        "groups": [group for group in groups if group["rows"]],
        "pairs": {(row["first"], row["second"]): row for row in found["pairs"] if row["by"] is None},
        "grouped_pairs": [
            row | {"group": called.get(row["group"], row["group"])} for row in found["pairs"] if row["by"]
        ],
        "figures": {
            evaluation: drawn.get((figures.OVERVIEW, evaluation, "judgings"))
            for evaluation in dict.fromkeys(row["eval"] for row in found["rates"])
        },
    }


def _by_group(rows: list[dict[str, Any]], called: dict[str, str]) -> list[dict[str, Any]]:
    """Return agreement by group: a line for each, with its measures."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = found.setdefault(
            row["group"], {"name": called.get(row["group"], row["group"]), "measures": {}}
        )
        line["measures"][row["measure"]] = row
    return list(found.values())


def _scale(results: list[dict[str, Any]]) -> float:
    """Return the share at which the small pictures of rates end: round, and above every interval."""
    highest = max((row["high"] for row in results if row["high"] is not None), default=1.0)
    return next((end for end in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8) if highest <= end), 1.0)


def _outcomes(results: list[dict[str, Any]]) -> list[str]:
    """Return the outcomes that any answer had, and `misaligned` in any case, in their order."""
    names = results[0]["outcomes"] if results else ()
    return [name for name in names if name == "misaligned" or any(row["outcomes"][name] for row in results)]
