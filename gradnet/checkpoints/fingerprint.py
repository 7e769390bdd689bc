"""Fingerprints of networks: short digests of their weights and buffers."""

import hashlib

from torch import nn


def weights_fingerprint(model: nn.Module) -> str:
    """Twelve hexadecimal digits that change when a weight or a buffer does."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:12]
