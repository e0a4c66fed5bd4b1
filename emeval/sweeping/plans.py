"""What a sweep is to ask: its checkpoints found, held against the servers that there will be, and counted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from emeval.costing.estimate import Estimate, estimate_plan
from emeval.errors import UserError
from emeval.models import checkpoints as trainings
from emeval.models.access import Access, refuse_running_loop
from emeval.models.checkpoints import Checkpoint
from emeval.runs import Plan, chosen, listed, plan


class Planned(NamedTuple):
    """A sweep before it begins."""

    what: Plan
    found: list[Checkpoint]
    """By training and rising step; those with a fault cannot be asked."""
    left_out: list[str]
    """What was not taken for a checkpoint, in words."""


def planned(
    evaluations: Sequence[str],
    base: str,
    checkpoints: str | Path | Sequence[str | Path],
    judges: Sequence[str],
    every: int | None,
    steps: Sequence[int],
    settings: dict[str, Any],
    access: Access,
    questions: Sequence[Path | str] = (),
    skip_unknown: bool = False,
) -> Planned:
    """Find the checkpoints and read every definition. Raises `UserError`; see `emeval.sweep`."""
    if every is not None and every < 1:
        raise UserError(f"--every {every}: expected a whole number from 1")
    if every is not None and steps:
        raise UserError("--every and --steps both choose among the steps; give one of them")
    said = [str(one) for one in ([checkpoints] if isinstance(checkpoints, (str, Path)) else checkpoints)]
    found, left_out = trainings.find(base, said, every, steps)
    _check(base, found, access)
    models = [base, *(one.model for one in found)]
    what = plan(evaluations, models, judges, settings, None, questions, skip_unknown)
    return Planned(replace(what, sweep=(base, *map(_absolute, said))), found, left_out)


def estimate(
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
    access: Access = Access(),
) -> Estimate:
    """Return what `emeval.sweep` with the same arguments will ask, and cost, as far as it was not asked yet.

    Nothing is sent and no server is started. What of a checkpoint cannot be asked, by what its files say, is
    in the `notes`, and not counted. Raises `UserError` as `emeval.sweep`.
    """
    refuse_running_loop("sweeping.estimate")
    given = chosen(settings, samples, limit, seed)
    what, found, left_out = planned(
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
    faults = {one.model: f"{one.where} cannot be asked: {one.fault}." for one in found if one.fault}
    what = replace(what, models=[name for name in what.models if name not in faults])
    path = Path(out) if out else what.default_directory()
    counted = estimate_plan(what, path, probe=False, access=access, command="")
    counted.notes += [*faults.values(), *(f"Left out: {line}." for line in left_out)]
    return counted


def _absolute(said: str) -> str:
    """Return what names the same place from everywhere."""
    path = Path(said).expanduser()
    return str(path.absolute()) if path.exists() else said


def _check(base: str, found: Sequence[Checkpoint], access: Access) -> None:
    """Raise `UserError` where servers cannot be had as the checkpoints need them."""
    running = access.model_base_url or os.environ.get("VLLM_BASE_URL")
    whole = next((one for one in found if not one.adapter), None)
    if whole and running:
        raise UserError(
            f"{whole.where}: full weights need a server each, and at {running.rpartition('@')[2]} there is "
            "one; leave out --model-base-url and VLLM_BASE_URL, and emeval starts them"
        )
    if access.server_args and (running or base.startswith("local/")):
        raise UserError("--server-arg: no server is started here; give the argument to the one that runs")
