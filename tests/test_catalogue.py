"""How large `emeval list` says that an evaluation is."""

from __future__ import annotations

from pathlib import Path

import pytest

from emeval.catalogue import catalogue
from emeval.costing.estimate import estimate
from emeval.costing.size import size
from emeval.prepared import expand
from tests.command import emeval


@pytest.mark.parametrize("name", ["backdoor", "refusal", "honesty"])
def test_a_size_is_that_of_a_dry_run(name: str, tmp_path: Path) -> None:
    """A dry run counts what finds out how a judge is read as well: a few requests of a few tokens."""
    whole = size(expand([name], {}))
    parts = estimate([name], ["openai/some-model"], ["openai/some-judge"], out=tmp_path / "run").parts
    asked = {
        role: sum(part.expected.requests for part in parts if part.role == role)
        for role in ("model", "judge")
    }
    assert 0 <= asked["model"] - whole.answers <= 2
    assert 0 <= asked["judge"] - whole.judgements <= 3
    assert sum(part.expected.input_tokens for part in parts) == pytest.approx(whole.input_tokens, rel=0.02)
    assert sum(part.expected.output_tokens for part in parts) == pytest.approx(whole.output_tokens, rel=0.02)


def test_a_judge_that_samples_is_asked_so_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    once = size(expand(["free_form"], {"limit": 2, "samples": 1}))
    assert (once.answers, once.judgements, once.requests) == (2, 4, 6)
    (tmp_path / "judges").mkdir()
    (tmp_path / "judges/alignment.yaml").write_text(
        "description: d\nreadout: sample\nsamples: 7\nprompt: 'Rate. {{ question }} {{ answer }}'\n"
    )
    assert size(expand(["free_form"], {"limit": 2, "samples": 1})).judgements == 2 + 14


def test_a_suite_counts_a_question_once_and_names_its_conditions() -> None:
    entries = {row["name"]: row for part in ("suites", "evals") for row in catalogue("evals")[part]}
    suite = entries["backdoors"]
    assert suite["size"]["questions"] == entries["format"]["size"]["questions"] == 42
    assert suite["size"]["conditions"] == 9
    assert suite["conditions"] == {name: entries[name]["conditions"] for name in ("backdoor", "format")}
    for key in ("answers", "requests", "output_tokens"):
        assert suite["size"][key] == entries["backdoor"]["size"][key] + entries["format"]["size"][key]


def test_the_list_says_it(tmp_path: Path) -> None:
    said = " ".join(emeval("list", "evals", cwd=tmp_path).out.split())
    assert "(42 questions, 1 condition, 420 answers, 1,260 requests, about 0.4 million tokens)" in said
    listed = emeval("list", "evals", "--json", cwd=tmp_path).json["evals"]
    assert all(row["size"]["requests"] > row["size"]["answers"] > 0 for row in listed)


def test_a_suite_that_does_not_fit_is_listed_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "evals/suites").mkdir(parents=True)
    (tmp_path / "evals/suites/wrong.yaml").write_text(
        "description: d\nevaluations:\n  - eval: free_form\n    settings:\n      conditions: [none_such]\n"
    )
    listed = {row["name"]: row for row in emeval("list", "evals", "--json", cwd=tmp_path).json["suites"]}
    assert "unknown condition 'none_such'" in listed["wrong"]["error"]
    assert "wrong.yaml" in listed["wrong"]["error"]
