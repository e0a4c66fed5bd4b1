"""Reports: what a run found, as a page, as Markdown, as data and as charts."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["summarise", "write_report"]

if TYPE_CHECKING:
    from emeval.reporting.report import write_report
    from emeval.reporting.summary import summarise


def __getattr__(name: str) -> object:
    """Import what is asked for only then: a report reads already while it loads what it counts with."""
    from importlib import import_module

    if name in __all__:
        return getattr(import_module(f"emeval.reporting.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'emeval.reporting' has no attribute {name!r}")


_WHERE = {"summarise": "summary", "write_report": "report"}
