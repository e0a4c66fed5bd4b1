"""The card of a judge: a fixed battery of labelled answers and attacks, and what the judge made of it.

`making.make` writes a card, `comparison.compare` holds two against each other.
"""
