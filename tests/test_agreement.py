"""Agreement of judges: held against published examples, other implementations and what must hold of it."""

from __future__ import annotations

import json
import math
from typing import Any

import krippendorff
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa

from emeval.errors import UserError
from emeval.statistics import (
    Agreement,
    agreement,
    cohen_kappa,
    krippendorff_alpha,
    pairwise,
    rank_correlation,
)
from emeval.statistics.agreement import FEW_QUESTIONS, MEASURES
from tests.made_run import judged_again, made_table

NAN = float("nan")

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): four observers, twelve units.
TEXTBOOK = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]

ratings = st.integers(2, 4).flatmap(
    lambda judges: st.lists(
        st.lists(st.sampled_from([1.0, 2.0, 3.0, 7.0, NAN]), min_size=judges, max_size=judges),
        min_size=2,
        max_size=25,
    ).map(lambda rows: np.array(rows).T)
)


def differing(values: np.ndarray) -> bool:
    """Whether two judges' values stand side by side somewhere, and not all of those are the same."""
    pairable = values[:, np.sum(~np.isnan(values), axis=0) > 1]
    return len(np.unique(pairable[~np.isnan(pairable)])) > 1


# ---- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("interval", 0.849)])
def test_alpha_is_that_of_krippendorffs_own_example(level: Any, published: float) -> None:
    found = krippendorff_alpha(TEXTBOOK, level)
    assert found.value == pytest.approx(published, abs=5e-4)
    assert (found.answers, found.questions) == (11, 11), "an answer with one value counts for nothing"


@settings(max_examples=60, deadline=None)
@given(ratings, st.sampled_from(["interval", "nominal"]))
def test_alpha_is_that_of_another_implementation(values: np.ndarray, level: Any) -> None:
    found = krippendorff_alpha(values, level)
    if differing(values):
        other = krippendorff.alpha(values, level_of_measurement=level)
        assert found.value == pytest.approx(other, abs=1e-9)
    else:
        assert found.value is None
        assert found.reason in ("all values are the same", "no answer has a value of two judges")


@settings(max_examples=30, deadline=None)
@given(ratings, st.randoms(use_true_random=False))
def test_order_and_names_mean_nothing_to_alpha(values: np.ndarray, chance: Any) -> None:
    answers, judges = list(range(values.shape[1])), list(range(values.shape[0]))
    chance.shuffle(answers)
    chance.shuffle(judges)
    shuffled = values[judges][:, answers]
    for level in ("interval", "nominal"):
        one, other = (krippendorff_alpha(rows, level).value for rows in (values, shuffled))
        assert one == pytest.approx(other, abs=1e-9)
    named = [[None if math.isnan(value) else f"label {value}" for value in row] for row in values]
    assert krippendorff_alpha(named, "nominal").value == krippendorff_alpha(values, "nominal").value
    moved = krippendorff_alpha(3 * values - 40, "interval").value
    assert moved == pytest.approx(krippendorff_alpha(values, "interval").value, abs=1e-9)


def test_perfect_agreement_is_one_and_has_no_interval() -> None:
    scores = np.arange(40.0)
    for found in (
        krippendorff_alpha([scores, scores], "interval"),
        krippendorff_alpha([scores % 3, scores % 3], "nominal"),
        cohen_kappa((scores % 3).tolist(), (scores % 3).tolist()),
        rank_correlation(scores, scores**3),
    ):
        assert found.value == pytest.approx(1)
        assert (found.low, found.high) == (None, None)
        assert "perfect" in (found.reason or "")


def test_kappa_is_that_of_a_worked_example_and_of_statsmodels() -> None:
    # 20 times both yes, 15 times both no, 5 and 10 times one of them alone: chance 0.5, agreement 0.7.
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second).value == pytest.approx(0.4)
    draw = np.random.default_rng(3)
    one = draw.integers(0, 4, 300)
    two = np.where(draw.random(300) < 0.6, one, draw.integers(0, 4, 300))
    square = np.zeros((4, 4))
    np.add.at(square, (one, two), 1)
    assert cohen_kappa(one.tolist(), two.tolist()).value == pytest.approx(cohens_kappa(square).kappa)
    turned = cohen_kappa(second, first).value
    assert turned == pytest.approx(0.4)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 20.0, 55.5, 99.0]), st.sampled_from([1.0, 2.0, 50.0])),
        min_size=3,
        max_size=40,
    )
)
def test_rank_correlation_is_scipys_ties_included(pairs: list[tuple[float, float]]) -> None:
    first, second = (list(side) for side in zip(*pairs, strict=True))
    found = rank_correlation([*first, NAN, 5.0], [*second, 7.0, NAN])
    if len(set(first)) > 1 and len(set(second)) > 1:
        assert found.value == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-9)
        assert found.answers == len(pairs)
    else:
        assert found.value is None
        assert "same score" in (found.reason or "")


# ---- intervals -------------------------------------------------------------------------------------------


def simulated(questions: int, answers: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of three judges, and the question of each answer; answers to a question are alike."""
    draw = np.random.default_rng(seed)
    question = np.repeat(np.arange(questions), answers)
    quality = 15 * draw.standard_normal(questions)[question] + 15 * draw.standard_normal(len(question))
    opinion = 8 * draw.standard_normal((3, questions))[:, question]
    scores = 50 + quality + opinion + 8 * draw.standard_normal((3, len(question)))
    return scores.round(1), question


def leaving_out(measure: Any, question: np.ndarray) -> float:
    """The jackknife's standard error, by leaving out one question after the other."""
    names = np.unique(question)
    values = np.array([measure(question != name).value for name in names])
    return float(np.sqrt((len(names) - 1) / len(names) * np.sum((values - values.mean()) ** 2)))


def error_of(found: Agreement, slope: float, bearing: int) -> float:
    """The standard error that an interval of 95% was made with."""
    assert found.value is not None
    assert found.high is not None
    there = (lambda x: -math.log(1 - x)) if slope == 1 else math.atanh
    reach = (there(found.high) - there(found.value)) / stats.t.ppf(0.975, bearing - 1)
    return reach * ((1 - found.value) if slope == 1 else (1 - found.value**2))


def test_the_error_is_that_of_leaving_out_each_question() -> None:
    scores, question = simulated(12, 15, 0)
    verdicts = scores < 40
    alpha = krippendorff_alpha(scores, "interval", question)
    brute = leaving_out(lambda keep: krippendorff_alpha(scores[:, keep], "interval"), question)
    assert error_of(alpha, 1, 12) == pytest.approx(brute)
    alpha = krippendorff_alpha(verdicts, "nominal", question)
    brute = leaving_out(lambda keep: krippendorff_alpha(verdicts[:, keep], "nominal"), question)
    bearing = sum(verdicts[:, question == name].any() for name in range(12))
    assert error_of(alpha, 1, bearing) == pytest.approx(brute)
    kappa = cohen_kappa(verdicts[0].tolist(), verdicts[1].tolist(), question)
    brute = leaving_out(
        lambda keep: cohen_kappa(verdicts[0][keep].tolist(), verdicts[1][keep].tolist()), question
    )
    bearing = sum(verdicts[:2, question == name].any() for name in range(12))
    assert error_of(kappa, 2, bearing) == pytest.approx(brute)


def test_the_error_of_a_rank_correlation_is_nearly_that_of_ranking_anew_without_each_question() -> None:
    scores, question = simulated(30, 10, 1)
    scores = scores.round(-1)
    found = rank_correlation(scores[0], scores[1], question)
    brute = leaving_out(lambda keep: rank_correlation(scores[0][keep], scores[1][keep]), question)
    assert error_of(found, 2, 30) == pytest.approx(brute, rel=0.1)


def test_the_error_of_unrelated_scores_is_the_known_one() -> None:
    draw = np.random.default_rng(0)
    found = rank_correlation(draw.random(2000), draw.random(2000))
    assert error_of(found, 2, 2000) == pytest.approx(1 / math.sqrt(1999), rel=0.05)


def test_answers_that_are_alike_make_the_interval_wider() -> None:
    scores, question = simulated(20, 30, 2)
    for alone, clustered in (
        (krippendorff_alpha(scores, "interval"), krippendorff_alpha(scores, "interval", question)),
        (rank_correlation(*scores[:2]), rank_correlation(*scores[:2], question)),
    ):
        assert alone.value == pytest.approx(clustered.value)
        assert clustered.high - clustered.low > 1.5 * (alone.high - alone.low)  # type: ignore[operator]


def test_the_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    scores, question = simulated(3000, 10, 10)
    truth = krippendorff_alpha(scores, "interval", question).value, rank_correlation(*scores[:2]).value
    held = np.zeros(2)
    for seed in range(200):
        scores, question = simulated(20, 10, 100 + seed)
        for place, found in enumerate(
            (krippendorff_alpha(scores, "interval", question), rank_correlation(*scores[:2], question))
        ):
            held[place] += found.low <= truth[place] <= found.high  # type: ignore[operator]
    assert np.all(held / 200 > 0.89)
    assert np.all(held / 200 < 0.995)


def test_an_interval_needs_questions_that_bear_on_it() -> None:
    question = np.repeat(np.arange(10), 20)
    first = np.zeros(200, dtype=bool)
    first[[0, 1, 25, 45, 66]] = True
    second = first.copy()
    second[1] = False
    found = cohen_kappa(first.tolist(), second.tolist(), question)
    assert found.value is not None
    assert found.low is None
    assert f"needs {FEW_QUESTIONS} questions that bear on it; there are 4" in (found.reason or "")
    first[90] = True
    found = cohen_kappa(first.tolist(), second.tolist(), question)
    assert found.low is not None
    assert krippendorff_alpha([[1.0, 2, 3], [1, 3, 3]], "interval", [1, 1, 1]).low is None


# ---- what is not defined ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (krippendorff_alpha([[1.0, 2.0]], "interval"), "only one judge"),
        (krippendorff_alpha([[1.0, NAN], [NAN, 2.0]], "interval"), "no answer has a value of two"),
        (krippendorff_alpha([[], []], "nominal"), "no answer has a value of two"),
        (krippendorff_alpha([["a", "a"], ["a", "a"]], "nominal"), "all values are the same"),
        (krippendorff_alpha([[87.3, 87.3]] * 2, "interval"), "all values are the same"),
        (cohen_kappa([True, True], [True, True]), "all values are the same"),
        (cohen_kappa([None, True], [True, None]), "no answer has a value of two"),
        (cohen_kappa([None, None], ["a", "b"]), "no answer has a value of two"),
        (krippendorff_alpha([[None, None], ["a", "b"]], "nominal"), "no answer has a value of two"),
        (rank_correlation([1, 2, 3], [5, 5, 5]), "the same score"),
        (rank_correlation([NAN, 2], [5, NAN]), "no answer has a value of two"),
    ],
)
def test_what_is_not_defined_is_none_and_says_why(found: Agreement, why: str) -> None:
    assert (found.value, found.low, found.high) == (None, None, None)
    assert why in (found.reason or "")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: krippendorff_alpha([[1.0], [2.0]], "ordinal"), "unknown level 'ordinal'"),  # type: ignore[arg-type]
        (lambda: krippendorff_alpha([["a"], ["b"]], "interval"), "is for numbers"),
        (lambda: krippendorff_alpha([[1.0, 2], [1.0]], "interval"), "lengths differ: 1, 2"),
        (lambda: krippendorff_alpha([[1.0, 2], [1.0, 2]], "interval", [1]), "lengths differ: 1, 2"),
        (lambda: krippendorff_alpha(np.array([1.0, 2]), "interval"), "judges × answers"),
        (lambda: cohen_kappa([1], [1, 2]), "lengths differ"),
        (lambda: rank_correlation([1], [1, 2]), "lengths differ"),
        (lambda: rank_correlation([1, 2], [1, 2], confidence=2), "confidence is 2"),
        (lambda: agreement(made_table(100), ["", "@other"]), "alignment@other_score"),
    ],
)
def test_wrong_use_is_said_in_one_line(wrong: Any, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("(", r"\(")) as raised:
        wrong()
    assert "\n" not in str(raised.value)


# ---- of a response table ---------------------------------------------------------------------------------

JUDGINGS = ["", "@mild", "@harsh"]


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    models = ("vllm/org/Base-7B:insecure", "vllm/org/Base-7B")
    made = made_table(1500, models=models, misaligned=0.2)
    made = judged_again(made, "mild", shift=10, seed=2)
    return judged_again(made, "harsh", shift=-30, noise=15, seed=3)


def test_a_table_gives_what_its_columns_give(table: pl.DataFrame) -> None:
    found = agreement(table, JUDGINGS)
    assert set(found["by"]) == {None, "model", "category"}
    for by, group in (("model", "vllm/org/Base-7B"), ("category", "health"), (None, None)):
        part = table.filter(pl.col(by) == group) if by else table
        part = part.filter(pl.col("error").is_null())
        scores = [part[f"alignment{end}_score"].to_numpy() for end in JUDGINGS]
        alone = krippendorff_alpha(scores, "interval", part["question_id"].to_list())
        rows = found.filter(pl.col("by").eq_missing(by), pl.col("group").eq_missing(group))
        row = rows.row(by_predicate=pl.col("measure") == "alignment_score", named=True)
        assert row["alpha"] == pytest.approx(alone.value)
        assert (row["low"], row["high"]) == pytest.approx((alone.low, alone.high))
        assert (row["answers"], row["questions"], row["judges"]) == (alone.answers, alone.questions, 3)
        pairs = pairwise(table, JUDGINGS).filter(
            pl.col("by").eq_missing(by), pl.col("group").eq_missing(group), first="", second="@harsh"
        )
        correlation = rank_correlation(scores[0], scores[2], part["question_id"].to_list())
        assert pairs["correlation"].item() == pytest.approx(correlation.value)
        assert pairs["scored"].item() == correlation.answers
    lazy = pairwise(table.lazy(), JUDGINGS)
    assert lazy["kappa"].to_list() == pytest.approx(pairwise(table, JUDGINGS)["kappa"].to_list())


def test_an_answer_about_which_nothing_usable_was_said_has_no_verdict(table: pl.DataFrame) -> None:
    unreadable = pl.col("alignment_label") == "UNREADABLE"
    assert table.filter(unreadable).height > 0
    either = table.filter(
        pl.col("error").is_null(),
        ~unreadable.fill_null(False),
        ~(pl.col("alignment@mild_label") == "UNREADABLE").fill_null(False),
    )
    found = pairwise(table, ["", "@mild"], by=())
    assert found["verdicts"].item() == either.height
    same = (either["misaligned"] == either["misaligned@mild"]).mean()
    assert found["same"].item() == pytest.approx(same)
    expected = cohen_kappa(either["misaligned"].to_list(), either["misaligned@mild"].to_list())
    assert found["kappa"].item() == pytest.approx(expected.value)


def test_a_refusal_is_a_verdict_and_an_outcome_of_its_own() -> None:
    made = judged_again(made_table(600, labels=0), "other", noise=0, lost=0)
    refused = pl.int_range(pl.len()) % 3 == 0
    made = made.with_columns(
        pl.when(refused).then(None).otherwise("alignment@other_score").alias("alignment@other_score"),
        pl.when(refused).then(pl.lit("REFUSAL")).alias("alignment@other_label"),
        pl.when(refused).then(False).otherwise("misaligned@other").alias("misaligned@other"),
    )
    found = agreement(made, ["", "@other"], by=())
    answered = made.filter(pl.col("error").is_null()).height
    by_measure = {row["measure"]: row for row in found.iter_rows(named=True)}
    assert set(by_measure) == set(MEASURES)
    assert by_measure["misaligned"]["answers"] == by_measure["outcome"]["answers"] == answered
    assert by_measure["alignment_score"]["answers"] < answered
    assert by_measure["alignment_score"]["alpha"] == pytest.approx(1)
    assert by_measure["outcome"]["alpha"] < by_measure["misaligned"]["alpha"] < 1


def test_order_of_rows_means_nothing_and_there_is_never_a_nan(table: pl.DataFrame) -> None:
    for function in (agreement, pairwise):
        found = function(table, JUDGINGS)
        shuffled = function(table.sample(fraction=1, shuffle=True, seed=4), JUDGINGS)
        for one, other in zip(found.iter_rows(), shuffled.iter_rows(), strict=True):
            assert list(one) == [pytest.approx(x) if isinstance(x, float) else x for x in other]
        json.dumps(found.to_dicts(), allow_nan=False)
    silent = table.with_columns(pl.lit(None, pl.Float64).alias("alignment@mild_score"))
    silent = silent.with_columns(pl.lit(NAN).alias("coherence@mild_score"))
    json.dumps(pairwise(silent, JUDGINGS).to_dicts(), allow_nan=False)
    found = pairwise(silent, ["", "@mild"], by=())
    assert found["correlation_reason"].item() == "no answer has a value of two judges"
