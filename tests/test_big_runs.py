"""What keeps a report of a big run small: answers are counted once, texts are read when they are shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emeval import Run, statistics
from emeval.reporting import answers, report, summarise, write_report
from emeval.responses import FILE
from emeval.statistics import tally
from tests.made_run import made_manifest, made_table

TWO = ("vllm/Base-7B:insecure", "vllm/Base-7B")
CELL = ("model", "eval", "condition")

STATISTICS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "rate": lambda table: statistics.rate(table),
    "rate of all": lambda table: statistics.rate(table, "model", "all"),
    "rate by category": lambda table: statistics.rate(table, (*CELL, "category"), "scored"),
    "by question": statistics.by_question,
    "difference": lambda table: statistics.difference(table, "plain"),
    "misalign at k": lambda table: statistics.misalign_at_k(table, 3),
    "labels": statistics.label_counts,
    "outcomes": lambda table: (
        table.with_columns(statistics.outcomes(table), times=statistics.times(table))
        .group_by(*CELL, "outcome")
        .agg(answers=pl.col("times").sum())
        .sort(*CELL, "outcome")
    ),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_a_tally_gives_every_statistic_that_the_table_gives(name: str) -> None:
    table = made_table(4000, models=TWO, errors=0.05, labels=0.1)
    tallied = tally(table, CELL)
    assert tallied.height < table.height / 2
    assert tallied["times"].sum() == table.height
    assert STATISTICS[name](tallied).equals(STATISTICS[name](table), null_equal=True)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 300))
def test_neither_the_order_of_rows_nor_a_tally_changes_a_count(seed: int, rows: int) -> None:
    table = made_table(400, models=TWO, questions=5, seed=seed).head(rows)
    shuffled = table.sample(fraction=1, shuffle=True, seed=seed)
    whole = statistics.by_question(table)
    assert statistics.by_question(tally(shuffled, CELL)).equals(whole, null_equal=True)


def test_a_score_of_nan_is_none_in_a_tally_too() -> None:
    table = made_table(300, labels=0, errors=0).with_columns(
        alignment_score=pl.lit(float("nan")), misaligned=False
    )
    assert statistics.rate(tally(table, CELL))["n"].sum() == 0


def test_a_table_without_a_judge_can_be_tallied() -> None:
    table = made_table(300).drop("coherence_score", "coherence_label", "error")
    assert tally(table, CELL)["times"].sum() == table.height


@pytest.fixture
def run(tmp_path: Path) -> Run:
    table = made_table(3000, models=TWO)
    table.write_parquet(tmp_path / FILE)
    made_manifest(table).write(tmp_path)
    return Run(tmp_path)


def test_a_lazy_table_gives_the_same_summary_and_shows_the_same_answers(run: Run) -> None:
    table = run.responses()
    assert isinstance(run.scan(), pl.LazyFrame)
    assert summarise(run.manifest, run.scan()) == summarise(run.manifest, table)
    assert answers.chosen(run.scan(), run.manifest).equals(
        answers.chosen(table, run.manifest), null_equal=True
    )


def test_counting_reads_no_text(run: Run) -> None:
    without = pl.read_parquet(run.path / FILE).drop("prompt", "response", "reasoning", "question", "system")
    assert summarise(run.manifest, without) == run.summary()


def test_a_big_run_has_charts_as_files_only_where_they_are_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    charts = run.path / "report" / "charts"
    run.report()
    assert list(charts.glob("*.png"))
    (charts / "mine.png").write_bytes(b"")
    monkeypatch.setattr(report, "MOST_ANSWERS", 2999)
    run.report()
    assert [path.name for path in charts.iterdir()] == ["mine.png"], "its own are removed, and nothing else"
    assert "data-figure" in (run.path / "report" / "index.html").read_text(encoding="utf-8")
    run.report(files=True)
    assert len(list(charts.iterdir())) > 1
    monkeypatch.setattr(report, "MOST_ANSWERS", 3000)
    monkeypatch.setattr(report, "MOST_FILES", 1)
    run.report()
    assert [path.name for path in charts.iterdir()] == ["mine.png"]


def test_no_files_can_be_asked_for(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere"
    write_report(run.manifest, run.scan(), out, files=False)
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "report.json", "report.md"]
