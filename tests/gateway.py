"""A counting gateway before the real embedded server, for what a test must see or break on the way.

It can answer in the place of a server that cannot be had here, such as OpenAI's.

`python tests/gateway.py` starts the server in a process of its own and prints its address: a run that is
killed must not take the server with it.
"""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx


class Gateway:
    """Forwards to `upstream`; counts the requests whose answers were delivered; can hold or refuse them."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.delivered: list[str] = []
        self.waiting = 0
        self.models = ["smollm2"]
        self.about: dict[str, tuple[int, Any]] = {}
        """What it says of itself, by path: the status and the content."""
        self.hold_after: int | None = None
        self.refuse: Callable[[dict[str, Any]], int | None] = lambda request: None
        self.refusal = "refused by the test"
        self.answer: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda request: None
        self._gate = threading.Condition()
        self._entered = 0
        self._generation = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def counts(self) -> Counter[str]:
        """How often the answer to each request was delivered."""
        return Counter(self.delivered)

    def reset(self) -> None:
        """Let everything through, and count anew: what is on its way was asked by a client that is gone."""
        with self._gate:
            self._generation += 1
            self._entered = 0
            self.delivered = []
            self.hold_after = None
            self._gate.notify_all()

    def close(self) -> None:
        self.reset()
        self._server.shutdown()
        self._server.server_close()

    def _enter(self) -> int:
        with self._gate:
            generation = self._generation
            self.waiting += 1
            self._gate.wait_for(
                lambda: (
                    generation < self._generation
                    or self.hold_after is None
                    or self._entered < self.hold_after
                )
            )
            self.waiting -= 1
            self._entered += generation == self._generation
            return generation

    def _leave(self, body: str, generation: int) -> None:
        with self._gate:
            if generation == self._generation:
                self.delivered.append(body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = json.loads(body)
                status = gateway.refuse(request)
                if status is not None:
                    self.reply(status, json.dumps({"error": {"message": gateway.refusal}}).encode())
                    return
                generation = gateway._enter()
                said = gateway.answer(request)
                if said is not None:
                    self.reply(200, json.dumps(said).encode())
                    gateway._leave(json.dumps(request, sort_keys=True), generation)
                    return
                try:
                    answer = httpx.post(f"{gateway.upstream}{self.path}", json=request, timeout=120)
                except httpx.HTTPError:  # the test is over, and the server with it
                    return
                self.reply(answer.status_code, answer.content)
                gateway._leave(json.dumps(request, sort_keys=True), generation)

            def do_GET(self) -> None:  # which models there are; Inspect asks vLLM for it
                known = {"data": [{"id": name, "object": "model"} for name in gateway.models]}
                status, said = gateway.about.get(self.path, (200, known))
                self.reply(status, json.dumps(said).encode())

            def reply(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                with contextlib.suppress(BrokenPipeError):  # the client was killed meanwhile
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.05)


def killed(process: subprocess.Popen[bytes], gateway: Gateway, delivered: int) -> Counter[str]:
    """Kill a run when so many answers were delivered and more are asked for; return what was delivered."""
    until(lambda: len(gateway.delivered) == delivered and gateway.waiting > 0)
    time.sleep(1.5)  # whatever was delivered has reached the journal
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = gateway.counts()
    gateway.reset()
    return before


@contextmanager
def embedded_server() -> Iterator[str]:
    """Start the embedded server in a process of its own; give its address."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    from emeval.models.local import server

    print(server().server.listening_address, flush=True)
    threading.Event().wait()
