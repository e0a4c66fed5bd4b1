"""How often the intervals of agreement hold the truth, and how fast they are: `python benchmarks/agreement.py`.

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


def measured(answers: pl.DataFrame, by: list[str]) -> dict[str, pl.DataFrame]:
    alphas = agreement(answers, JUDGINGS, by).filter(
        pl.col("by").is_null() if not by else pl.col("by") == "model"
    )
    pairs = pairwise(answers, JUDGINGS[:2], by).filter(
        pl.col("by").is_null() if not by else pl.col("by") == "model"
    )
    found = {
        f"alpha, {name}": alphas.filter(measure=measure).select("alpha", "low", "high")
        for name, measure in (("scores", "alignment_score"), ("verdicts", "misaligned"))
    }
    for name in ("kappa", "correlation"):
        found[name] = pairs.select(name, low=f"{name}_low", high=f"{name}_high")
    return found


def main() -> None:
    draw = np.random.default_rng(0)
    print("| measure | rate | questions | truth | held % | (below, above) | mean width | no interval % |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for rate in RATES:
        truth = measured(table(draw, 1, TRUTH, ANSWERS, rate), [])
        for questions in QUESTIONS:
            for name, frame in measured(table(draw, TABLES, questions, ANSWERS, rate), ["model"]).items():
                if rate != RATES[0] and name in ("alpha, scores", "correlation"):
                    continue
                value = truth[name].item(0, 0)
                there = frame.drop_nulls()
                below, above = ((there["low"] > value).mean(), (there["high"] < value).mean())
                print(
                    f"| {name} | {f'{rate:.0%}' if name in ('alpha, verdicts', 'kappa') else ''} | {questions} | "
                    f"{value:.2f} | {100 * (1 - below - above):.1f} | ({100 * below:.1f}, {100 * above:.1f}) | "
                    f"{(there['high'] - there['low']).mean():.2f} | {100 - len(there) / len(frame) * 100:.1f} |"
                )
    big = table(draw, 20, 50, 1_000, 0.2)
    for function in (agreement, pairwise):
        began = time.monotonic()
        function(big, JUDGINGS, ["model"])
        print(
            f"\n{function.__name__}, {len(big):,} answers, 3 judges, 20 models: {time.monotonic() - began:.1f} s"
        )


if __name__ == "__main__":
    main()
