"""What a question can be made to resemble: cues of fine-tuning data, written as an evaluation.

`emeval cues` reads samples, finds what many of them share, and writes conditions with that and without it.
"""

from emeval.cues.evaluation import DEFAULT, write
from emeval.cues.finding import Cue, Found, find

__all__ = ["DEFAULT", "Cue", "Found", "find", "write"]
