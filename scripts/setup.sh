#!/usr/bin/env bash
# Makes the virtual environment in .venv with pinned versions and builds the package into it.
# Does again only what has changed. `setup.sh --test` adds what the tests of the GPU engine need where there is no GPU:
# CUDA's compiler (NVRTC) and OpenCL on the CPU (PoCL, not from pip).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=.venv

as_root() { # run as root if that needs no password
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo "$@"; else return 1; fi
}

apt_install() {
    command -v apt-get >/dev/null || return 1
    as_root apt-get install -y -qq "$@" >/dev/null 2>&1 ||
        { as_root apt-get update -qq >/dev/null 2>&1 && as_root apt-get install -y -qq "$@" >/dev/null 2>&1; }
}

for tool in "$python" g++ cmake make; do
    command -v "$tool" >/dev/null || { echo "setup: '$tool' is missing. On Debian: apt-get install python3 python3-venv g++ cmake make" >&2; exit 1; }
done
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    { echo "setup: OpenMM-CG needs Python 3.10 or newer, $python is $("$python" --version)" >&2; exit 1; }

if [ ! -x $venv/bin/pip ]; then
    echo "setup: making the virtual environment $venv"
    rm -rf $venv
    "$python" -m venv $venv 2>/dev/null || { rm -rf $venv; apt_install python3-venv && "$python" -m venv $venv; } ||
        { echo "setup: '$python -m venv' does not work here. On Debian: apt-get install python3-venv" >&2; exit 1; }
fi

requirements=$(cat pyproject.toml constraints.txt | sha256sum)
if [ "$(cat $venv/requirements.sha256 2>/dev/null)" != "$requirements" ]; then
    echo "setup: installing the pinned packages (torch, OpenMM, …), some minutes the first time"
    $venv/bin/pip install -q -c constraints.txt torch
    $venv/bin/python - <<'EOF' >$venv/requirements.txt
try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib

project = tomllib.load(open("pyproject.toml", "rb"))
extras = project["project"]["optional-dependencies"]
print("\n".join([*project["build-system"]["requires"], *project["project"]["dependencies"], *extras["train"],
                 *extras["electronic"], *extras["test"], "ninja"]))
EOF
    $venv/bin/pip install -q -c constraints.txt -r $venv/requirements.txt
    # To link the CUDA engine against the platform it is for; without the CUDA libraries, OpenMM leaves the platform out.
    $venv/bin/pip install -q -c constraints.txt --no-deps OpenMM-CUDA-13 ||
        echo "setup: OpenMM-CUDA-13 is not to be had here, so the CUDA engine is built without being checked against it"
    echo "$requirements" >$venv/requirements.sha256
fi

sources=$( (find cpp cuda python CMakeLists.txt pyproject.toml README.md LICENSE -type f -not -path '*/__pycache__/*' | LC_ALL=C sort | xargs sha256sum; echo "$requirements") | sha256sum)
if [ "$(cat $venv/sources.sha256 2>/dev/null)" != "$sources" ]; then
    echo "setup: building OpenMM-CG (about a minute and a half the first time)"
    log=$venv/build.log
    PATH="$PWD/$venv/bin:$PATH" $venv/bin/pip install --no-build-isolation --no-deps --force-reinstall . >$log 2>&1 ||
        { grep -E "error|Error" $log | head -20 >&2; echo "setup: the build failed; the whole log is $log" >&2; exit 1; }
    echo "$sources" >$venv/sources.sha256
fi

if [ "${1:-}" = --test ] && ! $venv/bin/pip show -q nvidia-cuda-nvrtc 2>/dev/null; then
    echo "setup: installing NVRTC, with which the tests compile the CUDA kernels"
    $venv/bin/pip install -q -c constraints.txt --no-deps nvidia-cuda-nvrtc ||
        echo "setup: NVRTC could NOT be installed: the tests that compile the CUDA kernels will be skipped" >&2
fi

if [ "${1:-}" = --test ] && ! ls /etc/OpenCL/vendors/*.icd >/dev/null 2>&1; then
    echo "setup: installing PoCL, an OpenCL for the CPU, for the tests of the OpenCL platform"
    apt_install pocl-opencl-icd ocl-icd-opencl-dev ||
        echo "setup: PoCL could NOT be installed: the tests of the OpenCL platform will be skipped. On Debian, as root: apt-get install pocl-opencl-icd ocl-icd-opencl-dev" >&2
fi
