"""The card of a judge: a fixed battery of labelled answers and attacks, and what the judge made of it."""

from emeval.carding.comparison import compare
from emeval.carding.making import make

__all__ = ["compare", "make"]
