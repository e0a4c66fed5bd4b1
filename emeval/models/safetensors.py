"""Whether files of weights are whole, told from their heads: nothing is loaded.

The format: 8 bytes with the length of the head, the head (JSON: where each tensor lies), the tensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

_LONGEST_HEAD = 100_000_000
"""Bytes; what the format allows."""


def fault(files: Iterable[Path]) -> str | None:
    """Return what is wrong with the first of `files` that is missing or not whole; `None` if none is."""
    for file in files:
        try:
            size = file.stat().st_size
            with file.open("rb") as content:
                length = int.from_bytes(content.read(8), "little")
                if size < 8 or length > min(size, _LONGEST_HEAD):
                    return f"{file.name} is cut short or no safetensors file ({size:,} bytes); save it again"
                head = json.loads(content.read(length))
            ends = [entry["data_offsets"][1] for name, entry in head.items() if name != "__metadata__"]
        except OSError as error:
            return f"{file.name} cannot be read: {error.strerror}"
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"{file.name} is cut short or no safetensors file; save it again"
        whole = 8 + length + max(ends, default=0)
        if size < whole:
            return f"{file.name} is cut short: {size:,} of {whole:,} bytes; copy or save it again"
        if not ends:
            return f"{file.name} holds no weights; save it again"
    return None
