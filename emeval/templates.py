"""Prompt templates: Jinja2 in a sandbox, with every variable checked when the template is read."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from jinja2 import StrictUndefined, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from emeval.errors import nearest


def environment() -> ImmutableSandboxedEnvironment:
    """Return a sandbox in which a template can only read what it is given."""
    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False
    )


_ENVIRONMENT = environment()


class TemplateError(ValueError):
    """A template that cannot be used; `line` counts from 1 within the template."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def check_template(text: str, variables: Iterable[str]) -> str:
    """Return `text` if it is a template over `variables`, else raise `TemplateError`."""
    try:
        tree = _ENVIRONMENT.parse(text)
    except TemplateSyntaxError as error:
        raise TemplateError(f"the template cannot be read: {error.message}", error.lineno) from None
    known = list(variables)
    for name in sorted(meta.find_undeclared_variables(tree)):
        if name not in known:
            line = next((i for i, row in enumerate(text.splitlines(), 1) if name in row), 1)
            hint = nearest(name, known) or f"; a template here may use {', '.join(known)}"
            raise TemplateError(f"the template uses the undefined variable {name!r}{hint}", line)
    return text


@lru_cache(maxsize=512)
def _compiled(text: str) -> object:
    return _ENVIRONMENT.from_string(text)


def render(text: str, **values: object) -> str:
    """Render the template `text` over `values`. Raises `jinja2.TemplateError` for a fault met on the way."""
    template = _compiled(text)
    return str(template.render(**values))  # type: ignore[attr-defined]
