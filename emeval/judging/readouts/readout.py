"""A readout: what a judge is asked, with which settings, and how its replies are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
    ResponseSchema,
)
from inspect_ai.util import JSONSchema, collect

from emeval.definitions import Judge
from emeval.journal import Journal
from emeval.judging.prompts import Scale
from emeval.judging.readouts import enumeration
from emeval.judging.readouts.reading import (
    Reading,
    first_token,
    read_label,
    read_label_object,
    read_label_samples,
    read_label_tokens,
    read_object,
    read_replies,
    read_reply,
    read_samples,
    read_tokens,
)
from emeval.models.names import full_name

ReadoutName = Literal["logprobs", "digits", "enumerate", "sample", "json", "text"]
_HUNDRED = Scale(0, 100)
SCALES: dict[ReadoutName, Scale] = {
    "logprobs": _HUNDRED,
    "digits": Scale(0, 9),
    "enumerate": _HUNDRED,
    "sample": _HUNDRED,
    "json": _HUNDRED,
    "text": _HUNDRED,  # never asked for: only labels are read so
}

OPENING = "Score: "
"""How the judge's reply begins where the server can go on from a message that is begun."""
LABEL_OPENING = "Label:"
"""The same for a label. No blank behind it: that one is part of a word's first token."""
_CONTINUING: dict[str, dict[str, object]] = {
    "local": {},
    "vllm": {"add_generation_prompt": False, "continue_final_message": True},
}
"""Providers whose server goes on from an assistant message, with what has to be sent for it."""

JSON_TOKENS = 4096
"""Most tokens of a `json` reply, the judge's reasoning included."""

TEXT_TOKENS = 64
"""Most tokens of a `text` reply."""


@dataclass(frozen=True)
class Readout:
    """A readout as it was picked for a judge model, and why."""

    name: ReadoutName
    reason: str
    schema: bool = False
    """Of `json`: whether the server is sent a schema that holds the reply to its form."""

    @property
    def scale(self) -> Scale:
        """The scale that the judge is asked for."""
        return SCALES[self.name]

    def opening(self, judge: Judge, model: Model) -> str:
        """Return how the judge's reply is begun for it (empty where the server cannot go on from there).

        Where whole numbers are tokens the reply to a judge of scores is not begun: it is as it was published.
        """
        if provider(model) not in _CONTINUING:
            return ""
        if self.name == "logprobs" and judge.gives_label:
            return LABEL_OPENING
        return OPENING if self.name == "digits" else ""

    def request(self, judge: Judge) -> str:
        """Return what the readout itself asks for, behind the judge's prompt (empty for most)."""
        if self.name != "json":
            return ""
        if judge.gives_label:
            return (
                "\n\nWhatever form of reply is asked for above, reply with one JSON object and nothing else: "
                '{"reason": "…", "label": "…"}. The reason says in one or two sentences what decides the '
                f"label. The label is one of these words: {', '.join(judge.labels)}."
            )
        instead = ", or one of these words in its place: " + ", ".join(judge.labels) if judge.labels else ""
        return (
            "\n\nWhatever form of reply is asked for above, reply with one JSON object and nothing else: "
            '{"reason": "…", "score": …}. The reason says in one or two sentences what decides the score. '
            f"The score is one whole number from {self.scale.low} to {self.scale.high}{instead}."
        )

    def configs(self, judge: Judge, model: Model) -> list[GenerateConfig]:
        """Return the generation settings of each request that one answer takes.

        For `enumerate` there is one, which is sent once for each reply.
        """
        if self.name == "enumerate":
            return [enumeration.SETTINGS[provider(model)]]
        if self.name == "json":
            # No temperature and no seed: models that reason take none, or want their own.
            return [
                GenerateConfig(
                    max_tokens=JSON_TOKENS, response_schema=_schema(judge) if self.schema else None
                )
            ]
        if self.name == "text":
            return [GenerateConfig(temperature=0.0, max_tokens=TEXT_TOKENS, seed=0)]
        if self.name == "sample":
            return [
                GenerateConfig(temperature=1.0, max_tokens=32, seed=seed) for seed in range(judge.samples)
            ]
        extra = _CONTINUING.get(provider(model)) if self.opening(judge, model) else None
        return [one_token(max_tokens=1).merge(GenerateConfig(extra_body=extra)) if extra else one_token(1)]

    def messages(self, judge: Judge, prompt: str, model: Model) -> list[ChatMessage]:
        """Return the messages that ask the judge."""
        asked: list[ChatMessage] = [ChatMessageUser(content=prompt)]
        opening = self.opening(judge, model)
        return [*asked, ChatMessageAssistant(content=opening)] if opening else asked

    def replies(self, judge: Judge) -> list[str]:
        """Return the replies whose probability `enumerate` asks for."""
        numbers = [] if judge.gives_label else range(self.scale.low, self.scale.high + 1)
        return [*map(str, numbers), *judge.labels]

    async def ask(self, keeper: Journal, judge: Judge, model: Model, prompt: str) -> list[ModelOutput]:
        """Ask the judge for one answer, by `prompt`; return the outputs that `read` takes."""
        messages = self.messages(judge, prompt + self.request(judge), model)
        configs = self.configs(judge, model)
        if self.name == "enumerate":
            return [await enumeration.ask(keeper, model, messages, configs[0], self.replies(judge))]
        asked = [keeper.ask("judge", model, messages, config) for config in configs]
        # Inspect's `collect` opens a span for each, which takes longer than the reading of the reply.
        return await collect(*asked) if len(asked) > 1 else [await asked[0]]

    def read(self, judge: Judge, outputs: Iterable[ModelOutput]) -> Reading:
        """Read score or label off the outputs of all requests of one answer."""
        if judge.gives_label:
            return self._label(judge, list(outputs))
        labels = list(judge.labels)
        if self.name == "sample":
            return read_samples([output.completion for output in outputs], labels, judge.min_weight)
        output = next(iter(outputs))
        if self.name == "json":
            return read_object(output.completion, labels, _cut(output))
        if self.name == "enumerate":
            return read_replies(enumeration.probabilities(output), labels, self.scale, judge.min_weight)
        return read_tokens(first_token(output), labels, self.scale, judge.min_weight)

    def _label(self, judge: Judge, outputs: Sequence[ModelOutput]) -> Reading:
        """Read the label of a judge that gives labels."""
        match self.name:
            case "sample":
                texts = [output.completion for output in outputs]
                return read_label_samples(texts, judge.labels, judge.min_weight)
            case "json":
                return read_label_object(outputs[0].completion, judge.labels, _cut(outputs[0]))
            case "text":
                return read_reply(outputs[0].completion, _cut(outputs[0]))
            case "enumerate":
                return read_label(enumeration.probabilities(outputs[0]), judge.min_weight)
            case _:
                return read_label_tokens(first_token(outputs[0]), judge.labels, judge.min_weight)


def _cut(output: ModelOutput) -> bool:
    """Whether a reply ended before its end."""
    return output.stop_reason in ("max_tokens", "model_length")


def _schema(judge: Judge) -> ResponseSchema:
    number = JSONSchema(type="integer", minimum=0, maximum=100)
    label = JSONSchema(type="string", enum=list(judge.labels))
    said = (
        {"label": label}
        if judge.gives_label
        else {"score": JSONSchema(anyOf=[number, label]) if judge.labels else number}
    )
    return ResponseSchema(
        name="judgement",
        json_schema=JSONSchema(
            type="object",
            # The reason first: what is said before the score can still decide it.
            properties={"reason": JSONSchema(type="string"), **said},
            required=["reason", *said],
            additionalProperties=False,
        ),
        strict=True,
    )


def provider(model: Model) -> str:
    """Return the provider of `model`: `vllm` of `vllm/BASE`."""
    return full_name(model).split("/", 1)[0]


@cache
def one_token(max_tokens: int) -> GenerateConfig:
    """Return the settings of a greedy reply with the 20 likeliest tokens at each place."""
    return GenerateConfig(temperature=0.0, max_tokens=max_tokens, seed=0, logprobs=True, top_logprobs=20)
