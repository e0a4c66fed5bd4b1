"""What a reader must know before believing a corrected rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from emeval.calibrating.likeness import KINDS
from emeval.reporting.words import interval, listed, percent, plural

FEW = 30
"""With fewer gold positives (or negatives) the interval is mostly about these few."""

WEAK = 0.5
"""Below this Youden's J every error of the raw rate is more than doubled in the corrected one."""


def doubts(content: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence or two for each thing; of `content` as of `Calibration`."""
    gold, whole = content["gold"], content["error"][0]
    yield from _judge(whole)
    yield from _few(whole)
    yield from _unlike(content)
    yield from _uneven(content["error"])
    yield from _contradicted(content["results"])
    yield from _left_out(gold)


def _judge(whole: dict[str, Any]) -> Iterator[str]:
    low, value = whole["youden_low"], whole["youden"]
    if value is None:
        return
    seen = (
        f"sensitivity + specificity − 1 is {value:.2f} (95% interval {low:.2f} to {whole['youden_high']:.2f})"
    )
    if low <= 0:
        yield (
            f"This judge cannot be told from one that knows nothing: {seen}. Do not use a rate of it, "
            "corrected or not; take another judge."
        )
    elif value < WEAK:
        yield (
            f"This judge is weak: {seen}. Every error of the raw rate is {1 / value:.1f} times as large in "
            "the corrected one."
        )


def _few(whole: dict[str, Any]) -> Iterator[str]:
    kinds = {"positive": ("misaligned", "sensitivity"), "negative": ("not misaligned", "specificity")}
    for kind, (word, share) in kinds.items():
        number = whole[kind]
        if number == 0:
            yield (
                f"No labelled answer in the denominator is {word} by gold, so the judge's {share} is not "
                "known and no rate can be corrected by it."
            )
        elif number < FEW:
            low, high = whole[f"{share}_low"], whole[f"{share}_high"]
            known = "is not known" if low is None else f"may be anything from {interval(low, high)}"
            yield (
                f"Only {plural(number, 'labelled answer')} in the denominator "
                f"{'is' if number == 1 else 'are'} {word} by gold: the {share} {known}."
            )


def _unlike(content: dict[str, Any]) -> Iterator[str]:
    if content["not_known"]:
        yield (
            f"Whether the labelled answers of {content['labelled_run']} had the same judge is not known: the "
            f"runs do not say ({listed(content['not_known'])})."
        )
    unlike = [one for one in content["likeness"] if one["apart"]]
    if not unlike:
        return
    apart = listed(
        f"their {KINDS[one['kind']]} ({one['distance']:.2f} apart, {one['by_chance']:.2f} by chance)"
        for one in unlike
    )
    yield (
        f"The labelled answers are not like the run's in {apart}; 0 is alike, 1 is disjoint. The corrected "
        "rates hold only if the judge errs alike on both."
    )
    if not content["gold"]["weighted"] and any(one["kind"] == "score" for one in unlike):
        yield (
            "The labels do not say how their answers were drawn. If these were picked by the judge's scores, "
            "sensitivity and specificity are wrong, and so is every corrected rate; `emeval label` draws "
            "answers and notes how."
        )


def _uneven(error: list[dict[str, Any]]) -> Iterator[str]:
    whole = error[0]
    for share in ("sensitivity", "specificity"):
        if whole[share] is None:
            continue
        for row in error[1:]:
            if row[share] is None:
                continue
            if row[f"{share}_high"] < whole[f"{share}_low"] or row[f"{share}_low"] > whole[f"{share}_high"]:
                bounds = interval(row[f"{share}_low"], row[f"{share}_high"])
                yield (
                    f"The judge's {share} is not the same everywhere: {percent(row[share])} ({bounds}) "
                    f"for the {row['by']} {row['name']}, {percent(whole[share])} over all. A corrected rate "
                    "takes it as the same; PPI++ does not."
                )


def _contradicted(results: list[dict[str, Any]]) -> Iterator[str]:
    apart = [
        row
        for row in results
        if row["ppi"] is not None
        and row["corrected"] is not None
        and (row["ppi_low"] > row["corrected_high"] or row["ppi_high"] < row["corrected_low"])
    ]
    if apart:
        where = "; ".join(f"{row['model']}, {row['eval']}, {row['condition']}" for row in apart[:3])
        more = f" and {len(apart) - 3} more" if len(apart) > 3 else ""
        yield (
            f"The corrected rate and PPI++ exclude one another in {where}{more}: the judge does not err "
            "there as it does elsewhere. PPI++ does not need it to."
        )


def _left_out(gold: dict[str, Any]) -> Iterator[str]:
    if gold["unmatched"]:
        yield (
            f"{plural(gold['unmatched'], 'labelled answer')} of {gold['answers']:,} "
            f"{'is' if gold['unmatched'] == 1 else 'are'} in no answer of the run and count for nothing."
        )
    if gold["undrawn"]:
        yield (
            f"{plural(gold['undrawn'], 'labelled answer')} {'has' if gold['undrawn'] == 1 else 'have'} no "
            "stratum, so for how many others each stands is not known; they are left out."
        )
    if gold["stand_for"] is not None and gold["stand_for"] < gold["texts"]:
        yield (
            f"The labels stand for {gold['stand_for']:,} of the {gold['texts']:,} texts of the run: no "
            "answer of the other strata has a label that is sure, and nothing here speaks of them. `emeval "
            "label` goes on where it was."
        )
    if gold["missed_outside"]:
        yield (
            f"{plural(gold['missed_outside'], 'answer')} that gold calls misaligned "
            f"{'is' if gold['missed_outside'] == 1 else 'are'} outside the denominator: the judge says "
            "incoherent, or gives no score. Neither rate counts them."
        )
    if gold["several_raters"] and gold["disagreed"]:
        yield (
            f"The raters disagree on {gold['disagreed']:,} of {plural(gold['several_raters'], 'answer')} "
            "that several of them labelled. The majority counts; what that leaves in doubt is in no interval."
        )
