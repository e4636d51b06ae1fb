"""Make docs/performance.md from the results that the benchmarks wrote.

python benchmarks/performance_page.py
"""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
ENGINES = ("native", "torchscript", "torch-operators", "torch-export")


def about(row: dict) -> str:
    """The machine and versions of a result."""
    versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
    return f"{row['machine']}; {versions}."


def water_tables(rows: list[dict]) -> list[str]:
    """Milliseconds per step, a line for each system and number of threads."""
    lines = [
        "## Coarse-grained water: ms per step",
        "",
        "`python benchmarks/md_water.py --json benchmarks/results/md_water.json`; its docstring says what is measured.",
        "One-thread rows up to 3916 beads are of one run, the others of two more; ratios are within one run.",
        "Torch is tuned here (`OMP_WAIT_POLICY=PASSIVE`, glibc's thresholds raised); untuned in brackets.",
        "",
        about(rows[0]),
        "",
        "| beads | cutoff (nm) | channels | threads | " + " | ".join(ENGINES) + " | torch-operators / native |",
        "|" + "---|" * (len(ENGINES) + 5),
    ]
    systems: dict[tuple, dict] = {}
    for row in rows:
        if row["engine"] in ENGINES:
            key = (row["beads"], row["cutoff"], row["channels"], row["threads"])
            systems.setdefault(key, {})[row["engine"], row["settings"]] = row["ms_per_step"]
    for key, times in systems.items():
        cells = []
        for engine in ENGINES:
            tuned, default = times.get((engine, "tuned")), times.get((engine, "default"))
            cells.append("" if tuned is None else f"{tuned:.3g}" + ("" if default is None else f" ({default:.3g})"))
        native, peer = times.get(("native", "tuned")), times.get(("torch-operators", "tuned"))
        ratio = f"{peer / native:.1f}" if native and peer else ""
        lines.append("| " + " | ".join([*map(str, key), *cells, ratio]) + " |")
    lines += ["", "All-atom TIP3P water with the same number of molecules (PME, 0.9 nm, rigid):", ""]
    lines += ["| molecules | threads | ms per step |", "|---|---|---|"]
    for row in rows:
        if row["engine"] == "all-atom":
            lines.append(f"| {row['beads']} | {row['threads']} | {row['ms_per_step']:.3g} |")
    return lines


def drift_section(result: dict) -> list[str]:
    """Energy conservation."""
    return [
        "",
        "## Energy conservation",
        "",
        f"{result['beads']} beads of the demo's trained liquid, NVE at 1 fs for {result['duration_ps']:g} ps "
        "(`python benchmarks/nve_drift.py demo/training/potential.pt demo/beads.h5md`): the total energy drifts by "
        f"{result['drift_kT_per_bead_per_ns']:.1e} ± {result['error']:.1e} k_B T per bead per ns.",
        "",
        "![total energy](figures/nve_drift.png)",
    ]


def main() -> None:
    lines = ["# What it costs", "", "Made from `benchmarks/results/` by `python benchmarks/performance_page.py`.", ""]
    lines += water_tables(json.loads((RESULTS / "md_water.json").read_text()))
    lines += drift_section(json.loads((RESULTS / "nve_drift.json").read_text()))
    (ROOT / "docs" / "performance.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
