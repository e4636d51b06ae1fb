"""CGPotential: network, priors, bead types and where they come from, as one value and one file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openmm
from openmm import app, unit

from openmmcg.model_file import BeadType, ModelFile, finite_or_null, to_bytes
from openmmcg.optional import optional_imports
from openmmcg.potentials.priors import Prior, add_priors, restore_prior, scale_prior, to_xml
from openmmcg.state import reading, replacing

if TYPE_CHECKING:
    import torch


# The cutoff, nm, in the file of a network that has none: beads are never so near, and no time is lost on pairs.
_NO_PAIRS = 1e-3


class CGPotential:
    """A coarse-grained potential. It is what its file holds, and never changes.

    Parameters
    ----------
    network : Module or None
        Energies of beads, ``forward(displacements, types, rows, columns)`` as `SchNet.forward`, with the
        attribute ``cutoff`` in nm; or of the beads of one whole molecule, ``cutoff`` None and ``molecule`` its bead
        types, as `CGnet`. Its weights are copied. None for a potential that its priors are all of.
    bead_types : sequence of BeadType or (name, mass in amu)
        The kinds of beads, in the order of the network's types.
    priors : sequence
        What the network was trained together with, see `openmmcg.potentials.Repulsion`.
    temperature : float, optional
        Temperature of the training data, K.
    provenance : mapping, optional
        Anything JSON can express about where the potential comes from. Numbers that are not finite become None.

    Raises
    ------
    ValueError
        The parts do not fit together, weights are not finite, or the network is not what `docs/model-contract.md`
        asks for: it is scripted, and tried in float32 and float64.

    Notes
    -----
    Making a potential with a network needs torch. Loading one, building a System and running it do not.

    Examples
    --------
    >>> from openmmcg.potentials import CGPotential, Repulsion, SchNet
    >>> network = SchNet(types=1, channels=4, blocks=1, cutoff=0.6)
    >>> potential = CGPotential(network, [("W", 18.015)], priors=[Repulsion([[0.25]])], temperature=300)
    >>> potential.cutoff, potential.bead_types
    (0.6, [BeadType(name='W', mass=18.015)])
    """

    _file: ModelFile

    def __init__(
        self,
        network: torch.nn.Module | None,
        bead_types: Sequence[BeadType | tuple[str, float]],
        *,
        priors: Sequence[Prior] = (),
        temperature: float | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        kinds = [BeadType(*kind) if isinstance(kind, tuple) else kind for kind in bead_types]
        _check_bead_types(kinds, getattr(network, "types", len(kinds)))
        if temperature is not None and not 0 < temperature < float("inf"):
            raise ValueError(f"the temperature must be positive, got {temperature} K")
        if network is None and not priors:
            raise ValueError("a potential without a network needs priors, or nothing would act on the beads")
        description = {
            "contract": "none",
            "bead_types": [{"name": kind.name, "mass": float(kind.mass)} for kind in kinds],
            "temperature": temperature,
            "provenance": finite_or_null(provenance or {}),
        }
        entries: dict[str, str | bytes] = {"priors.json": json.dumps([to_xml(prior, len(kinds)) for prior in priors])}
        module = None
        if network is not None:
            with optional_imports():
                from openmmcg.potentials.contract import script_and_compile

            module, compiled = script_and_compile(network)
            description |= {
                "contract": "neighbor-list",
                "cutoff": _NO_PAIRS if network.cutoff is None else float(network.cutoff),  # type: ignore[arg-type]
                "dtype": "any",
                "outputs_forces": False,
                "global_parameters": [],
            }
            if network.cutoff is None:
                description["molecule"] = network.molecule.tolist()  # type: ignore[operator,union-attr]
            if compiled is not None:
                entries["compiled_network.json"], entries["compiled_network.bin"] = compiled
        self._file = ModelFile(to_bytes(module, description, entries))

    def with_priors(self, priors: Sequence[Prior], *, provenance: Mapping[str, Any] | None = None) -> CGPotential:
        """This potential and more priors, for example a correction found afterwards.

        Parameters
        ----------
        priors
            Added to those there are.
        provenance
            Added to what is there.
        """
        description = {
            **self._file.description,
            "provenance": finite_or_null({**self.provenance, **(provenance or {})}),
        }
        templates = [*self._file.priors, *(to_xml(prior, len(self.bead_types)) for prior in priors)]
        entries: dict[str, str | bytes] = {**self._file.entries, "priors.json": json.dumps(templates)}
        return CGPotential.load(to_bytes(None, description, entries))

    def scaled(self, factor: float, *, priors: bool = True) -> CGPotential:
        """This potential with its energy times a factor; needs torch, except for an AOTInductor package.

        Parameters
        ----------
        factor
            Of the energy, and so of all forces.
        priors
            Whether it is of the priors as well, or of the network alone.
        """
        templates = [scale_prior(xml, factor) if priors else xml for xml in self._file.priors]
        entries: dict[str, str | bytes] = {**self._file.entries, "priors.json": json.dumps(templates)}
        compiled = self.compile()
        if compiled is not None:
            entries["compiled_network.bin"] = scale_readout(*compiled, factor)
        module, description = None, self._file.description
        if "module.pt2" in entries:
            description = {**description, "scale": factor * description.get("scale", 1.0)}
        elif self.has_network:
            with optional_imports():
                from openmmcg.potentials.contract import scale_module

            module = scale_module(self._file.entry("module.pt"), factor)
        return CGPotential.load(to_bytes(module, description, entries))

    @classmethod
    def load(cls, path: str | os.PathLike[str] | bytes) -> CGPotential:
        """Load a potential from its file, or from the bytes of one.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            It is truncated, corrupted, no potential, or of a newer format version.
        """
        file = ModelFile(path)
        contract = file.description.get("contract")
        if contract not in ("neighbor-list", "none"):
            raise ValueError(f"{file.source} follows the contract '{contract}'; give it to CGForce instead")
        _check_bead_types(file.bead_types, len(file.bead_types))
        potential = cls.__new__(cls)
        potential._file = file
        return potential

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the potential to a file, which appears complete or not at all and replaces an older one.

        Raises
        ------
        OSError
            It could not be written, for example for want of space; an older one is unharmed.
        """
        with replacing(Path(path).expanduser()) as unfinished:
            unfinished.write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the potential's file."""
        return self._file.content

    @property
    def has_network(self) -> bool:
        """Whether there is a network, and not priors alone."""
        return self._file.description["contract"] != "none"

    @property
    def cutoff(self) -> float | None:
        """Distance beyond which the network lets no beads interact, nm; None where all beads of a molecule do.

        0 where there is no network.
        """
        return self._file.description.get("cutoff", 0.0) if self.molecule is None else None

    @property
    def molecule(self) -> list[int] | None:
        """The bead types of the only molecule that the network knows; None where any beads can be together."""
        return self._file.description.get("molecule")

    @property
    def bead_types(self) -> list[BeadType]:
        """Names and masses of the kinds of beads; a bead type is an index into this list."""
        return self._file.bead_types

    @property
    def temperature(self) -> float | None:
        """Temperature of the training data, K."""
        return self._file.description["temperature"]

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the potential comes from."""
        return self._file.description["provenance"]

    @property
    def priors(self) -> list[Prior]:
        """The priors, as OpenMM forces between bead types or as `MoleculePrior`; see *Priors* in ``docs/design.md``."""
        return [restore_prior(xml) for xml in self._file.priors]

    @property
    def prior_templates(self) -> list[str]:
        """The priors as OpenMM XML."""
        return self._file.priors

    @cached_property
    def module(self) -> torch.jit.ScriptModule:
        """The TorchScript module, of the neighbor-list contract in ``docs/model-contract.md``; needs torch.

        Raises
        ------
        ValueError
            The potential has no network, or it is an AOTInductor package.
        """
        if not self.has_network:
            raise ValueError(f"{self._file.source} has no network: it is made of priors alone")
        if "module.pt2" in self._file.entries:
            raise ValueError(
                f"{self._file.source} holds its network as an AOTInductor package, which cannot be read back as a "
                "module; use the potential of which it was exported"
            )
        with optional_imports():
            from openmmcg.potentials.contract import load_module

        with reading(self._file.source, "a potential"):
            return load_module(self._file.entry("module.pt"))

    @property
    def network(self) -> torch.jit.ScriptModule:
        """The network as it is in the file, scripted; needs torch.

        Raises
        ------
        ValueError
            The potential has no network, or one that is opaque (`is_opaque`).
        """
        module = self.module
        if not hasattr(module, "network"):
            raise ValueError(
                f"{self._file.source} holds a module of another package, which takes positions, and no network of "
                "displacements that could be taken out"
            )
        return module.network  # type: ignore[return-value]

    @property
    def is_opaque(self) -> bool:
        """Whether the network runs, but cannot be taken out as one of displacements; needs torch.

        So it is with a module of another package (`openmmcg.external`), and with an AOTInductor package.
        """
        return "module.pt2" in self._file.entries or (self.has_network and not hasattr(self.module, "network"))

    def compile(self) -> tuple[str, bytes] | None:
        """The compiled network, JSON and numbers, see *The compiled network* in ``docs/design.md``.

        None where the network does not consist of the primitives; such a potential runs on the TorchScript or
        AOTInductor engine.
        """
        if "compiled_network.json" not in self._file.entries:
            return None
        return self._file.entry("compiled_network.json").decode(), self._file.entry("compiled_network.bin")

    def find_types(self, topology: app.Topology, types: Sequence[str] | None = None) -> list[int]:
        """Bead type of each atom of a topology.

        Parameters
        ----------
        topology
            One atom per bead.
        types
            Name of each bead's type, ``[N]``; by default the atoms' names.

        Raises
        ------
        ValueError
            A name is no bead type, or there is not one for each atom.
        """
        names = [atom.name for atom in topology.atoms()] if types is None else list(types)
        if len(names) != topology.getNumAtoms():
            raise ValueError(
                f"there are {len(names)} names of types for the {topology.getNumAtoms()} beads of the topology"
            )
        known = {kind.name: index for index, kind in enumerate(self.bead_types)}
        for index, name in enumerate(names):
            if name not in known:
                raise ValueError(
                    f"atom {index} of the topology is named '{name}', which is no bead type of "
                    f"{self._file.source}; known are {', '.join(known)}. Map all-atom structures to beads first, or "
                    "say which type each bead is of (types)."
                )
        return [known[name] for name in names]

    def create_system(
        self,
        topology: app.Topology,
        *,
        types: Sequence[str] | None = None,
        replicas: int = 1,
        periodic: bool | None = None,
        engine: str = "auto",
        remove_center_of_mass_motion: bool | None = None,
    ) -> openmm.System:
        """Build a System of the beads of a topology: particles, priors, and the network, if any, as a ``CGForce``.

        Parameters
        ----------
        topology : openmm.app.Topology
            One atom per bead. Its bonds are what priors of bonds, angles and dihedrals act on, and beads one or two
            bonds apart are left out of other priors.
        types : sequence of str, optional
            Name of each bead's type; by default the atoms' names.
        replicas : int
            How many copies of the topology's beads the System holds, one after the other. They do not see each other,
            see `openmmcg.simulation.replicas.replicate_system`.
        periodic : bool, optional
            By default, whether the topology has a periodic box.
        engine : {"auto", "native", "inductor", "torchscript"}
            See `openmmcg.CGForce`.
        remove_center_of_mass_motion : bool, optional
            Whether to add a ``CMMotionRemover``; by default with one replica. It would couple several, because it
            removes the motion of all of them together.

        Raises
        ------
        ValueError
            An atom's name is no bead type, the topology is not the molecule of a network or a prior that knows only
            one, the cutoff exceeds half the box, there is no box to be periodic in, or a ``CMMotionRemover`` is wanted
            for several replicas.
        """
        from openmmcg.forces.cg_force import CGForce
        from openmmcg.simulation.replicas import replicate_system

        kinds_of_beads = self.find_types(topology, types)
        self._check_molecule(kinds_of_beads)
        vectors = topology.getPeriodicBoxVectors()
        if periodic is None:
            periodic = vectors is not None
        if periodic:
            self._check_box(vectors)
        system = openmm.System()
        if vectors is not None:
            system.setDefaultPeriodicBoxVectors(*vectors)
        kinds = self.bead_types
        for bead_type in kinds_of_beads:
            system.addParticle(kinds[bead_type].mass)
        bonds = [(first.index, second.index) for first, second in topology.bonds()]
        add_priors(system, self._file.priors, kinds_of_beads, bonds, periodic, [kind.name for kind in kinds])
        if self.has_network:
            system.addForce(CGForce(self.to_bytes(), types=kinds_of_beads, periodic=periodic, engine=engine))
        if remove_center_of_mass_motion or (remove_center_of_mass_motion is None and replicas == 1):
            system.addForce(openmm.CMMotionRemover())
        return system if replicas == 1 else replicate_system(system, replicas)

    def _check_molecule(self, types: list[int]) -> None:
        if self.molecule is None or types == self.molecule:
            return
        kinds = self.bead_types
        expected, found = (" ".join(kinds[kind].name for kind in beads) for beads in (self.molecule, types))
        raise ValueError(
            f"{self._file.source} is of one molecule of the beads {expected}; the topology has the beads {found}. "
            "Give it one molecule, with its beads in this order, and replicas= for several copies"
        )

    def _check_box(self, vectors: unit.Quantity | None) -> None:
        if vectors is None:
            raise ValueError("the topology has no periodic box; set one, or create the system with periodic=False")
        width = float(np.diag(np.asarray(vectors.value_in_unit(unit.nanometer))).min())
        if self.cutoff is not None and 2 * self.cutoff > width:
            raise ValueError(
                f"the cutoff of {self._file.source}, {self.cutoff} nm, is more than half the smallest box width, "
                f"{width:.4f} nm; use a larger box"
            )

    def export_inductor(self, network: torch.nn.Module, *, dtype: str = "float32") -> CGPotential:
        """This potential with an AOTInductor package in place of its TorchScript module.

        It needs torch and a C++ compiler. AOTInductor makes C++ of the network and its forces and compiles it, which
        takes a minute. The package runs, by the engine ``"inductor"``, where torch is of the same version and the
        machine of the same kind.

        Parameters
        ----------
        network : Module
            What the potential was made of, with its present weights: what TorchScript has translated cannot be
            compiled.
        dtype : {"float32", "float64"}
            Of weights and arithmetic; positions and energies are in float64.

        Raises
        ------
        ValueError
            The network is not that of this potential, or cannot be compiled.
        """
        with optional_imports():
            from openmmcg.potentials.inductor import compile_package

        package = compile_package(network, self.module, dtype)
        entries: dict[str, str | bytes] = {**self._file.entries, "module.pt2": package}
        del entries["module.pt"]
        description = {**self._file.description, "dtype": "keep", "outputs_forces": True}
        return CGPotential.load(to_bytes(None, description, entries))

    def export_openmm_torch(
        self, path: str | os.PathLike[str], types: Sequence[int], *, periodic: bool
    ) -> torch.jit.ScriptModule:
        """Write the network as a TorchScript module for the ``TorchForce`` of openmm-torch.

        The module consists of torch operators only, finds its own neighbours and serves one system. The
        priors are no part of it; they remain forces of their own.

        Parameters
        ----------
        path
            File to write.
        types : sequence of int
            Bead type of every particle of the System, ``[N]``.
        periodic : bool
            Whether the ``TorchForce`` will pass the box, ``setUsesPeriodicBoundaryConditions(True)``.

        Returns
        -------
        ScriptModule
            What the file holds.
        """
        with optional_imports():
            from openmmcg.potentials.contract import export_plain

        unknown = set(types) - set(range(len(self.bead_types)))
        if unknown:
            raise ValueError(f"there are no bead types {sorted(unknown)}; there are {len(self.bead_types)}")
        return export_plain(self.network, path, types, self._file.description["cutoff"], periodic)


def scale_readout(description: str, numbers: bytes, factor: float) -> bytes:
    """The numbers of a compiled network whose energy is scaled: only its last operation, the readout, sees it."""
    values = np.frombuffer(numbers, "<f4").copy()
    readout = json.loads(description)["operations"][-1]
    for array in (readout["weight"], readout["bias"]):
        values[array["offset"] : array["offset"] + int(np.prod(array["shape"]))] *= np.float32(factor)
    return values.tobytes()


def _check_bead_types(kinds: Sequence[BeadType], number: int) -> None:
    names = [kind.name for kind in kinds]
    if len(kinds) != number:
        raise ValueError(f"the network knows {number} bead types, but {len(kinds)} are given: {names}")
    if not kinds or len(set(names)) != len(names):
        raise ValueError(f"a potential needs at least one bead type, with different names; got {names}")
    for kind in kinds:
        if not 0 < kind.mass < float("inf"):
            raise ValueError(f"the mass of bead type '{kind.name}' must be positive, got {kind.mass} amu")
