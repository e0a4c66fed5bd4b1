"""What the tests share."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from emeval.models import local, weights

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As a shell starts what is to run in the background: every process that a test starts, and stops with
    # Ctrl-C, would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


with contextlib.suppress(ImportError):  # it is not in the environment of `make test-vllm`
    from hypothesis import HealthCheck, settings

    # How long an example takes says how busy the machine is, and nothing of the code.
    settings.register_profile("emeval", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("emeval")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test of the embedded model fails where there is none: to be left out it has to be asked."""
    if item.get_closest_marker("local") and local.installed() is None:
        pytest.fail(f"no embedded server: {weights.INSTALL}; or leave it out: -m 'not local'", pytrace=False)


@dataclass(frozen=True)
class Project:
    """A user's working directory."""

    root: Path

    def write(self, path: str, text: str) -> Path:
        """Write `text`, less its common indentation and first empty line, into the file `path`."""
        file = Path(path)
        (self.root / file).parent.mkdir(parents=True, exist_ok=True)
        (self.root / file).write_text(dedent(text).removeprefix("\n"), encoding="utf-8")
        return self.root / file


@pytest.fixture(scope="session")
def judged_files() -> list[Path]:
    """The published answers of 19 models with GPT-4o's scores, a CSV file each; no part of emeval."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "judged"
    files = sorted(folder.glob("*.csv"))
    if not files:
        pytest.skip("the published answers, ../shared/data/judged, are not beside this checkout")
    return files


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)
