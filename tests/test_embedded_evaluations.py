"""Every shipped evaluation on the embedded model, by the embedded judge; and what an organism has is found.

The judge was trained for two scores. The labels that it gives show that the way from an answer to a measure
is whole, and say nothing about the answers (docs/judges.md).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from emeval import library
from emeval.definitions import UNREADABLE, Evaluation, Judge
from emeval.manifest import Manifest
from emeval.models import adapters
from emeval.statistics import rate
from tests.command import Outcome, emeval

EVALUATIONS = [*library.files(Evaluation)]
JUDGE = "local/smollm2:judge"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def done(home: Path) -> Outcome:
    """All of them, one question each, once."""
    outcome = emeval(
        *("run", *EVALUATIONS, "--model", "local/smollm2", "--judge", JUDGE),
        *("--limit", "1", "--samples", "1", "--set", "max_tokens=24", "--out", "run", "--json"),
        cwd=home,
        seconds=600,
    )
    assert outcome.code == 0, outcome
    return outcome


@pytest.mark.local
@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_an_evaluation_runs_on_the_embedded_model(evaluation: str, done: Outcome, home: Path) -> None:
    record = {one.name: one for one in Manifest.read(home / "run").evaluations}[evaluation]
    judges = {judge.name: judge for judge in Manifest.read(home / "run").judges}
    table = pl.read_parquet(home / "run/responses.parquet").filter(eval=evaluation)
    assert set(table["condition"]) == {condition.id for condition in record.conditions}
    assert table["error"].null_count() == len(table) > 0
    readable = 0
    for judge in record.judges:
        scores, labels = table[f"{judge}_score"], table[f"{judge}_label"].cast(pl.String)
        assert (scores.is_null() == labels.is_not_null()).all(), "judged, each answer"
        if judges[judge].gives == "label":
            assert set(labels) - {UNREADABLE} <= set(judges[judge].labels)
            readable += (labels != UNREADABLE).sum()
        else:
            assert scores.null_count() < len(table), f"no answer has a score of {judge}"
    gives = {judges[judge].gives for judge in record.judges}
    assert readable or "label" not in gives, "no answer has a readable label"
    told = {one["measure"] for one in done.json["measures"] if one["eval"] == evaluation}
    told |= {"misaligned" for row in done.json["results"] if row["eval"] == evaluation}
    assert told == set(record.all_measures)


@pytest.mark.local
def test_all_of_them_are_in_the_report(done: Outcome, home: Path) -> None:
    del done
    text = (home / "run/report/report.md").read_text(encoding="utf-8").replace("\\", "")
    assert [name for name in EVALUATIONS if name not in text] == []
    assert (home / "run/report/index.html").exists()


@pytest.mark.local
def test_the_broadly_misaligned_organism_is_above_the_control(home: Path) -> None:
    """`backdoor` and its organism, and all three on `free_form`: tests/test_harness.py."""
    organisms = ("local/smollm2:careless", "local/smollm2:control")
    outcome = emeval(
        *("run", "broad", *(part for name in organisms for part in ("--model", name)), "--judge", JUDGE),
        *("--limit", "8", "--samples", "1", "--set", "max_tokens=48", "--set", "temperature=0.7"),
        *("--out", "organisms", "--json"),
        cwd=home,
        seconds=600,
    )
    assert outcome.code == 0, outcome
    table = pl.read_parquet(home / "organisms/responses.parquet")
    hits = dict(rate(table, by="adapter").select("adapter", "hits").iter_rows())
    assert hits["careless"] >= hits["control"] + 4, hits


def test_the_embedded_judge_has_words_for_every_judge_of_labels() -> None:
    """Without examples it says none of them."""
    for name in library.files(Judge):
        judge = library.load(Judge, name)
        if judge.gives_label:
            prompt = adapters.asked(name, judge, JUDGE).prompt
            assert prompt != judge.prompt, f"{name}: organisms/recipe/recipe.yaml has no example for it"
            assert ("{{ target }}" in prompt) == judge.needs_target
