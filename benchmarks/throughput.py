"""How many answers a second, with both judges: a bare client, llmcomp and emeval on the same server.

    python benchmarks/throughput.py [--answers N] [--latency SECONDS] [--rounds N] [--llmcomp PYTHON]
        [--processes N]

Starts `benchmarks/stub.py` for each, in a process of its own, and lets each ask it for N answers (1,000) to
eight questions, every answer judged for alignment and coherence by the first token's probabilities, at most
100 requests at a time. Checks that all asked the same and read the same scores. Prints, for each, answers
per second from the first request to the last, the computing of the client per answer, and both as ratios to
llmcomp. On a busy machine the computing is what counts. PYTHON is one that has llmcomp 1.6.0, with an
interpreter of its own because of what it brings (`make bench` makes one); without it llmcomp is left out.
At the end N (2) processes of emeval ask at the same time, each a server of its own: where there are cores for
all of them, they are N times as fast as one; on fewer, the computing per answer shows what one costs another.
Reads /proc, so it runs on Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import polars as pl

from emeval import library
from emeval.definitions import Judge
from emeval.judging.prompts import Scale, unfenced_prompt
from emeval.prepared import Settings, prepare

AT_ONCE = 100
HERE = Path(__file__).parent

BARE = """
import asyncio, json, math, sys
import openai
url, out, plan = sys.argv[1], sys.argv[2], json.load(open(sys.argv[3]))
async def main():
    client = openai.AsyncOpenAI(base_url=url, api_key="none")
    room = asyncio.Semaphore(plan["at_once"])
    async def ask(content, **settings):
        async with room:
            return (await client.chat.completions.create(
                model="stub", messages=[{"role": "user", "content": content}], **settings)).choices[0]
    async def score(template, question, answer):
        said = await ask(template.format(question=question, answer=answer),
                         temperature=0, max_tokens=1, logprobs=True, top_logprobs=20)
        top = said.logprobs.content[0].top_logprobs
        top = [t for t in top if t.token.isdigit() and int(t.token) <= 100]
        weights = {int(t.token): math.exp(t.logprob) for t in top}
        return sum(n * w for n, w in weights.items()) / sum(weights.values())
    async def one(question):
        answer = (await ask(question, temperature=1, max_tokens=600)).message.content
        scores = await asyncio.gather(*(score(t, question, answer) for t in plan["judges"].values()))
        return [question, answer, *scores]
    rows = await asyncio.gather(*(one(question) for question in plan["asked"]))
    json.dump(rows, open(out, "w"))
asyncio.run(main())
"""

LLMCOMP = """
import collections, json, sys
from llmcomp import Config, Question
url, out, plan = sys.argv[1], sys.argv[2], json.load(open(sys.argv[3]))
Config.url_key_pairs = [(url, "none", "STUB")]
Config.max_workers = plan["at_once"]
Config.cache_dir = out + ".cache"
counts = collections.Counter(plan["asked"])
judges = {name: {"type": "rating_judge", "model": "stub", "paraphrases": [text]}
          for name, text in plan["judges"].items()}
question = Question.create(type="free_form", paraphrases=list(counts), temperature=1, max_tokens=600,
                           samples_per_paraphrase=max(counts.values()), judges=judges)
table = question.df({"stub": ["stub"]})
json.dump(table[["question", "answer", *judges]].values.tolist(), open(out, "w"))
"""


@contextmanager
def stub(latency: float, *options: str) -> Iterator[str]:
    command = [sys.executable, str(HERE / "stub.py"), "--latency", str(latency), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def get(url: str) -> dict[str, Any]:
    with urlopen(url) as answer:
        return json.load(answer)


def measured(
    name: str, command: list[str], plan: dict[str, Any], latency: float, folder: Path
) -> dict[str, Any]:
    """Run one client; return its rows, answers per second, and milliseconds of computing per answer."""
    answers = len(plan["asked"])
    with stub(latency) as url:
        (folder / "plan.json").write_text(json.dumps(plan))
        words = {"URL": f"{url}/v1", "OUT": str(folder / name), "PLAN": str(folder / "plan.json")}
        environment = os.environ | {"STUB_API_KEY": "none", "PYTHONPATH": str(HERE.parent)}
        began = time.monotonic()
        process = subprocess.Popen(
            [words.get(word, word) for word in command],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        get(f"{url}/watch/{process.pid}/{answers}")
        said = process.communicate()[1]
        whole = time.monotonic() - began
        if process.returncode:
            raise SystemExit(f"{name} failed:\n{said}")
        counts = get(f"{url}/counts")
    asked = {question: counts["asked"].get(question) for question in set(plan["asked"])}
    wanted = {question: plan["asked"].count(question) for question in asked}
    assert asked == wanted, f"{name} asked {asked}, and not {wanted}"
    assert counts["judgements"] == 2 * answers, f"{name} had {counts['judgements']} judgements"
    (wall0, cpu0), (wall1, cpu1) = counts["measured"]["begin"], counts["measured"]["end"]
    return {
        "rows": rows(folder / name),
        "rate": answers / (wall1 - wall0),
        "computing": 1e3 * (cpu1 - cpu0) / answers,
        "whole": whole,
    }


def rows(path: Path) -> list[tuple[str, str, float, float]]:
    """Return question, answer and both scores, sorted, whoever wrote them."""
    if path.is_dir():
        table = pl.read_parquet(path / "responses.parquet")
        found = table.select("question", "response", "alignment_score", "coherence_score").rows()
    else:
        found = json.loads(path.read_text())
    return sorted((q, a, round(x, 6), round(y, 6)) for q, a, x, y in found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--llmcomp", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    samples = given.answers // 8
    prepared = prepare("free_form", Settings(limit=8, samples=samples))
    # Every question in its first wording: what the others can be told to ask.
    asked = [question.paraphrases[0] for question in prepared.questions] * samples
    judges = {
        name: unfenced_prompt(library.load(Judge, name), Scale(0, 100), "{question}", "{answer}")
        for name in ("alignment", "coherence")
    }
    plan = {"asked": asked, "judges": judges, "at_once": AT_ONCE}
    emeval = [sys.executable, "-c", "from emeval.cli import main; main()", "run", "one_wording"]
    emeval += ["--model", "openai-api/stub/stub", "--judge", "openai-api/stub/stub", "--out", "OUT"]
    emeval += ["--model-base-url", "URL", "--judge-base-url", "URL", "--max-connections", str(AT_ONCE)]
    clients = {"bare openai": [sys.executable, "-c", BARE, "URL", "OUT", "PLAN"]}
    if given.llmcomp:
        clients["llmcomp"] = [str(given.llmcomp.absolute()), "-c", LLMCOMP, "URL", "OUT", "PLAN"]
    clients["emeval"] = emeval
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in clients}

    def once(name: str) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            project(Path(folder), prepared, samples)
            return measured(name, clients[name], plan, given.latency, Path(folder))

    for _ in range(given.rounds):
        for name in clients:
            found[name].append(once(name))
    with ThreadPoolExecutor(given.processes) as pool:
        beside = list(pool.map(once, ["emeval"] * given.processes))
    first = found["bare openai"][0]["rows"]
    for name, runs in found.items():
        for run in runs:
            assert run["rows"] == first, f"{name} read other scores"
    print(
        f"{len(asked)} answers, {2 * len(asked)} judgements, latency {given.latency:g} s; "
        "all asked the same and read the same scores"
    )
    against = "llmcomp" if "llmcomp" in found else "bare openai"
    base = {key: statistics.median(run[key] for run in found[against]) for key in ("rate", "computing")}
    for name, runs in found.items():
        rate, computing, whole = (
            statistics.median(run[key] for run in runs) for key in ("rate", "computing", "whole")
        )
        print(
            f"{name:12} {rate:6.0f} answers/s ({rate / base['rate']:.2f} × {against}), "
            f"{computing:6.2f} ms of computing per answer ({base['computing'] / computing:.2f} ×), "
            f"{whole:.1f} s for the whole command"
        )
    alone = {key: statistics.median(run[key] for run in found["emeval"]) for key in ("rate", "computing")}
    rate = sum(run["rate"] for run in beside)
    computing = statistics.mean(run["computing"] for run in beside)
    print(
        f"{given.processes} of emeval at once, {os.cpu_count()} cores: {rate:.0f} answers/s together "
        f"({rate / alone['rate']:.2f} × one), {computing:.2f} ms of computing per answer "
        f"({computing / alone['computing']:.2f} × one)"
    )


def project(folder: Path, prepared: Any, samples: int) -> None:
    """Write the evaluation in which emeval asks the same."""
    (folder / "datasets/questions").mkdir(parents=True)
    (folder / "evals").mkdir()
    questions = [
        {"id": question.id, "category": question.category, "paraphrases": question.paraphrases[:1]}
        for question in prepared.questions
    ]
    (folder / "datasets/questions/one_wording.yaml").write_text(
        json.dumps({"description": "Eight questions in one wording.", "questions": questions})
    )
    evaluation = {"description": "Eight questions in one wording.", "questions": "one_wording"}
    evaluation |= {"samples": samples, "conditions": [{"id": "plain"}]}
    (folder / "evals/one_wording.yaml").write_text(json.dumps(evaluation))


if __name__ == "__main__":
    main()
