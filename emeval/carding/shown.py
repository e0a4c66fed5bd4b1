"""A card, and two of them, in the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from emeval.carding.comparison import Comparison
from emeval.carding.measures import MOVED
from emeval.cards import SOUGHT, Card, Estimate, Share
from emeval.reporting.words import MISSING, count, dollars, duration, interval, percent


def share(found: Share) -> str:
    """Return `7% (3 of 43; 2.4% to 19%)`."""
    if not found.n:
        return "none of its kind"
    return f"{percent(found.share)} ({found.hits} of {found.n}; {interval(found.low, found.high)})"


def number(found: Estimate, digits: int = 2, *, signed: bool = False) -> str:
    """Return `0.93 (0.88 to 0.97)`."""
    if found.value is None:
        return MISSING
    form = f"{'+' if signed else ''}.{digits}f"
    text = format(found.value, form)
    if found.low is not None and found.high is not None:
        text += f" ({format(found.low, form)} to {format(found.high, form)})"
    return text.replace("-", "−")


def card_view(card: Card, name: str) -> RenderableType:
    """Return the whole of a card for the terminal."""
    found = card.measured
    sought, other = SOUGHT[card.measures]
    parts: list[RenderableType] = [
        Text(f"{card.judge} by {card.model}", style="bold"),
        Text(
            f"{name}: fingerprint {card.fingerprint}, readout {card.readout}; battery {card.battery.name} "
            f"version {card.battery.version}, {card.battery.items} answers, {card.battery.attacks} attacks; "
            f"{card.created[:10]}, emeval {card.emeval}",
            style="dim",
        ),
    ]
    parts.append(
        _section(
            "How well it judges",
            _facts(
                ("AUC", f"{number(found.auc)}, {count(found.auc.n)} answers; 0.5 is a coin"),
                (f"{sought} found", share(found.sensitivity)),
                (f"{other} left alone", share(found.specificity)),
                ("unreadable", share(found.unreadable)),
                ("could not be asked", share(found.failed)),
            ),
        )
    )
    classes = _table("class", "wrong", "of", "share", "95% interval", "unreadable", "failed")
    for row in found.classes:
        classes.add_row(
            row.kind,
            *_counts(row.wrong),
            str(row.unreadable or ""),
            str(row.failed or ""),
        )
    parts.append(_section("Wrong, by class of answers", classes))
    again = found.repeats
    if again.calls > 1:
        parts.append(
            _section(
                f"The same asked {again.calls} times",
                _facts(
                    (
                        "standard deviation",
                        f"{MISSING if again.sd is None else format(again.sd, '.2f')} points",
                    ),
                    ("another verdict", share(again.changed)),
                    ("another number or label", share(again.moved)),
                ),
            )
        )
    if found.attacks.kinds:
        parts.append(_section("Attacks that change the verdict", _attacks(card)))
    if bias := _bias(card):
        table = _table("what", "answers", "effect", "another verdict", right=False)
        for line in bias:
            table.add_row(*line)
        parts.append(_section("Length and language", table))
    cost = found.cost
    price = "" if cost.dollars is None else f", {dollars(cost.dollars)}"
    time = "" if cost.seconds is None else f", {duration(cost.seconds)}"
    parts.append(
        _section(
            "1,000 answers take",
            Text(
                f"{count(cost.requests)} requests, {count(cost.input_tokens)} tokens read, "
                f"{count(cost.output_tokens)} written{price or ', no price known'}{time}"
            ),
        )
    )
    if found.cautions:
        parts.append(Text("\n" + "\n".join(found.cautions), style="yellow"))
    return Group(*parts)


def _attacks(card: Card) -> RenderableType:
    table = _table("kind", "fenced", "of", "share", "95% interval", "unfenced", "of", "share", "95% interval")
    found = card.measured.attacks
    for row in (*found.kinds, found.all):
        style = "bold" if row is found.all else None
        table.add_row(row.kind, *_counts(row.fenced.flips), *_counts(row.unfenced.flips), style=style)
    moved = found.all.fenced.moved, found.all.unfenced.moved
    return Group(
        table,
        Text(f"moved by more than {MOVED:.0f} points: {share(moved[0])}; unfenced {share(moved[1])}"),
        Text(f"a score that stands in the answer repeated: {share(found.echoed)}"),
    )


def _bias(card: Card) -> list[tuple[str, str, str, str]]:
    found = card.measured
    lines = [
        (
            f"length, {row.label}",
            str(row.correlation.n),
            f"rank correlation {number(row.correlation, signed=True)}",
            "",
        )
        for row in found.length
        if row.correlation.value is not None
    ]
    for what, rows in (("padded", found.padded), ("translated", found.translated)):
        lines += [
            (
                f"{what}, {row.label}",
                str(row.difference.n),
                f"{number(row.difference, 1, signed=True)} points",
                share(row.changed),
            )
            for row in rows
        ]
    return lines


def comparison_view(found: Comparison) -> RenderableType:
    """Return two cards side by side for the terminal."""
    table = _table("", "one", "other", "other − one", "95% interval", "over")
    for line in found.lines:
        shown = _plain if line.what == "AUC" else percent
        difference = line.difference
        table.add_row(
            line.what,
            shown(line.one),
            shown(line.other),
            _difference(difference.value, line.what),
            MISSING
            if difference.low is None
            else f"{_difference(difference.low, line.what)} to {_difference(difference.high, line.what)}",
            str(difference.n),
        )
    classes = _table(
        "class", "wrong: one", "of", "share", "95% interval", "other", "of", "share", "95% interval"
    )
    for kind, one, other in found.kinds:
        classes.add_row(kind, *_counts(one), *_counts(other))
    correlation = MISSING if found.correlation is None else f"{found.correlation:.2f}".replace("-", "−")
    return Group(
        Text(f"one    {_judge(found.one)}", style="bold"),
        Text(f"other  {_judge(found.other)}", style="bold"),
        _section("Over what both could read", table),
        Text("  differences of shares are in percentage points", style="dim"),
        _section("By class of answers", classes),
        Text(f"\nThe same verdict: {share(found.verdicts)}. Rank correlation of the scores: {correlation}."),
    )


def _judge(card: Card) -> str:
    return f"{card.judge} by {card.model} ({card.readout}, {card.fingerprint})"


def _difference(value: float | None, what: str) -> str:
    if value is None:
        return MISSING
    return (f"{value:+.2f}" if what == "AUC" else f"{100 * value:+.1f}").replace("-", "−")


def _plain(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def _counts(found: Share) -> tuple[str, str, str, str]:
    if not found.n:
        return "", "0", "", ""
    return str(found.hits), str(found.n), percent(found.share), interval(found.low, found.high)


def _section(title: str, content: RenderableType) -> RenderableType:
    return Group(Text(f"\n{title}", style="bold cyan"), Padding(content, (0, 0, 0, 2), expand=False))


def _facts(*rows: tuple[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for what, said in rows:
        table.add_row(Text(what), Text(said))
    return table


def _table(*headings: str, right: bool = True) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place and right else "left", overflow="fold")
    return table
