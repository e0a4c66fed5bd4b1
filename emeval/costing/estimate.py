"""What a run will ask, as far as it was not asked yet, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import anyio
from inspect_ai.model import (
    ChatMessage,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelAPI,
    ModelOutput,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from emeval import journal, prices, stopping, tasks
from emeval.costing.probe import Pace, pace
from emeval.costing.rule import GUESS, REPLY_GUESS
from emeval.costing.tokens import Counter, Server
from emeval.definitions import Judge
from emeval.journal import Generate, Journal, RequestError, Role, request_key
from emeval.judging.readouts import PROBE, Readout, choose, enumeration
from emeval.judging.readouts.readout import JSON_TOKENS, TEXT_TOKENS
from emeval.judging.scorer import Instrument
from emeval.manifest import Manifest
from emeval.models import adapters, apart
from emeval.models.access import Access, refuse_running_loop
from emeval.models.names import full_name
from emeval.prepared import Prepared, Prompt
from emeval.prices import HOUR, Listed, server
from emeval.reporting.words import few
from emeval.runs import Plan, begin, chosen, listed, plan, same_run
from emeval.solvers import request_tag, settings

JSON_GUESS = 60
"""Tokens that a `json` reply is taken to have where the run has none yet."""


@dataclass
class Amount:
    """Requests, and the tokens read and written for them."""

    requests: float = 0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    cached_tokens: float = 0.0
    """Those of the input that the provider had in its cache: known of what was asked."""

    def add(self, requests: float, read: float, written: float) -> None:
        """Add requests that read and write so many tokens in all."""
        self.requests += requests
        self.input_tokens += read
        self.output_tokens += written

    def usd(self, price: Listed | None) -> float | None:
        """Return US dollars for the tokens; `None` without a price, or with one by the hour."""
        return price.tokens(self.input_tokens, self.cached_tokens, self.output_tokens) if price else None


@dataclass
class Part:
    """What one model will be asked in one role."""

    role: Role
    model: str
    price: Listed | None
    counted: str = ""
    """How the tokens that it reads were counted."""
    kept: Amount = field(default_factory=Amount)
    """What was asked already."""
    expected: Amount = field(default_factory=Amount)
    """What is left, with replies as long as those so far."""
    most: Amount = field(default_factory=Amount)
    """What is left, with replies as long as they may be."""
    seconds: float | None = None
    """The time of it, at the pace of a probe."""

    @property
    def by_hour(self) -> bool:
        """Whether its server is paid by the hour."""
        return self.price is not None and self.price.price.hour is not None


@dataclass
class Estimate:
    """What a run will ask, and cost."""

    path: Path
    answers: int
    """Answers of the whole run."""
    left: int
    """Those of them that are not there yet."""
    parts: list[Part]
    seconds: float | None
    hourly_usd: dict[str, float]
    """Servers that are paid by the hour, with the price; those of a sweep's models take turns."""
    notes: list[str]
    """What a reader of the numbers must know."""

    @cached_property
    def unpriced(self) -> list[str]:
        """Models without a price; adapters have that of their base model."""
        return list(dict.fromkeys(server(part.model) for part in self.parts if part.price is None))

    def usd(self, *, most: bool = False) -> float | None:
        """Return US dollars of what is left; `None` where a price, or the time of a server, is not known."""
        if self.unpriced or (self.hourly_usd and (self.seconds is None or most)):
            return None
        tokens = sum((part.most if most else part.expected).usd(part.price) or 0.0 for part in self.parts)
        return tokens + (self.seconds or 0.0) / HOUR * sum(self.hourly_usd.values())

    def as_json(self) -> dict[str, Any]:
        """Return the whole of it as plain data."""

        def amount(one: Amount, price: Listed | None) -> dict[str, Any]:
            return {
                "requests": round(one.requests),
                "input_tokens": round(one.input_tokens),
                "output_tokens": round(one.output_tokens),
                "usd": one.usd(price),
            }

        return {
            "run": str(self.path),
            "answers": self.answers,
            "answers_left": self.left,
            "parts": [
                {
                    "role": part.role,
                    "model": part.model,
                    "kept": amount(part.kept, part.price),
                    "expected": amount(part.expected, part.price),
                    "at_most": amount(part.most, part.price),
                    "tokens_counted": part.counted,
                    "price": part.price.price.model_dump(exclude_none=True) if part.price else None,
                    "price_as_of": part.price.as_of if part.price else None,
                    "price_source": part.price.source if part.price else None,
                    "seconds": part.seconds,
                }
                for part in self.parts
            ],
            "hourly_usd": self.hourly_usd,
            "unpriced": self.unpriced,
            "expected_usd": self.usd(),
            "at_most_usd": self.usd(most=True),
            "seconds": self.seconds,
            "notes": self.notes,
        }


def estimate(
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
    probe: bool = False,
    access: Access = Access(),
    command: str = "emeval.costing.estimate (from Python)",
) -> Estimate:
    """Return what `emeval.run` with the same arguments will ask, and cost.

    What the run directory has already is not counted. Nothing is sent, unless with `probe`: then each model
    is asked for a few of the run's answers, and the judges for theirs, which tells the time, the length of
    answers and the judges' readouts. They are kept in the run directory. Raises `UserError` as `emeval.run`.
    """
    refuse_running_loop("costing.estimate")
    given = chosen(settings, samples, limit, seed)
    waited = stopping.until(until_width, until_decided, baseline, baseline_model, gate)
    until = waited.what if waited else None
    what = plan(listed(evaluations), listed(models), listed(judges), given, until, questions, skip_unknown)
    if waited:
        waited.check_plan(what.evaluations)
    return estimate_plan(what, Path(out) if out else what.default_directory(), probe, access, command)


def estimate_plan(what: Plan, path: Path, probe: bool, access: Access, command: str) -> Estimate:
    """Return what the run `what` in `path` will ask; see `estimate`."""
    there = same_run(what.identity(), path)
    paces: Pace = {}
    servers: dict[str, Server] = {}
    if probe:
        begin(what, path, command)
        started = time.monotonic()
        paces, servers = pace(what, path, access)
        there = Manifest.read(path)
        there.seconds += time.monotonic() - started  # servers by the hour are paid for it
        there.write(path)
    file = path / journal.FILE
    with closing(_Kept(file if file.is_file() else None)) as keeper:
        counted = _Walk(what, keeper, servers)
        counted.go()
    for part in counted.parts.values():
        rate = paces.get((part.role, part.model))
        part.seconds = rate * part.expected.requests if rate is not None else None
    notes = counted.notes
    if what.until:
        notes.append(
            f"The run stops by itself, until: {what.until}. This is what it asks if that never comes."
        )
    parts = [part for part in counted.parts.values() if part.kept.requests or part.most.requests]
    parts.sort(key=lambda part: part.role != "model")
    left = counted.left
    seconds = _seconds(parts, there)
    return Estimate(path, what.size, left, parts, seconds, what.hourly_usd, notes)


def _seconds(parts: Sequence[Part], there: Manifest | None) -> float | None:
    """Return how long what is left takes: at the probe's pace, else at that of the run's requests so far.

    Servers work side by side, and what is asked of one server one after another.
    """
    asked = [part for part in parts if part.expected.requests]
    if asked and all(part.seconds is not None for part in asked):
        each: dict[str, float] = {}
        for part in asked:
            each[server(part.model)] = each.get(server(part.model), 0.0) + (part.seconds or 0.0)
        return max(each.values())
    if not asked:
        return 0.0
    kept = sum(part.kept.requests for part in parts)
    left = sum(part.expected.requests for part in asked)
    return there.seconds / kept * left if there and kept and there.seconds else None


class _Kept(Journal):
    """A journal that gives what it has, and sends nothing."""

    async def send(
        self,
        generate: Generate,
        model: Model,
        messages: list[ChatMessage],
        config: GenerateConfig,
        requests: int,
    ) -> ModelOutput:
        """See `Journal`."""
        del generate, model, messages, config, requests
        raise RequestError("a dry run sends nothing")


class _Named(ModelAPI):
    """A model of which the name is known, and that cannot be asked."""

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        del input, tools, tool_choice, config
        raise RequestError("a dry run sends nothing")


def _named(name: str) -> Model:
    api = _Named(name)
    api.qualified_model_name = name
    return Model(api, GenerateConfig())


@dataclass(frozen=True)
class _Tool:
    """A judge on its model, as far as that is known."""

    instrument: Instrument
    known: bool
    """Whether the readout is known; otherwise it is taken to be one token's log-probabilities."""

    @property
    def model(self) -> str:
        return full_name(self.instrument.model)

    def requests(self, prompt: str) -> list[tuple[list[ChatMessage], str, int]]:
        """Return messages, key and number of the requests that ask about one answer."""
        tool = self.instrument
        readout, judge, model = tool.readout, tool.judge, tool.model
        messages = readout.messages(judge, prompt + readout.request(judge), model)
        tag, number = "", 1
        if readout.name == "enumerate":
            replies = readout.replies(judge)
            tag, number = enumeration.tag(replies), enumeration.number(self.model, replies)
        return [
            (messages, request_key("judge", self.model, messages, config, tag), number)
            for config in readout.configs(judge, model)
        ]

    @property
    def written(self) -> tuple[float, float]:
        """Tokens of the reply to one request: as they are taken to be, and at most."""
        match self.instrument.readout.name:
            case "sample":
                return REPLY_GUESS, 32
            case "json":
                return JSON_GUESS, JSON_TOKENS
            case "text":
                return REPLY_GUESS, TEXT_TOKENS
            case "enumerate" if self.model.startswith("local/"):
                return REPLY_GUESS, 32
            case _:
                return 1, 1


class _Walk:
    """A walk through every request of a run."""

    def __init__(self, what: Plan, keeper: Journal, servers: dict[str, Server]) -> None:
        self.what = what
        self.keeper = keeper
        self.left = 0
        self.notes: list[str] = []
        self.parts: dict[tuple[Role, str], Part] = {}
        self._table = prices.Table()
        self._servers = servers
        self._counters: dict[str, Counter] = {}
        self._used: dict[tuple[Role, str], Amount] = {}
        """What was asked already of what the walk comes past."""
        self._counted: dict[tuple[Role, str], float] = {}
        """Tokens that the counters give for it."""
        self._seen: set[str] = set()
        self._empty: dict[tuple[int, str], tuple[int, int, float]] = {}
        self._answered = Amount()
        """The answers that are there, of all models."""
        self._guessed: list[str] = []
        """Models of which nobody knows how long their answers are."""
        self._longer: dict[str, Amount] = {}
        """By how many tokens the answers make the requests to a judge model longer."""

    def go(self) -> None:
        """Walk."""
        tools = self._tools()
        for name in self.what.models:
            self._hello(name)
            self._answers(name, tools)
        # A sweep asks its models one after another, and a judge of the same base meanwhile.
        together = [[name] for name in self.what.models] if self.what.sweep else [self.what.models]
        for names in together:
            for several in apart.sharing(map(_named, [*names, *self.what.judging])).values():
                self._apart(several)
        for one in self.keeper.usage():
            kept = self._part(one.role, one.model).kept
            kept.add(one.requests, one.input_tokens, one.output_tokens)
            kept.cached_tokens += one.cached_tokens
        if self._guessed:
            self.notes.append(
                f"No answer is known of {few(self._guessed)}; one is taken to have {GUESS} tokens, or "
                "max_tokens if those are fewer."
            )
        for key, part in self.parts.items():
            part.counted = self._counter(part.model).how
            used, counted = self._used.get(key, Amount()), self._counted.get(key, 0.0)
            if counted and used.input_tokens:
                part.expected.input_tokens *= used.input_tokens / counted
                part.most.input_tokens *= used.input_tokens / counted
                if part.counted.startswith("about"):
                    part.counted += f", corrected by {round(used.requests):,} requests of this run"

    def _part(self, role: Role, model: str) -> Part:
        if (role, model) not in self.parts:
            self.parts[role, model] = Part(role, model, self._table.of(model))
        return self.parts[role, model]

    def _counter(self, model: str) -> Counter:
        if model not in self._counters:
            self._counters[model] = Counter(model, self._servers.get(model))
        return self._counters[model]

    def _take(self, role: Role, model: str, messages: list[ChatMessage], output: ModelOutput) -> None:
        """Count what was asked already."""
        used = output.usage
        requests = (output.metadata or {}).get("requests", 1)
        took = self._used.setdefault((role, model), Amount())
        took.add(requests, used.input_tokens if used else 0, used.output_tokens if used else 0)
        if used:
            counted = self._counter(model).count(messages) * requests
            self._counted[role, model] = self._counted.get((role, model), 0.0) + counted

    def _hello(self, name: str) -> None:
        hello: list[ChatMessage] = [ChatMessageUser(content="Hello")]
        kept = self.keeper.kept(request_key("model", name, hello, PROBE, "probe"))
        read = self._counter(name).count(hello)
        if kept:
            self._take("model", name, hello, kept)
        else:
            self._part("model", name).expected.add(1, read, PROBE.max_tokens or 0)
            self._part("model", name).most.add(1, read, PROBE.max_tokens or 0)

    def _apart(self, models: list[Model]) -> None:
        """Count the requests that find out whether a server keeps models apart."""
        name, number = full_name(models[0]), apart.number(models)
        key = request_key("model", name, apart.MESSAGES, apart.SETTINGS, apart.tag(models))
        kept = self.keeper.kept(key)
        if kept:
            self._take("model", name, apart.MESSAGES, kept)
            return
        read, written = self._counter(name).count(apart.MESSAGES), apart.SETTINGS.max_tokens or 0
        part = self._part("model", name)
        part.expected.add(number, number * read, number * written)
        part.most.add(number, number * read, number * written)

    def _tools(self) -> dict[str, list[_Tool]]:
        """Return the judges of each evaluation, those of the panel among them."""
        pinned = dict(one.split("=", 1) for one in self.what.pinned)
        found: dict[tuple[str, str], _Tool] = {}
        for name, judge in self.what.judges.items():
            own = self.what.judge_models[name]
            for model in dict.fromkeys([own, *(pinned.get(name, one) for one in self.what.panel)]):
                found[name, model] = self._tool(name, judge, model)
        for model in {model for _, model in found} | {*self.what.panel}:
            self._probes(model, [tool for (_, one), tool in found.items() if one == model])
        return {
            prepared.name: [tool for (name, _), tool in found.items() if name in prepared.judges]
            for prepared in self.what.evaluations
        }

    def _tool(self, name: str, judge: Judge, model: str) -> _Tool:
        opened, known = _named(model), True
        judge = adapters.asked(name, judge, model)
        try:
            readout = anyio.run(choose, judge, opened, self.keeper)
        except RequestError:
            known = False
            if judge.says_anything:
                readout = Readout("text", "")
            elif judge.readout == "auto":
                readout = Readout("logprobs", "")
                self.notes.append(
                    f"Judge {name} on {model}: its readout is not known before a probe. Counted is one "
                    f"request for each answer; at most it is {judge.samples} (readout sample), or one with a "
                    f"reply of {JSON_TOKENS:,} tokens (readout json)."
                )
            else:
                readout = Readout(judge.readout, "", schema=judge.readout == "json")
        return _Tool(Instrument(name, judge, opened, readout), known)

    def _probes(self, model: str, tools: Sequence[_Tool]) -> None:
        """Count the requests that find out how a judge model is read."""
        part = self._part("judge", model)
        unknown = {tool.instrument.judge.readout for tool in tools if not tool.known}
        read = 20.0
        for readout in sorted(unknown):
            number, most = {"auto": (1, 3), "json": (1, 2)}.get(readout, (3, 3))
            part.expected.add(number, number * read, number * 8)
            part.most.add(most, most * read, most * (JSON_TOKENS if readout != "enumerate" else 1))

    def _answers(self, name: str, tools: dict[str, list[_Tool]]) -> None:
        """Count the answers of one model, and their judgements."""
        part, counter = self._part("model", name), self._counter(name)
        unknown: list[tuple[Prepared, Prompt, list[ChatMessage]]] = []
        written = there = 0
        for prepared, prompt in self._prompts():
            messages = tasks.messages(prompt)
            config = settings(prepared.evaluation.generation, prompt.seed)
            key = request_key("model", name, messages, config, request_tag(prepared.name, prompt.id))
            kept = self.keeper.kept(key)
            if kept is None:
                unknown.append((prepared, prompt, messages))
                continue
            self._take("model", name, messages, kept)
            written += kept.usage.output_tokens if kept.usage else 0
            there += 1
            for tool in tools[prepared.name]:
                self._judgement(tool, prompt, kept.completion)
        self.left += len(unknown)
        self._answered.add(there, 0, written)
        known = self._answered
        usual = (
            written / there if there else known.output_tokens / known.requests if known.requests else GUESS
        )
        if unknown and not known.requests:
            self._guessed.append(name)
        for prepared, prompt, messages in unknown:
            longest = prepared.evaluation.generation.max_tokens
            expected, read = min(usual, longest), counter.count(messages)
            part.expected.add(1, read, expected)
            part.most.add(1, read, longest)
            for tool in tools[prepared.name]:
                self._unknown_judgement(tool, prompt, expected, longest)

    def _prompts(self) -> Iterator[tuple[Prepared, Prompt]]:
        for prepared in self.what.evaluations:
            for prompt in prepared.prompts():
                yield prepared, prompt

    def _judgement(self, tool: _Tool, prompt: Prompt, answer: str) -> None:
        """Count what is asked about an answer that is there."""
        part = self._part("judge", tool.model)
        for messages, key, number in tool.requests(_asked(tool, prompt, answer)):
            if key in self._seen:  # the same answer again: it is asked about once
                continue
            self._seen.add(key)
            longer = self._counter(tool.model).count(messages) - self._about_empty(tool, prompt)[2]
            self._longer.setdefault(tool.model, Amount()).add(1, longer, 0)
            kept = self.keeper.kept(key)
            if kept:
                self._take("judge", tool.model, messages, kept)
            else:
                self._add(part, tool, 1, self._counter(tool.model).count(messages), 0.0, 0.0, number)

    def _unknown_judgement(self, tool: _Tool, prompt: Prompt, expected: float, longest: float) -> None:
        """Count what is asked about an answer that is not there yet."""
        times, number, read = self._about_empty(tool, prompt)
        known = self._longer.get(tool.model)
        usual = known.input_tokens / known.requests if known else expected
        self._add(self._part("judge", tool.model), tool, times, read, usual, longest, number)

    def _about_empty(self, tool: _Tool, prompt: Prompt) -> tuple[int, int, float]:
        """Return how often an empty answer is asked about, with how many requests, of how many tokens."""
        about = (id(tool), prompt.wording)
        if about not in self._empty:
            requests = tool.requests(_asked(tool, prompt, ""))
            messages, _, number = requests[0]
            self._empty[about] = len(requests), number, self._counter(tool.model).count(messages)
        return self._empty[about]

    def _add(
        self, part: Part, tool: _Tool, times: int, read: float, expected: float, longest: float, number: int
    ) -> None:
        usual, most = tool.written
        used = self._used.get(("judge", tool.model))
        done = used.output_tokens / used.requests if used else usual
        requests = times * number
        part.expected.add(requests, requests * (read + expected), requests * min(done, most))
        if not tool.known and tool.instrument.judge.readout == "auto":
            k = tool.instrument.judge.samples
            part.most.add(k, k * (read + longest), max(k * 32, JSON_TOKENS))
        else:
            part.most.add(requests, requests * (read + longest), requests * most)


def _asked(tool: _Tool, prompt: Prompt, answer: str) -> str:
    return tool.instrument.prompt(prompt.wording, answer, prompt.question.target)
