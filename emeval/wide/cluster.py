"""A run on a Ray cluster: `emeval run --ray ADDRESS`."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

from emeval import __version__, journal, responses, shards
from emeval.errors import UserError, reason
from emeval.execution import finish
from emeval.journal import Journal
from emeval.manifest import Manifest
from emeval.models.access import Access
from emeval.models.address import fault
from emeval.reporting.words import duration
from emeval.runs import Plan
from emeval.shards import CarryOut, Shard
from emeval.wide import tasks
from emeval.wide.places import InRun, Place, Store
from emeval.wide.servers import shared_out, started
from emeval.wide.tasks import Ended, Task

RETRIES = 5
"""How often a shard is given to another worker after the one that had it was lost."""

PATIENCE = 120.0
"""Seconds that tasks have to end after Ctrl-C."""

_UNFINISHED = "was not finished on the cluster"


@dataclass(frozen=True)
class Ray:
    """The Ray cluster at `address`: `auto`, `local` (one is started here), `HOST:PORT`, `ray://HOST:PORT`.

    `shared` is the URL of a store that all machines reach (`s3://bucket/folder`); without it the run
    directory is on a disk that they share.
    """

    address: str
    shared: str | None = None

    def __call__(
        self, carry_out: CarryOut, what: Plan, path: Path, access: Access, console: Console, command: str
    ) -> None:
        """Have every shard worked on, and put them together: see `emeval.shards.Spread`."""
        served = started(what, access)
        path = path.absolute()
        with connected(self.address) as ray, journal.journaling(path / journal.FILE) as keeper:
            record = Manifest.read(path)  # another process may have written it until the journal was ours
            record.hourly_usd, record.stopped_at_usd = what.hourly_usd, None
            record.notes = [note for note in record.notes if _UNFINISHED not in note]
            machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            every = shards.divide(what, served, _places(machines, served))
            taken = shards.take_in(path, record, keeper, but=every)
            responses.gather(path, record, responses.SO_FAR)
            record.status = "started"
            record.write(path)
            shards.remove(taken)
            todo = shards.lacking(every, path / responses.SO_FAR)
            place = self._place(record)
            at_once = _at_once(todo, machines)
            jobs = []
            for shard in todo:
                folder = shards.lay_out(shard, path, command, keeper)
                place.put(folder)
                alone = shared_out(access, shard.gpus > 0, at_once)
                jobs.append(Task(shard, folder, place, carry_out, alone, tasks.addresses(), str(Path.cwd())))
            _say(console, f"{len(jobs)} {'shard' if len(jobs) == 1 else 'shards'}, {at_once} at a time")
            ended: dict[str, Ended] = {}
            stopped = True
            try:
                for job, end in _done(ray, jobs):
                    ended[job.shard.key] = end
                    _say(console, _line(job, end, len(ended), len(jobs)), "red" if end.problem else "")
                stopped = False
            finally:
                # Also after Ctrl-C: what was obtained is put together, and the same command goes on.
                _finish(what, path, record, keeper, place, jobs, ended, stopped)

    def _place(self, record: Manifest) -> Place:
        if self.shared is None:
            return InRun()
        own = hashlib.sha256(f"{record.plan_sha256}{record.created}".encode()).hexdigest()[:12]
        return Store(f"{self.shared.rstrip('/')}/{record.run}-{own}")


@contextmanager
def connected(address: str) -> Iterator[ModuleType]:
    """Connect to a cluster, and give the module `ray`. Raises `UserError`."""
    try:
        import ray
    except ImportError:
        raise UserError("--ray: Ray is not installed here; pip install 'emeval[ray]'") from None
    if ":" in address:
        wrong = fault(address if "://" in address else f"ray://{address}")
        if wrong:
            raise UserError(f"--ray {address}: {wrong}; `ray status` on its head shows the address")
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unasked
        how["include_dashboard"] = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong is said below, in a line
            ray.init(address, **how)
    except ConnectionError as error:
        said = reason(error)
        if address == "auto":
            said = "this machine belongs to no cluster; `ray start --head` starts one, or name its address"
        elif address.startswith("ray://"):  # something listens there; who lacks the token is left waiting
            said += "; if its cluster has a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to it"
        raise UserError(f"--ray {address}: {said}") from None
    except Exception as error:  # whatever it raises: another version of Ray, or of Python
        raise UserError(f"--ray {address}: {reason(error, 300)}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _places(machines: Sequence[Mapping[str, float]], served: Mapping[str, int]) -> int:
    """Return how many servers there may be at once. Raises `UserError` where there is not room for one."""
    if not served:
        return 1
    name, need = max(served.items(), key=lambda item: item[1])
    most = max((machine.get("GPU", 0) for machine in machines), default=0)
    if most < need:
        raise UserError(
            f"--ray: the server of {name} needs {need} GPUs on one machine, and none of the cluster's has "
            f"more than {most:.0f}; give it less with --server-arg tensor_parallel_size=N, or start the "
            "server yourself and name it with --model-base-url"
        )
    return int(sum(machine.get("GPU", 0) // need for machine in machines))


def _at_once(todo: Sequence[Shard], machines: Sequence[Mapping[str, float]]) -> int:
    """Return how many of the shards the cluster can work on at once. Raises `UserError` where it is none."""
    processors = int(sum(machine.get("CPU", 0) for machine in machines))
    if processors < 1:
        raise UserError("--ray: no machine of the cluster takes tasks; start one with `ray start --num-cpus`")
    served = [shard.gpus for shard in todo if shard.gpus]
    gpus = sum(machine.get("GPU", 0) // max(served) for machine in machines) if served else 0
    return max(1, min(processors, len(todo) - len(served) + min(len(served), int(gpus))))


def _done(ray: ModuleType, jobs: Sequence[Task]) -> Iterator[tuple[Task, Ended]]:
    """Have the tasks done, and yield each when it has ended. After Ctrl-C they are stopped."""
    # A process for each task: servers, connections and Inspect's state end with it.
    function = ray.remote(max_calls=1, max_retries=RETRIES)(tasks.function())
    waiting = {
        function.options(num_cpus=1, num_gpus=job.shard.gpus, name=f"emeval {job.shard.said}").remote(
            tasks.packed(job), __version__
        ): job
        for job in jobs
    }
    try:
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=1)  # not for ever: Ctrl-C is heard between two
            for reference in ready:
                job = waiting.pop(reference)
                yield job, _ended(ray, reference)
    finally:
        for reference in waiting:
            ray.cancel(reference)
        if waiting:
            ray.wait(list(waiting), num_returns=len(waiting), timeout=PATIENCE)


def _ended(ray: ModuleType, reference: object) -> Ended:
    try:
        return Ended(*ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        return Ended("", 0.0, f"{reason(error.cause or error)} (a mistake in emeval: please report it)")
    except ray.exceptions.RayError as error:
        return Ended("", 0.0, f"its worker was lost {RETRIES + 1} times: {reason(error, 200)}")


def _finish(
    what: Plan,
    path: Path,
    record: Manifest,
    keeper: Journal,
    place: Place,
    jobs: Sequence[Task],
    ended: Mapping[str, Ended],
    stopped: bool,
) -> None:
    """Put the shards together, and leave the run directory as a run without shards does."""
    for job in jobs:
        place.get(job.path)
    taken = shards.take_in(path, record, keeper)
    problems = {key: end.problem for key, end in ended.items() if end.problem}
    for job in jobs:
        if job.shard.key in problems:
            record.notes.append(f"{job.shard.said} {_UNFINISHED}: {problems[job.shard.key]}")
    finish(what, path, record, keeper, stopped)
    place.clear()
    shards.remove(taken)
    if problems and not stopped and not responses.counted(path / responses.FILE).answers:
        raise UserError(next(iter(problems.values())))


def _line(job: Task, end: Ended, number: int, of: int) -> str:
    where = f" on {end.machine}, {duration(end.seconds)}" if end.machine else ""
    return f"{number} of {of}: {job.shard.said}{where}" + (f": {end.problem}" if end.problem else "")


def _say(console: Console, line: str, style: str = "") -> None:
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
