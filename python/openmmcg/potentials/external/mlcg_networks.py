"""The networks of mlcg as ours: the same primitives, with a radial basis and a unit of length of their own."""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from openmmcg.potentials.external.archives import Inert
from openmmcg.potentials.external.radial import CosineWindow, DirectedWindow, TrainedExponentialBasis
from openmmcg.potentials.external.units import energy_in_kilojoule_per_mole
from openmmcg.potentials.networks import Dense, Filter, PaiNN, SchNet

_KCAL = energy_in_kilojoule_per_mole("kcal/mol")
_PER_NM = 10.0  # Å
_SHIFT = 1e-8  # Å, of distances in mlcg's PaiNN
_ACTIVATIONS = {"Tanh": "tanh", "SiLU": "silu"}
# What a module of mlcg is made of; in another version it may be more, which must not go unnoticed.
_PARTS = {
    "CFConv": {"aggr_module", "cutoff", "filter_network", "lin1", "lin2"},
    "InteractionBlock": {"activation", "conv", "lin"},
    "PaiNNInteraction": {"aggr_module", "cutoff", "filter_network", "interatomic_context_net"},
    "PaiNNMixing": {"intraatomic_context_net", "mu_channel_mix"},
    "StandardPaiNN": {"embedding_layer", "interaction_blocks", "mixing_blocks", "output_network", "rbf_layer"},
    "StandardSchNet": {"embedding_layer", "interaction_blocks", "output_network", "rbf_layer"},
}


def convert_network(model: Inert, types: Sequence[int]) -> SchNet | PaiNN:
    """A network of mlcg as one of ours, in nm and kJ/mol.

    Parameters
    ----------
    model
        A ``StandardSchNet`` or ``StandardPaiNN``.
    types
        Those of mlcg's bead types that the network shall know, in the order of their new numbers.

    Raises
    ------
    ValueError
        It is another one, or has an option that ours does not have.
    """
    converters = {"StandardSchNet": _convert_schnet, "StandardPaiNN": _convert_painn}
    if model.kind not in converters:
        raise ValueError(f"its network is a {model.kind}; those that can be converted are {', '.join(converters)}")
    _check_parts(model)
    network: Any = converters[model.kind](model, types)
    if model["embedding_layer"]["max_norm"] is not None:
        raise ValueError("its embedding has a largest norm (max_norm)")
    _assign(network.embedding.weight, model["embedding_layer"]["weight"][list(types)])
    *hidden, last = _dense_of(model["output_network"]["layers"])[0]
    layers = [network.output] if isinstance(network.output, Dense) else network.output.children()
    for layer, theirs in zip(layers, hidden, strict=True):
        _assign_dense(layer, theirs)
    if last["bias"] is not None:
        raise ValueError("its output network ends with a bias, an energy for each bead that no force depends on")
    if len(last["weight"]) != 1:
        raise ValueError(f"its output network gives {len(last['weight'])} numbers for each bead; an energy is one")
    _assign(network.readout.weight, last["weight"][0])
    return network


def _convert_schnet(model: Inert, types: Sequence[int]) -> SchNet:
    if model["self_interaction"]:
        raise ValueError("its beads interact with themselves (self_interaction)")
    blocks = _parts(model["interaction_blocks"])
    convolutions = [block["conv"] for block in blocks]
    _check_parts(*blocks, *convolutions)
    _check_sums(convolutions)
    first = convolutions[0]
    network: Any = SchNet(
        len(types),
        channels=len(first["lin2"]["weight"]),
        filter_channels=len(first["lin1"]["weight"]),
        blocks=len(blocks),
        **_options(model, {_activation_of(block["activation"]) for block in blocks}),
    )
    for block, theirs, convolution in zip(network.blocks, blocks, convolutions, strict=True):
        (hidden, output), activation = _dense_of(convolution["filter_network"]["layers"])
        window = _window(convolution["cutoff"], 0.0)
        filter: Any = Filter(_basis(model, 0.0), window, len(output["weight"]), activation, neighbors=1.0)
        _assign_dense(filter.hidden, hidden)
        _assign_dense(filter.output, output)
        block.convolution.filter = filter
        _assign_dense(block.input, convolution["lin1"])
        _assign_dense(block.hidden, convolution["lin2"])
        _assign_dense(block.output, theirs["lin"])
    return network


def _convert_painn(model: Inert, types: Sequence[int]) -> PaiNN:
    messages, updates = _parts(model["interaction_blocks"]), _parts(model["mixing_blocks"])
    _check_parts(*messages, *updates)
    _check_sums(messages)
    contexts = [_dense_of(message["interatomic_context_net"]) for message in messages]
    mixers = [_dense_of(update["intraatomic_context_net"]) for update in updates]
    options = _options(model, {activation for _, activation in [*contexts, *mixers]})
    channels = model["embedding_layer"]["weight"].shape[1]
    network: Any = PaiNN(len(types), channels=channels, blocks=len(messages), **options)
    for message, theirs, ((hidden, output), _) in zip(network.messages, messages, contexts, strict=True):
        _assign_dense(message.hidden, hidden)
        # Their order is scalars, directions, vectors. Directions are theirs to a bead from its neighbour, ours to the
        # neighbour. Without vectors nothing can be made of them, so ours has no such layer in the first block.
        parts = [(message.to_scalars, message.scalars, 1.0), (message.to_directions, message.directions, -1.0)]
        if message.to_vectors is not None:
            parts.append((message.to_vectors, message.vectors, 1.0))
        for number, (layer, convolution, sign) in enumerate(parts):
            rows = slice(number * channels, (number + 1) * channels)
            _assign_dense(layer, output, rows)
            window = _window(theirs["cutoff"], _SHIFT)
            directed = convolution is message.directions
            cutoff = DirectedWindow(window) if directed else window
            filter = Filter(_basis(model, _SHIFT), cutoff, channels, None, neighbors=1.0)
            _assign_dense(filter.output, theirs["filter_network"], rows, sign)
            convolution.filter = filter
    for update, theirs, ((hidden, output), _) in zip(network.updates, updates, mixers, strict=True):
        if theirs["epsilon"] != 1e-8:
            raise ValueError(f"its norms are those of squares plus {theirs['epsilon']} (epsilon); ours are plus 1e-08")
        mixed = theirs["mu_channel_mix"]["weight"]
        _assign(update.second.weight, mixed[:channels])
        _assign(update.first.weight, mixed[channels:])
        _assign(update.from_scalars.weight, hidden["weight"][:, :channels])
        _assign(update.from_scalars.bias, hidden["bias"])
        _assign(update.from_norms.weight, hidden["weight"][:, channels:])
        for number, layer in enumerate([update.to_scalars, update.to_vectors, update.to_products]):
            if layer is not None:
                _assign_dense(layer, output, slice(number * channels, (number + 1) * channels))
    return network


def _options(model: Inert, activations: set[str]) -> dict[str, Any]:
    """What our networks have in common; they have one activation throughout."""
    (*hidden, _), activation = _dense_of(model["output_network"]["layers"])
    if activations != {activation}:
        raise ValueError(f"its layers have the activations {sorted({activation, *activations})}; ours have one")
    return {
        "cutoff": float(model["rbf_layer"]["cutoff"]["cutoff_upper"]) / _PER_NM,
        "activation": activation,
        "energy_scale": _KCAL,
        "output_channels": [len(layer["weight"]) for layer in hidden],
        "seed": None,
    }


def _basis(model: Inert, shift: float) -> TrainedExponentialBasis:
    layer = model["rbf_layer"]
    window = _window(layer["cutoff"], shift)
    means, betas = (torch.from_numpy(layer[name]) for name in ("means", "betas"))
    return TrainedExponentialBasis(window, window.lower, layer["alpha"], means, betas)


def _window(cutoff: Inert, shift: float) -> CosineWindow:
    return CosineWindow(cutoff["cutoff_lower"], cutoff["cutoff_upper"], _PER_NM, shift)


def _check_parts(*modules: Inert) -> None:
    for module in modules:
        parts = {name for name, part in module.state["_modules"].items() if part is not None}
        if parts != _PARTS.get(module.kind):
            raise ValueError(
                f"its {module.kind} is made of {', '.join(sorted(parts))}, which is not what is known of it"
            )


def _check_sums(convolutions: Sequence[Inert]) -> None:
    for convolution in convolutions:
        if (convolution["aggr"], convolution["flow"]) != ("add", "source_to_target"):
            raise ValueError(
                f"its beads take the '{convolution['aggr']}' of what goes from {convolution['flow']}; ours take the "
                "sum (add) of what neighbours tell (source_to_target)"
            )


def _parts(modules: Inert) -> list[Inert]:
    """The modules of a sequence."""
    return list(modules.state["_modules"].values())


def _dense_of(layers: Inert) -> tuple[list[Inert], str]:
    """The linear layers of a sequence, and the activation that stands between each two of them."""
    parts = _parts(layers)
    kinds = [part.kind for part in parts]
    activations = {_activation_of(part) for part in parts[1::2]}
    if set(kinds[::2]) != {"Linear"} or len(parts) % 2 == 0 or len(activations) != 1:
        raise ValueError(f"layers of ours are linear, with one activation between them; it has {', '.join(kinds)}")
    return parts[::2], activations.pop()


def _activation_of(layer: Inert) -> str:
    if layer.kind not in _ACTIVATIONS:
        raise ValueError(f"its activation is {layer.kind}; ours can be {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[layer.kind]


def _assign_dense(layer: Dense, theirs: Inert, rows: slice = slice(None), sign: float = 1.0) -> None:
    """Take over some outputs of a linear layer."""
    _assign(layer.weight, sign * theirs["weight"][rows])
    if layer.bias is None:
        if theirs["bias"] is not None:
            raise ValueError("a layer has a bias that ours does not have")
    elif theirs["bias"] is not None:
        _assign(layer.bias, sign * theirs["bias"][rows])
    else:
        nn.init.zeros_(layer.bias)


def _assign(parameter: Tensor, values: NDArray) -> None:
    if parameter.shape != values.shape:
        raise ValueError(f"it has weights of the shape {list(values.shape)} in place of {list(parameter.shape)}")
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values))
