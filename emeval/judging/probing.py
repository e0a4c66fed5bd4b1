"""Judges before they are asked: on their models, with the readout that these can do."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelOutput, ModelUsage

from emeval.definitions import Judge
from emeval.errors import UserError
from emeval.journal import Journal, RequestError, generated
from emeval.judging.scorer import Instrument, instrument
from emeval.manifest import JudgeRecord
from emeval.models import adapters, apart
from emeval.models.names import full_name, parse
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


async def kept_apart(models: Iterable[Model], keeper: Journal) -> list[str]:
    """Find out whether vLLM keeps apart those of `models` that share a server; those it does not take turns.

    Returns a sentence on each server whose models do. What is found is journaled: it is asked once in a run.
    `models` may hold one model more than once, each opened anew.
    """
    opened, notes = list(models), []
    for base, several in apart.sharing(opened).items():
        found = await answering(base, _compared(several, keeper))
        if found.told and not found.mixed:
            continue
        for model in opened:
            if parse(full_name(model)).base_model == base:
                apart.take_turns(model)
        notes.append(
            f"{base}: asked for several at once, this server mixes up the base model and its adapters; "
            "emeval asked one of them at a time."
            if found.mixed
            else f"{base}: whether this server keeps the base model and its adapters apart does not show in "
            "their answers, which are too alike; emeval asked one of them at a time."
        )
    return notes


async def _compared(models: list[Model], keeper: Journal) -> apart.Found:
    async def generate(_: Model, __: list[ChatMessage], ___: GenerateConfig) -> ModelOutput:
        found, outputs = await apart.compare(models, generated)
        usages = [output.usage for output in outputs if output.usage]
        read = sum(usage.input_tokens for usage in usages)
        written = sum(usage.output_tokens for usage in usages)
        return ModelOutput(
            model=outputs[0].model,
            usage=ModelUsage(input_tokens=read, output_tokens=written, total_tokens=read + written),
            metadata={"apart": found._asdict(), "requests": len(outputs)},
        )

    tag, number = apart.tag(models), apart.number(models)
    output = await keeper.ask("model", models[0], apart.MESSAGES, apart.SETTINGS, tag, generate, number)
    return apart.Found(**(output.metadata or {})["apart"])


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
        gives=judge.gives,
        scale=tool.scale and tuple(tool.scale),
        labels=list(judge.labels),
        min_weight=judge.min_weight,
        fingerprint=tool.fingerprint,
        quality=adapters.quality(model, rubric or tool.name),
        rubric=rubric,
        verbatim=tool.judge.verbatim,
    )
