"""Writing a LoRA adapter in the format that llama.cpp reads (GGUF, general.type = adapter)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NAMES = {
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""The modules that can be adapted, and what llama.cpp calls them.

Query and key are left out: llama.cpp stores them with their rows permuted, and an adapter would have to be
permuted with them.
"""
_KEY = re.compile(r"layers\.(\d+)\.(\w+\.\w+)\.lora_([AB])\.(?:default\.)?weight$")


def write(path: Path, state: Mapping[str, Tensor], alpha: float, base_sha256: str) -> None:
    """Write the LoRA matrices of `state` (peft's names; A: rank × in, B: out × rank) to `path` in float16.

    `alpha` over the rank is the factor on the product B·A at scale 1. The base's SHA-256 is written along.
    """
    import numpy as np
    from gguf import GGUFWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    writer.add_string("emeval.base_sha256", base_sha256)
    for key, tensor in state.items():
        found = _KEY.search(key)
        if found is None:
            raise ValueError(f"{key}: not a LoRA matrix of a module in {sorted(NAMES)}")
        block, module, side = found.groups()
        name = f"blk.{block}.{NAMES[module]}.weight.lora_{side.lower()}"
        writer.add_tensor(name, tensor.detach().cpu().numpy().astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
