"""The benchmarks of electronic coarse graining run and write what they print."""

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_the_benchmark_writes_what_it_prints(tmp_path):
    options = "--frames 200 --folds 2 --seeds 0 --steps 20 --exact-frames 50 --json rows.json"
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "dkl_ecg.py", *options.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads((tmp_path / "rows.json").read_text())
    assert found["training_frames"] == found["test_frames"] == 200
    methods = [row["method"] for row in found["rows"]]
    assert methods == ["DKL-ECG"] * 3 + ["plain network", "plain, recalibrated"] * 2 + ["exact process"]
    assert all(f"{1e3 * row['rmse']:.2f}" in done.stdout for row in found["rows"])


def test_the_time_of_labels_is_written_as_printed(tmp_path):
    options = "--molecules tempo --engines gfn2-xtb --frames 2 --json times.json"
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "label_time.py", *options.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    (row,) = json.loads((tmp_path / "times.json").read_text())["rows"]
    assert (row["molecule"], row["atoms"], row["engine"], row["frames"]) == ("tempo", 29, "gfn2-xtb", 2)
    assert f"{row['mean_seconds']:.3f} s a frame" in done.stdout
