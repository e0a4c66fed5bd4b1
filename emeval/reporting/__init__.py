"""Reports: what a run found, as a page, as Markdown, as data and as charts."""

from emeval.reporting.report import write_report
from emeval.reporting.summary import summarise

__all__ = ["summarise", "write_report"]
