"""What README, docstrings, examples and benchmarks show is what happens."""

import json
import lzma
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from openmmcg.reference import BITHIOPHENE, organic_molecule, sample

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "MPLBACKEND": "Agg"}


def run(*command, cwd):
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def code_blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    """The README's line from atoms to beads, run in an empty directory."""
    directory = tmp_path_factory.mktemp("readme")
    (program,) = (block for block in code_blocks("python") if "water_box" in block)
    (directory / "workflow.py").write_text(program)
    run("workflow.py", cwd=directory)
    return directory


@pytest.mark.slow
def test_the_readme_goes_from_atoms_to_a_running_model(workflow):
    for name in ("atoms.h5md", "beads.h5md", "water.pt", "cg.h5md"):
        assert (workflow / name).stat().st_size > 0


@pytest.mark.slow
def test_the_first_example_of_the_readme_uses_that_model(workflow):
    example = code_blocks("python")[0]
    before = """
import numpy as np
from openmmcg.mapping import cg_topology

topology = cg_topology(["W"] * 50, np.eye(3) * 2)
"""
    after = "print(system.getNumForces())\n"
    (workflow / "example.py").write_text(before + example + after)
    assert int(run("example.py", cwd=workflow)) >= 4


@pytest.mark.slow
def test_the_readme_runs_replicas_of_that_model(workflow):
    (example,) = (block for block in code_blocks("python") if "replicas" in block)
    (workflow / "replicas.py").write_text(example)
    temperatures = json.loads(run("replicas.py", cwd=workflow))
    assert len(temperatures) == 4
    assert all((workflow / f"replicas.{replica}.h5md").stat().st_size > 0 for replica in range(4))


def test_the_shell_commands_of_the_readme_exist():
    commands = [line for block in code_blocks("sh") for line in block.strip().splitlines()]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for command in commands:
        program, *arguments = command.split()
        assert (program == "make" and arguments[0] in targets) or (program == "pip" and arguments[0] == "install")


def test_every_docstring_example_runs(tmp_path):
    output = run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "--doctest-modules", "--pyargs", "openmmcg", cwd=tmp_path
    )
    assert int(re.search(r"(\d+) passed", output)[1]) > 10


@pytest.mark.slow
def test_the_water_example_runs_and_resumes(tmp_path):
    example = ROOT / "examples" / "water.py"
    run(example, "--quick", "--directory", tmp_path / "demo", cwd=tmp_path)
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    keys = {
        "force_rmse_kcal_mol_A",
        "rdf_first_peak_A",
        "rdf_first_peak_height",
        "rdf_mean_abs_difference",
        "temperature_K",
        "cg_ms_per_step",
        "all_atom_ms_per_step",
        "cg_stable",
    }
    assert keys <= summary.keys()
    assert summary["rdf_first_peak_A"].keys() == {"cg", "all_atom"}
    assert summary["cg_stable"] is True
    frames = {path: path.stat().st_mtime_ns for path in (tmp_path / "demo").glob("*.h5md")}
    output = run(example, "--quick", "--directory", tmp_path / "demo", cwd=tmp_path)
    assert "report.html" in output
    assert frames == {path: path.stat().st_mtime_ns for path in (tmp_path / "demo").glob("*.h5md")}
    again = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert again["force_rmse_kcal_mol_A"] == pytest.approx(summary["force_rmse_kcal_mol_A"], rel=1e-5)


@pytest.mark.slow
def test_the_alanine_example_runs_and_resumes(tmp_path):
    example, directory = ROOT / "examples" / "alanine_dipeptide.py", tmp_path / "alanine"
    output = run(example, "--quick", "--directory", directory, cwd=tmp_path)
    summary = json.loads((directory / "summary.json").read_text())
    forces = summary["mean_square_force_kcal_mol_A"]
    assert 0 < forces["optimal"] < forces["slice"]
    assert len(summary["cross_validation"]["folds"]) == 2
    assert summary["noise_equivalent"].keys() == {"kl_divergence", "mean_squared_difference"}
    assert summary["stable"] is True and summary["temperature_K"] == pytest.approx(300, rel=0.2)
    assert "noise-equivalent σ" in output and (directory / "report.html").stat().st_size > 10_000
    frames = {path: path.stat().st_mtime_ns for path in directory.glob("*.h5md")}
    assert len(frames) == 13
    run(example, "--quick", "--directory", directory, cwd=tmp_path)
    assert frames == {path: path.stat().st_mtime_ns for path in directory.glob("*.h5md")}


@pytest.mark.slow
def test_the_example_of_structure_and_dynamics_runs_and_resumes(tmp_path):
    example, directory = ROOT / "examples" / "structure_and_dynamics.py", tmp_path / "liquids"
    options = ["--quick", "--liquids", "argon", "--molecules", "125", "--directory", directory]
    run(example, *options, cwd=tmp_path)
    summary = json.loads((directory / "summary.json").read_text())["argon"]
    for name in ("GNN", "PaiNN"):
        found = summary[name]
        assert 0 < found["mean_abs_difference_of_g"] < 1 and found["force_rmse_kcal_mol_A"] > 0
        assert summary[f"{name} pressure"]["density_at_1_bar"][0] > 0
        assert {"verdict", "attempts", "value"} <= summary[f"{name} amplitude"].keys() & summary[
            f"{name} friction"
        ].keys()
    assert (directory / "report.html").stat().st_size > 50_000
    frames = {path: path.stat().st_mtime_ns for path in directory.rglob("*.h5md")}
    run(example, *options, cwd=tmp_path)
    assert frames == {path: path.stat().st_mtime_ns for path in directory.rglob("*.h5md")}


@pytest.mark.slow
def test_the_chignolin_example_runs(tmp_path):
    directory = tmp_path / "chignolin"
    run(ROOT / "examples" / "chignolin.py", "--quick", "--directory", directory, cwd=tmp_path)
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["populations"]["hairpin"]["folded"] == 1.0
    assert summary["populations"]["extended"]["unfolded"] == 1.0
    assert summary["stable"] is True and summary["nanoseconds_of_atoms"] == 0.008
    assert (directory / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_the_bithiophene_example_runs(tmp_path):
    directory = tmp_path / "bithiophene"
    output = run(
        ROOT / "examples" / "bithiophene_density_of_states.py", "--quick", "--directory", directory, cwd=tmp_path
    )
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["frames"] == {"train": 200, "test": 200} and summary["failed_labels"] == 0
    states = summary["density_of_states"]
    assert list(states) == ["labels", "test frames", "beads' trajectory", "its means alone"]
    assert states["labels"]["overlap"] == pytest.approx(1)
    for name, found in states.items():
        assert 0 < found["overlap"] <= 1 + 1e-9 and f"{found['overlap']:.3f}" in output
        lowest, highest = found["quantiles_eV"]
        assert -11.5 < lowest < found["mean_eV"] < highest < -8.5, name
    # The width that the beads leave is missing in the distribution of the means.
    widths = {name: found["standard_deviation_eV"] for name, found in states.items()}
    assert widths["its means alone"] < widths["beads' trajectory"]
    assert summary["noise_of_beads_meV"].keys() == {"4", "6"}
    assert summary["noise_of_beads_meV"]["4"].keys() == {"RMSE", "predicted", "clusters", "beads held"}
    assert summary["stable"] is True and summary["temperature_K"] == pytest.approx(300, rel=0.2)
    page = (directory / "report.html").read_text(encoding="utf-8")
    assert all(f"Figure {number}: " in page for number in range(2, 8))


@pytest.mark.slow
def test_the_benchmark_of_boltzmann_inversion_runs(tmp_path):
    molecule = organic_molecule(BITHIOPHENE)
    sample(
        molecule.system,
        molecule.topology,
        molecule.positions,
        tmp_path / "atoms.h5md",
        frames=400,
        interval=0.2,
        equilibration=0.5,
        time_step=0.001,
        platform="Reference",
        progress=False,
    )
    options = "--beads 4 --bins 20 --replicas 4 --duration 5 --iterations 1 --directory inversion --json rows.json"
    output = run(ROOT / "benchmarks" / "boltzmann_inversion.py", "atoms.h5md", *options.split(), cwd=tmp_path)
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert row["beads"] == 4 and len(row["divergences"]) == 6  # 3 bonds, 2 angles, a dihedral
    assert f"{max(entry['best'] for entry in row['divergences'].values()):.4f}" in output
    assert all(
        (tmp_path / "inversion" / "4_beads" / f"{name}.png").exists() for name in ("distributions", "convergence")
    )


@pytest.mark.slow
def test_the_benchmark_of_peptide_replicas_runs(tmp_path):
    options = "--replicas 4 --channels 16 --threads 1"
    program = ROOT / "benchmarks" / "peptide_replicas.py"
    output = run(program, *options.split(), "--json", tmp_path / "rows.json", cwd=tmp_path)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["engine"] for row in rows] == ["OpenMM-CG", "torch loop"]
    assert re.search(r"ratio \d+\.\d", output)


@pytest.mark.slow
def test_the_benchmark_of_models_of_mlcg_runs(tmp_path):
    packed = ROOT / "tests" / "data" / "mlcg" / "schnet_ca.pt.xz"
    (tmp_path / "schnet.pt").write_bytes(lzma.decompress(packed.read_bytes()))
    options = "--replicas 1 3 --seconds 0.5 --json rows.json"
    output = run(ROOT / "benchmarks" / "mlcg_replicas.py", "schnet.pt", *options.split(), cwd=tmp_path)
    rows = [row for row in json.loads((tmp_path / "rows.json").read_text()) if row["engine"] == "OpenMM-CG"]
    assert [row["replicas"] for row in rows] == [1, 3]
    assert all(row["network"] == "StandardSchNet" and f"{row['ms_per_step']:.3f}" in output for row in rows)


@pytest.mark.slow
def test_the_water_benchmark_writes_what_it_prints(tmp_path):
    result = tmp_path / "rows.json"
    options = "--beads 10 --cutoff 0.6 --channels 16 --threads 1 --engines native torchscript torch-operators"
    output = run(ROOT / "benchmarks" / "md_water.py", *options.split(), "--json", result, cwd=tmp_path)
    rows = json.loads(result.read_text())
    assert {row["engine"] for row in rows} == {"native", "torchscript", "torch-operators"}
    for row in rows:
        assert row["ms_per_step"] > 0 and row["peak_memory_MiB"] > 0
        assert f"{row['ms_per_step']:.3f}" in output


@pytest.mark.slow
def test_the_roofline_tells_of_every_kernel(tmp_path):
    options = "--beads 300 --channels 16 --repeats 1"
    output = run(ROOT / "benchmarks" / "roofline.py", *options.split(), "--json", tmp_path / "r.json", cwd=tmp_path)
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert {row["network"] for row in rows} == {"schnet", "painn"}
    assert all(row["kernel"] in output and row["ms"] > 0 for row in rows)


@pytest.mark.slow
def test_the_page_about_dynamics_does_what_it_says(tmp_path):
    page = (ROOT / "docs" / "dynamics.md").read_text()
    (tmp_path / "page.py").write_text("\n".join(code_blocks("python", page)))
    printed = run("page.py", cwd=tmp_path)
    sigma = float(re.search(r"sigma 0-0 \(nm\): ([\d.]+)", printed)[1])
    assert sigma == pytest.approx(0.3405, rel=0.02)
    assert re.search(r"without images [\d.]+ 1e-5 cm2/s", printed)
    assert (tmp_path / "argon.pt").exists()


@pytest.mark.slow
def test_the_benchmark_of_landscapes_tells_good_time_steps_from_bad_ones(tmp_path):
    benchmark = ROOT / "benchmarks" / "landscape_drift.py"
    run(benchmark, "--amplitudes", 0.05, "--wavenumbers", 1000, "--json", tmp_path / "a.json", cwd=tmp_path)
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert all(abs(row["drift (K/ps)"]) < 0.2 for row in rows if row["step / longest"] < 1)
    assert abs(rows[-1]["drift (K/ps)"]) > 0.5


@pytest.mark.slow
def test_the_drift_benchmark_runs(workflow, tmp_path):
    program = ROOT / "benchmarks" / "nve_drift.py"
    output = run(
        program, workflow / "water.pt", workflow / "beads.h5md", "--duration", "1", "--figure", "f.png", cwd=tmp_path
    )
    assert "k_B T per bead per ns" in output
    assert (tmp_path / "f.png").stat().st_size > 1000
