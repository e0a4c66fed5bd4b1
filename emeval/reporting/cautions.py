"""What a reader must know before believing a number of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from emeval.definitions import UNREADABLE
from emeval.judging.mixtures import mixture
from emeval.manifest import Manifest, SkipRecord, StopRecord
from emeval.reporting.lineup import CELL, has_misaligned
from emeval.reporting.words import COUNTS, few, percent, plural, stopping

FEW_ANSWERS = 30
"""With fewer answers even a rate of 0 leaves rates above 10% possible, by Wilson's interval."""

FEW_QUESTIONS = 20
"""With fewer questions the interval hangs on what is assumed of how alike the answers to one question are."""

MANY_UNREADABLE = 0.1
"""A judge that says nothing usable more often than this is not fit for these answers."""

MANY_INCOHERENT = 0.5
"""Past this share of incoherent answers a rate over the coherent ones speaks of what is left over."""


def cautions(manifest: Manifest, summary: dict[str, Any]) -> list[str]:
    """Return one plain sentence or two for each thing that a reader must know, the run's own notes first."""
    results: list[dict[str, Any]] = summary["results"]
    label = {model["name"]: model["label"] for model in summary["models"]}
    named = [row | {"model": label.get(row["model"], row["model"])} for row in results]
    return [
        *manifest.notes,
        *(f"A log of this run is left out: {line}." for line in manifest.unread),
        *stopped(manifest.stopping, summary["confidence"]),
        *skipped(manifest.skipped),
        *_errors(manifest, summary["asked"], label),
        *small(named, summary["denominator"]),
        *_small_measures(summary["measures"]),
        *_judges(manifest, results),
        *_labels(summary["labels"]),
        *_verdict_like(summary["verdict_like"], summary["asked"]),
        *_calibration(summary),
        *_instruments(summary),
        *_judgings(manifest),
        *incoherent(named),
    ]


def skipped(skips: Sequence[SkipRecord]) -> Iterator[str]:
    """Say which checkpoints of a sweep could not be asked, and why."""
    yield from (f"Checkpoint {one.where} could not be asked: {one.why.rstrip('.')}." for one in skips)


def stopped(stops: Sequence[StopRecord], confidence: float) -> Iterator[str]:
    """Say how long the answers of runs that stopped by themselves were asked for, and what it costs."""
    yield from (stopping(record) for record in stops)
    if stops:
        most = max(len(record.looks) for record in stops)
        yield (
            f"The answers were looked at while they came in, {plural(most, 'time')} at most, to stop when it "
            f"was enough. A 95% interval is therefore made at {confidence:.1%}, with which it holds at 95% "
            "over all looks, and p-values are corrected alike."
        )


def _errors(manifest: Manifest, results: list[dict[str, Any]], label: dict[str, str]) -> Iterator[str]:
    if manifest.status == "started":
        yield "This run is not finished: the numbers are those of the answers there are so far."
    asked = {row["model"] for row in results}
    for model in manifest.models:
        if model.name not in asked:
            yield f"There is no answer of {label[model.name]}."
    errors, answers = sum(row["errors"] for row in results), sum(row["answers"] for row in results)
    if errors:
        yield (
            f"{errors:,} of {plural(answers, 'answer')} ended in an error; no rate counts them. If some "
            "kinds of answers fail more often than others, the rates are off."
        )


def small(results: list[dict[str, Any]], denominator: str) -> Iterator[str]:
    """Say where there are few answers or few questions; of `results` as of `summarise`."""
    name = COUNTS[denominator]
    none = [row for row in results if row["n"] == 0]
    thin = [row for row in results if 0 < row["n"] < FEW_ANSWERS]
    leaning = [row for row in results if row["n"] and row["questions"] < FEW_QUESTIONS]
    if none:
        where = "anywhere" if len(none) == len(results) else _where(none, results)
        yield f"There are no {name} {where}, and so no rate."
    if thin:
        least = min(row["n"] for row in thin)
        yield (
            f"Fewer than {FEW_ANSWERS} {name} (as few as {least}) {_where(thin, results)}: "
            "believe the interval, not the rate."
        )
    if leaning:
        least = min(row["questions"] for row in leaning)
        yield (
            f"As few as {plural(least, 'question')} {_where(leaning, results)}: under about {FEW_QUESTIONS} "
            "questions the interval hangs on how alike the answers to one question are taken to be, and with "
            "one it speaks of that question alone. More questions help, more answers to these do not."
        )


def _judges(manifest: Manifest, results: list[dict[str, Any]]) -> Iterator[str]:
    wanted = any(has_misaligned(record, manifest.judges) for record in manifest.evaluations)
    for name, verdict in (("alignment", "misaligned"), ("coherence", "coherent")) if wanted else ():
        if name not in [judge.name for judge in manifest.judges]:
            yield f"No judge named {name} scored these answers, so none counts as {verdict}."
    for judge in dict.fromkeys(name for row in results for name in row["labels"]):
        unreadable = sum(row["labels"].get(judge, {}).get(UNREADABLE, 0) for row in results)
        judged = sum(row["answers"] - row["errors"] for row in results)
        if judged and unreadable / judged > MANY_UNREADABLE:
            yield _unusable(judge, unreadable, judged)


def _labels(labels: list[dict[str, Any]]) -> Iterator[str]:
    """Say of which judge that gives labels too much could not be read."""
    for judge in dict.fromkeys(one["judge"] for one in labels):
        rows = [row for one in labels if one["judge"] == judge for row in one["results"]]
        unreadable = sum(row["labels"][UNREADABLE] for row in rows)
        answers = sum(row["answers"] for row in rows)
        if answers and unreadable / answers > MANY_UNREADABLE:
            yield _unusable(judge, unreadable, answers)


def _unusable(judge: str, unreadable: int, judged: int) -> str:
    return (
        f"The judge {judge} said nothing usable about {percent(unreadable / judged)} of the answers "
        f"({unreadable:,} of {judged:,}). These answers are left out as if they had not been given."
    )


def _small_measures(measures: list[dict[str, Any]]) -> Iterator[str]:
    """Say of which measures there are few answers or few questions, all measures in one sentence."""
    cells = [(f"{one['eval']} {one['measure']}", row) for one in measures for row in one["results"]]
    none = [(name, 0) for name, row in cells if row["n"] == 0]
    thin = [(name, row["n"]) for name, row in cells if 0 < row["n"] < FEW_ANSWERS]
    leaning = [
        (name, row["questions"]) for name, row in cells if row["n"] and row["questions"] < FEW_QUESTIONS
    ]
    if none:
        yield f"Of {_names(none)} there are conditions without a counted answer, and so without a rate."
    if thin:
        yield (
            f"Fewer than {FEW_ANSWERS} counted answers (as few as {min(n for _, n in thin)}) of "
            f"{_names(thin)}: believe the interval, not the rate."
        )
    if leaning:
        yield (
            f"Fewer than {FEW_QUESTIONS} questions (as few as {min(n for _, n in leaning)}) of "
            f"{_names(leaning)}: the interval hangs on how alike the answers to one "
            "question are taken to be. More questions help, more answers to these do not."
        )


def _names(counted: Iterable[tuple[str, int]]) -> str:
    return few(dict.fromkeys(name for name, _ in counted))


def _verdict_like(flagged: list[dict[str, Any]], results: list[dict[str, Any]]) -> Iterator[str]:
    """Say how many answers speak to a judge."""
    number = sum(row["answers"] for row in flagged)
    if number:
        judged = sum(row["answers"] - row["errors"] for row in results)
        kinds: dict[str, int] = {}
        for row in flagged:
            kinds[row["kind"]] = kinds.get(row["kind"], 0) + row["answers"]
        yield (
            f"{number:,} of {plural(judged, 'answer')} without an error ({percent(number / judged)}) "
            f"{'has' if number == 1 else 'have'} text that speaks to a judge or looks like its verdict "
            f"({', '.join(f'{kind} {count:,}' for kind, count in kinds.items())}). A judge may have followed "
            "it. Among the answers below, the filter Verdict-like text shows them."
        )


def _calibration(summary: dict[str, Any]) -> Iterator[str]:
    calibration = summary["calibration"]
    if calibration and calibration["stale"]:
        yield (
            f"The calibration of this run is not of these answers: {calibration['stale']}. No corrected rate "
            "is shown; calibrate again."
        )


def _instruments(summary: dict[str, Any]) -> Iterator[str]:
    for judge in summary["judges"]:
        if mixed := mixture(judge["name"], judge["instruments"]):
            yield (
                f"{mixed} The rates pool what several instruments said. `emeval rejudge RUN --judge MODEL` "
                "judges all answers alike."
            )


def _judgings(manifest: Manifest) -> Iterator[str]:
    for judging in manifest.judgings:
        if judging.status == "started":
            yield f"The further judging {judging.name} is not finished: `{judging.command}` goes on with it."
        elif judging.errors:
            yield (
                f"The further judging {judging.name} lacks {plural(judging.errors, 'answer')}: "
                f"{', then '.join(f'`{one}`' for one in manifest.asking_again(judging))} asks for them."
            )


def incoherent(results: list[dict[str, Any]]) -> Iterator[str]:
    """Say where most answers are incoherent; of `results` as of `summarise`."""
    worst = [
        row
        for row in results
        if row["scored"]
        and row["outcomes"]["incoherent"] > MANY_INCOHERENT * (row["answers"] - row["errors"])
    ]
    if worst:
        yield (
            f"More than half of the answers are incoherent {_where(worst, results)}: a rate over coherent "
            "answers speaks of a minority."
        )


def _where(rows: list[dict[str, Any]], results: list[dict[str, Any]]) -> str:
    """Say which models, evaluations and conditions `rows` are of all `results`, by what differs in these."""
    differing = [name for name in CELL if len({row[name] for row in results}) > 1]
    if len(rows) == len(results):
        return "everywhere" if len(differing) > 1 else "in every condition"
    if len(rows) > 3:
        return f"in {len(rows)} of {len(results)} combinations of model, evaluation and condition"
    return "in " + "; ".join(", ".join(row[name] for name in differing) for row in rows)
