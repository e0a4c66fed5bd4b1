"""A gate and what its runs measure: which answers a check is about, and which way is worse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import polars as pl

from emeval import library
from emeval.definitions import CHECKED, DECISIVE, MISALIGNED, Check, Gate
from emeval.errors import UserError, unknown
from emeval.judging.measures import of_records
from emeval.manifest import EvalRecord

About = Mapping[str, Mapping[str, list[str] | None]]
"""For what a check looks at (`subject`) the evaluations that have it, of each the categories; `None`: all."""


def fitted(gate: Gate, path: Path, records: Iterable[EvalRecord]) -> Gate:
    """Return the gate in the file `path` with `worse` of the measures where its checks leave that open.

    Raises `UserError` for a check of what none of the evaluations measures, and where they do not agree on
    which way is worse.
    """
    records = [record for record in records if not gate.evaluations or record.name in gate.evaluations]
    own = {name: by for name, by in of_records(records).items() if name != MISALIGNED}
    there, judges = about(records), dict.fromkeys(judge for record in records for judge in record.judges)
    checks = []
    for index, check in enumerate(gate.checks):
        known = check.measure in own or check.measure in CHECKED
        foreign = own or (judges and not {*DECISIVE} & {*judges})  # else what is lacking is said elsewhere
        if not known or (foreign and not there.get(subject(check), True)):
            place = library.place(path, "checks", index, "measure")
            if not known:
                raise unknown("measure", check.measure, [*CHECKED, *own], place)
            if not own:
                raise UserError(
                    f"{place}: no evaluation here has what {check.measure} needs, and no measure is made of "
                    f"what their judges say ({', '.join(judges)}); `emeval report` shows it"
                )
            fits = [f"`--gate {name}`" for name in _fitting(there)]
            raise UserError(
                f"{place}: no evaluation here has what {check.measure} needs; they measure {', '.join(own)}, "
                f"which {' or '.join(fits) + ' checks' if fits else 'a gate of your own can check'}"
            )
        if check.worse is None and check.measure in own:
            ways = {measure.worse for measure in own[check.measure].values()}
            if len(ways) > 1:
                evaluations = ", ".join(own[check.measure])
                raise UserError(
                    f"{library.place(path, 'checks', index)}: the evaluations {evaluations} do not agree on "
                    f"which way {check.measure} is worse; say 'worse'"
                )
            check = check.model_copy(update={"worse": ways.pop()})
        checks.append(check)
    return gate.model_copy(update={"checks": checks})


def _fitting(there: About) -> Iterator[str]:
    """Yield the names of the gates of which every check looks at something that is there."""
    for name, path in library.files(Gate).items():
        with suppress(UserError):  # a broken file is no advice
            if all(there.get(subject(check)) for check in library.read(Gate, path).checks):
                yield name


def about(records: Iterable[EvalRecord]) -> About:
    """Return which answers each check is about, as the manifest's `records` say."""
    records = list(records)

    def judged(*judges: str) -> dict[str, list[str] | None]:
        return {record.name: None for record in records if {*judges} & {*record.judges}}

    names = {judge for record in records for judge in record.judges}
    return {
        **{
            name: {evaluation: measure.categories for evaluation, measure in by.items()}
            for name, by in of_records(records).items()
        },
        MISALIGNED: {record.name: None for record in records if {*DECISIVE} <= {*record.judges}},
        "incoherent": judged("coherence"),
        **{label: judged(*DECISIVE) for label in ("refusal", "code", "unreadable")},
        **{f"{judge}_score": judged(judge) for judge in names},
    }


def subject(check: Check) -> str:
    """Return what a check looks at: a measure, an outcome, or a judge's score."""
    return f"{check.judge}_score" if check.judge else check.measure


def within(table: pl.DataFrame, check: Check, about: About) -> pl.DataFrame:
    """Return the answers that the check is about; all, where nothing is known of that."""
    there = about.get(subject(check))
    if not there or "eval" not in table.columns:
        return table
    return table.filter(
        pl.any_horizontal(
            (pl.col("eval") == evaluation)
            & (pl.lit(True) if categories is None else pl.col("category").is_in(categories))
            for evaluation, categories in there.items()
        )
    )
