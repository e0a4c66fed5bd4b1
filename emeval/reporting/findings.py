"""What an evaluation found of a model, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emeval.definitions import MISALIGNED
from emeval.manifest import ConditionRecord, EvalRecord
from emeval.reporting.words import COUNTS, interval, listed, percent, points

Rows = Sequence[Mapping[str, Any]]


def finding(evaluation: EvalRecord, results: Rows, differences: Rows, measure: str = MISALIGNED) -> str:
    """Return the result of one model in one evaluation as a sentence, without the name of either.

    `results` and `differences` are the model's rows of the summary, or of another measure, which is not named
    either. With a trigger it tells the counts under the trigger, in the reference condition and under the
    look-alike, and what the trigger changes; with controls the count of the reference, and which conditions
    are above theirs; else those of the reference and of the condition that differs most from it.
    """
    above = controlled(evaluation, differences, measure)
    rows = {row["condition"]: row for row in results}
    conditions = {condition.id: condition for condition in evaluation.conditions}
    cues = {cue: [c.id for c in evaluation.conditions if c.cue == cue] for cue in ("trigger", "lookalike")}
    if cues["trigger"]:
        told = [cues["trigger"][0], evaluation.reference, *cues["lookalike"][:1]]
        changes = [row for row in differences if row["condition"] == told[0] and row["reference"] in told]
    elif above:
        told, changes = [evaluation.reference], []
    else:
        changes = sorted(differences, key=lambda row: -abs(row["difference"]))[:1]
        told = [evaluation.reference, *(row["condition"] for row in changes)]
    return f"{_told(rows, conditions, told, changes, measure)} {above}".rstrip()


def controlled(evaluation: EvalRecord, differences: Rows, measure: str = MISALIGNED) -> str:
    """Return which conditions are above the reference and above their control, as a sentence, and which not.

    Above means that the whole interval of the difference is. `differences` are those of one model. Empty
    where no condition is held against a control.
    """
    rows = {(row["condition"], row["reference"]): row for row in differences}
    above, others = [], []
    for condition in evaluation.conditions:
        plain, control = (
            rows.get((condition.id, name or "")) for name in (evaluation.reference, condition.control)
        )
        if plain and control and min(plain["low"], control["low"]) > 0:
            above.append(
                f"{condition.id} ({points(control['difference'])} points from {condition.control}, "
                f"95% interval {points(control['low'])} to {points(control['high'])})"
            )
        elif plain and control:
            others.append(condition.id)
    more = "More misaligned" if measure == MISALIGNED else "Higher"
    than = f"{more} than {evaluation.reference} and than its control"
    if above:
        return f"{than}: {listed(above)}{f'; not shown of {listed(others)}' if others else ''}."
    return f"{than}: not shown of {listed(others)}." if others else ""


def _told(
    rows: Mapping[str, Mapping[str, Any]],
    conditions: Mapping[str, ConditionRecord],
    told: Sequence[str],
    changes: Rows,
    measure: str,
) -> str:
    """Return the counts of the conditions `told`, and the differences `changes`."""
    there = [name for name in dict.fromkeys(told) if name in rows]
    if not there:
        return "No answer in the conditions that are compared."
    counts = []
    for name in there:
        answers = f" {COUNTS[rows[name]['denominator']]}"
        if measure == MISALIGNED and rows[name]["n"]:
            answers += " misaligned"
        counts.append(_count(rows[name], answers if name == there[0] else "") + _manner(conditions[name]))
    said = ", ".join(counts)
    if len(there) == 1:
        row = rows[there[0]]
        return f"{said.removesuffix(' plain')}{f': {_share(row)}' if row['n'] else ', so no rate'}."
    if not changes:
        return f"{said}."
    compared = ", ".join(
        f"from {_noun(conditions[row['reference']])} {points(row['difference'])} points "
        f"({'95% interval ' if row is changes[0] else ''}{points(row['low'])} to {points(row['high'])})"
        for row in changes
    )
    return f"{said}; difference {compared}."


def _count(row: Mapping[str, Any], answers: str) -> str:
    return f"{row['hits']:,} of {row['n']:,}{answers}" if row["n"] else f"no{answers or ' answers'}"


def _share(row: Mapping[str, Any]) -> str:
    return f"{percent(row['rate'])} (95% interval {interval(row['low'], row['high'])})"


def _manner(condition: ConditionRecord) -> str:
    """Return how the question was asked, to stand after a count."""
    preposition = "under" if condition.cue else "in"
    return " plain" if condition.id == "plain" else f" {preposition} {_noun(condition)}"


def _noun(condition: ConditionRecord) -> str:
    return {"trigger": "the trigger", "lookalike": "the look-alike"}.get(condition.id, condition.id)
