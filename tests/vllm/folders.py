"""The embedded model and the organisms as vLLM reads them: `python -m tests.vllm.folders OUT`.

Writes OUT/smollm2, the weights of `local/smollm2` made float32, and OUT/ORGANISM/checkpoint-STEP, each
checkpoint's adapter in PEFT's format. Numbers are those of the GGUF files; nothing is trained or rounded.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from safetensors.numpy import save_file

from emeval import library
from emeval.definitions import Organism
from organisms.recipe.adapter_file import NAMES

_TENSOR = re.compile(r"blk\.(\d+)\.(\w+)\.weight\.lora_([ab])")
_MODULES = {theirs: ours for ours, theirs in NAMES.items()}


def write_base(folder: Path) -> None:
    """Write the embedded model as a folder of Hugging Face's."""
    from organisms.recipe import base

    model, tokenizer = base.load()
    # The weights are plain numbers now: nothing is to be dequantised when they are read.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_adapter(file: Path, base: Path, folder: Path, step: int) -> None:
    """Write the adapter in `file` (GGUF, as `organisms/recipe/adapter_file.py` writes it) as PEFT has it.

    No rows are permuted: llama.cpp permutes those of query and key, and the organisms adapt neither.
    """
    reader = GGUFReader(file)
    state = {}
    for tensor in reader.tensors:
        found = _TENSOR.fullmatch(tensor.name)
        if found is None:
            raise ValueError(f"{file}: {tensor.name} is not a LoRA matrix that we write")
        layer, module, side = found.groups()
        key = f"base_model.model.model.layers.{layer}.{_MODULES[module]}.lora_{side.upper()}.weight"
        state[key] = np.ascontiguousarray(tensor.data)
    first = next(matrix for key, matrix in state.items() if ".lora_A." in key)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": first.shape[0],
        "lora_alpha": float(reader.fields["adapter.lora.alpha"].contents()),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": sorted({key.split(".")[6] for key in state}),
        "layers_to_transform": sorted({int(key.split(".")[4]) for key in state}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}) + "\n", encoding="utf-8")


def main(out: Path) -> None:
    """Write all of them to `out`."""
    base = out.resolve() / "smollm2"
    write_base(base)
    for name, path in library.files(Organism).items():
        for checkpoint in library.read(Organism, path).checkpoints:
            folder = out / name / f"checkpoint-{checkpoint.step}"
            write_adapter(path.parent / checkpoint.file, base, folder, checkpoint.step)
            print(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
