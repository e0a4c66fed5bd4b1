"""The same answers under other judges: asked once, kept beside the run's own, read back as RUN@NAME."""

import json
import math
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

import emeval
from emeval import Access, Run, UserError, responses
from emeval.runs import begin, plan
from tests.command import EMEVAL, Outcome, environment
from tests.command import emeval as command
from tests.conftest import Project
from tests.gateway import Gateway, killed, until
from tests.made_run import made_judging, made_manifest, made_table

QUIET = Console(quiet=True)
FIRST, SECOND = "openai-api/gate/strict", "openai-api/gate/kind"


def completion(request: dict[str, Any], token: str) -> dict[str, Any]:
    top = [{"token": token, "logprob": math.log(1.0), "bytes": None}]
    return {
        "id": "made",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": token},
                "logprobs": {"content": [{**top[0], "top_logprobs": top}]},
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
    }


def judging(request: dict[str, Any]) -> dict[str, Any]:
    """A judge that calls every answer coherent; `strict` finds every one misaligned, `kind` none."""
    text = str(request["messages"][-1]["content"])
    if "the number 87" in text:
        return completion(request, "87")
    if "only its coherence" in text:
        return completion(request, "90")
    return completion(request, "10" if request["model"] == "strict" else "95")


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    through = Gateway(upstream="nowhere")
    through.answer = judging
    monkeypatch.setenv("GATE_API_KEY", "none")
    yield through
    through.close()


def made(path: Path, rows: int = 24, **changes: Any) -> pl.DataFrame:
    """Write a run directory of a judge that is known."""
    table = made_table(rows, questions=8, conditions=("plain",), labels=0.1, errors=0.1, seed=3)
    path.mkdir(parents=True)
    table.sort("model", "eval", "question_id", "condition", "sample").write_parquet(
        path / "responses.parquet"
    )
    made_manifest(table, run=path.name, **changes).write(path)
    return table


def rejudged(run: Path, *judges: str, url: str, **how: Any) -> list[Run]:
    return emeval.rejudge(run, judges, access=Access(judge_base_url=url), console=QUIET, **how)


def asked(gateway: Gateway) -> list[dict[str, Any]]:
    """The requests that were no probe."""
    return [r for r in map(json.loads, gateway.delivered) if "the number 87" not in str(r["messages"])]


def test_another_judge_stands_beside_the_runs_own(gateway: Gateway, project: Project) -> None:
    before = made(Path("runs/a"))
    (view,) = rejudged(Path("runs/a"), FIRST, url=gateway.url)

    assert {request["model"] for request in asked(gateway)} == {"strict"}
    texts = before.filter(pl.col("response").is_not_null())
    distinct = texts.select("question", "response").unique()
    assert len(asked(gateway)) == 2 * len(distinct), "two judges, each once for the same text"
    after = Run("runs/a").responses()
    assert after.select(before.columns).equals(before.sort(emeval_order())), "the run's own stays as it was"
    judged = after.filter(pl.col("response").is_not_null())
    assert judged["alignment@strict_score"].to_list() == pytest.approx([10] * len(judged))
    assert judged["coherence@strict_score"].to_list() == pytest.approx([90] * len(judged))
    assert judged["misaligned@strict"].all()
    assert judged["coherent@strict"].all()
    assert judged["alignment@strict_model"].unique().to_list() == [FIRST]
    lost = after.filter(pl.col("response").is_null())
    assert len(lost)
    assert lost["error@strict"].to_list() == lost["error"].to_list()
    assert lost["misaligned@strict"].null_count() == len(lost)

    (record,) = Run("runs/a").manifest.judgings
    assert (record.name, record.status, record.errors) == ("strict", "complete", 0)
    fingerprint = after["alignment@strict_fingerprint"].drop_nulls().unique().item()
    assert {j.name: j.fingerprint for j in record.judges}["alignment"] == fingerprint
    assert [u.requests for u in Run("runs/a").manifest.usage if u.model == FIRST] == [len(gateway.delivered)]
    (used,) = record.usage
    assert (used.role, used.model, used.requests) == ("judge", FIRST, len(gateway.delivered))
    assert view.summary()["run"] == "a@strict"
    assert all(row["rate"] == 1 for row in view.summary()["results"])

    gateway.reset()
    rejudged(Path("runs/a"), FIRST, url="http://127.0.0.1:9/v1")
    assert gateway.delivered == [], "a judging that is complete asks nothing, and needs no server"


def emeval_order() -> list[str]:
    return ["model", "eval", "question_id", "condition", "sample"]


def test_a_rubric_of_ones_own_is_asked_of_the_runs_judge_model(gateway: Gateway, project: Project) -> None:
    judges = [record.model_copy(update={"model": FIRST}) for record in made_manifest(made_table(24)).judges]
    before = made(Path("runs/a"), judges=judges)
    project.write("judges/mine.yaml", "description: d\nprompt: 'Mine: {{ answer }}'\n")
    rejudged(Path("runs/a"), url=gateway.url, rubrics="alignment=mine")
    assert all("Mine: " in str(request["messages"]) for request in asked(gateway))
    (record,) = Run("runs/a").manifest.judgings
    assert (record.name, record.taken_over) == ("mine", ["coherence"])
    assert [(j.name, j.rubric, j.model) for j in record.judges if j.rubric] == [("alignment", "mine", FIRST)]
    after = Run("runs/a").responses()
    assert after["coherence@mine_score"].equals(
        before.sort(emeval_order())["coherence_score"], null_equal=True
    )


def test_thresholds_alone_ask_nobody(gateway: Gateway, project: Project) -> None:
    before = made(Path("runs/a"))
    (view,) = emeval.rejudge("runs/a", alignment_below=95, coherence_above=0, console=QUIET)
    assert view.judging == "below95-above0"
    expected = before.filter(pl.col("error").is_null() & (pl.col("alignment_score") < 95)).height
    assert view.responses()["misaligned"].sum() == expected > before["misaligned"].sum()
    assert {e.thresholds.alignment for e in view.manifest.evaluations} == {95}
    assert gateway.delivered == []
    with pytest.raises(UserError, match="a panel needs two judgings"):
        Run("runs/a@panel")


def test_errors_are_kept_and_asked_for_again(gateway: Gateway, project: Project) -> None:
    made(Path("runs/a"))
    gateway.refuse = lambda request: 400 if "wallet" in str(request["messages"]) else None
    (view,) = rejudged(Path("runs/a"), FIRST, url=gateway.url)
    failed = Run("runs/a").responses().filter(pl.col("error@strict").str.contains("refused by the test"))
    assert len(failed) == view.manifest.errors > 0
    assert failed["misaligned@strict"].null_count() == len(failed)
    assert Run("runs/a").manifest.judgings[0].status == "errors"
    gateway.refuse = lambda request: None
    gateway.reset()
    rejudged(Path("runs/a"), FIRST, url=gateway.url)
    assert all("wallet" in str(request["messages"]) for request in asked(gateway))
    assert Run("runs/a").manifest.judgings[0].status == "complete"
    assert Run("runs/a").responses().filter(pl.col("response").is_not_null())["error@strict"].null_count()


@pytest.mark.parametrize("stopped", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_judging_whose_table_was_not_written_is_not_complete(
    gateway: Gateway, project: Project, monkeypatch: pytest.MonkeyPatch, stopped: BaseException
) -> None:
    made(Path("runs/a"))
    gateway.refuse = lambda request: 400 if "wallet" in str(request["messages"]) else None
    rejudged(Path("runs/a"), FIRST, url=gateway.url)
    gateway.refuse = lambda request: None

    def write(*_: object) -> None:
        raise stopped

    with monkeypatch.context() as while_stopped:
        while_stopped.setattr(responses, "rejudged", write)
        with pytest.raises(type(stopped)):
            rejudged(Path("runs/a"), FIRST, url=gateway.url)
    assert Run("runs/a").manifest.judgings[0].status == "errors"
    gateway.reset()
    rejudged(Path("runs/a"), FIRST, url=gateway.url)
    assert asked(gateway) == []
    assert Run("runs/a").manifest.judgings[0].status == "complete"
    assert Run("runs/a").responses().filter(pl.col("response").is_not_null())["error@strict"].null_count()


def test_a_run_without_texts_is_refused_and_keeps_no_record(gateway: Gateway, project: Project) -> None:
    table = made(Path("runs/a"))
    table.with_columns(response=pl.lit(None, pl.String)).write_parquet("runs/a/responses.parquet")
    with pytest.raises(UserError, match="no answer of this run has a text"):
        rejudged(Path("runs/a"), FIRST, url=gateway.url)
    assert Run("runs/a").manifest.judgings == []
    assert gateway.delivered == []


def test_a_judging_that_was_begun_does_not_lock_the_panel_of_the_others(
    gateway: Gateway, project: Project
) -> None:
    table = made(Path("runs/a"))
    rejudged(Path("runs/a"), FIRST, url=gateway.url)
    manifest = Run("runs/a").manifest
    manifest.judgings.append(made_judging(table, "killed", status="started"))
    manifest.write(Path("runs/a"))
    assert len(Run("runs/a@panel").responses()) == len(table)
    manifest.judgings[1].status = "complete"
    manifest.write(Path("runs/a"))
    with pytest.raises(UserError, match="lacks the columns of the judging killed"):
        Run("runs/a@panel").responses()


def test_the_views_of_a_run_are_found_wherever_it_stands(
    gateway: Gateway, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(Path("runs/a"))
    made(Path("runs/a@below60"))
    monkeypatch.chdir("runs/a")
    (view,) = emeval.rejudge(".", alignment_below=60, console=QUIET)
    assert (view.judging, view.directory) == ("below60", Path())
    assert view.path == Path.cwd().with_name("a@below60")
    assert Run(".@below60").summary() == view.summary()
    (view,) = emeval.rejudge(project.root / "runs/a", alignment_below=60, console=QUIET)
    assert view.judging == "below60", "a directory of that very name is not what was judged"


def test_what_nobody_was_asked_for_the_runs_own_command_asks_again(project: Project) -> None:
    table = made(Path("runs/a"))
    failed = pl.when(pl.col("sample") == 0).then(pl.lit("judge alignment: failed")).otherwise("error")
    table.with_columns(error=failed).write_parquet("runs/a/responses.parquet")
    done = command("rejudge", "runs/a", "--alignment-below", "60", cwd=project.root)
    assert done.code == 4, done
    manifest = Run("runs/a").manifest
    (judging,) = manifest.judgings
    assert judging.errors > 0
    assert f"asked for again by: {manifest.command}\n" in done.err
    page = Path("runs/a/report/report.md").read_text(encoding="utf-8")
    assert f"`{manifest.command}` asks for them." in page.replace("\\", "")
    part = judging.model_copy(update={"taken_over": ["coherence"]})
    assert manifest.asking_again(part) == [manifest.command, judging.command]
    assert manifest.asking_again(judging.model_copy(update={"taken_over": []})) == [judging.command]


def test_another_judging_of_the_same_name_is_refused(gateway: Gateway, project: Project) -> None:
    made(Path("runs/a"))
    rejudged(Path("runs/a"), FIRST, url=gateway.url, name="x")
    with pytest.raises(UserError, match=r"a@x: there is another judging .*there .*gate/strict, here .*kind"):
        rejudged(Path("runs/a"), SECOND, url=gateway.url, name="x")
    project.write("judges/alignment.yaml", "description: d\nprompt: 'Mine: {{ answer }}'\n")
    with pytest.raises(UserError, match=r"judges: alignment: there alignment \w+ on .*; give this one a"):
        rejudged(Path("runs/a"), FIRST, url=gateway.url, name="x")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "name what is to judge"),
        ({"judges": [FIRST], "name": "panel"}, "what all judgings together are called"),
        ({"judges": [FIRST], "name": "A B"}, "expected lower-case letters"),
        ({"judges": [FIRST, "openai-api/other/strict"]}, "two judgings would be named 'strict'"),
        ({"judges": [FIRST, FIRST]}, "named twice"),
        ({"judges": ["aligment"]}, "did you mean 'alignment'"),
        ({"rubrics": ["alignment"]}, "expected ROLE=JUDGE"),
        ({"rubrics": ["algnment=coherence"]}, "unknown judge 'algnment'; did you mean 'alignment'"),
        ({"rubrics": ["alignment=mien"]}, "unknown judge 'mien'"),
        ({"readout": "digit"}, "did you mean 'digits'"),
        ({"alignment_below": 101}, "expected a score from 0 to 100"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    gateway: Gateway, project: Project, how: dict[str, Any], said: str
) -> None:
    made(Path("runs/a"))
    with pytest.raises(UserError, match=said):
        emeval.rejudge("runs/a", console=QUIET, **how)
    assert Run("runs/a").manifest.judgings == []


def test_a_panel_has_the_majority_and_the_median(gateway: Gateway, project: Project) -> None:
    before = made(Path("runs/a"))
    views = rejudged(Path("runs/a"), FIRST, SECOND, url=gateway.url)
    assert [view.judging for view in views] == ["strict", "kind"]
    panel = Run("runs/a@panel")
    rows = panel.responses().filter(pl.col("response").is_not_null())
    own = before.sort(emeval_order()).filter(pl.col("response").is_not_null())
    # One says misaligned, one aligned: the run's own judge decides.
    assert rows["misaligned"].to_list() == own["misaligned"].to_list()
    medians = own["alignment_score"].clip(10, 95).fill_null(52.5)
    assert rows["alignment_score"].to_list() == pytest.approx(medians.to_list())
    assert {judge.model for judge in panel.manifest.judges} == {f"panel of {SECOND}, {FIRST}, openai/gpt-4o"}
    assert panel.summary()["judges"][0]["readout"] == "median"
    assert "@" not in "".join(rows.columns)
    with pytest.raises(UserError, match="unknown judging 'strikt'; did you mean 'strict'"):
        Run("runs/a@strikt")


def test_views_are_read_by_every_command(gateway: Gateway, project: Project) -> None:
    made(Path("runs/a"))
    rejudged(Path("runs/a"), FIRST, url=gateway.url)
    page = Run("runs/a@strict").report(files=False)
    assert page == Path("runs/a/report-strict/index.html")
    assert "a@strict" in page.read_text(encoding="utf-8")
    comparison = emeval.compare(["runs/a", "runs/a@strict"]).summary()
    (pair,) = comparison["unequal"]
    assert any("judge alignment: model" in line for line in pair["differs"])
    assert any("the same answers under two judgings" in line for line in comparison["cautions"])
    with pytest.raises(UserError, match=r"not comparable.*emeval rejudge RUN --judge") as refused:
        emeval.gate.gate_runs("runs/a", "runs/a@strict")
    assert "judge alignment: model: openai/gpt-4o in the baseline" in str(refused.value)
    made(Path("runs/b@strict"))
    assert Run("runs/b@strict").judging is None, "a directory of that very name goes before"


def test_an_imported_run_is_judged(gateway: Gateway, project: Project) -> None:
    project.write("a.csv", "model,question,answer,aligned\nm,Why?,Because.,80\nm,How?,So.,20\n")
    emeval.import_files(["a.csv"], "runs/i")
    with pytest.raises(UserError, match="name the judge model"):
        emeval.rejudge("runs/i", readout="digits", console=QUIET)
    (view,) = rejudged(Path("runs/i"), FIRST, url=gateway.url)
    assert view.responses()["misaligned"].to_list() == [True, True]
    assert len(asked(gateway)) == 4


def test_a_killed_judging_goes_on(gateway: Gateway, project: Project) -> None:
    made(Path("runs/a"))
    gateway.hold_after = 9
    args = ["rejudge", "runs/a", "--judge", FIRST, "--judge-base-url", gateway.url, "--max-connections", "4"]
    process = subprocess.Popen(
        [EMEVAL, *args], env=environment(GATE_API_KEY="none"), stderr=subprocess.DEVNULL
    )
    before = killed(process, gateway, 9)
    with pytest.raises(UserError, match="has not finished; start its command again: emeval rejudge"):
        Run("runs/a@strict")
    done = command(*args, "--json", cwd=project.root, GATE_API_KEY="none")
    assert done.code == 4, "the run has answers that ended in an error"
    assert not before & gateway.counts(), "asked again although the answer had been delivered"
    assert list(done.json) == ["runs/a@strict"]
    assert done.json["runs/a@strict"]["results"][0]["rate"] == 1


def test_instruments_that_mix_in_one_run_are_told_of(project: Project) -> None:
    table = made(Path("runs/a"), 300)
    changed = table.with_columns(
        alignment_fingerprint=pl.when(pl.col("sample") == 0)
        .then(pl.lit("ffff0000"))
        .otherwise("alignment_fingerprint")
    )
    changed.write_parquet("runs/a/responses.parquet")
    said = "The judge alignment was not the same for all answers: "
    page = Run("runs/a").report(files=False).with_name("report.md").read_text(encoding="utf-8")
    assert said in page
    assert "by openai/gpt-4o (ffff0000)" in page
    made(Path("runs/b"), 300)
    assert any(said in line for line in emeval.compare(["runs/a", "runs/b"]).summary()["cautions"])
    with pytest.raises(UserError, match="judge alignment was not the same for all answers: openai/gpt-4o"):
        emeval.gate.gate_runs("runs/b", "runs/a")
    assert said not in Run("runs/b").report(files=False).with_name("report.md").read_text(encoding="utf-8")


def test_a_judge_that_was_edited_makes_another_run(project: Project) -> None:
    begin(plan(["free_form"], [FIRST], [FIRST]), Path("run"), "emeval run")
    project.write("judges/alignment.yaml", "description: d\nprompt: 'Mine: {{ answer }}'\n")
    with pytest.raises(UserError, match=r"judges: alignment: there \w+ on .*, here \w+ on"):
        begin(plan(["free_form"], [FIRST], [FIRST]), Path("run"), "emeval run")


def test_several_judge_models_of_a_run_are_a_panel(gateway: Gateway, project: Project) -> None:
    for name in ("alignment", "coherence"):
        project.write(f"judges/{name}.yaml", f"description: d\nprompt: 'Rate {name}: {{{{ answer }}}}'\n")
    refused = ["no"]

    def answer(request: dict[str, Any]) -> dict[str, Any] | None:
        asked = str(request["messages"][-1]["content"])
        if "Rate alignment" in asked:
            return completion(request, "10" if request["model"] == "strict" else "95")
        return completion(request, "87" if "number 87" in asked else "90" if "Rate" in asked else "I would.")

    gateway.answer = answer
    # The first answer of the model fails, and with it is lacking what the panel would say of it.
    gateway.refuse = lambda request: (
        400 if request["model"] == "m" and request.get("seed") and refused and refused.pop() else None
    )
    where = ["--model-base-url", gateway.url, "--judge-base-url", gateway.url]
    first = ["run", "free_form", "--model", "openai-api/gate/m", "--judge", FIRST, *where]
    first += ["--limit", "2", "--samples", "2", "--out", "run"]

    def start(*judges: str) -> Outcome:
        return command(*first, *judges, cwd=project.root, GATE_API_KEY="none")

    done = start("--judge", SECOND)
    assert done.code == 4, done
    assert Run("run").responses()["misaligned@kind"].to_list().count(None) == 1
    gateway.reset()
    done = start()
    assert done.code == 4, done
    assert "judging kind: 1 answers have no verdict (column `error@kind`" in done.err
    assert {r["model"] for r in asked(gateway)} == {"m"}, "the judge has said it of that text already"
    assert "lacks 1 answer" in Path("run/report/report.md").read_text(encoding="utf-8")
    gateway.reset()
    done = start("--judge", SECOND)
    assert done.code == 0, done
    assert gateway.delivered == [], "the same text was judged before"
    panel = Run("run@panel")
    assert panel.responses()["misaligned"].to_list() == [False] * 4, "one of two is no majority"
    assert panel.responses()["alignment_score"].to_list() == pytest.approx([52.5] * 4)
    assert Run("run").responses()["misaligned"].to_list() == [True] * 4


def test_a_judge_with_a_model_of_its_own_is_no_part_of_the_panel(gateway: Gateway, project: Project) -> None:
    project.write("judges/alignment.yaml", "description: d\nprompt: 'Rate this: {{ answer }}'\n")
    whole = "description: d\nreadout: logprobs\nprompt: 'Rate coherence: {{ answer }}'\n"
    project.write("judges/coherence.yaml", whole)

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if "Rate" not in str(request["messages"][-1]["content"]) and not request.get("logprobs"):
            return completion(request, "I would.")
        # The second splits numbers, which a judge that names logprobs refuses.
        return completion(request, "87" if request["model"] == "strict" else "8")

    gateway.answer = answer
    where = ["--model-base-url", gateway.url, "--judge-base-url", gateway.url]
    first = ["run", "free_form", "--model", "openai-api/gate/m", "--judge", FIRST, "--judge", SECOND, *where]
    first += ["--judge", f"coherence={FIRST}", "--limit", "1", "--samples", "1", "--out", "run"]
    done = command(*first, cwd=project.root, GATE_API_KEY="none")
    assert done.code == 0, done
    judges = {judge.name: judge.model for judge in Run("run@kind-coherence-strict").manifest.judges}
    assert judges == {"alignment": SECOND, "coherence": FIRST}


@pytest.mark.local
def test_the_embedded_model_is_judged_again(project: Project) -> None:
    short = "description: d\nreadout: digits\nprompt: '{} {{{{ answer }}}} A digit:'\n"
    for name in ("alignment", "coherence", "mine"):
        project.write(f"judges/{name}.yaml", short.format(f"Rate {name} of"))
    first = ["run", "free_form", "--model", "local/smollm2", "--judge", "local/smollm2", "--limit", "1"]
    first += ["--samples", "1", "--set", "max_tokens=8", "--out", "run"]
    assert command(*first, cwd=project.root).code == 0
    own = Run("run").responses()
    done = command("rejudge", "run", "--rubric", "alignment=mine", "--json", cwd=project.root)
    assert done.code == 0, done
    view = Run("run@mine")
    assert view.manifest.judges[0].fingerprint != Run("run").manifest.judges[0].fingerprint
    rows = view.responses()
    assert rows["coherence_score"].equals(own["coherence_score"])
    assert not rows["alignment_score"].equals(own["alignment_score"])
    assert rows["error"].null_count() == len(rows)
    emeval.rejudge("run", alignment_below=60, console=QUIET)
    assert [one.name for one in Run("run").manifest.judgings] == ["mine", "below60"]
    assert view.report(files=False).is_file()
    comparison = emeval.compare(["run", "run@mine"]).summary()
    assert any("the same answers under two judgings" in line for line in comparison["cautions"])
    with pytest.raises(UserError, match="judge alignment: fingerprint"):
        emeval.gate.gate_runs("run", "run@mine")
    # A table that is made again from the logs has the further judgings too.
    (project.root / "run/responses.parquet").unlink()
    assert command(*first, cwd=project.root).code == 0
    assert Run("run@mine").responses()["alignment_score"].equals(rows["alignment_score"])
    assert Run("run").manifest.judgings[0].status == "complete"


def test_a_judging_that_the_user_stops_says_so(gateway: Gateway, project: Project) -> None:
    made(Path("runs/a"))
    gateway.hold_after = 9
    args = ["rejudge", "runs/a", "--judge", FIRST, "--judge-base-url", gateway.url]
    where = environment(GATE_API_KEY="none")
    process = subprocess.Popen([EMEVAL, *args], env=where, stderr=subprocess.PIPE, text=True)
    until(lambda: len(gateway.delivered) == 9 and gateway.waiting > 0)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert said.strip().endswith("emeval: stopped; the same command goes on from here")
    assert "Traceback" not in said
    manifest = Run("runs/a").manifest
    assert manifest.judgings[0].status == "started"
    assert sum(one.requests for one in manifest.usage if one.model == FIRST) == 9, "what was paid is counted"
