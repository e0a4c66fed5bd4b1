"""What a running server says of itself: which it is, what it serves, whether it loads adapters."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import httpx

from emeval.errors import UserError, reason

SECONDS = 20.0
"""How long a server may take to say which models it has. It reads no prompt for that."""


class Served(NamedTuple):
    """A server with OpenAI's API."""

    version: str | None
    """vLLM's; `None` of another server."""
    models: dict[str, int | None]
    """The base models by name, with the most tokens of prompt and answer together where it says so."""
    adapters: tuple[str, ...]
    """The adapters that it has."""
    loads_adapters: bool
    """Whether it takes further ones while it runs; it may still lack --enable-lora."""

    def as_text(self) -> str:
        """Return it in a line."""
        models = [f"{name} ({most:,} tokens)" if most else name for name, most in self.models.items()]
        parts = [f"vLLM {self.version}" if self.version else "a server with OpenAI's API"]
        parts.append(f"serves {', '.join(models) or 'no model'}")
        if self.adapters:
            parts.append(f"adapters {_listed(self.adapters)}")
        if self.version:
            parts.append("loads adapters" if self.loads_adapters else "loads no adapters while it runs")
        return "; ".join(parts)


class KeyRefusedError(UserError):
    """The server wants another key than it was sent."""


def served(url: str, key: str | None = None) -> Served:
    """Ask the server at `url` (which ends in `/v1`) what it is; nothing is generated.

    Raises `KeyRefusedError`, and `UserError` where no server with OpenAI's API answers there in time.
    """
    root = url.rstrip("/").removesuffix("/v1")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(headers=headers, timeout=SECONDS) as client:
        cards = _cards(client, f"{root}/v1/models")
        version = _version(client, f"{root}/version")
        # It takes POST alone: 405 says that it is there, 404 that it is not.
        loads = version is not None and _status(client, f"{root}/v1/load_lora_adapter") == 405
    bases = {str(card["id"]): card.get("max_model_len") for card in cards if not card.get("parent")}
    return Served(version, bases, tuple(str(card["id"]) for card in cards if card.get("parent")), loads)


def _cards(client: httpx.Client, url: str) -> list[dict[str, Any]]:
    try:
        answer = client.get(url)
    except httpx.TimeoutException:
        raise UserError(
            f"something takes connections at {url} but says nothing within {SECONDS:.0f} seconds: the server "
            "is still loading, or hangs; wait for it, or restart it"
        ) from None
    except httpx.HTTPError as error:
        raise UserError(f"no answer from {url} ({reason(error, 120)}); correct the base URL") from None
    if answer.status_code in (401, 403):
        raise KeyRefusedError(f"the server at {url} refuses the key")
    if answer.status_code == 200:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return [card for card in answer.json()["data"] if isinstance(card["id"], str)]
    raise UserError(
        f"no server with OpenAI's API answers at {url} (status {answer.status_code}); correct the base URL, "
        "for example http://localhost:8000/v1"
    )


def _version(client: httpx.Client, url: str) -> str | None:
    try:
        said = client.get(url).json()["version"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None
    return said if isinstance(said, str) else None


def _status(client: httpx.Client, url: str) -> int | None:
    try:
        return client.get(url).status_code
    except httpx.HTTPError:
        return None


def _listed(names: tuple[str, ...], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
