"""Builds the user's own network from a name, and loads its weights.

| ``model`` | meaning |
|---|---|
| ``package.module:factory`` | a function or class that makes a network, or a network |
| ``torchvision:resnet18`` | a classifier of torchvision, without weights |
| ``cnn2018`` | a key of :data:`gradnet.models.MODELS` |
| ``network.pt2`` | a file of ``torch.export``, weights included |
| None | the checkpoint has it: a snapshot of gradnet, or a ``.pt2`` |
"""

import difflib
import importlib
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from gradnet.checkpoints.exported import load_exported
from gradnet.checkpoints.snapshots import load_snapshot
from gradnet.checkpoints.weights import load_weights
from gradnet.core.memory import is_failed_allocation
from gradnet.core.text import reason_of
from gradnet.core.torchvision import import_torchvision
from gradnet.errors import GradnetError, InvalidInputError
from gradnet.models import MODELS, build_model

TORCHVISION = "torchvision:"

logger = logging.getLogger("gradnet")


def load_user_model(
    model: str | None,
    model_args: Mapping[str, Any] | None = None,
    checkpoint: str | None = None,
) -> nn.Module:
    """Build a network and load its weights.

    An import path runs the user's own code; the current folder is put on ``sys.path``
    first, as Python does for scripts. No file runs code: checkpoints are read by
    :func:`gradnet.checkpoints.weights.load_weights`, ``.pt2`` files by
    :func:`gradnet.checkpoints.exported.load_exported`.

    Args:
        model: see the table above.
        model_args: keyword arguments of the factory, such as ``{"num_classes": 10}``.
        checkpoint: ``.safetensors``, or a file of ``torch.save`` with a state dict.

    Returns:
        The network, in evaluation mode.

    Raises:
        InvalidInputError: there is no such module, factory or model; the factory does
            not take the arguments, fails, or does not return a network.
        DamagedFileError: a file is missing, damaged, or holds pickled objects.
        GradnetError: the checkpoint does not match the network; all differences are
            named.

    Example:
        >>> load_user_model("torch.nn:Linear", {"in_features": 3, "out_features": 2})
        Linear(in_features=3, out_features=2, bias=True)
    """
    arguments = dict(model_args or {})
    if model is None:
        if arguments:
            raise InvalidInputError("arguments are given, but no model to pass them to")
        return _load_network(checkpoint)
    if checkpoint is not None and checkpoint.endswith(".pt2"):
        raise InvalidInputError(
            f"{checkpoint} holds a whole network; leave out the model"
        )
    network = _build(model, arguments)
    if checkpoint is not None:
        load_weights(checkpoint, network)
    elif model in MODELS or model.startswith(TORCHVISION):
        logger.warning("no checkpoint is given: the weights of %s are random", model)
    return network.eval()


def _load_network(checkpoint: str | None) -> nn.Module:
    if checkpoint is None:
        raise InvalidInputError("neither a model nor a checkpoint is given; give one")
    if checkpoint.endswith(".pt2"):
        return load_exported(checkpoint)
    if Path(checkpoint).exists() and not checkpoint.endswith(".safetensors"):
        raise InvalidInputError(
            f"{checkpoint} holds weights only; give the model too, such as "
            "package.module:factory or torchvision:resnet18"
        )
    return load_snapshot(checkpoint).model


def _build(model: str, arguments: dict[str, Any]) -> nn.Module:
    if model in MODELS:
        return _call(model, partial(build_model, model), arguments)
    if model.startswith(TORCHVISION):
        return _build_torchvision(model, arguments)
    module_name, colon, name = model.partition(":")
    if colon:
        return _call(model, _find(module_name, name), arguments)
    if model.endswith(".pt2"):
        if arguments:
            raise InvalidInputError(
                f"{model} is a network already; it takes no arguments"
            )
        return load_exported(model)
    raise InvalidInputError(
        f"no model {model!r}{_suggest(model, MODELS)}; give package.module:factory, "
        f"torchvision:resnet18, the path of a .pt2 file, or one of {', '.join(MODELS)}"
    )


def _build_torchvision(model: str, arguments: dict[str, Any]) -> nn.Module:
    import_torchvision()
    models = importlib.import_module("torchvision.models")
    name = model.removeprefix(TORCHVISION)
    known = models.list_models(module=models)
    if name not in known:
        raise InvalidInputError(
            f"torchvision has no classifier {name!r}{_suggest(name, known)}"
        )
    if "weights" in arguments:
        raise InvalidInputError(f"{model}: give the weights as a checkpoint")
    return _call(model, partial(models.get_model, name, weights=None), arguments)


def _find(module_name: str, name: str) -> Any:
    """An attribute of a module, imported as by a script in the current folder."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    module = _import(module_name)
    if not hasattr(module, name):
        public = [found for found in vars(module) if not found.startswith("_")]
        raise InvalidInputError(
            f"module {module_name!r} has no {name!r}{_suggest(name, public)}"
        )
    return getattr(module, name)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise InvalidInputError(
                f"no module {error.name!r}, in {Path.cwd()} or installed; an import "
                "path reads package.module:factory"
            ) from None
        raise InvalidInputError(
            f"module {name!r} cannot be imported: {reason_of(error, whole=True)}"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it is the user's code: it may even exit
        raise InvalidInputError(
            f"module {name!r} cannot be imported: {_describe(error)}"
        ) from error


def _call(model: str, factory: Any, arguments: dict[str, Any]) -> nn.Module:
    """Call the factory; a network is returned directly."""
    if isinstance(factory, nn.Module):
        if arguments:
            raise InvalidInputError(
                f"{model} is a network already; it takes no arguments"
            )
        return factory
    if not callable(factory):
        raise InvalidInputError(
            f"{model} is a {type(factory).__name__}, neither a function nor a network"
        )
    _check_arguments(model, factory, arguments)
    try:
        network = factory(**arguments)
    except (GradnetError, KeyboardInterrupt):
        raise
    except BaseException as error:  # it is the user's code: it may even exit
        if is_failed_allocation(error):
            raise
        raise InvalidInputError(f"{model} raised {_describe(error)}") from error
    if not isinstance(network, nn.Module):
        raise InvalidInputError(
            f"{model} returned a {type(network).__name__}, not an nn.Module"
        )
    return network


def _describe(error: BaseException) -> str:
    """The kind and the message of an exception of the user's code, on one line."""
    kind, reason = type(error).__name__, reason_of(error, whole=True)
    return kind if reason == kind else f"{kind}: {reason}"


def _check_arguments(
    model: str, factory: Callable[..., object], arguments: dict[str, Any]
) -> None:
    try:
        signature = inspect.signature(factory)
    except ValueError:  # some functions written in C have no signature
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InvalidInputError(
            f"{model}{signature} does not fit the arguments {arguments}: "
            f"{reason_of(error)}"
        ) from None


def _suggest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known))
    return f"; did you mean {' or '.join(close)}?" if close else ""
