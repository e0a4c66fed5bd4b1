"""Runs on a real Ray cluster of two workers on this machine: one is lost, and the run is what it would be.

`make test-ray` runs them (the mark `ray`).
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

import emeval
from emeval.errors import UserError
from emeval.manifest import Manifest
from emeval.shards import Spread, here
from emeval.wide import Ray, cluster
from tests import vllm_stand_in
from tests.command import EMEVAL, environment
from tests.gateway import Gateway, until
from tests.test_shards import SIZE, answers_asked, arguments, asked_for, gateway, kitchen, rows
from tests.test_sweep import adapter, full

pytestmark = pytest.mark.ray
pytest.importorskip("ray", reason="Ray is not installed: pip install 'emeval[ray]'")
__all__ = ["gateway", "kitchen"]  # fixtures


class Cluster:
    """A head that takes no tasks, and two workers that take one at a time and say that they have a GPU."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Nodes

        memory = 80 * 1024 * 1024
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": memory}
        head |= {"ray_client_server_port": port}
        self._how = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": memory}
        self._nodes = Nodes(initialize_head=True, head_node_args=head)
        self._workers = [self._nodes.add_node(**self._how) for _ in range(2)]
        self.address: str = self._nodes.address
        self.for_clients = f"ray://127.0.0.1:{port}"

    def at_work(self) -> list[str]:
        """The tasks that run on the worker which will be lost next."""
        raylet = psutil.Process(self._workers[0].all_processes["raylet"][0].process.pid)
        names = [" ".join(one.cmdline()) for one in raylet.children(recursive=True)]
        return [name for name in names if name.startswith("ray::emeval")]

    def lose(self) -> None:
        """Kill a worker with all its processes, as when a machine is switched off; another one comes."""
        self._nodes.remove_node(self._workers.pop(0), allow_graceful=False)
        self._workers.append(self._nodes.add_node(wait=False, **self._how))

    def close(self) -> None:
        self._nodes.shutdown()


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tools")


@pytest.fixture(scope="module")
def nodes(tools: Path) -> Iterator[Cluster]:
    """The cluster. Its workers have its environment, in which there is the stand-in for vLLM."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in vllm_stand_in.installed(tools).items():
            patched.setenv(name, value)
        root = str(Path(emeval.__file__).parents[1])
        patched.setenv("PYTHONPATH", os.pathsep.join([str(tools / "lib"), root]))
        patched.setenv("GATE_API_KEY", "none")
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patched.syspath_prepend(str(tools / "lib"))
        made = Cluster()
        yield made
        made.close()


def start(gateway: Gateway, out: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [EMEVAL, *arguments(gateway, out, *more)],
        env=environment(GATE_API_KEY="none"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("store", [False, True], ids=["disk", "store"])
def test_a_worker_is_lost_and_nothing_with_it(
    nodes: Cluster, gateway: Gateway, tmp_path: Path, store: bool
) -> None:
    shared = ["--shared", f"file://{tmp_path}/store"] if store else []
    gateway.hold_after = 30
    process = start(gateway, "wide", "--ray", nodes.address, "--max-connections", "8", *shared)
    until(lambda: len(gateway.delivered) >= 30 and gateway.waiting > 0 and nodes.at_work() != [], 300)
    time.sleep(2)  # whatever was delivered has reached a journal
    before = gateway.counts()
    nodes.lose()
    gateway.reset()
    err = process.communicate(timeout=400)[1]

    assert process.returncode == 0, err
    assert "4 of 4: " in err
    if not store:  # a journal is copied into a store once a minute
        again = answers_asked(before) & answers_asked(gateway.counts())
        assert not again, "asked again although the answer had been delivered"
    table = rows("wide")
    assert len(table) == SIZE
    assert table.select("model", "eval", "question_id", "condition", "sample").is_unique().all()
    assert not Path("wide/shards").exists()
    assert not [path for path in tmp_path.glob("store/**/*") if path.is_file()]
    asked_for(gateway, "whole")
    assert table.equals(rows("whole"))
    wide, whole = Manifest.read(Path("wide")), Manifest.read(Path("whole"))
    assert (wide.status, wide.errors, wide.notes) == ("complete", 0, whole.notes)
    assert wide.judges == whole.judges
    logged = [len(list(Path(out, "logs").glob("*.eval"))) for out in ("wide", "whole")]
    assert logged[0] >= logged[1] == 4


def test_stopped_by_ctrl_c_it_keeps_what_it_has_and_goes_on(nodes: Cluster, gateway: Gateway) -> None:
    gateway.hold_after = 30
    process = start(gateway, "wide", "--ray", nodes.address, "--max-connections", "8")
    until(lambda: len(gateway.delivered) >= 30 and gateway.waiting > 0, 300)
    time.sleep(2)
    before = gateway.counts()
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=200)[1]
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert Manifest.read(Path("wide")).status == "started"
    assert len(rows("wide")) > 0
    gateway.reset()

    asked_for(gateway, "wide", Ray(nodes.address))
    assert not answers_asked(before) & answers_asked(gateway.counts())
    assert len(rows("wide")) == SIZE
    assert Manifest.read(Path("wide")).status == "complete"


def test_from_elsewhere_through_rays_client(nodes: Cluster, gateway: Gateway) -> None:
    process = start(gateway, "wide", "--ray", nodes.for_clients)
    err = process.communicate(timeout=400)[1]
    assert process.returncode == 0, err
    assert "4 of 4: " in err
    asked_for(gateway, "whole")
    assert rows("wide").equals(rows("whole"))


def test_a_cluster_that_does_not_answer_may_want_its_token(gateway: Gateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = start(gateway, "wide", "--ray", f"ray://127.0.0.1:{silent.getsockname()[1]}")
        err = process.communicate(timeout=200)[1]
    assert process.returncode == 2, err
    assert err.strip().endswith(
        "; if its cluster has a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to it"
    )


def swept(gateway: Gateway, out: str, spread: Spread) -> pl.DataFrame:
    emeval.sweep(
        ["kitchen", "garden"],
        f"vllm/{Path.cwd()}/Base-7B",
        "out",
        ["openai-api/gate/judge"],
        out=out,
        access=emeval.Access(judge_base_url=gateway.url),
        spread=spread,
    )
    return rows(out)


def test_a_sweep_starts_a_server_for_each_gpu_and_ends_it(
    nodes: Cluster, tools: Path, gateway: Gateway, tmp_path: Path
) -> None:
    full(tmp_path / "Base-7B")
    for step in (10, 30):
        adapter(tmp_path / f"out/checkpoint-{step}")
    (tmp_path / "out/checkpoint-40").mkdir()  # has no weights: it is skipped, here and there
    wide = swept(gateway, "wide", Ray(nodes.address))
    starts = vllm_stand_in.starts(tools)
    assert len(starts) == 2, "two GPUs, three models of one base"
    assert vllm_stand_in.alive(tools) == []
    whole = swept(gateway, "whole", here)
    assert wide.equals(whole)
    one, other = Manifest.read(Path("wide")), Manifest.read(Path("whole"))
    assert one.models == other.models
    assert [skip.step for skip in one.skipped] == [skip.step for skip in other.skipped] == [40]
    assert one.status == other.status == "errors"


def mistake(spread: Spread, **how: Any) -> str:
    with pytest.raises(UserError) as caught:
        emeval.run("kitchen", "vllm/org/a", "openai-api/gate/judge", out="wide", spread=spread, **how)
    return str(caught.value)


def test_what_is_wrong_is_said_in_a_line(
    nodes: Cluster, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = emeval.Access(judge_base_url=gateway.url)
    said = mistake(Ray("127.0.0.1:9"), access=access)
    assert said.startswith("--ray 127.0.0.1:9: nothing answers at")
    four = emeval.Access(judge_base_url=gateway.url, server_args={"tensor_parallel_size": 4})
    said = mistake(Ray(nodes.address), access=four)
    assert (
        "the server of vllm/org/a needs 4 GPUs on one machine, and none of the cluster's has more than 1"
        in said
    )
    with monkeypatch.context() as patched:
        patched.setattr(cluster, "__version__", "9.9")
        said = mistake(Ray(nodes.address), access=access)
    assert f"has emeval {emeval.__version__}, and here it is 9.9" in said
    down = emeval.Access(model_base_url="http://127.0.0.1:9/v1", judge_base_url=gateway.url)
    said = mistake(Ray(nodes.address), access=down)
    assert "nothing answers at http://127.0.0.1:9" in said


def test_without_ray_that_is_said(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert "pip install 'emeval[ray]'" in mistake(
        Ray("auto"), access=emeval.Access(judge_base_url=gateway.url)
    )
