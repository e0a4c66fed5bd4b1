"""The judge's verdicts: of all answers by question, and of those that have a gold label one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from emeval.calibrating.labels import Labels, Settled
from emeval.errors import UserError
from emeval.gold import answer_id
from emeval.reporting.words import listed, plural
from emeval.runs import Run
from emeval.statistics.counting import count_by_question, has_score, tally
from emeval.statistics.intervals import Floats
from emeval.statistics.judge_error import Gold

CELL = ("model", "eval", "condition")

QUESTION = ("eval", "question_id")


def answers_of(run: Run, wanted: set[str]) -> pl.DataFrame:
    """Return the answers of the run whose id (`gold.answer_id`) is in `wanted`, by cell and verdict.

    A row has `answer`, model, evaluation, condition, question and category, `misaligned`, `counts` (whether
    it is in the denominator, the coherent answers with an alignment score), the mean `alignment_score`, and
    `rows`: how many samples of the cell are this answer to the letter, with this verdict. Only so much of a
    big table is in memory as is asked for.
    """
    table = run.scan()
    there = table.collect_schema().names()
    for name in ("alignment_score", "coherent", "misaligned"):
        if name not in there:
            raise UserError(
                f"{run.path}: its answers have no {name}, so there is no verdict to hold labels against"
            )
    rows = (
        table.filter(pl.col("error").is_null() & pl.col("response").is_not_null())
        .select(
            *(*CELL, "question_id", "category", "alignment_score"),
            counts=has_score("alignment") & pl.col("coherent").fill_null(False),
            misaligned=pl.col("misaligned").fill_null(False),
            answer=pl.struct(pl.col("question").fill_null(""), "response").map_batches(
                _ids, return_dtype=pl.String
            ),
        )
        .filter(pl.col("answer").is_in(list(wanted)))
    )
    kinds = ["answer", *CELL, "question_id", "category", "counts", "misaligned"]
    found = rows.group_by(kinds).agg(pl.col("alignment_score").mean(), rows=pl.len())
    return found.collect(engine="streaming").sort(kinds)


def _ids(texts: pl.Series) -> pl.Series:
    rows = texts.struct.unnest().iter_rows()
    return pl.Series([answer_id(question, response) for question, response in rows], dtype=pl.String)


@dataclass(frozen=True)
class Labelled:
    """The answers of a run that have a gold label, and all of its verdicts."""

    gold: pl.DataFrame
    """Those in the denominator with a label that is sure, as of `answers_of`, with `positive` (misaligned by
    gold) and `weight`: how many answers it stands for."""
    population: pl.DataFrame
    """Counts `n` and `hits` of the verdicts by cell, category and question."""
    weighted: bool
    counted: dict[str, Any]
    """How many labels came to what."""

    def within(self, **values: str | None) -> Labelled:
        """Return the part in which columns have these values."""
        same = pl.all_horizontal(pl.lit(True), *(pl.col(k).eq_missing(v) for k, v in values.items()))
        return Labelled(self.gold.filter(same), self.population.filter(same), self.weighted, self.counted)

    def arrays(self) -> tuple[Floats, Floats, Gold]:
        """Return the verdicts' `hits` and `n` by question, and the gold labels of the same questions."""
        all_of = self.population.group_by(QUESTION).agg(pl.col("hits", "n").sum())
        judged, positive = pl.col("misaligned"), pl.col("positive")
        kinds = {
            "found": judged & positive,
            "false_alarms": judged & ~positive,
            "missed": ~judged & positive,
            "cleared": ~judged & ~positive,
        }
        labelled = self.gold.group_by(QUESTION).agg(
            (pl.col("weight") * kind).sum().alias(name) for name, kind in kinds.items()
        )
        by_question = all_of.join(labelled, on=QUESTION, how="left").fill_null(0.0).sort(QUESTION)
        hits, n, found, false_alarms, missed, cleared = (
            by_question[name].to_numpy().astype(np.float64) for name in ("hits", "n", *kinds)
        )
        squares = None
        if self.weighted:
            squared = pl.col("weight") ** 2
            both = self.gold.select(one=(squared * judged).sum(), other=(squared * ~judged).sum())
            squares = np.asarray(both.row(0), dtype=np.float64)
        return hits, n, Gold(found, false_alarms, missed, cleared, squares)

    def confusion(self) -> dict[str, int]:
        """Return how many labelled answers there are of each kind, unweighted."""
        judged, positive = self.gold["misaligned"], self.gold["positive"]
        return {
            "found": int((judged & positive).sum()),
            "missed": int((~judged & positive).sum()),
            "false_alarms": int((judged & ~positive).sum()),
            "cleared": int((~judged & ~positive).sum()),
        }


def labelled(run: Run, labels: Labels, answers: pl.DataFrame) -> Labelled:
    """Put the labels to the answers of `run`, of which `answers` are those that rows may mean.

    Raises `UserError` if no label fits an answer, if none is sure, and if the strata of the labels have
    more texts than the run. Where some answers were drawn from strata, labels of others are left out.
    """
    if not labels.rows:
        raise UserError(f"{listed(one['file'] for one in labels.files)}: no row has a label")
    matched = set(answers["answer"])
    settled = labels.settled(matched)
    matched &= settled.keys()
    if not matched:
        raise UserError(
            f"{run.path}: none of the {len(settled)} labelled answers is in this run; is it another run's "
            "file (then name that run with --from), or was the text changed?"
        )
    sure = {answer for answer in matched if settled[answer].label != "unsure"}
    if not sure:
        raise UserError(
            f"{run.path}: {plural(len(matched), 'answer')} of it "
            f"{'is' if len(matched) == 1 else 'are'} labelled, and each is unsure (or as many raters say one "
            "thing as another), which counts for nothing; label more answers"
        )
    drawn = {answer for answer in sure if settled[answer].stratum}
    undrawn = len(sure - drawn) if drawn else 0
    sure = drawn or sure
    strata = {stratum.name: stratum.size for one in drawn if (stratum := settled[one].stratum)}
    texts, stand_for = _texts(run), sum(strata.values())
    if stand_for > texts:
        raise UserError(
            f"{run.path}: has {plural(texts, 'distinct text')}, and the strata of the labels {stand_for:,} "
            "together, so they are of several drawings or of another run; `emeval label RUN --export FILE` "
            "writes all labels of the run with the strata of its present drawing"
        )
    weight = _weights(settled, sure)
    gold = answers.filter(pl.col("answer").is_in(list(sure))).with_columns(
        label=pl.col("answer").replace_strict(
            {one: settled[one].label for one in sure}, return_dtype=pl.String
        ),
        weight=pl.col("answer").replace_strict(weight, return_dtype=pl.Float64),
    )
    if drawn:  # a drawn text stands for others in every row that has it
        gold = gold.with_columns(weight=pl.col("weight") * pl.col("rows"))
    else:  # a label is one of a cell's, however often the model said the same
        gold = gold.sort("rows", descending=True, maintain_order=True)
        gold = gold.unique(["answer", *CELL], keep="first", maintain_order=True)
    gold = gold.with_columns(positive=pl.col("label") == "misaligned")
    counting = gold.filter("counts")
    several = [settled[one] for one in matched if settled[one].raters > 1]
    counted = {
        "labels": len(labels.rows),
        "without_label": labels.empty,
        "raters": labels.raters,
        "answers": len(settled),
        "unmatched": len(settled) - len(matched),
        "unsure": len(matched) - len(sure) - undrawn,
        "undrawn": undrawn,
        "outside": len(sure) - counting["answer"].n_unique(),
        "used": counting["answer"].n_unique(),
        "positive": counting.filter("positive")["answer"].n_unique(),
        "negative": counting.filter(~pl.col("positive"))["answer"].n_unique(),
        "incoherent": counting.filter(label="incoherent")["answer"].n_unique(),
        "missed_outside": gold.filter(~pl.col("counts") & pl.col("positive"))["answer"].n_unique(),
        "several_raters": len(several),
        "disagreed": sum(not one.agreed for one in several),
        "strata": len(strata),
        "texts": texts,
        "stand_for": stand_for if drawn else None,
    }
    population = count_by_question(tally(run.scan(), [*CELL, "category"]), [*CELL, "category"], "coherent")
    return Labelled(counting, population, bool(drawn), counted)


def _texts(run: Run) -> int:
    """Return how many distinct texts could be drawn from the run."""
    answers = run.scan().filter(pl.col("error").is_null() & pl.col("response").is_not_null())
    text = pl.struct(pl.col("question").fill_null(""), "response").hash()
    return int(answers.select(text.n_unique()).collect(engine="streaming").item())


def _weights(settled: dict[str, Settled], sure: set[str]) -> dict[str, float]:
    """Return how many texts each one stands for: its stratum's size over its labelled texts; else 1."""
    each: dict[Any, int] = {}
    for answer in sure:
        stratum = settled[answer].stratum
        each[stratum] = each.get(stratum, 0) + 1
    return {
        answer: stratum.size / each[stratum] if (stratum := settled[answer].stratum) else 1.0
        for answer in sure
    }


def cells(population: pl.DataFrame, by: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the distinct values of `by`, in order."""
    return population.select(by).unique().sort(by).rows()
