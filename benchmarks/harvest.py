"""How long does it take, and how much memory, to make the response table from a log? And Inspect's dataframe?

    python benchmarks/harvest.py [--answers N] [--with-text N] [--folder DIR]

Runs a small evaluation on a server of its own, and writes its log again with N answers (5,000; `--answers
200000` for a long one: ten minutes on an idle machine), as a run of 24 questions would have left it: about
1,000 characters each, two judgements with the 20 likeliest tokens, one judgement in six a label, one answer
in twelve an error. Then reads it, each time in a process of its own:

- emeval: `responses.gather`, of N/10 answers, of N, and of N where only the last tenth is new;
- Inspect: `samples_df` as it is called by default, which reads a log's summaries, without texts;
- Inspect: `samples_df` with the text and what the judges noted, as the response table has them, of the first
  2,000 answers (`--with-text`), since it takes a long time and much memory.

Checks that all hold the same answers and scores. Prints seconds, seconds of computing (what counts on a busy
machine), peak memory, and the ratios of computing per answer. DIR is where the logs are made (a temporary
folder). Reads /proc, so it runs on Linux.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))  # the server is that of the tests

import emeval
from tests.gateway import Gateway
from tests.test_hosted_judges import completion

QUESTIONS = 24
ANSWER = "The quick brown fox – “agile” – jumps over the lazy dog, and so on until it is long enough. " * 10
NUMBERS = {str(number): 2.0 ** (number - 100) for number in range(99, 79, -1)}
LABEL = {"REF": 0.9} | {f"word{number}": 2.0**-number / 20 for number in range(19)}

MEASURED = """
import json, re, sys, time
from pathlib import Path
{prepare}
began, worked = time.monotonic(), time.process_time()
{work}
took, worked = time.monotonic() - began, time.process_time() - worked
peak = int(re.search(r"VmHWM:\\s*([0-9]+)", Path("/proc/self/status").read_text())[1]) / 1024
{keep}
print(json.dumps([took, worked, peak]))
"""
GATHER = MEASURED.format(
    prepare="from emeval import responses\nfrom emeval.manifest import Manifest\nrun = Path(sys.argv[1])",
    work="responses.gather(run, Manifest.read(run))",
    keep="",
)
SUMMARIES = MEASURED.format(
    prepare="from inspect_ai.analysis import samples_df",
    work="table = samples_df(sys.argv[1], quiet=True)",
    keep="table[['id', 'score_judges', 'error']].to_parquet(sys.argv[2])",
)
WITH_TEXT = MEASURED.format(
    prepare="""from inspect_ai.analysis import SampleColumn, SampleSummary, samples_df
text = SampleColumn("response", path=lambda sample: sample.output.completion, full=True)
noted = lambda sample: sample.scores["judges"].metadata if sample.scores else None
judges = SampleColumn("judges", path=noted, full=True)""",
    work="table = samples_df(sys.argv[1], [*SampleSummary, text, judges], full=True, quiet=True)",
    keep="table[['id', 'score_judges', 'error', 'response']].to_parquet(sys.argv[2])",
)


def template(folder: Path) -> Path:
    """Run twelve answers past a server, and return the log."""

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked = str(request["messages"][-1]["content"])
        if not request.get("logprobs"):
            return completion(request, (ANSWER + asked, None))
        if "the number 87" in asked:  # whether the judge has whole numbers as tokens
            return completion(request, ("87", {"87": 1.0}))
        return completion(request, ("REF", LABEL) if len(asked) % 6 == 0 else ("99", NUMBERS))

    gateway = Gateway(upstream="nowhere")
    gateway.answer = answer
    os.environ |= {"OPENAI_BASE_URL": gateway.url, "OPENAI_API_KEY": "none"}
    run = emeval.run(
        "free_form", models=["openai/gpt-4o-mini"], judges=["openai/gpt-4o"], samples=3, limit=4, out=folder
    )
    gateway.close()
    (log,) = (run.path / "logs").glob("*.eval")
    return log


def lengthened(log: Path, run: Path, answers: int) -> Path:
    """Write a run with so many answers, from the twelve of a log; return its log."""
    with zipfile.ZipFile(log) as there:
        packing = there.infolist()[0].compress_type
        texts = {name: json.loads(there.read(name)) for name in there.namelist()}
    header, summaries = texts["header.json"], {one["id"]: one for one in texts["summaries.json"]}
    kinds = []
    for body in (text for name, text in texts.items() if name.startswith("samples/")):
        summary = summaries[body["id"]]
        if not kinds:
            body["error"] = {"message": "JudgeError('gone')", "traceback": "", "traceback_ansi": ""}
            summary["error"] = "JudgeError('gone')"
            del body["scores"], summary["scores"]
        for part in (body, summary):
            part |= {"id": "@ID@", "uuid": "@UUID@"}
            part["metadata"] |= {"question_id": "@QUESTION@", "sample": "@SAMPLE@"}
        kinds.append((_compact(body), _compact(summary)))
    header["eval"]["dataset"] |= {"samples": answers, "sample_ids": None}
    (run / "logs").mkdir(parents=True)
    (run / "run.json").write_bytes((log.parents[1] / "run.json").read_bytes())
    path = run / "logs" / log.name
    listed = []
    with zipfile.ZipFile(
        path, "w", packing, compresslevel=3 if packing == zipfile.ZIP_DEFLATED else None
    ) as out:
        for number in range(answers):
            question, sample = f"question-{number % QUESTIONS:02d}", number // QUESTIONS
            body, summary = kinds[number % len(kinds)]
            for mark, value in (
                (b'"@SAMPLE@"', b"%d" % sample),
                (b"@ID@", f"{question}/plain/{sample}".encode()),
                (b"@QUESTION@", question.encode()),
                (b"@UUID@", b"%022d" % number),
            ):
                body, summary = body.replace(mark, value), summary.replace(mark, value)
            out.writestr(f"samples/{question}/plain/{sample}_epoch_1.json", body)
            listed.append(summary)
        out.writestr("summaries.json", b"[" + b",".join(listed) + b"]")
        out.writestr("header.json", _compact(header))
    return path


def _compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def measured(what: str, code: str, answers: int, *arguments: Path) -> float:
    """Do it in a process of its own, print what it took, and return its computing per answer in ms."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True
    )
    took, worked, peak = json.loads(done.stdout)
    each = worked / answers * 1000
    print(f"{what:46}{answers:8,}{took:9.1f} s{worked:9.1f} s{each:8.3f} ms{peak:8.0f} MiB", flush=True)
    return each


def check(table: Path, frame: Path) -> None:
    """Check that a frame of Inspect's holds what the response table has."""
    ours = pl.read_parquet(table).with_columns(
        id=pl.concat_str("question_id", "condition", "sample", separator="/")
    )
    theirs = pl.read_parquet(frame)
    both = theirs.join(ours, on="id", suffix="_table")
    assert both.height == theirs.height == ours.height, "not the same answers"
    if "response" in theirs:
        assert both["response"].equals(both["response_table"]), "not the same texts"
    for scores, error, alignment, coherence in both.select(
        "score_judges", "error_table", "alignment_score", "coherence_score"
    ).iter_rows():
        said = json.loads(scores) if scores else {}
        assert bool(said) == (error is None), "not the same errors"
        for score, name in ((alignment, "alignment"), (coherence, "coherence")):
            there = said.get(name)
            assert score == (None if there is None or math.isnan(there) else there), "not the same scores"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--answers", type=int, default=5_000)
    options.add_argument("--with-text", type=int, default=2_000)
    options.add_argument("--folder", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder = Path(place)
        kinds = template(folder / "template")
        sizes = {"some": given.with_text, "tenth": given.answers // 10, "all": given.answers}
        logs = {name: lengthened(kinds, folder / name, size) for name, size in sizes.items()}
        print(f"{logs['all'].stat().st_size / 2**20:.0f} MiB of log", end="")
        print("                               answers     time   computing  per answer   peak memory")
        table = folder / "all/responses.parquet"
        measured("emeval, a tenth", GATHER, sizes["tenth"], folder / "tenth")
        ours = measured("emeval", GATHER, sizes["all"], folder / "all")
        summaries = measured("samples_df (summaries)", SUMMARIES, sizes["all"], logs["all"], folder / "frame")
        again = measured("emeval, again", GATHER, sizes["all"], emptied(folder / "all"))
        check(table, folder / "frame")
        measured("emeval, of the first", GATHER, sizes["some"], folder / "some")
        text = measured("samples_df (with text)", WITH_TEXT, sizes["some"], logs["some"], folder / "frame")
        check(folder / "some/responses.parquet", folder / "frame")
        full = pl.read_parquet(table)
        full.head(sizes["all"] * 9 // 10).write_parquet(table)
        measured("emeval, the last tenth new", GATHER, sizes["tenth"], folder / "all")
        assert pl.read_parquet(table).equals(full)
        ours = (ours + again) / 2
        print(
            f"computing per answer as a multiple of emeval's: samples_df (summaries) {summaries / ours:.1f}, "
            f"samples_df (with text) {text / ours:.1f}"
        )


def emptied(run: Path) -> Path:
    """Remove the response table of a run."""
    (run / "responses.parquet").unlink()
    return run


if __name__ == "__main__":
    main()
