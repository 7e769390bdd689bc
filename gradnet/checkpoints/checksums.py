"""The checksum of a file's tensors and header, which its header carries."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gradnet.errors import DamagedFileError

CHECKSUM = "checksum"
# Files of these formats and later always have one.
FIRST_FORMAT = 2


def with_checksum(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """The header with the checksum of its own values and of the tensors.

    Args:
        header: JSON values.
        tensors: contiguous, on the CPU.
    """
    # Through JSON and back, as its reader will see it.
    plain = json.loads(json.dumps(header))
    return {**header, CHECKSUM: _checksum(plain, tensors)}


def verified(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str
) -> dict[str, Any]:
    """The header without the checksum, once that is compared.

    Files that were written before there were checksums have none.

    Args:
        header: as it stands in the file.
        tensors: of the file.
        source: the file, for messages.

    Raises:
        DamagedFileError: tensors or header are not those that were written.
    """
    plain = {key: value for key, value in header.items() if key != CHECKSUM}
    if CHECKSUM not in header:
        number = header.get("format", 0)
        if isinstance(number, int) and number >= FIRST_FORMAT:
            raise DamagedFileError(f"{source} is damaged: its header has no checksum")
    elif header[CHECKSUM] != _checksum(plain, tensors):
        raise DamagedFileError(
            f"{source} is damaged: its header or a tensor is not what was written "
            "(the checksum differs); copy or make the file again"
        )
    return plain


def _checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        about = [name, str(tensor.dtype), list(tensor.shape)]
        digest.update(json.dumps(about).encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
