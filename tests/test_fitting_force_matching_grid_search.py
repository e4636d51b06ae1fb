"""A search over hyper-parameters: every choice once, the best by its error on held-out frames, nothing done twice."""

import csv
import json

import pytest
import torch
from test_fitting_force_matching_cross_validation import PRIORS, write_chain

from openmmcg.fitting import ForceMatching, grid_search
from openmmcg.potentials import SchNet

GRID = {"channels": [3, 6], "learning_rate": [1e-3, 1e-1]}


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return write_chain(tmp_path_factory.mktemp("frames") / "chain.h5md", number=16)


class Maker:
    """Makes what is to be trained, counts how often, and may be interrupted."""

    def __init__(self, most=100):
        self.calls, self.most = [], most

    def __call__(self, channels, learning_rate):
        if len(self.calls) == self.most:
            raise KeyboardInterrupt
        network = SchNet(types=2, cutoff=0.6, channels=channels, blocks=1, basis_size=8)
        self.calls.append((channels, learning_rate, network.readout.weight.detach().clone()))
        return ForceMatching(
            network, PRIORS, learning_rate=learning_rate, epochs=1, batch_size=8, validation_fraction=0.25
        )


@pytest.fixture(scope="module")
def searched(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    return folder, grid_search(Maker(), GRID, chain, folder, progress=False)


def test_every_choice_is_scored_and_the_best_has_the_least_error(searched):
    folder, found = searched
    assert [tuple(point.parameters.values()) for point in found.points] == [(3, 1e-3), (3, 1e-1), (6, 1e-3), (6, 1e-1)]
    errors = [point.errors.potential for point in found.points]
    assert found.best is found.points[errors.index(min(errors))]
    with open(folder / "grid_search.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean_squared_error"]) for row in rows] == errors
    assert json.loads((folder / "grid_search.json").read_text())["choices"][1]["learning_rate"] == 0.1


def test_equal_networks_begin_equal(chain, searched):
    maker = Maker()
    grid_search(maker, GRID, chain, searched[0], progress=False)
    assert torch.equal(maker.calls[0][2], maker.calls[1][2])


def test_an_interrupted_search_goes_on_where_it_was(chain, searched, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        grid_search(Maker(most=2), GRID, chain, tmp_path, progress=False)
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/fit/potential.pt")}
    assert len(done) == 2
    found = grid_search(Maker(), GRID, chain, tmp_path, progress=False)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert [point.errors for point in found.points] == [point.errors for point in searched[1].points]


def test_choices_can_be_cross_validated(chain, tmp_path):
    grid = {"channels": [3], "learning_rate": [1e-2]}
    (point,) = grid_search(Maker(), grid, chain, tmp_path, folds=2, progress=False).points
    assert len(point.result.folds) == 2
    assert point.errors.potential == pytest.approx(point.result.mean_squared_error)
    assert point.row()["spread_kcal_per_mol_angstrom"] == pytest.approx(point.result.spread / 41.84**2)


def test_an_empty_grid_is_refused(chain, tmp_path):
    for grid in ({}, {"channels": []}):
        with pytest.raises(ValueError, match="at least one parameter"):
            grid_search(Maker(), grid, chain, tmp_path, progress=False)
