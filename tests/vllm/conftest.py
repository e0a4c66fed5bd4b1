"""The server that most tests ask, and what `make test-vllm` says of the servers at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vllm.server import Server, checked

_SEEN: dict[str, tuple[str, list[str], int]] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here; it is left out where nobody asks for it."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vllm)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with adapters loaded at run time, as vLLM is by default: one place for an adapter."""
    yield from _running("with adapters", tmp_path_factory, *Server.LORA)


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the base model alone. One test kills it and starts it again."""
    yield from _running("without adapters", tmp_path_factory, "--max-logprobs", "500")


def _running(name: str, folders: pytest.TempPathFactory, *arguments: str) -> Iterator[Server]:
    checked()
    running = Server(folders.mktemp("vllm") / "server.log", *arguments)
    try:
        yield running.start()
        if running.alive():
            _SEEN[name] = (running.version(), running.models(), running.answered())
    finally:
        running.kill()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which servers were asked, how often, and what they had loaded."""
    if not _SEEN:
        return
    terminalreporter.section("vLLM servers")
    for name, (version, models, answered) in _SEEN.items():
        terminalreporter.line(f"vLLM {version}, {name}: {answered} requests answered; models:")
        for model in models:
            terminalreporter.line(f"    {model}")
