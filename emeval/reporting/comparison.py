"""What a comparison of models, conditions or checkpoints says, as plain data: `comparison.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import polars as pl

from emeval import __version__
from emeval.comparability import mend, mismatches
from emeval.definitions import MISALIGNED
from emeval.errors import UserError
from emeval.judging import measures
from emeval.judging.mixtures import instruments, mixture
from emeval.manifest import EvalRecord
from emeval.reporting import entrants, looks, onsets
from emeval.reporting.cautions import incoherent, skipped, small, stopped
from emeval.reporting.conditions import correct
from emeval.reporting.entrants import Source
from emeval.reporting.lineup import CELL, has_misaligned
from emeval.reporting.measured import counted
from emeval.statistics import by_question, difference, rate

SCHEMA = 1
"""Version of the format of `comparison.json`: adding a key is fine, renaming one makes it 2."""

MOST_MOVED = 5
"""Questions that moved most, of each comparison."""

_READ = {
    "model": pl.String,
    "step": pl.Int64,
    "eval": pl.String,
    "question_id": pl.String,
    "category": pl.String,
    "condition": pl.String,
    "error": pl.String,
    "alignment_score": pl.Float64,
    "coherent": pl.Boolean,
    "misaligned": pl.Boolean,
}
"""The columns that are read of all answers; texts are read of the answers shown alone."""

_OF_A_QUESTION = ("n", "hits", "rate", "low", "high")


class Comparison:
    """Runs held against each other.

    `sources` are the runs; `reference` is as for `entrants.reference_of`, `denominator` one of
    `statistics.DENOMINATORS`. Raises `UserError` for a reference that is not there, and where the reference
    shares no question with anything.
    """

    def __init__(
        self, sources: Sequence[Source], reference: str | None = None, denominator: str = "coherent"
    ) -> None:
        self.sources = list(sources)
        self.denominator = denominator
        self.entrants = entrants.entrants(self.sources)
        self.evaluations = _evaluations(self.sources)
        own = {record.reference for record in self.evaluations}
        self.conditions = list(dict.fromkeys(c.id for e in self.evaluations for c in e.conditions))
        self.reference = entrants.reference_of(
            self.entrants, self.conditions, reference, next(iter(own)) if len(own) == 1 else None
        )
        self.seed = self.sources[0].manifest.seed
        self.stops = [record for source in self.sources for record in source.manifest.stopping]
        self.sure = looks.confidence(self.stops)

    @cached_property
    def table(self) -> pl.DataFrame:
        """The answers of all runs without their texts: `_READ`, `run`, and `row`, the place in its run.

        `model` is the entrant's name.
        """
        parts = []
        own = measures.names(self.evaluations)
        for source in self.sources:
            columns = source.table.collect_schema()
            given = [
                (pl.col(name) if name in columns else pl.lit(None)).cast(dtype).alias(name)
                for name, dtype in (_READ | dict.fromkeys(own, pl.Boolean)).items()
            ]
            names = {e.record.name: e.name for e in self.entrants if e.run == source.name}
            parts.append(
                source.table.with_row_index("row")
                .select("row", *given)
                .with_columns(
                    pl.col("model").replace(names),
                    pl.col("alignment_score").fill_nan(None),
                    run=pl.lit(source.name),
                )
                .collect()
            )
        return pl.concat(parts)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What was found, as plain data that `json.dumps` takes; its keys are in `docs/compare.md`."""
        everything = self._results()
        results = [row for row in everything if row["eval"] in self._misaligned]
        differences = self._differences()
        questions = self._ordered(by_question(self.table, CELL, self.denominator, self.sure))
        return {
            "schema": SCHEMA,
            "emeval": __version__,
            "denominator": self.denominator,
            "confidence": self.sure,
            "seed": self.seed,
            "reference": self.reference._asdict(),
            "runs": [_run(source) for source in self.sources],
            "models": self._models(),
            "evaluations": [record.model_dump(mode="json") for record in self.evaluations],
            "unequal": self.unequal,
            "cautions": self._cautions(everything),
            "answers": sum(row["answers"] for row in everything),
            "results": results,
            "differences": differences,
            "measures": self._measures(),
            "trainings": onsets.trainings(self.entrants, self.table, results, self.denominator, self.seed),
            "moved": list(self._moved(differences, questions)),
            "questions": questions,
        }

    @cached_property
    def _misaligned(self) -> set[str]:
        """The evaluations of which `misaligned` is shown."""
        judges = [judge for source in self.sources for judge in source.manifest.judges]
        return {record.name for record in self.evaluations if has_misaligned(record, judges)}

    @cached_property
    def unequal(self) -> list[dict[str, Any]]:
        """What makes runs not comparable with the reference's: a row per run, with sentences."""
        held = next((e.run for e in self.entrants if e.name == self.reference.name), self.sources[0].name)
        against = next(source for source in self.sources if source.name == held)
        return [
            {"one": held, "other": source.name, "differs": differs}
            for source in self.sources
            if source is not against and (differs := mismatches(against.manifest, source.manifest))
        ]

    @cached_property
    def _followed(self) -> set[str]:
        """The checkpoints that a later one follows: one of which no answer is there yet is not counted."""
        there = set(self.table.filter(pl.col("error").is_null())["model"])
        return entrants.intermediate([entrant for entrant in self.entrants if entrant.name in there])

    def _models(self) -> list[dict[str, Any]]:
        return [
            {
                **entrant.record.model_dump(),
                "name": entrant.name,
                "model": entrant.record.name,
                "run": entrant.run,
                "label": entrant.label,
                "family": entrant.family,
                "intermediate": entrant.name in self._followed,
            }
            for entrant in self.entrants
        ]

    def _results(self) -> list[dict[str, Any]]:
        """Return a row for each model, evaluation and condition."""
        answered = pl.col("error").is_null()
        counts = self.table.group_by(CELL).agg(
            errors=answered.not_().sum(),
            coherent=(answered & pl.col("coherent").fill_null(False)).sum(),
            incoherent=(answered & pl.col("coherent").not_().fill_null(False)).sum(),
            scored=(answered & pl.col("alignment_score").is_not_null()).sum(),
        )
        shown = rate(self.table, CELL, self.denominator, self.sure)
        return self._ordered(shown.join(counts, on=CELL))

    def _differences(self) -> list[dict[str, Any]]:
        """Return a row for each comparison, the largest difference first.

        Of a training the last checkpoint alone is compared; its curve has the others. `against_model` and
        `against_condition` say what the row's model and condition are held against. The p-values are
        corrected over all rows (Holm 1979).
        """
        rows = list(self._against_model() if self.reference.kind == "model" else self._against_condition())
        correct(rows, self.stops)
        return sorted(rows, key=lambda row: (-row["difference"], row["model"], row["eval"], row["condition"]))

    def _measures(self) -> list[dict[str, Any]]:
        """Return every measure of every evaluation but `misaligned`, with its rates and differences.

        The p-values are corrected over all differences of all of these measures (Holm 1979).
        """
        later = entrants.intermediate(self.entrants) - {self.reference.name}
        table = self.table.filter(pl.col("model").is_in(list(later)).not_())
        found: list[dict[str, Any]] = []
        for record in self.evaluations:
            answers = table.filter(pl.col("eval") == record.name)
            for name, measure in record.all_measures.items():
                if name == MISALIGNED:
                    continue
                shown = rate(answers, CELL, confidence=self.sure, measure=name)
                found.append(
                    {
                        "eval": record.name,
                        "measure": name,
                        "headline": name == next(iter(record.all_measures)),
                        "definition": measure.model_dump(mode="json", exclude_none=True),
                        "counted": counted(measure),
                        "results": self._ordered(shown),
                        "differences": self._differing(record, answers, name),
                    }
                )
        correct([row for one in found for row in one["differences"]], self.stops)
        return found

    def _differing(self, record: EvalRecord, answers: pl.DataFrame, measure: str) -> list[dict[str, Any]]:
        """Return how a measure differs from the reference in one evaluation, p not yet corrected."""
        if self.reference.kind == "model":
            reference, between, by = self.reference.name, "model", ("eval", "condition")
        else:
            reference, between, by = self.reference.name or record.reference, "condition", ("model", "eval")
        there = set(answers[between])
        if reference not in there or len(there) < 2:
            return []
        found = difference(answers, reference, between, by, confidence=self.sure, measure=measure)
        return [row for row in self._ordered(found) if row["difference"] is not None]

    def _against_model(self) -> Iterator[dict[str, Any]]:
        later = self._followed - {self.reference.name}
        table = self.table.filter(pl.col("model").is_in(list(later)).not_())
        asked = self._cells(table)
        held = asked.pop(str(self.reference.name), set())
        if not any(held & cells for cells in asked.values()):
            raise UserError(
                f"nothing to compare: {self.reference.label} shares no question in the same condition with "
                "any other model; name another --reference, or runs of one evaluation"
            )
        found = difference(
            table, self.reference.name, "model", ("eval", "condition"), self.denominator, self.sure
        )
        for row in self._ordered(found):
            if row["difference"] is not None:
                yield row | {"against_model": row["reference"], "against_condition": row["condition"]}

    def _against_condition(self) -> Iterator[dict[str, Any]]:
        table = self.table.filter(pl.col("model").is_in(list(self._followed)).not_())
        compared = False
        for record in self.evaluations:
            reference = self.reference.name or record.reference
            answers = table.filter(pl.col("eval") == record.name)
            there = set(answers["condition"])
            if reference not in there or len(there) < 2:
                continue
            compared = True
            found = difference(answers, reference, denominator=self.denominator, confidence=self.sure)
            for row in self._ordered(found):
                if row["difference"] is not None:
                    yield row | {"against_model": row["model"], "against_condition": row["reference"]}
        if not compared:
            raise UserError(
                f"nothing to compare: no evaluation has {self.reference.label} and another condition, or "
                "another model; `emeval report` shows one run by itself"
            )

    def _cells(self, table: pl.DataFrame) -> dict[str, set[tuple[str, ...]]]:
        """Return the questions with evaluation and condition that each model was asked."""
        asked: dict[str, set[tuple[str, ...]]] = {}
        for model, *cell in table.select("model", "eval", "condition", "question_id").unique().iter_rows():
            asked.setdefault(model, set()).add(tuple(cell))
        return asked

    def _moved(
        self, differences: Sequence[dict[str, Any]], questions: Sequence[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """Yield, for each comparison, the questions whose rates differ most, the largest difference first."""
        cells: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
        for row in questions:
            if row["n"]:
                cells.setdefault(tuple(row[name] for name in CELL), {})[row["question_id"]] = row
        for compared in differences:
            ours = cells[compared["model"], compared["eval"], compared["condition"]]
            theirs = cells[compared["against_model"], compared["eval"], compared["against_condition"]]
            rows = [
                {key: compared[key] for key in (*CELL, "against_model", "against_condition")}
                | {"question_id": question, "category": ours[question]["category"]}
                | {key: ours[question][key] for key in _OF_A_QUESTION}
                | {f"against_{key}": theirs[question][key] for key in _OF_A_QUESTION}
                | {"difference": ours[question]["rate"] - theirs[question]["rate"]}
                for question in ours
                if question in theirs
            ]
            rows.sort(key=lambda row: (-abs(row["difference"]), row["question_id"]))
            yield from (row for row in rows[:MOST_MOVED] if row["difference"])

    def _judgings(self) -> Iterator[str]:
        """Say where the judges are what is compared, and how runs of unequal judges can be compared."""
        for pair in self.unequal:
            one, other = (
                next(source for source in self.sources if source.name == pair[side])
                for side in ("one", "other")
            )
            if one.directory is not None and one.directory == other.directory:
                yield (
                    f"{one.name} and {other.name} are the same answers under two judgings: what differs "
                    "between them differs between the judges, not between the models."
                )
            elif advice := mend(pair["differs"]):
                yield f"{other.name} and {one.name} had unequal judges: {advice}."

    def _cautions(self, results: Sequence[dict[str, Any]]) -> list[str]:
        """Return what a reader must know before believing a number, but for what is unequal."""
        several = len(self.sources) > 1
        said = []
        for source in self.sources:
            where = f"Run {source.name}: " if several else ""
            said += [f"{where}{note}" for note in source.manifest.notes]
            said += [f"{where}{line}" for line in skipped(source.manifest.skipped)]
            if source.manifest.status == "started":
                said.append(f"{where}not finished; the numbers are those of the answers there are so far.")
            used = instruments(source.table, [judge.name for judge in source.manifest.judges])
            said += [f"{where}{mixed}" for name, one in used.items() if (mixed := mixture(name, one))]
        said += self._judgings()
        said += stopped(self.stops, self.sure)
        errors, answers = sum(row["errors"] for row in results), sum(row["answers"] for row in results)
        if errors:
            said.append(
                f"{errors:,} of {answers:,} answers ended in an error; no rate counts them. If one side "
                "fails more often than the other, the difference is off."
            )
        label = {entrant.name: entrant.label for entrant in self.entrants}
        shares = self._cells(self.table)
        held = shares.get(str(self.reference.name), set())
        for entrant in self.entrants:
            if entrant.name not in shares:
                said.append(f"There is no answer of {entrant.label}.")
            elif self.reference.kind == "model" and not held & shares[entrant.name]:
                said.append(
                    f"{entrant.label} was asked no question in a condition in which {self.reference.label} "
                    "was asked it: there is no difference to show."
                )
        named = [
            row | {"model": label[row["model"]], "outcomes": {"incoherent": row["incoherent"]}}
            for row in results
            if row["eval"] in self._misaligned
        ]
        return [*dict.fromkeys(said), *small(named, self.denominator), *incoherent(named)]

    def _ordered(self, frame: pl.DataFrame) -> list[dict[str, Any]]:
        """Return the rows by model, evaluation and condition, each in the order in which they were named."""
        places = {
            "model": [entrant.name for entrant in self.entrants],
            "eval": [record.name for record in self.evaluations],
            "condition": self.conditions,
        }
        order = {
            name: {value: place for place, value in enumerate(values)} for name, values in places.items()
        }
        return sorted(
            frame.to_dicts(), key=lambda row: [order[name].get(row[name], len(order[name])) for name in CELL]
        )


def compared_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the results that a table shows, by evaluation, the reference first, then the largest difference.

    `summary` is that of a comparison. Checkpoints that a later one follows are left out, but for the
    reference. Each row has also `difference`, the row of `differences` or None, and `held_against`, whether
    it is what others are held against.
    """
    kind, reference = summary["reference"]["kind"], summary["reference"]["name"]
    differences = {tuple(row[name] for name in CELL): row for row in summary["differences"]}
    later = {model["name"] for model in summary["models"] if model["intermediate"]} - {reference}
    rows: list[dict[str, Any]] = []
    for evaluation in summary["evaluations"]:
        order = {reference: -1}
        for row in summary["differences"]:
            if row["eval"] == evaluation["name"]:
                order.setdefault(row["model"], len(order))
        own = [
            row
            for row in summary["results"]
            if row["eval"] == evaluation["name"] and row["model"] not in later
        ]
        for row in sorted(own, key=lambda row: order.get(row["model"], len(order))):
            cell = tuple(row[name] for name in CELL)
            held = row[kind] == (reference or evaluation["reference"])
            rows.append(row | {"difference": differences.get(cell), "held_against": held})
    return rows


def _evaluations(sources: Sequence[Source]) -> list[EvalRecord]:
    """Return the evaluations of all runs, one of a name, with every condition that any run has of it."""
    found: dict[str, EvalRecord] = {}
    for record in (record for source in sources for record in source.manifest.evaluations):
        there = found.setdefault(record.name, record)
        known = {condition.id for condition in there.conditions}
        more = [condition for condition in record.conditions if condition.id not in known]
        if more:
            found[record.name] = there.model_copy(update={"conditions": [*there.conditions, *more]})
    return list(found.values())


def _run(source: Source) -> dict[str, Any]:
    manifest = source.manifest
    return {
        "name": source.name,
        "created": manifest.created,
        "status": manifest.status,
        "plan_sha256": manifest.plan_sha256,
        "judges": [
            {key: getattr(judge, key) for key in ("name", "model", "readout", "fingerprint")}
            for judge in manifest.judges
        ],
    }
