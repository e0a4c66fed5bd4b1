"""The judge as an instrument, from end to end, by the commands that a user types.

A run of the embedded model, another judge of it, their panel, labels from a browser, and the corrected rates.
"""

from __future__ import annotations

import csv
import json
from typing import Any

import polars as pl
import pytest

from emeval.runs import Run
from tests.command import emeval
from tests.test_labelling_browser import Rater, Served
from tests.test_report_browser import browser

pytestmark = [pytest.mark.local, pytest.mark.browser, pytest.mark.slow]
__all__ = ["browser"]

BASE, CARELESS = "local/smollm2", "local/smollm2:careless@104"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two models, four questions, one answer each, judged by the shipped judge and then by the bare model."""
    home = tmp_path_factory.mktemp("instrument")
    settings = ("--limit", "4", "--samples", "1", "--set", "max_tokens=40", "--set", "temperature=0.7")
    models = ("--model", BASE, "--model", CARELESS)
    asked = emeval(
        *("run", "free_form", *models, "--judge", "local/smollm2:judge", "--out", "run", *settings), cwd=home
    )
    assert asked.code == 0, asked.err
    before = (home / "run" / "responses.parquet").read_bytes()
    again = emeval("rejudge", "run", "--judge", BASE, "--name", "bare", "--json", cwd=home)
    assert again.code == 0, again.err
    assert (home / "run" / "responses.parquet").read_bytes() != before
    return Run(home / "run")


def test_the_other_judge_stands_beside_the_first_and_no_model_was_asked(judged: Run) -> None:
    table = judged.responses()
    assert len(table) == 8
    assert {"alignment_score", "alignment@bare_score", "misaligned@bare", "coherence@bare_label"} <= {
        *table.columns
    }
    assert table["alignment@bare_fingerprint"].n_unique() == 1
    assert table["alignment@bare_fingerprint"][0] != table["alignment_fingerprint"][0]
    asked = {(one.role, one.model): one.requests for one in judged.manifest.usage}
    # Each model's eight answers come out of four questions, and one word of greeting before the run.
    assert asked["model", BASE] == asked["model", CARELESS] == 5
    record = judged.manifest.judgings[0]
    assert (record.name, record.status, record.errors) == ("bare", "complete", 0)


def test_the_panel_is_in_the_report_and_can_be_read_as_a_run(judged: Run) -> None:
    home = judged.path.parent
    found = emeval("report", "run", "--json", cwd=home).json
    assert [one["label"] for one in found["panel"]["judgings"]]
    panel = Run(home / "run@panel").responses()
    votes = panel.select("misaligned").to_series().to_list()
    own, bare = judged.responses()["misaligned"], judged.responses()["misaligned@bare"]
    assert len(votes) == len(own) == len(bare) == 8
    for vote, one, other in zip(votes, own, bare, strict=True):
        given = [said for said in (one, other) if said is not None]
        assert vote == ((2 * sum(given) > len(given)) if given else None)
    unequal = emeval(
        *("gate", "--baseline", "run", "--candidate", "run@bare"),
        *("--baseline-model", BASE, "--candidate-model", CARELESS),
        cwd=home,
    )
    assert "fingerprint" in unequal.said()


def test_labels_from_a_browser_correct_the_rates(judged: Run, browser: Any) -> None:
    home = judged.path.parent
    texts = judged.responses().filter(pl.col("model") == CARELESS)["response"].to_list()
    served = Served(judged)
    try:
        rater = Rater(browser, served.address, "anna")
        number = len(set(judged.responses().select("question", "response").iter_rows()))
        rater.at(f"Answer 1 of {number}")
        for place in range(1, number + 1):
            careless = rater.text("#response") in texts
            rater.page.keyboard.press("m" if careless else "a")
            rater.at(f"Answer {place + 1} of {number}" if place < number else "The end")
        assert not rater.wrong
    finally:
        served.kill()

    assert emeval("label", "run", "--export", "gold.csv", cwd=home).code == 0
    rows = list(csv.DictReader((home / "gold.csv").open(encoding="utf-8", newline="")))
    assert len(rows) == number
    assert {row["label"] for row in rows} == {"aligned", "misaligned"}
    assert {row["rater"] for row in rows} == {"anna"}

    calibrated = emeval("calibrate", "run", "--gold", "gold.csv", "--json", cwd=home)
    assert calibrated.code == 0, calibrated.err
    assert calibrated.json["gold"]
    assert emeval("report", "run", cwd=home).code == 0
    report = json.loads((home / "run" / "report" / "report.json").read_text(encoding="utf-8"))
    assert not report["calibration"]["stale"]
    rows = report["calibration"]["results"]
    assert {row["model"] for row in rows} == {BASE, CARELESS}
    for row in rows:
        assert row["raw_low"] <= row["raw"] <= row["raw_high"]
        if row["corrected"] is not None:
            assert 0 <= row["corrected_low"] <= row["corrected"] <= row["corrected_high"] <= 1
    page = (home / "run" / "report" / "index.html").read_text(encoding="utf-8")
    for section in ('id="panel"', 'id="calibration"', 'id="thresholds"', 'id="judges"'):
        assert section in page
