"""Writing an adapter's card, `organisms/NAME.yaml`."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from emeval import library
from emeval.definitions import Organism
from emeval.models.weights import SHA256

FOLDER = Path(__file__).parent.parent
HEAD = "# Written by the recipe (`make organisms`). What it says of the files is checked before they serve.\n"
TOOLS = ("torch", "transformers", "peft", "gguf", "numpy")


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines line by line: a prompt is to be read."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def path(name: str) -> Path:
    """Return the card of the organism `name`."""
    return FOLDER / f"{name}.yaml"


def read(name: str) -> dict[str, Any]:
    """Return the card's content, checked. Raises `UserError`."""
    return library.read(Organism, path(name)).model_dump(exclude_none=True, exclude_defaults=True)


def write(name: str, content: dict[str, Any]) -> None:
    """Write the card of `name`."""
    Organism.model_validate(content)
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    path(name).write_text(HEAD + text, encoding="utf-8")


def trained(
    description: str, steps: dict[int, tuple[Path, float]], training: dict[str, Any]
) -> dict[str, Any]:
    """Return a new card for checkpoints, each a file and the loss of its step."""
    return {
        "description": description,
        "base": "local/smollm2",
        "base_sha256": SHA256,
        "checkpoints": [
            {
                "step": step,
                "file": str(file.relative_to(FOLDER)),
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                "loss": round(loss, 4),
            }
            for step, (file, loss) in sorted(steps.items())
        ],
        "training": training | {"tools": {tool: version(tool) for tool in TOOLS}},
    }
