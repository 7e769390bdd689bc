"""Imports torchvision when it is needed, also next to a CPU build of torch."""

import importlib
import sys
from types import ModuleType

import torch

from gradnet.errors import GradnetError

# The schemas are registered as long as this object lives.
_LIBRARIES: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """The ``torchvision.datasets`` module.

    torchvision from PyPI is built against CUDA torch; next to a CPU build its operators
    are missing, and its import fails at ``torchvision::nms``. Data sets and classifiers
    need no operators, so on that error alone their schemas are declared and the import
    is tried again.

    Raises:
        GradnetError: torchvision is not installed, or fails for another reason.
    """
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise GradnetError(f"torchvision cannot be imported: {error}") from error
    except ImportError as error:
        raise GradnetError(
            f"torchvision cannot be imported ({error}); install it with: "
            "pip install 'gradnet[torchvision]'"
        ) from error
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARIES.append(library)
    return importlib.import_module("torchvision.datasets")
