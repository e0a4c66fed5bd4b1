"""Carrying a sweep out: the base and each checkpoint asked in turn, servers started and ended meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from inspect_ai.model import Model
from rich.console import Console

from emeval import asking, budget, journal, rejudging, responses, shards
from emeval.budget import Spent
from emeval.errors import UserError
from emeval.execution import finish, greet, paying, probe_judges, purse_of
from emeval.journal import Journal
from emeval.judging.probing import kept_apart
from emeval.manifest import JudgeRecord, Manifest, ModelRecord, SkipRecord
from emeval.models import checkpoints as trainings
from emeval.models import server_log, servers
from emeval.models.access import Access, refuse_running_loop, release
from emeval.models.checkpoints import Checkpoint
from emeval.models.names import parse
from emeval.runs import Plan, Run, begin, chosen, listed
from emeval.shards import Spread, here
from emeval.sweeping.plans import planned
from emeval.sweeping.shown import left, say


def sweep(
    evaluations: str | Sequence[str],
    base: str,
    checkpoints: str | Path | Sequence[str | Path],
    judges: str | Sequence[str] = (),
    *,
    questions: Sequence[Path | str] = (),
    skip_unknown: bool = False,
    every: int | None = None,
    steps: Sequence[int] = (),
    samples: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
    out: Path | str | None = None,
    settings: dict[str, Any] | None = None,
    max_cost: float | None = None,
    access: Access = Access(),
    spread: Spread = here,
    console: Console | None = None,
    command: str = "emeval.sweep (from Python)",
) -> Run:
    """Ask a base model and the checkpoints of its trainings, one after another, in one run directory.

    `checkpoints` are folders of checkpoints, checkpoints, names on the hub (`org/name@REVISION`), or adapters
    of the embedded model; `every` and `steps` choose among their steps as for
    `emeval.models.checkpoints.find`. Adapters share a server of the base; full weights have a server each, of
    which the one is gone before the next comes up. What else there is, is as for `emeval.run`.

    A checkpoint that cannot be asked is left out and stands in the manifest's `skipped`. The same call goes
    on where it was stopped: what has all its answers is neither opened nor served again, what was skipped is
    tried again, and checkpoints that came meanwhile are asked too. Raises `UserError` for what is the
    caller's to mend, where the base that adapters need cannot be asked, and where no checkpoint can be.
    """
    refuse_running_loop("sweep")
    given = chosen(settings, samples, limit, seed)
    wanted = planned(
        listed(evaluations),
        base,
        checkpoints,
        listed(judges),
        every,
        steps,
        given,
        access,
        questions,
        skip_unknown,
    )
    what = wanted.what
    purse = purse_of(what, max_cost, spread)
    hourly = what.hourly_usd
    path = Path(out) if out else what.default_directory()
    record = begin(what, path, command)
    further = [*what.panel, *what.pinned] if what.panel else []
    if further:
        rejudging.plan(record, further)  # a mistake in it is to be known before the first answer
    shown = console or Console(stderr=True)
    for line in wanted.left_out:
        say(shown, f"left out: {line}", style="yellow")
    found = {one.model: one for one in wanted.found}
    with paying(purse, path, hourly):
        spread(partial(_carry_out, found=found), what, path, access, shown, command)
        if further and _finished(path) and not (purse and purse.exhausted):
            rejudging.rejudge(path, further, access=access, console=console, command=command)
    if not _finished(path) and not (purse and purse.exhausted):
        return Run(path)  # a part of it alone
    if not responses.counted(path / responses.FILE, found).answers:
        if purse and purse.exhausted:
            raise UserError(
                f"--max-cost {purse.most:g}: this was enough for the base alone (${purse.spent:.2g} are "
                "spent); give more, what was obtained is kept"
            )
        raise _nobody(Manifest.read(path))
    return Run(path)


def _finished(path: Path) -> bool:
    return Manifest.read(path).status != "started"


def _nobody(record: Manifest) -> UserError:
    """Return the error that no checkpoint of the sweep can be asked."""
    first = record.skipped[0]
    return UserError(f"no checkpoint can be asked; {first.where}: {first.why}")


def _carry_out(
    what: Plan, path: Path, access: Access, console: Console, *, found: Mapping[str, Checkpoint]
) -> None:
    _Sweep(what, found, path, access, console).carry_out()


class _Sweep:
    """A sweep while it goes on."""

    def __init__(
        self, what: Plan, found: Mapping[str, Checkpoint], path: Path, access: Access, console: Console
    ) -> None:
        self._what = what
        self._found = found
        self._path = path
        self._access = access
        self._console = console
        self._models: dict[str, Model] = {}
        self._judges: dict[str, Model] = {}
        self._there: dict[str, int] = {}  # answers of earlier starts

    def carry_out(self) -> None:
        """Ask whatever has not all its answers yet."""
        what, path = self._what, self._path
        self._access.check(what.models, what.judging)
        with (
            server_log.logged(path),
            journal.journaling(path / journal.FILE) as keeper,
            servers.marked(path),
        ):
            record = Manifest.read(path)  # another process may have written it until the journal was ours
            record.models = _together(record.models, [self._record(name) for name in what.models])
            record.hourly_usd, record.stopped_at_usd = what.hourly_usd, None
            record.notes = list(dict.fromkeys([*record.notes, *trainings.cautions(self._found.values())]))
            if gone := servers.end_left_over(path):
                say(self._console, f"ended {gone} processes of a server that an earlier start had left")
            taken = shards.take_in(path, record, keeper)
            for line in responses.set_aside(path):
                say(self._console, f"{line}; the journal has its answers", style="yellow")
            todo = self._todo(record)
            if not todo and record.status == "complete" and (path / responses.FILE).is_file():
                record.write(path)
            else:
                self._ask_all(todo, record, keeper)
            shards.remove(taken)

    def _record(self, name: str) -> ModelRecord:
        one = self._found.get(name)
        named = ModelRecord(**parse(name)._asdict())
        if one is None:
            return named
        known = {"base_model": one.base, "step": one.step, "training": one.training}
        return named.model_copy(update=known)

    def _todo(self, record: Manifest) -> list[str]:
        """Return the models that have not all their answers: those on the server of the base come first."""
        record.unread = responses.gather(self._path, record, responses.SO_FAR)
        self._there = responses.answered_by(self._path / responses.SO_FAR)
        each = self._what.size // len(self._what.models)
        todo = [name for name in self._what.models if self._there.get(name, 0) < each]
        # It would else stand beside those of full weights, which need the GPU's memory for themselves.
        base = self._what.sweep[:1]  # a shard has one server, and its plan names no base
        return sorted(todo, key=lambda name: (parse(name).base_model,) != base)

    def _ask_all(self, todo: Sequence[str], record: Manifest, keeper: Journal) -> None:
        started, stopped = time.monotonic(), True
        record.skipped = []
        record.status = "started"
        try:
            # All are opened before the first is asked: a server is started with room for the greatest rank.
            for name in todo:
                self._open(name, record)
            whole = set(self._found) <= set(self._what.models)  # a shard of a sweep cannot tell
            if whole and not any(name in self._models or self._there.get(name) for name in self._found):
                raise _nobody(record)  # before the base has cost anything
            waiting = [name for name in todo if name in self._models]
            if waiting:
                self._judges = {name: self._access.judge(name) for name in self._what.judging}
                record.judges = anyio.run(self._probe, keeper)
            record.write(self._path)
            before = time.monotonic()
            for number, name in enumerate(waiting):
                took = (time.monotonic() - before) / number if number else None
                say(self._console, left(self._place(name), number + 1, len(waiting), took), style="bold")
                self._ask_one(name, record, keeper)
                if budget.exhausted():
                    raise Spent
                self._close_after(name, waiting[number + 1 :])
                record.unread = responses.gather(self._path, record)
                record.write(self._path)
            stopped = False
        finally:
            # Also after Ctrl-C: what was obtained is read, and the same command goes on from here.
            for model in self._models.values():
                servers.close(model)
            record.seconds += time.monotonic() - started
            finish(self._what, self._path, record, keeper, stopped)

    def _open(self, name: str, record: Manifest) -> None:
        """Open a model, or note why it cannot be asked."""
        one = self._found.get(name)
        if one and one.fault:
            self._skip(name, one.fault, record)
            return
        try:
            self._models[name] = self._access.model(name, one.server_args if one else {})
        except UserError as error:
            self._skip(name, str(error), record)

    async def _probe(self, keeper: Journal) -> list[JudgeRecord]:
        records = await probe_judges(self._what, self._judges, keeper)
        for judge in self._judges.values():
            await release(judge)
        return records

    def _ask_one(self, name: str, record: Manifest, keeper: Journal) -> None:
        """Ask a model all there is to ask."""
        model = self._models[name]

        async def greeted() -> None:
            try:
                await greet(model, keeper)
                # Models are asked in turn, but a judge of the same base is asked meanwhile.
                for note in await kept_apart([model, *self._judges.values()], keeper):
                    if note not in record.notes:
                        record.notes.append(note)
                        say(self._console, note, style="yellow")
            finally:
                for opened in (model, *self._judges.values()):
                    await release(opened)

        try:
            anyio.run(greeted)
        except UserError as error:
            if name in self._found and self._found[name].adapter and not servers.up(model):
                raise  # the server of the base does not come up, for this checkpoint or another
            servers.end_left_over(self._path)
            self._skip(name, str(error), record)
            return
        asking.ask(self._what, self._path, record, [model], self._judges, [], self._console)

    def _skip(self, name: str, why: str, record: Manifest) -> None:
        """Go on without a checkpoint. Raises `UserError` for the base of adapters: none goes without."""
        one = self._found.get(name)
        if one is None and any(other.adapter for other in self._found.values()):
            raise UserError(why)
        where = self._place(name)
        short = why.removeprefix(f"model {name}: ")
        if not self._there.get(name):
            record.models = [known for known in record.models if known.name != name]
        record.skipped.append(SkipRecord(model=name, step=one.step if one else None, where=where, why=short))
        say(self._console, f"skipped: {where}: {short}", style="red")

    def _place(self, name: str) -> str:
        return self._found[name].where if name in self._found else name

    def _close_after(self, name: str, following: Iterable[str]) -> None:
        """End the server of a model where nothing to come needs it, or where it has ended by itself."""
        needed = {parse(other).base_model for other in (*following, *self._judges)}
        model = self._models[name]
        if parse(name).base_model not in needed or servers.broken(model):
            servers.close(model)


def _together(known: Sequence[ModelRecord], now: Sequence[ModelRecord]) -> list[ModelRecord]:
    """Return the models that were known, as they are now, and those that are new."""
    return list({record.name: record for record in (*known, *now)}.values())
