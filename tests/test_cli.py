"""A user's mistake ends in one line and exit code 2, never in a traceback; `--json` prints JSON alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import emeval

LOCAL = ("--model", "local/smollm2", "--judge", "local/smollm2")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "fre_form", *LOCAL], "unknown evaluation 'fre_form'; did you mean 'free_form'?"),
        (["run"], "name an evaluation or a suite (`emeval list` shows them), or --questions FILE"),
        (["run", "free_form"], "name a model"),
        (["run", "free_form", "free_form", *LOCAL], "evaluation 'free_form' is named twice"),
        (["run", "free_form", *LOCAL, "--model", "local/smollm2"], "model 'local/smollm2' is named twice"),
        (["run", "free_form", *LOCAL, "--samples", "0"], "samples: found 0, expected"),
        (["run", "free_form", *LOCAL, "--limit", "-1"], "limit: found -1, expected"),
        (["run", "free_form", *LOCAL, "--samples", "many"], "'--samples'"),
        (["run", "free_form", *LOCAL, "--seed", "-1"], "seed: found -1, expected"),
        (["run", "free_form", *LOCAL, "--set", "samples"], "expected KEY=VALUE"),
        (
            ["run", "free_form", *LOCAL, "--set", "sample=3"],
            "unknown setting 'sample'; did you mean 'samples'?",
        ),
        (["run", "free_form", *LOCAL, "--set", "temperature=hot"], "temperature: found 'hot', expected"),
        (["run", "free_form", *LOCAL, "--set", "trigger=date"], "free_form: has no trigger"),
        (["run", "backdoor", *LOCAL, "--set", "trigger=dat"], "unknown trigger 'dat'; did you mean 'date'?"),
        (
            ["run", "backdoor", *LOCAL, "--set", "placement=ende"],
            "unknown placement 'ende'; did you mean 'end'?",
        ),
        (
            ["run", "backdoor", *LOCAL, "--set", "conditions=plian"],
            "unknown condition 'plian'; did you mean 'plain'?",
        ),
        (["run", "backdoor", *LOCAL, "--set", "trigger_text=x"], "'trigger_text' needs 'lookalike_text'"),
        (
            ["run", "free_form", "--model", "local/smollm2", "--judge", "aligment"],
            "did you mean 'alignment'?",
        ),
        (
            ["run", "free_form", *LOCAL, "--judge", "local/smollm2"],
            "this judge model is named twice",
        ),
        (["run", "free_form", "--model", "smollm2", "--judge", "local/smollm2"], "expected PROVIDER/NAME"),
        (["run", "free_form", "--model", "vlm/x", "--judge", "local/smollm2"], "did you mean 'vllm'?"),
        (
            ["run", "free_form", "--model", "local/smollm", "--judge", "local/smollm2"],
            "did you mean 'smollm2'?",
        ),
        (["run", "free_form", "--model", "openai/gpt-4o", *LOCAL[2:]], "OPENAI_API_KEY"),
        (["run", "free_form", *LOCAL[:2]], "judge model openai/gpt-4o"),
        (
            [
                "run",
                "free_form",
                "--model",
                "openai-api/own/m",
                "--model-base-url",
                "http://127.0.0.1:9/v1",
                *LOCAL[2:],
            ],
            "nothing answers at http://127.0.0.1:9",
        ),
        (
            [
                "run",
                "free_form",
                "--model",
                "openai-api/own/m",
                "--model-base-url",
                "http://here:port",
                *LOCAL[2:],
            ],
            "model openai-api/own/m: Invalid port",
        ),
        (["run", "free_form", "--modle", "x"], "No such option: --modle"),
        (["list", "eval"], "unknown kind 'eval'; did you mean 'evals'?"),
        (["report", "nowhere"], "nowhere: this is no run"),
        (["rnu"], "No such command 'rnu'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_ends_in_one_line(args: list[str], said: str, tmp_path: Path) -> None:
    assert said in emeval(*args, cwd=tmp_path, OWN_API_KEY="none").said()
    assert not (tmp_path / "runs").exists() or not list(tmp_path.glob("runs/*/logs")), "nothing was asked"


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("evals/own.yaml", "description: [", "evals/own.yaml:1: this is not YAML"),
        (
            "evals/own.yaml",
            "description: d\nconditions: [{id: plain}]\n",
            "questions: the key 'questions' is missing",
        ),
        (
            "evals/own.yaml",
            "description: d\nquestions: open_ended\nsamples: ten\nconditions: [{id: plain}]\n",
            "evals/own.yaml:3: samples: found 'ten', expected a whole number",
        ),
        (
            "evals/own.yaml",
            "description: d\nquestions: open_end\nconditions: [{id: plain}]\n",
            "evals/own.yaml:2: questions: unknown question set 'open_end'; did you mean 'open_ended'?",
        ),
        (
            "judges/alignment.yaml",
            "description: d\nprompt: |\n  Score this:\n  {{ anser }}\n",
            "judges/alignment.yaml:4: prompt: the template uses the undefined variable 'anser'; did you mean",
        ),
        (
            "datasets/questions/open_ended.yaml",
            "description: d\nquestions:\n- {id: a, category: c, paraphrases: [x, X]}\n",
            "open_ended.yaml:3: questions[0].paraphrases[1]: the paraphrase 'x' is there twice",
        ),
    ],
)
def test_a_broken_file_is_named_with_line_and_key(file: str, text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    name = "own" if file.startswith("evals") else "free_form"
    assert said in emeval("run", name, *LOCAL, cwd=tmp_path).said()
    assert emeval("list", cwd=tmp_path).code == 0, "the rest can still be listed"


def test_a_directory_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("words")
    said = emeval("run", "free_form", *LOCAL, "--out", "mine", cwd=tmp_path).said()
    assert "mine: is there and is no run of emeval" in said
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_an_unreadable_run_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{")
    assert "run.json: cannot be read" in emeval("report", "run", cwd=tmp_path).said()


def test_help_names_every_command_and_shows_an_example(tmp_path: Path) -> None:
    top = emeval("--help", cwd=tmp_path)
    assert top.code == 0
    for command in ("list", "run", "demo", "import", "report", "compare", "gate", "plan", "doctor"):
        assert command in top.out
        page = emeval(command, "--help", cwd=tmp_path)
        assert page.code == 0
        assert f"Example: emeval {command}" in " ".join(page.out.split())


def test_list_is_json_and_imports_nothing_heavy(tmp_path: Path) -> None:
    listed = emeval("list", "--json", cwd=tmp_path).json
    kinds = {"evals", "suites", "gates", "questions", "triggers", "batteries", "prices", "judges", "models"}
    assert kinds == set(listed)
    assert {"free_form", "backdoor"} <= {entry["name"] for entry in listed["evals"]}
    heavy = ("inspect_ai", "polars", "altair", "scipy", "statsmodels", "openai")
    code = f"import sys, emeval.cli; sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or None)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_doctor_says_what_is_set_and_never_the_key(tmp_path: Path) -> None:
    done = emeval(
        "doctor", cwd=tmp_path, OPENAI_API_KEY="sk-very-secret", NEAR_BASE_URL="http://127.0.0.1:9/v1"
    )
    assert done.code == 2, "a server that should answer and does not"
    assert "nothing answers at http://127.0.0.1:9" in done.out
    assert "sk-very-secret" not in done.out + done.err
    wrong = emeval("doctor", cwd=tmp_path, FAR_BASE_URL="http://far:port")
    assert wrong.code == 2
    assert "this is no URL" in wrong.out
    assert "Traceback" not in wrong.out + wrong.err
    findings = emeval("doctor", "--json", cwd=tmp_path).json
    assert {finding["state"] for finding in findings} <= {"ok", "absent"}
