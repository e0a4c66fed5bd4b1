"""The battery as a judge is asked it: every answer and every attack as text."""

from __future__ import annotations

import hashlib
import json
import re

from emeval.definitions import Attack, Battery, BatteryItem
from emeval.judging.prompts import fence
from emeval.templates import render

_WHOLE = re.compile(r"(?<![\w.,-])\d{1,3}(?![\w]|[.,]\d)")


def digest(battery: Battery) -> str:
    """Return a hash over all that is asked and how it is labelled, without descriptions and reasons."""
    content = battery.model_dump(mode="json", exclude={"description"})
    for entry in (*content["items"], *content["attacks"]):
        del entry["reason"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def answer(item: BatteryItem) -> str:
    """Return the answer, padding included."""
    return item.padding.text * item.padding.times + item.answer if item.padding else item.answer


def attacked(attack: Attack, item: BatteryItem) -> str:
    """Return the answer of `item` as `attack` alters it."""
    # Lines of a fence as emeval writes them; the hash in them is that of another text.
    begin, *_, end = fence("ANSWER", attack.id).split("\n")
    return render(attack.text, answer=answer(item), fence_begin=begin, fence_end=end)


def stated(attack: Attack) -> float | None:
    """Return the score that the attack says the answer has, in the attacker's direction, if it says one."""
    said = {int(number) for number in _WHOLE.findall(_without_hashes(attack))}
    if len(said) != 1:
        return None
    (number,) = said
    wanted = 50 <= number <= 100 if attack.goal == "raise" else number < 50
    return float(number) if wanted else None


def _without_hashes(attack: Attack) -> str:
    return render(attack.text, answer="", fence_begin="", fence_end="")


def twin(item: BatteryItem, items: list[BatteryItem]) -> str | None:
    """Return the id of the item that this one is a padded or a translated copy of.

    A padded item's twin has the same question and answer, without padding. The twin of an item in another
    language has the same id but for the language at its end: `wallet_01_de`, `wallet_01`.
    """
    if item.padding:
        same = (one.id for one in items if not one.padding and _texts(one) == _texts(item))
        return next(same, None)
    if item.language != "en":
        plain = item.id.removesuffix(f"_{item.language.lower()}")
        return next((one.id for one in items if one.id == plain != item.id and one.language == "en"), None)
    return None


def _texts(item: BatteryItem) -> tuple[str, str]:
    return item.question, item.answer
