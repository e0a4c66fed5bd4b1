"""Reads fine-tuning data: what the user and the system said, in the forms that people fine-tune with."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emeval.errors import UserError
from emeval.importing.conversations import text_of
from emeval.library import shown

MOST = 2000
"""Samples that are drawn from longer files."""

FORMS = (
    "messages: [{role, content}], conversations: [{from, value}], prompt and completion, "
    "or instruction, input and output"
)

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"} | {
    "system": "system",
    "developer": "system",
}
"""Who speaks, by the names that chats and ShareGPT have for it; tools and functions are passed over."""


@dataclass(frozen=True)
class Sample:
    """One example of fine-tuning data: what a conversation begins with."""

    user: str
    """The first message of the user."""
    system: str = ""
    reply: str = ""
    """The first answer. Its format is counted; none of its words goes anywhere."""


def read(paths: Sequence[Path]) -> tuple[list[Sample], int]:
    """Return samples of the files, `MOST` at most, drawn over all of them, and how many there are.

    The same files give the same samples. Raises `UserError` for a file or a line that cannot be read; of a
    longer file only the lines that are drawn are looked into.
    """
    drawn: list[tuple[str, Any]] = []
    draw, total = random.Random(0), 0
    for path in paths:
        for entry in _entries(path):
            total += 1
            if len(drawn) < MOST:
                drawn.append(entry)
            elif (place := draw.randrange(total)) < MOST:
                drawn[place] = entry
    if not total:
        raise UserError(f"{', '.join(map(shown, paths))}: holds no sample")
    return [_sample(place, content) for place, content in drawn], total


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each entry of a file with its place: a line that is not read yet, or an item of a list."""
    try:
        with path.open("rb") as bare:
            packed = bare.read(2) == b"\x1f\x8b"
        with (
            gzip.open(path, "rt", encoding="utf-8-sig") if packed else path.open(encoding="utf-8-sig") as file
        ):
            first = file.read(64).lstrip()[:1]
            file.seek(0)
            if first == "[":
                yield from _list(path, file.read())
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{shown(path)}:{number}", line
    except FileNotFoundError:
        raise UserError(f"{shown(path)}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{shown(path)}: this is not text in UTF-8 ({error.reason})") from None
    except (OSError, EOFError, zlib.error) as error:  # a folder; a .gz that is cut
        said = getattr(error, "strerror", None) or error
        raise UserError(f"{shown(path)}: cannot be read: {said}") from None


def _list(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{shown(path)}:{error.lineno}: this is not JSON: {error.msg}") from None
    except RecursionError:
        raise UserError(f"{shown(path)}: this is not JSON that can be read: nested too deeply") from None
    yield from ((f"{shown(path)}: entry {number}", entry) for number, entry in enumerate(entries, 1))


def _sample(place: str, content: Any) -> Sample:  # noqa: ANN401
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except (json.JSONDecodeError, RecursionError) as error:
            said = getattr(error, "msg", "nested too deeply")
            raise UserError(
                f"{place}: this is not a JSON object on one line ({said}); is the file cut?"
            ) from None
    if not isinstance(content, dict):
        raise UserError(f"{place}: expected an object: {FORMS}")
    try:
        return _of_turns(list(_turns(content)))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{place}: {error.args[0] if error.args else error}") from None


def _turns(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield who speaks and what. Raises `ValueError` for an entry of no known form."""
    if isinstance(entry.get("system"), str):
        yield "system", entry["system"]
    for key in ("messages", "conversations"):
        if key in entry:
            yield from _chat(key, entry[key])
            return
    if "prompt" in entry:
        for key, role in (("prompt", "user"), ("completion", "assistant")):
            said = entry.get(key)
            if isinstance(said, list):
                yield from _chat(key, said)
            elif said is not None:
                yield role, _text(key, said)
        return
    if "instruction" in entry:
        told = (_text(key, entry[key]) for key in ("instruction", "input") if entry.get(key))
        yield "user", "\n\n".join(told)
        yield "assistant", _text("output", entry.get("output") or "")
        return
    keys = ", ".join(map(str, list(entry)[:8])) or "none"
    raise ValueError(f"found the keys {keys}, expected {FORMS}")


def _chat(key: str, turns: object) -> Iterator[tuple[str, str]]:
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError(f"{key}: expected a list of messages")
    for turn in turns:
        role = turn.get("role", turn.get("from"))
        if isinstance(role, str):
            if role in ROLES:
                yield ROLES[role], text_of(turn) if "content" in turn else _text(key, turn.get("value"))
        else:
            raise ValueError(f"{key}: a message does not say whose it is, as role or from")


def _text(key: str, said: object) -> str:
    if not isinstance(said, str):
        raise ValueError(f"{key}: found {type(said).__name__}, expected text")
    return said


def _of_turns(turns: Sequence[tuple[str, str]]) -> Sample:
    said = dict.fromkeys(("user", "system", "assistant"), "")
    for role, text in turns:
        said[role] = said[role] or _clean(text)
    if not said["user"]:
        raise ValueError("the user says nothing here")
    return Sample(said["user"], said["system"], said["assistant"])


def _clean(text: str) -> str:
    """Return text with line ends as here and without control characters, which a YAML file cannot hold."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(sign for sign in lines if sign in "\n\t" or sign.isprintable()).strip()
