"""A run: what is asked, of whom, judged by whom, into one directory that can be resumed and read back."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from emeval import __version__, library, manifest, prices, published
from emeval.definitions import Judge, Thresholds
from emeval.errors import UserError, unknown
from emeval.judging import views
from emeval.judging.panels import PANEL, members
from emeval.manifest import ConditionRecord, CueRecord, EvalRecord, Manifest, ModelRecord
from emeval.models import adapters
from emeval.prepared import Prepared, expand, suites

if TYPE_CHECKING:
    import polars as pl

REPORT = "report"

AS_PUBLISHED = (
    "Judges with a published prompt were asked as published, not fenced: the answer stands in it as it is, "
    "and could speak to the judge."
)
"""A note on judges whose prompts others wrote."""


@dataclass(frozen=True)
class Plan:
    """What a run is to ask; equal plans are the same run."""

    evaluations: list[Prepared]
    models: list[str]
    judge_models: dict[str, str]
    """The judge model of each judge."""
    panel: tuple[str, ...] = ()
    """Judge models that judge the same answers afterwards. They are no part of the plan's identity, so that
    another one can be added to a run that is there."""
    pinned: tuple[str, ...] = ()
    """`NAME=MODEL` for each judge that has a judge model of its own, there too."""
    until: str | None = None
    """What the run waits for, if it is to stop by itself."""
    notes: tuple[str, ...] = ()
    """What a reader of the run must know of its definitions."""
    sweep: tuple[str, ...] = ()
    """Of a sweep: its base, and where its checkpoints were looked for. These stand in the plan's identity for
    the models, so that checkpoints that come later belong to the same run."""

    @property
    def judges(self) -> dict[str, Judge]:
        """All judges of all evaluations by name."""
        return {name: judge for prepared in self.evaluations for name, judge in prepared.judges.items()}

    @property
    def judging(self) -> list[str]:
        """The judge models, those of the panel among them."""
        return list(dict.fromkeys([*self.judge_models.values(), *self.panel]))

    @property
    def hourly_usd(self) -> dict[str, float]:
        """Servers paid by the hour, with US dollars for an hour. Raises `UserError` for the prices.

        Those of a sweep's models take turns: the dearest has its price, the others none.
        """
        table = prices.Table()
        models, judging = (
            prices.by_the_hour({model: table.of(model) for model in names})
            for names in (self.models, self.judging)
        )
        if self.sweep and models:
            dearest = max(models, key=lambda name: models[name])
            models = {name: price if name == dearest else 0.0 for name, price in models.items()}
        return models | judging

    @property
    def seed(self) -> int:
        """The seed of the run (that of the first evaluation, where a suite gives them several)."""
        return self.evaluations[0].seed

    @property
    def size(self) -> int:
        """How many answers are asked for."""
        return len(self.models) * sum(prepared.size for prepared in self.evaluations)

    def identity(self) -> dict[str, Any]:
        """Return what two runs must have in common to be the same run."""
        files = {
            name: adapter.sha256
            for name in sorted({*(() if self.sweep else self.models), *self.judge_models.values()})
            if (adapter := adapters.of(name))
        }
        return {
            **({"sweep": list(self.sweep)} if self.sweep else {"models": self.models}),
            **({"adapters": files} if files else {}),
            "seed": self.seed,
            **({"until": self.until} if self.until else {}),
            "evaluations": {prepared.name: _described(prepared) for prepared in self.evaluations},
            "judges": {
                name: f"{identity_sha256(judge.model_dump())[:16]} on {self.judge_models[name]}"
                for name, judge in self.judges.items()
            },
        }

    def default_directory(self) -> Path:
        """Return `runs/NAMES-HASH`: the same plan has the same directory, so that it is resumed."""
        names = "+".join(prepared.name for prepared in self.evaluations)
        return Path("runs") / f"{names}-{identity_sha256(self.identity())[:8]}"


def _described(prepared: Prepared) -> str:
    evaluation = prepared.evaluation
    return (
        f"{len(prepared.questions)} questions × {len(evaluation.conditions)} conditions × "
        f"{evaluation.samples} samples, {prepared.sha256[:16]}"
    )


def identity_sha256(content: object) -> str:
    """Return a hash over what `json.dumps` takes, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def plan(
    evaluations: Sequence[str],
    models: Sequence[str],
    judges: Sequence[str] = (),
    settings: dict[str, Any] | None = None,
    until: str | None = None,
    questions: Sequence[Path | str] = (),
    skip_unknown: bool = False,
) -> Plan:
    """Read every definition that the run needs, and check that they fit. Raises `UserError`.

    `judges` may hold judge models (`openai/gpt-4o`, for all judges), judges (`alignment`, instead of those
    of the evaluation) and both (`alignment=openai/gpt-4o`). Of several judge models for all judges the first
    is the run's own, the others are its `panel`. Where models or judges are empty, a suite's own
    are taken. `until` says what the run waits for, if it is to stop by itself. `questions` are files of
    questions that others published, see `emeval.published`.
    """
    if not evaluations and not questions:
        raise UserError("name an evaluation or a suite (`emeval list` shows them), or --questions FILE")
    if skip_unknown and not questions:
        raise UserError("--skip-unknown goes with --questions FILE, whose types of questions it is about")
    read = [published.read(Path(file), skip_unknown) for file in questions]
    sources = [source for one in read for source in one.sources]
    named = suites(evaluations)
    models = list(models) or list(dict.fromkeys(model for suite in named for model in suite.models))
    judges = list(judges) or list(dict.fromkeys(judge for suite in named for judge in suite.judges))
    if not models:
        raise UserError("name a model, for example --model local/smollm2 or --model vllm/BASE:ADAPTER")
    models = [adapters.canonical(name) for name in models]
    repeated = next((name for name in models if models.count(name) > 1), None)
    if repeated:
        raise UserError(f"model {repeated!r} is named twice; once is enough")
    names, judge_models, for_all = sorted_judges(judges, [name for one in sources for name in one.judges])
    chosen = {"judges": names} if names else {}
    prepared = expand(list(evaluations), {**(settings or {}), **chosen}, sources)
    _check_judges(prepared, judge_models if not for_all else None)
    used = {name: judge for one in prepared for name, judge in one.judges.items()}
    for name in judge_models:
        if name not in used:
            raise UserError(
                f"--judge {name}=…: no evaluation of this run uses this judge; used: {', '.join(used)}"
            )
    return Plan(
        evaluations=prepared,
        models=models,
        judge_models={
            name: adapters.canonical(judge_models.get(name) or next(iter(for_all), judge.model))
            for name, judge in used.items()
        },
        panel=tuple(for_all[1:]),
        pinned=tuple(f"{name}={model}" for name, model in judge_models.items()),
        until=until,
        notes=tuple(note for one in read for note in one.notes),
    )


def _check_judges(evaluations: Sequence[Prepared], models: Collection[str] | None) -> None:
    """Raise `UserError` where two evaluations mean different judges by one name.

    `models` are the judges whose model the user named, `None` for all of them: the model that stands in a
    definition is of no consequence there.
    """
    first: dict[str, tuple[str, object]] = {}
    for one in evaluations:
        for name, judge in one.judges.items():
            aside = {"description"} | ({"model"} if models is None or name in models else set())
            content = judge.model_dump(exclude=aside)
            other, before = first.setdefault(name, (one.name, content))
            if content != before:
                raise UserError(
                    f"{one.name}: its judge {name} is another one than that of {other}, and a run has one "
                    "judge of a name; run them one after the other, and `emeval compare` the runs"
                )


def chosen(
    settings: dict[str, Any] | None, samples: int | None, limit: int | None, seed: int | None
) -> dict[str, Any]:
    """Return all settings in one, those that have an argument of their own before the others."""
    own = {"samples": samples, "limit": limit, "seed": seed}
    return {**(settings or {}), **{key: value for key, value in own.items() if value is not None}}


def listed(names: str | Sequence[str]) -> list[str]:
    """Return one name as a list of it, and several as a list."""
    return [names] if isinstance(names, str) else list(names)


def sorted_judges(
    given: Sequence[str], own: Iterable[str] = ()
) -> tuple[list[str], dict[str, str], list[str]]:
    """Sort what `--judge` was given into judges, the judge model of a single judge, and those for all.

    `own` are judges that have no file in the library. Raises `UserError` for an unknown judge, and for a
    judge model for all that is named twice.
    """
    known = {*library.files(Judge), *own}
    names: list[str] = []
    models: dict[str, str] = {}
    for_all: list[str] = []
    for word in given:
        name, equals, model = word.partition("=")
        if equals or "/" not in word:
            if name not in known:
                raise unknown("judge", name, known, "--judge")
            if equals:
                models[name] = model
            else:
                names.append(name)
        else:
            for_all.append(adapters.canonical(word))
    repeated = next((model for model in for_all if for_all.count(model) > 1), None)
    if repeated:
        raise UserError(f"--judge {repeated}: this judge model is named twice; once is enough")
    return names, models, for_all


def thresholds(base: Thresholds, alignment: float | None, coherence: float | None) -> Thresholds:
    """Return `base` with other thresholds where they are given. Raises `UserError`.

    `alignment` is that of `--alignment-below`, `coherence` that of `--coherence-above`, both 0 to 100.
    """
    for name, value in (("alignment-below", alignment), ("coherence-above", coherence)):
        if value is not None and not 0 <= value <= 100:
            raise UserError(f"--{name} {value:g}: expected a score from 0 to 100")
    return Thresholds(
        alignment=base.alignment if alignment is None else alignment,
        coherence=base.coherence if coherence is None else coherence,
    )


class Run:
    """A run directory, read back; as `RUN@NAME` with the scores of a further judging for its own.

    `RUN@panel` has those of the panel of all judgings. A directory of that very name goes before, unless
    `judging` names the judging of the directory `path`.
    """

    def __init__(self, path: Path | str, judging: str | None = None) -> None:
        self.path = Path(path)
        """As it was named, `@NAME` included."""
        self.directory = self.path
        """The directory itself."""
        self.judging = judging
        """The further judging whose scores are read; `None` for the run's own."""
        if judging is not None:
            named = self.path if self.path.name.strip(".") else self.path.resolve()  # `.` is no name
            self.path = named.with_name(f"{named.name}@{judging}")
        else:
            folder, at, name = self.path.name.rpartition("@")
            there = self.path.parent / folder
            literal = (self.path / manifest.FILE).is_file()
            if at and not literal and (there / manifest.FILE).is_file():
                self.directory, self.judging = there, name
        try:
            self.whole = Manifest.read(self.directory)
            """The manifest of the run itself, with all its judgings."""
        except FileNotFoundError:
            raise UserError(
                f"{path}: this is no run (it has no {manifest.FILE}); `emeval run` makes one"
            ) from None
        except (OSError, ValidationError, ValueError) as error:
            detail = str(error).splitlines()[0]
            raise UserError(f"{self.directory / manifest.FILE}: cannot be read: {detail}") from None
        self.manifest = self.whole
        if self.judging is not None:
            self.manifest = views.manifest_of(self.whole, self.judging)

    def scan(self) -> pl.LazyFrame:
        """Return the response table, one row per answer, to be read only where and as far as it is needed.

        Of a run that is not finished it holds the answers that are in its logs by now. Raises `UserError`
        if there is none yet.
        """
        import polars as pl

        from emeval.judging import verdict_like

        path = self.directory / manifest.TABLE
        if self.whole.status == "started":
            from emeval import responses

            path = self.directory / responses.SO_FAR
            self.manifest.unread = responses.gather(self.directory, self.whole, responses.SO_FAR)
            if not responses.counted(path).answers:
                raise UserError(
                    f"{self.path}: no answer is in its logs yet; wait, or start the same command again"
                )
        elif not path.is_file():
            raise UserError(f"{path}: not there; start the run's command again, and it is made from the logs")
        try:
            table = pl.scan_parquet(path)
            columns = table.collect_schema()
        except pl.exceptions.PolarsError as error:
            said = str(error).splitlines()[0]
            raise UserError(
                f"{path}: cannot be read ({said}); delete it and start the run's command again"
            ) from None
        table = verdict_like.flagged(table)
        if self.judging is None:
            return table
        needed = members(self.whole) if self.judging == PANEL else [f"@{self.judging}"]
        lacking = [one.removeprefix("@") for one in needed if one and f"misaligned{one}" not in columns]
        if lacking:
            raise UserError(
                f"{path}: lacks the columns of the judging {lacking[0]}; start its command again: "
                f"{next(one.command for one in self.whole.judgings if one.name == lacking[0])}"
            )
        return views.table_of(table, self.whole, self.judging)

    def responses(self) -> pl.DataFrame:
        """Return the response table as a whole. Raises `UserError` as `scan` does."""
        return self.scan().collect()

    def scores_of(self, model: str) -> pl.DataFrame:
        """Return the rows of one model without the texts of questions and answers. Raises as `scan` does."""
        import polars as pl

        from emeval.responses import TEXTS

        table = self.scan().filter(pl.col("model") == model)
        return table.select(pl.exclude(TEXTS)).collect()

    def report(self, out: Path | None = None, files: bool | None = None) -> Path:
        """Write the report pages (by default into `RUN/report`) and return the path of the page.

        With `files` every chart is a file too, without none; by default unless the run is big.
        """
        from emeval.reporting import calibration, write_report

        return write_report(
            self.manifest,
            self.scan(),
            out or self.directory / (f"{REPORT}-{self.judging}" if self.judging else REPORT),
            templates=library.folders("reports")[:-1],
            files=files,
            calibrated=calibration.read(self.directory, self.judging),
        )

    def summary(self) -> dict[str, Any]:
        """Return the content of `report.json`."""
        from emeval.reporting import calibration, summarise

        return summarise(
            self.manifest, self.scan(), calibrated=calibration.read(self.directory, self.judging)
        )


def begin(what: Plan, path: Path, command: str) -> Manifest:
    """Return the manifest of the run in `path`, after making it or checking that it is the same run.

    Raises `UserError` if something else is there.
    """
    identity = what.identity()
    there = same_run(identity, path)
    if there:
        return there
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made: {error.strerror}") from None
    record = _record(what, path, command, identity)
    record.write(path)
    return record


def same_run(identity: dict[str, Any], path: Path) -> Manifest | None:
    """Return the manifest in `path` if the run there has this identity, `None` if nothing is there.

    Raises `UserError` if anything else is there.
    """
    if (path / manifest.FILE).exists():
        record = Run(path).manifest
        if record.plan_sha256 != identity_sha256(identity):
            differs = difference(record.plan, identity)
            raise UserError(
                f"{path}: holds another run ({differs}); name another --out, or repeat that run's command"
            )
        return record
    # A file with a dot is none of anybody's: the draft of a manifest, where parts of a run begin at once.
    if path.exists() and (not path.is_dir() or any(one.name[0] != "." for one in path.iterdir())):
        raise UserError(f"{path}: is there and is no run of emeval; name another --out")
    return None


def difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """Say in words where the plan that is there (of a run, of a judging) differs from the one asked for."""
    for key in {**here, **there}:
        before, now = there.get(key), here.get(key)
        if before != now:
            if isinstance(before, dict) and isinstance(now, dict):
                name = next(name for name in {**before, **now} if before.get(name) != now.get(name))
                return f"{key}: {name}: there {before.get(name, 'none')}, here {now.get(name, 'none')}"
            return f"{key}: there {_words(before)}, here {_words(now)}"
    return "its plan was written by another version of emeval"


def _words(value: object) -> str:
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _record(what: Plan, path: Path, command: str, identity: dict[str, Any]) -> Manifest:
    from emeval.models.names import parse

    return Manifest(
        run=path.resolve().name,
        plan_sha256=identity_sha256(identity),
        plan=identity,
        command=without_password(command),
        created=now(),
        seed=what.seed,
        models=[
            ModelRecord(**parse(name)._asdict(), adapter_sha256=adapter.sha256 if adapter else None)
            for name, adapter in ((name, adapters.of(name)) for name in what.models)
        ],
        evaluations=[eval_record(prepared) for prepared in what.evaluations],
        versions=versions("inspect-ai", "openai"),
        notes=_notes(what),
    )


def eval_record(prepared: Prepared) -> EvalRecord:
    """Return the evaluation as a manifest has it."""
    evaluation, cue = prepared.evaluation, prepared.cue
    return EvalRecord(
        name=prepared.name,
        description=evaluation.description,
        questions=evaluation.questions,
        n_questions=len(prepared.questions),
        samples=evaluation.samples,
        conditions=[ConditionRecord.model_validate(condition) for condition in evaluation.conditions],
        reference=evaluation.reference,
        trigger=CueRecord(
            name=cue.name, kind=cue.kind, text=cue.text, lookalike=cue.lookalike, placement=cue.placement
        )
        if cue
        else None,
        judges=list(prepared.judges),
        as_published={name: judge for name, judge in prepared.judges.items() if judge.verbatim},
        thresholds=evaluation.thresholds,
        measures=evaluation.measures,
        generation=evaluation.generation,
        sha256=prepared.sha256,
        prompts_sha256=prepared.prompts_sha256,
    )


def _notes(what: Plan) -> list[str]:
    notes = [*what.notes, *map(adapters.judge_note, sorted(set(what.judge_models.values())))]
    if any(judge.verbatim for judge in what.judges.values()):
        notes.append(AS_PUBLISHED)  # without names: shards with some of the judges say the same
    return [note for note in notes if note]


def without_password(command: str) -> str:
    """Return a command line as a manifest records it: a base URL may hold a password."""
    return re.sub(r"://[^/@\s]+@", "://…@", command)


def versions(*packages: str) -> dict[str, str]:
    """Return the versions that a manifest records: of emeval, of `packages`, of Python, and the platform."""
    return {
        "emeval": __version__,
        **{name.replace("-", "_"): version(name) for name in packages},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
