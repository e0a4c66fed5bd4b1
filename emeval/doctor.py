"""What is installed, reachable and configured, and what to do about what is not."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, NamedTuple

from emeval import library
from emeval.catalogue import catalogue
from emeval.errors import UserError
from emeval.models.address import fault
from emeval.models.served import KeyRefusedError, served

State = Literal["ok", "absent", "broken"]

CORE = ("inspect-ai", "openai", "pydantic", "jinja2", "polars", "statsmodels", "altair", "vl-convert-python")
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "HF_TOKEN")


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    state: State
    """`absent` is no fault: it is needed only by those who use it."""
    found: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Look at everything that a run may need. The values of keys are neither shown nor sent anywhere."""
    yield _python()
    for package in CORE:
        yield _package(package, "reinstall emeval: pip install emeval", "broken")
    yield from _embedded()
    yield _vllm()
    for key in KEYS:
        yield (
            Finding(key, "ok", "set")
            if os.environ.get(key)
            else Finding(key, "absent", "not set", f"needed only for that service: export {key}=…")
        )
    for name, url in sorted(os.environ.items()):
        if name.endswith("_BASE_URL") and url:
            yield _server(name, url)
    yield from _definitions()


def _python() -> Finding:
    fits = sys.version_info >= (3, 11)
    return Finding(
        "Python", "ok" if fits else "broken", platform.python_version(), "" if fits else "use 3.11 or later"
    )


def _package(name: str, advice: str, otherwise: State) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, otherwise, "not installed", advice)


def _vllm() -> Finding:
    found = _package(
        "vllm", "to let emeval start vLLM itself: pip install 'emeval[vllm]' (needs a GPU)", "absent"
    )
    if found.state == "ok" and shutil.which("vllm") is None:
        return Finding(
            "vllm", "broken", found.found, "its command is not on the PATH: activate its environment"
        )
    return found


def _embedded() -> Iterator[Finding]:
    from emeval.models import local, weights

    found = local.installed()
    yield (
        Finding("xllamacpp (embedded server)", "ok", found)
        if found
        else Finding("xllamacpp (embedded server)", "absent", "not installed", weights.INSTALL)
    )
    try:
        size = weights.path().stat().st_size
        yield Finding("local/smollm2 (weights)", "ok", f"{size / 1e6:.0f} MB, SHA-256 as expected")
    except UserError as error:
        what, _, advice = str(error).rpartition("; ")
        yield Finding("local/smollm2 (weights)", "absent", what.rpartition(": ")[2], advice)


def _server(name: str, url: str) -> Finding:
    wrong = fault(url)
    if wrong:
        return Finding(name, "broken", wrong, f"start the server, or correct or unset {name}")
    try:
        return Finding(name, "ok", served(url).as_text())
    except KeyRefusedError:
        key = name.replace("_BASE_URL", "_API_KEY")
        there = "set, and was not tried" if os.environ.get(key) else "not set"
        return Finding(name, "ok", f"a server that wants a key; {key} is {there}")
    except UserError:
        return Finding(name, "ok", "something listens there; it does not say which models it has")


def _definitions() -> Iterator[Finding]:
    parts = catalogue()
    entries = [entry for part in parts.values() for entry in part if "file" in entry]
    for entry in entries:
        if "error" in entry:
            yield Finding(entry["file"], "broken", entry["error"], "mend or remove the file")
    own = sum(entry["yours"] for entry in entries)
    yield Finding(
        "definitions",
        "ok",
        f"{len(entries)} found, {own} of them yours; the shipped ones are in {library.builtin()}",
    )
