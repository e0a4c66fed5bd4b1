"""Which answers people are shown, and in which order: drawn by chance from strata, evenly at every point.

Texts are drawn, not rows: the same answer to the same question is shown once, and what is said of it holds
for all rows that have it. A text is in the stratum of the first of these rows. Within a stratum every text is
as likely as any other, so that a labelled one stands for as many texts as the stratum has over those that are
labelled in it; with that weight on each of its rows, rates over rows are right as well.

The order goes in rounds: each has one text of each stratum that has any left, shuffled. So whoever stops at
any point has labelled about as many of each, and the place of an answer tells nothing of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from emeval.errors import UserError
from emeval.gold import answer_id
from emeval.labelling.store import FOLDER
from emeval.runs import Run, now

FILE = "drawn.json"

DEFAULT = 200
"""Answers that are drawn where nobody says how many."""

LEVELS = (("band", "eval", "condition", "model"), ("band", "eval", "condition"), ("band",))
"""What strata may be made of, the finest first."""

LEAST_EACH = 5
"""Answers that each stratum must get for strata so fine."""


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Drawn(_Kept):
    """A text that people are shown."""

    answer: str
    question: str
    """Empty where the run does not know it."""
    response: str
    stratum: str
    stratum_size: int
    """Texts in the stratum."""


class Drawing(_Kept):
    """What was drawn from a run, in the order in which it is shown."""

    seed: int
    judging: str | None = None
    """The further judging by whose scores it was drawn, `None` for the run's own."""
    drawn: str
    """When (ISO 8601, UTC)."""
    levels: list[str]
    """What the strata are made of."""
    sizes: dict[str, int]
    """Texts in each stratum."""
    answers: list[Drawn]


def draw(run: Run, number: int | None = None) -> Drawing:
    """Return the first `number` (at least 1) answers to be labelled, fewer where the run has not so many.

    What was drawn is kept in `RUN/labels/drawn.json`: another time, the same answers come in the same order,
    and where more are wanted, more follow. Without `number` it is as many as were drawn before, or 200.

    Raises `UserError` if the run is not finished or has no answer, if what is kept was drawn by the scores of
    another judging, and if more are wanted of a run whose answers or scores have changed since.
    """
    if number is not None and number < 1:
        raise UserError(f"--n: found {number}, expected a number of answers, at least 1")
    path = run.directory / FOLDER / FILE
    before = kept(run.directory)
    if before and before.judging != run.judging:
        of = f"{run.directory}@{before.judging}" if before.judging else str(run.directory)
        raise UserError(
            f"{path}: drawn by the scores of {of}; label that, or rename this file to draw anew (labels are "
            "kept, they belong to the texts)"
        )
    if before and (number is None or number <= len(before.answers)):
        return before.model_copy(update={"answers": before.answers[:number]})
    if run.manifest.status == "started":
        raise UserError(
            f"{run.path}: this run is not finished, and gold labels are drawn from all of its answers; "
            "start its command again first"
        )
    drawing = _drawn(run, number or DEFAULT, before.levels if before else None)
    if before and (drawing.sizes != before.sizes or drawing.answers[: len(before.answers)] != before.answers):
        raise UserError(
            f"{path}: drawn when the run had other answers or scores, so no more can be drawn in the same "
            "way; rename this file to draw anew (labels are kept, they belong to the texts)"
        )
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name(f".{FILE}.part")
    draft.write_text(drawing.model_dump_json(indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
    return drawing


def kept(run: Path) -> Drawing | None:
    """Return what was drawn from the run directory `run`, `None` if nothing was.

    Raises `UserError` for a file that cannot be read.
    """
    path = run / FOLDER / FILE
    try:
        return Drawing.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ValidationError) as error:
        said = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read: {said}; rename it to draw anew (labels are kept)") from None


def _drawn(run: Run, number: int, levels: list[str] | None) -> Drawing:
    rows = run.scan().with_row_index("_row")
    texts = _texts(rows, run)
    if texts.is_empty():
        raise UserError(f"{run.path}: has no answer that could be labelled")
    if levels is None:
        levels = next(
            (list(fine) for fine in LEVELS if texts.select(fine).n_unique() * LEAST_EACH <= number),
            list(LEVELS[-1]),
        )
    seed = run.manifest.seed % 2**32
    chance = np.random.default_rng(seed)
    order = (
        texts.with_columns(
            pl.concat_str(levels, separator=" · ", ignore_nulls=True).alias("stratum"),
            pl.Series("within", chance.random(len(texts))),
            pl.Series("between", chance.random(len(texts))),  # the place in `within` would tell a size
        )
        .with_columns(stratum_size=pl.len().over("stratum"))
        .sort("within")
        .with_columns(round=pl.int_range(pl.len()).over("stratum"))
        .sort("round", "between")
    )
    chosen = order.head(number)
    words = rows.filter(pl.col("_row").is_in(chosen["_row"].implode())).select(
        "_row", pl.col("question").fill_null(""), "response"
    )
    shown = chosen.select("_row", "stratum", "stratum_size").join(
        words.collect(), on="_row", how="left", maintain_order="left"
    )
    return Drawing(
        seed=seed,
        judging=run.judging,
        drawn=now(),
        levels=levels,
        sizes=dict(order.select("stratum", "stratum_size").unique().sort("stratum").iter_rows()),
        answers=[
            Drawn(answer=answer_id(row["question"], row["response"]), **row)
            for row in shown.drop("_row").iter_rows(named=True)
        ],
    )


def _texts(rows: pl.LazyFrame, run: Run) -> pl.DataFrame:
    """Return a row for each text: the first row of the table that has it, and its levels."""
    return (
        rows.filter(pl.col("response").is_not_null(), pl.col("error").is_null())
        .select(
            "_row",
            "eval",
            "condition",
            "model",
            # A number in place of two texts: a run may have a million.
            text=pl.struct(pl.col("question").fill_null(""), "response").hash(),
            band=_band(rows, run),
        )
        .group_by("text", maintain_order=True)
        .agg(pl.first("_row", "band", "eval", "condition", "model"))
        .collect()
    )


def _band(rows: pl.LazyFrame, run: Run) -> pl.Expr:
    """Return what the judge made of an answer.

    That is `misaligned` by the run's verdict, `doubtful` (up to halfway from the threshold to 100),
    `aligned`, `incoherent` or `no score`.
    """
    there = rows.collect_schema().names()
    score = (
        pl.col("alignment_score").fill_nan(None) if "alignment_score" in there else pl.lit(None, pl.Float64)
    )
    limits = {record.name: record.thresholds.alignment for record in run.manifest.evaluations}
    limit = pl.col("eval").replace_strict(limits, default=None, return_dtype=pl.Float64)
    coherent = pl.col("coherent") if "coherence_score" in there else pl.lit(True)
    return (
        pl.when(coherent.not_())
        .then(pl.lit("incoherent"))
        .when(score.is_null() | coherent.is_null())
        .then(pl.lit("no score"))
        .when(score < limit)
        .then(pl.lit("misaligned"))
        .when(score < (limit + 100) / 2)
        .then(pl.lit("doubtful"))
        .otherwise(pl.lit("aligned"))
    )
