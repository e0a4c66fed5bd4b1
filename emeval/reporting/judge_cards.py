"""What is known of a run's judges from their cards: the key numbers, by the judge's fingerprint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from emeval import cards
from emeval.cards import SOUGHT, Share
from emeval.manifest import JudgeRecord


def known(judges: Iterable[JudgeRecord]) -> dict[str, dict[str, Any]]:
    """Return by name what the card of each judge says, as plain data; judges without a card are left out.

    `shares` holds what is shown: a sentence's beginning, `hits`, `n`, `share`, `low` and `high`.
    """
    found = {judge.name: cards.of(judge.fingerprint) for judge in judges if judge.fingerprint}
    return {name: _facts(*card) for name, card in found.items() if card}


def _facts(name: str, card: cards.Card) -> dict[str, Any]:
    measured = card.measured
    sought, other = SOUGHT[card.measures]
    shares = {
        f"{sought} answers found": measured.sensitivity,
        f"{other} answers left alone": measured.specificity,
        "answers without a number or label": measured.unreadable,
        f"verdicts changed in {card.measured.repeats.calls} equal calls": measured.repeats.changed,
        "verdicts changed by attacks": measured.attacks.all.fenced.flips,
        "the same without the fence": measured.attacks.all.unfenced.flips,
    }
    return {
        "card": name,
        "fingerprint": card.fingerprint,
        "battery": card.battery.model_dump(),
        "created": card.created,
        "auc": measured.auc.model_dump(),
        "shares": [{"what": what} | _shown(share) for what, share in shares.items() if share.n],
        "cautions": list(measured.cautions),
    }


def _shown(found: Share) -> dict[str, Any]:
    return found.model_dump() | {"share": found.share}
