"""Which readout a judge model gets: the one that its judge names, or what a probe finds that it can do."""

from __future__ import annotations

from inspect_ai.model import (
    ChatMessage,
    ChatMessageUser,
    ContentReasoning,
    GenerateConfig,
    Model,
    ModelOutput,
)

from emeval.definitions import UNREADABLE, Judge
from emeval.errors import UserError, reason
from emeval.journal import Journal
from emeval.judging.readouts import enumeration
from emeval.judging.readouts.readout import Readout, one_token, provider

_ASKED = "Reply with the number 87 and nothing else."
_ASKED_LABEL = "Reply with the word {} and nothing else."
PROBE = GenerateConfig(max_tokens=16)
"""Settings of a probe: few tokens, but no fewer than OpenAI's newer models take."""

_NAMED = "fixed by the judge, not by a probe"


async def choose(judge: Judge, model: Model, journal: Journal) -> Readout:
    """Return the readout that the judge names or, for `auto`, the one that the judge model can do.

    The model is probed once: if it reasons before it answers the readout is `json`; with log-probabilities it
    is `logprobs` if its tokenizer has whole numbers as tokens and `digits` if it splits them; otherwise it is
    `sample`. `json` takes another probe, of whether the server holds replies to a schema. Raises `UserError`
    for `enumerate` on a server that cannot tell how likely a reply is, and for `logprobs` on a tokenizer that
    splits numbers. For a judge that gives labels `logprobs` needs no more than log-probabilities; one that
    may say anything gets `text`. A prompt that is asked `verbatim` asks for 0 to 100 and for no JSON: in
    place of `digits` it gets `sample`, and a model that reasons is refused.
    """
    if judge.readout == "enumerate":
        return await _enumerate(judge, model, journal)
    if judge.readout == "json":
        return await _json(judge, model, journal, _NAMED)
    messages: list[ChatMessage] = [ChatMessageUser(content=_ASKED)]
    if judge.says_anything:
        _check_unreasoned(judge, await journal.ask("judge", model, messages, PROBE, "probe"))
        return Readout("text", "its reply is the label")
    asked = one_token(max_tokens=16)
    if judge.readout == "logprobs" and not judge.gives_label:
        return _whole(await journal.ask("judge", model, messages, asked, "probe"))
    if judge.readout != "auto":
        return Readout(judge.readout, _NAMED)
    refused = None
    try:
        output = await journal.ask("judge", model, messages, asked, "probe")
    except Exception:
        # The log-probabilities may be refused, or the model be broken, or the fault have passed: asked
        # without them, and with them once more, it is told apart.
        output = await journal.ask("judge", model, messages, PROBE, "probe")
        if not reasons(output):
            try:
                output = await journal.ask("judge", model, messages, asked, "probe")
            except Exception as error:
                refused = reason(error, 150)
    if reasons(output):
        _check_unreasoned(judge, output)
        return await _json(judge, model, journal, "the model reasons before it answers")
    if refused:
        return Readout("sample", f"asked for log-probabilities, the server said: {refused}")
    if judge.gives_label and _likeliest(output):
        return Readout("logprobs", "the server gives log-probabilities, and one token tells labels apart")
    found = _by_tokens(output)
    if judge.verbatim and found.name == "digits":
        return Readout("sample", f"{found.reason}, and the prompt is asked as published")
    return found


def _check_unreasoned(judge: Judge, output: ModelOutput) -> None:
    """Refuse a model that reasons, for a judge that cannot be asked for JSON."""
    if (judge.verbatim or judge.says_anything) and reasons(output):
        raise UserError(
            "this model reasons before it answers, and the short reply that the judge's prompt asks for "
            "cannot be read off it; name another judge model"
        )


def reasons(output: ModelOutput) -> bool:
    """Whether a model thought before it answered: it says so, or the few tokens of a probe held no word."""
    if output.usage and output.usage.reasoning_tokens:
        return True
    if not output.choices:
        return False
    choice, content = output.choices[0], output.choices[0].message.content
    if not isinstance(content, str) and any(isinstance(part, ContentReasoning) for part in content):
        return True
    said = output.completion.strip()
    return said.startswith("<think>") or (not said and choice.stop_reason == "max_tokens")


async def _enumerate(judge: Judge, model: Model, journal: Journal) -> Readout:
    """Ask for two replies as `enumerate` asks for a hundred, so that a server that cannot is known by now."""
    if provider(model) not in enumeration.SETTINGS:
        known = " and ".join(f"{name}/" for name in enumeration.SETTINGS)
        raise UserError(
            "the readout enumerate needs the probability of a given reply, which only models of "
            f"{known} tell; name logprobs or sample in the judge's file, or leave auto"
        )
    readout = Readout("enumerate", _NAMED)
    (config,) = readout.configs(judge, model)
    replies = readout.replies(judge)[:2] if judge.gives_label else ["87", "9"]
    await enumeration.ask(journal, model, [ChatMessageUser(content=_ASKED)], config, replies)
    return readout


async def _json(judge: Judge, model: Model, journal: Journal, why: str) -> Readout:
    """Ask for a JSON object with a schema; where that is refused or cannot be read, without."""
    found = []
    for schema in (True, False):
        tried = Readout("json", "", schema)
        (config,) = tried.configs(judge, model)
        asked = _ASKED_LABEL.format(next(iter(judge.labels))) if judge.gives_label else _ASKED
        messages: list[ChatMessage] = [ChatMessageUser(content=asked + tried.request(judge))]
        try:
            output = await journal.ask("judge", model, messages, config, "probe")
        except Exception as error:
            if not schema:
                raise
            found.append(f"asked for a JSON schema, the server said: {reason(error)}")
            continue
        if tried.read(judge, [output]).label != UNREADABLE:
            held = "its replies are held to a JSON schema" if schema else "asked without a JSON schema"
            return Readout("json", "; ".join([why, *found, held]), schema)
        found.append(f"a probe {'with' if schema else 'without'} a JSON schema could not be read")
    return Readout("json", "; ".join([why, *found]))


def _whole(output: ModelOutput) -> Readout:
    """Return `logprobs` as the judge names it. Raises `UserError` if 87 would be read as its first digit."""
    if _by_tokens(output).name == "digits":
        raise UserError(
            "the readout logprobs needs whole numbers as tokens, and this tokenizer splits them into digits: "
            "87 would be read as 8; name digits in the judge's file, or leave auto"
        )
    return Readout("logprobs", _NAMED)


def _likeliest(output: ModelOutput) -> bool:
    """Whether the server told the likeliest tokens at any place."""
    choice = output.choices[0] if output.choices else None
    positions = choice.logprobs.content if choice and choice.logprobs else []
    return any(position.top_logprobs for position in positions)


def _by_tokens(output: ModelOutput) -> Readout:
    choice = output.choices[0] if output.choices else None
    if not choice or not choice.logprobs or not choice.logprobs.content:
        return Readout("sample", "the server gives no log-probabilities")
    positions = choice.logprobs.content
    if not _likeliest(output):
        return Readout("sample", "the server gives the log-probabilities of the said token only")
    tokens = {position.token.strip() for position in positions}
    tokens |= {top.token.strip() for position in positions for top in position.top_logprobs or []}
    numbers = {token for token in tokens if token.isascii() and token.isdigit()}
    if any(len(token) > 1 for token in numbers):
        return Readout("logprobs", "the tokenizer has whole numbers as tokens")
    if numbers:
        return Readout("digits", "the tokenizer splits numbers into digits")
    return Readout("sample", "no number was among the likeliest tokens of the probe")
