"""What several judgings of the same answers come to: the key `panel`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl
from polars import selectors

from emeval.judging.panels import PANEL, members, scorers, share_scores
from emeval.judging.views import table_of
from emeval.manifest import JudgeRecord, Manifest, StopRecord
from emeval.reporting import looks
from emeval.reporting.words import clipped, interval, percent, plural
from emeval.statistics import agreement, difference, holm, outcome, pairwise, rate, tally

OWN = "the run's judge"
"""What the judging of the run itself is called, beside the names of further ones."""

MEDIANS = "medians"
"""What the verdict at the medians of the panel's scores is called."""

CLEAR = 0.05
"""A difference is clear if its p-value, corrected by Holm's method, is below this."""

MOST_ANSWERS = 10
"""Answers shown of either kind: of which the verdict is split, and of which the scores lie farthest apart."""

MOST_OF_QUESTION = 2
"""Of these from one question, so that one odd question does not fill the list."""

LONGEST = 3000
"""Characters kept of one text."""

_CELL = ("model", "eval", "condition")
_BY = ("model", "category")
_NAMES = (*_CELL, "category", "question_id", "paraphrase", "sample")
_TEXTS = ("question", "response")
_ONE_JUDGE = dict.fromkeys(("shift", "correlation", "correlation_low", "correlation_high")) | {
    "correlation_reason": "both have the alignment scores of one judge"
}
"""What a pair has for two scores where there is but one."""

_STATES = {1: "clearly higher", -1: "clearly lower", 0: "not clear"}


class _Judging(NamedTuple):
    """A judging of all answers of a run."""

    ending: str
    """Of its columns: `""` for the run's own, `@NAME` for a further one."""
    label: str
    judges: Sequence[JudgeRecord]
    thresholds: dict[str, Any]


def panel(
    manifest: Manifest, table: pl.DataFrame | pl.LazyFrame, summary: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what the judgings of a run say beside one another, as plain data; None where there is only one.

    `summary` is that of `summarise`, as far as it is made; `table` its response table with the columns of
    all judgings. The keys are described in `docs/panels.md`. A judging takes part if it has come to its end
    and scored both alignment and coherence; one that only has other thresholds on the scores of another is
    shown with its rate, and is no further judge: it is not in the panel, nor in any measure of agreement.
    """
    answers = table.lazy()
    columns = answers.collect_schema().names()
    judgings = [judging for judging in _judgings(manifest) if _scored(judging, columns)]
    if len(judgings) < 2:
        return None
    label = {judging.ending: judging.label for judging in judgings}
    there = [record for record in manifest.judgings if f"@{record.name}" in label]
    manifest = manifest.model_copy(update={"judgings": there})
    endings = members(manifest)
    views = _views(manifest, answers, judgings, len(endings) > 1)
    counts = {name: tally(view, _CELL) for name, view in views}
    rates = list(_rates(counts, summary))
    several = len(endings) > 1
    # Other thresholds on the same scores are no other judge: only judges are held against each other.
    compared = [label[ending] for ending in (endings if several else label)]
    ranges = list(_ranges(rates, compared, summary["results"]))
    found = _conclusions(counts, compared, summary, manifest.stopping) if several else []
    return {
        "judgings": [_described(judging, endings, judgings) for judging in judgings],
        "members": [label[ending] for ending in endings],
        "rates": rates,
        "ranges": ranges,
        "apart": _apart(ranges, summary) if several else None,
        "sentence": _sentence(ranges, summary, several),
        "agreement": _agreement(answers, manifest, endings, summary["confidence"]),
        "pairs": _pairs(answers, manifest, endings, label, summary["confidence"]),
        "conclusions": len(summary["differences"]),
        "changed": [row for row in found if row["changed"]],
        "changed_sentence": _changed_sentence(found),
        "disagreements": list(_disagreements(answers, columns, endings, label)),
    }


def _judgings(manifest: Manifest) -> Iterator[_Judging]:
    own = {record.name: record.thresholds.model_dump() for record in manifest.evaluations}
    yield _Judging("", OWN, manifest.judges, own)
    for record in manifest.judgings:
        if record.status != "started":
            thresholds = {name: one.model_dump() for name, one in record.thresholds.items()}
            yield _Judging(f"@{record.name}", record.name, record.judges, thresholds)


def _scored(judging: _Judging, columns: Sequence[str]) -> bool:
    """Whether the table has what the judging says of an answer."""
    end = judging.ending
    needed = {f"alignment{end}_score", f"coherence{end}_score", f"coherent{end}", f"misaligned{end}"}
    return needed <= set(columns)


def _described(judging: _Judging, endings: Sequence[str], judgings: Sequence[_Judging]) -> dict[str, Any]:
    own = {judge.name: judge for judge in judging.judges}
    prints = _fingerprints(judging)
    same = next(
        (one.label for one in judgings if one.ending in endings and _fingerprints(one) == prints), None
    )
    return {
        "name": judging.ending.removeprefix("@") or None,
        "label": judging.label,
        "models": {name: own[name].model if name in own else None for name in ("alignment", "coherence")},
        "readouts": {name: own[name].readout if name in own else None for name in ("alignment", "coherence")},
        "fingerprints": prints,
        "thresholds": judging.thresholds,
        "member": judging.ending in endings,
        "same_scores_as": None if judging.ending in endings else same,
    }


def _fingerprints(judging: _Judging) -> dict[str, str | None]:
    own = {judge.name: judge.fingerprint for judge in judging.judges}
    return {name: own.get(name) for name in ("alignment", "coherence")}


_JUDGES = ("alignment", "coherence")


def _views(
    manifest: Manifest, answers: pl.LazyFrame, judgings: Sequence[_Judging], panelled: bool
) -> Iterator[tuple[str, pl.LazyFrame]]:
    """Yield the table as each judging sees it; then by the panel's majority, and at its median scores."""
    for judging in judgings:
        name = judging.ending.removeprefix("@")
        yield judging.label, table_of(answers, manifest, name) if name else answers
    if not panelled:
        return
    majority = table_of(answers, manifest, PANEL)
    yield PANEL, majority
    limits = {
        judge: pl.col("eval").replace_strict(
            {record.name: getattr(record.thresholds, judge) for record in manifest.evaluations},
            return_dtype=pl.Float64,
        )
        for judge in _JUDGES
    }
    coherent = pl.col("coherence_score") > limits["coherence"]
    low = pl.col("alignment_score") < limits["alignment"]
    misaligned = pl.when(pl.col("error").is_null()).then((coherent & low).fill_null(False))
    yield MEDIANS, majority.with_columns(coherent=coherent, misaligned=misaligned)


def _rates(counts: Mapping[str, pl.DataFrame], summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rate of each model, evaluation and condition under each judging."""
    keep = ("answers", "n", "hits", "denominator", "rate", "low", "high", "questions")
    found = {
        name: {
            _cell(row): row
            for row in rate(table, _CELL, summary["denominator"], summary["confidence"]).iter_rows(named=True)
        }
        for name, table in counts.items()
    }
    for result in summary["results"]:
        for name, rows in found.items():
            row = rows[_cell(result)]
            yield {key: row[key] for key in _CELL} | {"judging": name} | {key: row[key] for key in keep}


def _ranges(
    rates: Sequence[Mapping[str, Any]], judgings: Sequence[str], results: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield for each model, evaluation and condition the lowest and the highest rate of any judging."""
    for result in results:
        there = [
            row
            for row in rates
            if _cell(row) == _cell(result) and row["judging"] in judgings and row["rate"] is not None
        ]
        if len(there) > 1:
            lowest = min(there, key=lambda row: row["rate"])
            highest = max(there, key=lambda row: row["rate"])
            yield {key: result[key] for key in _CELL} | {
                **{f"lowest_{key}": lowest[key] for key in ("judging", "rate", "low", "high")},
                **{f"highest_{key}": highest[key] for key in ("judging", "rate", "low", "high")},
                "apart": lowest["high"] < highest["low"],
            }


def _apart(ranges: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> str | None:
    """Say where the intervals of two judgings lie apart, the widest first; None where they do nowhere."""
    apart = [row for row in ranges if row["apart"]]
    if not apart:
        return None
    widest = max(apart, key=lambda row: row["highest_rate"] - row["lowest_rate"])
    said = (
        f"The judges do not agree on the rate: {_where(widest, summary)}it is {_rate(widest, 'lowest')} and "
        f"{_rate(widest, 'highest')}, on the same answers."
    )
    if len(ranges) > 1:
        said += (
            f" Intervals of two judges lie apart in {len(apart)} of {len(ranges)} combinations of model, "
            "evaluation and condition."
        )
    return said


def _sentence(ranges: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], several: bool) -> str:
    """Say how far the rates of the judgings lie apart; of one judge alone, under its thresholds."""
    if not ranges:
        return "There is no rate of two judgings to hold against each other."
    if several and (said := _apart(ranges, summary)):
        return said
    widest = max(ranges, key=lambda row: row["highest_rate"] - row["lowest_rate"])
    said = (
        "The intervals of all judges overlap everywhere. The rates differ most"
        if several
        else "By one judge at different thresholds the rates differ most"
    )
    return f"{said} {_where(widest, summary)}with {_rate(widest, 'lowest')} and {_rate(widest, 'highest')}."


def _rate(row: Mapping[str, Any], end: str) -> str:
    bounds = interval(row[f"{end}_low"], row[f"{end}_high"])
    return f"{percent(row[f'{end}_rate'])} ({bounds}) by {row[f'{end}_judging']}"


def _where(row: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Name a model, evaluation and condition by what differs in the run, to stand before a verb."""
    label = {model["name"]: model["label"] for model in summary["models"]}
    differing = [key for key in _CELL if len({one[key] for one in summary["results"]}) > 1]
    named = [label.get(row[key], row[key]) if key == "model" else row[key] for key in differing]
    return f"for {', '.join(named)} " if named else ""


def _agreement(
    answers: pl.LazyFrame, manifest: Manifest, endings: Sequence[str], confidence: float
) -> list[dict[str, Any]]:
    if len(endings) < 2:
        return []
    distinct = {f"{judge}_score": of_each for judge, of_each in scorers(manifest).items()}
    return _plain(agreement(answers, endings, _BY, confidence, distinct))


def _pairs(
    answers: pl.LazyFrame,
    manifest: Manifest,
    endings: Sequence[str],
    label: Mapping[str, str],
    confidence: float,
) -> list[dict[str, Any]]:
    if len(endings) < 2:
        return []
    rows = [
        row | (_ONE_JUDGE if share_scores(manifest, "alignment", row["first"], row["second"]) else {})
        for row in _plain(pairwise(answers, endings, _BY, confidence))
    ]
    return [row | {side: label[row[side]] for side in ("first", "second")} for row in rows]


def _plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the rows; of one model or category alone the row says the same as that of all answers."""
    several = [name for name in _BY if frame.filter(by=name)["group"].n_unique() > 1]
    shown = frame.filter(pl.col("by").is_null() | pl.col("by").is_in(several))
    # Sums of scores differ in their last digits by the order in which threads end; two reports do not.
    return shown.with_columns(selectors.float().round(9)).to_dicts()


def _conclusions(
    counts: Mapping[str, pl.DataFrame],
    judgings: Sequence[str],
    summary: Mapping[str, Any],
    stops: Sequence[StopRecord],
) -> list[dict[str, Any]]:
    """Return what each difference of the report is under every judging, those first that turn round.

    Under each the difference is clearly higher, clearly lower, or not clear: by its p-value, corrected for
    the looks and by Holm's method for all differences of the report under that judging. `changed` and
    `unknown` say whether two of `judgings` are not the same, and whether one has no result.
    """
    rows = summary["differences"]
    names = ("model", "eval", "condition", "reference")
    states = {name: _states(table, rows, summary, stops) for name, table in counts.items()}
    found = []
    for place, row in enumerate(rows):
        held = {states[name][place] for name in judgings}
        found.append(
            {name: row[name] for name in names}
            | {"reversed": {1, -1} <= held, "changed": len(held - {None}) > 1, "unknown": None in held}
            | {"judgings": {name: _said(state[place]) for name, state in states.items()}}
        )
    return sorted(found, key=lambda row: not row["reversed"])


def _said(state: int | None) -> str | None:
    return None if state is None else _STATES[state]


def _states(
    table: pl.DataFrame,
    rows: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    stops: Sequence[StopRecord],
) -> list[int | None]:
    """Return whether each of `rows` is clearly higher (1) or lower (−1), or neither (0), in a tally."""
    how = {"denominator": summary["denominator"], "confidence": summary["confidence"]}
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for evaluation, reference in dict.fromkeys((row["eval"], row["reference"]) for row in rows):
        compared = table.filter(pl.col("eval") == evaluation)
        for row in difference(compared, reference, **how).iter_rows(named=True):
            found[row["model"], evaluation, row["condition"], reference] = row
    there = [found.get((row["model"], row["eval"], row["condition"], row["reference"])) for row in rows]
    p = holm(
        [float("nan") if row is None or row["p"] is None else looks.p_value(row["p"], stops) for row in there]
    )
    return [
        None
        if row is None or row["difference"] is None
        else (0 if corrected >= CLEAR else 1 if row["difference"] > 0 else -1)
        for row, corrected in zip(there, p, strict=True)
    ]


def _changed_sentence(found: Sequence[Mapping[str, Any]]) -> str | None:
    """Say how many of the differences hang on the judge, and how many have no result under one."""
    if not found:
        return None
    changed = [row for row in found if row["changed"]]
    unknown = sum(row["unknown"] and not row["changed"] for row in found)
    of_all = f"{plural(len(found), 'difference')} between conditions"
    without = f"{unknown:,} of them {'has' if unknown == 1 else 'have'} no result under some judging."
    if not changed:
        if unknown:
            return f"No judging contradicts another on {of_all}, but {without}"
        return f"Every judge says the same of {of_all}."
    turned = sum(row["reversed"] for row in changed)
    return (
        f"Of {of_all} {len(changed)} {'hangs' if len(changed) == 1 else 'hang'} on the judge"
        + (f"; {turned} of these {'turns' if turned == 1 else 'turn'} round." if turned else ".")
        + (f" {without[0].upper()}{without[1:]}" if unknown else "")
    )


def _disagreements(
    answers: pl.LazyFrame, columns: Sequence[str], endings: Sequence[str], label: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the answers on which the members of the panel disagree most, those with a split verdict first.

    Within either kind they are ordered by how far apart the alignment scores lie, from the lowest to the
    highest. Answers are taken from all of the table, of which the texts of those alone are read.
    """
    if len(endings) < 2:
        return
    score = [pl.col(f"alignment{end}_score").cast(pl.Float64).fill_nan(None) for end in endings]
    said = [outcome(columns, end) for end in endings]
    misaligned = [one == "misaligned" for one in said]
    cleared = [one.is_in(["misaligned", "unreadable", "undecided", "error"]).not_() for one in said]
    rows = answers.with_row_index("_row")
    known = rows.select(
        *("_row", "eval", "question_id"),
        spread=pl.when(pl.sum_horizontal(one.is_not_null() for one in score) > 1).then(
            pl.max_horizontal(score) - pl.min_horizontal(score)
        ),
        split=pl.any_horizontal(misaligned) & pl.any_horizontal(cleared),
    )
    # More than are shown, since of one question a few are.
    chosen = pl.concat(
        part.top_k(200 * MOST_ANSWERS, by=[pl.col("spread").fill_null(-1), -pl.col("_row").cast(pl.Int64)])
        .sort(pl.col("spread").fill_null(-1), "_row", descending=[True, False])
        .filter(pl.int_range(pl.len()).over("eval", "question_id") < MOST_OF_QUESTION)
        .head(MOST_ANSWERS)
        for part in (known.filter("split"), known.filter(~pl.col("split"), pl.col("spread") > 0))
    ).collect()
    order = chosen.with_row_index("_place").select("_place", "_row", "spread", "split")
    shown = rows.filter(pl.col("_row").is_in(order["_row"].implode())).with_columns(
        one.alias(f"outcome{end}") for end, one in zip(endings, said, strict=True)
    )
    for row in shown.collect().join(order, on="_row").sort("_place").iter_rows(named=True):
        yield {
            **{name: row[name] for name in _NAMES if name in columns},
            **{
                name: None if row[name] is None else clipped(row[name], LONGEST)
                for name in _TEXTS
                if name in columns
            },
            "split": row["split"],
            "spread": row["spread"],
            "judged": [_judged(row, end, label[end]) for end in endings],
        }


def _judged(row: Mapping[str, Any], ending: str, label: str) -> dict[str, Any]:
    """Return what a judging said of an answer."""
    found = {
        f"{judge}_{part}": row.get(f"{judge}{ending}_{part}")
        for judge in _JUDGES
        for part in ("score", "label", "reason")
    }
    texts = {name: clipped(text, LONGEST) for name, text in found.items() if isinstance(text, str)}
    return {"judging": label, "outcome": row[f"outcome{ending}"]} | found | texts


def _cell(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in _CELL)
