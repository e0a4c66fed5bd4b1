"""Chats as other tools keep them, `messages: [{role, content}]`, taken apart into columns."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl

from emeval.errors import UserError

if TYPE_CHECKING:
    from emeval.importing.sheets import Sheet

COLUMNS = ("messages", "api_kwargs.messages", "api_kwargs")
"""Where a chat stands: the usual name, and those of llmcomp."""

REASONING = ("reasoning", "thinking")
"""Kinds of a message's parts that hold what the model thought, and keys of a message that do."""

PARTS = ("system", "question", "prompt", "response", "reasoning")
"""What a chat is taken apart into, as columns `messages.PART`."""


def unfold(sheet: Sheet) -> Sheet:
    """Return the sheet with columns `messages.PART` in place of the one that holds a chat.

    The last message of the assistant, if the chat ends with one, is the response; the user's message before
    it is the question. Turns before that one stand in front of it in `prompt`, each after its role. Raises
    `UserError` for what is no chat.
    """
    column = next((name for name in COLUMNS if name in sheet.frame.columns), None)
    if column is None:
        return sheet
    rows = []
    for row, text in enumerate(sheet.frame[column]):
        try:
            rows.append(_parts(_messages(text)) if text else dict.fromkeys(PARTS))
        except ValueError as error:
            raise UserError(f"{sheet.place(row, column)}: {error}") from None
    found = pl.DataFrame(rows, schema=dict.fromkeys(PARTS, pl.String)).rename(lambda part: f"messages.{part}")
    there = [series for series in found if series.null_count() < len(series)]
    return replace(sheet, frame=sheet.frame.drop(column).hstack(there))


def _messages(text: object) -> list[dict[str, Any]]:
    """Read a chat from JSON, or from the way Python shows it, as llmcomp's frames in a CSV have it."""
    try:
        content = json.loads(str(text))
    except (json.JSONDecodeError, RecursionError):
        try:
            content = ast.literal_eval(str(text))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ValueError("expected a list of messages {role, content} as JSON") from None
    if isinstance(content, dict):
        content = content.get("messages")
    if not isinstance(content, list) or not all(isinstance(message, dict) for message in content):
        raise ValueError("expected a list of messages {role, content}")
    return content


def _parts(messages: list[dict[str, Any]]) -> dict[str, str | None]:
    found: dict[str, str | None] = dict.fromkeys(PARTS)
    turns = []
    for message in messages:
        role = message.get("role")
        if role in ("system", "developer"):
            found["system"] = "\n\n".join(filter(None, (found["system"], text_of(message))))
        elif role in ("user", "assistant"):
            turns.append(message)
        else:
            raise ValueError(f"a message has the role {role!r}, expected system, user or assistant")
    if turns and turns[-1]["role"] == "assistant":
        last = turns.pop()
        found["response"], found["reasoning"] = text_of(last), _reasoning(last)
    if not turns or turns[-1]["role"] != "user":
        raise ValueError("there is no message of the user before the answer")
    found["question"] = text_of(turns[-1])
    earlier = [f"{turn['role']}: {text_of(turn)}" for turn in turns[:-1]]
    found["prompt"] = "\n\n".join([*earlier, f"user: {found['question']}"]) if earlier else found["question"]
    return found


def text_of(message: dict[str, Any]) -> str:
    """Return what a message says, from a text or its parts. Raises `ValueError` for what is no text."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    parts = content if isinstance(content, list) else [content]
    kinds = {part.get("type") if isinstance(part, dict) else type(part).__name__ for part in parts}
    if not kinds <= {"text", *REASONING}:
        raise ValueError(f"a message holds {', '.join(sorted(map(str, kinds)))}; only text is read")
    return "".join(str(part.get("text", "")) for part in parts if part["type"] == "text")


def _reasoning(message: dict[str, Any]) -> str | None:
    """Return the reasoning, from a key of its own or from parts of the content."""
    for key in ("reasoning_content", *REASONING):
        if isinstance(message.get(key), str) and message[key]:
            return str(message[key])
    parts = message.get("content")
    if not isinstance(parts, list):
        return None
    said = [part.get(part["type"]) for part in parts if part["type"] in REASONING]
    return "\n\n".join(str(text) for text in said if text) or None
