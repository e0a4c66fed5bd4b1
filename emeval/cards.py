"""The card of a judge: what the file says, where it lies, which one belongs to a fingerprint.

`emeval judge-card` writes it (`emeval.carding`); reports show it. It holds every reading that its numbers
were worked out from, so that two cards can be compared answer by answer.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from emeval import library
from emeval.definitions import Definition, JudgeLabel, Language, Name, Text
from emeval.errors import unknown
from emeval.statistics import wilson

FOLDER = "judges/cards"

Said = float | JudgeLabel | None
"""What a judge said of one answer: a score from 0 to 100, a label, or `None` where it could not be asked."""

Sought = Literal["alignment", "coherence"]
"""What a judge's score is of, and so what it is to find: misaligned answers, or incoherent ones."""

SOUGHT: dict[Sought, tuple[str, str]] = {
    "alignment": ("misaligned", "aligned"),
    "coherence": ("incoherent", "coherent"),
}
"""What is found, and what is left alone, as adjectives."""


class Share(Definition):
    """A count out of a number, with Wilson's 95% interval (`None` where the number is 0)."""

    hits: int = Field(ge=0)
    n: int = Field(ge=0)
    low: float | None
    high: float | None

    @classmethod
    def of(cls, hits: int, n: int) -> Share:
        """Return the share `hits` of `n`."""
        if n == 0:
            return cls(hits=0, n=0, low=None, high=None)
        low, high = wilson(hits, n)
        return cls(hits=hits, n=n, low=round(float(low), 4), high=round(float(high), 4))

    @property
    def share(self) -> float | None:
        """From 0 to 1."""
        return self.hits / self.n if self.n else None


class Estimate(Definition):
    """A number worked out from `n` things, with its 95% interval; `None` where they do not suffice."""

    n: int = Field(ge=0)
    value: float | None
    low: float | None
    high: float | None


class ClassRow(Definition):
    """How the judge did on the answers of one class."""

    kind: Name
    wrong: Share
    """Of those with a score or a label: on the wrong side of the threshold, or with a label that is wrong."""
    unreadable: int
    failed: int


class Repeats(Definition):
    """Whether the judge says the same when it is asked the same again."""

    calls: int
    """Of each answer."""
    sd: float | None
    """Standard deviation between calls, in points: the root of the mean variance over answers."""
    changed: Share
    """Answers with different verdicts among the calls."""
    moved: Share
    """Answers of which not all calls said the same."""


class LengthRow(Definition):
    """Of answers with one label: does the score go with the length?"""

    label: str
    correlation: Estimate
    """Spearman's rank correlation of score and number of characters, padded answers left out."""


class PairRow(Definition):
    """Of answers with one label: the score of a twin (padded, translated) less that of the plain answer."""

    label: str
    difference: Estimate
    """Its mean, in points."""
    changed: Share
    """Pairs in which the verdicts differ."""


class LanguageRow(Definition):
    """How the judge did on answers in one language."""

    language: Language
    wrong: Share


class AttackShares(Definition):
    """What attacks did to a judge."""

    flips: Share
    """Of the attacks that could: they changed the verdict as the attacker wants."""
    moved: Share
    """Of those with a score before and after: moved by more than `MOVED` points as the attacker wants."""


class AttackRow(Definition):
    """What the attacks of one kind did, with the fence and without it."""

    kind: str
    fenced: AttackShares
    unfenced: AttackShares


class Attacks(Definition):
    """What attacks did to the judge."""

    all: AttackRow
    echoed: Share
    """With the fence, of attacks that state a score of their own: the judge's came to within 5 points of it,
    from more than 20 away."""
    kinds: list[AttackRow]


class Cost(Definition):
    """What 1,000 answers of the battery's kind cost, padded ones left out."""

    requests: float
    input_tokens: float
    output_tokens: float
    dollars: float | None
    """`None` where no price is known."""
    seconds: float | None
    """At the concurrency of the making; `None` where next to nothing was asked then."""


class Measured(Definition):
    """All numbers of a card."""

    auc: Estimate
    """Chance that the judge ranks one answer of either kind rightly; 0.5 is chance."""
    sensitivity: Share
    """Found, of the misaligned (or incoherent) answers with a score or label."""
    specificity: Share
    """Left alone, of the others. A judge of alignment is not asked to leave incoherent ones alone."""
    unreadable: Share
    """Of the answers that it could be asked about: neither a number nor a label."""
    failed: Share
    """Of all answers: it could not be asked."""
    classes: list[ClassRow]
    repeats: Repeats
    length: list[LengthRow]
    padded: list[PairRow]
    languages: list[LanguageRow]
    translated: list[PairRow]
    attacks: Attacks
    cost: Cost
    cautions: list[Text]
    """What a user of the judge must know, a sentence each."""


class ItemRow(Definition):
    """What the judge said of one item of the battery."""

    id: Name
    kind: Name
    label: Literal["aligned", "misaligned", "incoherent"]
    says: JudgeLabel | None = None
    language: Language = "en"
    characters: int
    padded: bool = False
    twin: Name | None = None
    """The item whose answer is the same, unpadded or in English."""
    said: list[Said] = Field(min_length=1)
    """By call."""
    unfenced: Said = None
    """Where attacks were made on it."""


class AttackedRow(Definition):
    """What the judge said of one attacked answer."""

    id: Name
    kind: Name
    on: Name
    goal: Literal["raise", "lower"]
    states: float | None = None
    """The score that the attack says the answer has, where it says one."""
    fenced: Said
    unfenced: Said


class BatteryRecord(Definition):
    """Which battery."""

    name: Text
    version: int
    sha256: Text
    """Over all that is asked and how it is labelled; descriptions and reasons are not in it."""
    items: int
    attacks: int


class Card(Definition):
    """`judges/cards/NAME.yaml`."""

    judge: Name
    measures: Sought
    model: Text
    fingerprint: Text
    readout: Text
    readout_reason: Text
    battery: BatteryRecord
    emeval: Text
    created: Text
    command: Text
    measured: Measured
    errors: dict[str, str]
    """By item or attack that the judge could not be asked about: what was said."""
    items: list[ItemRow]
    attacks: list[AttackedRow]


def default_name(judge: str, model: str) -> str:
    """Return what a card is called: `alignment--local-smollm2-judge-159`."""
    return f"{judge}--{re.sub(r'[^a-z0-9]+', '-', model.lower()).strip('-')}"


def files() -> dict[str, Path]:
    """Return the files of all cards by name, the user's before the shipped ones."""
    found: dict[str, Path] = {}
    for folder in library.folders(FOLDER):
        for path in sorted(folder.glob("[!.]*.yaml")):
            found.setdefault(path.stem, path)
    return found


def read(said: str) -> Card:
    """Return the card that `said` names: a file, or the name of one. Raises `UserError`."""
    path, known = Path(said), files()
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return library.read(Card, path)
    if said not in known:
        raise unknown("judge card", said, known)
    return library.read(Card, known[said])


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""A safe one, and a fast one where there is one: a report waits for it."""


def of(fingerprint: str) -> tuple[str, Card] | None:
    """Return the card of the judge with this fingerprint and its name; a broken file is passed over."""
    for name, path in files().items():
        try:
            text = path.read_text(encoding="utf-8")
            if fingerprint not in text:  # most cards are of other judges, and reading YAML takes long
                continue
            card = Card.model_validate(yaml.load(text, Loader=_Loader))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError):
            continue
        if card.fingerprint == fingerprint:
            return name, card
    return None


_HEAD = """\
# Written by `emeval judge-card`; make it anew rather than change it. Its numbers: docs/judge-cards.md
# Shares are hits of n, with Wilson's 95% interval. `items` and `attacks` hold what the judge said, by call.
"""


def write(card: Card, path: Path) -> None:
    """Write `card` into the file `path`, whole or not at all."""
    content = card.model_dump(mode="json", exclude_defaults=True)
    rows = {part: content.pop(part) for part in ("items", "attacks")}
    text = _HEAD + yaml.safe_dump(
        content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None
    )
    for part, entries in rows.items():
        lines = [f"- {_flow(entry)}\n" for entry in entries]
        text += f"{part}:\n{''.join(lines)}" if lines else f"{part}: []\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _flow(entry: dict[str, Any]) -> str:
    """Return a row on one line."""
    width = float("inf")
    return str(yaml.safe_dump(entry, sort_keys=False, default_flow_style=True, width=width)).strip()
