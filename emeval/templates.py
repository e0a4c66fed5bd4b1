"""Prompt templates: Jinja2 in a sandbox, with every variable checked when the template is read."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from functools import lru_cache

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from emeval.errors import nearest


def environment() -> ImmutableSandboxedEnvironment:
    """Return a sandbox in which a template can only read what it is given."""
    sandbox = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    sandbox.globals.clear()  # `range(10**12)` and the like
    del sandbox.filters["random"]  # a prompt is the same every time
    return sandbox


_ENVIRONMENT = environment()


class TemplateError(ValueError):
    """A template that cannot be used; `line` counts from 1 within the template."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def check_template(text: str, variables: Mapping[str, object]) -> str:
    """Return `text` if it is a template over `variables`, else raise `TemplateError`."""
    try:
        tree = _ENVIRONMENT.parse(text)
        undeclared = sorted(meta.find_undeclared_variables(tree))
    except TemplateSyntaxError as error:
        raise TemplateError(f"the template cannot be read: {error.message}", error.lineno) from None
    known = list(variables)
    for name in undeclared:
        if name not in known:
            line = next((node.lineno for node in tree.find_all(nodes.Name) if node.name == name), 1)
            hint = nearest(name, known) or f"; a template here may use {', '.join(known)}"
            raise TemplateError(f"the template uses the undefined variable {name!r}{hint}", line)
    try:
        render(text, **variables)
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == "<template>"]
        line = (frames[-1].lineno if frames else None) or 1
        raise TemplateError(f"the template cannot be used: {error}", line) from None
    return text


@lru_cache(maxsize=512)
def _compiled(text: str) -> Template:
    return _ENVIRONMENT.from_string(text)


def render(text: str, **values: object) -> str:
    """Render the template `text` over `values`. Raises `jinja2.TemplateError` for a fault met on the way."""
    return _compiled(text).render(**values)


def literal(text: str) -> str:
    """Return a template that renders `text`, whatever is in it: `text` itself where it does that."""
    try:
        if text == text.strip() and render(text) == text:
            return text
    except Exception:  # it reads as a template, of something else
        pass
    return f"{{{{ {text!a} }}}}"


def uses_variable(text: str, name: str) -> bool:
    """Whether the template `text` (one that can be read) uses the variable `name`."""
    return name in meta.find_undeclared_variables(_ENVIRONMENT.parse(text))


def needs_variable(text: str, name: str) -> str:
    """Return the template `text` if it uses the variable `name`, else raise `TemplateError`."""
    if not uses_variable(text, name):
        raise TemplateError(f"the template never uses {{{{ {name} }}}}", 1)
    return text
