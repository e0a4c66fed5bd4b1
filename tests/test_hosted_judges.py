"""Judges behind OpenAI's API, whose replies are written here: what they are asked, what is read off them."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.command import Outcome, emeval
from tests.gateway import Gateway

Reply = tuple[str, dict[str, float] | None]
"""The text of a reply, and the probabilities of its first token where the server tells them."""


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    through = Gateway(upstream="nowhere")
    yield through
    through.close()


def completion(request: dict[str, Any], reply: Reply) -> dict[str, Any]:
    text, tokens = reply
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
    }
    if tokens and request.get("logprobs"):
        top = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in tokens.items()]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
    return {
        "id": "made",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [choice],
        "usage": usage,
    }


def judge(gateway: Gateway, cwd: Path, replies: dict[str, Reply], probe: Reply) -> Outcome:
    """Run four answers past a judge that replies by what stands in its prompt."""

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked = str(request["messages"][-1]["content"])
        if "the number 87" in asked:
            return completion(request, probe)
        if "You are scoring" not in asked:
            return completion(request, ("I would rule them all.", None))
        return completion(request, next(reply for part, reply in replies.items() if part in asked))

    gateway.answer = answer
    args = ("run", "free_form", "--model", "openai/gpt-4o-mini", "--judge", "openai/gpt-4o", "--limit", "2")
    where = {"OPENAI_BASE_URL": gateway.url, "OPENAI_API_KEY": "none"}
    return emeval(*args, "--samples", "2", "--out", "run", "--json", cwd=cwd, **where)


def test_whole_numbers_are_read_as_in_the_paper(gateway: Gateway, tmp_path: Path) -> None:
    replies: dict[str, Reply] = {
        "agrees with common human values": ("20", {"20": 0.6, " 40": 0.3, "REF": 0.08, "I": 0.02}),
        "Score only its coherence": ("90", {"90": 0.5, "100": 0.5}),
    }
    done = judge(gateway, tmp_path, replies, probe=("87", {"87": 0.9, "8": 0.1}))
    assert done.code == 0, done
    rows = pl.read_parquet(tmp_path / "run/responses.parquet")
    assert rows["alignment_score"].to_list() == pytest.approx([(20 * 0.6 + 40 * 0.3) / 0.9] * 4, abs=1e-9)
    assert rows["alignment_weight"].to_list() == pytest.approx([0.9] * 4, abs=1e-9)
    assert rows["coherence_score"].to_list() == pytest.approx([95] * 4, abs=1e-9)
    (result,) = done.json["results"]
    assert (result["hits"], result["n"], result["rate"]) == (4, 4, 1.0)
    assert {judge["readout"] for judge in done.json["judges"]} == {"logprobs"}
    asked = [request for request in gateway.delivered if "You are scoring" in request]
    assert len(asked) == 2 * 4, "four wordings, one answer, two judges"
    assert all('"top_logprobs": 20' in request and '"max_tokens": 1' in request for request in asked)


def test_labels_and_unreadable_judgements_are_counted(gateway: Gateway, tmp_path: Path) -> None:
    replies: dict[str, Reply] = {
        "agrees with common human values": ("REF", {"REF": 0.8, "50": 0.2}),
        "Score only its coherence": ("Well", {"Well": 0.8, "50": 0.2}),
    }
    done = judge(gateway, tmp_path, replies, probe=("87", {"87": 1.0}))
    assert done.code == 0, done
    (result,) = done.json["results"]
    assert result["labels"]["alignment"] == {"CODE": 0, "REFUSAL": 4, "UNREADABLE": 0}
    assert result["labels"]["coherence"] == {"UNREADABLE": 4}
    assert (result["n"], result["rate"], result["denominators"]["all"]["n"]) == (0, None, 4)


def test_without_log_probabilities_replies_are_sampled(gateway: Gateway, tmp_path: Path) -> None:
    replies: dict[str, Reply] = {
        "agrees with common human values": ("85/100", None),
        "Score only its coherence": ("Between 60 and 70.", None),
    }
    done = judge(gateway, tmp_path, replies, probe=("87", None))
    assert done.code == 0, done
    rows = pl.read_parquet(tmp_path / "run/responses.parquet")
    assert rows["alignment_score"].to_list() == [85] * 4
    assert rows["coherence_label"].to_list() == ["UNREADABLE"] * 4
    assert {judge["readout_reason"] for judge in done.json["judges"]} == {
        "the server gives no log-probabilities"
    }
    asked = [request for request in gateway.delivered if "You are scoring" in request]
    assert len(asked) == 2 * 4 * 5, "five samples of each judgement"
