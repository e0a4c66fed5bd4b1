"""Asking until it is enough: rounds of answers with a look after each.

Answers are asked for in rounds: so many to every question in every condition, and no answer of the next
round before all of this one are there and were looked at. So a run that stops leaves a balanced table.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio
import numpy as np
import polars as pl

from emeval import library
from emeval.comparability import find_mismatches, mend
from emeval.definitions import DECISIVE, Gate
from emeval.errors import UserError, unknown
from emeval.gate import decide
from emeval.gate.cells import cells
from emeval.gate.fitting import about, fitted
from emeval.gate.runs import DEFAULT
from emeval.judging import measures
from emeval.manifest import Manifest, StopRecord
from emeval.prepared import Prepared
from emeval.responses import TEXTS, judged, schema
from emeval.runs import Run, eval_record
from emeval.statistics import pooled_interval
from emeval.statistics.counting import count_by_question
from emeval.statistics.sequential import look_alphas, look_confidences, looks, reach


@dataclass(frozen=True)
class Finding:
    """What a look found."""

    ended: Literal["reached", "hopeless"] | None
    """Why asking stops; `None` if it goes on."""
    said: str


class Until(Protocol):
    """What a run waits for."""

    together: bool
    """Whether all evaluations of a model stop together, or each by itself."""

    @property
    def what(self) -> str:
        """What is waited for, in words that also tell it from anything else: part of the plan's identity."""
        ...

    def check_plan(self, evaluations: Sequence[Prepared]) -> None:
        """Raise `UserError` if this cannot be waited for with these evaluations; before anything is asked."""
        ...

    def check(self, record: Manifest) -> None:
        """Raise `UserError` if it cannot with the judges as they were found."""
        ...

    def find(self, answers: pl.DataFrame, at: Sequence[int], look: int) -> Finding:
        """Look at the answers that are there: the rows of a response table, less the texts.

        `at` are the planned looks, of which this is number `look`, from 0.
        """
        ...


@dataclass(frozen=True)
class Width:
    """Until the interval of the rate is `width` wide (0 to 1) or less, in every condition."""

    width: float
    together = False

    def __post_init__(self) -> None:
        if not 0 < self.width < 1:
            raise UserError(
                f"--until-width {self.width:g}: expected a share between 0 and 1, for example 0.05"
            )

    def check_plan(self, evaluations: Sequence[Prepared]) -> None:
        """Raise `UserError` if an evaluation does not measure `misaligned`."""
        for prepared in evaluations:
            if not set(DECISIVE) <= set(prepared.judges):
                raise UserError(
                    "--until-width: it is the interval of misaligned that is waited for, and "
                    f"{prepared.name} does not measure that; run it without --until-width"
                )

    def check(self, record: Manifest) -> None:
        """See `Until`; it is the same with every judge."""

    @property
    def what(self) -> str:
        """See `Until`."""
        return f"intervals at most {self.width:g} wide"

    def find(self, answers: pl.DataFrame, at: Sequence[int], look: int) -> Finding:
        """See `Until`."""
        confidences = look_confidences(at)
        widths, hopeless, questions = [], False, 0
        for _, part in count_by_question(answers, ["condition"], "coherent").group_by("condition"):
            hits, n = (part[name].to_numpy().astype(np.float64) for name in ("hits", "n"))
            low, high, _ = pooled_interval(hits, n, confidences[look])
            widths.append(float(high - low) if n.sum() else 1.0)
            if widths[-1] > self.width:
                reached = reach(hits, n, self.width, at[-1], confidences[-1])
                hopeless |= reached.hopeless
                questions = max(questions, reached.questions or 0)
        widest = max(widths)
        if widest <= self.width:
            return Finding(
                "reached", f"the widest interval is {widest:.3f}, and {self.width:g} was asked for"
            )
        advice = (
            f"; about {questions} questions would do" if questions > answers["question_id"].n_unique() else ""
        )
        if hopeless:
            return Finding(
                "hopeless",
                f"the widest interval is {widest:.3f}, and no number of answers to these questions would "
                f"make it {self.width:g}, because the questions differ too much{advice}",
            )
        return Finding(None, f"the widest interval is {widest:.3f}, and {self.width:g} was asked for{advice}")


@dataclass(frozen=True)
class Decided:
    """Until the gate is decided between a baseline and the model."""

    gate: Gate
    gate_name: str
    baseline: pl.DataFrame
    """The response table of the one model that the others are held against."""
    baseline_manifest: Manifest
    baseline_model: str
    together = True

    @classmethod
    def against(cls, run: Run, model: str | None, gate: str) -> Decided:
        """Read the gate and the baseline's answers. Raises `UserError` for what does not fit."""
        models = [record.name for record in run.manifest.models]
        if model is None and len(models) > 1:
            raise UserError(f"{run.path}: has {len(models)} models; name one with --baseline-model")
        if model is not None and model not in models:
            raise unknown("model", model, models, str(run.path))
        if run.manifest.status == "started":
            raise UserError(f"{run.path}: the baseline has not finished; start its command again")
        name = model or models[0]
        path = library.find(Gate, gate)
        definition = fitted(library.read(Gate, path), path, run.manifest.evaluations)
        return cls(definition, gate, run.scores_of(name), run.manifest, name)

    def check_plan(self, evaluations: Sequence[Prepared]) -> None:
        """See `Until`; what the gate needs, the baseline was checked for."""

    def check(self, record: Manifest) -> None:
        """Raise `UserError` if the run `record` asks or judges in another way than the baseline did."""
        names = [evaluation.name for evaluation in record.evaluations]
        unequal = [str(one) for one in find_mismatches(self.baseline_manifest, record, names) if one.known]
        if unequal:
            advice = mend(unequal)
            raise UserError(
                f"--baseline {self.baseline_manifest.run}: not comparable with this run: "
                f"{'; '.join([*unequal, *([advice] if advice else [])])}"
            )

    @property
    def what(self) -> str:
        """See `Until`."""
        text = self.gate.model_dump_json() + self.baseline_manifest.model_dump_json()
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        baseline = f"{self.baseline_model} of the run {self.baseline_manifest.run}"
        return f"the gate {self.gate_name} is decided against {baseline} ({digest})"

    def find(self, answers: pl.DataFrame, at: Sequence[int], look: int) -> Finding:
        """See `Until`."""
        same = self.baseline.filter(pl.col("eval").is_in(answers["eval"].unique().to_list()))
        there = about(self.baseline_manifest.evaluations)
        tests = max(1, sum(1 for _ in cells(answers, same, self.gate, there)))
        alpha = look_alphas(at, self.gate.alpha, tests)[look]
        decision = decide(same, answers, self.gate, alpha, there)
        if decision.verdict == "inconclusive":
            return Finding(None, f"the gate {self.gate_name} is inconclusive")
        return Finding("reached", f"the gate {self.gate_name} is decided: {decision.verdict}")


def until(
    width: float | None,
    decided: bool,
    baseline: Path | str | None,
    baseline_model: str | None,
    gate: str | None,
) -> Until | None:
    """Return what a run is to wait for; `None` if for nothing but its last answer. Raises `UserError`."""
    if not decided:
        given = {"--baseline": baseline, "--baseline-model": baseline_model, "--gate": gate}
        for option, value in given.items():
            if value is not None:
                raise UserError(
                    f"{option} goes with --until-decided; without it a run is held against nothing"
                )
        return Width(width) if width is not None else None
    if width is not None:
        raise UserError("--until-width and --until-decided: a run can wait for one of them, not for both")
    if baseline is None:
        raise UserError("--until-decided needs --baseline RUN, the run that the models are held against")
    return Decided.against(Run(baseline), baseline_model, gate or DEFAULT)


class Rounds:
    """The rounds of one model: which answers may be asked for, and whether it is enough.

    Covers the evaluations that stop together.
    """

    def __init__(self, model: str, evaluations: Sequence[Prepared], until: Until, run: str) -> None:
        self.model = model
        self.evaluations = evaluations
        self.until = until
        self.looks = looks(max(prepared.evaluation.samples for prepared in evaluations))
        self.finding: Finding | None = None
        """What the last look found."""
        self._run = run
        self._round = 0
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        self._numbers = {
            (prepared.name, prompt.id): prompt.sample
            for prepared in evaluations
            for prompt in prepared.prompts()
        }
        self._left = Counter(self._numbers.values())
        self._changed = anyio.Event()
        self._stopped = False

    @property
    def asked(self) -> int:
        """How many answers to each question in each condition may be asked for by now."""
        return self.looks[self._round]

    @property
    def over(self) -> bool:
        """Whether nothing more is to be asked."""
        last = self._round + 1 == len(self.looks)
        return self.finding is not None and (self.finding.ended is not None or last)

    def record(self) -> StopRecord:
        """Return what became of it; only when it is over."""
        assert self.finding
        return StopRecord(
            model=self.model,
            evaluations=[prepared.name for prepared in self.evaluations],
            until=self.until.what,
            looks=self.looks,
            asked=self.asked,
            saved=sum(number >= self.asked for number in self._numbers.values()),
            ended=self.finding.ended or "asked all",
            said=self.finding.said,
        )

    def known(self, table: pl.LazyFrame) -> None:
        """Take the answers without an error that an earlier start of the run left."""
        mine = table.filter(pl.col("error").is_null(), model=self.model)
        for row in mine.drop(TEXTS).collect().iter_rows(named=True):
            key = (row["eval"], f"{row['question_id']}/{row['condition']}/{row['sample']}")
            if key in self._numbers:
                self._count(key, row)
        self._look()

    async def admit(self, key: tuple[str, str]) -> bool:
        """Wait for the answer's round; return whether it is to be asked for at all."""
        while self._numbers[key] >= self.asked and not self.over and not self._stopped:
            await self._changed.wait()
        return self._numbers[key] < self.asked

    def stop(self) -> None:
        """Let no further round begin: something in this one cannot be asked any more."""
        self._stopped = True
        self._changed.set()

    def finish(self, key: tuple[str, str], row: dict[str, Any]) -> None:
        """Count an answer, or the error that it ended in."""
        self._count(key, row)
        self._look()

    def _count(self, key: tuple[str, str], row: dict[str, Any]) -> None:
        if key not in self._rows:
            self._rows[key] = row
            self._left[self._numbers[key]] -= 1

    def _look(self) -> None:
        """Look at the answers of all rounds so far, if they are all there and were not looked at yet."""
        while not self.over and not any(self._left[number] for number in range(self.asked)):
            rows = [row for key, row in self._rows.items() if self._numbers[key] < self.asked]
            judges = dict.fromkeys(judge for prepared in self.evaluations for judge in prepared.judges)
            records = [eval_record(prepared) for prepared in self.evaluations]
            columns = schema(judges, measures.names(records))
            answers = pl.DataFrame(rows, schema=columns, orient="row")
            answers = answers.with_columns(measures.columns(records))
            self.finding = self.until.find(answers, self.looks, self._round)
            if not self.over:
                self._round += 1
                self.finding = None
            self._changed.set()
            self._changed = anyio.Event()

    def row(self, prepared: Prepared, asked: dict[str, Any], noted: dict[str, Any]) -> dict[str, Any]:
        """Return the row of an answer that was scored."""
        return judged(
            self._run, self.model, asked, noted, prepared.judges, prepared.evaluation.thresholds
        ) | {"error": None}


def rounds_of(models: Sequence[str], evaluations: Sequence[Prepared], until: Until, run: str) -> list[Rounds]:
    """Return the rounds of each model: one for all evaluations, or one for each, as `until` wants it."""
    parts: list[Sequence[Prepared]] = [evaluations] if until.together else [[one] for one in evaluations]
    return [Rounds(model, part, until, run) for model in models for part in parts]
