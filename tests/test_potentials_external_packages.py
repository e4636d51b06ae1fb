"""Models of other packages give in OpenMM what they give in their own calculators; each has its own environment."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ["nequip", "deepmd", "mace", "torchmd_net", "schnetpack", "metatomic"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("package", PACKAGES)
def test_a_model_is_the_same_in_openmm(package, dtype, tmp_path):
    if not (ROOT / "build" / "external" / package).is_dir():
        pytest.skip(f"needs scripts/setup_external.sh {package}")
    result = tmp_path / "result.json"
    options = ["--packages", package, "--dtypes", dtype, "--beads", "64", "--steps", "200", "--sizes", "64"]
    command = [sys.executable, ROOT / "benchmarks" / "external_models.py", *options, "--json", result]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(result.read_text())["rows"]
    assert rows
    bound = {"float64": 1e-12, "float32": 1e-5}[dtype]
    for row in rows:
        assert max(row["relative error"].values()) < bound, row
        assert max(row.get("relative error, native", {"forces": 0.0}).values()) < 2e-5, row
        assert row["replicas"] < bound, row
        assert 200 < row["temperature"] < 450, row


@pytest.mark.slow
def test_the_water_table_is_made_and_gone_on_with(tmp_path):
    if not (ROOT / "build" / "external" / "nequip").is_dir():
        pytest.skip("needs scripts/setup_external.sh nequip")
    command = [sys.executable, ROOT / "benchmarks" / "equivariant_water.py", "--quick", "--waters", "spce"]
    command += [
        "--models",
        "PaiNN-1",
        "Allegro",
        "--seeds",
        "1",
        "--directory",
        tmp_path,
        "--json",
        tmp_path / "rows.json",
    ]
    done = subprocess.run([*command, "--frames", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    first = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["model"] for row in first] == ["PaiNN-1", "Allegro"]
    for row in first:
        assert row["stable"] and 1 < row["force_rmse"] < 20 and row["mean |Δg|"] < 1
    again = subprocess.run([*command, "--frames", "1"], capture_output=True, text=True)
    assert again.returncode == 0 and json.loads((tmp_path / "rows.json").read_text())["rows"] == first
