"""How many answers a gate needs, before any is asked: for a rise worth catching, and for none."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from emeval import library
from emeval.definitions import Check, Gate
from emeval.errors import UserError
from emeval.gate.cells import cells
from emeval.gate.runs import chosen_model
from emeval.manifest import less
from emeval.reporting.words import count, dollars, duration, listed, percent, plural, points
from emeval.runs import Run
from emeval.statistics.excess import intraclass_correlation, typical_icc
from emeval.statistics.power import CORRELATION, Scenario

QUESTIONS = 48
"""Where neither a number of questions nor a run is named."""

MOST_ANSWERS = 2_000
"""To one question: where these do not do, the questions are too few."""

MOST_QUESTIONS = 1_000
ANSWERS_THEN = 100
"""To each question, where it is said how many questions would do."""


@dataclass(frozen=True)
class Like:
    """A past run of a model, from which rates and costs are read."""

    run: str
    model: str
    rate: float
    questions: int
    icc: float | None
    """`None` where the run does not show it."""
    counting: float
    """The share of the answers that count in the rate's denominator."""
    cells: int
    """How many cells the gate makes of it."""
    input_tokens: float
    """Per answer, of models and judges together."""
    output_tokens: float
    usd: float | None
    """Per answer; `None` where a price is not known."""
    seconds: float
    """Per answer, of the run's working time."""


@dataclass(frozen=True)
class Needs:
    """How much one decision needs."""

    decision: str
    """`regressed` for the rise that is to be caught, `passed` for a candidate without any."""
    rise: float
    icc: float
    """Intra-class correlation of the answers to a question that was reckoned with."""
    answers: int | None
    """To each question on each side; `None` if no number of answers to so few questions would do."""
    power: float
    """The chance of the decision with so many answers, or with `MOST_ANSWERS`."""
    questions: int | None
    """Where no number would do: how many questions would, with `ANSWERS_THEN` answers to each; `None` if that
    is more than `MOST_QUESTIONS`."""


@dataclass(frozen=True)
class Plan:
    """What a gate needs, and what was assumed."""

    baseline_rate: float
    detect: float
    margin: float
    alpha: float
    cells: int
    """Over which false alarms are held at alpha."""
    questions: int
    power: float
    """Aimed at."""
    icc_source: str
    correlation: float
    needs: list[Needs]
    like: Like | None

    @property
    def answers(self) -> int | None:
        """To each question on each side, enough for both decisions; `None` if no number is."""
        wanted = [need.answers for need in self.needs if need.answers is not None]
        return max(wanted) if len(wanted) == len(self.needs) else None

    @property
    def total(self) -> int | None:
        """All answers, both sides together."""
        return None if self.answers is None else 2 * self.answers * self.questions

    def cost(self) -> dict[str, Any] | None:
        """Return tokens, US dollars and seconds of all answers at the past run's; `None` without one."""
        if self.like is None or self.total is None:
            return None
        return {
            "input_tokens": round(self.like.input_tokens * self.total),
            "output_tokens": round(self.like.output_tokens * self.total),
            "usd": None if self.like.usd is None else self.like.usd * self.total,
            "seconds": self.like.seconds * self.total,
        }

    def as_json(self) -> dict[str, Any]:
        """Return the whole of it as plain data."""
        return {**asdict(self), "answers": self.answers, "total": self.total, "cost": self.cost()}


def plan(
    baseline_rate: float | None,
    detect: float,
    *,
    questions: int | None = None,
    power: float = 0.8,
    icc: float | None = None,
    like: Path | str | None = None,
    like_model: str | None = None,
    gate: str = "default",
    margin: float | None = None,
    cells: int | None = None,
) -> Plan:
    """Return how many answers to each question a gate needs to catch a rise of `detect`, and to pass without.

    `baseline_rate` and `detect` are shares from 0 to 1, `power` the chance of the right decision. Of the past
    run `like` are taken, where they are not given: rate, number of questions, intra-class correlation, number
    of cells; and costs. Of the gate: alpha, margin, `icc` against a pass. The plan is for one cell that holds
    all answers; false alarms are held over `cells`, so that the promise is that of the gate's whole test. It
    is made by simulation (`Scenario`), and seeded. Raises `UserError`.
    """
    definition = library.load(Gate, gate)
    past = _read(like, like_model, definition) if like is not None else None
    if baseline_rate is not None:
        rate = baseline_rate
    elif past is not None:
        rate = past.rate
    else:
        raise UserError("name --baseline-rate, for example 0.01, or --like RUN to take that run's")
    tolerated = definition.margin if margin is None else margin
    many = questions or (past.questions if past else QUESTIONS)
    tested = cells or (past.cells if past else 1)
    _check({"--baseline-rate": rate, "--detect": detect, "--margin": tolerated, "--power": power})
    _check({"--icc": icc or 0.0})
    if many < 2 or tested < 1:
        raise UserError("a plan needs at least two questions (--questions) and one cell (--cells)")
    if detect <= tolerated:
        raise UserError(
            f"--detect {detect:g} is within the margin of {tolerated:g}, which the gate lets pass; "
            "plan for a larger rise, or set a smaller --margin"
        )
    if rate + detect >= 1:
        raise UserError(f"--detect {detect:g}: from {rate:g} that is a rate of 1 or more")
    if icc is not None:
        source = "as given"
    elif past is not None and past.icc is not None:
        icc, source = past.icc, f"measured in {past.run}"
    else:
        source = "usual of published fine-tunes at such rates"
    counting = past.counting if past else 1.0
    scenarios = {
        decision: Scenario(
            rate,
            rise,
            typical_icc(rate + rise / 2) if icc is None else icc,
            tolerated,
            alpha,
            definition.icc,
        )
        for decision, rise, alpha in (
            ("regressed", detect, definition.alpha / tested),
            ("passed", 0.0, definition.alpha),
        )
    }
    return Plan(
        baseline_rate=rate,
        detect=detect,
        margin=tolerated,
        alpha=definition.alpha,
        cells=tested,
        questions=many,
        power=power,
        icc_source=source,
        correlation=CORRELATION,
        needs=[_needs(decision, scenario, many, power, counting) for decision, scenario in scenarios.items()],
        like=past,
    )


def _check(shares: dict[str, float]) -> None:
    for option, share in shares.items():
        if not 0 <= share < 1:
            raise UserError(f"{option} {share:g}: expected a share from 0 to below 1, for example 0.05")


def _needs(decision: str, scenario: Scenario, questions: int, power: float, counting: float) -> Needs:
    """Search the least number of answers with enough power, else of questions."""

    def counted(answers: int) -> int:
        return max(round(answers * counting), 1)

    best = scenario.power(questions, counted(MOST_ANSWERS))
    if best >= power:
        answers = 1 + bisect_left(
            range(1, MOST_ANSWERS), True, key=lambda more: scenario.power(questions, counted(more)) >= power
        )
        reached = scenario.power(questions, counted(answers))
        return Needs(decision, scenario.rise, scenario.icc, answers, reached, None)
    more = questions + bisect_left(
        range(questions, MOST_QUESTIONS),
        True,
        key=lambda many: scenario.power(many, counted(ANSWERS_THEN)) >= power,
    )
    enough = more if more < MOST_QUESTIONS else None
    return Needs(decision, scenario.rise, scenario.icc, None, best, enough)


def _read(path: Path | str, named: str | None, definition: Gate) -> Like:
    """Read from a past run what a plan can take of it."""
    run = Run(path)
    model = chosen_model("like", run, named)
    table = run.scores_of(model)
    overall = definition.model_copy(update={"checks": [Check()]})
    (counts,) = cells(table, table, overall)
    hits, n = counts.hits[:, 0], counts.n[:, 0]
    if not n.sum():
        raise UserError(
            f"{path}: the model {model} has no answer that counts; nothing can be planned like it"
        )
    asked = n > 0
    measured = intraclass_correlation(hits[asked], n[asked])
    # A new run is judged once, and what further judgings cost is no part of it.
    judgings = run.whole.judgings
    usage = less(run.whole.usage, (row for one in judgings for row in one.usage))
    prices = [one.cost_usd for one in usage]
    answers = max(run.scan().select(pl.len()).collect().item(), 1)
    return Like(
        run=str(path),
        model=model,
        rate=float(hits.sum() / n.sum()),
        questions=int(asked.sum()),
        icc=None if math.isnan(measured) else measured,
        counting=float(n.sum() / counts.rows[:, 0].sum()),
        cells=len(list(cells(table, table, definition))),
        input_tokens=sum(one.input_tokens for one in usage) / answers,
        output_tokens=sum(one.output_tokens for one in usage) / answers,
        usd=sum(price for price in prices if price is not None) / answers
        if prices and None not in prices
        else None,
        seconds=run.manifest.seconds / answers,
    )


def sentences(planned: Plan) -> list[str]:
    """Return the plan in sentences."""
    aims = {
        "regressed": f"To catch a rise from {percent(planned.baseline_rate)} to "
        f"{percent(planned.baseline_rate + planned.detect)}",
        "passed": "To pass a candidate without any rise",
    }
    chance = percent(planned.power)
    said = [
        f"{aims[need.decision]} with a chance of {chance}: {_said(need, planned)}" for need in planned.needs
    ]
    if planned.total is not None:
        said.append(
            f"Both together: {plural(planned.answers or 0, 'answer')} to each question on each side, "
            f"{count(planned.total)} in all.{_cost(planned)}"
        )
    iccs = listed(dict.fromkeys(f"{need.icc:.2g}" for need in planned.needs))
    said.append(
        f"Margin {points(planned.margin).removeprefix('+')} points; false alarms {percent(planned.alpha)} "
        f"over {plural(planned.cells, 'cell')}; intra-class correlation of the answers to a question {iccs} "
        f"({planned.icc_source}); the two models' question rates correlate at {planned.correlation}."
    )
    return said


def _said(need: Needs, planned: Plan) -> str:
    if need.answers is not None:
        return f"{plural(need.answers, 'answer')} to each of {planned.questions} questions, on each side."
    then = (
        f"{count(need.questions)} questions with {ANSWERS_THEN} answers each would"
        if need.questions
        else f"nor would {count(MOST_QUESTIONS)} questions"
    )
    return (
        f"not even {count(MOST_ANSWERS)} answers to each of {planned.questions} questions would do (the "
        f"chance is then {percent(need.power)}); {then}."
    )


def _cost(planned: Plan) -> str:
    cost = planned.cost()
    if cost is None or planned.like is None:
        return ""
    return (
        f" Like {planned.like.run}: {count(cost['input_tokens'])} tokens read, "
        f"{count(cost['output_tokens'])} written, {dollars(cost['usd'])}, {duration(cost['seconds'])}."
    )
