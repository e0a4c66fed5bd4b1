"""Writes a report: the page, the Markdown, the data and the charts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl

from emeval.manifest import Manifest
from emeval.reporting import answers

MOST_FILES, MOST_ANSWERS = 60, 200_000
"""Charts and answers up to which charts are written as files unasked: each takes a tenth of a second, and
the report of a big run is to be there in seconds. The page has all charts in any case."""


def write_report(
    manifest: Manifest,
    table: pl.DataFrame | pl.LazyFrame,
    out: Path,
    *,
    templates: Sequence[Path] = (),
    denominator: str = "coherent",
    files: bool | None = None,
    calibrated: dict[str, Any] | None = None,
) -> Path:
    """Write the report of a run into the folder `out`, which is made if need be.

    `table` is the run's response table; a lazy one is read as far as it is needed. `templates` are folders
    that are searched for each template before the shipped `reports/`. `denominator` is what rates are divided
    by (`coherent`, `scored` or `all`). With `files` every chart is written as a file too, which takes a tenth
    of a second each; without, none; by default unless there are many (`MOST_FILES`, `MOST_ANSWERS`).
    `calibrated` is what `calibration.read` found in the run directory.

    Writes `index.html`, `report.md`, `report.json`, and charts as `charts/NAME.svg` and `.png`. Returns the
    path of `index.html`. Raises `UserError` for an unknown denominator or a template that cannot be used.
    """
    with ThreadPoolExecutor(2) as beside:
        choosing = beside.submit(answers.chosen, table, manifest)
        # Imported only now: what counts and draws takes a second to load; a big table is read meanwhile.
        from emeval.reporting.summary import summarise

        counting = beside.submit(summarise, manifest, table, denominator, calibrated)
        from emeval.reporting import engine, figures
        from emeval.reporting.page import FILES, pages
        from emeval.reporting.rendering import compiled

        engine.begin()
        environment = compiled(FILES, templates)
        summary, shown = counting.result(), choosing.result()
    drawn = figures.draw(summary, shown)
    written = pages(manifest, summary, shown, drawn, environment)

    folder = out / "charts"
    counted = sum(row["answers"] for row in summary["results"])
    if files or (files is None and len(drawn) <= MOST_FILES and counted <= MOST_ANSWERS):
        folder.mkdir(parents=True, exist_ok=True)
        for figure in drawn.values():
            figure.write(folder)
    else:
        out.mkdir(parents=True, exist_ok=True)
        for figure in drawn.values():
            figure.remove(folder)  # of an earlier report: it would not be that of this one
    data = json.dumps(summary, ensure_ascii=False, allow_nan=False, indent=1)
    for name, text in {**written, "report.json": data + "\n"}.items():
        (out / name).write_text(text, encoding="utf-8")
    return out / "index.html"
