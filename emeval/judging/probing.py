"""Judges before they are asked: on their models, with the readout that these can do."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from inspect_ai.model import Model

from emeval.definitions import Judge
from emeval.errors import UserError
from emeval.journal import Journal, RequestError
from emeval.judging.scorer import Instrument, instrument
from emeval.manifest import JudgeRecord
from emeval.models import adapters
from emeval.models.names import full_name
from emeval.models.server_log import why

T = TypeVar("T")


async def probed(judges: Iterable[tuple[str, str, Judge, Model]], keeper: Journal) -> list[Instrument]:
    """Return the instruments that judges are on their models; of each its part, its name, itself, its model.

    The part is what the instrument is called: another rubric may play `alignment`. A wrong key, a model that
    the server does not have, a judge that cannot be read: better known now than after the last answer. What
    is learned is journaled, so that it is asked once in a run. Raises `UserError`.
    """
    tools = []
    for part, name, judge, model in judges:
        ready = instrument(name, judge, model, keeper)
        tools.append(replace(await answering(f"judge {name} on {full_name(model)}", ready), name=part))
    return tools


async def answering(who: str, asked: Coroutine[Any, Any, T]) -> T:
    """Return what `asked` gives. Raises `UserError` where that fails."""
    try:
        return await asked
    except UserError as error:
        raise UserError(f"{who}: {error}") from None
    except RequestError as error:
        raise UserError(f"{who}: does not answer: {error}") from None
    except Exception as error:
        raise UserError(f"{who}: does not answer: {why(error)}") from None


def judge_record(tool: Instrument, judge: Judge, rubric: str | None = None) -> JudgeRecord:
    """Return the instrument as a manifest has it.

    `judge` is its definition, and `rubric` the name of that where it is another one than the judge's own.
    """
    model = full_name(tool.model)
    return JudgeRecord(
        name=tool.name,
        description=judge.description,
        model=model,
        readout=tool.readout.name,
        readout_reason=tool.readout.reason,
        scale=tuple(tool.readout.scale),
        labels=list(judge.labels),
        min_weight=judge.min_weight,
        fingerprint=tool.fingerprint,
        quality=adapters.quality(model, rubric or tool.name),
        rubric=rubric,
    )
