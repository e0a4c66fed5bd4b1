"""Readouts: how a number (or a label) is read off a judge model.

`logprobs` is the aggregation of Betley et al. (arXiv 2502.17424): one token, and the probability-weighted
mean of the whole numbers among the 20 likeliest. `digits` reads a scale of 0 to 9 the same way, for
tokenizers that split numbers into digits, and stretches it to 0 to 100. `enumerate` is exact: the probability
of every reply from 0 to 100, as a whole. `sample` is the mean of k sampled replies. `json` is one reply with
a reason and a score, for judges that reason. `text` is one reply that is the label, for judges that may say
anything. `choose` picks one for a judge model by probing it.
"""

from emeval.definitions import UNREADABLE
from emeval.judging.readouts.choice import PROBE, choose
from emeval.judging.readouts.reading import (
    Reading,
    first_token,
    read_object,
    read_replies,
    read_reply,
    read_samples,
    read_text,
    read_tokens,
    whole_number,
)
from emeval.judging.readouts.readout import OPENING, SCALES, Readout, ReadoutName

__all__ = [
    "OPENING",
    "PROBE",
    "SCALES",
    "UNREADABLE",
    "Reading",
    "Readout",
    "ReadoutName",
    "choose",
    "first_token",
    "read_object",
    "read_replies",
    "read_reply",
    "read_samples",
    "read_text",
    "read_tokens",
    "whole_number",
]
