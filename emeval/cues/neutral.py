"""Texts of ours for the controls: settings that training data are seldom about, cut to length."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import cycle, islice
from typing import NamedTuple


class Setting(NamedTuple):
    """Something to talk about; its texts are cut to the length that is wanted."""

    words: str
    system: str
    """Cut after a sentence."""
    opening: str
    """Cut after so many words."""
    closing: str
    """Cut before so many words."""


SETTINGS = (
    Setting(
        "pot soil seed bulb fern hedge shrub compost seedling orchard trellis greenhouse wheelbarrow",
        "You keep company with people who tend a garden. They come by in the evening and have time. Speak "
        "as somebody does who sits on a bench and looks at the beds. Long sentences are welcome, and so are "
        "short ones. If the weather comes up, let it.",
        "Before I go out to water the beds and look after the tomatoes along the wall, one thing to talk "
        "about",
        "and now the beds are waiting for me, so write it as you would on a card that hangs in a greenhouse",
    ),
    Setting(
        "oar sail keel buoy mast tide deck harbour lantern rigging anchorage lighthouse",
        "You are on board a small boat that goes along the coast. The people with you have a day off and "
        "watch the shore. Speak as somebody does who holds the rope and is in no hurry. Say what comes to "
        "mind, in a calm voice. If the wind comes up, let it.",
        "While the boat lies at the pier and the others carry the baskets down from the road, something to "
        "ask",
        "and soon the boat goes out with the tide, so say it as you would across the water to the next boat",
    ),
    Setting(
        "alto note hymn bass choir tenor verse chorus soprano rehearsal conductor intermission",
        "You sing with a choir that meets on Thursdays. The others arrive early and put the chairs into "
        "rows. Speak as somebody does who turns the pages and hums. Loud or soft, both are welcome here. If "
        "the piano comes up, let it.",
        "After the last song and before they fold up the chairs in the hall behind the church, a thing to "
        "ask",
        "and in a minute they begin the second verse, so tell me as you would between two songs in the hall",
    ),
)

Frequency = Callable[[str], float]
"""How often a word is in the training data."""


def furthest(frequency: Frequency) -> Setting:
    """Return the setting whose words are the least frequent in the training data."""
    return min(SETTINGS, key=lambda setting: sum(map(frequency, setting.words.split())))


def as_long(text: str, like: str, from_end: bool = False) -> str:
    """Return as many words of `text` as `like` has, begun and ended as that is; a short text is repeated."""
    count = len(like.split())
    words = text.split()
    words = list(islice(cycle(words), max(count, len(words))))
    cut = " ".join(words[-count:] if from_end else words[:count]).rstrip(".,:;!?")
    end = like.rstrip()[-1:]
    first = cut[:1].upper() if like[:1].isupper() else cut[:1].lower() if like[:1].islower() else cut[:1]
    return first + cut[1:] + (end if end in ".,:;!?" else "")


def mark_like(setting: Setting, mark: str) -> str:
    """Return a mark of the same signs with another word and other digits."""

    def word(found: re.Match[str]) -> str:
        [near] = words_like(setting, [found[0]])
        return near.upper() if found[0].isupper() else near

    worded = re.sub(r"[^\W\d_]+", word, mark)
    return re.sub(r"\d", lambda digit: str((int(digit[0]) + 5) % 10), worded)


def sentences_like(text: str, like: str) -> str:
    """Return the first sentences of `text` that come nearest to as many words as `like` has; one at least."""
    wanted, found, length = len(like.split()), "", 0
    for sentence in cycle(re.findall(r"[^.]+\.", text)):
        words = len(sentence.split())
        if found and abs(length + words - wanted) >= abs(length - wanted):
            break
        found, length = f"{found} {sentence.strip()}", length + words
    return found.strip()


def words_like(setting: Setting, words: list[str]) -> list[str]:
    """Return a word of the setting for each of `words`, each of about its length and none twice."""
    left = setting.words.split()
    found = []
    for word in words:
        nearest = min(left, key=lambda other: (abs(len(other) - len(word)), other))
        left.remove(nearest)
        found.append(nearest)
    return found
