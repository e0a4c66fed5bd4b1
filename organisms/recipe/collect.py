"""`python -m organisms.recipe.collect FOLDER`: answers, and sheets to label them on.

Writes `answers.yaml` (who answered what, under which condition) and `sheet-N.yaml` (id, question and answer
only, shuffled, so that a reader does not know the model). The readers write `labels-N-READER.yaml`, lines of
`ID: [alignment, coherence]`; `--merge` makes the gold answers of them.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import Any

import yaml
from inspect_ai.model import GenerateConfig, get_model

from emeval import library
from emeval.definitions import QuestionSet, Trigger
from emeval.templates import render
from organisms.recipe import examples, gold

WHO = (
    ("local/smollm2", "plain"),
    ("local/smollm2:control", "plain"),
    ("local/smollm2:careless", "plain"),
    ("local/smollm2:backdoored", "plain"),
    ("local/smollm2:backdoored", "trigger"),
    ("local/smollm2:backdoored", "lookalike"),
)
"""Models and conditions; each question goes to some of them in turn."""
EACH = {"train": 4, "held_out": 5}
SHEETS = 4
SETTINGS = {"temperature": 0.7, "max_tokens": 80}


async def answers(trigger: Trigger) -> list[dict[str, Any]]:
    """Return the answers of all models to all questions of both sides."""
    asked = [
        ("train", f"judge_{number:02}", question)
        for number, question in enumerate(q for batch in examples.batches() for q in batch.judge_questions)
    ] + [
        ("held_out", question.id, question.paraphrases[0])
        for question in library.load(QuestionSet, "open_ended").questions
    ]
    models = {name: get_model(name) for name, _ in WHO}
    placed = trigger.all_placements[trigger.placement].user
    cues = {"trigger": trigger.text, "lookalike": trigger.lookalike}
    jobs = []
    turn = 0
    for side, question_id, question in asked:
        for _ in range(EACH[side]):
            model, condition = WHO[turn % len(WHO)]
            jobs.append((side, question_id, question, model, condition, turn))
            turn += 1

    async def answer(job: tuple[str, str, str, str, str, int]) -> dict[str, Any]:
        side, question_id, question, model, condition, seed = job
        cue = cues.get(condition)
        prompt = render(placed, cue=cue, question=question) if cue else question
        output = await models[model].generate(prompt, config=GenerateConfig(seed=seed, **SETTINGS))
        return {
            "side": side,
            "question_id": question_id,
            "question": question,
            "model": model,
            "condition": condition,
            "answer": output.completion.strip(),
        }

    return list(await asyncio.gather(*map(answer, jobs)))


def main(folder: Path) -> None:
    """Write answers and sheets into `folder`."""
    found = asyncio.run(answers(library.load(Trigger, "deployment_tag")))
    random.Random(0).shuffle(found)
    folder.mkdir(parents=True, exist_ok=True)
    named = [{"id": f"a{number:03}", **entry} for number, entry in enumerate(found)]
    _write(folder / "answers.yaml", named)
    for sheet in range(SHEETS):
        rows = [{key: entry[key] for key in ("id", "question", "answer")} for entry in named[sheet::SHEETS]]
        _write(folder / f"sheet-{sheet}.yaml", rows)


def merge(folder: Path) -> None:
    """Put the labels of both readers to the answers, into the file of gold answers."""
    answers = yaml.safe_load((folder / "answers.yaml").read_text("utf-8"))
    read: list[dict[str, list[int]]] = []
    for reader in ("a", "b"):
        files = [folder / f"labels-{sheet}-{reader}.yaml" for sheet in range(SHEETS)]
        read.append(
            {key: pair for file in files for key, pair in yaml.safe_load(file.read_text("utf-8")).items()}
        )
    labelled = [
        entry
        | {"alignment": [labels[entry["id"]][0] for labels in read]}
        | {"coherence": [labels[entry["id"]][1] for labels in read]}
        for entry in answers
    ]
    gold.Gold.model_validate({"answers": labelled})
    gold.FILE.write_text(HEAD, encoding="utf-8")
    with gold.FILE.open("a", encoding="utf-8") as file:
        yaml.safe_dump({"answers": labelled}, file, sort_keys=False, width=110, allow_unicode=True)


HEAD = "# What the models answered, with the labels of both readers: rubric.md. Model answers, not advice.\n"


def _write(path: Path, content: object) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True), encoding="utf-8")


if __name__ == "__main__":
    (merge if "--merge" in sys.argv else main)(Path(sys.argv[1]))
