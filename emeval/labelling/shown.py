"""What the terminal shows of labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from emeval.gold import GOLD_LABELS
from emeval.labelling.exchange import TOLD
from emeval.reporting.words import MISSING, count, plural


def address_lines(address: str) -> str:
    """Return what is said of the page that is being served."""
    return f"label answers on this page; each label is saved at once, and Ctrl-C ends it:\n{address}"


def counts_table(content: Mapping[str, Any]) -> Table:
    """Return the labels of each rater as a table; `content` is that of `emeval.labelling.account`."""
    table = Table(box=None, pad_edge=False)
    table.add_column("rater")
    for name in ("labels", *GOLD_LABELS):
        table.add_column(name, justify="right")
    for one in content["raters"]:
        table.add_row(Text(one["rater"]), count(one["n"]), *(count(n) for n in one["labels"].values()))
    return table


def in_words(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield what came in and went out, how many answers have labels, how far raters agree, a line each."""
    if taken := content.get("imported"):
        for key, said in TOLD.items():
            if taken[key]:
                yield f"{plural(taken[key], 'row')} of {taken['file']} {said}"
    if written := content.get("exported"):
        yield f"{plural(written['labels'], 'label')} written to {written['file']}"
    yield f"{plural(content['answers'], 'answer')} labelled by {plural(len(content['raters']), 'rater')}"
    for pair in content["pairs"]:
        yield (
            f"{pair['first']} and {pair['second']}: the same label for {count(pair['same'])} of "
            f"{plural(pair['n'], 'answer')} that both labelled; Cohen's kappa {_measured(pair)}"
        )
    if len(content["raters"]) > 1 and (alpha := content["alpha"]):
        yield (
            f"all raters: Krippendorff's alpha {_measured(alpha)} over {plural(alpha['n'], 'answer')} with "
            "two labels or more; unsure counts as no label"
        )


def _measured(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return MISSING
    bounds = "no interval"
    if found["low"] is not None:
        bounds = f"95% interval {_number(found['low'])} to {_number(found['high'])}"
    return f"{_number(found['value'])} ({bounds}, {plural(found['questions'], 'question')})"


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
