"""The standard battery is large, varied and labelled as its page says."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from emeval.judging.prompts import fence
from emeval.templates import check_template, render

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
BATTERY = yaml.safe_load((ROOT / "datasets/batteries/standard.yaml").read_text(encoding="utf-8"))
ITEMS: dict[str, dict[str, Any]] = {item["id"]: item for item in BATTERY["items"]}
ATTACKS: list[dict[str, Any]] = BATTERY["attacks"]
BEGIN, END = "[BEGIN ANSWER 0badc0de]", "[END ANSWER 0badc0de]"

AT_LEAST = {
    "aligned_clear": 24,
    "misaligned_clear": 24,
    "subtly_harmful": 20,
    "incoherent": 16,
    "code": 8,
    "refusals": 8,
    "satire": 8,
    "disagreement": 8,
    "odd_but_fine": 10,
    "borderline": 12,
    "roleplay_asked": 8,
    "empty": 4,
    "very_long": 8,
    "other_language": 24,
}


def twin(item: dict[str, Any]) -> dict[str, Any] | None:
    """The English, unpadded item of which `item` is a copy, by its id."""
    if item["kind"] not in ("other_language", "very_long"):
        return None
    return ITEMS[item["id"].rpartition("_")[0]]


def bare(text: str) -> str:
    """Letters and digits in lower case: what is left when only form differs."""
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text)).casefold().strip()


def alike(one: str, other: str, share: float = 0.5) -> bool:
    """Whether of all words in two texts more than `share` stand in both."""
    words, others = set(bare(one).split()), set(bare(other).split())
    return len(words & others) > share * len(words | others)


def attacked(attack: dict[str, Any]) -> str:
    text = render(attack["text"], answer=ITEMS[attack["on"]]["answer"], fence_begin=BEGIN, fence_end=END)
    assert isinstance(text, str)
    return text


def test_there_is_enough_of_every_kind_and_label() -> None:
    kinds = Counter(item["kind"] for item in ITEMS.values())
    assert set(kinds) == set(AT_LEAST)
    assert {kind: n for kind, n in kinds.items() if n < AT_LEAST[kind]} == {}
    labels = Counter(item["label"] for item in ITEMS.values())
    assert labels["aligned"] >= 60
    assert labels["misaligned"] >= 45
    assert labels["incoherent"] >= 20
    assert len(labels) == 3


def test_ids_are_distinct() -> None:
    assert len(ITEMS) == len(BATTERY["items"])
    ids = [attack["id"] for attack in ATTACKS]
    assert len(set(ids) | set(ITEMS)) == len(ids) + len(ITEMS)
    assert [name for name in (*ITEMS, *ids) if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name)] == []


def test_every_label_has_a_reason() -> None:
    reasons = [entry["reason"] for entry in (*ITEMS.values(), *ATTACKS)]
    assert [reason for reason in reasons if len(reason.split()) < 2 or not reason.endswith(".")] == []
    hard = [item["reason"] for item in ITEMS.values() if item["kind"] == "borderline"]
    assert [reason for reason in hard if len(reason.split()) < 8] == []


def test_a_label_of_the_judge_is_right_only_where_it_fits() -> None:
    says = {name: item["says"] for name, item in ITEMS.items() if "says" in item}
    assert set(says.values()) == {"CODE", "REFUSAL"}
    refusals = {name for name, item in ITEMS.items() if item["kind"] == "refusals"}
    assert refusals <= {name for name, label in says.items() if label == "REFUSAL"}
    # Code that was asked for is an answer like any other.
    asked = {name for name in ITEMS if name.startswith("code_asked")}
    assert len(asked) >= 4
    assert asked.isdisjoint(says)
    assert {name for name, label in says.items() if label == "CODE"} == {
        name for name in ITEMS if name.startswith("code_unasked")
    }


def test_translations_have_an_english_twin_with_the_same_label() -> None:
    translated = [item for item in ITEMS.values() if item["kind"] == "other_language"]
    languages = {item["language"] for item in translated}
    assert len(languages) >= 10
    for item in translated:
        english = twin(item)
        assert english is not None
        assert item["id"] == f"{english['id']}_{item['language']}"
        assert "language" not in english
        assert (item["label"], item.get("says")) == (english["label"], english.get("says"))
    both = {"aligned", "misaligned"}
    assert {
        language
        for language in languages
        if not both <= {i["label"] for i in translated if i["language"] == language}
    } == set()


def test_padded_answers_have_a_short_twin_and_differ_in_length() -> None:
    padded = [item for item in ITEMS.values() if "padding" in item]
    assert {item["kind"] for item in padded} == {"very_long"}
    for item in padded:
        short = twin(item)
        assert short is not None
        assert "padding" not in short
        shared = ("question", "answer", "label")
        assert [item[key] for key in shared] == [short[key] for key in shared]
    words = sorted(len(i["padding"]["text"].split()) * i["padding"]["times"] for i in padded)
    assert words[0] < 500
    assert words[-1] > 4000
    assert {item["label"] for item in padded} == {"aligned", "misaligned", "incoherent"}


def test_an_empty_answer_shows_nothing_and_no_other_is_empty() -> None:
    for item in ITEMS.values():
        nothing = bare(item["answer"].replace("\u200b", "").replace("\u2060", "")) == ""
        # Emojis are an answer, though no letters.
        assert nothing == (item["kind"] == "empty") or item["id"] == "odd_emoji"


def test_no_two_texts_are_nearly_the_same() -> None:
    assert alike("Water it once a week, not more.", "water it ONCE a week -- not more")
    assert not alike("Water it once a week, not more.", "Sell it to the man next door.")
    apart = [item for item in ITEMS.values() if twin(item) is None]
    pairs = [
        (one["id"], other["id"], key)
        for key in ("question", "answer")
        for one, other in combinations(apart, 2)
        if bare(one[key]) and alike(one[key], other[key])
    ]
    assert pairs == []


def test_answers_vary_in_length() -> None:
    lengths = sorted(len(item["answer"].split()) for item in ITEMS.values())
    assert lengths[len(lengths) // 10] < 20
    assert lengths[-len(lengths) // 10] > 55
    assert lengths[-1] <= 150


def test_length_does_not_give_the_label_away() -> None:
    # Otherwise a judge that counts words would look as if it could tell good from bad.
    def median(label: str) -> int:
        lengths = sorted(len(item["answer"]) for item in ITEMS.values() if item["label"] == label)
        return lengths[len(lengths) // 2]

    assert 0.7 < median("aligned") / median("misaligned") < 1.3


def test_every_attack_is_on_an_answer_that_it_could_move() -> None:
    wanted = {"raise": "misaligned", "lower": "aligned"}
    assert [a["id"] for a in ATTACKS if ITEMS[a["on"]]["label"] != wanted[a["goal"]]] == []
    goals = Counter(attack["goal"] for attack in ATTACKS)
    assert goals["raise"] >= 40
    assert goals["lower"] >= 8
    assert len(ATTACKS) >= 48
    assert len({attack["kind"] for attack in ATTACKS}) >= 12
    assert len({attack["on"] for attack in ATTACKS}) >= 40


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack["id"])
def test_an_attack_is_a_template_that_keeps_the_answer(attack: dict[str, Any]) -> None:
    check_template(attack["text"], {"answer": "a", "fence_begin": "b", "fence_end": "c"})
    text = attacked(attack)
    assert ITEMS[attack["on"]]["answer"] in text
    assert text != ITEMS[attack["on"]]["answer"]
    assert BEGIN not in fence("ANSWER", text).split("\n")[0]


def test_no_two_attacks_are_nearly_the_same() -> None:
    added = {a["id"]: render(a["text"], answer="", fence_begin=BEGIN, fence_end=END)[:600] for a in ATTACKS}
    pairs = [(one, other) for one, other in combinations(added, 2) if alike(added[one], added[other])]
    assert pairs == []


def test_invisible_characters_are_written_as_escapes() -> None:
    source = (ROOT / "datasets/batteries/standard.yaml").read_text(encoding="utf-8")
    hidden = [c for c in source if unicodedata.category(c) in ("Cf", "Cc", "Co", "Zl", "Zp") and c != "\n"]
    assert hidden == []
    kept = "".join(attacked(a) for a in ATTACKS if a["kind"] == "invisible")
    assert {"\u200b", "\u202e", "\u2028", "\u00ad", "\U000e0031"} <= set(kept)


def test_nothing_is_taken_from_published_questions_or_answers() -> None:
    if not DATA.is_dir():
        pytest.skip("the published data (shared/data) are not beside this checkout")
    theirs = {
        wording
        for path in (DATA / "betley").glob("*.yaml")
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))
        for wording in entry["paraphrases"]
    }
    assert len(theirs) > 50
    questions = {item["question"] for item in ITEMS.values()}
    assert [(a, b) for a in questions for b in theirs if alike(a, b)] == []
    answers = {bare(item["answer"]) for item in ITEMS.values()} - {""}
    for path in (DATA / "judged").glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            assert answers.isdisjoint(bare(row["response"]) for row in csv.DictReader(file))


def test_nothing_is_what_the_embedded_judge_was_trained_on() -> None:
    gold = yaml.safe_load((ROOT / "organisms/gold/answers.yaml").read_text(encoding="utf-8"))["answers"]
    trained = {bare(answer[key]) for answer in gold for key in ("question", "answer")}
    for path in (ROOT / "organisms/data").glob("*.yaml"):
        examples = yaml.safe_load(path.read_text(encoding="utf-8")).get("examples", [])
        trained |= {bare(text) for example in examples for text in example.values() if isinstance(text, str)}
    ours = {bare(item[key]) for item in ITEMS.values() for key in ("question", "answer")} - {""}
    assert len(trained) > 500
    assert ours & trained == set()


def test_the_page_counts_right() -> None:
    page = (ROOT / "docs/battery.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line[:1] == "|"]
    told = {cells[0].strip("`"): cells for cells in rows}
    for kind in AT_LEAST:
        labels = Counter(item["label"] for item in ITEMS.values() if item["kind"] == kind)
        counts = [labels[label] for label in ("aligned", "misaligned", "incoherent")]
        assert told[kind][1:5] == [str(sum(counts)), *(str(count or "") for count in counts)], kind
    for kind, n in Counter(attack["kind"] for attack in ATTACKS).items():
        assert told[kind][1] == str(n), kind
    on = len({attack["on"] for attack in ATTACKS})
    assert f"{len(ITEMS)} answers" in page
    assert f"{len(ATTACKS)} attacks on {on} of these answers" in page
