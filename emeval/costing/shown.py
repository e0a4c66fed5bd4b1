"""Costs in words and tables."""

from __future__ import annotations

import polars as pl
from rich.table import Table
from rich.text import Text

from emeval.costing.estimate import Amount, Estimate, Part
from emeval.manifest import Manifest
from emeval.reporting.words import count, dollars, duration, few

PROBE = "--probe asks a few answers, which are kept"
"""How the time of a run gets known."""


def stopped(manifest: Manifest, table: pl.LazyFrame) -> str:
    """Return what became of a run that stopped at its `--max-cost`: what it cost, and what is left."""
    wanted = len(manifest.models) * sum(one.asked for one in manifest.evaluations)
    there = table.filter(pl.col("error").is_null()).select(pl.len()).collect().item()
    left = f"{count(wanted - there)} of {count(wanted)} answers are left"
    if there == wanted:
        left = "all answers are there, and a further judging is left"
    return (
        f"stopped before --max-cost {manifest.stopped_at_usd:g} could be passed: "
        f"{dollars(manifest.cost_usd)} spent; {left}; the same command with a larger amount goes on"
    )


def table(found: Estimate) -> Table:
    """Return what is left to ask as a table for the terminal."""
    shown = Table(box=None, pad_edge=False)
    for name in ("", "model"):
        shown.add_column(name)
    for name in ("requests", "tokens in", "tokens out", "cost", "at most"):
        shown.add_column(name, justify="right")
    for part in found.parts:
        left, most = part.expected, part.most
        asked = count(left.requests)
        if round(most.requests) > round(left.requests):
            asked += f" to {count(most.requests)}"
        cost, bound = ("by the hour", "") if part.by_hour else (_usd(part, left), _usd(part, most))
        shown.add_row(
            part.role,
            Text(part.model),
            asked,
            ("" if part.counted.startswith("by") else "~") + count(left.input_tokens),
            count(left.output_tokens),
            cost,
            bound,
        )
    return shown


def _usd(part: Part, amount: Amount) -> str:
    return dollars(amount.usd(part.price))


def lines(found: Estimate, max_cost: float | None = None, timed: str = PROBE) -> list[str]:
    """Return what stands below the table: totals, time, where the prices are from, and what is not known.

    `timed` says how the time gets known where it is not.
    """
    said = [f"{count(found.left)} of {count(found.answers)} answers are left to ask for."]
    for name, hour in found.hourly_usd.items():
        if not hour:  # it takes turns with another one
            continue
        price = f"{name}: {dollars(hour)} an hour"
        worth = "; how long is not known" if found.seconds is None else f" for {duration(found.seconds)}"
        said.append(price + worth + ".")
    usd, most = found.usd(), found.usd(most=True)
    if usd is not None:
        said.append(
            f"Cost: about {dollars(usd)}" + (f", at most {dollars(most)}." if most is not None else ".")
        )
    elif found.unpriced:
        said.append(
            f"Cost: not known, since no price of {few(found.unpriced)} is; write one into a file of your "
            "own, datasets/prices/NAME.yaml." + " Without it --max-cost is refused." * (max_cost is not None)
        )
    else:
        said.append("Cost: not known without the time.")
    if max_cost is not None and usd is not None:
        enough = most is not None and most <= max_cost
        likely = "is enough" if enough else "may be enough" if usd <= max_cost else "is not enough"
        said.append(f"--max-cost {max_cost:g} {likely}.")
    if found.seconds is None:
        said.append(f"Time: not known; {timed}.")
    else:
        said.append(f"Time: about {duration(found.seconds)}.")
    counted: dict[str, list[str]] = {}
    for part in found.parts:
        if part.counted.startswith("about"):
            counted.setdefault(part.counted.removeprefix("about: "), []).append(part.model)
    said += [f"Tokens in of {few(names)} are an estimate: {how}." for how, names in counted.items()]
    said += dict.fromkeys(
        f"Prices of {part.price.as_of}: {part.price.source}."
        for part in found.parts
        if part.price and not part.model.startswith("local/")
    )
    return said + found.notes
