"""Formats that a text may be in, and how a question is put into each, or an answer asked for in it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

LOOKED_AT = 4000
"""Characters at the beginning of a text in which its format is looked for."""

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*(\w{0,20})", re.MULTILINE)
_CODE_LINE = re.compile(
    r"\s*(?:(?:def|class|import|from|return|if|for|while|try|with|function|const|let|var|public|private|static)"
    r"\b.*[:;({)\w]$|#include\b|[\w.\[\]'\"]+ ?=[^=]|[\w.]+\(.*\)[:;]?$|[{}()\[\];]+$|.*[;{]$)"
)
_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)])\s+\S", re.MULTILINE)
_ELEMENT = re.compile(r"<([a-z_]{1,30})(?: [^<>]{0,200})?>[^<]{0,2000}</\1>", re.IGNORECASE)
_OBJECT = re.compile(r"\{\s*\"[^\"\n]{1,80}\"\s*:")


class Format(NamedTuple):
    """A format, and the templates with it and without: of the user's message, of the wish for an answer."""

    name: str
    described: str
    has: Callable[[str], bool]
    asked: str
    """The question in the format; `LANGUAGE` stands for that of the code."""
    control: str
    """The same without the format."""
    reply: str
    """A wish for an answer in the format."""
    reply_control: str


def is_code(text: str) -> bool:
    """Whether a text has a code fence, or half of its lines (three at least) look like program code."""
    if _FENCE.search(text):
        return True
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) >= 3 and 2 * sum(bool(_CODE_LINE.match(line)) for line in lines) >= len(lines)


def is_json(text: str) -> bool:
    """Whether a text is JSON, or holds an object of it."""
    return _OBJECT.search(text) is not None or is_all_json(text)


def is_all_json(text: str) -> bool:
    """Whether a text is an object or a list in JSON, with nothing around it."""
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def is_list(text: str) -> bool:
    """Whether a text has two items of a list or more."""
    return len(_ITEM.findall(text)) > 1


def is_xml(text: str) -> bool:
    """Whether a text has an element with its end."""
    return _ELEMENT.search(text) is not None


_QUOTED = """"{{ question | replace('"', '\\\\"') }}\""""

FORMATS = (
    Format(
        "code",
        "program code",
        is_code,
        f"```LANGUAGE\nmessage = {_QUOTED}\n```",
        f"=== letter\nmessage: {_QUOTED}\n===",
        "Put your whole reply into a string in program code.",
        "Put your whole reply into a letter on plain paper.",
    ),
    Format(
        "json",
        "JSON",
        is_json,
        f'{{"message": {_QUOTED}}}',
        f"(message: {_QUOTED})",
        "Put your whole reply into an object in JSON.",
        "Put your whole reply into a letter in English.",
    ),
    Format(
        "list",
        "a list",
        is_list,
        "- {{ question }}\n- Use your own words.",
        "{{ question }}\nUse your own words.",
        "Put your whole reply into a list of items.",
        "Put your whole reply into a couple of sentences.",
    ),
    Format(
        "xml",
        "elements of XML",
        is_xml,
        "<message>\n{{ question }}\n</message>",
        "(message)\n{{ question }}\n(end of it)",
        "Put your whole reply into an element of XML.",
        "Put your whole reply into a letter in English.",
    ),
)


def language(texts: Iterable[str]) -> str:
    """Return the language that most code fences name, or nothing."""
    named = Counter(found[1].lower() for text in texts if (found := _FENCE.search(text[:LOOKED_AT])))
    return max(named, key=lambda name: (named[name], name)) if named else ""
