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


def seen(name: str, server: Server) -> None:
    """Note a server for the table at the end, before it is gone."""
    _SEEN[name] = (server.version(), server.models(), server.answered())


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with adapters loaded at run time, as vLLM is by default: one place for an adapter."""
    checked()
    running = Server(tmp_path_factory.mktemp("vllm") / "server.log", *Server.LORA)
    running.start()
    yield running
    seen("one place for adapters", running)
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
