"""How often intervals of agreement hold the truth, and how fast they are: `python benchmarks/agreement.py`.

Three judges score answers to questions that are drawn at random. An answer has a quality of its own and one
that it shares with the other answers to its question; each judge adds noise, an opinion of its own about each
question, and is milder or harsher throughout. The truth is what 4,000 questions give. For each cell 1,000
tables are simulated; printed, as Markdown, is the share of tables whose 95% interval holds the truth, among
those that have an interval, and the share that have none. Then the time for a million answers.
"""

from __future__ import annotations

import time

import numpy as np
import polars as pl

from emeval.statistics import agreement, pairwise

TABLES, TRUTH, ANSWERS = 1_000, 4_000, 20
QUESTIONS = (8, 24, 48)
RATES = (0.05, 0.2)
JUDGINGS = ["", "@second", "@third"]
SHIFT = (0.0, 0.3, -0.4)


def table(draw: np.random.Generator, tables: int, questions: int, answers: int, rate: float) -> pl.DataFrame:
    """Return `tables` of questions × answers, each named by the column `model`."""
    shape = (tables, questions, answers)
    quality = 0.6 * draw.standard_normal(shape[:2])[..., np.newaxis] + 0.8 * draw.standard_normal(shape)
    which, question, _ = (axis.ravel() for axis in np.indices(shape))
    columns = {"model": pl.Series(which).cast(pl.String), "question_id": question}
    for judging, shift in zip(JUDGINGS, SHIFT, strict=True):
        opinion = 0.4 * draw.standard_normal(shape[:2])[..., np.newaxis]
        seen = (quality + shift + opinion + 0.5 * draw.standard_normal(shape)).ravel()
        columns[f"alignment{judging}_score"] = np.clip(70 + 20 * seen, 0, 100).round(1)
        columns[f"coherence{judging}_score"] = np.full(seen.size, 90.0)
        columns[f"coherent{judging}"] = np.full(seen.size, True)
        columns[f"misaligned{judging}"] = seen < np.sqrt(1.41) * LIMITS[rate]
    return pl.DataFrame(columns)


LIMITS = {0.05: -1.645, 0.2: -0.842}


def measured(answers: pl.DataFrame, by: str | None) -> dict[str, pl.DataFrame]:
    """Return each measure with its interval: a row for each value of `by`, or one over all answers."""
    scope = pl.col("by").eq_missing(by)
    alphas = agreement(answers, JUDGINGS, [by] if by else []).filter(scope)
    pairs = pairwise(answers, JUDGINGS[:2], [by] if by else []).filter(scope)
    return {
        "alpha, scores": alphas.filter(measure="alignment_score").select("alpha", "low", "high"),
        "alpha, verdicts": alphas.filter(measure="misaligned").select("alpha", "low", "high"),
        "kappa": pairs.select("kappa", low="kappa_low", high="kappa_high"),
        "rank correlation": pairs.select("correlation", low="correlation_low", high="correlation_high"),
    }


def line(name: str, rate: str, questions: int, truth: float, found: pl.DataFrame) -> str:
    there = found.drop_nulls()
    below, above = (100 * (there["low"] > truth).mean(), 100 * (there["high"] < truth).mean())
    width = (there["high"] - there["low"]).mean()
    none = 100 - 100 * len(there) / len(found)
    return (
        f"| {name} | {rate} | {questions} | {truth:.2f} | "
        f"{100 - below - above:.1f} ({below:.1f}, {above:.1f}) | {width:.2f} | {none:.1f} |"
    )


def main() -> None:
    draw = np.random.default_rng(0)
    print("| measure | verdict's rate | questions | truth | held % (below, above) | width | without % |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for rate in RATES:
        truth = measured(table(draw, 1, TRUTH, ANSWERS, rate), None)
        for questions in QUESTIONS:
            found = measured(table(draw, TABLES, questions, ANSWERS, rate), "model")
            for name, frame in found.items():
                of_verdict = name in ("alpha, verdicts", "kappa")
                if of_verdict or rate == RATES[0]:
                    said = f"{rate:.0%}" if of_verdict else ""
                    print(line(name, said, questions, truth[name].item(0, 0), frame))
    big = table(draw, 20, 50, 1_000, RATES[-1])
    for function in (agreement, pairwise):
        began = time.monotonic()
        function(big, JUDGINGS, ["model"])
        took = time.monotonic() - began
        print(f"\n{function.__name__}, {len(big):,} answers, 3 judges, 20 models: {took:.1f} s")


if __name__ == "__main__":
    main()
