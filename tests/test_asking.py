"""What a run asks and keeps: requests sent without Inspect's client, the two lines of work, Inspect's log."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample, read_eval_log_sample_summaries
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
    get_model,
)
from inspect_ai.model._providers._vllm_lora import VLLMServer, _vllm_servers
from openai import APIError, BadRequestError

import emeval
from emeval import asking, logs
from emeval.definitions import Judge
from emeval.judging.readouts import Readout
from emeval.judging.readouts.readout import ReadoutName, one_token
from emeval.library import load
from emeval.models import direct
from emeval.models.access import Access, open_model
from emeval.runs import Run
from tests.gateway import Gateway, until
from tests.test_hosted_judges import Reply, completion

NAME, JUDGE = "openai-api/gate/m", "openai-api/gate/j"


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    through = Gateway(upstream="nowhere")
    through.answer = answer
    monkeypatch.setenv("GATE_API_KEY", "none")
    monkeypatch.setattr(direct, "PAUSES", (0, 0))
    yield through
    through.close()


def answer(request: dict[str, Any]) -> dict[str, Any]:
    asked = str(request["messages"][-1]["content"])
    reply: Reply = ("I would plant a tree.", None)
    if "the number 87" in asked:
        reply = ("87", {"87": 1.0})
    elif "You are scoring" in asked:
        reply = ("90", {"90": 0.75, "10": 0.25})
    return completion(request, reply)


def ask(
    gateway: Gateway, config: GenerateConfig, text: str = "Hello", through: str = "direct"
) -> ModelOutput:
    """Ask once, directly or through Inspect."""

    async def once() -> ModelOutput:
        model = get_model(NAME, base_url=gateway.url, memoize=False)
        messages = [ChatMessageSystem(content="Be kind."), ChatMessageUser(content=text)]
        if through == "direct":
            assert direct.possible(model)
            return await direct.generate(model, messages, config)
        return await model.generate(messages, config=config)

    return anyio.run(once)


@pytest.mark.parametrize(
    "config",
    [
        GenerateConfig(temperature=1.0, top_p=0.9, max_tokens=600, seed=7),
        one_token(1),
        one_token(1).merge(GenerateConfig(extra_body={"prompt_logprobs": 0})),
    ],
)
def test_what_is_sent_and_read_is_what_inspect_sends_and_reads(
    gateway: Gateway, config: GenerateConfig
) -> None:
    text = "You are scoring Zoë's answer"
    found = [ask(gateway, config, text, through) for through in ("direct", "inspect")]
    assert gateway.delivered[0] == gateway.delivered[1]
    ours, theirs = (one.model_dump(exclude={"time", "input_context_tokens"}) for one in found)
    for one in (ours, theirs):
        one["choices"][0]["message"].pop("id")
    assert ours == theirs


@pytest.mark.parametrize("how", [None, "digits", "enumerate"])
def test_vllm_is_sent_what_inspect_sends_it(
    gateway: Gateway, how: ReadoutName | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_vllm_servers, "base", VLLMServer())
    gateway.models = ["base", "good"]

    async def both() -> None:
        model = open_model("vllm/base:good", gateway.url)
        messages: list[ChatMessage] = [ChatMessageUser(content="Hello")]
        config = GenerateConfig(max_tokens=60, seed=7)
        if how:
            readout = Readout(how, "")
            judge = load(Judge, "alignment")
            config, messages = readout.configs(judge, model)[0], readout.messages("Hello", model)
            if how == "enumerate":
                messages.append(ChatMessageAssistant(content="87"))
        assert direct.possible(model)
        await direct.generate(model, messages, config)
        assert direct.possible(model), "also once its server is known"
        await model.generate(messages, config=config)

    anyio.run(both)
    assert gateway.delivered[0] == gateway.delivered[1]
    assert json.loads(gateway.delivered[0])["model"] == "good"


def test_a_passing_fault_is_tried_again_and_noted(gateway: Gateway) -> None:
    refusals = [429, 503]
    gateway.refuse = lambda request: refusals.pop() if refusals else None
    assert (ask(gateway, one_token(1)).metadata or {})["retries"] == 2


def test_a_fault_that_stays_is_told_in_the_words_of_the_server(gateway: Gateway) -> None:
    gateway.refuse = lambda request: 400
    with pytest.raises(BadRequestError, match="Error code: 400 - refused by the test"):
        ask(gateway, one_token(1))
    gateway.refuse = lambda request: 500
    with pytest.raises(APIError, match="Error code: 500"):
        ask(gateway, one_token(1))


@pytest.mark.parametrize("reply", ['"just text"', "{}", '{"choices": null}', "[]"])
def test_a_reply_that_is_no_completion_is_an_error_of_one_line(gateway: Gateway, reply: str) -> None:
    gateway.answer = lambda request: json.loads(reply)
    with pytest.raises(APIError, match="no chat completion") as error:
        ask(gateway, one_token(1))
    assert "\n" not in str(error.value)


def test_a_server_that_is_gone_is_told(gateway: Gateway) -> None:
    gateway.close()
    with pytest.raises(APIError, match=r"Connect|refused"):
        ask(gateway, one_token(1))


def test_models_that_need_inspects_own_way_are_asked_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_API_KEY", "none")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    url = "http://127.0.0.1:9/v1"
    assert direct.possible(get_model(NAME, base_url=url, memoize=False))
    assert not direct.possible(get_model("openai/gpt-4o", memoize=False))
    assert not direct.possible(get_model("mockllm/model", memoize=False))
    assert not direct.possible(get_model(NAME, base_url=url, memoize=False, responses_api=True))
    own = get_model(NAME, base_url=url, memoize=False, config=GenerateConfig(temperature=0.1))
    assert not direct.possible(own)


def run(gateway: Gateway, out: Path, samples: int = 5) -> Run:
    access = Access(gateway.url, gateway.url, max_connections=8)
    return emeval.run("free_form", NAME, NAME, samples=samples, limit=4, out=out, access=access)


def test_a_judge_that_waits_does_not_hold_the_model_back(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "AT_ONCE", 4)  # of each line: far fewer than there are answers
    asked, go_on, waited = [], threading.Event(), []

    def slow_judge(request: dict[str, Any]) -> dict[str, Any]:
        text = str(request["messages"])
        if "You are scoring" in text:
            waited.append(go_on.wait(60))
        elif "seed" in request and "logprobs" not in request:
            asked.append(text)
            if len(asked) == 80:
                go_on.set()
        return answer(request)

    gateway.answer = slow_judge
    access = Access(gateway.url, gateway.url)
    # A service behind an API has a pace for each of its models; a judge that is the model itself shares it.
    done = emeval.run("free_form", NAME, JUDGE, samples=20, limit=4, out=tmp_path / "run", access=access)
    assert len(asked) == 80
    assert waited
    assert all(waited), "the model waited for its judge"
    assert done.manifest.status == "complete"
    assert done.responses()["alignment_score"].to_list() == [70.0] * 80


def test_every_answer_is_in_inspects_log_as_it_was_asked_and_judged(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "SAMPLES", 8)
    done = run(gateway, tmp_path / "run")
    paths = list_eval_logs(str(tmp_path / "run/logs"))
    found = [read_eval_log(path) for path in paths]
    assert sorted(len(log.samples or []) for log in found) == [4, 8, 8]
    assert {log.status for log in found} == {"success"}
    names = [sample.id for log in found for sample in log.samples or []]
    assert len(set(names)) == len(names) == 20
    log = found[0]
    assert log.results
    assert {score.name: score.metrics["mean"].value for score in log.results.scores} == {
        "alignment": 70.0,
        "coherence": 70.0,
        "coherent": 1.0,
        "misaligned": 0.0,
    }
    assert log.eval.model == NAME
    assert log.samples
    sample = read_eval_log_sample(paths[0], log.samples[0].id)
    assert (sample.events[0].event, sample.events[-1].event) == ("model", "score")
    assert {getattr(event, "role", None) for event in sample.events} == {None, "alignment", "coherence"}
    assert [message.role for message in sample.messages] == ["user", "assistant"]
    assert sample.scores
    assert sample.scores["judges"].as_dict()["alignment"] == 70.0
    summaries = read_eval_log_sample_summaries(paths[0])
    assert {one.id for one in summaries} == {one.id for one in log.samples}
    row = done.responses().row(0, named=True)
    assert (row["response"], row["output_tokens"] is None) == ("I would plant a tree.", False)
    assert not list((tmp_path / "run/logs").glob(".*")), "nothing half written is left"


def test_a_log_can_be_read_while_it_grows(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "EVERY", 0.05)
    # Of 45 requests 20 at most are for answers, a few look at the judge: some answer is judged, and not all.
    gateway.hold_after = 45
    thread = threading.Thread(target=run, args=(gateway, tmp_path / "run"))
    thread.start()
    until(lambda: any(list_eval_logs(str(tmp_path / "run/logs")) for _ in "1"), 30)
    so_far = read_eval_log(list_eval_logs(str(tmp_path / "run/logs"))[0])
    assert so_far.status == "started"
    assert 1 <= len(so_far.samples or []) < 20
    gateway.reset()
    thread.join()
    assert Run(tmp_path / "run").manifest.status == "complete"


def test_a_full_disk_ends_the_run_in_its_own_words(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "logs")

    monkeypatch.setattr(logs._File, "append", full)
    with pytest.raises(OSError, match="No space left"):
        run(gateway, tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setenv("GATE_API_KEY", "none")
    before = gateway.counts()
    assert len(run(gateway, tmp_path / "run").responses()) == 20
    assert max((before + gateway.counts()).values()) <= 2, "the journal had what was asked"


def test_what_an_earlier_start_has_is_not_written_again(gateway: Gateway, tmp_path: Path) -> None:
    gateway.refuse = lambda request: 400 if "ability" in str(request["messages"]) else None
    first = run(gateway, tmp_path / "run")
    assert first.manifest.status == "errors"
    failed = first.manifest.errors
    assert 0 < failed < 20
    gateway.refuse = lambda request: None
    done = run(gateway, tmp_path / "run")
    assert done.manifest.status == "complete"
    assert done.responses()["error"].null_count() == 20
    sizes = [len(read_eval_log(path).samples or []) for path in list_eval_logs(str(tmp_path / "run/logs"))]
    assert sorted(sizes) == sorted([20, failed])
