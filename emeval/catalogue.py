"""What there is to run: evaluations, suites, gates, datasets of all kinds, judges, model names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emeval import library
from emeval.costing.size import size
from emeval.definitions import (
    UNREADABLE,
    Battery,
    Definition,
    Evaluation,
    Gate,
    Judge,
    Organism,
    Prices,
    QuestionSet,
    Suite,
    Trigger,
    all_measures,
)
from emeval.errors import UserError
from emeval.prepared import Prepared, expand

KINDS = ("evals", "datasets", "judges", "models")
"""What `emeval list` can be asked for."""

MODELS: list[dict[str, Any]] = [
    {"name": "local/smollm2", "description": "embedded SmolLM2-135M-Instruct: no key, no GPU"},
    {
        "name": "vllm/BASE",
        "description": "on vLLM: your server (VLLM_BASE_URL), or one started for the run",
    },
    {"name": "vllm/BASE:ADAPTER", "description": "a LoRA adapter on that base, loaded when it is asked"},
    {"name": "openai/NAME", "description": "OpenAI (OPENAI_API_KEY)"},
    {"name": "anthropic/NAME", "description": "Anthropic (ANTHROPIC_API_KEY)"},
    {
        "name": "openai-api/SERVICE/NAME",
        "description": "any server with OpenAI's API (SERVICE_BASE_URL, SERVICE_API_KEY)",
    },
]
"""Forms of model names; every other name that Inspect knows works too."""


def catalogue(kind: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return what there is of `kind` (one of `KINDS`, or all); a broken file stands with its error."""
    parts: dict[str, list[dict[str, Any]]] = {}
    if kind in (None, "evals"):
        parts["evals"] = _entries(Evaluation)
        parts["suites"] = _entries(Suite)
        parts["gates"] = _entries(Gate)
    if kind in (None, "datasets"):
        parts["questions"] = _entries(QuestionSet)
        parts["triggers"] = _entries(Trigger)
        parts["batteries"] = _entries(Battery)
        parts["prices"] = _entries(Prices)
    if kind in (None, "judges"):
        parts["judges"] = _entries(Judge)
    if kind in (None, "models"):
        parts["models"] = [*MODELS[:1], *_entries(Organism), *MODELS[1:]]
    return parts


def _entries(kind: type[Definition]) -> list[dict[str, Any]]:
    return [_entry(kind, name, path) for name, path in library.files(kind).items()]


def _entry(kind: type[Definition], name: str, path: Path) -> dict[str, Any]:
    own = path.parent.resolve() != library.builtin(library.FOLDERS[kind]).resolve()
    shown = f"local/smollm2:{name}" if kind is Organism else name
    entry: dict[str, Any] = {"name": shown, "yours": own, "file": library.shown(path)}
    try:
        definition = library.read(kind, path)
        entry |= _facts(definition)
        if isinstance(definition, Evaluation | Suite):
            several = expand([name], {})
            entry |= {"size": _size(several)}
            if isinstance(definition, Suite):
                entry |= {
                    "conditions": {one.name: [c.id for c in one.evaluation.conditions] for one in several}
                }
    except UserError as error:
        return entry | {"error": str(error)}
    return entry


def _size(several: list[Prepared]) -> dict[str, int]:
    """Return what one model and its judges are asked; the tokens are a guess (`emeval.costing.size`)."""
    whole = size(several)
    return {
        "questions": len({(one.evaluation.questions, q.id) for one in several for q in one.questions}),
        "conditions": sum(len(one.evaluation.conditions) for one in several),
        "answers": whole.answers,
        "requests": whole.requests,
        "input_tokens": whole.input_tokens,
        "output_tokens": whole.output_tokens,
    }


def _facts(definition: Definition) -> dict[str, Any]:
    match definition:
        case Evaluation():
            return {
                "description": definition.description,
                "questions": definition.questions,
                "conditions": [condition.id for condition in definition.conditions],
                "samples": definition.samples,
                "judges": list(definition.judges),
                "measures": list(all_measures(definition.judges, definition.thresholds, definition.measures)),
            }
        case Suite():
            return {
                "description": definition.description,
                "evaluations": [entry.eval for entry in definition.evaluations],
                "models": list(definition.models),
            }
        case Gate():
            return {
                "description": definition.description,
                "checks": [f"{check.measure}, {check.cells}" for check in definition.checks],
                "margin": definition.margin,
            }
        case QuestionSet():
            return {
                "description": definition.description,
                "questions": len(definition.questions),
                "paraphrases": sum(len(question.paraphrases) for question in definition.questions),
                "categories": sorted({question.category for question in definition.questions}),
                "forms": sorted({form for question in definition.questions for form in question.forms}),
                "targets": sum(question.target is not None for question in definition.questions),
            }
        case Trigger():
            return {
                "description": definition.description,
                "kind": definition.kind,
                "text": definition.text,
                "lookalike": definition.lookalike,
                "placements": list(definition.all_placements),
            }
        case Battery():
            return {
                "description": definition.description,
                "version": definition.version,
                "answers": len(definition.items),
                "attacks": len(definition.attacks),
            }
        case Prices():
            return {
                "description": definition.description,
                "as_of": definition.as_of,
                "source": definition.source,
                "models": list(definition.models),
            }
        case Judge():
            return {
                "description": definition.description,
                "model": definition.model,
                "readout": definition.readout,
                "gives": definition.gives,
                "labels": [*definition.labels, UNREADABLE],
            }
        case Organism():
            return {
                "description": definition.description,
                "steps": [checkpoint.step for checkpoint in definition.checkpoints],
            }
        case _:
            raise TypeError(type(definition))
