"""Carrying a run out: models opened and probed, Inspect's tasks run, the results read back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import polars as pl
from inspect_ai import eval_set
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.model import ChatMessage, ChatMessageUser, Model, get_model_info
from rich.console import Console

from emeval import journal, responses, stopping, tasks
from emeval.definitions import Judge
from emeval.errors import UserError, reason
from emeval.journal import Journal
from emeval.judging.readouts import PROBE
from emeval.judging.scorer import Instrument, instrument
from emeval.manifest import JudgeRecord, Manifest, Usage
from emeval.models import adapters
from emeval.models.access import open_model, release
from emeval.models.names import full_name, parse
from emeval.runs import Plan, Run, begin, now, plan
from emeval.stopping import Until

T = TypeVar("T")


@dataclass(frozen=True)
class Access:
    """How the models are reached."""

    model_base_url: str | None = None
    judge_base_url: str | None = None
    max_connections: int | None = None

    def model(self, name: str) -> Model:
        """Open a model that is evaluated."""
        return open_model(name, self.model_base_url, self.max_connections)

    def check(self, what: Plan) -> None:
        """Raise `UserError` if a base model on vLLM would be asked at two addresses.

        Inspect keeps one server for a base model: what is meant for the second would go to the first.
        """
        bases = {parse(name).base_model for name in what.models if name.startswith("vllm/")}
        both = bases & {parse(name).base_model for name in what.judge_models.values()}
        if both and self.model_base_url != self.judge_base_url:
            raise UserError(
                f"{min(both)}: model and judge have different base URLs, but one base model on vLLM has one "
                "server; name the judge as openai-api/SERVICE/NAME"
            )

    def judge(self, name: str) -> Model:
        """Open a judge model."""
        return open_model(name, self.judge_base_url, self.max_connections, "judge model")


def run(
    evaluations: str | Sequence[str],
    models: str | Sequence[str] = (),
    judges: str | Sequence[str] = (),
    *,
    samples: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
    out: Path | str | None = None,
    settings: dict[str, Any] | None = None,
    until_width: float | None = None,
    until_decided: bool = False,
    baseline: Path | str | None = None,
    baseline_model: str | None = None,
    gate: str | None = None,
    access: Access = Access(),
    console: Console | None = None,
    command: str = "emeval.run (from Python)",
) -> Run:
    """Ask, judge and write the run directory; go on where an earlier start of the same run stopped.

    A suite may name models and judge models of its own, for where `models` or `judges` are left out.
    `judges` may hold judge models (`openai/gpt-4o`, for all judges), judges (`alignment`, instead of those
    of the evaluation) and both (`alignment=openai/gpt-4o`). `samples` is the number of answers to each
    question in each condition, `limit` the number of questions; `settings` holds any other setting of
    `emeval.definitions.Settings`.

    With `until_width` (a share from 0 to 1) each model stops when its intervals are so narrow, with
    `until_decided` when the gate `gate` (by default `default`) is decided between it and the model of the
    run `baseline`; `samples` is then the most that is asked for.

    Errors of single answers do not end the run: they stand in the column
    `error`, the manifest's status is then `errors`, and the same call asks for them again. Progress goes to
    `console`, by default standard error; `command` is recorded. Raises `UserError` for what is the caller's
    to mend.
    """
    _refuse_running_loop()
    own = {"samples": samples, "limit": limit, "seed": seed}
    given = {**(settings or {}), **{key: value for key, value in own.items() if value is not None}}
    waited = stopping.until(until_width, until_decided, baseline, baseline_model, gate)
    until = waited.what if waited else None
    what = plan(_listed(evaluations), _listed(models), _listed(judges), given, until)
    path = Path(out) if out else what.default_directory()
    record = begin(what, path, command)
    if record.status != "complete" or not (path / responses.FILE).is_file():
        _execute(what, waited, path, record, access, console or Console(stderr=True))
    return Run(path)


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UserError(
        "emeval.run: an event loop is running here already (as in a notebook); "
        "call it in a thread: await asyncio.to_thread(emeval.run, …)"
    )


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _execute(
    what: Plan, until: Until | None, path: Path, record: Manifest, access: Access, console: Console
) -> None:
    started = time.monotonic()
    access.check(what)
    with journal.journaling(path / journal.FILE) as keeper:
        models = [access.model(name) for name in what.models]
        judges = {name: access.judge(name) for name in set(what.judge_models.values())}
        record.judges = anyio.run(_probe, what, models, judges, keeper)
        record.write(path)
        if until:
            until.check(record)
        for line in responses.set_aside(path):
            console.print(f"{line}; the journal has its answers", style="yellow", highlight=False)
        # Imported only now: hooks that are there when the first model is opened, Inspect announces on stdout.
        from emeval.progress import watching

        rounds = _rounds(what, until, path, record)
        opened = dict(zip(what.models, models, strict=True))
        stopping_tasks = [
            tasks.build(prepared, opened[one.model], stopping.Stopper(one, prepared))
            for one in rounds
            for prepared in one.evaluations
        ]
        stopped = True
        try:
            with watching(console):
                _, logs = eval_set(
                    stopping_tasks or [tasks.build(prepared) for prepared in what.evaluations],
                    log_dir=str(path / responses.LOGS),
                    model=None if stopping_tasks else models,
                    model_roles={judge: judges[model] for judge, model in what.judge_models.items()},
                    retry_attempts=0,
                    retry_immediate=False,
                    display="none",
                    score_display=False,
                    ctl_server=False,
                    log_level="error",
                    log_format="eval",
                    # Evaluations of a model that stop together have to be asked at once.
                    max_tasks=max(len(models), sum(len(one.evaluations) for one in rounds)),
                )
            # After Ctrl-C Inspect returns without the logs of what it had not finished.
            finished = [log for log in logs if log.status in ("success", "error")]
            stopped = len(finished) < len(models) * len(what.evaluations)
        except PrerequisiteError as error:  # something that Inspect finds missing only now
            raise UserError(reason(error)) from None
        finally:
            # Also after Ctrl-C: what was obtained is read, and the same command goes on from here.
            record.seconds += time.monotonic() - started
            record.stopping = [one.record() for one in rounds if one.over]
            _finish(what, path, record, keeper, stopped)
        if stopped:
            raise KeyboardInterrupt


def _rounds(what: Plan, until: Until | None, path: Path, record: Manifest) -> list[stopping.Rounds]:
    """Return the rounds of a run that is to stop by itself, with what an earlier start left of it."""
    if until is None:
        return []
    record.stopping = []
    responses.gather(path, record, responses.SO_FAR)
    rounds = stopping.rounds_of(what.models, what.evaluations, until, record.run)
    for one in rounds:
        one.known(pl.scan_parquet(path / responses.SO_FAR))
    return rounds


async def _probe(
    what: Plan, models: list[Model], judges: dict[str, Model], keeper: Journal
) -> list[JudgeRecord]:
    """Ask every model for a word, and every judge model for its readout, before the run begins.

    A wrong key, a model that the server does not have, a judge that cannot be read: better known now than
    after the last answer. What is learned is journaled, so that it is asked once in a run. Returns the
    judges as they will be asked.
    """
    for model in models:
        hello: list[ChatMessage] = [ChatMessageUser(content="Hello")]
        await _answering(f"model {full_name(model)}", keeper.ask("model", model, hello, PROBE, "probe"))
    records = []
    for name, judge in what.judges.items():
        model = judges[what.judge_models[name]]
        ready = instrument(name, judge, model, keeper)
        tool = await _answering(f"judge {name} on {full_name(model)}", ready)
        records.append(_judge_record(tool, judge))
    for model in {*models, *judges.values()}:
        await release(model)
    return records


def _judge_record(tool: Instrument, judge: Judge) -> JudgeRecord:
    return JudgeRecord(
        name=tool.name,
        description=judge.description,
        model=full_name(tool.model),
        readout=tool.readout.name,
        readout_reason=tool.readout.reason,
        scale=tuple(tool.readout.scale),
        labels=list(judge.labels),
        min_weight=judge.min_weight,
        fingerprint=tool.fingerprint,
        quality=adapters.quality(full_name(tool.model), tool.name),
    )


async def _answering(who: str, asked: Coroutine[Any, Any, T]) -> T:
    try:
        return await asked
    except UserError as error:
        raise UserError(f"{who}: {error}") from None
    except Exception as error:
        raise UserError(f"{who}: does not answer: {reason(error)}") from None


def _finish(what: Plan, path: Path, record: Manifest, keeper: Journal, stopped: bool) -> None:
    """Read the logs into the table, and what was used into the manifest."""
    record.unread = responses.gather(path, record)
    (path / responses.SO_FAR).unlink(missing_ok=True)
    found = responses.counted(path / responses.FILE)
    missing = what.size - sum(one.saved for one in record.stopping) - found.answers
    record.errors = found.errors + (0 if stopped else missing)
    record.status = "started" if stopped else "errors" if record.errors else "complete"
    record.finished = now()
    record.usage = [
        Usage(role=role, model=model, requests=requests, input_tokens=read, output_tokens=written)
        for role, model, requests, read, written in keeper.totals()
    ]
    for usage in record.usage:
        usage.cost_usd = _cost(usage)
    record.write(path)


def _cost(usage: Usage) -> float | None:
    """Return US dollars by Inspect's price data, 0 for the embedded model, `None` where no price is known."""
    if usage.model.startswith("local/"):
        return 0.0
    info = get_model_info(usage.model)
    if info is None or info.cost is None:
        return None
    return (usage.input_tokens * info.cost.input + usage.output_tokens * info.cost.output) / 1e6
