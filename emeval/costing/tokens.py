"""How many tokens a model reads: by its tokenizer where that can be asked, otherwise by a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import httpx
from inspect_ai.model import ChatMessage

from emeval.costing.rule import RULE, Text, by_rule
from emeval.models import local

Messages = Sequence[ChatMessage]


class Server(NamedTuple):
    """Where a model is served."""

    url: str
    key: str | None


class Counter:
    """Tokens of the requests to one model, each text counted once."""

    def __init__(self, model: str, server: Server | None = None) -> None:
        """`server` is that of a model on vLLM, where there is one that may be asked."""
        self.how = f"about: {RULE}"
        self._count: Callable[[Text], float] = by_rule
        if model.startswith("local/") and local.installed():
            self.how, self._count = "by its tokenizer", _embedded
        elif model.startswith("vllm/") and server:
            base = model.removeprefix("vllm/").partition(":")[0]
            self.how, self._count = "by its tokenizer", partial(_vllm, server, base)
        self._known: dict[Text, float] = {}

    def count(self, messages: Messages) -> float:
        """Return how many tokens the model reads when it is asked with these messages."""
        text = tuple((message.role, message.text) for message in messages)
        if text not in self._known:
            try:
                self._known[text] = self._count(text)
            except (httpx.HTTPError, KeyError, ValueError):  # a server without that, or that wants no more
                self.how, self._count = f"about: {RULE}", by_rule
                self._known[text] = by_rule(text)
        return self._known[text]


def _as_json(text: Text) -> list[dict[str, str]]:
    return [{"role": role, "content": said} for role, said in text]


def _embedded(text: Text) -> float:
    """Return tokens as the embedded server counts them, chat template included."""
    address = local.server().server.listening_address
    prompt = _post(f"{address}/apply-template", {"messages": _as_json(text)})["prompt"]
    return len(_post(f"{address}/tokenize", {"content": prompt, "parse_special": True})["tokens"])


def _vllm(server: Server, model: str, text: Text) -> float:
    """Return tokens as the vLLM server counts them, chat template included."""
    url = f"{server.url.rstrip('/').removesuffix('/v1')}/tokenize"
    return float(_post(url, {"model": model, "messages": _as_json(text)}, server.key)["count"])


def _post(url: str, content: Mapping[str, object], key: str | None = None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = httpx.post(url, json=content, headers=headers, timeout=60)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found
