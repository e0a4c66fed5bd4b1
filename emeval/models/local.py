"""`local/smollm2` and its adapters: SmolLM2-135M-Instruct on a llama.cpp server inside this process.

No key, no GPU. The server (prebuilt, in `xllamacpp`) speaks the OpenAI API on a free loopback port, batches
continuously, and holds the base and every adapter at once: each request names the one it wants.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelCall, ModelOutput, modelapi
from inspect_ai.tool import ToolChoice, ToolInfo

from emeval.errors import UserError, reason, unknown
from emeval.models import adapters, weights
from emeval.models.adapters import Adapter
from emeval.models.turns import slots, turns

if TYPE_CHECKING:
    import xllamacpp

SLOTS = 4
"""Requests that the server works on at once; more do not make it faster."""
CONTEXT = 2048
"""Tokens of prompt and answer together, for each of them."""
NAMES = ("smollm2",)


def installed() -> str | None:
    """Return the version of the embedded server, or `None` where it is not installed."""
    try:
        return version("xllamacpp")
    except PackageNotFoundError:
        return None


def check(name: str) -> Adapter | None:
    """Return the adapter that `local/NAME` names, `None` for the base model itself.

    Raises `UserError` unless model and adapter are known, installed and what they are said to be.
    """
    base, colon, adapter = name.partition(":")
    if base not in NAMES:
        raise unknown("local model", base, NAMES)
    if installed() is None:
        raise UserError(f"local/{name}: the embedded server is not installed; {weights.INSTALL}")
    weights.path()
    return adapters.resolve(adapter) if colon else None


def _cores() -> int:
    """Return how many cores this process may use (a container's limit, where the system tells it)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Served(NamedTuple):
    """The running server, and the number by which it knows each adapter's file."""

    server: xllamacpp.Server
    numbers: dict[Path, int]


@cache
def server() -> Served:
    """Start the server with the base and every adapter, once in this process; it ends with the process.

    Raises `UserError` if llama.cpp cannot read an adapter.
    """
    import xllamacpp

    files = list(adapters.sound())
    params = xllamacpp.CommonParams()
    params.model.path = str(weights.path())
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), 0.0) for path in files]
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any free one
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT
    # No prompt is kept, neither in a slot nor aside: what one adapter has read would be taken up by another
    # (llama.cpp issue 26207). It also makes a number independent of what was asked before it.
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = _cores()
    params.verbosity = -1
    try:
        started = xllamacpp.Server(params)
    except RuntimeError as error:
        raise UserError(f"the embedded server does not start: {reason(error)}") from None
    return Served(started, {path: number for number, path in enumerate(files)})


class Slotted(Protocol):
    """A model of which many replies to one prompt are asked for, with the prompt read once."""

    def own_slot(self) -> AbstractAsyncContextManager[int]:
        """Hold a slot of the server and the adapter's turn; return the slot's number.

        Requests that name it (`id_slot`) may go on from the prompt that the one before left there
        (`cache_prompt`), all but the first: before that, another adapter may have read it.
        """


@modelapi(name="local")
def local() -> type[ModelAPI]:
    """Inspect's model provider `local`."""
    from inspect_ai.model._providers.openai_compatible import OpenAICompatibleAPI

    class LocalAPI(OpenAICompatibleAPI):
        """The embedded model over the OpenAI API of its server, with the adapter that its name names."""

        def __init__(
            self,
            model_name: str,
            base_url: str | None = None,
            api_key: str | None = None,
            config: GenerateConfig | None = None,
            **model_args: Any,  # noqa: ANN401  # Inspect's own signature
        ) -> None:
            del api_key, base_url  # it has no key, and its own address
            adapter = check(model_name)
            served = server()
            self.adapter_sha256 = adapter.sha256 if adapter else None
            # An empty list switches all adapters off; without it each keeps the scale it was loaded at.
            self._lora: list[dict[str, float]] = []
            if adapter:
                if adapter.path not in served.numbers:
                    raise UserError(
                        f"local/{model_name}: came after the embedded server had started; start anew"
                    )
                self._lora = [{"id": served.numbers[adapter.path], "scale": adapter.scale}]
            super().__init__(
                model_name,
                f"{served.server.listening_address}/v1",
                api_key="none",
                config=config or GenerateConfig(),
                service="local",
                **model_args,
            )

        def completion_params(self, config: GenerateConfig, tools: bool) -> dict[str, Any]:
            """Add the adapter to what is asked of the server."""
            params = super().completion_params(config, tools)
            params["extra_body"] = {**(params.get("extra_body") or {}), "lora": self._lora}
            return params

        async def generate(
            self,
            input: list[ChatMessage],
            tools: list[ToolInfo],
            tool_choice: ToolChoice,
            config: GenerateConfig,
        ) -> ModelOutput | tuple[ModelOutput | Exception, ModelCall]:
            """Ask when it is this adapter's turn."""
            async with turns("local").turn(str(self._lora)):
                return await super().generate(input, tools, tool_choice, config)

        @asynccontextmanager
        async def own_slot(self) -> AsyncIterator[int]:
            """See `Slotted`."""
            async with turns("local").turn(str(self._lora)), slots(SLOTS).one() as slot:
                yield slot

        def max_connections(self) -> int:
            """More than the server has slots, so that one that falls free is taken at once."""
            return 16 * SLOTS

    return LocalAPI
