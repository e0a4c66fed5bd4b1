"""What emeval says when something is wrong with a real vLLM: one line, and what was obtained is kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from emeval.models.served import served
from tests.command import EMEVAL, Outcome, emeval
from tests.command import environment as clean
from tests.gateway import until
from tests.vllm import server as serving
from tests.vllm.server import BASE, COMMAND, KEY, Server, adapter, checked, environment

ONE = ("--limit", "1", "--samples", "1")


def run(server: Server, cwd: Path, model: str, *more: str, key: str = KEY, out: str = "run") -> Outcome:
    at = ("--model-base-url", server.url, "--judge-base-url", server.url)
    args = ("--model", model, "--judge", "vllm/smollm2", *at, *ONE, "--out", out, *more)
    return emeval("run", "free_form", *args, cwd=cwd, VLLM_API_KEY=key)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A copy of an adapter, to be damaged."""
    return Path(shutil.copytree(adapter("careless", 104), tmp_path / "damaged"))


def test_an_adapter_of_a_higher_rank_than_the_servers(server: Server, damaged: Path, tmp_path: Path) -> None:
    file = damaged / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"r": 64}), encoding="utf-8")
    said = run(server, tmp_path, f"vllm/smollm2:{damaged}").said()
    assert "the adapter's rank 64 is above the server's 8; serve the base with --max-lora-rank 64" in said


def test_an_adapter_whose_weights_are_cut_or_missing(server: Server, damaged: Path, tmp_path: Path) -> None:
    file = damaged / "adapter_model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert "damaged or cut short" in run(server, tmp_path, f"vllm/smollm2:{damaged}").said()
    file.unlink()
    assert "the adapter's folder has no weights" in run(server, tmp_path, f"vllm/smollm2:{damaged}").said()


def test_an_adapter_of_another_base(server: Server, damaged: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    file = damaged / "adapter_model.safetensors"
    wider = {name: weight.repeat(2, axis=1 - ("lora_B" in name)) for name, weight in load_file(file).items()}
    save_file(wider, file)
    assert "does not fit the base model" in run(server, tmp_path, f"vllm/smollm2:{damaged}").said()


def test_what_the_server_does_not_have(server: Server, tmp_path: Path) -> None:
    assert "has no model other; it serves smollm2" in run(server, tmp_path, "vllm/other").said()
    assert "has no adapter called wild" in run(server, tmp_path, "vllm/smollm2:wild", out="second").said()
    said = run(server, tmp_path, "vllm/smollm2", key="another-key", out="third").said()
    assert "VLLM_API_KEY is not the key that it was started with" in said
    assert "another-key" not in said


def test_a_context_that_is_too_short(server: Server, tmp_path: Path) -> None:
    done = run(server, tmp_path, "vllm/smollm2", "--set", "max_tokens=3000")
    assert done.code == 4, done
    assert "3000 tokens of answer are asked for, and the server has 2048 for all" in done.err


def test_the_readout_logprobs_on_a_tokenizer_of_digits(server: Server, tmp_path: Path) -> None:
    (tmp_path / "judges").mkdir()
    judge = "description: d\nreadout: logprobs\nprompt: 'From 0 to 100: {{ answer }}'\n"
    (tmp_path / "judges/alignment.yaml").write_text(judge, encoding="utf-8")
    said = run(server, tmp_path, "vllm/smollm2").said()
    assert "this tokenizer splits them into digits: 87 would be read as 8" in said


def test_a_server_says_what_it_is(server: Server) -> None:
    found = served(server.url, KEY)
    assert found.version == server.version()
    assert found.models == {"smollm2": 2048}
    assert found.loads_adapters


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a base model without a chat template that takes no adapters."""
    checked()
    folder = tmp_path_factory.mktemp("poor")
    bare = folder / "model"
    shutil.copytree(BASE, bare, ignore=shutil.ignore_patterns("chat_template*"))
    file = bare / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings.pop("chat_template", None)
    file.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "BASE", bare)
        running = Server(folder / "server.log").start()
    yield running
    running.kill()


def test_a_model_without_a_chat_template(poor: Server, tmp_path: Path) -> None:
    said = run(poor, tmp_path, "vllm/smollm2").said()
    assert "the model has no chat template, as base models often have none; serve it with --chat-temp" in said


def test_a_server_that_takes_no_adapters(poor: Server, tmp_path: Path) -> None:
    said = run(poor, tmp_path, f"vllm/smollm2:{adapter('careless', 104)}").said()
    assert "the server takes no adapters; serve the base with --enable-lora" in said


def test_a_server_that_dies_in_the_middle(server: Server, tmp_path: Path) -> None:
    mortal = Server(tmp_path / "server.log").start()
    at = ("--model-base-url", mortal.url, "--judge-base-url", server.url)
    args = ["run", "free_form", "--model", "vllm/smollm2", "--judge", "openai-api/lab/smollm2"]
    keys = {"VLLM_API_KEY": KEY, "LAB_API_KEY": KEY, "LAB_BASE_URL": server.url}
    size = ["--limit", "2", "--samples", "12", "--set", "max_tokens=40", "--max-connections", "4"]
    client = subprocess.Popen(
        [EMEVAL, *args, *at, *size, "--out", "run"],
        cwd=tmp_path,
        env=clean(**keys),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: mortal.answered() >= 6, 240)
    mortal.kill()
    said = client.communicate(timeout=240)[1]
    assert client.returncode == 4, said
    assert "Traceback" not in said
    lines = said.strip().splitlines()
    assert "the server is gone; start it again, and give the same command again" in lines[-1]
    assert len(lines) <= 8, said
    rows = pl.read_parquet(tmp_path / "run/responses.parquet")
    assert 0 < rows["error"].null_count() < len(rows) == 24, "what was obtained is kept"


def test_a_server_that_does_not_come_up(tmp_path: Path) -> None:
    checked()
    name = shutil.copytree(BASE, tmp_path / "cut")
    weights = name / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    arguments = {"max_model_len": 512, "enforce_eager": True, "dtype": "float32", "host": "127.0.0.1"}
    env = environment() | {
        "VLLM_DEFAULT_SERVER_ARGS": json.dumps(arguments),
        "VLLM_API_KEY": "key-of-the-start",
    }
    env["PATH"] = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    args = ("run", "free_form", "--model", f"vllm/{name}", "--judge", f"vllm/{name}", *ONE, "--out", "run")
    said = emeval(*args, cwd=tmp_path, **env).said()
    assert "the server did not start: a file of weights is damaged or cut short" in said
    log = (tmp_path / "run/server.log").read_text(encoding="utf-8")
    assert "SafetensorError" in log
    assert "a-key-of-it" not in log + said
