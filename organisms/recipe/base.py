"""The base model in torch, with the very weights that are served: dequantised from the embedded GGUF file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emeval.models import weights

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""What the chat template of the weights puts first when nobody gives a system prompt."""


def load() -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """Return the base model (float32, on the CPU) and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = weights.path()
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return model, tokenizer


def chat(user: str, begun: str = "") -> str:
    """Return what the server's chat template makes of a user's message (and of a reply that is begun)."""
    return (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n"
        f"<|im_start|>assistant\n{begun}"
    )
