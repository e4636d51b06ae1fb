"""Cross-validation: errors on frames held out, priors from the others alone, several molecules at once."""

import numpy as np
import pytest
import torch

from openmmcg.fitting import ForceMatching, cross_validate
from openmmcg.fitting.force_matching.data import ForceDataset, open_frames, split_folds
from openmmcg.fitting.force_matching.forces import network_forces
from openmmcg.frames import Frames, FrameWriter
from openmmcg.potentials import CGnet, HarmonicAngles, HarmonicBonds, PriorForces, Repulsion, SchNet

PRIORS = [HarmonicBonds.from_frames, HarmonicAngles.from_frames]
SETTINGS = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2}


def write_chain(path, kinds="ABA", number=30, seed=0, type_names="AB", masses=None, temperature=300.0, forces=True):
    """Frames of a chain with bonds of 0.15 nm that vary, and with forces that are noise."""
    random = np.random.default_rng(seed)
    names = list(type_names)
    beads = len(kinds)
    particles = {
        "names": list(kinds),
        "types": [names.index(kind) for kind in kinds],
        "type_names": names,
        "masses": masses or [10.0 + ord(kind) for kind in kinds],
        "bonds": [(i, i + 1) for i in range(beads - 1)],
    }
    with FrameWriter(path, **particles, temperature=temperature, periodic=False, forces=forces) as writer:
        for frame in range(number):
            steps = np.array([[0.15, 0.0, 0.0], [0.05, 0.14, 0.0]])[np.arange(beads) % 2]
            positions = np.cumsum(steps + random.normal(scale=0.01, size=(beads, 3)), 0)
            values = {"forces": random.normal(scale=100.0, size=(beads, 3))} if forces else {}
            writer.append(positions, None, time=float(frame), **values)
    return path


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return write_chain(tmp_path_factory.mktemp("frames") / "chain.h5md")


def make_network(types=2, **options):
    torch.manual_seed(0)
    return SchNet(types=types, cutoff=0.6, **{"channels": 6, "blocks": 1, "basis_size": 8, "neighbors": 2, **options})


@pytest.fixture(scope="module")
def crossed(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crossed")
    return folder, cross_validate(ForceMatching(make_network(), PRIORS, **SETTINGS), chain, folder, progress=False)


def test_every_frame_is_held_out_once():
    for split in ("random", "blocks"):
        parts = split_folds(23, 5, split, seed=1)
        assert sorted(sum(parts, [])) == list(range(23))
        assert sorted(map(len, parts)) == [4, 4, 5, 5, 5]
    assert split_folds(23, 5, "random", 1) != split_folds(23, 5, "random", 2)
    assert all(np.all(np.diff(part) == 1) for part in split_folds(23, 5, "blocks", 1))


def test_the_errors_of_a_fold_are_those_on_its_held_out_frames(chain, crossed):
    _, result = crossed
    with Frames(chain) as frames:
        for part, fold in zip(split_folds(30, 5, "random", 0), result.folds, strict=True):
            training = frames.select(np.setdiff1d(np.arange(30), part))
            priors = [make(training) for make in PRIORS]
            forces = PriorForces(priors, frames.types.tolist(), frames.bonds.tolist(), periodic=False)
            reference = np.array([np.asarray(frames.forces[i], float) for i in part])
            deltas = np.array([f - forces(frames.positions[i], None) for i, f in zip(part, reference, strict=True)])
            assert fold.errors.zero == pytest.approx(np.mean(reference**2), rel=1e-12)
            assert fold.errors.priors == pytest.approx(np.mean(deltas**2), rel=1e-12)
            data = ForceDataset(frames, part, 0.6, progress=False)
            learned = [
                network_forces(fold.potential.network, data[i], exact=True).detach().numpy() for i in range(len(part))
            ]
            assert fold.errors.potential == pytest.approx(np.mean((deltas - learned) ** 2), rel=1e-6)
            assert fold.errors.components == reference.size


def test_the_gain_over_the_priors_has_a_mean_and_a_spread_over_folds(crossed):
    _, result = crossed
    gains = [fold.errors.priors - fold.errors.potential for fold in result.folds]
    assert result.gain == pytest.approx(np.mean(gains))
    assert result.spread == pytest.approx(np.std(gains, ddof=1))
    summary = result.summary()
    assert summary["gain_kcal_per_mol_angstrom"] == pytest.approx(np.mean(gains) / 41.84**2)
    assert len(result.potentials) == len(summary["folds"]) == len(result.table().splitlines()) - 2 == 5


def test_finished_folds_are_not_trained_again(chain, crossed):
    folder, first = crossed
    before = {path: path.stat().st_mtime_ns for path in folder.glob("fold_*/*")}
    again = cross_validate(ForceMatching(make_network(), PRIORS, **SETTINGS), chain, folder, progress=False)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("fold_*/*")} == before
    assert again.errors == first.errors
    with pytest.raises(ValueError, match="fold_seed 0 there, 1 here"):
        cross_validate(ForceMatching(make_network(), PRIORS, **SETTINGS), chain, folder, seed=1, progress=False)


def test_a_network_of_one_molecule_takes_its_statistics_from_the_training_frames(chain, tmp_path):
    seen = []

    def make(frames):
        seen.append(len(frames))
        return CGnet.from_frames(frames, channels=4, layers=1)

    matching = ForceMatching(make, PRIORS, **{**SETTINGS, "epochs": 1})
    result = cross_validate(matching, chain, tmp_path, folds=2, split="blocks", progress=False)
    assert seen == [15, 15]
    with Frames(chain) as frames:
        network = CGnet.from_frames(frames.select(range(15, 30)))
    assert torch.equal(result.folds[0].potential.network.mean, network.mean)


@pytest.mark.parametrize(("folds", "split", "message"), [(31, "blocks", "30 frames are too few"), (1, "random", "two")])
def test_folds_without_data_are_refused(folds, split, message, chain, tmp_path):
    with pytest.raises(ValueError, match=f"chain.h5md: .*{message}"):
        cross_validate(ForceMatching(make_network()), chain, tmp_path / "x", folds=folds, split=split, progress=False)
    assert not (tmp_path / "x").exists()


def test_molecules_that_share_bead_types_are_learned_together(chain, tmp_path):
    longer = write_chain(tmp_path / "longer.h5md", kinds="BCAB", number=20, type_names="BCA", seed=1)
    matching = ForceMatching(make_network(3), PRIORS, **SETTINGS, validation_fraction=0.2)
    result = matching.fit([chain, longer], tmp_path / "fit", progress=False)
    assert [kind.name for kind in result.potential.bead_types] == ["A", "B", "C"]
    assert [errors.components for errors in result.validation.values()] == [6 * 3 * 3, 4 * 4 * 3]
    assert list(result.validation) == [str(chain), str(longer)]
    total = sum(errors.components * errors.potential for errors in result.validation.values()) / 102
    assert result.errors.potential == pytest.approx(total)
    assert result.validation_force_rmse**2 == pytest.approx(total, rel=1e-4)


def test_frames_of_molecules_of_different_size_make_one_graph(chain, tmp_path):
    longer = write_chain(tmp_path / "longer.h5md", kinds="BCAB", number=20, type_names="BCA", seed=1)
    network = make_network(3, blocks=2)
    with open_frames([chain, longer]) as sources:
        data = ForceDataset.concatenate([ForceDataset(source, range(5), 0.6, progress=False) for source in sources])
    chosen = [7, 0, 3, 9]
    separate = torch.cat([network_forces(network, data[i], exact=True) for i in chosen])
    together = network_forces(network, data.__getitems__(chosen), exact=True)
    assert [len(data[i].types) for i in chosen] == [4, 3, 3, 4]
    assert data[7].types.tolist() == [1, 2, 0, 1]
    torch.testing.assert_close(together, separate, rtol=1e-5, atol=1e-5)


def test_a_repulsion_of_several_molecules_is_that_of_the_closest_beads(chain, tmp_path):
    longer = write_chain(tmp_path / "longer.h5md", kinds="BABA", seed=1)
    with open_frames([chain, longer]) as sources:
        together = np.array(Repulsion.from_frames(sources, search=0.5).sigmas)
        apart = [np.array(Repulsion.from_frames(source, search=0.5).sigmas) for source in sources]
        with (
            open_frames([write_chain(tmp_path / "hotter.h5md", temperature=350.0)]) as hotter,
            pytest.raises(ValueError, match="the same types and temperature"),
        ):
            Repulsion.from_frames([*sources, *hotter])
    assert np.array_equal(together, np.minimum(*apart))
    assert together[0, 1] == apart[1][0, 1] < apart[0][0, 1]


def test_molecules_that_do_not_go_together_are_refused(chain, tmp_path):
    paths = {
        "heavier": write_chain(tmp_path / "heavier.h5md", masses=[99.0, 76.0, 99.0]),
        "hotter": write_chain(tmp_path / "hotter.h5md", temperature=350.0),
        "unknown": write_chain(tmp_path / "unknown.h5md", kinds="ADA", type_names="AD"),
        "forceless": write_chain(tmp_path / "forceless.h5md", forces=False),
    }
    messages = {
        "heavier": r"beads of type 'A' in .*heavier.h5md have the masses",
        "hotter": "one temperature",
        "unknown": r"knows 2 bead types, the frames have 3: \['A', 'B', 'D'\]",
        "forceless": "forceless.h5md holds no forces",
    }
    for name, path in paths.items():
        with pytest.raises(ValueError, match=messages[name]):
            ForceMatching(make_network()).fit([chain, path], tmp_path / "fit", progress=False)
    with pytest.raises(ValueError, match="at least one file"):
        ForceMatching(make_network()).fit([], tmp_path / "fit", progress=False)
    assert not (tmp_path / "fit").exists()
