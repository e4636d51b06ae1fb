"""What is written along a trajectory is what the predictor says of its frames, and nothing of it is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app, unit

from openmmcg.electronic import (
    DensityOfStates,
    DistanceFeatures,
    DKLPredictor,
    ElectronicReporter,
    Recalibration,
    predict_trajectory,
    read_predictions,
)
from openmmcg.electronic.predictor import DenseLayers, Member
from openmmcg.frames import FrameWriter

NAMES = ["A", "B", "C"]


@dataclass
class Answer:
    mean: np.ndarray
    standard_deviation: np.ndarray
    latent: np.ndarray


class Stretch:
    """Stands in for a trained predictor of molecules with beads A, B and C: two distances say it all."""

    def __init__(self):
        self.calls = 0

    def check_beads(self, names):
        if list(names) != NAMES:
            raise ValueError(f"the map has the beads {list(names)}, the predictor was trained on {NAMES}")

    def predict(self, positions):
        self.calls += 1
        latent = np.linalg.norm(np.diff(positions, axis=1), axis=2)
        return Answer(-6 + latent.sum(axis=1), 0.1 + 0.2 * latent[:, 0], latent)


def molecules(number, box=None):
    """A System of three-bead molecules with springs, its topology, and positions."""
    system, topology, springs = openmm.System(), app.Topology(), openmm.HarmonicBondForce()
    chain = topology.addChain()
    for molecule in range(number):
        residue = topology.addResidue("MOL", chain)
        for name in NAMES:
            system.addParticle(20.0)
            topology.addAtom(name, None, residue)
        for bead in (3 * molecule, 3 * molecule + 1):
            springs.addBond(bead, bead + 1, 0.3, 2000.0)
    system.addForce(springs)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*(box * np.eye(3)))
        springs.setUsesPeriodicBoundaryConditions(True)
    positions = np.zeros((number, 3, 3)) + 0.5 * np.arange(number)[:, None, None]
    positions[..., 0] += 0.3 * np.arange(3)
    return system, topology, positions.reshape(-1, 3)


def simulation(number=1, box=None, seed=1):
    system, topology, positions = molecules(number, box)
    integrator = openmm.LangevinMiddleIntegrator(300, 5.0, 0.005)
    integrator.setRandomNumberSeed(seed)
    result = app.Simulation(topology, system, integrator, openmm.Platform.getPlatform("Reference"))
    result.context.setPositions(positions)
    result.context.setVelocitiesToTemperature(300, seed)
    return result


class Positions:
    """Keeps what OpenMM says of the same steps."""

    def __init__(self, interval):
        self.interval, self.times, self.frames = interval, [], []

    def describeNextReport(self, simulation):  # noqa: N802
        steps = self.interval - simulation.currentStep % self.interval
        return {"steps": steps, "periodic": False, "include": ["positions"]}

    def report(self, simulation, state):
        self.times.append(state.getTime().value_in_unit(unit.picosecond))
        self.frames.append(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))


def test_every_molecule_of_every_report_is_written(tmp_path):
    predictor, run, kept = Stretch(), simulation(number=4), Positions(10)
    with ElectronicReporter(tmp_path / "e.csv", 10, predictor, np.arange(12).reshape(4, 3)) as reporter:
        run.reporters += [reporter, kept]
        run.step(200)
    found = read_predictions(tmp_path / "e.csv")
    assert found.mean.shape == found.standard_deviation.shape == (20, 4) and found.latent.shape == (20, 4, 2)
    np.testing.assert_allclose(found.times, kept.times)
    np.testing.assert_allclose(found.times, 0.05 * np.arange(1, 21))
    exact = predictor.predict(np.reshape(kept.frames, (80, 3, 3)))
    np.testing.assert_allclose(found.mean.ravel(), exact.mean, rtol=1e-8)
    np.testing.assert_allclose(found.standard_deviation.ravel(), exact.standard_deviation, rtol=1e-8)
    np.testing.assert_allclose(found.latent.reshape(80, 2), exact.latent, rtol=1e-8)
    assert found.latent.std() > 0.01
    states = DensityOfStates(found.mean, found.standard_deviation, blocks=5)
    assert states.average == pytest.approx(exact.mean.mean())


def test_a_deep_kernel_predictor_reports_what_it_predicts(tmp_path):
    """Its arrays are random, which changes nothing."""
    random = np.random.default_rng(0)
    member = Member(
        feature_mean=np.full(3, 0.4),
        feature_scale=np.full(3, 0.1),
        energy=np.array([-6.0, 0.2]),
        inducing_points=random.normal(size=(5, 2)),
        lengths=np.ones(2),
        trend=random.normal(size=3),
        kernel_variance=np.ones(1),
        whitening=np.tril(random.normal(size=(5, 5))),
        values=random.normal(size=5),
        root=random.normal(size=(5, 5)),
        recalibration=Recalibration().to_array(),
        kernel_network=DenseLayers([random.normal(size=(3, 2))], [np.zeros(2)]),
        noise_network=DenseLayers([random.normal(size=(2, 1))], [np.zeros(1)]),
    )
    predictor = DKLPredictor(DistanceFeatures(3), [member], bead_names=NAMES)
    run, kept = simulation(), Positions(20)
    with ElectronicReporter(tmp_path / "e.csv", 20, predictor) as reporter:
        run.reporters += [reporter, kept]
        run.step(100)
    found, exact = read_predictions(tmp_path / "e.csv"), predictor.predict(kept.frames)
    np.testing.assert_allclose(found.mean[:, 0], exact.mean, rtol=1e-7)
    np.testing.assert_allclose(found.standard_deviation[:, 0], exact.standard_deviation, rtol=1e-7)
    np.testing.assert_allclose(found.latent[:, 0], exact.latent, rtol=1e-7)
    other = DKLPredictor(DistanceFeatures(3), [member], bead_names=["A", "B", "D"])
    run.reporters = [ElectronicReporter(tmp_path / "other.csv", 20, other)]
    with pytest.raises(ValueError, match="the predictor was trained on"):
        run.step(20)


def test_a_molecule_is_its_beads_in_the_order_given(tmp_path):
    """Beads may lie anywhere among the particles; here the second molecule comes first."""
    run = simulation(number=2)
    for name, beads in (("all", [[0, 1, 2], [3, 4, 5]]), ("swapped", [[3, 4, 5], [0, 1, 2]])):
        run.reporters.append(ElectronicReporter(tmp_path / f"{name}.csv", 5, Stretch(), beads))
    run.step(20)
    for reporter in run.reporters:
        reporter.close()
    first, second = read_predictions(tmp_path / "all.csv"), read_predictions(tmp_path / "swapped.csv")
    np.testing.assert_array_equal(first.mean, second.mean[:, ::-1])


def test_molecules_that_cross_a_face_of_the_box_stay_whole(tmp_path):
    run = simulation(number=1, box=2.0)
    velocities = np.tile([20.0, 0.0, 0.0], (3, 1))  # stopped by the thermostat after some 4 nm
    run.context.setVelocities(velocities)
    with ElectronicReporter(tmp_path / "e.csv", 10, Stretch()) as reporter:
        run.reporters.append(reporter)
        run.step(200)
    latent = read_predictions(tmp_path / "e.csv").latent
    assert run.context.getState(positions=True).getPositions(asNumpy=True)._value.max() > 2.0
    assert latent.max() < 0.6


def test_reports_are_predicted_together_the_first_at_once(tmp_path):
    predictor, run = Stretch(), simulation()
    with ElectronicReporter(tmp_path / "e.csv", 10, predictor, delay=1000.0) as reporter:
        run.reporters.append(reporter)
        run.step(10)
        assert len(read_predictions(tmp_path / "e.csv")) == 1 and predictor.calls == 1
        run.step(500)
        assert len(read_predictions(tmp_path / "e.csv")) == 1 and predictor.calls == 1
        reporter.flush()
        assert len(read_predictions(tmp_path / "e.csv")) == 51 and predictor.calls == 2
        run.step(10)
    assert len(read_predictions(tmp_path / "e.csv")) == 52
    at_once = ElectronicReporter(tmp_path / "at_once.csv", 10, predictor, delay=0.0)
    run.reporters = [at_once]
    run.step(100)
    assert len(read_predictions(tmp_path / "at_once.csv")) == 10


RUN = """
import sys
sys.path.insert(0, {folder!r})
from test_electronic_reporter import *
run = simulation()
run.reporters.append(ElectronicReporter({path!r}, 10, Stretch(), delay={delay}))
run.step({steps})
{end}
"""


def start(path, end="", delay=1000.0, steps=1000):
    program = RUN.format(folder=os.path.dirname(__file__), path=str(path), delay=delay, steps=steps, end=end)
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("end", ["", "raise RuntimeError('stop')", "run.reporters.clear(); run = None"])
def test_what_waits_is_written_however_python_ends(tmp_path, end):
    process = start(tmp_path / "e.csv", end)
    process.communicate(timeout=120)
    assert process.returncode == int("raise" in end)
    assert len(read_predictions(tmp_path / "e.csv")) == 100


def test_a_killed_run_leaves_a_file_to_go_on_with(tmp_path):
    """The simulation is begun anew from a checkpoint at 0.25 ps: frames after it are made again, not doubled."""
    path = tmp_path / "e.csv"
    process = start(path, delay=0.0, steps=10**8)
    deadline = time.monotonic() + 120
    while (not path.exists() or path.stat().st_size < 3000) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = read_predictions(path)
    assert len(before) > 10
    with open(path, "a") as file:
        file.write("0.9,0,-5.9")  # the line that was being written
    run = simulation(seed=2)
    run.context.setTime(0.25)
    with pytest.raises(FileExistsError, match=r"e.csv exists and is not overwritten; choose another path, or append"):
        ElectronicReporter(path, 10, Stretch())
    with ElectronicReporter(path, 10, Stretch(), append=True) as reporter:
        run.reporters.append(reporter)
        run.step(50)
    after = read_predictions(path)
    np.testing.assert_allclose(after.times, 0.05 * np.arange(1, 11))
    np.testing.assert_array_equal(after.mean[:5], before.mean[:5])


def test_a_full_disk_leaves_whole_frames_and_room_lets_it_go_on(tmp_path):
    """What could not be written is kept and written when there is room."""
    path = tmp_path / "e.csv"
    limit = "import resource; limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1)); limit(2000)"
    end = """
reporter = run.reporters[0]
try:
    reporter.flush()
except OSError as error:
    print(error, file=sys.stderr)
assert 1 == len(read_predictions(reporter.path))
limit(-1)
reporter.flush()
"""
    program = RUN.format(folder=os.path.dirname(__file__), path=str(path), delay=1000.0, steps=1000, end=end)
    done = subprocess.run([sys.executable, "-c", limit + program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "predictions of 99 frames could not be written to" in done.stderr
    assert len(read_predictions(path)) == 100


def test_positions_that_are_not_finite_stop_the_run_and_spare_the_reports_before(tmp_path):
    run = simulation()
    reporter = ElectronicReporter(tmp_path / "e.csv", 10, Stretch(), delay=1000.0)
    run.reporters.append(reporter)
    run.step(50)
    state = run.context.getState(positions=True)
    broken = unit.Quantity(np.full((3, 3), np.nan), unit.nanometer)

    class Broken:
        def getTime(self):  # noqa: N802
            return state.getTime()

        def getPositions(self, asNumpy):  # noqa: N802, N803
            return broken

    with pytest.raises(ValueError, match=r"at 0.25 ps: positions are not finite; the reports before are in .*e.csv"):
        reporter.report(run, Broken())
    assert len(read_predictions(tmp_path / "e.csv")) == 5


def test_another_map_is_refused_before_the_first_step(tmp_path):
    run = simulation(number=2)
    for beads, message in (
        (None, r"the map has the beads \['A', 'B', 'C', 'A', 'B', 'C'\], the predictor was trained on"),
        ([[0, 2, 1]], r"the map has the beads \['A', 'C', 'B'\]"),
        ([[3, 4, 6]], "a molecule has the bead 6; there are particles 0 to 5"),
    ):
        run.reporters = [ElectronicReporter(tmp_path / "e.csv", 10, Stretch(), beads)]
        with pytest.raises(ValueError, match=message):
            run.step(100)
        assert run.currentStep == 0
    for beads in ([0, 1, 2], [[0.0, 1.0, 2.0]], [[]]):
        with pytest.raises(ValueError, match=r"integers of shape \[molecules, beads\]"):
            ElectronicReporter(tmp_path / "e.csv", 10, Stretch(), beads)
    with pytest.raises(ValueError, match="not negative"):
        ElectronicReporter(tmp_path / "e.csv", 10, Stretch(), [[-1, 0, 1]])
    with pytest.raises(ValueError, match="at least one step"):
        ElectronicReporter(tmp_path / "e.csv", 0, Stretch())
    with pytest.raises(FileNotFoundError, match="create it first"):
        ElectronicReporter(tmp_path / "none" / "e.csv", 10, Stretch())
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "beads.h5md"
    random = np.random.default_rng(0)
    positions = molecules(2)[2] + random.normal(scale=0.05, size=(1500, 6, 3))
    particles = {"names": NAMES * 2, "types": [0, 1, 2] * 2, "type_names": NAMES, "masses": [20.0] * 6}
    with FrameWriter(path, **particles, temperature=300.0, forces=False, periodic=False) as writer:
        for frame in range(1500):
            writer.append(positions[frame], None, 0.5 * frame)
    return path, positions.astype(np.float32).astype(float)


def predict(trajectory, path, **options):
    arguments = {"beads_of_molecules": [[0, 1, 2], [3, 4, 5]], "progress": False}
    return predict_trajectory(trajectory[0], options.pop("predictor", Stretch()), path, **{**arguments, **options})


def test_a_stored_trajectory_is_predicted_frame_by_frame(trajectory, tmp_path):
    found = predict(trajectory, tmp_path / "e.csv")
    exact = Stretch().predict(trajectory[1].reshape(-1, 3, 3))
    np.testing.assert_allclose(found.times, 0.5 * np.arange(1500))
    np.testing.assert_allclose(found.mean.ravel(), exact.mean, rtol=1e-8)
    np.testing.assert_allclose(found.latent.reshape(-1, 2), exact.latent, rtol=1e-8)
    one = predict(trajectory, tmp_path / "one.csv", beads_of_molecules=[[3, 4, 5]])
    np.testing.assert_allclose(one.mean[:, 0], found.mean[:, 1])


def test_an_interrupted_prediction_goes_on_where_it_was(trajectory, tmp_path):
    class Interrupted(Stretch):
        def predict(self, positions):
            if self.calls == 1:
                raise KeyboardInterrupt
            return super().predict(positions)

    with pytest.raises(KeyboardInterrupt):
        predict(trajectory, tmp_path / "e.csv", predictor=Interrupted())
    assert len(read_predictions(tmp_path / "e.csv")) == 1000
    text = (tmp_path / "e.csv").read_text()
    (tmp_path / "e.csv").write_text(text[:-37])  # the last frame is not complete
    whole = predict(trajectory, tmp_path / "whole.csv")
    resumed = predict(trajectory, tmp_path / "e.csv")
    np.testing.assert_allclose(resumed.mean, whole.mean, rtol=1e-8)
    assert (tmp_path / "e.csv").read_text() == (tmp_path / "whole.csv").read_text()
    counting = Stretch()
    predict(trajectory, tmp_path / "e.csv", predictor=counting)
    assert counting.calls == 1  # to compare some frames


def test_predictions_of_something_else_are_not_mixed_in(trajectory, tmp_path):
    class Other(Stretch):
        def predict(self, positions):
            answer = super().predict(positions)
            return Answer(answer.mean + 1, answer.standard_deviation, answer.latent)

    predict(trajectory, tmp_path / "e.csv")
    with pytest.raises(ValueError, match=r"does not hold predictions of .*beads.h5md by this predictor"):
        predict(trajectory, tmp_path / "e.csv", predictor=Other())
    with pytest.raises(ValueError, match="does not hold predictions"):
        predict(trajectory, tmp_path / "e.csv", beads_of_molecules=[[0, 1, 2]])
    with pytest.raises(ValueError, match="the predictor was trained on"):
        predict(trajectory, tmp_path / "new.csv", beads_of_molecules=None)
    (tmp_path / "mine.csv").write_text("mine\n1,2\n")
    with pytest.raises(ValueError, match=r"mine.csv holds no predictions: its first line is not time_ps,molecule"):
        predict(trajectory, tmp_path / "mine.csv")
    run = simulation()
    with ElectronicReporter(tmp_path / "e.csv", 10, Stretch(), append=True) as reporter:
        run.reporters.append(reporter)
        with pytest.raises(ValueError, match="predictions of 2 molecules, not of 1"):
            run.step(10)


@pytest.mark.slow
def test_the_benchmark_writes_what_it_prints(tmp_path):
    program = Path(__file__).resolve().parents[1] / "benchmarks" / "electronic_reporter.py"
    options = ["--inducing-points", "20", "--members", "1", "--reports", "3", "--json", "rows.json"]
    done = subprocess.run([sys.executable, program, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["potential"] for row in rows] == ["tabulated", "harmonic"]
    for row in rows:
        assert row["predictions_per_second_together"] > row["predictions_per_second_one_by_one"] > 0
        assert f"{row['predictions_per_second_together']:.0f}" in done.stdout and row["share_at_once"] > 0
