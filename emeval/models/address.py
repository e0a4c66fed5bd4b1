"""Whether something listens at the address of a server."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit


def fault(url: str) -> str | None:
    """Return what is wrong with the server at `url` in a few words; `None` if something listens there.

    Only a connection is made; nothing is sent. A password in the URL is not repeated.
    """
    try:
        address = urlsplit(url)
        port = address.port or (443 if address.scheme == "https" else 80)
        host = address.hostname
    except ValueError as error:
        return f"this is no URL ({error}); expected for example http://localhost:8000/v1"
    if not host:
        return "this is no URL; expected for example http://localhost:8000/v1"
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return f"nothing answers at {address.scheme}://{host}:{port} ({error.strerror or error})"
    return None
