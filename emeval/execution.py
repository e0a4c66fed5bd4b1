"""Carrying a run out: models opened and probed, Inspect's tasks run, the results read back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import polars as pl
from inspect_ai.model import ChatMessage, ChatMessageUser, Model
from rich.console import Console

from emeval import asking, budget, journal, rejudging, responses, shards, stopping
from emeval.budget import Budget, Spent
from emeval.errors import UserError
from emeval.journal import Journal
from emeval.judging.probing import answering, judge_record, kept_apart, probed
from emeval.judging.readouts import PROBE
from emeval.manifest import JudgeRecord, Manifest
from emeval.models import server_log
from emeval.models.access import Access, refuse_running_loop, release
from emeval.models.names import full_name
from emeval.runs import Plan, Run, begin, chosen, listed, now, plan
from emeval.shards import Spread, here
from emeval.stopping import Until


def run(
    evaluations: str | Sequence[str] = (),
    models: str | Sequence[str] = (),
    judges: str | Sequence[str] = (),
    *,
    questions: Sequence[Path | str] = (),
    skip_unknown: bool = False,
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
    max_cost: float | None = None,
    access: Access = Access(),
    spread: Spread = here,
    console: Console | None = None,
    command: str = "emeval.run (from Python)",
) -> Run:
    """Ask, judge and write the run directory; go on where an earlier start of the same run stopped.

    A suite may name models and judge models of its own, for where `models` or `judges` are left out.
    `judges` may hold judge models (`openai/gpt-4o`, for all judges), judges (`alignment`, instead of those
    of the evaluation) and both (`alignment=openai/gpt-4o`). Of several judge models for all judges the first
    is the run's own; each of the others makes a further judging of the answers (`emeval.rejudge`), and all
    together are a panel. `questions` are files of questions that others published, in the
    format of `emeval.published`; with `skip_unknown` those of a type that is not known there are left out.
    `samples` is the number of answers to each question in each condition, `limit` the number of questions;
    `settings` holds any other setting of `emeval.definitions.Settings`.

    With `until_width` (a share from 0 to 1) each model stops when its intervals are so narrow, with
    `until_decided` when the gate `gate` (by default `default`) is decided between it and the model of the
    run `baseline`; `samples` is then the most that is asked for.

    Before the run has cost more than `max_cost` (US dollars, over all its starts, judges included) it stops:
    its manifest then says so in `stopped_at_usd`, and the same call with a larger amount goes on.

    `spread` is where it is carried out: `emeval.wide.Ray` on a cluster, `emeval.wide.Part` a part of it here.

    Errors of single answers do not end the run: they stand in the column
    `error`, the manifest's status is then `errors`, and the same call asks for them again. Progress goes to
    `console`, by default standard error; `command` is recorded. Raises `UserError` for what is the caller's
    to mend.
    """
    refuse_running_loop("run")
    given = chosen(settings, samples, limit, seed)
    waited = stopping.until(until_width, until_decided, baseline, baseline_model, gate)
    until = waited.what if waited else None
    what = plan(listed(evaluations), listed(models), listed(judges), given, until, questions, skip_unknown)
    if waited:
        waited.check_plan(what.evaluations)
    path = Path(out) if out else what.default_directory()
    purse = purse_of(what, max_cost, spread)
    hourly = what.hourly_usd
    record = begin(what, path, command)
    further = [*what.panel, *what.pinned] if what.panel else []
    if further:
        rejudging.plan(record, further)  # a mistake in it is to be known before the first answer
    with paying(purse, path, hourly):
        if record.status != "complete" or not (path / responses.FILE).is_file():
            carry_out = partial(_execute, until=waited)
            spread(carry_out, what, path, access, console or Console(stderr=True), command)
        finished = Manifest.read(path).status != "started"  # a part of it alone does not finish it
        if further and finished and not (purse and purse.exhausted):
            rejudging.rejudge(path, further, access=access, console=console, command=command)
    return Run(path)


def purse_of(what: Plan, max_cost: float | None, spread: Spread) -> Budget | None:
    """Return what the run may cost, in US dollars, `None` without a bound. Raises `UserError`."""
    if max_cost is None:
        return None
    if spread is not here:
        raise UserError("--max-cost: shards have no common purse; leave it out, or --ray and --shard")
    return Budget(max_cost, [*what.models, *what.judging], what.hourly_usd)


@contextmanager
def paying(purse: Budget | None, path: Path, hourly_usd: dict[str, float]) -> Iterator[None]:
    """Have what is asked for the run in `path` paid from `purse`, where there is one.

    The manifest then has the prices of servers, and whether the run ended because the purse did. Raises
    `UserError` where it ended before the first answer.
    """
    if purse:
        before = Manifest.read(path)
        purse.seconds_before = before.seconds + sum(one.seconds for one in before.judgings)
    try:
        with budget.within(purse):
            yield
    except* Spent:
        pass  # said below; what was paid for is in the journal
    record, stopped_at = Manifest.read(path), purse.most if purse and purse.exhausted else None
    if (record.hourly_usd, record.stopped_at_usd) != (hourly_usd, stopped_at):
        # Not otherwise: the journal is closed, and another process may be putting parts of the run together.
        record.hourly_usd, record.stopped_at_usd = hourly_usd, stopped_at
        record.write(path)
    answers = path / responses.FILE
    if purse and purse.exhausted and not (answers.is_file() and responses.counted(answers).answers):
        raise UserError(
            f"--max-cost {purse.most:g}: this may not be enough for one answer and its judging "
            f"(${purse.spent:.2g} are spent); give more, what was obtained is kept"
        )


def _execute(what: Plan, path: Path, access: Access, console: Console, *, until: Until | None) -> None:
    started = time.monotonic()
    access.check(what.models, what.judging)
    with server_log.logged(path), journal.journaling(path / journal.FILE) as keeper:
        record = Manifest.read(path)  # another process may have written it until the journal was ours
        record.hourly_usd, record.stopped_at_usd = what.hourly_usd, None
        taken = shards.take_in(path, record, keeper)
        models = [access.model(name) for name in what.models]
        judges = {name: access.judge(name) for name in what.judging}
        record.judges, notes = anyio.run(probe, what, models, judges, keeper)
        record.notes += [note for note in notes if note not in record.notes]
        for note in notes:
            console.print(note, style="yellow", highlight=False)
        record.write(path)
        if until:
            until.check(record)
        for line in responses.set_aside(path):
            console.print(f"{line}; the journal has its answers", style="yellow", highlight=False)
        rounds = _rounds(what, until, path, record)
        stopped = True
        try:
            asking.ask(what, path, record, models, judges, rounds, console)
            stopped = budget.exhausted()
        finally:
            # Also after Ctrl-C: what was obtained is read, and the same command goes on from here.
            record.seconds += time.monotonic() - started
            record.stopping = [one.record() for one in rounds if one.over]
            finish(what, path, record, keeper, stopped)
            shards.remove(taken)


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


async def probe(
    what: Plan, models: list[Model], judges: dict[str, Model], keeper: Journal
) -> tuple[list[JudgeRecord], list[str]]:
    """Ask every model for a word, and every judge model for its readout, before the run begins.

    Those that judge afterwards are asked too. Returns the judges of the run as they will be asked, and what
    a reader has to know of the servers.
    """
    for model in models:
        await greet(model, keeper)
    records = await probe_judges(what, judges, keeper)
    notes = await kept_apart([*models, *judges.values()], keeper)
    for opened in {*models, *judges.values()}:
        await release(opened)
    return records, notes


async def greet(model: Model, keeper: Journal) -> None:
    """Ask a model for a word. Raises `UserError` where it does not answer."""
    hello: list[ChatMessage] = [ChatMessageUser(content="Hello")]
    await answering(f"model {full_name(model)}", keeper.ask("model", model, hello, PROBE, "probe"))


async def probe_judges(what: Plan, judges: Mapping[str, Model], keeper: Journal) -> list[JudgeRecord]:
    """Ask every judge model for its readout; return the judges of the run as they will be asked.

    Those that judge afterwards are asked too. Raises `UserError`.
    """
    asked = [(name, name, judge, judges[what.judge_models[name]]) for name, judge in what.judges.items()]
    records = [judge_record(tool, what.judges[tool.name]) for tool in await probed(asked, keeper)]
    pinned = {word.partition("=")[0] for word in what.pinned}  # these have one model in all judgings
    panel = [
        (name, name, judge, judges[model])
        for model in what.panel
        for name, judge in what.judges.items()
        if name not in pinned
    ]
    await probed(panel, keeper)
    return records


def finish(what: Plan, path: Path, record: Manifest, keeper: Journal, stopped: bool) -> None:
    """Read the logs into the table, and what was used into the manifest."""
    record.unread = responses.gather(path, record)
    most = {prepared.name: prepared.evaluation.generation.max_tokens for prepared in what.evaluations}
    responses.note_cut(path, record, most)
    (path / responses.SO_FAR).unlink(missing_ok=True)
    asked = set(what.models) - {one.model for one in record.skipped}
    found = responses.counted(path / responses.FILE, asked)
    wanted = len(asked) * what.size // len(what.models)
    missing = wanted - sum(one.saved for one in record.stopping) - found.answers
    record.errors = found.errors + (0 if stopped else missing)
    record.status = "started" if stopped else "errors" if record.errors or record.skipped else "complete"
    record.finished = now()
    record.usage = keeper.usage()
    # What is new here, or was lost to an error, a further judging does not have yet.
    responses.count_unjudged(path, record)
    record.write(path)
