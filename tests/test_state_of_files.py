"""Every file that the package writes: a full disk or the end of the process costs nothing that was complete.

What is left is read, gone on with, or refused by name and with the remedy.
"""

import json
import multiprocessing
import resource
import tempfile

import numpy as np
import openmm
import pytest
from openmm import app

from openmmcg import CGPotential
from openmmcg.analysis import Report
from openmmcg.electronic import DistanceFeatures, DKLPredictor, predict_trajectory, read_predictions
from openmmcg.electronic.predictor import DenseLayers, Member
from openmmcg.frames import Frames, FrameWriter, write_frames
from openmmcg.mapping import Mapping, map_frames
from openmmcg.potentials import Ensemble, EnsembleReporter, HarmonicBonds
from openmmcg.reference.quantum.labels import LabelFile, Labels
from openmmcg.state import claim, write_json

ATOMS = {"names": ["A", "B"], "types": [0, 1], "type_names": ["A", "B"], "masses": [20.0, 30.0], "temperature": 300.0}
BEADS = [("A", 20.0), ("B", 30.0)]


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape)


def topology():
    result = app.Topology()
    residue = result.addResidue("M", result.addChain())
    atoms = [result.addAtom(name, app.Element.getBySymbol("C"), residue) for name in "AB"]
    result.addBond(*atoms)
    return result


def potential(strength=1.0):
    # Text that does not get shorter, so that a file is large enough to be cut.
    return CGPotential(
        None, BEADS, priors=[HarmonicBonds({(0, 1): (0.3, 1000.0 * strength)})], provenance={"why": "x" * 6000}
    )


def predictor():
    layers = DenseLayers([numbers(1, 60) / 60, numbers(60, 1) / 60], [numbers(60) / 60, numbers(1)])
    one = np.ones(1)
    member = Member(
        0 * one, one, np.array([0.0, 1.0]), numbers(30, 1), one, np.zeros(2), one, np.eye(30), numbers(30),
        numbers(30, 30), np.array([0.0, 1.0, 1.0, 1.0]), layers, layers,
    )  # fmt: skip
    return DKLPredictor(DistanceFeatures(2), [member], bead_names=["A", "B"])


def source(folder):
    """A trajectory to be mapped or predicted, written before the disk is full."""
    path = folder / "source.h5md"
    if not path.exists():
        with FrameWriter(path, **ATOMS, forces=False, periodic=False) as writer:
            writer.extend(
                np.tile([[0, 0, 0], [0.3, 0, 0]], (450, 1, 1)) + 0.01 * numbers(450, 2, 3), None, np.arange(450)
            )
    return path


def append_frames(path):
    with FrameWriter(path, **ATOMS, periodic=False, resume=True) as writer:
        while len(writer) < 900:
            writer.append(numbers(2, 3), None, len(writer), numbers(2, 3))


def map_source(path):
    with Frames(source(path.parent)) as frames:
        map_frames(frames, Mapping.slice(topology(), [0, 1]), path, progress=False)


def report_spread(path):
    ensemble = Ensemble([potential(), potential(2.0)], 10.0)
    system = ensemble.create_system(topology())
    platform = openmm.Platform.getPlatform("Reference")
    simulation = app.Simulation(topology(), system, openmm.VerletIntegrator(0.001), platform)
    simulation.context.setPositions([[0, 0, 0], [0.31, 0, 0]])
    # From the checkpoint before the last report: that one is made again.
    simulation.currentStep = max(0, path.read_text().count("\n") - 2) if path.exists() else 0
    simulation.reporters.append(EnsembleReporter(path, 1, ensemble, append=True))
    simulation.step(400 - simulation.currentStep)


def save_labels(path):
    with LabelFile(path, 500, {"engine": "none"}, {}) as file:
        for frame in file.waiting:
            file.write(frame, homo=-6.0, lumo=1.0)


def count_frames(path):
    with Frames(path) as frames:
        assert np.isfinite(frames.positions[:]).all()
        return len(frames)


# What is written, how, how one reads how much is there, of how much.
GROWING = {
    "frames": (append_frames, count_frames, 900),
    "mapped frames": (map_source, count_frames, 450),
    "predictions": (
        lambda path: predict_trajectory(source(path.parent), predictor(), path, progress=False),
        lambda path: len(read_predictions(path)),
        450,
    ),
    "spread": (report_spread, lambda path: len(path.read_text().splitlines()) - 1, 400),
}
AT_ONCE = {
    "written frames": (lambda path: write_frames(path, numbers(900, 2, 3), **ATOMS), count_frames),
    "potential": (lambda path: potential().save(path), lambda path: CGPotential.load(path).prior_templates),
    "predictor": (lambda path: predictor().save(path), DKLPredictor.load),
    "report": (lambda path: Report("x" * 9000).write(path), lambda path: path.read_text()),
    "json": (lambda path: write_json(path, ["x" * 9000]), lambda path: json.loads(path.read_text())),
}
LIMITS = {"frames": 1_110_000, "mapped frames": 1_885_000, "predictions": 12_000, "spread": 5_000}


@pytest.fixture(autouse=True)
def few_predictions_at_once(monkeypatch):
    monkeypatch.setattr("openmmcg.electronic.reporter._CONFIGURATIONS_AT_ONCE", 100)


def write_with_limit(path, name, limit):
    """What a process says whose files may not get larger than so many bytes, as if the disk were full."""
    with tempfile.TemporaryFile("w+") as said:

        def work():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                {**AT_ONCE, **GROWING}[name][0](path)
            except OSError as error:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                said.write(str(error))
                said.flush()

        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join(60)
        assert process.exitcode == 0
        said.seek(0)
        return said.read()


@pytest.mark.parametrize("name", GROWING)
def test_what_grows_keeps_what_was_complete_when_the_disk_is_full_and_goes_on_with_room(tmp_path, name):
    write, count, everything = GROWING[name]
    source(tmp_path)
    path = tmp_path / "grown"
    message = write_with_limit(path, name, LIMITS[name])
    assert str(path) in message and "ake room and " in message
    there = count(path)
    assert 0 < there < everything
    write(path)
    assert count(path) == everything


@pytest.mark.parametrize("name", AT_ONCE)
def test_what_is_written_at_once_is_the_old_file_or_the_new_one_when_the_disk_is_full(tmp_path, name):
    write, read = AT_ONCE[name]
    path = tmp_path / "written"
    message = write_with_limit(path, name, 3000)
    assert f"{path} could not be written (" in message
    assert message.endswith("nothing of it is left. Make room and repeat") and not list(tmp_path.iterdir())
    write(path)
    read(path)
    if name != "written frames":  # which replaces nothing
        before = path.read_bytes()
        assert "what it held before is unharmed. Make room and repeat" in write_with_limit(path, name, 3000)
        assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["written"]


@pytest.mark.parametrize("name", ["predictions", "spread"])
def test_lines_that_the_end_of_a_process_cut_off_are_written_again(tmp_path, name):
    write, count, everything = GROWING[name]
    path = tmp_path / "grown"
    write(path)
    content = path.read_bytes()
    for kept in (0, 30, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:kept])
        write(path)
        assert count(path) == everything
        lines = path.read_text().splitlines()
        assert len(lines) == everything + 1 and len({line.count(",") for line in lines}) == 1


READERS = {
    "frames": (append_frames, Frames),
    "labels": (save_labels, Labels.read),
    "predictor": AT_ONCE["predictor"],
    "potential": AT_ONCE["potential"],
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_cut_off_is_refused_by_name_and_with_the_remedy(tmp_path, name):
    write, read = READERS[name]
    path = tmp_path / "broken"
    write(path)
    content = path.read_bytes()
    for kept in (0, 10, len(content) // 3, len(content) // 2, len(content) - 40):
        path.write_bytes(content[:kept])
        with pytest.raises((ValueError, OSError), match=r"broken.*(bring back a copy|choose another path)"):
            read(path)
    path.write_bytes(b'{"this": "is something else"}')
    with pytest.raises((ValueError, OSError), match=r"broken.*(bring back a copy|choose another path)"):
        read(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="broken"):
        read(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"potentials": ["potential_0.pt"]}', "\0\xff"])
def test_a_damaged_ensemble_is_named(tmp_path, text):
    Ensemble([potential(), potential(2.0)], 10.0).save(tmp_path)
    (tmp_path / "ensemble.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"ensemble\.json is damaged, or not an ensemble of .* bring back a copy"):
        Ensemble.load(tmp_path)


def test_a_damaged_claim_is_named(tmp_path):
    (tmp_path / "inputs.json").write_text("{")
    with pytest.raises(ValueError, match=r"inputs\.json is damaged.*make it anew"), claim(tmp_path, "a training", {}):
        pass
