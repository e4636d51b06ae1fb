"""The benchmark of DKL-ECG runs and writes what it prints."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "dkl_ecg.py"


def test_the_benchmark_writes_what_it_prints(tmp_path):
    options = "--frames 200 --folds 2 --seeds 0 --steps 20 --exact-frames 50 --json rows.json"
    done = subprocess.run(
        [sys.executable, BENCHMARK, *options.split()], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = json.loads((tmp_path / "rows.json").read_text())
    assert found["training_frames"] == found["test_frames"] == 200
    methods = [row["method"] for row in found["rows"]]
    assert methods == ["DKL-ECG"] * 3 + ["plain network", "plain, recalibrated"] * 2 + ["exact process"]
    assert all(f"{1e3 * row['rmse']:.2f}" in done.stdout for row in found["rows"])
