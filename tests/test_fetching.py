"""Public question sets: fetched on request, gone on with after a break, checked; by a server of this test."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from emeval import fetching
from emeval.errors import UserError
from tests.command import emeval

CONTENT = bytes(range(256)) * 40


class Server:
    """Serves CONTENT; can break off after some bytes, refuse ranges, or serve another file."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.break_after: int | None = None
        """Bytes after which the connections end; a negative number ends only the first."""
        self.ranges = True
        self.status = 200
        self.asked: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                server.asked.append(wanted)
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
                if server.status != 200 or start >= len(server.content):
                    self.send_error(server.status if server.status != 200 else 416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    last = len(server.content) - 1
                    self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
                self.send_header("Content-Length", str(len(server.content) - start))
                self.end_headers()
                end = len(server.content)
                if server.break_after is not None:
                    end = start + abs(server.break_after)
                    if server.break_after < 0:
                        server.break_after = None
                self.wfile.write(server.content[start:end])

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/made.yaml"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server, and a project whose registry names its file."""
    serving = Server()
    monkeypatch.chdir(tmp_path)
    register(serving.url)
    yield serving
    serving.close()


def register(address: str, sha256: str = hashlib.sha256(CONTENT).hexdigest()) -> None:
    Path("datasets").mkdir(exist_ok=True)
    Path("datasets/sources.yaml").write_text(
        f"description: d\nsets:\n  made:\n    description: d\n    address: {address}\n    revision: main\n"
        f"    bytes: {len(CONTENT)}\n    sha256: {sha256}\n    licence: MIT\n"
    )


FILE = Path("datasets/published/made.yaml")
PART = Path("datasets/published/made.yaml.part")


def test_a_file_is_fetched_once(server: Server) -> None:
    assert fetching.fetch("made") == FILE
    assert FILE.read_bytes() == CONTENT
    assert fetching.fetch("made") == FILE
    assert server.asked == [None]
    assert not PART.exists()


def test_a_connection_that_breaks_in_the_middle_is_gone_on_with(server: Server) -> None:
    server.break_after = 4000
    assert fetching.fetch("made").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=4000-", "bytes=8000-"]


def test_a_later_start_goes_on_where_an_earlier_one_stopped(server: Server) -> None:
    PART.parent.mkdir(parents=True)
    PART.write_bytes(CONTENT[:5000])
    assert fetching.fetch("made").read_bytes() == CONTENT
    assert server.asked == ["bytes=5000-"]


def test_a_server_that_cannot_go_on_sends_it_all(server: Server) -> None:
    server.break_after, server.ranges = -4000, False
    assert fetching.fetch("made").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=4000-"]


def test_a_server_that_always_breaks_and_cannot_go_on_ends_in_a_line(server: Server) -> None:
    server.break_after, server.ranges = 4000, False
    with pytest.raises(UserError, match=r"4,000 of 10,240 bytes are there, and the same command tries again"):
        fetching.fetch("made")
    assert PART.stat().st_size == 4000
    assert not FILE.exists()


@pytest.mark.parametrize("old", [b"x" * 5000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1)])
def test_a_beginning_of_another_file_is_begun_anew(server: Server, old: bytes) -> None:
    PART.parent.mkdir(parents=True)
    PART.write_bytes(old)
    assert fetching.fetch("made").read_bytes() == CONTENT


def test_a_file_that_was_changed_is_refused_and_not_kept(server: Server) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(UserError, match="it was changed there; nothing was kept"):
        fetching.fetch("made")
    server.content = CONTENT + b"more"
    with pytest.raises(UserError, match="longer than the 10,240 bytes"):
        fetching.fetch("made")
    server.content = CONTENT[:100]
    with pytest.raises(UserError, match="has become shorter"):
        fetching.fetch("made")
    assert not FILE.exists()


def test_another_file_in_its_place_is_left_alone(server: Server) -> None:
    FILE.parent.mkdir(parents=True)
    FILE.write_text("mine")
    with pytest.raises(UserError, match="is there, and is not the file that made names"):
        fetching.fetch("made")
    assert FILE.read_text() == "mine"


def test_what_the_server_refuses_is_said(server: Server) -> None:
    server.status = 404
    with pytest.raises(UserError, match="the server said 404"):
        fetching.fetch("made")


def test_without_a_connection_there_is_one_line(server: Server, tmp_path: Path) -> None:
    server.close()
    outcome = emeval("datasets", "fetch", "made", cwd=tmp_path)
    assert server.url in outcome.said()
    assert "the same command tries again" in outcome.said()
    assert (
        "unknown public set 'mede'; did you mean 'made'?"
        in emeval("datasets", "fetch", "mede", cwd=tmp_path).said()
    )


def test_the_shipped_registry_is_read_behind_the_users(server: Server) -> None:
    found = fetching.sources()
    assert set(found) == {
        *("made", "betley_first_plot", "betley_preregistered"),
        *("betley_deception_factual", "betley_deception_sit_aware"),
    }
    Path("datasets/sources.yaml").write_text("description: d\nsets:\n  made: {address: x}\n")
    with pytest.raises(UserError, match=r"sources.yaml:3: sets.made.description: the key"):
        fetching.sources()


def test_the_shipped_hashes_are_those_of_the_files_beside_the_project() -> None:
    from tests.test_published import BETLEY

    if BETLEY is None:
        pytest.skip("the published files are not beside the project")
    shipped = {name: one for name, one in fetching.sources().items() if name.startswith("betley_")}
    for one in shipped.values():
        content = (BETLEY / one.address.rpartition("/")[2]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (one.bytes, one.sha256)
