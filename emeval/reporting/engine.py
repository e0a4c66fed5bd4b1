"""The JavaScript that draws a page's charts, so that the page fetches nothing.

vl-convert bundles it out of what it has within. That takes seconds, and gives the same for the same version:
it is made once, in a process beside, and kept in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import altair
from platformdirs import user_cache_path

VEGA_LITE = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])

# By itself `vega` is null in the bundle of vl-convert 1.9; Vega-Embed has it within.
_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_BUNDLE = """
import sys, vl_convert
sys.stdout.buffer.write(vl_convert.javascript_bundle(*sys.argv[1:]).encode())
"""


@lru_cache(maxsize=1)
def begin() -> subprocess.Popen[bytes] | None:
    """Begin to make the engine if it is not kept, in a process beside this one; it takes seconds."""
    if _kept() is not None:
        return None
    command = [sys.executable, "-c", _BUNDLE, _SNIPPET, VEGA_LITE]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


@lru_cache(maxsize=1)
def engine() -> str:
    """Return the JavaScript that draws charts, as `window.vegaEmbed`."""
    making = begin()
    if making is None:
        kept = _kept()
        assert kept is not None, "it was there when `begin` looked"
        return kept
    made, _ = making.communicate()
    if making.returncode:
        raise RuntimeError("vl-convert did not bundle the JavaScript of the charts")
    _keep(made)
    return made.decode("utf-8")


def _file() -> Path:
    """Return where the engine is kept: the name says all that it is made from."""
    made_from = f"{version('vl-convert-python')} {VEGA_LITE} {_SNIPPET}"
    return user_cache_path("emeval") / f"charts-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}.js"


@lru_cache(maxsize=1)
def _kept() -> str | None:
    """Return the engine that an earlier report kept, if it is whole: its first line is a hash of the rest."""
    try:
        digest, _, made = _file().read_bytes().partition(b"\n")
    except OSError:
        return None
    return made.decode("utf-8") if digest.decode("ascii", "replace") == _digest(made) else None


def _keep(made: bytes) -> None:
    """Keep the engine for later reports, whole or not at all; where nothing can be written, not at all."""
    file = _file()
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(_digest(made).encode() + b"\n" + made)
        draft.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()


def _digest(made: bytes) -> str:
    return hashlib.sha256(made).hexdigest()
