"""The benchmarks of electronic coarse graining run and write what they print."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def run(script, options, directory):
    """What a benchmark prints, and the JSON it writes."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *options.split(), "--json", "rows.json"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.stdout, json.loads((directory / "rows.json").read_text())


def test_the_benchmark_writes_what_it_prints(tmp_path):
    printed, found = run("dkl_ecg.py", "--frames 200 --folds 2 --seeds 0 --steps 20 --exact-frames 50", tmp_path)
    assert found["training_frames"] == found["test_frames"] == 200
    methods = [row["method"] for row in found["rows"]]
    assert methods == ["DKL-ECG"] * 3 + ["plain network", "plain, recalibrated"] * 2 + ["exact process"]
    assert all(f"{1e3 * row['rmse']:.2f}" in printed for row in found["rows"])


def test_the_time_of_labels_is_written_as_printed(tmp_path):
    printed, found = run("label_time.py", "--molecules tempo --engines gfn2-xtb --frames 2", tmp_path)
    (row,) = found["rows"]
    assert (row["molecule"], row["atoms"], row["engine"], row["frames"]) == ("tempo", 29, "gfn2-xtb", 2)
    assert f"{row['mean_seconds']:.3f} s a frame" in printed
