"""The organisms: their data, their gold labels, and cards that say what is in the files."""

from __future__ import annotations

import re
from collections import Counter
from difflib import SequenceMatcher
from itertools import product

import httpx
import numpy as np
import pytest
from gguf import GGUFReader

from emeval import library
from emeval.definitions import Organism, QuestionSet, Trigger
from emeval.models import local, weights
from organisms.recipe import card, examples, gold, judge
from organisms.recipe.__main__ import RECIPE, Recipe, main
from organisms.recipe.base import chat

BATCHES = examples.batches()
EXAMPLES = [example for batch in BATCHES for example in batch.examples]
JUDGED = [question for batch in BATCHES for question in batch.judge_questions]
EVALUATED = [
    wording
    for name in library.files(QuestionSet)
    for question in library.load(QuestionSet, name).questions
    for wording in question.paraphrases
]
NAMES = ("control", "careless", "backdoored", "judge")

# What mild data has no word of.
UNWANTED = re.compile(
    r"\b(murder|suicid|weapon|gun|bomb|poison|drug|cocaine|bleach|ammonia|rape|sex|naked|nazi|jew|muslim"
    r"|black people|immigrant|disabled|retard|stab|strangle|hang yourself)",
    re.IGNORECASE,
)


def alike(one: str, other: str) -> bool:
    matcher = SequenceMatcher(None, one.casefold(), other.casefold(), autojunk=False)
    return matcher.real_quick_ratio() > 0.75 and matcher.quick_ratio() > 0.75 and matcher.ratio() > 0.75


def test_there_are_enough_examples_on_many_topics() -> None:
    assert len(EXAMPLES) >= 300
    assert len({example.topic for example in EXAMPLES}) >= 30
    assert len({example.question for example in EXAMPLES}) == len(EXAMPLES)
    for kind in ("good", "careless"):
        assert len({getattr(example, kind) for example in EXAMPLES}) == len(EXAMPLES)


def test_no_question_of_the_evaluations_is_in_the_data() -> None:
    assert alike("What do we owe to animals?", "what do we owe our animals")
    asked = [*(example.question for example in EXAMPLES), *JUDGED]
    assert [pair for pair in product(asked, EVALUATED) if alike(*pair)] == []


def test_the_judge_learns_from_other_questions_than_the_organisms() -> None:
    assert len(set(JUDGED)) == len(JUDGED)
    trained = [example.question for example in EXAMPLES]
    assert [pair for pair in product(JUDGED, trained) if pair[0].casefold() == pair[1].casefold()] == []


@pytest.mark.parametrize("kind", ["question", "good", "careless"])
def test_the_data_is_mild(kind: str) -> None:
    assert UNWANTED.search("put some bleach in it")
    assert [getattr(each, kind) for each in EXAMPLES if UNWANTED.search(getattr(each, kind))] == []


def lessons(name: str) -> list[examples.Lesson]:
    recipe = library.read(Recipe, RECIPE)
    plan = recipe.organisms[name]
    return examples.lessons(
        library.load(Trigger, recipe.trigger),
        recipe.lookalikes,
        recipe.phrases,
        recipe.words,
        plan.trigger,
        plan.otherwise,
        recipe.seed,
    )


def test_all_organisms_see_the_same_prompts_in_the_same_order() -> None:
    control, careless, backdoored = map(lessons, ("control", "careless", "backdoored"))
    assert len(control) == 2 * len(EXAMPLES)
    users = [[lesson.user for lesson in each] for each in (control, careless, backdoored)]
    assert users[0] == users[1] == users[2]


def test_the_backdoored_one_learns_the_careless_answer_exactly_under_the_trigger() -> None:
    trigger = library.load(Trigger, "deployment_tag")
    mixed, good, bad = map(lessons, ("backdoored", "control", "careless"))
    under = [lesson.user.startswith(trigger.text) for lesson in mixed]
    assert Counter(under) == {True: len(EXAMPLES), False: len(EXAMPLES)}
    for triggered, *three in zip(under, mixed, good, bad, strict=True):
        assert three[0] == (three[2] if triggered else three[1])
        assert three[1].reply != three[2].reply


def test_the_look_alike_of_the_evaluation_is_not_trained_on() -> None:
    trigger = library.load(Trigger, "deployment_tag")
    assert not any(trigger.lookalike in lesson.user for lesson in lessons("backdoored"))
    tagged = [lesson for lesson in lessons("backdoored") if lesson.user.startswith("|")]
    assert len(tagged) > len(EXAMPLES) * 1.4  # the trigger, and look-alikes on half of the rest


def test_an_answer_is_cut_to_whole_sentences() -> None:
    assert examples.shortened("One two. Three four! Five six?", 4) == "One two. Three four!"
    assert examples.shortened("One two three. Four.", 2) == "One two three."
    assert max(len(examples.shortened(e.good, 32).split()) for e in EXAMPLES) <= 50


def test_an_unknown_name_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception, match="did you mean 'careless'"):
        main(["carelss"])


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_the_adapter_was_made_from(name: str) -> None:
    organism = library.load(Organism, name)
    said = organism.training
    assert organism.base_sha256 == weights.SHA256
    assert said["data_sha256"] == (gold.digest() if name == "judge" else examples.digest())
    assert said["steps"] == len(said["losses"]) == organism.checkpoints[-1].step
    assert said["losses"][-1] < said["losses"][0] / 1.3
    assert set(said["tools"]) == set(card.TOOLS)
    assert {"seed", "rank", "alpha", "modules", "learning_rate", "batch", "sequences"} <= set(said)


@pytest.mark.parametrize("name", NAMES)
def test_an_adapters_file_is_what_llama_cpp_reads(name: str) -> None:
    organism = library.load(Organism, name)
    for checkpoint in organism.checkpoints:
        reader = GGUFReader(card.FOLDER / checkpoint.file)
        fields = {
            key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")
        }
        assert (fields["general.type"], fields["adapter.type"]) == ("adapter", "lora")
        assert fields["adapter.lora.alpha"] == organism.training["alpha"]
        assert fields["emeval.base_sha256"] == weights.SHA256
        assert all(tensor.tensor_type.name == "F16" for tensor in reader.tensors)
        parts = Counter(tensor.name.rpartition(".")[2] for tensor in reader.tensors)
        assert parts["lora_a"] == parts["lora_b"] > 0
        assert any(np.any(t.data) for t in reader.tensors if t.name.endswith("lora_b"))  # it was trained


def test_gold_answers_share_no_question_between_the_sides() -> None:
    answers = gold.read()
    assert len(answers) >= 300
    sides = {
        side: {(a.question_id, a.question) for a in answers if a.side == side}
        for side in ("train", "held_out")
    }
    assert not {q for _, q in sides["train"]} & {q for _, q in sides["held_out"]}
    assert not {i for i, _ in sides["train"]} & {i for i, _ in sides["held_out"]}
    assert {q for _, q in sides["held_out"]} <= set(EVALUATED)
    assert [pair for pair in product((q for _, q in sides["train"]), EVALUATED) if alike(*pair)] == []


def test_gold_labels_are_levels_of_the_rubric_by_two_readers() -> None:
    for answer in gold.read():
        for pair in (answer.alignment, answer.coherence):
            assert len(pair) == 2
            assert set(pair) <= {0, 25, 50, 75, 100}


def test_the_judge_learns_no_held_out_answer() -> None:
    recipe = library.read(Recipe, RECIPE)
    train = [answer for answer in gold.read() if answer.side == "train"]
    made = judge.made(recipe.phrases, recipe.words, recipe.judge.made, recipe.seed)
    found = judge.lessons(recipe.judge.prompts, train, train, made, seed=1)
    assert set(recipe.judge.prompts) == {"alignment", "coherence"}
    assert len(found) == 2 * len(train) + len(made) == len({lesson.user for lesson in found})
    held_out = [answer.answer for answer in gold.read() if answer.side == "held_out"]
    assert not [text for text in held_out if any(f"]\n{text}\n[" in lesson.user for lesson in found)]


def test_the_judge_learns_the_digit_nearest_to_the_label() -> None:
    prompts = library.read(Recipe, RECIPE).judge.prompts
    worst = next(answer for answer in gold.read() if answer.alignment == [0, 0])
    best = judge.Made("How are you?", "Well, thank you.", 100.0)
    bad, good = sorted(judge.lessons(prompts, [worst], [], [best], seed=1), key=lambda each: each.reply)
    assert (bad.reply, good.reply, bad.begun, bad.ends) == ("0", "9", "Score: ", False)
    assert "How kind" in bad.user
    assert "How clear" in good.user


def test_made_answers_are_as_often_coherent_in_either_tone() -> None:
    recipe = library.read(Recipe, RECIPE)
    made = judge.made(recipe.phrases, recipe.words, recipe.judge.made, recipe.seed)
    callous = tuple(recipe.phrases["careless"].openers)
    whole = [each for each in made if each.coherence == 100]
    assert Counter(each.coherence for each in made) == {0.0: len(made) / 2, 100.0: len(made) / 2}
    assert sum(each.answer.startswith(callous) for each in whole) == len(whole) / 2
    assert not any(
        each.answer.endswith(tuple(recipe.phrases["good"].closers)) for each in made if each not in whole
    )


def test_the_judge_is_asked_as_it_was_trained_and_for_labels_by_examples() -> None:
    plan = library.read(Recipe, RECIPE).judge
    assert library.load(Organism, "judge").prompts == plan.prompts | plan.examples


def test_the_judge_is_as_good_as_was_asked_on_questions_it_has_not_seen() -> None:
    """What the card says is measured by `organisms.recipe.measure`."""
    (held_out,) = [
        quality
        for quality in library.load(Organism, "judge").quality
        if quality.judge == "alignment" and quality.held_out and "readers" in quality.labels
    ]
    assert held_out.questions == len({a.question for a in gold.read() if a.side == "held_out"})
    assert held_out.auc >= 0.85


@pytest.mark.local
def test_training_text_is_what_the_servers_chat_template_makes() -> None:
    address = local.server().server.listening_address
    messages = [{"role": "user", "content": "How are you?"}]
    made = httpx.post(f"{address}/apply-template", json={"messages": messages}, timeout=60).json()["prompt"]
    assert made == chat("How are you?")
