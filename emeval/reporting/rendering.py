"""Renders the templates of a page and its Markdown, so that nothing in an answer can run.

What a model answered is untrusted text. It reaches the page as escaped text or as JSON that no script
runs, the page's own script shows it with `textContent` only, and the page's security policy lets nothing
run but the two scripts named in it by their hashes, and nothing be fetched at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import jinja2
from jinja2 import meta
from markupsafe import Markup

from emeval import library
from emeval.errors import UserError
from emeval.reporting import words
from emeval.reporting.engine import engine

Files: TypeAlias = Mapping[str, str]
"""The files of a page, each with the template that it is made from."""


def compiled(files: Files, templates: Sequence[Path]) -> jinja2.Environment:
    """Return what renders `files`, their templates and all that those include read and compiled.

    `templates` are folders that are searched for each template before the shipped `reports/`. Raises
    `UserError` for a template that cannot be read.
    """
    environment = _environment(templates)
    names = [*files.values()]
    with _faults():
        for name in names:  # which grows by what each includes
            environment.get_template(name)
            found = meta.find_referenced_templates(environment.parse(_source(environment, name)))
            names += [one for one in found if one and one not in names]
    return environment


def render(files: Files, context: Mapping[str, Any], environment: jinja2.Environment) -> dict[str, str]:
    """Return the content of each of `files`; `environment` is that of `compiled`.

    Beside `context` a template sees `engine`, `script` and `style`, which the page holds as they are. Raises
    `UserError` for a template that cannot be used.
    """
    with _faults():
        script, style = (_source(environment, name) for name in ("page.js", "page.css"))
        shared = {"engine": Markup(engine()), "script": script, "style": style}
        return {
            name: environment.get_template(template).render({**context, **shared})
            for name, template in files.items()
        }


@contextmanager
def _faults() -> Iterator[None]:
    """Tell the user of a fault in a template in one line."""
    try:
        yield
    except jinja2.TemplateSyntaxError as error:
        raise UserError(
            f"{library.shown(Path(error.filename or ''))}:{error.lineno}: {error.message}"
        ) from None
    except jinja2.TemplateError as error:
        raise UserError(f"a template of the report cannot be rendered: {error}") from None


def _environment(templates: Sequence[Path]) -> jinja2.Environment:
    """Return what finds and renders the templates: the user's folders first, HTML escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*templates, library.builtin("reports")]),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: words.printable(value) if type(value) is str else value,
    )
    environment.filters |= {
        name: getattr(words, name)
        for name in (
            *("percent", "points", "p_value", "count", "score", "dollars", "duration", "plural", "listed"),
            *("one_line", "markdown", "fenced", "clipped", "coefficient"),
        )
    }
    environment.filters |= {"script_json": _script_json, "csp_hash": _csp_hash}
    environment.globals |= {"interval": words.interval, "DENOMINATORS": words.DENOMINATORS}
    return environment


def _source(environment: jinja2.Environment, name: str) -> Markup:
    """Return a style sheet or script as it stands in its file; braces in it mean nothing to Jinja2."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _script_json(value: object) -> Markup:
    """Return `value` as JSON that can stand in a `script` element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(words.printable(text))


def _csp_hash(source: str) -> Markup:
    """Return the hash by which a Content-Security-Policy allows an inline script or style."""
    digest = hashlib.sha256(source.encode("utf-8")).digest()
    return Markup(f"'sha256-{base64.b64encode(digest).decode('ascii')}'")
