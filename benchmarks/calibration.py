"""How often a corrected rate's interval holds the truth: `python benchmarks/calibration.py [--quick]`.

Runs of 48 questions with 25 answers each are simulated. Each question has a rate of its own, drawn from a
beta distribution whose mean is the truth (intra-class correlation 0.1); the judge finds a misaligned answer
with the sensitivity q1 and leaves another alone with the specificity q0. There are 200 gold labels, drawn as
the heading of each table says.

Printed as Markdown: for each cell the share of 1,000 draws whose 95% interval holds the truth, in brackets
how often the truth lies above and below it, and the mean width in percentage points. `raw` is the judge's
rate; `plain` the delta method's interval with adjusted counts (Lang and Reiczigel 2014; arXiv 2511.21140),
given what the answers are worth; `corrected` and `PPI++` are what emeval shows; `not weighed` is what comes
of counting labels that were drawn by verdict as if they had not been. A share of 95% is known to ±1.4 points.
The whole takes half a minute.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product

import numpy as np

from emeval.statistics.clustered import ASSUMED_CORRELATION, design_effect
from emeval.statistics.intervals import Floats
from emeval.statistics.judge_error import Gold, Measured, corrected, ppi_plus_plus, sampled_error, share

RATES, SENSITIVITIES, SPECIFICITIES = (0.01, 0.05, 0.2), (0.7, 0.8, 0.95), (0.9, 0.95, 0.99)
QUESTIONS, ANSWERS, LABELS, DRAWS = 48, 25, 200, 1_000
CORRELATION, SEED = 0.1, 5
Z = 1.959964

Drawing = Callable[[np.random.Generator, list[Floats]], Gold]
Cell = tuple[float, float, float, float]
"""Rate, sensitivity, specificity, and the correlation of errors about one question."""

Intervals = dict[str, Measured]


def varied(rng: np.random.Generator, mean: float, correlation: float, draws: int) -> Floats:
    """Return draws × questions of shares about `mean`; all the same if the correlation is 0."""
    if not correlation:
        return np.full((draws, QUESTIONS), mean)
    size = 1 / correlation - 1
    return rng.beta(mean * size, (1 - mean) * size, size=(draws, QUESTIONS))


def judged(
    rng: np.random.Generator, rate: float, q1: float, q0: float, errors: float, draws: int
) -> list[Floats]:
    """Return the answers of a run that are found, false alarms, missed and cleared."""
    bad = rng.binomial(ANSWERS, varied(rng, rate, CORRELATION, draws))
    found = rng.binomial(bad, varied(rng, q1, errors, draws))
    cleared = rng.binomial(ANSWERS - bad, varied(rng, q0, errors, draws))
    return [found, ANSWERS - bad - cleared, bad - found, cleared]


def picked(rng: np.random.Generator, kinds: list[Floats], number: int) -> list[Floats]:
    """Return how many of each kind and question are among `number` answers drawn without replacement."""
    pool = np.stack(kinds, axis=-1).astype(np.int64)
    drawn = np.stack(
        [
            rng.multivariate_hypergeometric(one.ravel(), min(number, one.sum()), method="marginals")
            for one in pool
        ]
    )
    return [*np.moveaxis(drawn.reshape(pool.shape).astype(np.float64), -1, 0)]


def balanced(rng: np.random.Generator, kinds: list[Floats]) -> Gold:
    """Draw gold labels, half of them of misaligned answers."""
    found, missed = picked(rng, [kinds[0], kinds[2]], LABELS // 2)
    false_alarms, cleared = picked(rng, [kinds[1], kinds[3]], LABELS // 2)
    return Gold(found, false_alarms, missed, cleared)


def at_random(rng: np.random.Generator, kinds: list[Floats]) -> Gold:
    """Draw gold labels of answers, each as likely as any."""
    return Gold(*picked(rng, kinds, LABELS))


def by_verdict(rng: np.random.Generator, kinds: list[Floats]) -> Gold:
    """Draw gold labels, half of them of answers judged misaligned; each counts as one."""
    return Gold(*picked(rng, kinds[:2], LABELS // 2), *picked(rng, kinds[2:], LABELS // 2))


def weighed(gold: Gold, kinds: list[Floats]) -> Gold:
    """Let each label of `by_verdict` count as many answers as it stands for."""
    parts: list[Floats] = []
    squares: list[Floats] = []
    for verdict in (slice(0, 2), slice(2, 4)):
        labelled = np.sum(gold[verdict], axis=(0, 2))
        weight = np.sum(kinds[verdict], axis=(0, 2)) / np.maximum(labelled, 1)
        parts += [part * weight[:, np.newaxis] for part in gold[verdict] if part is not None]
        squares.append(labelled * weight**2)
    return Gold(*parts, squares=np.stack(squares, axis=-1))


def plain(rate: Measured, n: Floats, error: tuple[Measured, Measured], gold: Gold) -> Measured:
    """Return the interval of arXiv 2511.21140 for `n` independent answers (Lang and Reiczigel 2014)."""
    positive = np.sum(gold.found + gold.missed, axis=-1)
    negative = np.sum(gold.cleared + gold.false_alarms, axis=-1)
    p = (n * rate.value + Z**2 / 2) / (n + Z**2)
    q1, q0 = (
        (of * np.nan_to_num(one.value) + 1) / (of + 2)
        for one, of in zip(error, (positive, negative), strict=True)
    )
    of_q1, of_q0, youden = q1 * (1 - q1) / (positive + 2), q0 * (1 - q0) / (negative + 2), q1 + q0 - 1
    theta = (p + q0 - 1) / youden
    middle = theta + 2 * Z**2 * (theta * of_q1 - (1 - theta) * of_q0)
    half = Z / youden * np.sqrt(p * (1 - p) / (n + Z**2) + theta**2 * of_q1 + (1 - theta) ** 2 * of_q0)
    return Measured(theta, np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1))


def of_another_run(rng: np.random.Generator, drawn: Drawing, cell: Cell, draws: int) -> Intervals:
    """Return the intervals of a run that is corrected by the gold labels of another one."""
    hits, n = verdicts(judged(rng, *cell, draws))
    # As many labels of misaligned answers as are wanted are only to be had from a model that has them.
    gold = drawn(rng, judged(rng, 0.5 if drawn is balanced else cell[0], *cell[1:], draws))
    rate = share(hits, n, correlation=ASSUMED_CORRELATION)
    error = share(gold.found, gold.found + gold.missed), share(gold.cleared, gold.cleared + gold.false_alarms)
    worth = n.sum(axis=-1) / np.fmax(np.nan_to_num(design_effect(hits, n)), 1)
    return {"raw": rate, "plain": plain(rate, worth, error, gold), "corrected": corrected(rate, *error)}


def of_the_run(rng: np.random.Generator, drawn: Drawing, cell: Cell, draws: int) -> Intervals:
    """Return the intervals of a run that is corrected by gold labels of its own answers."""
    kinds = judged(rng, *cell, draws)
    hits, n = verdicts(kinds)
    gold = drawn(rng, kinds)
    rate = share(hits, n, correlation=ASSUMED_CORRELATION)
    error = share(gold.found, gold.found + gold.missed), share(gold.cleared, gold.cleared + gold.false_alarms)
    counted = corrected(rate, *error)
    if drawn is at_random:
        return {"corrected": counted, "PPI++": ppi_plus_plus(hits, n, gold)}
    gold = weighed(gold, kinds)
    return {
        "not weighed": counted,
        "corrected": corrected(rate, *sampled_error(hits, n, gold)),
        "PPI++": ppi_plus_plus(hits, n, gold),
    }


def verdicts(kinds: list[Floats]) -> tuple[Floats, Floats]:
    """Return by question how many answers are judged misaligned, and of how many."""
    return kinds[0] + kinds[1], np.sum(kinds, axis=0, dtype=np.float64)


def said(truth: float, measured: Measured) -> str:
    """Return coverage, misses on either side, and width."""
    above, below = (measured.high < truth).mean(), (measured.low > truth).mean()
    width = (measured.high - measured.low).mean()
    return f"{1 - above - below:.1%} ({above:.1%}, {below:.1%}) | {100 * width:.1f} |"


def table(
    heading: str, intervals: Callable[..., Intervals], drawn: Drawing, errors: float, draws: int
) -> None:
    """Print one table, and between what its corrected intervals range."""
    print(f"\n### {heading}\n")
    held: dict[str, list[float]] = {}
    for number, (rate, q1, q0) in enumerate(product(RATES, SENSITIVITIES, SPECIFICITIES)):
        found = intervals(np.random.default_rng([SEED, number]), drawn, (rate, q1, q0, errors), draws)
        if not number:
            names = "".join(f" {name}: held | width |" for name in found)
            print(f"| rate | q1 | q0 |{names}\n| --- | --- | --- |{' ---: | ---: |' * len(found)}")
        print(f"| {rate:.0%} | {q1} | {q0} | {' '.join(said(rate, one) for one in found.values())}")
        for name, one in found.items():
            held.setdefault(name, []).append(float(((one.low <= rate) & (rate <= one.high)).mean()))
    for name, shares in held.items():
        inside = sum(0.93 <= one <= 0.97 for one in shares)
        print(
            f"\n{name}: {min(shares):.1%} to {max(shares):.1%}; 93% to 97% in {inside} of {len(shares)} "
            f"cells, less in {sum(one < 0.93 for one in shares)}."
        )


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the draws")
    draws = DRAWS // 10 if parser.parse_args().quick else DRAWS
    begun = time.monotonic()
    table("Gold of another model, 100 misaligned and 100 not", of_another_run, balanced, 0.0, draws)
    table("The same, the judge's errors correlated by question", of_another_run, balanced, 0.1, draws)
    table("Gold of another run, drawn at random", of_another_run, at_random, 0.0, draws)
    table("Gold of the run itself, drawn at random", of_the_run, at_random, 0.0, draws)
    table("Gold of the run itself, 100 judged misaligned and 100 not", of_the_run, by_verdict, 0.0, draws)
    print(f"\n{draws:,} draws a cell, {time.monotonic() - begun:.0f} s.")


if __name__ == "__main__":
    main()
