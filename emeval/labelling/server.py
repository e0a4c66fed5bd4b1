"""The page on loopback: a small HTTP server for one person at a time, on this machine alone.

Any web page that a browser has open can send requests to this server too. So a request must name this server
as its host (no name that was made to point here), must not come from another origin, and must carry the token
that is made at every start and stands in the address after `#`, which browsers send nowhere. The page shows
texts with `textContent`, and its security policy lets nothing run but its own script.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import socketserver
import sys
import webbrowser
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jinja2
from pydantic import BaseModel, ValidationError

from emeval import library
from emeval.errors import UserError
from emeval.labelling.desk import Ask, Begin, Desk, Give, Refused
from emeval.labelling.drawing import draw
from emeval.labelling.store import check_rater, raters
from emeval.runs import Run

HOST = "127.0.0.1"

MOST_BYTES = 65_536
"""Of a request; the longest holds a note."""

PATIENCE = 30
"""Seconds that a connection may be silent."""


def serve(
    run: Run,
    number: int | None = None,
    rater: str | None = None,
    port: int = 0,
    browser: bool = True,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve the page until Ctrl-C. What `number` means: `emeval.labelling.draw`.

    `rater` is who labels; without it the page asks. `port` 0 is a free one. `tell` is handed the address.
    With `browser` it is opened, where there is a screen. Raises `UserError` for what `draw` raises, for a
    name that cannot be a rater's, for a file of labels that cannot be read, and for a port that is taken.
    """
    if rater is not None:
        check_rater(rater)
    for file in raters(run.directory):
        file.labels()
    desk = Desk(draw(run, number), run.directory, rater)
    token = secrets.token_urlsafe(24)
    try:
        server = Server(desk, token, _page(library.folders("reports")), port)
    except OSError as error:
        raise UserError(f"--port {port}: {error.strerror}; without --port a free one is taken") from None
    with server:
        try:
            tell(server.address)
            if browser and _has_screen():
                webbrowser.open(server.address)
            server.serve_forever()
        except KeyboardInterrupt:
            desk.lock.acquire()  # what is being written is written to its end, and nothing after it


def _has_screen() -> bool:
    """Whether a browser would come up beside this terminal, and not in it."""
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def _page(templates: Sequence[Path]) -> tuple[bytes, str]:
    """Return the page and its security policy. The page holds nothing of the run."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates), autoescape=False, undefined=jinja2.StrictUndefined
    )
    assert environment.loader is not None
    source = {
        name: environment.loader.get_source(environment, name)[0]
        for name in ("page.css", "label.css", "label.js")
    }
    style, script = source["page.css"] + source["label.css"], source["label.js"]
    try:
        page = environment.get_template("label.html").render(style=style, script=script)
    except jinja2.TemplateError as error:
        raise UserError(f"label.html: this template cannot be used: {error}") from None
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page.encode(), policy


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


class Server(ThreadingHTTPServer):
    """Serves the page at `/`, and what it asks for as JSON."""

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere it would share a port that is taken

    def __init__(self, desk: Desk, token: str, page: tuple[bytes, str], port: int = 0) -> None:
        super().__init__((HOST, port), _Handler)
        self.token = token
        self.page, self.policy = page
        self.origins = {f"http://{name}:{self.server_port}" for name in (HOST, "localhost")}
        self.granted: dict[str, tuple[type[BaseModel], Callable[[Any], dict[str, Any]]]] = {
            "/begin": (Begin, desk.begin),
            "/answer": (Ask, desk.ask),
            "/label": (Give, desk.give),
        }

    def server_bind(self) -> None:
        """Take the port; unlike its parent's, ask no name server what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self.server_port}/#{self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Say nothing of a browser that has gone away."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "emeval", ""
    timeout = PATIENCE
    server: Server

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, granted: Callable[[], tuple[str, bytes]]) -> None:
        try:
            self._check_sender()
            status, (kind, body) = HTTPStatus.OK, granted()
        except Refused as refused:
            # What the request's body held is not read: the connection cannot be used again.
            self.close_connection = True
            status, kind, body = refused.status, *_json({"error": str(refused)})
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", self.server.policy),
            ("Cache-Control", "no-store"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            *((("Connection", "close"),) if self.close_connection else ()),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _check_sender(self) -> None:
        """Refuse what comes from another page, or under a name that is not this server's."""
        hosts = self.headers.get_all("Host", [])
        origins = self.headers.get_all("Origin", [])
        if len(hosts) != 1 or f"http://{hosts[0]}" not in self.server.origins:
            raise Refused(HTTPStatus.FORBIDDEN, "This server answers to its own address alone.")
        if any(origin not in self.server.origins for origin in origins):
            raise Refused(HTTPStatus.FORBIDDEN, "This request comes from another page.")

    def _get(self) -> tuple[str, bytes]:
        if self.path == "/":
            return "text/html; charset=utf-8", self.server.page
        if self.path in self.server.granted:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "This can only be asked for by POST.")
        raise Refused(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def _post(self) -> tuple[str, bytes]:
        given = self.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode()):
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "This page is of an earlier start. Open the address that emeval label printed last.",
            )
        if self.path not in self.server.granted:
            raise Refused(HTTPStatus.NOT_FOUND, "There is nothing here.")
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Expected JSON.")
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "Expected a Content-Length.")
        if int(length) > MOST_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is too long.")
        asked, answer = self.server.granted[self.path]
        try:
            request = asked.model_validate_json(self.rfile.read(int(length)))
        except ValidationError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, error.errors()[0]["msg"]) from None
        return _json(answer(request))

    def log_message(self, *_: object) -> None:
        """Write no log: the terminal shows the address and, at the end, the account."""


def _json(content: dict[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(content).encode()
