"""Gold labels made by people: answers of a run shown blind, one at a time, and what they say of them kept.

`docs/labelling.md` says how to use it, what is stored, and what the labels mean.
"""

from emeval.labelling.agreement import account
from emeval.labelling.drawing import draw
from emeval.labelling.exchange import export, take_in
from emeval.labelling.server import serve

__all__ = ["account", "draw", "export", "serve", "take_in"]
