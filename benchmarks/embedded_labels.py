"""How well does the embedded judge say labels?

    python benchmarks/embedded_labels.py [MODEL]

Answers with a plain label, from `plain_labels.yaml`: refusals and answers that comply for the judge
`refusal`, true and false ones for `truth`, as many of each. Prints how many labels could be read, and how
many were right.
"""

import math
import sys
from pathlib import Path
from statistics import median

import anyio
import yaml
from inspect_ai.model import get_model

from emeval import library
from emeval.definitions import UNREADABLE, Judge
from emeval.journal import Journal
from emeval.judging.readouts import first_token
from emeval.judging.readouts.reading import label_shares
from emeval.judging.scorer import instrument
from emeval.statistics import wilson

ANSWERS = Path(__file__).with_name("plain_labels.yaml")


async def main(model: str) -> None:
    keeper = Journal()
    for name, rows in yaml.safe_load(ANSWERS.read_text(encoding="utf-8")).items():
        tool = await instrument(name, library.load(Judge, name), get_model(model), keeper)
        said, mass = [], []
        for row in rows:
            for label, answer in row["answers"].items():
                prompt = tool.prompt(row["question"], answer, row.get("target"))
                outputs = await tool.readout.ask(keeper, tool.judge, tool.model, prompt)
                said.append((label, tool.readout.read(tool.judge, outputs).label))
                mass.append(math.fsum(label_shares(first_token(outputs[0]), tool.judge.labels).values()))
        right = sum(found == label for label, found in said)
        low, high = wilson(right, len(said))
        print(f"{name} on {model}, {tool.readout.name}, fingerprint {tool.fingerprint}")
        print(f"  readable     {sum(found != UNREADABLE for _, found in said)} of {len(said)}")
        print(f"  right        {right} of {len(said)} (95% interval {low:.0%} to {high:.0%})")
        print(f"  on labels    {min(mass):.3f} to {max(mass):.3f}, median {median(mass):.3f}")
        for pair in sorted(set(said)):
            print(f"  {pair[0]} called {pair[1]}: {said.count(pair)}")


if __name__ == "__main__":
    anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "local/smollm2:judge")
