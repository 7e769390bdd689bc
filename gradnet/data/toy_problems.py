"""Classic small problems of constructive networks, made from their published rules.

| name | inputs | targets |
|---|---|---|
| ``xor``, ``parity-N`` | all N-bit words | whether an odd number is set |
| ``symmetry-N`` | all N-bit words | whether a word is its own mirror image |
| ``encoder-N`` | N one-hot words | the same |
| ``addition-N`` | all pairs of N-bit numbers | their sum, N + 1 bits |
| ``two-spirals`` | 194 points of the plane | which spiral |
| ``monks-1`` to ``-3`` | six attributes, one-hot | the rules of Thrun et al. 1991 |
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnet.core.reproducibility import make_generator
from gradnet.errors import GradnetError

MAX_BITS = 10
MONKS_VALUES = (3, 3, 2, 3, 4, 2)
MONKS_TRAINING = {1: 124, 2: 169, 3: 122}
MONKS_NOISE = 0.05


@dataclass(frozen=True)
class ClassicProblem:
    """Samples of a classic problem, in float64.

    Attributes:
        name: of it.
        inputs: ``(N, D)``.
        targets: ``(N, K)``, 0 or 1.
        test_inputs: ``(M, D)``, or None where there is nothing but the training set.
        test_targets: ``(M, K)``, or None.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor | None = None
    test_targets: Tensor | None = None


def classic_problem(name: str) -> ClassicProblem:
    """A problem by its name; see the table above.

    The training sets of ``monks-1`` to ``3`` are drawn here, with a fixed seed: their
    sizes (124, 169, 122) and the noise of the third (5 percent) are the published ones,
    the samples are not. All 432 attribute combinations are the test set.

    Raises:
        GradnetError: there is no such problem, or it would be too large.
    """
    kind, _, number = name.partition("-")
    if name == "xor":
        kind, number = "parity", "2"
    if name == "two-spirals":
        return ClassicProblem(name, *_two_spirals())
    if kind in _SIZED and re.fullmatch(r"[1-9]\d*", number):
        make, least, most = _SIZED[kind]
        size = int(number)
        if not least <= size <= most:
            raise GradnetError(f"{kind} is made for sizes from {least} to {most}")
        return ClassicProblem(name, *make(size))
    raise GradnetError(
        f"no classic problem {name!r}; there are: {', '.join(CLASSIC_NAMES)}"
    )


def is_classic(name: str) -> bool:
    """Whether a name is of the form of a classic problem's."""
    return name in ("xor", "two-spirals") or name.partition("-")[0] in _SIZED


def words(bits: int) -> Tensor:
    """All words of so many bits ``(2**bits, bits)``, the first bit slowest."""
    table = list(itertools.product((0.0, 1.0), repeat=bits))
    return torch.tensor(table, dtype=torch.float64)


def _parity(bits: int) -> tuple[Tensor, Tensor]:
    inputs = words(bits)
    return inputs, inputs.sum(1, keepdim=True) % 2


def _symmetry(bits: int) -> tuple[Tensor, Tensor]:
    inputs = words(bits)
    return inputs, (inputs == inputs.flip(1)).all(1, keepdim=True).double()


def _encoder(size: int) -> tuple[Tensor, Tensor]:
    inputs = torch.eye(size, dtype=torch.float64)
    return inputs, inputs.clone()


def _addition(bits: int) -> tuple[Tensor, Tensor]:
    inputs = words(2 * bits)
    weights = 2.0 ** torch.arange(bits - 1, -1, -1, dtype=torch.float64)
    total = inputs[:, :bits] @ weights + inputs[:, bits:] @ weights
    places = 2.0 ** torch.arange(bits, -1, -1, dtype=torch.float64)
    return inputs, (total[:, None] / places).floor() % 2


def _two_spirals() -> tuple[Tensor, Tensor]:
    """Lang and Witbrock's, as in Fahlman's file: each point, then its mirror image."""
    turn = torch.arange(97, dtype=torch.float64)
    angle, radius = turn * math.pi / 16, 6.5 * (104 - turn) / 104
    points = torch.stack([radius * angle.sin(), radius * angle.cos()], 1)
    inputs = torch.stack([points, -points], 1).flatten(0, 1)
    targets = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(97)[:, None]
    return inputs, targets


def _monks(number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    table = list(itertools.product(*(range(1, n + 1) for n in MONKS_VALUES)))
    values = torch.tensor(table)
    inputs = torch.cat(
        [
            torch.nn.functional.one_hot(values[:, place] - 1, count)
            for place, count in enumerate(MONKS_VALUES)
        ],
        1,
    ).double()
    targets = _monks_rule(number, values)[:, None].double()
    generator = make_generator("monks", number)
    chosen = torch.randperm(len(inputs), generator=generator)[: MONKS_TRAINING[number]]
    labels = targets[chosen].clone()
    if number == 3:
        wrong = round(MONKS_NOISE * len(chosen))
        labels[:wrong] = 1 - labels[:wrong]
    return inputs[chosen], labels, inputs, targets


def _monks_rule(number: int, values: Tensor) -> Tensor:
    a = dict(enumerate(values.T, start=1))
    if number == 1:
        return (a[1] == a[2]) | (a[5] == 1)
    if number == 2:
        return (values == 1).sum(1) == 2
    return ((a[5] == 3) & (a[4] == 1)) | ((a[5] != 4) & (a[2] != 3))


_SIZED: Mapping[str, tuple[Callable[[int], tuple[Tensor, ...]], int, int]] = {
    "parity": (_parity, 2, MAX_BITS),
    "symmetry": (_symmetry, 2, MAX_BITS),
    "encoder": (_encoder, 2, 64),
    "addition": (_addition, 1, MAX_BITS // 2),
    "monks": (_monks, 1, 3),
}
CLASSIC_NAMES = (
    "xor",
    "parity-N",
    "symmetry-N",
    "encoder-N",
    "addition-N",
    "two-spirals",
    "monks-1",
    "monks-2",
    "monks-3",
)
