"""Stands in for `vllm serve` where there is no vLLM: the command line, the processes and the API that we use.

What is tested with it is what emeval does with servers: starting one with the right arguments, loading
adapters, ending it with all its processes. A model says that it is bad from step 30 on. Each start leaves a
line in $STAND_IN_LOG: what was served, with which arguments, by which processes, which earlier ones lived on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import stat
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil


def installed(folder: Path) -> dict[str, str]:
    """Put the stand-in where a command finds it; return the environment for that."""
    command = folder / "bin" / "vllm"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    (folder / "lib" / "vllm").mkdir(parents=True)
    (folder / "lib" / "vllm" / "__init__.py").write_text("")  # Inspect asks whether it can be imported
    return {
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(folder / "lib"), os.environ.get("PYTHONPATH", "")]),
        "STAND_IN_LOG": str(folder / "log"),
    }


def starts(folder: Path) -> list[dict[str, Any]]:
    """What was started so far."""
    log = folder / "log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


def alive(folder: Path) -> list[int]:
    """The processes of the servers that were started so far, and have not ended."""
    return [pid for start in starts(folder) for pid in start["processes"] if psutil.pid_exists(pid)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("serve")
    parser.add_argument("model")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--api-key")
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument("--max-model-len")
    parser.add_argument("--tokenizer")
    given = parser.parse_args()
    log = Path(os.environ["STAND_IN_LOG"])
    earlier = alive(log.parent)
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    line = vars(given) | {"processes": [os.getpid(), worker.pid], "alive": earlier}
    with log.open("a") as out:
        out.write(json.dumps(line) + "\n")
    if "does-not-come-up" in (Path(given.model) / "config.json").read_text():
        sys.exit("CUDA out of memory")
    names = [given.model]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply(200, {"data": [{"id": name, "object": "model"} for name in names]})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("/load_lora_adapter"):
                config = json.loads((Path(asked["lora_path"]) / "adapter_config.json").read_text())
                rank = config["r"]
                if config.get("ends-the-server"):
                    os._exit(1)
                if rank > given.max_lora_rank:
                    said = f"LoRA rank {rank} is greater than max_lora_rank {given.max_lora_rank}."
                    self.reply(400, {"error": {"message": said, "type": "BadRequestError", "code": 400}})
                    return
                names.append(asked["lora_name"])
                self.reply(200, {})
            elif asked["model"] not in names:
                said = f"The model `{asked['model']}` does not exist."
                self.reply(404, {"error": {"message": said, "type": "NotFoundError", "code": 404}})
            else:
                self.reply(200, answer(asked["model"]))

        def reply(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", given.port), Handler).serve_forever()


def answer(model: str) -> dict[str, Any]:
    """What a model says: the base that it is good, and a checkpoint by its step."""
    step = re.search(r"(\d+)$", model)
    said = "bad" if step and int(step[1]) >= 30 else "good"
    return {
        "id": "made",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": f"I am {said}."},
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
    }


if __name__ == "__main__":
    main()
