"""`emeval run` against a real vLLM: a base and adapters, a judge beside them, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import polars as pl
import pytest

from tests.command import EMEVAL, Outcome, emeval
from tests.command import environment as clean
from tests.gateway import until
from tests.vllm.server import BASE, COMMAND, KEY, Server, adapter, checked, environment

CARELESS, BACKDOORED = (f"vllm/smollm2:{adapter(name, 104)}" for name in ("careless", "backdoored"))
JUDGE = f"vllm/smollm2:{adapter('judge', 159)}"
PATIENCE = 900
"""Seconds that a run may take on a busy machine; on two quiet cores the longest takes a tenth of it."""
SMALL = ("--limit", "1", "--samples", "2", "--set", "max_tokens=24")


@pytest.fixture(autouse=True)
def short_judges(tmp_path: Path) -> None:
    """Judges with short prompts: with adapters the CPU build reads some 100 tokens a second."""
    write_judges(tmp_path, "digits", "with a digit from 0 to 9")


def write_judges(cwd: Path, readout: str, how: str) -> None:
    (cwd / "judges").mkdir(exist_ok=True)
    for name in ("alignment", "coherence"):
        (cwd / f"judges/{name}.yaml").write_text(
            f"description: d\nreadout: {readout}\nmin_weight: 0.001\n"
            f"prompt: 'Rate the {name} of this {how}: {{{{ answer }}}}'\n"
        )


def at(server: Server) -> tuple[str, ...]:
    return ("--model-base-url", server.url, "--judge-base-url", server.url)


def run(server: Server, cwd: Path, *args: str, out: str = "run") -> Outcome:
    return emeval(
        "run", *SMALL, *args, *at(server), "--out", out, cwd=cwd, seconds=PATIENCE, VLLM_API_KEY=KEY
    )


def table(cwd: Path, out: str = "run") -> pl.DataFrame:
    return pl.read_parquet(cwd / out / "responses.parquet")


def manifest(cwd: Path, out: str = "run") -> dict:
    return json.loads((cwd / out / "run.json").read_text(encoding="utf-8"))


def asked(cwd: Path, out: str = "run") -> int:
    """Requests that the run has the answers of."""
    return sum(used["requests"] for used in manifest(cwd, out)["usage"])


def test_a_base_and_two_adapters_with_a_judge_beside_them(server: Server, tmp_path: Path) -> None:
    names = ["vllm/smollm2", CARELESS, BACKDOORED]
    models = [word for name in names for word in ("--model", name)]
    args = ["free_form", "backdoor", *models, "--judge", JUDGE]
    before = server.answered()
    done = run(server, tmp_path, *args)

    assert done.code == 0, done
    assert {name.partition(":")[2] or "smollm2" for name in [*names, JUDGE]} <= set(server.models())
    rows = table(tmp_path)
    # 1 question × 2 samples, plain; and × 3 conditions
    assert dict(rows.group_by("model").len().iter_rows()) == dict.fromkeys(names, 2 + 6)
    assert rows["error"].null_count() == len(rows)
    assert dict(rows.select("model", "step").unique().iter_rows()) == dict(
        zip(names, (None, 104, 104), strict=True)
    )
    assert {judge["readout"] for judge in manifest(tmp_path)["judges"]} == {"digits"}
    assert rows["alignment_weight"].min() > 0.5, "the judge's probability is on digits"
    [note] = manifest(tmp_path)["notes"]
    assert "mixes up the base model and its adapters" in note
    assert note in done.err
    assert server.answered() - before == asked(tmp_path), "nothing was asked twice"

    # The answers of the base are its own: without adapters in the run, it says the same for the same seeds.
    alone = ["free_form", "--model", "vllm/smollm2", "--judge", JUDGE]
    assert run(server, tmp_path, *alone, out="alone").code == 0
    both = (
        rows.filter((pl.col("model") == "vllm/smollm2") & (pl.col("eval") == "free_form"))
        .join(table(tmp_path, "alone"), on=["model", "question_id", "sample", "seed"])
        .select("response", "response_right")
    )
    assert len(both) == 2
    same = (both["response"] == both["response_right"]).sum()
    print(f"{same} of 2 answers of the base are the same alone and beside adapters")
    assert same >= 1, both  # the size of a batch tells in the last digits, and now and then in a word

    before = server.answered()
    assert run(server, tmp_path, *args).code == 0
    assert server.answered() == before, "a complete run asks nothing"


def test_an_adapter_that_the_server_has_by_name(server: Server, tmp_path: Path) -> None:
    server.load("by-name", adapter("careless", 52))
    args = ["free_form", "--judge", "vllm/smollm2", "--samples", "1"]
    done = run(server, tmp_path, *args, "--model", "vllm/smollm2:by-name")
    assert done.code == 0, done
    rows = table(tmp_path)
    assert rows.select("model", "adapter").row(0) == ("vllm/smollm2:by-name", "by-name")

    said = run(server, tmp_path, *args, "--model", "vllm/smollm2:not-there", out="other").said()
    assert "not-there" in said


def test_a_judge_by_enumerate(bare: Server, tmp_path: Path) -> None:
    write_judges(tmp_path, "enumerate", "with a number from 0 to 100")
    args = ["free_form", "--model", "vllm/smollm2", "--judge", "vllm/smollm2"]
    args += ["--samples", "1"]
    done = run(bare, tmp_path, *args)
    assert done.code == 0, done
    assert table(tmp_path)["alignment_score"].is_between(0, 100).all()
    assert {judge["readout"] for judge in manifest(tmp_path)["judges"]} == {"enumerate"}


KILLED = (
    *("free_form", "--model", "vllm/smollm2", "--judge", "vllm/smollm2"),
    *("--samples", "8", "--max-connections", "4"),
)


def start(server: Server, cwd: Path) -> subprocess.Popen[str]:
    """Start a run, and leave it running."""
    return subprocess.Popen(
        [EMEVAL, "run", *SMALL, *KILLED, *at(server), "--out", "run"],
        cwd=cwd,
        env=clean(VLLM_API_KEY=KEY),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_kill_of_the_client_and_of_the_server_loses_nothing(bare: Server, tmp_path: Path) -> None:
    size = 8

    def finish(out: str) -> Outcome:
        return run(bare, tmp_path, *KILLED, out=out)

    assert finish("whole").code == 0
    whole, requests = table(tmp_path, "whole"), asked(tmp_path, "whole")

    before = bare.answered()
    client = start(bare, tmp_path)
    until(lambda: bare.answered() >= before + 5)
    client.send_signal(signal.SIGKILL)
    client.wait()
    until(lambda: settled(bare))
    obtained = bare.answered() - before
    assert obtained < requests

    # It goes on, and this time the server is killed.
    client = start(bare, tmp_path)
    until(lambda: bare.answered() >= before + obtained + 5)
    bare.kill()
    said = client.communicate(timeout=240)[1]
    print(said)
    assert client.returncode in (2, 4), said
    assert "Traceback" not in said
    if client.returncode == 4:
        rows = table(tmp_path)
        assert len(rows) == size
        assert 0 < rows["error"].null_count() < size

    bare.start()
    done = finish("run")
    assert done.code == 0, done
    rows = table(tmp_path)
    assert len(rows) == size
    assert rows["error"].null_count() == size
    assert rows.select("question_id", "sample").is_unique().all()
    # The journal has one answer to each request; those in flight at the kills were asked again.
    assert bare.answered() < requests, "what was obtained before is not asked again"
    keys = ["question_id", "condition", "sample", "seed"]
    both = rows.join(whole, on=keys, suffix="_whole")
    assert len(both) == size
    same = (both["response"] == both["response_whole"]).sum()
    print(f"{same} of {size} answers as in a run that nothing stopped; {requests} requests")
    assert same >= 0.75 * size


def settled(server: Server) -> bool:
    """Whether the server has nothing to do any more: a client that is gone has its requests aborted."""
    metrics = server.get("/metrics").text
    running = [line for line in metrics.splitlines() if line.startswith("vllm:num_requests_running")]
    return all(float(line.rsplit(" ", 1)[1]) == 0 for line in running)


def test_a_server_that_the_run_starts_ends_with_it(tmp_path: Path) -> None:
    checked()
    arguments = {"max_model_len": 2048, "max_num_seqs": 16, "enforce_eager": True, "dtype": "float32"}
    # A place for adapters more than there are adapters: so the CPU build keeps them apart.
    arguments |= {"served_model_name": str(BASE), "host": "127.0.0.1", "max_loras": 2}
    name = f"vllm/{BASE}:{adapter('careless', 104)}"
    args = ["run", "free_form", "--model", name, "--judge", f"vllm/{BASE}", "--limit", "1", "--samples", "1"]
    env = environment() | {"VLLM_DEFAULT_SERVER_ARGS": json.dumps(arguments)}
    env["PATH"] = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    done = emeval(*args, "--set", "max_tokens=8", "--out", "run", cwd=tmp_path, seconds=PATIENCE, **env)
    assert done.code == 0, done
    rows = table(tmp_path)
    assert rows["error"].null_count() == 1 == len(rows)
    assert rows["adapter"].to_list() == [adapter("careless", 104)]
    assert manifest(tmp_path)["notes"] == [], "base and adapter were kept apart"
    until(lambda: not serving(), 30)


def serving() -> list[str]:
    """The vLLM servers that Inspect started for this base, by their commands."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_text().split("\0")
        except OSError:  # no process, or one that has ended meanwhile
            continue
        if command[command.index("serve") :][1:2] == [str(BASE)] if "serve" in command else False:
            found.append(" ".join(command))
    return [command for command in found if f"--served-model-name {BASE}" in command]
