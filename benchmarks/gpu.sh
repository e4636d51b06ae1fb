#!/usr/bin/env bash
# Everything there is to test and measure on a GPU, in under 9 minutes.
#
#     benchmarks/gpu.sh WHEELS RESULTS
#
# WHEELS  a folder with the wheels that the build, the tests and the benchmarks need beyond torch: openmm, OpenMM-CUDA-13,
#         scipy, scipy-openblas32, nlohmann-json, scikit-build-core, mdtraj, h5py, tqdm, pytest …
# RESULTS where the JSON files and logs go
#
# Needs Python 3.12 with a CUDA build of torch, pybind11, CMake and ninja. Nothing is fetched from anywhere.
set -uo pipefail
cd "$(dirname "$0")/.."
wheels=$(realpath "$1")
results=$(mkdir -p "$2" && realpath "$2")
python=${PYTHON:-python3}
export OMP_WAIT_POLICY=PASSIVE

$python -m venv --system-site-packages build/gpu-venv || exit 1
venv=build/gpu-venv/bin
$venv/pip install -q --no-index --find-links "$wheels" --no-deps "$wheels"/*.whl || exit 1
PATH="$PWD/$venv:$PATH" $venv/pip install -q --no-build-isolation --no-deps --no-index . >"$results/build.log" 2>&1 ||
    { tail -20 "$results/build.log"; exit 1; }
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm --format=csv,noheader | tee "$results/gpu.txt"

limit() { # name, seconds, command: run it, keep its output, go on whatever happens
    local name=$1 seconds=$2
    shift 2
    echo "== $name"
    timeout "$seconds" "$@" >"$results/$name.log" 2>&1
    echo "exit status $?" >>"$results/$name.log"
    tail -25 "$results/$name.log"
}
files=(forces_gpu_engine forces_torchscript_on_device forces_profile forces_torchscript forces_cg_force
    simulation_replicas forces_tabulated_bonded_force)
limit tests 140 xargs -P 8 -I NAME $venv/python -m pytest -q -p no:cacheprovider -k CUDA tests/test_NAME.py \
    < <(printf '%s\n' "${files[@]}")
limit md_water 110 $venv/python benchmarks/md_water.py --platform CUDA --precision single --beads 3916 512 20000 \
    --cutoff 0.6 --channels 128 --engines native torchscript all-atom --json "$results/md_water_gpu.json"
limit md_water_networks 70 $venv/python benchmarks/md_water.py --platform CUDA --precision single mixed --beads 3916 \
    --cutoff 0.6 --channels 64 --network schnet gnn painn --engines native --json "$results/md_water_networks_gpu.json"
limit md_replicas 110 $venv/python benchmarks/md_replicas.py --platform CUDA --precision single --beads 5 10 166 269 \
    --replicas 1 8 64 --engines native --json "$results/md_replicas_gpu.json"
limit roofline 50 $venv/python benchmarks/roofline.py --platform CUDA --json "$results/roofline_gpu.json"
