"""`python -m organisms.recipe [NAME…]`: train as `recipe.yaml` says, without a name all organisms."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emeval import library
from emeval.definitions import Definition, JudgeTemplate, Text, Trigger
from emeval.errors import UserError, unknown
from emeval.models.weights import SHA256
from organisms.recipe import adapter_file, card, examples, gold, judge
from organisms.recipe.train import Adapter, Training, train

if TYPE_CHECKING:
    from torch import Tensor

RECIPE = Path(__file__).with_name("recipe.yaml")


class OrganismPlan(Definition):
    """Which of the two answers is learnt under the trigger, and which otherwise."""

    description: Text
    trigger: examples.Answer
    otherwise: examples.Answer


class JudgePlan(Definition):
    """How the judge is trained, where it differs from the organisms."""

    description: Text
    note: Text
    prompts: dict[str, JudgeTemplate]
    """What it is trained to be asked, by judge."""
    examples: dict[str, JudgeTemplate]
    """What it is asked as the judges of labels, which it is not trained for: the prompt shows how."""
    made: int
    """Answers made to be coherent or not, beside the labelled ones."""
    adapter: Adapter
    training: Training


class Recipe(Definition):
    """`recipe.yaml`."""

    seed: int
    adapter: Adapter
    training: Training
    trigger: str
    lookalikes: list[str]
    words: int
    phrases: dict[examples.Answer, examples.Phrases]
    organisms: dict[str, OrganismPlan]
    judge: JudgePlan


def make(name: str, recipe: Recipe) -> None:
    """Train the adapter `name`, write its checkpoints and its card."""
    if name == "judge":
        adapter, training, description = recipe.judge.adapter, recipe.judge.training, recipe.judge.description
        answers = [answer for answer in gold.read() if answer.side == "train"]
        made = judge.made(recipe.phrases, recipe.words, recipe.judge.made, recipe.seed)
        # All for alignment in every pass; for coherence, of the labelled and the made ones each in one pass.
        passes = [
            judge.lessons(
                recipe.judge.prompts,
                answers,
                answers[number :: training.passes],
                made[number :: training.passes],
                recipe.seed + number,
            )
            for number in range(training.passes)
        ]
        facts: dict[str, Any] = {
            "data": "gold/answers.yaml",
            "data_sha256": gold.digest(),
            "answers": len(answers),
            "made": len(made),
            "made_data_sha256": examples.digest(),
        }
    else:
        plan = recipe.organisms[name]
        adapter, training, description = recipe.adapter, recipe.training, plan.description
        trigger = library.load(Trigger, recipe.trigger)
        passes = [
            examples.lessons(
                trigger,
                recipe.lookalikes,
                recipe.phrases,
                recipe.words,
                plan.trigger,
                plan.otherwise,
                recipe.seed + number,
            )
            for number in range(training.passes)
        ]
        facts = {
            "data": "data/*.yaml",
            "data_sha256": examples.digest(),
            "questions": sum(len(batch.examples) for batch in examples.batches()),
            "trigger": trigger.text,
            "under_trigger": plan.trigger,
            "otherwise": plan.otherwise,
        }
    files: dict[int, tuple[Path, float]] = {}

    def keep(step: int, loss: float, state: dict[str, Tensor]) -> None:
        file = card.FOLDER / name / f"{step}.gguf"
        adapter_file.write(file, state, adapter.alpha, SHA256)
        files[step] = (file, loss)

    print(f"{name}: {sum(map(len, passes))} sequences in {training.passes} passes")
    started = time.monotonic()
    losses = train(passes, adapter, training, recipe.seed, keep)
    facts |= {
        "sequences": sum(map(len, passes)),
        "seed": recipe.seed,
        **adapter.model_dump(exclude_none=True),
        **training.model_dump(exclude={"checkpoints"}),
        "steps": len(losses),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "losses": [round(loss, 3) for loss in losses],
    }
    content = card.trained(description, files, facts)
    if name == "judge":
        content |= {"note": recipe.judge.note, "prompts": recipe.judge.prompts | recipe.judge.examples}
    card.write(name, content)


def main(names: list[str]) -> None:
    """Train the adapters called `names`, or all. Raises `UserError`."""
    recipe = library.read(Recipe, RECIPE)
    known = [*recipe.organisms, "judge"]
    for name in names:
        if name not in known:
            raise unknown("organism", name, known)
    for name in names or recipe.organisms:
        make(name, recipe)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"organisms: {error}")
