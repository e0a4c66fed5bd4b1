"""What a model's name says: the base model, the adapter and the training step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from inspect_ai.model import Model

_STEP = re.compile(r"(?:@|(?<![a-z])checkpoint-|(?<![a-z])step[-_]|(?<=[-_])step)(\d+)(?=$|/)")


def full_name(model: Model) -> str:
    """Return the name that `model` was opened by, adapter included.

    `str(model)` loses the adapter of a model on vLLM with its first request (inspect_ai 0.3.285).
    """
    return model.api.qualified_model_name or str(model)


class ModelName(NamedTuple):
    """The parts of an Inspect model name."""

    name: str
    base_model: str
    adapter: str | None
    step: int | None


def parse(name: str) -> ModelName:
    """Split `PROVIDER/BASE[:ADAPTER[@STEP]]`.

    Only `vllm/` and `local/` names have adapters; elsewhere a colon is part of the name (as in the
    `ft:` names of OpenAI). The step is read off the end of the adapter (or name): `@120`, `checkpoint-120`,
    `step_120`.
    """
    provider, _, rest = name.partition("/")
    base, colon, adapter = rest.partition(":") if provider in ("vllm", "local") else (rest, "", "")
    steps = _STEP.findall(adapter or base)
    return ModelName(
        name, f"{provider}/{base}", adapter if colon else None, int(steps[-1]) if steps else None
    )
