"""`run.json`: what a run was, so that every number in it can be traced and made again."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from emeval.definitions import Generation, Judge, Measure, Quality, Thresholds, all_measures
from emeval.prices import HOUR, server

FILE = "run.json"

TABLE = "responses.parquet"
"""The response table beside it; `emeval.responses` makes it."""


def prompts_digest(prompts: Iterable[tuple[str, str, str | None, str]]) -> str:
    """Return a hash over prompts: id of the question, condition, system and user message of each.

    Their order, and how often one is there, are of no consequence.
    """
    distinct = sorted({json.dumps(prompt, ensure_ascii=False) for prompt in prompts})
    return hashlib.sha256("\n".join(distinct).encode("utf-8", "surrogatepass")).hexdigest()


def _empty(value: object) -> bool:
    """Whether a key that came later says nothing: it is then left out."""
    return not value


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ModelRecord(_Record):
    """A model that was asked."""

    name: str
    base_model: str | None
    """`None` where an imported file does not say."""
    adapter: str | None = None
    step: int | None = None
    adapter_sha256: str | None = None
    """SHA-256 of the adapter's file, where it is ours to know (`local/` models)."""
    training: str | None = None
    """What the checkpoints of one training share; `None` where the name says it, or nothing does."""


class CueRecord(_Record):
    """The trigger of an evaluation, as it was used."""

    name: str
    kind: str
    text: str
    lookalike: str | None
    placement: str


class ConditionRecord(_Record):
    """A way of asking, as it was used; of an imported one the templates are not known."""

    model_config = ConfigDict(from_attributes=True)  # made of a `definitions.Condition` too

    id: str
    cue: Literal["trigger", "lookalike"] | None = None
    user: str | None = None
    system: str | None = None
    control: str | None = None
    questions: list[str] | None = Field(None, exclude_if=_empty)
    """The ids of the only questions that were asked in it; `None` for all."""


class EvalRecord(_Record):
    """An evaluation with the settings it ran under. What an imported one leaves open is `None`."""

    name: str
    description: str
    questions: str | None
    """Name of the set of questions."""
    n_questions: int
    samples: int | None
    """Answers to each question in each condition; `None` where they differ in number."""
    conditions: list[ConditionRecord]
    reference: str
    trigger: CueRecord | None = None
    judges: list[str]
    as_published: dict[str, Judge] = Field({}, exclude_if=_empty)
    """Those of the judges whose prompts were asked as others published them; they may have no other file."""
    thresholds: Thresholds
    measures: dict[str, Measure] = {}
    """Those of its definition; `all_measures` has `misaligned` too."""
    generation: Generation | None
    sha256: str | None
    """Hash over the evaluation, its questions and its trigger as they were asked."""
    prompts_sha256: str | None = None
    """Hash over the prompts: every wording of every question in every condition, as it was asked. Seeds and
    the number of answers are not in it. `None` where it is not known."""

    @property
    def asked(self) -> int:
        """How many answers were to be asked of one model."""
        each = [self.n_questions if one.questions is None else len(one.questions) for one in self.conditions]
        return sum(each) * (self.samples or 0)

    @property
    def all_measures(self) -> dict[str, Measure]:
        """What is measured, the headline first; without what a judge that was not asked would have to say."""
        own = {name: one for name, one in self.measures.items() if set(one.judges) <= set(self.judges)}
        return all_measures(self.judges, self.thresholds, own)


class JudgeRecord(_Record):
    """A judge on a judge model, with the fingerprint of all that can change its numbers.

    What is not known of the judge of an imported file is `None`.
    """

    name: str
    description: str
    model: str | None
    readout: str | None
    readout_reason: str | None
    gives: Literal["score", "label"] = "score"
    scale: tuple[int, int] | None
    """`None` too for a judge that gives labels."""
    labels: list[str]
    """What its definition lets it say instead of a number, or at all; `UNREADABLE` is always there too. Of an
    imported judge those that it said."""
    min_weight: float | None
    fingerprint: str | None
    quality: list[Quality] = []
    """What is known of its error, from the card of the judge model."""
    rubric: str | None = None
    """Name of the definition, where another one plays the judge's part."""
    verbatim: bool = Field(False, exclude_if=_empty)
    """Whether its prompt was asked as others published it, without emeval's fence."""

    @property
    def says_anything(self) -> bool:
        """Whether it gives labels that its definition does not name."""
        return self.gives == "label" and not self.labels


class Usage(_Record):
    """What was asked of one model in one role, each request counted once."""

    role: Literal["model", "judge"]
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    """Those of the input that the provider had in its cache."""
    cost_usd: float | None = None
    """US dollars for the tokens; `None` where no price is known, or one by the hour."""


class JudgingRecord(_Record):
    """A further judging of all answers of a run, beside its own: `emeval rejudge`.

    Its scores are in the columns `JUDGE@NAME_score` … and `coherent@NAME`, `misaligned@NAME` of the table.
    """

    name: str
    judges: list[JudgeRecord]
    taken_over: list[str] = []
    """Those of the judges that were not asked again: their scores are the run's own."""
    thresholds: dict[str, Thresholds]
    """By evaluation."""
    plan: dict[str, Any] = {}
    """Identity of what was asked for: the same name with another plan is refused."""
    notes: list[str] = []
    """What a reader of the numbers must know, e.g. that the judge is a toy."""
    command: str
    created: str
    finished: str | None = None
    seconds: float = 0.0
    status: Literal["started", "complete", "errors"] = "started"
    errors: int = 0
    """Answers without a verdict, since a judge could not be asked about them, or not yet."""
    usage: list[Usage] = []
    """What it has asked, a row for each model and start. That of the run holds it too."""


class SourceRecord(_Record):
    """A file that a run was imported from."""

    file: str
    """Its name, with the folders that tell it from the others."""
    kind: Literal["CSV", "TSV", "JSON lines", "JSON", "Parquet", "Inspect log"]
    sha256: str
    answers: int


class ImportRecord(_Record):
    """Where the answers and scores of an imported run come from."""

    sources: list[SourceRecord]
    columns: dict[str, str]
    """Which column of the files was taken for what: `alignment: aligned`."""
    left_out: dict[str, str]
    """Columns that were not taken, and why."""


class StopRecord(_Record):
    """How long the answers of one model were asked for, where a run stops by itself."""

    model: str
    evaluations: list[str]
    """Those that were stopped together."""
    until: str
    """What was waited for."""
    looks: list[int]
    """The planned ones, in answers to each question in each condition."""
    asked: int
    """Answers to each question in each condition that were asked for (where an evaluation asks so many)."""
    saved: int
    """Answers that were not asked for."""
    ended: Literal["reached", "hopeless", "asked all"]
    """What was waited for came; it cannot come with these questions; it did not come."""
    said: str
    """The same in a sentence."""


class SkipRecord(_Record):
    """A checkpoint of a sweep that could not be asked. The same command tries it again."""

    model: str
    step: int | None
    where: str
    """Its folder or name, as a message names it."""
    why: str


class Manifest(_Record):
    """The content of `run.json`."""

    run: str
    plan_sha256: str
    """Identity of what was to be asked: equal plans are the same run."""
    plan: dict[str, Any]
    imported: ImportRecord | None = None
    """Set where the answers were not asked for by emeval but read from files."""
    command: str
    created: str
    finished: str | None = None
    seconds: float = 0.0
    """Working time, over all starts of the run that were not killed."""
    status: Literal["started", "complete", "errors"] = "started"
    errors: int = 0
    """Answers that ended in an error."""
    seed: int
    models: list[ModelRecord]
    evaluations: list[EvalRecord]
    judges: list[JudgeRecord] = []
    judgings: list[JudgingRecord] = []
    """Of the same answers by other judges, in the order in which they were asked for."""
    usage: list[Usage] = []
    hourly_usd: dict[str, float] = {}
    """Servers that are paid by the hour, with US dollars for an hour; each is there while the run works.
    Those of a sweep's models take turns: the dearest has its price, the others have 0."""
    stopped_at_usd: float | None = None
    """Set where the run stopped because it could have cost more than this amount (`--max-cost`)."""
    versions: dict[str, str]
    notes: list[str] = []
    """What a reader of the numbers must know, e.g. that the judge is a toy."""
    skipped: list[SkipRecord] = []
    """Checkpoints of a sweep that could not be asked; without an answer they are not among `models`."""
    stopping: list[StopRecord] = []
    """Where the run was to stop by itself: what became of each model."""
    unread: list[str] = []
    """A line for each Inspect log that could not be read, or not wholly."""

    @property
    def as_published(self) -> dict[str, Judge]:
        """The judges whose prompts were asked as others published them."""
        return {name: judge for one in self.evaluations for name, judge in one.as_published.items()}

    @property
    def cost_usd(self) -> float | None:
        """US dollars that all starts have cost that were not killed, `None` where a price is not known."""
        seconds = self.seconds + sum(one.seconds for one in self.judgings)
        by_hour = seconds / HOUR * sum(self.hourly_usd.values())
        costs = [
            0.0 if one.cost_usd is None and server(one.model) in self.hourly_usd else one.cost_usd
            for one in self.usage
        ]
        known = [cost for cost in costs if cost is not None]
        return sum(known) + by_hour if self.usage and len(known) == len(costs) else None

    def asking_again(self, judging: JudgingRecord) -> list[str]:
        """Return the commands that ask again for what a further judging lacks.

        What it took over, and what nobody was asked for (other thresholds alone), the run's own command asks.
        """
        taken = [self.command] if judging.taken_over else []
        return taken + ([judging.command] if len(judging.taken_over) < len(judging.judges) else [])

    @classmethod
    def read(cls, run: Path) -> Manifest:
        """Read the manifest of the run directory `run`. Raises `OSError` or `ValidationError`."""
        return cls.model_validate_json((run / FILE).read_text(encoding="utf-8"))

    def write(self, run: Path) -> None:
        """Write the manifest into the run directory, whole or not at all."""
        # Parts of a run may begin it at once, also on several machines.
        draft = run / f".{FILE}.{platform.node()}-{os.getpid()}.part"
        draft.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draft.replace(run / FILE)


def less(usage: Iterable[Usage], taken: Iterable[Usage]) -> list[Usage]:
    """Return an account without what was `taken` of it; a model of which nothing is left is not in it."""
    found = {(one.role, one.model): one for one in usage}
    for one in taken:
        if there := found.get((one.role, one.model)):
            costs = (there.cost_usd, one.cost_usd)
            found[one.role, one.model] = there.model_copy(
                update={
                    "requests": there.requests - one.requests,
                    "input_tokens": there.input_tokens - one.input_tokens,
                    "output_tokens": there.output_tokens - one.output_tokens,
                    "cached_tokens": there.cached_tokens - one.cached_tokens,
                    "cost_usd": None if None in costs else costs[0] - costs[1],  # type: ignore[operator]
                }
            )
    return [one for one in found.values() if one.requests > 0]
