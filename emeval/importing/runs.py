"""Makes a run directory of other tools' files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

import polars as pl

from emeval import library, responses
from emeval.definitions import UNREADABLE, Thresholds
from emeval.errors import UserError, unknown
from emeval.importing import columns as column_names
from emeval.importing import model_names, scores, sheets, table
from emeval.importing.columns import Columns
from emeval.importing.sheets import Sheet
from emeval.manifest import (
    ConditionRecord,
    EvalRecord,
    ImportRecord,
    JudgeRecord,
    Manifest,
    ModelRecord,
    SourceRecord,
)
from emeval.runs import Run, identity_sha256, now, same_run, thresholds, versions


def import_files(
    files: Sequence[Path | str],
    out: Path | str | None = None,
    *,
    columns: Sequence[str] = (),
    ignore: Sequence[str] = (),
    model_from: str | None = None,
    evaluation: str = "imported",
    scales: Sequence[str] = (),
    alignment_below: float = 30.0,
    coherence_above: float = 50.0,
    paraphrases: bool = False,
    duplicates: str | None = None,
    command: str = "emeval.import_files (from Python)",
) -> Run:
    """Make a run directory of answers and scores that other tools have written to files.

    `files` are CSV, TSV, JSON lines, JSON, Parquet or Inspect logs; `out` is the run directory, by default
    `runs/imported-HASH`. `columns` holds `FIELD=COLUMN` and `scales` `JUDGE=LOW:HIGH` texts; `ignore` names
    columns to leave out; `model_from` is `column`, `file` or `path`; `evaluation` is what the evaluation is
    called where the files do not say; `alignment_below` and `coherence_above` are the thresholds. With
    `paraphrases` several wordings under one id are one question. `duplicates` (`keep` or `drop`) says what to
    do with rows that are equal. `docs/import.md` has each option and check.

    Everything is read and checked before anything is written, and the directory appears whole. The same
    import again changes nothing. Raises `UserError` for what is the caller's to mend.
    """
    if duplicates is not None and duplicates not in get_args(table.Duplicates):
        raise unknown("choice", duplicates, get_args(table.Duplicates), "--duplicates")
    limits = thresholds(Thresholds(), alignment_below, coherence_above)
    given, stretch = column_names.given_columns(columns), scores.scales_of(scales)
    read = _read([Path(file) for file in files])
    identity = {
        "imported": {name: sheet.sha256 for name, sheet in zip(_names(read), read, strict=True)},
        "columns": given,
        "ignore": sorted(ignore),
        "model_from": model_from,
        "evaluation": evaluation,
        "scales": {judge: list(scale) for judge, scale in stretch.items()},
        "thresholds": limits.model_dump(),
        "paraphrases": paraphrases,
        "duplicates": duplicates,
    }
    path = Path(out) if out else Path("runs") / f"imported-{identity_sha256(identity)[:8]}"
    if same_run(identity, path):
        return Run(path)
    chosen, left_out = column_names.choose(read, given, ignore, stretch)
    how = model_names.source(read, chosen, model_from)
    answers = table.build(
        read,
        chosen,
        model_names.named(read, chosen, how),
        run=path.resolve().name,
        evaluation=evaluation,
        thresholds=limits,
        scales=stretch,
        paraphrases=paraphrases,
        duplicates=cast("table.Duplicates | None", duplicates),
        model_column=model_from == "column",
    )
    for judge in stretch:
        if f"{judge}_score" not in answers.columns:
            known = [name.removesuffix("_score") for name in answers.columns if name.endswith("_score")]
            raise unknown("judge", judge, known, "--scale")
    record = Manifest(
        run=path.resolve().name,
        plan_sha256=identity_sha256(identity),
        plan=identity,
        imported=_import_record(read, chosen, left_out, how),
        command=command,
        created=now(),
        finished=now(),
        status="complete",
        errors=len(answers) - answers["error"].null_count(),
        seed=0,
        models=_models(answers),
        evaluations=_evaluations(answers, limits),
        judges=_judge_records(answers, stretch),
        versions=versions("polars"),
        notes=_notes(read, chosen, answers),
    )
    _write(record, answers, path)
    return Run(path)


def account(record: Manifest) -> list[str]:
    """Return in lines of text which columns an import took, and which it left out."""
    if record.imported is None:
        return []
    taken = (
        name if name == column else f"{name} ({column})" for name, column in record.imported.columns.items()
    )
    left_out = (f"{column}: {why}" for column, why in record.imported.left_out.items())
    return [f"taken   {', '.join(taken)}", *(f"left out {line}" for line in left_out)]


def _read(paths: Sequence[Path]) -> list[Sheet]:
    """Read the files. Raises `UserError`, also where two of them are the same."""
    if not paths:
        raise UserError("name a file: emeval import answers.csv --out runs/imported")
    found: dict[str, Sheet] = {}
    for path in paths:
        sheet = sheets.read(path)
        if sheet.sha256 in found:
            other = library.shown(found[sheet.sha256].path)
            raise UserError(f"{library.shown(path)}: has the same content as {other}; name one of them")
        found[sheet.sha256] = sheet
    return list(found.values())


def _names(read: Sequence[Sheet]) -> list[str]:
    """Return the names of the files, with the folders that tell them apart."""
    paths = [sheet.path.resolve() for sheet in read]
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    shared = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(shared).as_posix() for path in paths]


def _import_record(
    read: Sequence[Sheet], chosen: Sequence[Columns], left_out: dict[str, str], how: str
) -> ImportRecord:
    taken: dict[str, dict[str, None]] = {}
    for one in chosen:
        for name, column in {**one.fields, **one.judges, **one.notes}.items():
            if name != "model":
                taken.setdefault(name, {})[column] = None
    sources = {"file": "the file's name", "path": "the file's path"}
    models = sources.get(how) or ", ".join(dict.fromkeys(one.fields["model"] for one in chosen))
    return ImportRecord(
        sources=[
            SourceRecord(file=name, kind=sheet.kind, sha256=sheet.sha256, answers=len(sheet.frame))
            for name, sheet in zip(_names(read), read, strict=True)
        ],
        columns={"model": models} | {name: ", ".join(columns) for name, columns in taken.items()},
        left_out=left_out,
    )


def _models(answers: pl.DataFrame) -> list[ModelRecord]:
    """Return the models by name."""
    found = answers.select("model", "base_model", "adapter", "step").unique("model").sort("model")
    return [
        ModelRecord(name=name, base_model=base, adapter=adapter, step=step)
        for name, base, adapter, step in found.iter_rows()
    ]


def _evaluations(answers: pl.DataFrame, limits: Thresholds) -> list[EvalRecord]:
    judges = [name.removesuffix("_score") for name in answers.columns if name.endswith("_score")]
    found = []
    for (name,), part in answers.group_by("eval", maintain_order=True):
        conditions = part["condition"].unique().sort().to_list()
        reference = "plain" if "plain" in conditions else conditions[0]
        sizes = part.group_by("model", "question_id", "condition").len()["len"].unique()
        found.append(
            EvalRecord(
                name=str(name),
                description="Answers and scores that were imported from files.",
                questions=None,
                n_questions=part["question_id"].n_unique(),
                samples=sizes.item() if len(sizes) == 1 else None,
                conditions=[
                    ConditionRecord(id=condition)
                    for condition in sorted(conditions, key=lambda condition: condition != reference)
                ],
                reference=reference,
                judges=judges,
                thresholds=limits,
                generation=None,
                sha256=None,
            )
        )
    return found


def _judge_records(answers: pl.DataFrame, scales: dict[str, scores.Scale]) -> list[JudgeRecord]:
    def only(column: str) -> str | None:
        values = answers[column].drop_nulls().unique()
        return values.item() if len(values) == 1 else None

    return [
        JudgeRecord(
            name=judge,
            description="Scores that were imported from files.",
            model=only(f"{judge}_model"),
            readout=None,
            readout_reason=None,
            scale=scales.get(judge),
            labels=sorted(set(answers[f"{judge}_label"].drop_nulls()) - {UNREADABLE}),
            min_weight=None,
            fingerprint=only(f"{judge}_fingerprint"),
        )
        for judge in (name.removesuffix("_score") for name in answers.columns if name.endswith("_score"))
    ]


def _notes(read: Sequence[Sheet], chosen: Sequence[Columns], answers: pl.DataFrame) -> list[str]:
    files = "1 file" if len(read) == 1 else f"{len(read)} files"
    notes = [
        f"These answers and scores were imported from {files} of another tool. What the files do not say is "
        "not known: how the answers were sampled, which model judged them, in which words, and how often it "
        "errs."
    ]
    judged = answers.filter(pl.col("error").is_null())
    for judge in ("alignment", "coherence"):
        if f"{judge}_score" in answers.columns:
            silent = judged.filter(pl.col(f"{judge}_score").is_null() & pl.col(f"{judge}_label").is_null())
            if len(silent):
                notes.append(
                    f"{len(silent):,} of {len(judged):,} answers have no {judge} score, and the files do not "
                    "say why: the judge may have given a label, or nothing usable, or not have been asked."
                )
    if not any("question_id" in one.fields for one in chosen):
        notes.append(
            "The files give questions no ids: every wording counts as a question of its own. If some are "
            "paraphrases of one another, the intervals are too narrow."
        )
    return notes


def _write(record: Manifest, answers: pl.DataFrame, path: Path) -> None:
    """Write the run directory, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise UserError(f"{path}: cannot be made: {error.strerror}") from None
    try:
        responses.write(answers, draft)
        record.write(draft)
        draft.chmod(0o755)
        draft.replace(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
