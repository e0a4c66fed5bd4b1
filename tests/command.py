"""Running the command line as a user does: the installed command, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

EMEVAL = str(Path(sys.executable).parent / "emeval")
INSPECT = str(Path(sys.executable).parent / "inspect")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def said(self) -> str:
        """The one line that a user's mistake ends in."""
        assert self.code == 2, self
        assert "Traceback" not in self.err + self.out, self
        assert self.out == "", self
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self
        return lines[0]


def environment(**more: str) -> dict[str, str]:
    """This environment without anybody's keys and addresses."""
    clean = {k: v for k, v in os.environ.items() if not k.endswith(("_API_KEY", "_BASE_URL"))}
    return clean | {"COLUMNS": "200"} | more


def emeval(*args: str, cwd: Path, seconds: float = 300, **more: str) -> Outcome:
    done = subprocess.run(
        [EMEVAL, *args], cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=seconds
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
