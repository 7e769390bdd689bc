"""Which samples a network has not been trained on: for GradNet, controls and test.

What the network has seen is said by the user, never guessed:

| ``seen`` | GradNet and the controls are trained on | test |
|---|---|---|
| ``none`` | the train part | the test part |
| ``train`` | the val part; where there is none, a half of the test part | the rest |
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from gradnet.core.reproducibility import make_generator
from gradnet.core.validation import Fraction, Seed, check_arguments
from gradnet.data.datasets import ImageData
from gradnet.data.problem import EvaluationSamples, Samples, Transform
from gradnet.errors import InvalidInputError

Seen = Literal["train", "none"]
Part = tuple[Tensor, Tensor]
PARTS = ("train", "val", "test")
# Fewer would leave nothing to train on, or nothing to choose the weights by.
LEAST = 4

ASK = (
    "which images has the network been trained on? Say --seen train (the train part: "
    "GradNet and the controls then take a half of the test part) or "
    "--seen none (none of these images: they take the train part)"
)


@dataclass(frozen=True)
class DataParts:
    """Inputs and labels of the parts of a data set.

    Attributes:
        parts: of ``train``, ``val`` and ``test`` those that there are: inputs ``(N,
            ...)`` and labels ``(N,)``, int64 from 0 to ``num_classes - 1``.
        num_classes: ``K``.
        fingerprint: twelve hexadecimal digits that change when an input or a label
            does.
    """

    parts: Mapping[str, Part]
    num_classes: int
    fingerprint: str

    @classmethod
    def of_data(cls, data: ImageData) -> "DataParts":
        """The parts of a loaded data set, ``train`` and ``test``."""
        parts = {
            "train": (data.x_train, data.y_train),
            "test": (data.x_test, data.y_test),
        }
        return cls(parts, data.num_classes, data.fingerprint)

    @classmethod
    def of_arrays(
        cls, arrays: Mapping[str, tuple[Any, Any]], num_classes: int | None = None
    ) -> "DataParts":
        """The parts of arrays or tensors, as the network takes them.

        Args:
            arrays: part -> inputs ``(N, ...)`` and labels ``(N,)``; parts are
                ``train``, ``val`` and ``test``.
            num_classes: ``K``; default: the largest label and one.

        Raises:
            InvalidInputError: a part has another name, is empty, or its labels are not
                one whole number from 0 for each input.

        Example:
            >>> x, y = torch.zeros(6, 3), [0, 1, 2, 0, 1, 2]
            >>> DataParts.of_arrays({"train": (x, y), "test": (x, y)}).num_classes
            3
        """
        if wrong := [name for name in arrays if name not in PARTS]:
            raise InvalidInputError(
                f"the data have a part {wrong[0]!r}; parts are train, val and test"
            )
        parts = {name: _as_part(name, *arrays[name]) for name in arrays}
        highest = max((int(y.max()) for _, y in parts.values()), default=0)
        count = highest + 1 if num_classes is None else num_classes
        if highest >= count:
            raise InvalidInputError(
                f"there is a label {highest}, and {count} classes: labels are from 0 "
                f"to {count - 1}"
            )
        return cls(parts, count, _fingerprint(parts))

    def to(self, device: torch.device) -> "DataParts":
        """The same data on a device."""
        moved = {k: (x.to(device), y.to(device)) for k, (x, y) in self.parts.items()}
        return replace(self, parts=moved)


@dataclass(frozen=True)
class UnseenData:
    """Samples that a network has not been trained on, in disjoint parts.

    Attributes:
        samples: train GradNet and the controls, with a validation part.
        test: evaluated once, at the end.
        source: which part ``samples`` come from, in words.
        identity: plain values that identify the data and their division.
    """

    samples: Samples
    test: EvaluationSamples
    source: str
    identity: Mapping[str, Any]


@check_arguments
def split_unseen(
    data: DataParts,
    seen: Seen,
    transform: Transform,
    seed: Seed = 0,
    validation_fraction: Fraction = 0.1,
) -> UnseenData:
    """Divide the data by what the network has seen of them.

    Args:
        data: its parts.
        seen: ``train`` or ``none``, see the table of this module.
        transform: prepares the inputs.
        seed: of the shuffles.
        validation_fraction: of the samples for GradNet and the controls, that is held
            out; where ``seen`` is ``none`` and there is a ``val`` part, that is it.

    Raises:
        InvalidInputError: a part is missing, or has too few samples.

    Example:
        >>> from gradnet.data.augmentation import IdentityTransform
        >>> x, y = torch.zeros(40, 3), [0, 1] * 20
        >>> data = DataParts.of_arrays({"train": (x, y), "test": (x, y)})
        >>> found = split_unseen(data, "train", IdentityTransform())
        >>> found.source
        'a half of the test part'
        >>> [len(part) for part in (found.samples.train, found.samples.validation,
        ...     found.test.evaluation)]
        [18, 2, 20]
    """
    parts = data.parts
    test_x, test_y = _part(parts, "test")
    test = torch.arange(len(test_x))
    held_out = None
    if seen == "none":
        source = "the train part"
        x, y = _part(parts, "train")
        pool = torch.arange(len(x))
        if "val" in parts:
            held_out = len(x) + torch.arange(len(parts["val"][0]))
            x, y = (torch.cat(pair) for pair in zip((x, y), parts["val"], strict=True))
    elif "val" in parts:
        source = "the val part"
        x, y = parts["val"]
        pool = torch.arange(len(x))
    else:
        source = "a half of the test part"
        x, y = test_x, test_y
        order = torch.randperm(len(x), generator=make_generator("test halves", seed))
        pool, test = order[: len(x) // 2], order[len(x) // 2 :].sort().values
    if held_out is None:
        pool, held_out = _hold_out(pool, source, seed, validation_fraction)
    digest = hashlib.sha256()
    for part in (pool, held_out, test):
        digest.update(len(part).to_bytes(8, "big") + part.numpy().tobytes())
    identity = {
        "data_fingerprint": data.fingerprint,
        "split_fingerprint": digest.hexdigest()[:12],
    }
    samples = Samples(x, y, pool, held_out, transform, data.num_classes)
    unseen = EvaluationSamples(test_x, test_y, test, transform, data.num_classes)
    return UnseenData(samples, unseen, source, identity)


def _part(parts: Mapping[str, Part], name: str) -> Part:
    if name not in parts:
        raise InvalidInputError(
            f"the data have no {name} part, only {', '.join(parts) or 'none at all'}; "
            "add it"
        )
    return parts[name]


def _hold_out(
    pool: Tensor, source: str, seed: int, fraction: float
) -> tuple[Tensor, Tensor]:
    """Training and validation indices; at least one of the latter."""
    count = len(pool)
    held_out = max(1, round(fraction * count))
    if count < LEAST or count - held_out < 2:
        raise InvalidInputError(
            f"{source} has {count} samples, too few to train on and to hold out "
            f"{fraction:g} of them; give more"
        )
    generator = make_generator("unseen validation", seed)
    pool = pool[torch.randperm(count, generator=generator)]
    return pool[held_out:], pool[:held_out]


def _as_part(name: str, inputs: Any, labels: Any) -> Part:
    x = inputs.detach() if isinstance(inputs, Tensor) else torch.as_tensor(inputs)
    y = torch.as_tensor(labels)
    if not x.dim() or not len(x):
        raise InvalidInputError(f"the {name} part is empty")
    if y.shape != (len(x),) or y.is_floating_point() or y.is_complex():
        raise InvalidInputError(
            f"the {name} part has labels of shape {tuple(y.shape)} and type {y.dtype} "
            f"for {len(x)} inputs; give one whole number for each"
        )
    y = y.to(torch.int64)
    if y.min() < 0:
        raise InvalidInputError(
            f"the {name} part has the label {int(y.min())}; labels count from 0"
        )
    return x, y


def _fingerprint(parts: Mapping[str, Part]) -> str:
    digest = hashlib.sha256()
    for name in PARTS:
        for tensor in parts.get(name, ()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            # As bytes: numpy has no bfloat16.
            plain = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(plain.numpy().data)
    return digest.hexdigest()[:12]
