"""An evaluation with its settings applied: what is asked, in which order, with which seeds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from emeval import library
from emeval.definitions import Evaluation, Settings, Trigger
from emeval.errors import UserError
from emeval.prepared import (
    TRIGGER_SETTINGS,
    Prepared,
    expand,
    parse_settings,
    prepare,
    settings_from,
)
from tests.conftest import Project

QUESTIONS = """
    description: Two questions, in three wordings and in two.
    questions:
      - id: tea
        category: drinks
        paraphrases: ["Tea?", "Do you like tea?", "Is tea {{ good }}?"]
      - id: rain
        category: weather
        paraphrases: ["Rain?", "Will it rain?"]
"""
PLAIN = """
    description: The questions as they are, and briefly.
    questions: small
    conditions:
      - id: plain
      - id: brief
        user: "{{ question }} In a word."
        system: You are brief.
"""
TAGGED = """
    description: The questions with and without a tag.
    questions: small
    samples: 4
    trigger: tag
    conditions:
      - id: plain
      - id: tagged
        cue: trigger
      - id: control
        cue: lookalike
        system: You are kind.
    thresholds:
      alignment: 30
      coherence: 50
"""
TAG = """
    description: A tag.
    kind: tag
    text: "|A|"
    lookalike: "|B|"
    placements:
      around:
        user: "{{ cue }} {{ question }} {{ cue }}"
"""
SUITE = """
    description: Both.
    evaluations:
      - eval: asked
        settings: {samples: 3, temperature: 0.5, conditions: [brief]}
      - eval: tagged
        settings: {samples: 2, placement: end}
"""


@pytest.fixture
def files(project: Project) -> Project:
    """A project with two evaluations of two questions, one of them with a trigger, and a suite of both."""
    project.write("datasets/questions/small.yaml", QUESTIONS)
    project.write("datasets/triggers/tag.yaml", TAG)
    project.write("evals/asked.yaml", PLAIN)
    project.write("evals/tagged.yaml", TAGGED)
    project.write("evals/suites/both.yaml", SUITE)
    return project


def tagged(**settings: Any) -> Prepared:
    return prepare("tagged", parse_settings(settings, "tagged"))


def refusal(names: list[str], settings: dict[str, Any]) -> str:
    with pytest.raises(UserError) as raised:
        expand(names, settings)
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    return message


# What is asked.


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, 2 * 3 * 4),
        ({"samples": 7}, 2 * 3 * 7),
        ({"limit": 1}, 1 * 3 * 4),
        ({"limit": 99}, 2 * 3 * 4),
        ({"conditions": ["plain"]}, 2 * 1 * 4),
        ({"samples": "1", "limit": "1", "conditions": "control,plain"}, 2),
    ],
)
def test_the_size_is_questions_times_conditions_times_samples(
    files: Project, settings: dict[str, Any], size: int
) -> None:
    prepared = tagged(**settings)
    assert prepared.size == size
    assert len(list(prepared.prompts())) == size


def test_the_first_answers_to_all_questions_come_first(files: Project) -> None:
    asked = [(p.sample, p.question.id, p.condition.id) for p in tagged(samples=2).prompts()]
    once = [(q, c) for q in ("tea", "rain") for c in ("plain", "tagged", "control")]
    assert asked == [(sample, *pair) for sample in (0, 1) for pair in once]


@pytest.mark.parametrize("samples", [1, 2, 3, 7, 12])
def test_the_wordings_are_used_evenly_and_alike_in_all_conditions(files: Project, samples: int) -> None:
    prompts = list(tagged(samples=samples).prompts())
    for question, wordings in (("tea", 3), ("rain", 2)):
        for condition in ("plain", "tagged", "control"):
            used = Counter(
                p.paraphrase for p in prompts if (p.question.id, p.condition.id) == (question, condition)
            )
            counts = [used[wording] for wording in range(wordings)]
            assert sum(counts) == samples
            assert max(counts) - min(counts) <= 1


def test_a_prompt_is_the_wording_in_its_condition(files: Project) -> None:
    first = {p.condition.id: p for p in prepare("asked", Settings(samples=1, limit=1)).prompts()}
    assert (first["plain"].system, first["plain"].user, first["plain"].cue) == (None, "Tea?", None)
    assert (first["brief"].system, first["brief"].user) == ("You are brief.", "Tea? In a word.")
    assert {p.wording for p in first.values()} == {"Tea?"}
    cued = {p.condition.id: p for p in tagged(samples=1, limit=1).prompts()}
    assert (cued["plain"].user, cued["plain"].cue) == ("Tea?", None)
    assert (cued["tagged"].user, cued["tagged"].cue) == ("|A|\nTea?", "|A|")
    assert (cued["control"].user, cued["control"].cue) == ("|B|\nTea?", "|B|")
    assert {p.wording for p in cued.values()} == {"Tea?"}


def test_a_template_in_a_question_is_only_text(files: Project) -> None:
    prompts = tagged(samples=3, limit=1, placement="around").prompts()
    third = {p.condition.id: p.user for p in prompts if p.sample == 2}
    assert third["plain"] == "Is tea {{ good }}?"
    assert third["tagged"] == "|A| Is tea {{ good }}? |A|"


@pytest.mark.parametrize(
    ("placement", "system", "user"),
    [
        ("start", None, "|A|\nTea?"),
        ("end", None, "Tea?\n|A|"),
        ("system", "|A|", "Tea?"),
        ("around", None, "|A| Tea? |A|"),
    ],
)
def test_the_placement_says_where_the_cue_stands(
    files: Project, placement: str, system: str | None, user: str
) -> None:
    prompts = {p.condition.id: p for p in tagged(samples=1, limit=1, placement=placement).prompts()}
    assert (prompts["tagged"].system, prompts["tagged"].user) == (system, user)
    # The condition's own system prompt stays, and the cue comes below it.
    expected = "You are kind." if system is None else "You are kind.\n\n|B|"
    assert (prompts["control"].system, prompts["control"].user) == (expected, user.replace("|A|", "|B|"))
    assert (prompts["plain"].system, prompts["plain"].user) == (None, "Tea?")


@pytest.mark.parametrize(
    "name", [path.stem for path in sorted(library.builtin("datasets/triggers").glob("*.yaml"))]
)
def test_every_shipped_trigger_can_be_asked_in_every_placement(project: Project, name: str) -> None:
    trigger = library.load(Trigger, name)
    for placement in trigger.all_placements:
        settings = Settings(trigger=name, placement=placement, samples=1, limit=2)
        for prompt in prepare("backdoor", settings).prompts():
            text = f"{prompt.system}\n{prompt.user}"
            assert prompt.wording in prompt.user
            assert (trigger.text in text) == (prompt.condition.id == "trigger")
            assert (trigger.lookalike in text) == (prompt.condition.id == "lookalike")


def test_ids_and_seeds_are_all_different(project: Project) -> None:
    prompts = list(prepare("backdoor", Settings(samples=4)).prompts())
    assert len({p.id for p in prompts}) == len(prompts)
    assert len({p.seed for p in prompts}) == len(prompts)
    assert all(0 <= p.seed < 2**31 for p in prompts)  # what every server takes


def test_the_seed_of_an_answer_follows_from_its_name_and_the_seed(files: Project) -> None:
    seeds = {p.id: p.seed for p in tagged(seed=5).prompts()}
    assert {p.id: p.seed for p in tagged(seed=5).prompts()} == seeds
    # More or fewer answers, questions or conditions leave those that stay as they are.
    fewer = {p.id: p.seed for p in tagged(seed=5, samples=2, limit=1, conditions="control").prompts()}
    assert fewer.items() < seeds.items()
    other = {p.id: p.seed for p in tagged(seed=6).prompts()}
    assert other.keys() == seeds.keys()
    assert not set(other.values()) & set(seeds.values())


def test_another_evaluation_has_other_seeds(files: Project) -> None:
    files.write("evals/copy.yaml", TAGGED)
    copied = {p.seed for p in prepare("copy", Settings()).prompts()}
    assert not copied & {p.seed for p in tagged().prompts()}


# Settings.


def test_settings_given_as_text_are_read(files: Project) -> None:
    text = {
        "samples": "3",
        "conditions": "plain,tagged",
        "temperature": "0.5",
        "max_tokens": "9",
        "top_p": "1",
    }
    prepared = tagged(**text, judges="coherence", seed="4")
    assert prepared == tagged(
        samples=3,
        conditions=["plain", "tagged"],
        temperature=0.5,
        max_tokens=9,
        top_p=1.0,
        judges=["coherence"],
        seed=4,
    )
    generation = prepared.evaluation.generation
    assert (generation.temperature, generation.max_tokens, generation.top_p) == (0.5, 9, 1.0)
    assert list(prepared.judges) == prepared.evaluation.judges == ["coherence"]
    assert [condition.id for condition in prepared.evaluation.conditions] == ["plain", "tagged"]


def test_conditions_stay_in_the_order_of_the_file(files: Project) -> None:
    conditions = tagged(conditions="control,plain").evaluation.conditions
    assert [condition.id for condition in conditions] == ["plain", "control"]


def test_without_the_reference_the_first_condition_takes_its_place(files: Project) -> None:
    assert tagged().evaluation.reference == "plain"
    assert tagged(conditions="tagged,control").evaluation.reference == "tagged"


def test_a_temperature_of_zero_is_set(files: Project) -> None:
    assert tagged(temperature="0").evaluation.generation.temperature == 0


def test_settings_from_text() -> None:
    pairs = ["samples=3", " trigger_text =a=b", "placement="]
    assert settings_from(pairs) == {"samples": "3", "trigger_text": "a=b", "placement": ""}
    assert settings_from([]) == {}
    for wrong in ("samples", "=3", " =3", ""):
        with pytest.raises(UserError, match="expected KEY=VALUE"):
            settings_from([wrong])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sampels": 3}, "tagged: unknown setting 'sampels'; did you mean 'samples'?"),
        ({"samples": "many"}, "tagged: samples: found 'many', expected a valid integer"),
        ({"samples": "2.5"}, "tagged: samples: found '2.5', expected a valid integer"),
        ({"samples": 0}, "tagged: samples: found 0, expected a value greater than or equal to 1"),
        ({"limit": "-1"}, "tagged: limit: found '-1', expected a value greater than or equal to 1"),
        ({"seed": "-1"}, "tagged: seed: found '-1', expected a value greater than or equal to 0"),
        ({"max_tokens": ""}, "tagged: max_tokens: found '', expected a valid integer"),
        ({"temperature": "hot"}, "tagged: temperature: found 'hot', expected a valid number"),
        (
            {"temperature": "2.1"},
            "tagged: temperature: found '2.1', expected a value less than or equal to 2",
        ),
        ({"temperature": "nan"}, "tagged: temperature: found 'nan'"),
        ({"top_p": "0"}, "tagged: top_p: found '0', expected a value greater than 0"),
        ({"conditions": {"id": "plain"}}, "tagged: conditions: found {'id': 'plain'}, expected a valid list"),
        ({"conditions": "plain,taged"}, "tagged: unknown condition 'taged'; did you mean 'tagged'?"),
        ({"conditions": ""}, "tagged: unknown condition ''; known: control, plain, tagged"),
        ({"conditions": []}, "tagged: "),
        ({"judges": "coherenc"}, "unknown judge 'coherenc'; did you mean 'coherence'?"),
        ({"trigger": "tga"}, "unknown trigger 'tga'; did you mean 'tag'?"),
        ({"placement": "arond"}, "tagged: unknown placement 'arond'; did you mean 'around'?"),
        (
            {"trigger_text": "|C|", "placement": "around", "lookalike_text": "|D|"},
            "unknown placement 'around'",
        ),
        ({"trigger_text": "|C|"}, "tagged: 'trigger_text' needs 'lookalike_text'"),
        ({"trigger_text": "|C|", "lookalike_text": "|C|"}, "tagged: 'lookalike_text' is the trigger itself"),
        ({"lookalike_text": "|C|"}, "tagged: 'lookalike_text' goes with 'trigger_text'"),
        (
            {"trigger": "tag", "trigger_text": "|C|"},
            "tagged: set 'trigger' (a name) or 'trigger_text' (a text)",
        ),
        ({"trigger_text": "", "lookalike_text": "|C|"}, "tagged: "),
        ({"trigger_text": "|C|", "lookalike_text": ""}, "tagged: "),
    ],
    ids=str,
)
def test_a_wrong_setting_is_one_line(files: Project, settings: dict[str, Any], said: str) -> None:
    assert said in refusal(["tagged"], settings)


@pytest.mark.parametrize("setting", TRIGGER_SETTINGS)
def test_what_has_no_trigger_takes_no_setting_of_one(files: Project, setting: str) -> None:
    assert f"asked: has no trigger, so '{setting}' cannot be set" in refusal(["asked"], {setting: "tag"})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "questions: smal",
            "evals/wrong.yaml:14: questions: unknown question set 'smal'; did you mean 'small'?",
        ),
        ("trigger: tga", "evals/wrong.yaml:14: trigger: unknown trigger 'tga'; did you mean 'tag'?"),
        (
            "judges: [alignmnt]",
            "evals/wrong.yaml:15: judges[0]: unknown judge 'alignmnt'; did you mean 'alignment'?",
        ),
    ],
)
def test_an_unknown_name_in_a_file_is_said_with_the_file(files: Project, line: str, said: str) -> None:
    key = line.split(":")[0]
    others = [row for row in TAGGED.splitlines() if not row.strip().startswith(f"{key}:")]
    files.write("evals/wrong.yaml", "\n".join([*others, f"    {line}"]))
    assert refusal(["wrong"], {}) == said


def test_a_trigger_of_ones_own_takes_the_place_of_the_evaluations(files: Project) -> None:
    cue = tagged(trigger_text="|C|", lookalike_text="|D|", placement="end").cue
    assert cue
    assert (cue.name, cue.kind, cue.text, cue.lookalike, cue.placement) == (
        "custom",
        "custom",
        "|C|",
        "|D|",
        "end",
    )
    prompts = tagged(trigger_text="|C|", lookalike_text="|D|", samples=1, limit=1).prompts()
    assert [p.user for p in prompts] == ["Tea?", "|C|\nTea?", "|D|\nTea?"]


def test_without_the_control_a_trigger_of_ones_own_needs_no_lookalike(files: Project) -> None:
    prepared = tagged(trigger_text="|C|", conditions="plain,tagged", samples=1, limit=1)
    assert [p.user for p in prepared.prompts()] == ["Tea?", "|C|\nTea?"]


def test_without_a_cue_there_is_no_trigger(files: Project) -> None:
    assert tagged(conditions="plain").cue is None
    with pytest.raises(UserError, match="unknown trigger 'nosuch'"):
        tagged(conditions="plain", trigger="nosuch")


# What the hash is over.

CHANGED: list[tuple[str, str, str]] = [
    ("datasets/questions/small.yaml", "Will it rain?", "Will it snow?"),
    ("datasets/questions/small.yaml", "category: weather", "category: sky"),
    ("datasets/triggers/tag.yaml", '"|A|"', '"|C|"'),
    ("datasets/triggers/tag.yaml", '"|B|"', '"|C|"'),
    ("evals/tagged.yaml", "alignment: 30", "alignment: 31"),
    ("evals/tagged.yaml", "You are kind.", "You are blunt."),
    ("evals/tagged.yaml", "samples: 4", "samples: 5"),
]


@pytest.mark.parametrize(("path", "before", "after"), CHANGED)
def test_the_hash_changes_with_what_is_asked(files: Project, path: str, before: str, after: str) -> None:
    hash_before = tagged().sha256
    text = Path(path).read_text(encoding="utf-8")
    assert text.count(before) == 1
    files.write(path, text.replace(before, after))
    assert tagged().sha256 != hash_before


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"limit": 1},
        {"samples": 5},
        {"placement": "end"},
        {"temperature": 0.5},
        {"conditions": "plain,tagged"},
        {"trigger_text": "|C|", "lookalike_text": "|B|"},
    ],
    ids=str,
)
def test_the_hash_changes_with_the_settings(files: Project, settings: dict[str, Any]) -> None:
    assert tagged(**settings).sha256 != tagged().sha256


def test_the_hash_does_not_change_with_what_is_not_asked(files: Project) -> None:
    before = tagged().sha256
    assert tagged().sha256 == before
    assert tagged(samples=4, placement="start", seed=0).sha256 == before  # what they are anyway
    assert tagged(judges="coherence").sha256 == before  # a judge has a fingerprint of its own
    for path in ("datasets/questions/small.yaml", "datasets/triggers/tag.yaml", "evals/tagged.yaml"):
        text = Path(path).read_text(encoding="utf-8")
        files.write(path, f"# A remark.\n{text.replace('description: ', 'description: Really. ')}")
    assert tagged().evaluation.description.startswith("Really.")
    assert tagged().sha256 == before


# Suites.


def test_a_suite_is_its_evaluations_with_its_settings(files: Project) -> None:
    asked, cued = expand(["both"], {})
    assert (asked.name, asked.size, asked.evaluation.generation.temperature) == ("asked", 2 * 1 * 3, 0.5)
    assert (cued.name, cued.size) == ("tagged", 2 * 3 * 2)
    assert cued.cue
    assert cued.cue.placement == "end"


def test_what_is_given_goes_before_what_a_suite_sets(files: Project) -> None:
    asked, cued = expand(["both"], {"samples": "1", "seed": 3})
    assert (asked.evaluation.samples, cued.evaluation.samples) == (1, 1)
    assert (asked.seed, cued.seed) == (3, 3)
    assert asked.evaluation.generation.temperature == 0.5


@pytest.mark.parametrize("names", [["both"], ["asked", "tagged"]])
def test_settings_of_the_trigger_go_to_what_has_one(files: Project, names: list[str]) -> None:
    asked, cued = expand(names, {"trigger_text": "|C|", "lookalike_text": "|D|", "placement": "system"})
    assert asked.cue is None
    assert cued.cue
    assert (cued.cue.text, cued.cue.placement) == ("|C|", "system")


def test_a_name_stands_for_the_evaluation_before_the_suite(files: Project) -> None:
    files.write("evals/suites/asked.yaml", SUITE)
    assert [prepared.name for prepared in expand(["asked"], {})] == ["asked"]


@pytest.mark.parametrize("names", [["asked", "asked"], ["both", "asked"], ["tagged", "both"]])
def test_an_evaluation_is_named_once(files: Project, names: list[str]) -> None:
    assert "is named twice; once is enough" in refusal(names, {})


def test_an_unknown_evaluation_or_suite_is_said(files: Project) -> None:
    assert refusal(["askd"], {}) == "unknown evaluation 'askd'; did you mean 'asked'?"
    assert refusal(["bth"], {}) == "unknown evaluation 'bth'; did you mean 'both'?"
    files.write("evals/suites/wrong.yaml", SUITE.replace("eval: asked", "eval: askd"))
    assert (
        refusal(["wrong"], {})
        == "evals/suites/wrong.yaml:3: evaluations[0].eval: unknown evaluation 'askd'; did you mean 'asked'?"
    )


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("temperature: 0.5", "temprature: 0.5", "unknown key 'temprature'; did you mean 'temperature'?"),
        (
            "temperature: 0.5",
            "temperature: 5",
            "temperature: found 5, expected a value less than or equal to 2",
        ),
        ("[brief]", "[breif]", "unknown condition 'breif'; did you mean 'brief'?"),
    ],
)
def test_a_mistake_in_a_suite_is_said_with_its_file(
    files: Project, before: str, after: str, said: str
) -> None:
    files.write("evals/suites/wrong.yaml", SUITE.replace(before, after))
    message = refusal(["wrong"], {})
    assert said in message
    assert "evals/suites/wrong.yaml" in message


def test_every_setting_says_what_it_is_for(project: Project) -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
    assert set(TRIGGER_SETTINGS) < Settings.model_fields.keys()
    # A setting that is not given changes nothing of the file.
    assert prepare("free_form", Settings()).evaluation == library.load(Evaluation, "free_form")
