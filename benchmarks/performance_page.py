"""Make docs/performance.md from the results that the benchmarks wrote.

    python benchmarks/performance_page.py

Every `md_water*.json`, `md_replicas*.json` and `roofline*.json` in benchmarks/results, and `peptide_replicas.json` and
`tabulated_bonded.json`, is one run and becomes one table; `nve_drift.json` becomes a sentence.
"""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
WATER_ENGINES = ("native", "torchscript", "torch-operators", "torch-export", "all-atom", "integrator")


def about(result: dict) -> str:
    """The machine and versions of a result."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"{result['machine']}; {versions}."


def table(columns: list[str], rows: list[list]) -> list[str]:
    """Markdown."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return [*lines, *("| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |" for row in rows), ""]


def number(value: float | None) -> str:
    """Three digits."""
    return "" if value is None else f"{value:.3g}"


def both(times: dict[str, float]) -> str:
    """Tuned, and as it comes in brackets."""
    default = f" ({number(times['default'])})" if "default" in times else ""
    return number(times.get("tuned")) + default


def water_section() -> list[str]:
    """Milliseconds per step, a line for each system and number of threads."""
    lines = [
        "## Coarse-grained water: ms per step",
        "",
        "`python benchmarks/md_water.py`; its docstring says what is measured. A table is one run. Figures are tuned,",
        "those in brackets as it comes. `all-atom` is TIP3P water with as many molecules (PME, rigid), `integrator`",
        "OpenMM's own cost. With few beads, as it comes, most of a step on the CPU platform is OpenMM's waking of its",
        "threads; the Reference platform has none to wake, so that it is the faster one there, in double precision.",
        "",
    ]
    settings = ("beads", "network", "cutoff", "channels", "platform", "threads", "precision")
    for path in sorted(RESULTS.glob("md_water*.json")):
        rows = json.loads(path.read_text())
        engines = [engine for engine in WATER_ENGINES if any(row["engine"] == engine for row in rows)]
        systems: dict[tuple, dict[str, dict[str, float]]] = {}
        for row in rows:
            system = systems.setdefault(tuple(row[name] for name in settings), {})
            system.setdefault(row["engine"], {})[row["settings"]] = row["ms_per_step"]
        peers = "torch-operators" in engines
        cells = []
        for key, times in systems.items():
            cell = [*key, *(both(times.get(engine, {})) for engine in engines)]
            if peers and "native" in times and "torch-operators" in times:
                cell.append(f"{times['torch-operators']['tuned'] / times['native']['tuned']:.1f}")
            elif peers:
                cell.append("")
            cells.append(cell)
        shown = [i for i in range(len(settings)) if any(cell[i] is not None for cell in cells)]
        shown += range(len(settings), len(settings) + len(engines) + peers)
        columns = [*settings, *engines, *(["torch-operators / native"] if peers else [])]
        columns = [{"cutoff": "cutoff (nm)"}.get(name, name) for name in columns]
        lines += [about(rows[0]), ""]
        lines += table([columns[i] for i in shown], [[cell[i] for i in shown] for cell in cells])
    return lines


def replicas_section() -> list[str]:
    """Replicas of chains."""
    lines = ["## Replicas of a chain", "", "`python benchmarks/md_replicas.py`, at 4 fs.", ""]
    for path in sorted(RESULTS.glob("md_replicas*.json")):
        rows = json.loads(path.read_text())
        cells = []
        for row in rows:
            speed = 86400 * 0.004 / row["ms_per_step"]
            cost = 1e3 * row["ms_per_step"] / (row["beads"] * row["replicas"])
            cells.append(
                [row["beads"], row["replicas"], row["platform"], row["threads"], number(row["ms_per_step"])]
                + [f"{speed:.0f}", f"{speed * row['replicas']:.0f}", number(cost)]
            )
        columns = ["beads", "replicas", "platform", "threads", "ms per step", "ns/day of one", "ns/day of all"]
        shape = f"SchNet, {rows[0]['channels']} channels, {rows[0]['blocks']} blocks, {rows[0]['cutoff']} nm. "
        lines += [shape + about(rows[0]), "", *table([*columns, "µs per bead and step"], cells)]
    return lines


def peptide_section() -> list[str]:
    """Replicas of a peptide beside a loop in torch."""
    rows = json.loads((RESULTS / "peptide_replicas.json").read_text())
    shape = f"SchNet, {rows[0]['channels']} channels, {rows[0]['blocks']} blocks, harmonic bonds and angles. "
    cells = []
    for row in rows:
        speed = 86400 * 0.004 / row["ms_per_step"] * row["replicas"]
        cells.append([row["engine"], row["replicas"], row["threads"], number(row["ms_per_step"]), f"{speed:.0f}"])
    return [
        "## Replicas of a peptide beside a loop in torch",
        "",
        "`python benchmarks/peptide_replicas.py`: six beads, 4 fs, one run.",
        "",
        shape + about(rows[0]),
        "",
        *table(["engine", "replicas", "threads", "ms per step", "ns/day of all"], cells),
    ]


def tabulated_section() -> list[str]:
    """Tabulated bonded terms beside OpenMM's own force for them."""
    rows = json.loads((RESULTS / "tabulated_bonded.json").read_text())
    cells = [
        [row["force"], row["platform"], row["copies"], row["terms"], number(row["ms_per_step"])]
        + [number(row.get("us_per_term"))]
        for row in rows
    ]
    return [
        "## Tabulated bonds, angles and dihedrals",
        "",
        "`python benchmarks/tabulated_bonded.py`: copies of a molecule of ten beads, 48 terms each, on one thread.",
        "",
        about(rows[0]),
        "",
        *table(["force", "platform", "copies", "terms", "ms per step", "µs per term"], cells),
    ]


def roofline_section() -> list[str]:
    """How far the kernels are from the machine's ceilings."""
    lines = [
        "## Kernels and their ceilings",
        "",
        "`python benchmarks/roofline.py`; its docstring says how it is read. Shares above 100 % are possible: the",
        "ceiling of the cache is that of a copy beyond the first level, and other work on the machine lowers ceilings.",
        "",
    ]
    for path in sorted(RESULTS.glob("roofline*.json")):
        result = json.loads(path.read_text())
        ceilings = result["ceilings"]
        cells = []
        for row in result["rows"]:
            roofs = {name: 1e3 * row[name] / ceilings[name] for name in ceilings}
            highest = max(roofs, key=lambda name: roofs[name])
            if roofs[highest] > 0:
                share = f"{roofs[highest] / row['ms']:.0%}"
                cells.append([row["network"], row["kernel"], number(row["ms"]), number(roofs[highest]), highest, share])
        units = {"operations": "Gflop/s", "memory": "GB/s from memory", "cache": "GB/s from the cache"}
        stated = ", ".join(f"{ceilings[name] / 1e9:.3g} {unit}" for name, unit in units.items())
        choice = "".join(f" {name[0].upper()}{name[1:]}: {value}." for name, value in result["choice"].items())
        load = f" Load of the machine before: {result['load']:.1f}."
        lines += [f"{about(result)}{choice}{load} Ceilings: {stated}.", ""]
        lines += table(["network", "kernel", "ms", "at the ceiling (ms)", "which", "share"], cells)
    return lines


def drift_section() -> list[str]:
    """Energy conservation."""
    result = json.loads((RESULTS / "nve_drift.json").read_text())
    return [
        "## Energy conservation",
        "",
        f"{result['beads']} beads of the demo's trained liquid, NVE at 1 fs for {result['duration_ps']:g} ps "
        "(`python benchmarks/nve_drift.py demo/training/potential.pt demo/beads.h5md`): the total energy drifts by "
        f"{result['drift_kT_per_bead_per_ns']:.1e} ± {result['error']:.1e} k_B T per bead per ns. {about(result)}",
        "",
        "![total energy](figures/nve_drift.png)",
    ]


def gpu_section() -> list[str]:
    """What is known of GPUs."""
    if any(RESULTS.glob("*_gpu.json")):
        return []
    return [
        "## GPU",
        "",
        "Not measured yet: the GPU engine has run on OpenCL over PoCL only, on processors, and been compiled for CUDA.",
        "`benchmarks/gpu.sh` runs the tests and all benchmarks on a machine with an NVIDIA GPU.",
        "",
    ]


def main() -> None:
    lines = ["# What it costs", "", "Made from `benchmarks/results/` by `python benchmarks/performance_page.py`.", ""]
    for section in (
        gpu_section,
        water_section,
        replicas_section,
        peptide_section,
        tabulated_section,
        roofline_section,
        drift_section,
    ):
        lines += section()
    (ROOT / "docs" / "performance.md").write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
