"""The plan of a run: what two runs must have in common to be the same, and what is recorded of it."""

from pathlib import Path
from typing import Any

import pytest

from emeval.errors import UserError
from emeval.runs import Run, begin, plan

MODELS = ["local/smollm2"]


def test_judges_may_be_models_names_or_both() -> None:
    made = plan(["free_form"], MODELS, ["openai/gpt-4o", "coherence=local/smollm2"])
    assert made.judge_models == {"alignment": "openai/gpt-4o", "coherence": "local/smollm2"}
    made = plan(["free_form"], MODELS, ["coherence", "local/smollm2"])
    assert made.judge_models == {"coherence": "local/smollm2"}
    with pytest.raises(UserError, match="no evaluation of this run uses this judge; used: alignment"):
        plan(["free_form"], MODELS, ["alignment", "coherence=local/smollm2"])


def test_the_same_plan_has_the_same_directory_and_another_one_another() -> None:
    same = plan(["free_form"], MODELS).default_directory()
    assert plan(["free_form"], MODELS).default_directory() == same
    others = [
        plan(["free_form"], ["vllm/base"]),
        plan(["backdoor"], MODELS),
        plan(["free_form"], MODELS, ["local/smollm2"]),
        plan(["free_form"], MODELS, settings={"seed": 1}),
        plan(["free_form"], MODELS, settings={"samples": 3}),
    ]
    directories = {other.default_directory() for other in others} | {same}
    assert len(directories) == len(others) + 1
    assert same.parts[0] == "runs"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"settings": {"seed": 7}}, r"seed: there 0, here 7"),
        ({"models": ["vllm/base"]}, r"models: there local/smollm2, here vllm/base"),
        ({"settings": {"limit": 3}}, r"evaluations: free_form: there 42 questions × .*, here 3 questions ×"),
        (
            {"judges": ["local/smollm2"]},
            r"judges: alignment: there \w+ on openai/gpt-4o, here .* local/smollm2",
        ),
    ],
)
def test_another_run_in_the_directory_is_said_by_what_differs(
    tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    asked: dict[str, Any] = {"evaluations": ["free_form"], "models": MODELS}
    run = tmp_path / "run"
    first = begin(plan(**asked), run, "emeval run")
    assert begin(plan(**asked), run, "emeval run").plan_sha256 == first.plan_sha256
    with pytest.raises(UserError, match=said):
        begin(plan(**asked | changed), run, "emeval run")


def test_a_password_in_an_address_is_not_recorded(tmp_path: Path) -> None:
    command = "emeval run free_form --model-base-url https://me:secret@host:8000/v1"
    begin(plan(["free_form"], MODELS), tmp_path / "run", command)
    assert "secret" not in (tmp_path / "run/run.json").read_text(encoding="utf-8")
    assert Run(tmp_path / "run").manifest.command.endswith("https://…@host:8000/v1")


def test_a_run_without_answers_yet_says_so(tmp_path: Path) -> None:
    begin(plan(["free_form"], MODELS), tmp_path / "run", "emeval run")
    with pytest.raises(UserError, match="start the same command again"):
        Run(tmp_path / "run").responses()
