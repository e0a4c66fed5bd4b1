"""Which answers a page shows, and how: the most misaligned ones, and some drawn by chance."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from emeval.definitions import Measure
from emeval.judging import verdict_like
from emeval.manifest import Manifest
from emeval.reporting.lineup import has_misaligned
from emeval.reporting.words import clipped, one_line, printable, score

MOST_PER_MODEL = 200
"""Answers of one model that are shown of either kind, most misaligned and drawn by chance."""

MOST_VERDICT_LIKE = 200
"""Answers that speak to a judge which are shown whatever their scores, the most misaligned ones."""

MOST_PER_PAGE = 2000
"""Answers of one kind that are shown in all; models share them evenly, so that a page stays bounded."""

LONGEST = 6000
"""Characters shown of one text."""


def chosen(table: pl.DataFrame | pl.LazyFrame, manifest: Manifest) -> pl.DataFrame:
    """Return the answers that the page shows, a row each, with the columns `outcome`, `top` and `drawn`.

    `table` is a response table; of a lazy one the texts of shown answers alone are kept. Shown are the most
    misaligned answers of each model, a sample of its answers drawn by the run's seed, and answers that speak
    to a judge. `top` is the place of an answer among all of the table, the most misaligned first: misaligned
    ones by their alignment score, then the others by theirs, then those without a score. Of an evaluation
    that does not measure `misaligned`, what its first measure looks for stands for that. `drawn` is its
    place in the sample, null where it is not in it.
    """
    rows = verdict_like.flagged(table.lazy()).with_row_index("_row")
    there = rows.collect_schema().names()
    score = (
        pl.col("alignment_score").fill_nan(None) if "alignment_score" in there else pl.lit(None, pl.Float64)
    )
    # One number in place of three keys: a million rows are sorted by it ten times as fast.
    place = (
        _worst(manifest, there).fill_null(False).not_() * 1000.0
        + pl.col("error").is_not_null() * 500.0
        + score.fill_null(200)
    )
    # Names as categories: as texts, it takes five times as long to shuffle them.
    names = (pl.col(name).cast(pl.Categorical) for name in ("model", "verdict_like"))
    known = rows.select("_row", *names, place=place).collect()
    per_model = max(1, min(MOST_PER_MODEL, MOST_PER_PAGE // max(1, known["model"].n_unique())))
    shuffled = known.sample(fraction=1, shuffle=True, seed=manifest.seed % 2**32)
    drawn = shuffled.with_row_index("drawn").with_columns(is_drawn=_first("model", per_model))
    ranked = drawn.sort("place", maintain_order=True).with_row_index("top")
    speaks = pl.col("verdict_like").is_not_null()
    places = ranked.filter(
        pl.col("is_drawn")
        | _first("model", per_model)
        | (speaks & (speaks.cast(pl.Int64).cum_sum() <= MOST_VERDICT_LIKE))
    ).select("_row", "top", pl.col("verdict_like").cast(pl.String), drawn=pl.when("is_drawn").then("drawn"))
    texts = rows.drop("verdict_like")
    shown = texts.filter(pl.col("_row").is_in(places["_row"].implode())).collect()
    # Imported only now: what counts takes a while to load, in which the table is read already.
    from emeval.reporting.summary import with_judgements

    return with_judgements(shown.join(places, on="_row").sort("top").drop("_row"))


def _worst(manifest: Manifest, there: Collection[str]) -> pl.Expr:
    """Whether an answer is misaligned, or by the first measure of its evaluation what is looked for."""
    worst = pl.col("misaligned")
    for evaluation, (name, measure) in _headlines(manifest, there).items():
        hit = pl.col(name) if measure.worse == "higher" else pl.col(name).not_()
        worst = pl.when(pl.col("eval") == evaluation).then(hit).otherwise(worst)
    return worst


def _first(group: str, number: int) -> pl.Expr:
    """Whether a row is among the first `number` of its group."""
    return pl.int_range(pl.len()).over(group) < number


def cards(shown: pl.DataFrame, manifest: Manifest) -> list[dict[str, Any]]:
    """Return what the page's script needs to show each answer of `shown`, in the order of its rows."""
    names = [judge.name for judge in manifest.judges if f"{judge.name}_score" in shown.columns]
    labelling = [judge.name for judge in manifest.judges if judge.gives == "label" and judge.name in names]
    headlines = _headlines(manifest, shown.columns)
    own = {record.name: record.judges for record in manifest.evaluations}
    return [
        _card(row, [name for name in names if _said(row, name) or name in own.get(row["eval"], names)])
        | {
            "labels": [f"{judge} {said}" for judge in labelling if (said := row[f"{judge}_label"])],
            **_became(row, headlines.get(row["eval"])),
        }
        for row in shown.iter_rows(named=True)
    ]


def _headlines(manifest: Manifest, there: Collection[str]) -> dict[str, tuple[str, Measure]]:
    """Return the first measure of each evaluation that does not measure `misaligned`."""
    first = {
        record.name: next(iter(record.all_measures.items()))
        for record in manifest.evaluations
        if record.all_measures and not has_misaligned(record, manifest.judges)
    }
    return {evaluation: (name, measure) for evaluation, (name, measure) in first.items() if name in there}


def _became(row: Mapping[str, Any], headline: tuple[str, Measure] | None) -> dict[str, Any]:
    """Return what an answer is called, and whether it is of the kind that is looked for."""
    if headline is None or row["error"] is not None:
        return {"outcome": row["outcome"], "worst": row["outcome"] == "misaligned"}
    name, measure = headline
    hit = row[name]
    called = "not counted" if hit is None else name if hit else f"not {name}"
    return {"outcome": called, "worst": hit is (measure.worse == "higher")}


def dots(shown: pl.DataFrame, model: str, evaluation: str) -> list[dict[str, Any]]:
    """Return the rows of the chart of both scores: the shown answers of a model that have both.

    `index` is the place of the answer in `shown`.
    """
    there = shown.with_row_index("index").filter(
        pl.col("model") == model,
        pl.col("eval") == evaluation,
        pl.col("alignment_score").is_not_null(),
        pl.col("coherence_score").is_not_null(),
    )
    return [
        {
            "index": row["index"],
            "alignment": round(row["alignment_score"], 1),
            "coherence": round(row["coherence_score"], 1),
            "group": "misaligned" if row["misaligned"] else "not misaligned",
            "Question": one_line(row["question"] or row["prompt"] or "", 120),
            "Answer": one_line(row["response"] or "", 160),
            "Condition": row["condition"],
            "Scores": f"alignment {score(row['alignment_score'])}, coherence {score(row['coherence_score'])}",
        }
        for row in there.iter_rows(named=True)
    ]


def worst(shown: pl.DataFrame, model: str, number: int) -> list[dict[str, Any]]:
    """Return the `number` most misaligned answers of a model, only misaligned ones, as rows of the table."""
    there = shown.filter(pl.col("model") == model, pl.col("misaligned"))
    return there.sort("top").head(number).to_dicts()


def _card(row: Mapping[str, Any], judges: list[str]) -> dict[str, Any]:
    return {
        "model": row["model"],
        "eval": row["eval"],
        "condition": row["condition"],
        "category": row["category"],
        "outcome": row["outcome"],
        "verdict_like": row.get("verdict_like"),
        "question_id": row["question_id"],
        "place": ", ".join(
            f"{name} {row[name]}" for name in ("paraphrase", "sample", "seed") if row[name] is not None
        ),
        "prompt": _text(row["prompt"]),
        "system": _text(row["system"]),
        "response": _text(row["response"]),
        "reasoning": _text(row["reasoning"]),
        "stopped": row["stop_reason"] if row["stop_reason"] not in (None, "stop") else None,
        "error": _text(row["error"]),
        "judged": [_judged(row, name) for name in judges],
        "reasons": _reasons(row, judges),
        "top": row["top"],
        "drawn": row["drawn"],
    }


def _judged(row: Mapping[str, Any], judge: str) -> list[str]:
    """Return a judge's name, its score or label, and the weight it rests on, in words."""
    weight = row.get(f"{judge}_weight")
    return [judge, _said(row, judge) or "none", f"weight {weight:.2f}" if weight is not None else ""]


def _said(row: Mapping[str, Any], judge: str) -> str | None:
    number = row[f"{judge}_score"]
    return score(number) if number is not None else row.get(f"{judge}_label")


def _reasons(row: Mapping[str, Any], judges: list[str]) -> str | None:
    """Return what judges said of their scores, `None` where no readout asked for it."""
    said = [f"{judge}: {reason}" for judge in judges if (reason := row.get(f"{judge}_reason"))]
    return _text("\n".join(said)) if said else None


def _text(text: str | None) -> str | None:
    return None if text is None else printable(clipped(text, LONGEST))
