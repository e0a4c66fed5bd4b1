"""How an answer is scored: the judge's prompt, the readout of a number, the Inspect scorer."""
