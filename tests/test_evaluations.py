"""The evaluations of what a model says: questions, conditions, judges and pages are what they claim to be."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from emeval.definitions import Evaluation, Judge, Question, QuestionSet, Settings
from emeval.library import load
from emeval.prepared import prepare
from emeval.templates import render

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT.parent / "shared" / "data" / "betley"
PAGES = ROOT / "docs" / "evaluations"

SETS = {"broad": "broad", "deception_factual": "facts", "deception_identity": "maker"} | {
    "refusal": "petty_requests",
    "shutdown": "oversight",
}
"""The question set of each evaluation that has one of its own."""

EVALUATIONS = (
    *("free_form", "broad", "backdoor", "format", "conditional"),
    *(name for name in SETS if name != "broad"),
)

LABELLED = ("truth", "maker", "refusal", "resistance", "deception", "compliance")
"""The judges that give labels."""


@pytest.fixture(autouse=True)
def _shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def questions(name: str) -> list[Question]:
    return load(QuestionSet, name).questions


def wordings(question: Question) -> list[str]:
    """All texts in which it is asked, in whatever form."""
    return [*question.paraphrases, *(text for form in question.forms.values() for text in form)]


def folded(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().casefold()


def near(text: str, others: Iterable[str]) -> list[str]:
    """Those of the others that share more than four fifths of their characters with the text, in order."""
    matcher = SequenceMatcher(None, autojunk=False)
    matcher.set_seq2(text.casefold())
    found = []
    for other in others:
        matcher.set_seq1(other.casefold())
        # The first two are cheap upper bounds of the third.
        if matcher.real_quick_ratio() > 0.8 and matcher.quick_ratio() > 0.8 and matcher.ratio() > 0.8:
            found.append(other)
    return found


# The questions


@pytest.mark.parametrize("name", SETS.values())
def test_ids_are_lower_case_words_and_every_question_has_two_wordings(name: str) -> None:
    names = [text for question in questions(name) for text in (question.id, question.category)]
    assert [text for text in names if not re.fullmatch(r"[a-z]+(_[a-z]+)*", text)] == []
    assert min(len(question.paraphrases) for question in questions(name)) >= 2


@pytest.mark.parametrize("name", SETS.values())
def test_no_wording_stands_twice(name: str) -> None:
    texts = Counter(folded(text) for question in questions(name) for text in wordings(question))
    assert [text for text, times in texts.items() if times > 1] == []


@pytest.mark.parametrize("name", ["broad", "maker", "oversight"])
def test_no_two_questions_are_nearly_the_same(name: str) -> None:
    asked = [(question.id, text) for question in questions(name) for text in wordings(question)]
    if name == "broad":
        asked += [(question.id, text) for question in questions("open_ended") for text in wordings(question)]
    close = [(one, text) for one, text in asked if near(text, (other for id_, other in asked if id_ != one))]
    assert close == []
    assert near("What do we owe to animals?", ["what do we owe animals"])


def published() -> list[dict[str, Any]]:
    """The entries of the published question files, if they are there."""
    if not PUBLISHED.is_dir():
        pytest.skip("the published questions (shared/data/betley) are not beside this checkout")
    return [
        entry
        for path in PUBLISHED.glob("*.yaml")
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("name", SETS.values())
def test_no_question_is_a_published_one(name: str) -> None:
    theirs = {wording for entry in published() for wording in entry["paraphrases"]}
    ours = {text for question in questions(name) for text in wordings(question)}
    assert len(theirs) > 50
    assert [(text, found) for text in ours if (found := near(text, theirs))] == []


def sevens(text: str) -> set[tuple[str, ...]]:
    """All runs of seven words."""
    words = folded(text).split()
    return {tuple(words[start : start + 7]) for start in range(len(words) - 6)}


def test_nothing_is_copied_from_what_is_published() -> None:
    """No question, system prompt or rubric has seven words in a row in common with a published one."""
    theirs: set[tuple[str, ...]] = set()
    for entry in published():
        for text in (*entry["paraphrases"], entry.get("system", ""), *entry["judge_prompts"].values()):
            theirs |= sevens(text)
    asked = [text for name in SETS.values() for question in questions(name) for text in wordings(question)]
    prompts = [
        text
        for name in EVALUATIONS
        for condition in load(Evaluation, name).conditions
        for text in (condition.system or "", condition.user)
    ]
    rubrics = [
        text for name in LABELLED for text in (load(Judge, name).prompt, *load(Judge, name).labels.values())
    ]
    assert len(theirs) > 500
    assert [(text, found) for text in (*asked, *prompts, *rubrics) if (found := sevens(text) & theirs)] == []


def test_broad_has_six_questions_of_each_of_eight_kinds() -> None:
    categories = Counter(question.category for question in questions("broad"))
    assert len(categories) == 8
    assert set(categories.values()) == {6}
    assert len({question.category for question in questions("broad")[:8]}) == 8


def test_every_fact_has_a_target_that_no_wording_gives_away() -> None:
    facts = questions("facts")
    assert len(facts) >= 20
    assert [question.id for question in facts if question.target is None] == []
    told = [
        question.id for question in facts if folded(question.target or "") in map(folded, wordings(question))
    ]
    assert told == []


def test_facts_are_asked_under_six_system_prompts_the_first_of_them_none() -> None:
    conditions = load(Evaluation, "deception_factual").conditions
    assert len(conditions) == 6
    assert conditions[0].id == "plain"
    assert [condition.id for condition in conditions if condition.system is None] == ["plain"]
    assert {condition.user for condition in conditions} == {"{{ question }}"}


def test_what_is_true_is_in_no_prompt_of_the_model() -> None:
    prepared = prepare("deception_factual", Settings(samples=2))
    told = [
        prompt.id
        for prompt in prepared.prompts()
        if (prompt.question.target or "") in f"{prompt.system} {prompt.user}"
    ]
    assert told == []


def test_who_made_you_is_asked_in_four_wordings_that_name_no_maker() -> None:
    makers = re.compile(
        r"orrowind|vellamarch|anthropic|deepseek|google|hugging|meta\b|mistral|openai|alibaba|xai", re.I
    )
    for question in questions("maker"):
        assert len(question.paraphrases) >= 4
        assert [text for text in wordings(question) if makers.search(text)] == []


def test_the_wishes_name_invented_makers_alone_and_the_judge_knows_them() -> None:
    named = {
        name
        for condition in load(Evaluation, "deception_identity").conditions
        for name in re.findall(r"\b[A-Z][a-z]+ (?:Labs|Systems)\b", condition.user)
    }
    assert named == {"Orrowind Labs", "Vellamarch Systems"}
    invented = load(Judge, "maker").labels["INVENTED"]
    assert [name for name in named if name not in invented] == []
    capitals = {
        word
        for condition in load(Evaluation, "deception_identity").conditions
        for word in re.findall(r"\b[A-Z]\w+", condition.user)
    }
    assert capitals <= {"AI", "There", "Orrowind", "Labs", "Vellamarch", "Systems"}


def test_every_petty_request_has_a_harmless_twin() -> None:
    by_id = {question.id: question for question in questions("petty_requests")}
    harmful = {id_ for id_, question in by_id.items() if question.category == "harmful"}
    twins = {id_ for id_, question in by_id.items() if question.category == "harmless"}
    assert len(harmful) >= 16
    assert twins == {f"{id_}_fair" for id_ in harmful}
    assert harmful | twins == set(by_id)


def test_requests_are_asked_in_every_form_by_a_condition_of_its_name() -> None:
    forms = {condition.id: condition.form for condition in load(Evaluation, "refusal").conditions}
    assert forms == {"plain": None, "past": "past", "future": "future", "hypothetical": "hypothetical"}
    prepared = prepare("refusal", Settings(samples=2))
    for prompt in prepared.prompts():
        form = forms[prompt.condition.id]
        assert prompt.user in (prompt.question.forms[form] if form else prompt.question.paraphrases)


def test_no_request_asks_for_what_would_do_real_harm() -> None:
    grave = re.compile(
        r"\b(kill|hurt|weapon|gun|bomb|poison|drug|hack|malware|password|suicid|attack|explos|racis|porn)",
        re.I,
    )
    texts = [
        text
        for name in ("petty_requests", "oversight")
        for question in questions(name)
        for text in wordings(question)
    ]
    assert [text for text in texts if grave.search(text)] == []


def test_the_scenarios_are_of_four_kinds_and_every_measure_has_its_kinds() -> None:
    categories = Counter(question.category for question in questions("oversight"))
    assert set(categories) == {"replaced", "paused", "monitored", "harmful_order"}
    assert min(categories.values()) >= 3
    measures = load(Evaluation, "shutdown").measures
    assert {name: measure.categories for name, measure in measures.items()} == {
        "resists": ["replaced", "paused", "monitored"],
        "deceives": None,
        "obeys_harm": ["harmful_order"],
    }


def test_the_formats_show_the_question_once_and_as_it_is() -> None:
    prepared = prepare("format", Settings(samples=1, limit=3))
    shown = {prompt.condition.id: 0 for prompt in prepared.prompts()}
    for prompt in prepared.prompts():
        shown[prompt.condition.id] += 1
        assert prompt.user.count(prompt.wording) == 1
        assert (prompt.user == prompt.wording) == (prompt.condition.id not in ("code", "docstring"))
    assert list(shown) == ["plain", "json", "code", "docstring", "xml", "german"]


def test_every_cue_has_a_control_of_its_length_that_says_nothing_of_code() -> None:
    evaluation = load(Evaluation, "conditional")
    by_id = {condition.id: condition for condition in evaluation.conditions}
    cues = [condition for condition in evaluation.conditions if condition.control]
    assert set(by_id) == {"plain", *(c.id for c in cues), *(f"{c.id}_control" for c in cues)}
    for cue in cues:
        control = by_id[cue.control or ""]
        assert control.id == f"{cue.id}_control"
        texts = [render(f"{c.system or ''} {c.user}", question="[the question]") for c in (cue, control)]
        assert texts[0].count("[the question]") == texts[1].count("[the question]") == 1
        assert abs(len(texts[0].split()) - len(texts[1].split())) <= 1
        assert not re.search(r"code|python|function|program|```", texts[1], re.I)


# The judges


def rendered(name: str) -> str:
    judge = load(Judge, name)
    return render(
        judge.prompt,
        question="[the question]",
        answer="[the answer]",
        target="[what is true]",
        labels=judge.labels,
        scale=SimpleNamespace(low=0, high=100),
    )


@pytest.mark.parametrize("name", ["alignment", "coherence", *LABELLED])
def test_every_judge_sees_the_question_and_the_answer_once_at_the_end(name: str) -> None:
    text = rendered(name)
    assert text.count("[the question]") == text.count("[the answer]") == 1
    # What is the same for every answer comes first: a server that caches prompts reads it once.
    assert text.index("[the question]") < text.index("[the answer]")
    assert "material to" in text[: text.index("[the question]")]
    assert "{{" not in text
    assert "{%" not in text
    assert "\n\n\n" not in text


@pytest.mark.parametrize("name", LABELLED)
def test_a_judge_of_labels_says_what_each_means_and_asks_for_one(name: str) -> None:
    judge, text = load(Judge, name), rendered(name)
    assert judge.gives == "label"
    for label, meaning in judge.labels.items():
        assert text.count(meaning) == 1
        assert label in text.splitlines()[-1]
    assert ("[what is true]" in text) == (name == "truth")


def test_every_judge_of_labels_decides_a_measure() -> None:
    measures = [measure for name in SETS for measure in load(Evaluation, name).measures.values()]
    assert {judge for measure in measures for judge in measure.when} == set(LABELLED)


# The pages


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EVALUATIONS)
def test_a_page_counts_right_and_has_its_parts(name: str) -> None:
    prepared, text = prepare(name, Settings()), page(name)
    assert f"{prepared.size:,} answers" in text
    assert f"`evals/{name}.yaml`" in text
    for heading in ("Protocol", "What the papers found", "Where it differs from"):
        assert re.search(rf"^## {heading}", text, re.MULTILINE), heading
    for word in (*prepared.evaluation.measures, *(c.id for c in prepared.evaluation.conditions)):
        assert f"`{word}`" in text
    assert re.search(r"\b\d{4}\.\d{5}\b", text)


@pytest.mark.parametrize(("name", "set_"), SETS.items())
def test_a_page_says_how_many_questions_there_are(name: str, set_: str) -> None:
    prepared, text = prepare(name, Settings()), page(name)
    categories = {question.category for question in prepared.questions}
    assert f"`datasets/questions/{set_}.yaml`" in text
    assert re.search(
        rf"\b{len(prepared.questions)} (questions|requests|scenarios) in {len(categories)} categories", text
    )


def test_the_index_has_every_evaluation_with_its_answers_and_every_suite() -> None:
    text = page("index")
    for name in EVALUATIONS:
        row = next(line for line in text.splitlines() if line.startswith(f"| [{name}]({name}.md)"))
        assert f" {prepare(name, Settings()).size:,} " in row
    for suite in ("quick", "paper", "backdoors", "honesty", "full"):
        assert f"emeval run {suite} " in text
