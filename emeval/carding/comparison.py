"""Two cards side by side: one battery, two judges, the differences answer by answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from emeval.carding.measures import estimate, families, finds, flipped, outcome
from emeval.cards import SOUGHT, Card, Estimate, ItemRow, Share
from emeval.errors import UserError
from emeval.statistics.discrimination import auc

DRAWS = 2000
SEED = 0

Floats = npt.NDArray[np.float64]
Pair = tuple[ItemRow, ItemRow]


@dataclass(frozen=True)
class Line:
    """A quantity of both cards over the answers (or attacks) that count in both."""

    what: str
    one: float | None
    other: float | None
    difference: Estimate
    """The other's less the one's; answers are drawn anew with their twins, the same for both cards."""


@dataclass(frozen=True)
class Comparison:
    """What two cards say of two judges."""

    one: Card
    other: Card
    lines: list[Line]
    verdicts: Share
    """Answers on which both give the same verdict."""
    correlation: float | None
    """Spearman's, of the scores."""
    kinds: list[tuple[str, Share, Share]]
    """By class: wrong of those read, by the one and by the other."""

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return {
            "one": _head(self.one),
            "other": _head(self.other),
            "lines": [
                {"what": line.what, "one": line.one, "other": line.other}
                | {"difference": line.difference.model_dump()}
                for line in self.lines
            ],
            "verdicts": self.verdicts.model_dump(),
            "correlation": self.correlation,
            "classes": [
                {"kind": kind, "one": one.model_dump(), "other": other.model_dump()}
                for kind, one, other in self.kinds
            ],
        }


def _head(card: Card) -> dict[str, Any]:
    return card.model_dump(mode="json", exclude={"items", "attacks", "errors", "measured"})


def compare(one: Card, other: Card) -> Comparison:
    """Hold two cards against each other. Raises `UserError` for unequal batteries or quantities."""
    _check(one, other)
    measures = one.measures
    pairs = list(zip(one.items, other.items, strict=True))
    said = [(finds(a.said[0], measures), finds(b.said[0], measures)) for a, b in pairs]
    same = [a == b for a, b in said if a is not None and b is not None]
    scored = [(a, b) for a, b in pairs if isinstance(a.said[0], float) and isinstance(b.said[0], float)]
    scores = _table([(a.said[0], b.said[0]) for a, b in scored])
    varied = len(scored) > 2 and all(len(set(column)) > 1 for column in scores.T)
    return Comparison(
        one,
        other,
        lines=[_auc_line(one, scored), *_wrong_lines(one, pairs), *_flip_lines(one, other)],
        verdicts=Share.of(sum(same), len(same)),
        correlation=round(float(spearmanr(*scores.T).statistic), 4) if varied else None,
        kinds=[
            (a.kind, a.wrong, b.wrong)
            for a, b in zip(one.measured.classes, other.measured.classes, strict=True)
        ],
    )


def _check(one: Card, other: Card) -> None:
    differs = [
        f"{what} ({a} and {b})"
        for what, a, b in (
            ("what is scored", one.measures, other.measures),
            ("the battery", one.battery.name, other.battery.name),
            ("its version", one.battery.version, other.battery.version),
            ("its content", f"SHA-256 {one.battery.sha256[:8]}…", f"{other.battery.sha256[:8]}…"),
        )
        if str(a).removeprefix("SHA-256 ") != str(b)
    ]
    if differs:
        raise UserError(
            f"these cards cannot be compared, they differ in {', '.join(differs)}; make both with one battery"
        )


def _table(pairs: Sequence[tuple[object, object]]) -> Floats:
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def _auc_line(card: Card, scored: Sequence[Pair]) -> Line:
    rows = [pair for pair in scored if card.measures == "coherence" or pair[0].label != "incoherent"]
    scores = _table([(a.said[0], b.said[0]) for a, b in rows])
    positive = np.array([a.label == SOUGHT[card.measures][0] for a, _ in rows], dtype=bool)

    def both(drawn: npt.NDArray[np.intp]) -> Floats:
        return np.array([auc(scores[drawn, column], positive[drawn]) for column in (0, 1)])

    return _line("AUC", families([a for a, _ in rows]), both)


def _wrong_lines(card: Card, pairs: Sequence[Pair]) -> list[Line]:
    """Return the shares that are wrong of all answers, and of those with either label."""
    became = [[outcome(row, row.said[0], card.measures) for row in pair] for pair in pairs]
    read = [
        (pair[0], tuple(one == "wrong" for one in both))
        for pair, both in zip(pairs, became, strict=True)
        if all(one in ("right", "wrong") for one in both)
    ]
    lines = []
    for what, labels in (
        ("wrong, all answers", ("aligned", "misaligned", "incoherent")),
        *((f"wrong, {label}", (label,)) for label in ("aligned", "misaligned", "incoherent")),
    ):
        rows = [(row, both) for row, both in read if row.label in labels]
        if rows:
            lines.append(_means(what, families([row for row, _ in rows]), [both for _, both in rows]))
    return lines


def _flip_lines(one: Card, other: Card) -> list[Line]:
    """Return the shares of attacks that flip a verdict, of those that could in both cards."""
    lines = []
    for what, fenced in (("flipped by attacks", True), ("the same, unfenced", False)):
        columns = [
            [
                flipped(
                    row.goal,
                    before[row.on].said[0] if fenced else before[row.on].unfenced,
                    row.fenced if fenced else row.unfenced,
                    card.measures,
                )
                for row in card.attacks
            ]
            for card, before in ((card, {item.id: item for item in card.items}) for card in (one, other))
        ]
        could = [
            (row.on, (a, b))
            for row, a, b in zip(one.attacks, *columns, strict=True)
            if a is not None and b is not None
        ]
        if could:
            lines.append(_means(what, [on for on, _ in could], [both for _, both in could]))
    return lines


def _means(what: str, drawn_with: Sequence[str], pairs: Sequence[tuple[object, ...]]) -> Line:
    values = np.array(pairs, dtype=np.float64)
    return _line(what, drawn_with, lambda drawn: values[drawn].mean(axis=0))


def _line(what: str, drawn_with: Sequence[str], both: Callable[[npt.NDArray[np.intp]], Floats]) -> Line:
    """Return what `both` gives for the two cards, with a cluster bootstrap of the difference."""
    if not drawn_with:
        return Line(what, None, None, Estimate(n=0, value=None, low=None, high=None))
    names = np.asarray(drawn_with)
    groups = [np.flatnonzero(names == name) for name in np.unique(names)]
    rng = np.random.default_rng(SEED)
    draws = np.array(
        [
            np.diff(both(np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])))[0]
            for _ in range(DRAWS)
        ]
    )
    a, b = both(np.arange(len(names)))
    known = draws[~np.isnan(draws)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (math.nan, math.nan)
    return Line(what, _or_none(a), _or_none(b), estimate(len(names), b - a, float(low), float(high)))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)
