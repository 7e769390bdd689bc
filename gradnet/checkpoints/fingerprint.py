"""Fingerprints of networks: short digests of their weights and of their layers."""

import hashlib
import re

import torch
from torch import nn


def weights_fingerprint(model: nn.Module) -> str:
    """Twelve hexadecimal digits that change when a weight or a buffer does."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        # As bytes: numpy has no bfloat16.
        plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(plain.numpy())
    return digest.hexdigest()[:12]


def layers_fingerprint(model: nn.Module) -> str:
    """Twelve hexadecimal digits that change when a layer, or its settings, do.

    Two networks with the same weights may still be two functions: by their activations,
    or by where they pool.
    """
    digest = hashlib.sha256()
    for name, layer in model.named_modules():
        settings = re.sub(r" at 0x[0-9a-f]+", "", layer.extra_repr())
        digest.update(f"{name}: {type(layer).__qualname__}({settings})\n".encode())
    return digest.hexdigest()[:12]
