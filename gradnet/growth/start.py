"""The network that a growth run begins with: a grown one, or weights of the user's."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from gradnet.checkpoints.network_check import check_classes, logits_of
from gradnet.checkpoints.tensor_file import read_safetensors
from gradnet.checkpoints.weights import load_weights
from gradnet.core.reproducibility import derive_seed, isolated_randomness
from gradnet.growth.grown_network import GrownNetwork, make_header, read_grown
from gradnet.growth.method import GrowthMethod

logger = logging.getLogger("gradnet")


def read_start(
    path: str | Path,
    method: GrowthMethod,
    probe: Tensor,
    num_classes: int,
    *,
    seed: int = 0,
    model: str | None = None,
) -> GrownNetwork:
    """Read the network that a run of a method begins with.

    Args:
        path: a file of :func:`gradnet.growth.grown_network.save_grown`; or weights of
            the method's initial network, in any format of
            :func:`gradnet.checkpoints.weights.load_weights`. Of methods that take a
            model that is the user's own network.
        method: the growth method.
        probe: inputs ``(N, channels, h, w)``.
        num_classes: ``K``.
        seed: of the run.
        model: see :func:`gradnet.growth.grown_network.read_grown`.

    Raises:
        DamagedFileError: the file cannot be read.
        GradnetError: the weights do not fit the network, or the network the images.
    """
    if _is_grown(path):
        return read_grown(path, model)
    shape = tuple(probe.shape[1:])
    with isolated_randomness():
        torch.manual_seed(derive_seed("initial model", seed))
        network = method.initial_model(shape, num_classes)  # type: ignore[arg-type]
    load_weights(path, network)
    network.to(probe.device).eval()
    check_classes(logits_of(network, probe[:1]), num_classes)
    logger.warning(
        "%s does not say what it was trained on: if these training images were among "
        "it, so were the validation images, and validation accuracies are too high",
        path,
    )
    return GrownNetwork(network, make_header(network, method, seed, shape, num_classes))


def _is_grown(path: str | Path) -> bool:
    """Whether a file is, or claims to be, of a grown network."""
    if Path(path).suffix != ".safetensors":
        return False
    header = read_safetensors(path)[0]
    return header is not None and header.get("kind") != "snapshot"
