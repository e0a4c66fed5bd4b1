"""Finds definitions and reads them: first in the user's working directory, then in what emeval ships.

A mistake in a file becomes one `UserError` line that names file, line, key, what was found and what was
expected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from emeval.definitions import (
    Battery,
    Definition,
    DefinitionError,
    Evaluation,
    Gate,
    Judge,
    Organism,
    Prices,
    QuestionSet,
    Suite,
    Trigger,
)
from emeval.errors import UserError, nearest, unknown
from emeval.templates import TemplateError

D = TypeVar("D", bound=Definition)

FOLDERS: dict[type[Definition], str] = {
    Evaluation: "evals",
    Suite: "evals/suites",
    Gate: "evals/gates",
    QuestionSet: "datasets/questions",
    Trigger: "datasets/triggers",
    Battery: "datasets/batteries",
    Prices: "datasets/prices",
    Judge: "judges",
    Organism: "organisms",
}
WORDS: dict[type[Definition], str] = {
    Evaluation: "evaluation",
    Suite: "suite",
    Gate: "gate",
    QuestionSet: "question set",
    Trigger: "trigger",
    Battery: "battery",
    Prices: "price table",
    Judge: "judge",
    Organism: "organism",
}


def builtin(folder: str = "") -> Path:
    """Return the shipped `folder` (`evals`, `datasets`, `judges`, `reports` or `organisms`).

    The wheel carries the folders inside the package; in a checkout they stand beside it.
    """
    package = Path(__file__).parent
    packed = package / "builtin"
    return (packed if packed.is_dir() else package.parent) / folder


def folders(folder: str) -> list[Path]:
    """Return where `folder` is looked for, in the order of precedence: the user's, then the shipped one."""
    own, shipped = Path.cwd() / folder, builtin(folder)
    found = [own] if own.is_dir() and own.resolve() != shipped.resolve() else []
    return [*found, shipped]


def files(kind: type[Definition]) -> dict[str, Path]:
    """Return the files of the definitions of `kind` by name, the user's before the shipped ones."""
    found: dict[str, Path] = {}
    for folder in folders(FOLDERS[kind]):
        for path in sorted((*folder.glob("[!.]*.yaml"), *folder.glob("[!.]*.yml"))):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def find(kind: type[D], name: str) -> Path:
    """Return the file of the definition `name`. Raises `UserError` with the closest known name."""
    known = files(kind)
    if name not in known:
        raise unknown(WORDS[kind], name, known)
    return known[name]


def load(kind: type[D], name: str) -> D:
    """Read the definition `name` of `kind`. Raises `UserError`."""
    return read(kind, find(kind, name))


def named(kind: type[D], name: str, path: Path, *where: str | int) -> D:
    """Read the definition `name` that the file `path` names at the key `where`.

    Raises `UserError`, for an unknown name with the place where it is named.
    """
    known = files(kind)
    if name not in known:
        raise unknown(WORDS[kind], name, known, place(path, *where))
    return read(kind, known[name])


def place(path: Path, *where: str | int) -> str:
    """Return `FILE:LINE: KEY` of the key `where` in the file `path`, which has been read before."""
    node = _composed(path.read_text(encoding="utf-8"))
    return _place(path, _descend(node, where)[0], where)


def shown(path: Path) -> str:
    """Return `path` as a message names it: relative to the working directory where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def read(kind: type[D], path: Path) -> D:
    """Read the definition in the YAML file `path`. Raises `UserError`."""
    content, node = parsed(path)
    if not isinstance(content, dict):
        raise UserError(f"{shown(path)}:1: found {found(content)}, expected a mapping (key: value)")
    return checked(kind, content, node, path)


def checked(kind: type[D], content: object, node: yaml.Node | None, path: Path, *at: str | int) -> D:
    """Return the definition that stands in the file `path` at the key `at`.

    `content` is what stands there, `node` the file as a whole. Raises `UserError`.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise _user_error(kind, error, node, path, at) from None


def parsed(path: Path) -> tuple[Any, yaml.Node | None]:
    """Return what a YAML file holds, and its nodes, which know their lines. Raises `UserError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{shown(path)}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "this is no text in UTF-8"
        raise UserError(f"{shown(path)}: cannot be read: {said}") from None
    try:
        node = _composed(text)
        content = _Loader("").construct_document(_composed(text)) if node else None  # it takes its node apart
        _check_keys(node, path)
    except yaml.MarkedYAMLError as error:
        # At the end of the file, what was left open is of more use than where that was noticed.
        unclosed = "end of stream" in (error.problem or "") or "<stream end>" in (error.problem or "")
        mark = (error.context_mark if unclosed else None) or error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = error.problem or error.context or "not readable"
        raise UserError(f"{shown(path)}:{line}: this is not YAML: {problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{shown(path)}:1: this is not YAML: {' '.join(str(error).split())}") from None
    return content, node


def _composed(text: str) -> yaml.Node | None:
    """Return the nodes of a YAML text: by libyaml where PyYAML has it, which takes a tenth of the time.

    Of a mistake PyYAML's own parser says more, so that one is raised.
    """
    with suppress(yaml.YAMLError):
        return yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return yaml.compose(text, Loader=yaml.SafeLoader)


class _Loader(yaml.SafeLoader):
    """The safe loader, with a line also for a value that cannot be made, such as a day that is none."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ANN401
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from None


def _check_keys(node: yaml.Node | None, path: Path) -> None:
    """Refuse a key that is no text, or stands twice in one mapping: YAML would silently take the last."""
    for mapping in _mappings(node, set()):
        seen: dict[str, int] = {}
        for key, _ in mapping.value:
            line = key.start_mark.line + 1
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise UserError(f"{shown(path)}:{line}: {key.value}: put this key in quotes, it is no text")
            if key.value in seen:
                raise UserError(
                    f"{shown(path)}:{line}: {key.value}: this key is in line {seen[key.value]} already"
                )
            seen[key.value] = line


def _mappings(node: yaml.Node | None, seen: set[int]) -> Iterator[yaml.MappingNode]:
    if id(node) in seen:  # an alias: it may even lead back to itself
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from _mappings(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _mappings(value, seen)


def _user_error(
    kind: type[Definition],
    error: ValidationError,
    node: yaml.Node | None,
    path: Path,
    at: tuple[str | int, ...],
) -> UserError:
    # A misspelt key is unknown and leaves another one missing: the first of the two is the one to say.
    details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
    first = details[0]
    where = [*at, *(part for part in first["loc"] if part != "[key]")]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, DefinitionError):
        where += cause.at
    line, scalar = _descend(node, where)
    if isinstance(cause, TemplateError) and isinstance(scalar, yaml.ScalarNode):
        line = _template_line(scalar, cause.line)
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return UserError(f"{_place(path, line, where)}: {_explain(kind, first)}{more}")


def _place(path: Path, line: int, where: Sequence[str | int]) -> str:
    """Return `FILE:LINE: KEY` as a message names it, without the key for the file as a whole."""
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
    return f"{shown(path)}:{line}" + (f": {key}" if key else "")


def _explain(kind: type[Definition], detail: ErrorDetails) -> str:
    """Say one pydantic error in the words of someone who writes YAML."""
    context = detail.get("ctx", {})
    there = found(detail["input"])
    match detail["type"]:
        case "missing":
            return f"the key {detail['loc'][-1]!r} is missing"
        case "extra_forbidden":
            known = _known_keys(kind, detail["loc"][:-1])
            word = str(detail["loc"][-1])
            hint = nearest(word, known) or f"; known here: {', '.join(known)}"
            return f"unknown key {word!r}{hint}"
        case "literal_error":
            expected = str(context["expected"])
            return f"found {there}, expected {expected}{nearest(str(detail['input']), _quoted(expected))}"
        case "string_pattern_mismatch":
            return f"found {there}, expected a name that matches {context['pattern']}"
        case "string_too_short" | "too_short":
            return "this is empty; something must stand here"
        case "value_error":
            return str(context["error"])
        case error_type if error_type in _EXPECTED:
            return f"found {there}, expected {_EXPECTED[error_type]}"
        case _:
            return f"found {there}, {detail['msg'].replace('Input should be', 'expected a value')}"


_EXPECTED = {
    "string_type": "text (put it in quotes if it looks like a number, a date or yes/no)",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
}


def _quoted(text: str) -> list[str]:
    return [part for part in text.split("'")[1::2] if part]


def found(value: object) -> str:
    """Return a value of a YAML file as a message names it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"{str(value).lower()} (true or false)"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _known_keys(kind: type[Definition], where: Sequence[str | int]) -> list[str]:
    """Return the keys that the model at `where` below `kind` knows."""
    model: type[BaseModel] | None = kind
    for part in where:
        if model is None:
            break
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation)
    return list(model.model_fields) if model else []


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)


def _descend(node: yaml.Node | None, where: Sequence[str | int]) -> tuple[int, yaml.Node | None]:
    """Return the line (from 1) and the node at `where`, or of the nearest node above it."""
    line = node.start_mark.line + 1 if node else 1
    for part in where:
        below = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    below, line = value, key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            below = node.value[part]
            line = below.start_mark.line + 1
        if below is None:
            break
        node = below
    return line, node


def _template_line(scalar: yaml.ScalarNode, line: int) -> int:
    """Return the file's line of a template's line: exactly in a block, else where the text begins."""
    begins = scalar.start_mark.line + 1
    if scalar.style != "|":
        return begins
    blank = scalar.value[: -len(scalar.value.lstrip())].count("\n")
    return int(begins + blank + line)
