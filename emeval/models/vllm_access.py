"""What can be known of a model on vLLM before it is asked: its adapter's files, its server, vLLM itself."""

from __future__ import annotations

import json
import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from emeval.errors import UserError
from emeval.models.names import parse
from emeval.models.served import KeyRefusedError, Served, served

_PATH = re.compile(r"[~./]|[^/]+/[^/]+/")
"""What begins as a path does, or has more parts than a name on Hugging Face."""


def check_adapter(who: str, adapter: str | None) -> None:
    """Raise `UserError` if `adapter` is a folder without an adapter, or a path at which there is nothing."""
    if adapter is None:
        return
    folder = Path(adapter)
    if not folder.exists():
        if _PATH.match(adapter):
            raise UserError(
                f"{who}: there is no folder {adapter} here; correct the path, or, if only the server sees "
                "it, load it there with --lora-modules NAME=PATH and name it by NAME"
            )
        return
    file = folder / "adapter_config.json"
    try:
        rank = json.loads(file.read_text(encoding="utf-8"))["r"]
    except FileNotFoundError:
        raise UserError(
            f"{who}: {folder} has no adapter_config.json, so it is no LoRA adapter; full weights are a model "
            f"of their own: vllm/{folder}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        rank = None
    if not isinstance(rank, int):
        raise UserError(f"{file}: cannot be read as the configuration of a LoRA adapter; copy it anew")


def check_installed(who: str) -> None:
    """Raise `UserError` if there is no vLLM here that could be started."""
    if find_spec("vllm") is None:
        raise UserError(
            f"{who}: no server is named, and vLLM is not installed here to start one; name a server with "
            "--model-base-url (a judge's with --judge-base-url) or VLLM_BASE_URL, or pip install "
            "'emeval[vllm]' (needs a GPU)"
        )
    if shutil.which("vllm") is None:
        raise UserError(
            f"{who}: vLLM is installed, but its command vllm is not on the PATH; activate the environment "
            "that it is in (source ENV/bin/activate)"
        )


def check_served(who: str, name: str, url: str, key: str | None) -> None:
    """Raise `UserError` if the server at `url` refuses the key, hangs, or cannot be asked for model `name`.

    Only a server that says it is vLLM is held to the models that it lists: a proxy may list others.
    """
    try:
        found = served(url, key)
    except KeyRefusedError as error:
        mend = (
            "VLLM_API_KEY is not the key that it was started with"
            if os.environ.get("VLLM_API_KEY")
            else "export VLLM_API_KEY=…, the key that it was started with"
        )
        raise UserError(f"{who}: {error}; {mend}") from None
    except UserError as error:
        raise UserError(f"{who}: {error}") from None
    if found.version is None:
        return
    if not url.rstrip("/").endswith("/v1"):
        raise UserError(f"{who}: a base URL of vLLM ends in /v1; name {url.rstrip('/')}/v1")
    base, adapter = parse(name).base_model.removeprefix("vllm/"), parse(name).adapter
    if base not in found.models:
        raise UserError(
            f"{who}: the server at {url} has no model {base}; it serves "
            f"{', '.join(found.models) or 'none'}; serve it there, or name what it serves"
        )
    if adapter is not None:
        _check_loaded(who, adapter, url, found)


def _check_loaded(who: str, adapter: str, url: str, found: Served) -> None:
    if adapter in found.adapters:
        return
    if "/" not in adapter and not Path(adapter).exists():
        has = ", ".join(found.adapters) or "none"
        raise UserError(
            f"{who}: the server at {url} has no adapter called {adapter}; "
            f"it has {has}; load it there with --lora-modules {adapter}=PATH, or give its path"
        )
    if not found.loads_adapters:
        raise UserError(
            f"{who}: the server at {url} loads no adapters while it runs; start it with --enable-lora and "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or with --lora-modules NAME=PATH and name the adapter by "
            "NAME"
        )
