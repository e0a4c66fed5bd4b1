"""What goes wrong on a server of models, told in one line with the way to mend it.

A server says what is wrong in its own words: in the body of a refusal, or in the log of its start. `FAULTS`
knows those of vLLM (0.32) and of what Inspect makes of them. Whatever else is said is handed on as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from emeval.errors import first, reason


class ServerFault(NamedTuple):
    """One thing that can be wrong."""

    pattern: str
    """A regular expression for what the server says; matched without regard to case."""
    said: str
    """What is wrong, in a clause; `{name}` is a group of the pattern."""
    mend: str
    """What to do about it."""


_MEMORY = (
    "use a smaller --gpu-memory-utilization beside another program, or end that; give --max-model-len, "
    "--max-num-seqs or --max-loras less, or use more GPUs (--tensor-parallel-size)"
)
_CONTEXT = "serve it with a larger --max-model-len, or ask for less: --set max_tokens=N"

STARTING: tuple[ServerFault, ...] = (
    # The narrow ones first: a log ends in general words.
    ServerFault(
        r"free memory on device (?P<device>\S+) \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup "
        r"is less than (?:desired|the engine)",
        "out of memory: only {free} of {total} GiB are free on {device}, less than the server's share",
        "end what else is on it, or lower --gpu-memory-utilization",
    ),
    ServerFault(
        r"max seq len \((?P<length>\d+)\), \((?P<needed>[\d.]+) GiB KV cache is needed, which is larger than "
        r"the available KV cache memory \((?P<there>[\d.]+) GiB\)",
        "out of memory: a context of {length} tokens takes {needed} GiB of KV cache, and {there} are left",
        "lower --max-model-len, or raise --gpu-memory-utilization (on a CPU VLLM_CPU_KVCACHE_SPACE)",
    ),
    ServerFault(
        r"no available memory for the cache blocks",
        "out of memory: the weights leave nothing for the KV cache",
        "raise --gpu-memory-utilization, or use more GPUs (--tensor-parallel-size)",
    ),
    ServerFault(
        r"out of memory|outofmemoryerror|cannot allocate memory|\bwith code -?(?:9|137)\b",
        "out of memory",
        _MEMORY,
    ),
    ServerFault(
        r"user-specified max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len "
        r"\(\w+=(?P<most>[\d.]+)",
        "--max-model-len {asked} is more than the model's own {most}",
        "lower it",
    ),
    ServerFault(
        r"address already in use",
        "the port is taken",
        "end what uses it, or take another port",
    ),
    ServerFault(
        r"failed to infer device type|no cuda gpus are available|found no nvidia driver",
        "vLLM finds no GPU",
        "run it where `nvidia-smi` shows one, or serve it elsewhere and name that with --model-base-url",
    ),
    ServerFault(
        r"model architectures? (?P<architecture>\[.*?\]) (?:are not supported|failed to be inspected)",
        "this vLLM does not know the architecture {architecture}",
        "install a newer one: pip install --upgrade vllm",
    ),
    ServerFault(
        r"does not support lora yet",
        "vLLM cannot put adapters on a model of this architecture",
        "merge the adapter into the weights, and ask the result as a model of its own",
    ),
    ServerFault(
        r"(?:error: )?unrecognized arguments: (?P<arguments>.+?)(?= Alternatively|$)",
        "this vLLM does not know the argument {arguments}",
        "correct it (`vllm serve --help=all`), or install another version",
    ),
    ServerFault(
        r"optional dependencies\. ?Install with: ?pip install vllm|No module named '?vllm",
        "vLLM is not installed here",
        "pip install 'emeval[vllm]' (needs a GPU), or name a server that runs with --model-base-url",
    ),
    ServerFault(
        r"No such file or directory: '?vllm'?",
        "the command vllm is not on the PATH, though the package is there",
        "activate the environment that it is in (source ENV/bin/activate)",
    ),
    ServerFault(
        r"did not become ready within timeout period \((?P<seconds>\d+) seconds\)",
        "it was not ready after {seconds} seconds",
        "look where its log stands; if it was still loading, give it longer: "
        """VLLM_DEFAULT_SERVER_ARGS='{{"timeout": SECONDS}}'""",
    ),
    # The weights.
    ServerFault(
        r"safetensor ?error|incomplete metadata|metadata ?incomplete|invalid ?header|header ?too ?large",
        "a file of weights is damaged or cut short",
        "copy or download it anew",
    ),
    ServerFault(
        r"cannot find any model weights|no such file or directory: .*?safetensors",
        "there are no weights in the folder",
        "check that the checkpoint was written to its end",
    ),
    ServerFault(
        r"can't load the configuration|repo id must be in the form|is not a (?:valid model identifier|local "
        r"folder)|repository ?not ?found|invalid repository id|localentrynotfound|couldn't connect to",
        "there is no such folder here, and no such name on Hugging Face can be reached",
        "correct the path or the name; a private one needs HF_TOKEN",
    ),
)
"""A server that does not come up."""

FAULTS: tuple[ServerFault, ...] = (
    *STARTING,
    # Adapters.
    ServerFault(
        r"LoRA rank (?P<rank>\d+) is greater than max_lora_rank (?P<most>\d+)",
        "the adapter's rank {rank} is above the server's {most}",
        "serve the base with --max-lora-rank {rank}",
    ),
    ServerFault(
        r"LoRA is not enabled",
        "the server takes no adapters",
        "serve the base with --enable-lora",
    ),
    ServerFault(
        # Inspect's word for any 404. Whether the server loads adapters at all was looked at before.
        r"LoRA adapter endpoint not found",
        "the server finds no adapter at this path",
        "it has to see the same files there; where it is on another machine, load the adapter there with "
        "--lora-modules NAME=PATH and name it by NAME",
    ),
    ServerFault(
        r"LoRA adapter '(?P<name>[^']+)' is not registered on the vLLM",
        "the server has no adapter called {name}",
        "load it there with --lora-modules {name}=PATH, or give its path, with a slash in it",
    ),
    ServerFault(
        r"doesn't contain tensors",
        "the adapter's folder has no weights",
        "check that the checkpoint was written to its end (adapter_model.safetensors)",
    ),
    ServerFault(
        r"the size of tensor a \((?P<one>\d+)\) must match the size of tensor b \((?P<other>\d+)\)"
        r"|expected target modules in|is unsupported LoRA weight|embedding LoRA size"
        r"|shape mismatch|size mismatch",
        "the adapter does not fit the base model",
        "name the base that it was trained on (base_model_name_or_path in adapter_config.json)",
    ),
    ServerFault(
        r"Adapter bias is not supported|does not yet support DoRA|not supported.*(?:dora|modules_to_save)"
        r"|vLLM only supports modules_to_save",
        "vLLM does not take an adapter of this kind (bias, DoRA, saved modules)",
        "merge it into the weights, and ask the result as a model of its own",
    ),
    # Requests.
    ServerFault(
        r"default chat template is no longer allowed",
        "the model has no chat template, as base models often have none",
        "serve it with --chat-template FILE, a Jinja2 template: the one that it was fine-tuned with",
    ),
    ServerFault(
        r"max_(?:completion_)?tokens=(?P<asked>\d+) cannot be greater than \S+?=(?P<most>\d+)",
        "the context is too short: {asked} tokens of answer are asked for, and the server has {most} for all",
        _CONTEXT,
    ),
    ServerFault(
        r"maximum context length (?:is |\()(?P<most>\d+)",
        "the context is too short: the prompt alone takes more than the {most} tokens that the server has",
        "serve it with a larger --max-model-len",
    ),
    ServerFault(
        r"sample logprobs of (?P<asked>\d+), which is greater than max allowed: (?P<most>\d+)",
        "the server gives at most {most} log-probabilities, and {asked} are needed",
        "serve it with --max-logprobs {asked}, or name the readout sample in the judge's file",
    ),
    ServerFault(
        r"The model `(?P<model>.+?)` does not exist",
        "the server has no model {model}",
        "take a name that it serves (GET /v1/models), or give it this one: --served-model-name {model}",
    ),
    ServerFault(
        r"error code: 401|\bunauthorized\b|invalid api key|incorrect api key|invalid authentication",
        "the server refuses the key",
        "set the key that it was started with (for vLLM in VLLM_API_KEY)",
    ),
    ServerFault(
        r"EngineCore encountered an issue|EngineDeadError",
        "the server's engine has died; its log says why",
        "restart the server, and give the same command again: what was obtained is kept",
    ),
    ServerFault(
        r"connection error|connection refused|connect ?error|connection attempts failed"
        r"|server disconnected|connection reset|remote ?protocol ?error|server process exited",
        "the server is gone",
        "start it again, and give the same command again: what was obtained is kept",
    ),
    ServerFault(
        r"request timed out|read ?timeout|timed out",
        "the server takes connections and does not answer in time",
        "restart it if it hangs, or ask for less at once (--max-connections); the same command goes on",
    ),
)


def explained(text: str, faults: Iterable[ServerFault] = FAULTS) -> str | None:
    """Return what is wrong and how to mend it if `text`, a server's words or log, is of a known fault.

    The first of `faults` that `text` matches counts; there is one line, without keys.
    """
    line = " ".join(text.split())
    for fault in faults:
        found = re.search(fault.pattern, line, re.IGNORECASE)
        if found:
            groups = {name: without_keys(value or "") for name, value in found.groupdict().items()}
            return f"{fault.said.format(**groups)}; {fault.mend.format(**groups)}"
    return None


def told(error: BaseException, faults: Iterable[ServerFault] = FAULTS) -> str:
    """Return why something failed as one line without keys, with the mend where it is one of `faults`."""
    return explained(" ".join(_said(error)), faults) or without_keys(reason(error))


def _said(error: BaseException) -> Iterator[str]:
    """Give what an error and those behind it say, the bodies of refused requests included.

    `str` of an HTTP error of httpx lacks the body, in which the server says what is wrong.
    """
    seen: list[BaseException] = []
    behind: BaseException | None = first(error)
    while behind is not None and behind not in seen:
        seen.append(behind)
        yield reason(behind, 4000)
        response = getattr(behind, "response", None)
        body = getattr(response, "text", None)
        if isinstance(body, str):
            yield body
        behind = behind.__cause__ or behind.__context__


_KEY_NAME = re.compile(r"(?:_API_KEY|_TOKEN|_SECRET)$")
_KEY_ARGUMENT = re.compile(r"(--api-key[ =]+)\S+")
_BEARER = re.compile(r"(?i)(\bbearer )\S+")


def without_keys(text: str) -> str:
    """Return `text` with dots for the keys in it: those of the environment, and any given as an argument."""
    text = _BEARER.sub(r"\1…", _KEY_ARGUMENT.sub(r"\1…", text))
    for name, value in os.environ.items():
        if _KEY_NAME.search(name) and len(value) >= 8:
            text = text.replace(value, "…")
    return text
