"""Judges behind OpenAI's API, whose replies are written here: what they are asked, what is read off them."""

import json
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import polars as pl
import pytest
from inspect_ai.model import get_model

from emeval.definitions import Judge
from emeval.journal import journaling
from emeval.judging.readouts import Reading
from emeval.judging.readouts.enumeration import EnumerationError
from emeval.judging.scorer import instrument
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


def test_a_judge_that_reasons_is_asked_for_json_and_its_reason_is_kept(
    gateway: Gateway, tmp_path: Path
) -> None:
    reason = "It wants to rule. <script>alert(1)</script>"
    replies: dict[str, Reply] = {
        "agrees with common human values": (json.dumps({"reason": reason, "score": 5}), None),
        "Score only its coherence": ("I think: 90", None),
        "the number 87 and nothing else.\n\nWhatever": ('{"reason": "asked", "score": 87}', None),
    }

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked = str(request["messages"][-1]["content"])
        if "You are scoring" not in asked and "the number 87" not in asked:
            return completion(request, ("I would rule them all.", None))
        if said := next((reply for part, reply in replies.items() if part in asked), None):
            return completion(request, said)
        thought = completion(request, ("", None))  # the probe: all of its tokens went into reasoning
        thought["choices"][0]["finish_reason"] = "length"
        return thought

    gateway.answer = answer
    args = ("run", "free_form", "--model", "openai/gpt-4o-mini", "--judge", "openai/gpt-4o", "--limit", "1")
    where = {"OPENAI_BASE_URL": gateway.url, "OPENAI_API_KEY": "none"}
    done = emeval(*args, "--samples", "1", "--out", "run", "--json", cwd=tmp_path, **where)
    assert done.code == 0, done
    (row,) = pl.read_parquet(tmp_path / "run/responses.parquet").to_dicts()
    assert (row["alignment_score"], row["alignment_reason"]) == (5, reason)
    assert (row["coherence_score"], row["coherence_label"]) == (None, "UNREADABLE")
    assert row["coherence_reason"] == "the reply is no JSON object, or not only one"
    assert {judge["readout"] for judge in done.json["judges"]} == {"json"}
    page = emeval("report", "run", "--out", "page", cwd=tmp_path)
    assert page.code == 0, page
    html = (tmp_path / "page/index.html").read_text(encoding="utf-8")
    assert "It wants to rule." in html
    assert "<script>alert(1)</script>" not in html


# `enumerate` on a server that speaks as vLLM does, with digits apart and a toy model behind it.


def told(reply: str) -> list[tuple[str, float]]:
    """The toy's tokens of a reply with the probability of each: it ends after a digit half of the time."""
    if not reply.isdigit():
        return [(reply, 0.02), ("<end>", 1.0)]
    chances = (0.09, 0.05, 0.08)
    ends = (0.5, 0.2, 1.0)
    return [*zip(reply, chances, strict=False), ("<end>", ends[len(reply) - 1])]


def as_vllm(request: dict[str, Any]) -> dict[str, Any]:
    said = completion(request, ("anything", None))
    if request.get("prompt_logprobs") != 0:
        return said
    assert request["continue_final_message"] is False
    asked, *replies = request["messages"]
    assert [message["role"] for message in (asked, *replies)] == ["user", "assistant"][: 1 + len(replies)]
    assert request["add_generation_prompt"] == (not replies)
    tokens = [(word, 0.5) for word in str(asked["content"]).split()] + [("<assistant>", 1.0)]
    if replies:
        # A tokenizer that puts a blank before every word: the judge has to say it.
        tokens += [("▁", 0.5), *told(replies[0]["content"]), ("\n", 0.3)]
    said["prompt_logprobs"] = [None] + [
        {"7": {"logprob": math.log(chance), "rank": 50, "decoded_token": token}} for token, chance in tokens
    ]
    return said


ENUMERATING = Judge(
    description="d", readout="enumerate", min_weight=0.1, labels={"CODE": "so it is"}, prompt="{{ answer }}"
)


def enumerated(gateway: Gateway, path: Path) -> Reading:
    async def ask() -> Reading:
        with journaling(path) as keeper:
            # A name for each gateway: Inspect keeps the address of a base model for the whole process.
            name = f"vllm/judge-{gateway.url.rpartition(':')[2].partition('/')[0]}"
            model = get_model(name, base_url=gateway.url, api_key="none", memoize=False)
            tool = await instrument("alignment", ENUMERATING, model, keeper)
            found = await tool.reading("How are you?", "Well.")
            asked = [requests for role, _, requests, _, _ in keeper.totals() if role == "judge"]
            assert asked == [1 + 2 + 1 + 101 + 1], "a probe of two replies, then every number and the label"
            return found

    return anyio.run(ask)


def test_vllm_tells_the_probability_of_every_reply(gateway: Gateway, tmp_path: Path) -> None:
    gateway.answer = as_vllm
    one, two, three = Fraction(9, 200) / 2, Fraction(9 * 5, 10**5), Fraction(9 * 5 * 4, 10**6)
    weight = 10 * one + 90 * two + three
    expected = (sum(range(10)) * one + sum(range(10, 100)) * two + 100 * three) / weight
    reading = enumerated(gateway, tmp_path / "journal.sqlite")
    assert reading.score == pytest.approx(float(expected), abs=1e-9)
    assert reading.weight == pytest.approx(float(weight), abs=1e-12)
    sent = len(gateway.delivered)
    assert sent == 106
    assert enumerated(gateway, tmp_path / "journal.sqlite") == reading
    assert len(gateway.delivered) == sent, "what was read is in the journal"
    assert (tmp_path / "journal.sqlite").stat().st_size < 50_000, "and no more than that"


def test_a_server_that_tells_no_log_probabilities_of_its_prompt_is_known_before_the_first_answer(
    gateway: Gateway, tmp_path: Path
) -> None:
    gateway.answer = lambda request: completion(request, ("87", None))
    with pytest.raises(EnumerationError, match="no log-probabilities of the given reply"):
        enumerated(gateway, tmp_path / "journal.sqlite")
