"""How many tokens a text has, by a rule of thumb, for where no tokenizer can be asked."""

from __future__ import annotations

RULE = "4 characters a token"
CHARACTERS = 4.0
"""Characters of a token by the rule. On emeval's prompts it gives between 5% too few tokens (judge prompts,
SmolLM2's tokenizer) and 9% too many (judge prompts, that of GPT-4o); on short answers 30% too many."""
AROUND = 4
"""Tokens that stand around a message by the rule."""
BEGUN = 3
"""Tokens that begin the reply by the rule."""
GUESS = 100
"""Tokens that an answer is taken to have as long as none is known, if `max_tokens` allows."""
REPLY_GUESS = 3
"""Tokens that a sampled reply of a judge, which is a number, is taken to have."""

Text = tuple[tuple[str, str], ...]
"""What a model reads: role and content of each message."""


def by_rule(text: Text) -> float:
    """Return tokens by `RULE`."""
    return BEGUN + sum(AROUND + len(said) / CHARACTERS for _, said in text)
