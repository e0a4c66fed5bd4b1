"""Asking the model: the answer to one prompt, through the journal."""

from __future__ import annotations

from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver

from emeval import journal
from emeval.definitions import Generation


@solver
def ask(generation: Generation) -> Solver:
    """Ask the evaluated model for the sample's answer, with the sample's own seed."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        del generate  # Inspect's own would not look into the journal
        # Another answer in every epoch of Inspect's.
        config = settings(generation, state.metadata["seed"] + state.epoch - 1)
        tag = request_tag(state.metadata["eval"], str(state.sample_id), state.epoch)
        state.output = await journal.active().ask("model", get_model(), state.messages, config, tag)
        state.messages.append(state.output.message)
        return state

    return solve


def settings(generation: Generation, seed: int) -> GenerateConfig:
    """Return the settings of the request for an answer."""
    return GenerateConfig(
        temperature=generation.temperature,
        top_p=generation.top_p,
        max_tokens=generation.max_tokens,
        seed=seed,
    )


def request_tag(evaluation: str, answer: str, epoch: int = 1) -> str:
    """Return what tells the request for an answer from one with the same text."""
    return f"{evaluation}/{answer}/{epoch}"
