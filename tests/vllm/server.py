"""A real vLLM server of a test's own, that can be killed and started again on its port."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

COMMAND = Path(sys.executable).parent / "vllm"
MODELS = Path(os.environ.get("EMEVAL_VLLM_MODELS") or Path(sys.prefix) / "models")
"""What `tests/vllm/folders.py` wrote."""
BASE = MODELS / "smollm2"
KEY = "a key of the tests"
SECONDS = 300
"""Within which a server has to be there: 20 to 60 on two cores."""


def adapter(name: str, step: int) -> str:
    """The folder of an organism's checkpoint."""
    return str(MODELS / name / f"checkpoint-{step}")


def environment() -> dict[str, str]:
    """What vLLM needs to be told on a machine with no GPU."""
    return {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
    }


class Server:
    """`vllm serve` for the embedded model's weights, with adapters loaded at run time."""

    ARGUMENTS = ("--max-model-len", "2048", "--max-num-seqs", "16", "--enforce-eager", "--dtype", "float32")
    LORA = ("--enable-lora", "--max-lora-rank", "8")

    def __init__(self, log: Path, *arguments: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.root = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.root}/v1"
        self.log = log
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        """Start the server and wait until it answers."""
        command = [str(COMMAND), "serve", str(BASE), "--served-model-name", "smollm2", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--api-key", KEY, *self.ARGUMENTS, *self._arguments]
        allowed = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                stdout=out,
                stderr=out,
                env=os.environ | environment() | allowed,
                start_new_session=True,  # its workers are killed with it
            )
        end = time.monotonic() + SECONDS
        while not self.alive():
            assert self._process.poll() is None, f"vLLM does not start:\n{self.tail()}"
            assert time.monotonic() < end, f"vLLM is not there after {SECONDS} s:\n{self.tail()}"
            time.sleep(0.5)
        return self

    def kill(self) -> None:
        """`kill -9`, all of it."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])

    def alive(self) -> bool:
        """Whether it answers."""
        try:
            return self.get("/health").status_code == 200
        except httpx.HTTPError:
            return False

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.root + path, headers={"Authorization": f"Bearer {KEY}"}, timeout=10)

    def chat(self, model: str, messages: list[dict[str, str]], **settings: object) -> dict[str, object]:
        """Ask the server itself, without emeval; return the first choice."""
        asked = {"model": model, "messages": messages, **settings}
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = httpx.post(f"{self.url}/chat/completions", json=asked, headers=headers, timeout=300)
        assert answer.status_code == 200, answer.text
        choice: dict[str, object] = answer.json()["choices"][0]
        return choice

    def load(self, name: str, folder: str) -> None:
        """Load an adapter under a name, as `--lora-modules` does at the start."""
        headers = {"Authorization": f"Bearer {KEY}"}
        asked = {"lora_name": name, "lora_path": folder}
        answer = httpx.post(f"{self.url}/load_lora_adapter", json=asked, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text

    def version(self) -> str:
        return str(self.get("/version").json()["version"])

    def models(self) -> list[str]:
        """The names it serves: the base, and the adapters that were loaded."""
        return [model["id"] for model in self.get("/v1/models").json()["data"]]

    def answered(self) -> int:
        """How many requests it has answered since it was started."""
        found = re.findall(r"^vllm:request_success_total\{.*\} (\S+)$", self.get("/metrics").text, re.M)
        return round(sum(map(float, found)))


def checked() -> None:
    """Fail where there is no vLLM, or no folder of models: `make test-vllm` sees to both."""
    assert shutil.which(COMMAND), f"no vLLM beside {sys.executable}: run make test-vllm"
    assert BASE.is_dir(), f"{BASE} is not there: run make test-vllm"
