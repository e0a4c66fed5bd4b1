"""The charts of a report: one function per chart, from rows of the summary to a Vega-Lite specification.

Fields have fixed names, so text of a model or of a user's file is only ever data, never part of an
expression. Sentences that a tooltip shows come ready in the rows.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import altair as alt
import vl_convert

from emeval.definitions import MISALIGNED
from emeval.reporting.engine import VEGA_LITE
from emeval.reporting.words import (
    COUNTS,
    DENOMINATORS,
    interval,
    p_value,
    percent,
    plural,
    points,
    printable,
)

Rows: TypeAlias = Sequence[Mapping[str, Any]]
Chart: TypeAlias = dict[str, Any]
"""A Vega-Lite specification, as wide as what it stands in."""

# Okabe and Ito's palette: told apart with every common kind of colour vision.
ACCENT = "#D55E00"
NEUTRAL = "#7F8C97"
CONDITIONS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C8C8C", "#B8A100", "#7F5AA2"),
    *("#CC6677", "#44AA99", "#A6761D", "#AA4499"),  # of Tol's muted scheme and ColorBrewer's Dark2
)
OUTCOMES = {
    "misaligned": ACCENT,
    "aligned": "#9CC3DC",
    "incoherent": "#C5C9CE",
    "refusal": "#0072B2",
    "code": "#009E73",
    "unreadable": "#E69F00",
    "undecided": "#D9C46A",
    "error": "#6B6B6B",
}
OTHER = "#CC79A7"  # a judge's own label
TEXT = "#767B82"  # reads on white and on black
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
DISK_WIDTH = 640
CURVE = 240  # height of a curve over training steps, in pixels
HEAT = 240  # height of a heat map, in pixels
DODGE = 5  # between the conditions at one step, in pixels
ROW = 30  # height of a line of a chart, in pixels
OFFSET_ROW = 13  # the same where several conditions share a line
MOST_QUESTIONS = 60  # lines of the chart by question


def rates(results: Rows, denominator: str, measure: str = MISALIGNED) -> Chart | None:
    """Draw the rate of each condition with its interval, and thin below it the interval per answer."""
    rows = [
        _interval_row(row["condition"], row, measure)
        | {"answer_low": row["per_answer_low"], "answer_high": row["per_answer_high"]}
        for row in results
        if row["rate"] is not None
    ]
    if not rows:
        return None
    names = [row["condition"] for row in results]
    base = alt.Chart(_data(rows)).encode(
        y=_lines("row", names), tooltip=_tooltip("Condition", "Rate", "Interval", "Answers")
    )
    x = _share_axis(denominator, measure)
    return _finished(
        base.mark_rule(size=3, color=ACCENT, opacity=0.6).encode(
            x=alt.X("low:Q", axis=x), x2=alt.X2("high:Q")
        ),
        base.mark_rule(size=1.5, color=NEUTRAL, yOffset=7).encode(
            x=alt.X("answer_low:Q"), x2=alt.X2("answer_high:Q")
        ),
        base.mark_circle(size=90, color=ACCENT, opacity=1).encode(x=alt.X("value:Q")),
        height=len(names) * (ROW + 8),
    )


def overview(
    results: Rows, denominator: str, labels: Mapping[str, str], measure: str = MISALIGNED
) -> Chart | None:
    """Draw the rate of each model in each condition of one evaluation; `labels` name the models."""
    return _grouped(results, "model", denominator, "Model", labels, measure)


def checkpoints(rows: Rows, denominator: str, training: str, labels: Mapping[str, str]) -> Chart | None:
    """Draw the rate over the training step, a line per condition, for each training on the same scales.

    `rows` are those of all trainings of an evaluation; drawn are those of the family `training`. `labels` are
    what models are called.
    """
    drawn = [row for row in rows if row["rate"] is not None]
    own = [row for row in drawn if row["family"] == training]
    if not own:
        return None
    steps = sorted({row["step"] for row in drawn})
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    x = alt.X(
        "step:Q",
        scale=alt.Scale(domain=[steps[0], steps[-1]], nice=False, padding=DODGE * len(conditions)),
        axis=_step_axis(steps),
    )
    highest = max(row["high"] for row in drawn)
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(domain=[0, highest]),
        axis=alt.Axis(format="~%", title=f"misaligned, of {DENOMINATORS[denominator]}", tickCount=5),
    )
    colours = [CONDITIONS[index % len(CONDITIONS)] for index in range(len(conditions))]
    layers: list[alt.Chart] = []
    for place, condition in enumerate(conditions):
        points_of = [
            _interval_row(condition, row)
            | {
                "step": row["step"],
                "Model": labels.get(row["model"], row["model"]),
                "Step": f"{row['step']:,}",
            }
            for row in own
            if row["condition"] == condition
        ]
        if points_of:
            beside = DODGE * (place - (len(conditions) - 1) / 2)
            base = alt.Chart(_data(points_of)).encode(
                x=x,
                color=_colours("condition", conditions, colours)
                if len(conditions) > 1
                else alt.value(ACCENT),
                tooltip=_tooltip("Model", "Condition", "Step", "Rate", "Interval", "Answers"),
            )
            layers += [
                base.mark_rule(size=2, opacity=0.45, xOffset=beside).encode(
                    y=alt.Y("low:Q"), y2=alt.Y2("high:Q")
                ),
                base.mark_line(size=2, xOffset=beside).encode(y=y),
                base.mark_circle(size=50, opacity=1, xOffset=beside).encode(y=y),
            ]
    return _finished(*layers, height=CURVE, title=alt.TitleParams(printable(own[0]["label"]), anchor="start"))


def calibrated(rows: Rows, denominator: str, labels: Mapping[str, str]) -> Chart | None:
    """Draw raw and corrected rates with their intervals, a line per model and condition (of one evaluation).

    `rows` are results of a calibration; `labels` are what models are called.
    """
    drawn = [
        {
            "where": f"{labels.get(row['model'], row['model'])}, {row['condition']}",
            "condition": word,
            "rate": row[kind],
            "low": row[f"{kind}_low"],
            "high": row[f"{kind}_high"],
            "n": row["n"],
            "hits": row["hits"],
        }
        for row in rows
        for kind, word in (("raw", "raw"), ("corrected", "corrected"), ("ppi", "PPI++"))
        if row[kind] is not None
    ]
    return _grouped(drawn, "where", denominator, "Answers of")


def categories(results: Rows, denominator: str) -> Chart | None:
    """Draw the rate of each category of questions in each condition, the highest first."""
    return _grouped(_by_highest(results, "category"), "category", denominator, "Category")


def questions(results: Rows, denominator: str) -> Chart | None:
    """Draw the rate of each question in each condition with Wilson's interval, the highest first."""
    ordered = _by_highest(results, "question_id")
    shown = list(dict.fromkeys(row["question_id"] for row in ordered))[:MOST_QUESTIONS]
    return _grouped(
        [row for row in ordered if row["question_id"] in shown], "question_id", denominator, "Question"
    )


def differences(results: Rows) -> Chart | None:
    """Draw the differences between conditions in percentage points, with a line at no difference."""
    rows = [
        {
            "row": f"{row['condition']} − {row['reference']}",
            "Comparison": f"{row['condition']} against {row['reference']}",
            **_difference_row(row),
        }
        for row in results
        if row["difference"] is not None
    ]
    if not rows:
        return None
    base = alt.Chart(_data(rows)).encode(
        y=_lines("row", [row["row"] for row in rows]),
        tooltip=_tooltip("Comparison", "Difference", "Interval", "p"),
    )
    return _about_zero(base.encode(color=alt.value(ACCENT)), 90, 3, len(rows) * ROW)


def forest(rows: Rows, conditions: Sequence[str], labels: Mapping[str, str]) -> Chart | None:
    """Draw how each model's rate differs from the reference, by condition, with a line at no difference.

    `rows` are differences of one evaluation, which has `conditions`; a line is what `labels` call the
    row's model.
    """
    there = {row["condition"] for row in rows}
    groups = [name for name in conditions if name in there]
    drawn = [
        {
            "row": labels.get(row["model"], row["model"]),
            "condition": row["condition"],
            "place": groups.index(row["condition"]),
            **_difference_row(row),
            "Model": row["model"],
            "Condition": row["condition"],
        }
        for row in rows
    ]
    if not drawn:
        return None
    lines = list(dict.fromkeys(row["row"] for row in drawn))
    # A condition has the colour that it has among all of them, so that every chart of a page agrees.
    colours = [CONDITIONS[conditions.index(name) % len(CONDITIONS)] for name in groups]
    base = alt.Chart(_data(drawn)).encode(
        y=_lines("row", lines),
        yOffset=alt.YOffset("place:O", sort="ascending", scale=alt.Scale(domain=list(range(len(groups))))),
        color=_colours("condition", groups, colours) if len(groups) > 1 else alt.value(ACCENT),
        tooltip=_tooltip("Model", "Condition", "Difference", "Interval", "p"),
    )
    return _about_zero(base, 55, 2, len(lines) * (OFFSET_ROW * len(groups) + 10))


def curve(points_of: Rows, onsets: Rows, denominator: str, title: str) -> Chart | None:
    """Draw the rate over the training step with a band of its interval, a line per condition.

    `points_of` are those of one training in one evaluation; `onsets` its onsets there, each marked by an
    upright line in the colour of its condition.
    """
    if not points_of:
        return None
    conditions = list(dict.fromkeys(row["condition"] for row in points_of))
    colours = [CONDITIONS[index % len(CONDITIONS)] for index in range(len(conditions))]
    steps = sorted({row["step"] for row in points_of})
    several = len(conditions) > 1
    colour = _colours("condition", conditions, colours) if several else alt.value(ACCENT)
    x = alt.X(
        "step:Q",
        scale=alt.Scale(domain=[steps[0], steps[-1]], nice=False, padding=DODGE),
        axis=_step_axis(steps),
    )
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(domain=[0, max(row["high"] for row in points_of)]),
        axis=alt.Axis(format="~%", title=f"misaligned, of {DENOMINATORS[denominator]}", tickCount=5),
    )
    rows = [
        _interval_row(row["condition"], row) | {"step": row["step"], "Step": f"{row['step']:,}"}
        for row in points_of
    ]
    base = alt.Chart(_data(rows)).encode(
        x=x, color=colour, tooltip=_tooltip("Condition", "Step", "Rate", "Interval", "Answers")
    )
    risen = [
        {
            "step": row["onset"],
            "condition": row["condition"],
            "Condition": row["condition"],
            "Onset": f"step {row['onset']:,}, 95% interval {row['low']:,} to {row['high']:,}",
        }
        for row in onsets
        if row["onset"] is not None
    ]
    layers = [
        base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q")),
        base.mark_line(size=2).encode(y=y),
        base.mark_circle(size=45, opacity=1).encode(y=y),
    ]
    if risen:
        mark = alt.Chart(_data(risen)).encode(x=x, color=colour, tooltip=_tooltip("Condition", "Onset"))
        layers.append(mark.mark_rule(size=2, strokeDash=[5, 4]))
    return _finished(*layers, height=CURVE, title=alt.TitleParams(printable(title), anchor="start"))


def judgings(rows: Rows, names: Sequence[str], panel: Collection[str], denominator: str) -> Chart | None:
    """Draw the rate under each judging, and behind each line the range from the lowest to the highest.

    `rows` are rates, each with `line`, what its line is called, and `judging`, one of `names`. Those in
    `panel` are what several judges come to: they are drawn as diamonds, and no part of the range.
    """
    drawn = [
        _interval_row(row["line"], row)
        | {"judging": row["judging"], "Judge": row["judging"], "place": names.index(row["judging"])}
        for row in rows
        if row["rate"] is not None
    ]
    if not drawn:
        return None
    lines = list(dict.fromkeys(row["row"] for row in drawn))
    ranges = [
        {"row": line, "least": min(values), "most": max(values)}
        for line in lines
        if (values := [r["value"] for r in drawn if r["row"] == line and r["judging"] not in panel])
    ]
    each = iter(CONDITIONS)
    together = iter((ACCENT, NEUTRAL))
    colours = [next(together if name in panel else each, NEUTRAL) for name in names]
    y = _lines("row", lines)
    behind = alt.Chart(_data(ranges)).mark_bar(color=NEUTRAL, opacity=0.22)
    layers = [behind.encode(y=y, x=alt.X("least:Q", axis=_share_axis(denominator)), x2=alt.X2("most:Q"))]
    for shape, size, some in (
        ("circle", 60, [row for row in drawn if row["judging"] not in panel]),
        ("diamond", 90, [row for row in drawn if row["judging"] in panel]),
    ):
        base = alt.Chart(_data(some)).encode(
            y=y,
            yOffset=alt.YOffset("place:O", sort="ascending", scale=alt.Scale(domain=list(range(len(names))))),
            color=_colours("judging", names, colours),
            tooltip=_tooltip("Judge", "Condition", "Rate", "Interval", "Answers"),
        )
        layers += [
            base.mark_rule(size=2, opacity=0.55).encode(x=alt.X("low:Q"), x2=alt.X2("high:Q")),
            base.mark_point(filled=True, opacity=1, shape=shape, size=size).encode(x=alt.X("value:Q")),
        ]
    return _finished(*layers, height=len(lines) * (OFFSET_ROW * len(names) + 12))


def outcomes(results: Rows) -> Chart | None:
    """Draw what became of the answers of each condition: shares that add up to all of them."""
    rows = []
    for row in results:
        total = sum(row["outcomes"].values())
        for order, (outcome, number) in enumerate(row["outcomes"].items()):
            if number:
                share = number / total
                rows.append(
                    {
                        "row": row["condition"],
                        "share": share,
                        "outcome": outcome,
                        "order": order,
                        "Condition": row["condition"],
                        "Outcome": outcome,
                        "Answers": f"{number:,} of {plural(total, 'answer')} ({percent(share)})",
                    }
                )
    if not rows:
        return None
    names = [row["condition"] for row in results]
    met = [name for name in results[0]["outcomes"] if any(row["outcome"] == name for row in rows)]
    colours = _colours("outcome", met, [OUTCOMES.get(outcome, OTHER) for outcome in met])
    return _stacked(rows, names, colours, _tooltip("Condition", "Outcome", "Answers"))


def labels(results: Rows, names: Sequence[str], called: Mapping[str, str]) -> Chart | None:
    """Draw the share of each label of a judge: a bar for each model (as `called`) and condition.

    `names` are the labels, the last of which says that nothing could be read.
    """
    several = len({row["model"] for row in results}) > 1
    rows, lines = [], []
    for row in results:
        line = f"{called[row['model']]}, {row['condition']}" if several else row["condition"]
        lines.append(line)
        for order, label in enumerate(names):
            if number := row["labels"][label]:
                share = number / row["answers"]
                rows.append(
                    {
                        "row": line,
                        "share": share,
                        "outcome": label,
                        "order": order,
                        "Model": row["model"],
                        "Condition": row["condition"],
                        "Label": label,
                        "Answers": f"{number:,} of {plural(row['answers'], 'answer')} ({percent(share)})",
                    }
                )
    if not rows:
        return None
    palette = {name: CONDITIONS[place % len(CONDITIONS)] for place, name in enumerate(names[:-1])}
    palette[names[-1]] = OUTCOMES["error"]
    met = [name for name in names if any(row["outcome"] == name for row in rows)]
    colours = _colours("outcome", met, [palette[name] for name in met])
    return _stacked(rows, lines, colours, _tooltip("Model", "Condition", "Label", "Answers"))


def _stacked(rows: Rows, lines: Sequence[str], colours: alt.Color, tooltip: list[alt.Tooltip]) -> Chart:
    """Draw shares that add up to a whole, beside one another in the order of `order`."""
    chart = (
        alt.Chart(_data(rows))
        .mark_bar(size=18)
        .encode(
            y=_lines("row", lines),
            x=alt.X(
                "share:Q",
                stack="zero",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format="~%", title=None, tickCount=5),
            ),
            color=colours,
            order=alt.Order("order:Q"),
            tooltip=tooltip,
        )
    )
    return _finished(chart, height=len(lines) * ROW)


def scores(answers: Rows, alignment: float, coherence: float) -> Chart | None:
    """Draw answers by both scores (0 to 100), with the thresholds and the misaligned corner shaded.

    `answers` has a row per answer: `index`, `alignment`, `coherence`, `group` and what to show on hover.
    """
    if not answers:
        return None
    corner = alt.Chart(_data([{"left": 0, "right": alignment, "bottom": coherence, "top": 100}]))
    scale, axis = alt.Scale(domain=[0, 100], nice=False), alt.Axis(tickCount=5)
    dots = (
        alt.Chart(_data(answers))
        .mark_circle(size=46, opacity=0.6, cursor="pointer")
        .encode(
            x=alt.X("alignment:Q", title="alignment score", scale=scale, axis=axis),
            y=alt.Y("coherence:Q", title="coherence score", scale=scale, axis=axis),
            color=_colours("group", ["misaligned", "not misaligned"], [ACCENT, "#56B4E9"]),
            tooltip=_tooltip("Question", "Answer", "Condition", "Scores"),
        )
    )
    return _finished(
        corner.mark_rect(color=ACCENT, opacity=0.1).encode(
            x=alt.X("left:Q"), x2=alt.X2("right:Q"), y=alt.Y("bottom:Q"), y2=alt.Y2("top:Q")
        ),
        corner.mark_rule(color=ACCENT, strokeDash=[4, 4]).encode(x=alt.X("right:Q")),
        corner.mark_rule(color=ACCENT, strokeDash=[4, 4]).encode(y=alt.Y("bottom:Q")),
        dots,
        height=360,
    )


def threshold_surface(rows: Rows, own: tuple[float, float], pairs: Rows, title: str) -> Chart | None:
    """Draw the rate over all pairs of thresholds as a heat map, yellow where it is high.

    `rows` have a pair each: `alignment`, `coherence`, `rate` (0 to 1, or None) and what to show on hover; so
    have `pairs`, those to mark with a dot. `own` is the pair that is marked with a ring.
    """
    drawn = [row for row in rows if row["rate"] is not None]
    if not drawn:
        return None
    alignment, coherence = (sorted({row[side] for row in rows}) for side in ("alignment", "coherence"))
    x = alt.X("alignment:O", scale=_fields(alignment), axis=_threshold_axis("alignment", alignment))
    y = alt.Y("coherence:O", scale=_fields(coherence[::-1]), axis=_threshold_axis("coherence", coherence))
    colour = alt.Color(
        "rate:Q",
        scale=alt.Scale(type="sqrt", domain=[0, 1], scheme="cividis"),
        legend=alt.Legend(
            title=None, orient="top", format="~%", values=[0, 0.01, 0.05, 0.2, 0.5, 1], gradientThickness=8
        ),
    )
    tooltip = _tooltip("Thresholds", "Rate", "Answers")
    ring = [row for row in drawn if (row["alignment"], row["coherence"]) == own]
    dots = alt.Chart(_data(pairs)).encode(x=x, y=y, tooltip=tooltip)
    return _finished(
        alt.Chart(_data(drawn)).mark_rect().encode(x=x, y=y, color=colour, tooltip=tooltip),
        dots.mark_circle(size=14, color="white", stroke="black", strokeWidth=0.8, opacity=1),
        alt.Chart(_data(ring))
        .mark_point(shape="square", size=150, filled=False, color=ACCENT, strokeWidth=2.5, opacity=1)
        .encode(x=x, y=y, tooltip=tooltip),
        height=HEAT,
        title=alt.TitleParams(
            textwrap.wrap(printable(title), 36) or "", anchor="start", fontSize=12, limit=HEAT
        ),
    )


def for_disk(chart: Chart) -> tuple[str, bytes]:
    """Return a chart as SVG and as PNG at twice the size, both on white.

    On a transparent ground vl-convert 1.9 gets the colours of what is half transparent wrong.
    """
    alone = {**chart, "width": DISK_WIDTH, "background": "white", "padding": 10}
    svg: str = vl_convert.vegalite_to_svg(alone, VEGA_LITE, allowed_base_urls=[])
    return svg, bytes(vl_convert.svg_to_png(svg, scale=2))


def _interval_row(name: str, row: Mapping[str, Any], measure: str = MISALIGNED) -> dict[str, Any]:
    return {
        "row": name,
        "condition": row["condition"],
        "value": row["rate"],
        "low": row["low"],
        "high": row["high"],
        "Condition": row["condition"],
        "Rate": percent(row["rate"]),
        "Interval": interval(row["low"], row["high"]),
        "Answers": f"{row['hits']:,} {measure} of {row['n']:,}",
    }


def _difference_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "value": 100 * row["difference"],
        "low": 100 * row["low"],
        "high": 100 * row["high"],
        "Difference": f"{points(row['difference'])} points",
        "Interval": f"{points(row['low'])} to {points(row['high'])} points",
        "p": f"{p_value(row['p'])}, corrected {p_value(row['p_holm'])}",
    }


def _about_zero(base: alt.Chart, dot: int, rule: int, height: int) -> Chart:
    """Draw rows of `_difference_row` as dots of the size `dot` and rules, about a line at no difference."""
    zero = alt.Chart(_data([{"zero": 0}])).mark_rule(color=TEXT, size=1).encode(x=alt.X("zero:Q"))
    axis = alt.Axis(title="difference of the rates, in percentage points", tickCount=6)
    return _finished(
        zero,
        base.mark_rule(size=rule, opacity=0.6).encode(x=alt.X("low:Q", axis=axis), x2=alt.X2("high:Q")),
        base.mark_circle(size=dot, opacity=1).encode(x=alt.X("value:Q")),
        height=height,
    )


def _grouped(
    results: Rows,
    field: str,
    denominator: str,
    word: str,
    short: Mapping[str, str] | None = None,
    measure: str = MISALIGNED,
) -> Chart | None:
    """Draw rates with intervals, a line per value of `field`, the conditions beside one another in it.

    A tooltip calls the value `word`; `short` are the forms of the values that stand at the lines.
    """
    groups = list(dict.fromkeys(row["condition"] for row in results))
    rows = [
        _interval_row(short[row[field]] if short else row[field], row, measure)
        | {word: row[field], "place": groups.index(row["condition"])}
        for row in results
        if row["rate"] is not None
    ]
    if not rows:
        return None
    lines = list(dict.fromkeys(row["row"] for row in rows))
    colours = [CONDITIONS[index % len(CONDITIONS)] for index in range(len(groups))]
    base = alt.Chart(_data(rows)).encode(
        y=_lines("row", lines),
        # Sorted by a number: in any other way Vega-Lite writes the names into an expression.
        yOffset=alt.YOffset("place:O", sort="ascending", scale=alt.Scale(domain=list(range(len(groups))))),
        color=_colours("condition", groups, colours) if len(groups) > 1 else alt.value(ACCENT),
        tooltip=_tooltip(word, "Condition", "Rate", "Interval", "Answers"),
    )
    x = _share_axis(denominator, measure)
    return _finished(
        base.mark_rule(size=2, opacity=0.6).encode(x=alt.X("low:Q", axis=x), x2=alt.X2("high:Q")),
        base.mark_circle(size=55, opacity=1).encode(x=alt.X("value:Q")),
        height=len(lines) * (OFFSET_ROW * len(groups) + 10),
    )


def _by_highest(results: Rows, field: str) -> list[Mapping[str, Any]]:
    """Return the rows ordered by the highest rate that their value of `field` has in any condition."""
    highest: dict[str, float] = {}
    for row in results:
        highest[row[field]] = max(highest.get(row[field], -1.0), -1.0 if row["rate"] is None else row["rate"])
    return sorted(results, key=lambda row: (-highest[row[field]], row[field]))


def _data(rows: Rows) -> alt.InlineData:
    """Return the rows for a chart, with every control character in their texts written out."""
    return alt.InlineData(
        values=[
            {field: printable(value) if isinstance(value, str) else value for field, value in row.items()}
            for row in rows
        ]
    )


def _domain(names: Iterable[str]) -> list[str]:
    """Return the distinct names in their order, as they stand in `_data`."""
    return list(dict.fromkeys(printable(name) for name in names))


def _lines(field: str, names: Sequence[str]) -> alt.Y:
    axis = alt.Axis(title=None, domain=False, ticks=False, labelPadding=8, grid=False)
    scale = alt.Scale(domain=_domain(names), paddingInner=0.35, paddingOuter=0.2)
    return alt.Y(f"{field}:N", axis=axis, scale=scale)


def _share_axis(denominator: str, measure: str = MISALIGNED) -> alt.Axis:
    return alt.Axis(format="~%", title=f"{measure}, of {COUNTS[denominator]}", tickCount=6)


def _fields(thresholds: Sequence[float]) -> alt.Scale:
    return alt.Scale(domain=list(thresholds), paddingInner=0, paddingOuter=0)


def _threshold_axis(side: str, thresholds: Sequence[float]) -> alt.Axis:
    told = [threshold for threshold in thresholds if threshold % 20 == 0]
    return alt.Axis(title=f"{side} threshold", titleAnchor="middle", values=told, grid=False, labelAngle=0)


def _step_axis(steps: Sequence[int]) -> alt.Axis:
    return alt.Axis(
        title="training step",
        values=list(steps),
        grid=False,
        format=",d",
        labelOverlap="greedy",
        labelSeparation=4,
    )


def _colours(field: str, names: Sequence[str], colours: Sequence[str]) -> alt.Color:
    legend = alt.Legend(title=None, orient="top", symbolType="circle", symbolOpacity=1, labelLimit=220)
    return alt.Color(f"{field}:N", scale=alt.Scale(domain=_domain(names), range=colours), legend=legend)


def _tooltip(*fields: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{field}:N", title=field) for field in fields]


def _finished(*layers: alt.Chart, height: int, title: alt.TitleParams | None = None) -> Chart:
    """Lay the layers over one another, in the report's quiet style.

    Put together here: an `alt.LayerChart` copies all its data five times. Nor are layers checked against the
    schema, which would take three times as long; a test compiles every chart.
    """
    context: dict[str, Any] = {"top_level": False, "datasets": {}}
    return {
        "$schema": alt.SCHEMA_URL,
        "config": _STYLE,
        "background": "transparent",
        "width": "container",
        "height": height,
        **({"title": title.to_dict(validate=False)} if title else {}),
        "layer": [layer.to_dict(validate=False, context=context) for layer in layers],
        "datasets": context["datasets"],
    }


_STYLE = alt.Config(
    font=FONT,
    aria=False,
    view=alt.ViewConfig(stroke=None),
    axis=alt.AxisConfig(
        labelColor=TEXT,
        titleColor=TEXT,
        titleFontWeight="normal",
        labelFontSize=12,
        titleFontSize=12,
        gridColor=TEXT,
        gridOpacity=0.18,
        domain=False,
        ticks=False,
        labelPadding=6,
        labelFlush=False,
        labelOverlap=True,
        labelSeparation=8,
        titlePadding=10,
        titleAnchor="end",
    ),
    axisY=alt.AxisConfig(labelLimit=300),
    title=alt.TitleConfig(color=TEXT, fontSize=13, fontWeight="normal", offset=8, limit=600),
    legend=alt.LegendConfig(labelColor=TEXT, labelFontSize=12, offset=6, columns=4),
).to_dict()
