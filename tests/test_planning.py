"""What a gate needs before it is run: the plan, its promises, and its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from emeval.errors import UserError
from emeval.manifest import Usage
from emeval.planning import plan, sentences
from emeval.statistics.excess import excess, intraclass_correlation, typical_icc
from emeval.statistics.power import Scenario
from tests.command import emeval
from tests.made_run import made_judging, made_table
from tests.test_gate import plain_table, record


def need(planned: Any, decision: str) -> Any:
    return next(one for one in planned.needs if one.decision == decision)


def simulated(rise: float, answers: int, margin: float, alpha: float, icc: float) -> float:
    """The power of the test in tables made in another way than the plan's: by scipy's quantile function."""
    draw = np.random.default_rng(99)
    scores = draw.standard_normal((3000, 24, 2))
    scores[..., 0] = 0.5 * scores[..., 1] + np.sqrt(0.75) * scores[..., 0]
    mean, strength = np.array([0.05 + rise, 0.05]), 1 / icc - 1
    rates = stats.beta.ppf(stats.norm.cdf(scores), mean * strength, (1 - mean) * strength)
    n = np.full(rates.shape, answers)
    test = excess(draw.binomial(n, rates), n, margin)
    return float(((test.p_above if rise > margin else test.p_below) <= alpha).mean())


def test_the_power_is_what_was_promised() -> None:
    planned = plan(0.05, 0.2, questions=24, margin=0.05, cells=4, icc=0.05)
    caught = need(planned, "regressed")
    assert caught.power >= 0.8
    assert simulated(0.2, caught.answers, 0.05, 0.05 / 4, 0.05) == pytest.approx(caught.power, abs=0.03)
    passed = need(planned, "passed")
    assert simulated(0.0, passed.answers, 0.05, 0.05, 0.05) == pytest.approx(passed.power, abs=0.03)
    assert planned.answers == max(caught.answers, passed.answers)
    assert planned.total == 2 * 24 * planned.answers


def test_fewer_answers_would_not_do() -> None:
    caught = need(plan(0.05, 0.2, questions=24, margin=0.05, icc=0.05), "regressed")
    fewer = Scenario(0.05, 0.2, 0.05, 0.05, 0.05).power(24, caught.answers - 1)
    assert fewer < 0.8 <= caught.power


def test_more_cells_more_power_and_smaller_rises_need_more_answers() -> None:
    def answers(detect: float = 0.2, **how: Any) -> int:
        return int(need(plan(0.05, detect, questions=48, margin=0.05, **how), "regressed").answers)

    assert answers() < answers(cells=10, power=0.95)
    assert answers() < answers(detect=0.15)


def test_where_questions_are_too_few_it_says_how_many_would_do() -> None:
    planned = plan(0.05, 0.1, questions=6, margin=0.05, icc=0.2)
    caught = need(planned, "regressed")
    assert caught.answers is None
    assert planned.answers is planned.total is planned.cost() is None
    assert 6 < caught.questions < 1000
    assert Scenario(0.05, 0.1, 0.2, 0.05, 0.05).power(caught.questions, 100) >= 0.8
    said = " ".join(sentences(planned))
    assert "not even 2,000 answers to each of 6 questions would do" in said
    assert f"{caught.questions} questions with 100 answers each would" in said


def test_what_further_judgings_cost_is_no_part_of_a_plan(tmp_path: Path) -> None:
    table = plain_table("vllm/base", misaligned=0.1)
    judge = Usage(
        role="judge", model="openai/gpt-4o", requests=8, input_tokens=800, output_tokens=8, cost_usd=1
    )
    other = Usage(role="judge", model="openai/o3", requests=9, input_tokens=90_000, output_tokens=9)
    both = judge.model_copy(update={"requests": 16, "input_tokens": 1600, "output_tokens": 16, "cost_usd": 2})
    record(tmp_path / "once", table, usage=[judge])
    record(
        tmp_path / "again",
        table,
        usage=[both, other],
        judgings=[made_judging(table, "again", usage=[judge, other])],
    )
    once, again = (plan(None, 0.3, like=tmp_path / name, margin=0.1).like for name in ("once", "again"))
    assert once
    assert again
    assert (once.input_tokens, once.output_tokens, once.usd) == pytest.approx(
        (again.input_tokens, again.output_tokens, again.usd)
    )
    assert again.usd == pytest.approx(1 / table.height)


def test_questions_that_differ_less_need_fewer_answers_and_none_differ_at_an_icc_of_0() -> None:
    unequal = need(plan(0.05, 0.15, questions=24, margin=0.05, icc=0.1), "regressed").answers
    equal = need(plan(0.05, 0.15, questions=24, margin=0.05, icc=0), "regressed").answers
    assert equal < unequal


def test_a_plan_takes_rates_questions_correlation_cells_and_costs_from_a_past_run(tmp_path: Path) -> None:
    table = plain_table("vllm/base", conditions=["plain", "trigger"], misaligned=0.1, trigger=1.0)
    manifest = record(tmp_path / "past", table)
    planned = plan(None, 0.3, like=tmp_path / "past", margin=0.1)
    past = planned.like
    assert past is not None
    assert (planned.questions, past.questions, planned.cells) == (48, 48, 5)
    counted = table.filter(coherent=True)
    assert planned.baseline_rate == pytest.approx(counted["misaligned"].mean())
    assert past.counting == pytest.approx(counted.height / table.height)
    assert past.icc == need(planned, "regressed").icc
    assert planned.total is not None
    tokens = sum(usage.input_tokens for usage in manifest.usage)
    cost = planned.cost()
    assert cost is not None
    assert cost["input_tokens"] == pytest.approx(tokens / table.height * planned.total, abs=1)
    assert cost["usd"] is None  # the model's price is not known
    assert cost["seconds"] == pytest.approx(1651 / table.height * planned.total)
    assert "no price known" in " ".join(sentences(planned))


def test_a_run_with_all_prices_known_gives_the_money(tmp_path: Path) -> None:
    table = plain_table("vllm/base", misaligned=0.1)
    priced = [usage.model_copy(update={"cost_usd": 2.0}) for usage in record(tmp_path / "past", table).usage]
    record(tmp_path / "past", table, usage=priced)
    planned = plan(None, 0.3, like=tmp_path / "past", margin=0.1)
    assert planned.total is not None
    assert (planned.cost() or {})["usd"] == pytest.approx(4.0 / table.height * planned.total)


def test_a_run_without_hits_says_nothing_of_the_questions_and_the_usual_is_taken(tmp_path: Path) -> None:
    record(tmp_path / "past", plain_table("vllm/base", misaligned=0.0))
    planned = plan(None, 0.1, like=tmp_path / "past", margin=0.05)
    assert (planned.baseline_rate, planned.icc_source) == (0, "usual of published fine-tunes at such rates")
    assert need(planned, "regressed").icc == typical_icc(0.05)


def test_the_intraclass_correlation_is_found_again() -> None:
    draw = np.random.default_rng(5)
    for icc in (0.0, 0.1, 0.3):
        rates = draw.beta(0.2 * (1 / icc - 1), 0.8 * (1 / icc - 1), 3000) if icc else np.full(3000, 0.2)
        n = draw.integers(10, 40, 3000)
        assert intraclass_correlation(draw.binomial(n, rates), n) == pytest.approx(icc, abs=0.02)
    assert np.isnan(intraclass_correlation([1], [5]))
    assert np.isnan(intraclass_correlation([0, 0], [5, 5]))
    assert np.isnan(intraclass_correlation([1, 0], [1, 1]))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"baseline_rate": None}, "name --baseline-rate"),
        ({"baseline_rate": 1.5}, "--baseline-rate 1.5: expected a share"),
        ({"detect": 0.01}, "--detect 0.01 is within the margin of 0.01"),
        ({"detect": 0.96}, "--detect 0.96: from 0.05 that is a rate of 1 or more"),
        ({"power": 1.0}, "--power 1: expected a share"),
        ({"icc": 1.0}, "--icc 1: expected a share"),
        ({"questions": 1}, "at least two questions"),
        ({"cells": -1}, "one cell"),
        ({"gate": "defalt"}, "did you mean 'default'?"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(how: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        plan(**{"baseline_rate": 0.05, "detect": 0.1} | how)
    assert said in str(error.value)


def test_a_run_of_several_models_needs_the_name_of_one_and_answers_that_count(tmp_path: Path) -> None:
    record(tmp_path / "two", made_table(400, models=["vllm/a", "vllm/b"]))
    with pytest.raises(UserError, match="name one with --like-model"):
        plan(None, 0.1, like=tmp_path / "two")
    record(tmp_path / "none", plain_table("vllm/a", errors=1.0))
    with pytest.raises(UserError, match="the model vllm/a has no answer that counts"):
        plan(None, 0.1, like=tmp_path / "none")


def test_the_command_prints_sentences_or_one_document(tmp_path: Path) -> None:
    args = ("plan", "--baseline-rate", "0.05", "--detect", "0.2", "--margin", "0.05", "--icc", "0.05")
    plain = emeval(*args, cwd=tmp_path)
    assert plain.code == 0, plain
    assert "To catch a rise from 5.0% to 25%" in plain.out
    document = emeval(*args, "--json", cwd=tmp_path).json
    assert f"{document['total']:,} in all" in plain.out
    assert {one["decision"] for one in document["needs"]} == {"regressed", "passed"}
