"""What rows must be to enter a store: of the planned shapes, in range, finite."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gradnet.errors import InvalidInputError
from gradnet.store.manifest import StorePlan

Rows = Mapping[str, Tensor]

# Numbers that are copied and checked at once: few enough to stay in the cache, and for
# torch to use one thread, which then never waits for another on the same core.
COPY_SIZE = 32_768


def check_chunk(plan: StorePlan, chunk: Rows) -> int:
    """The number of rows, when everything has its shape, its dtype and its range.

    Raises:
        InvalidInputError: names what is missing or wrong.
    """
    if set(chunk) != set(plan.tensors):
        odd = sorted(set(chunk) ^ set(plan.tensors))
        raise InvalidInputError(
            f"rows must have {', '.join(plan.tensors)}; missing or unknown: "
            + ", ".join(odd)
        )
    count = len(chunk["index"])
    if count % plan.labels_per_sample:
        raise InvalidInputError(
            f"{count} rows came at once, at {plan.labels_per_sample} labels a sample; "
            "make_rows must yield whole samples"
        )
    for name, (shape, dtype) in plan.tensors.items():
        given = chunk[name]
        if given.shape != (count, *shape) or given.dtype != dtype:
            raise InvalidInputError(
                f"{name} came as {tuple(given.shape)} of {given.dtype}, the plan has "
                f"{(count, *shape)} of {dtype}"
            )
    for name in ("label", "target"):
        row = first_outside(chunk[name], plan.num_logits)
        if row is not None:
            raise InvalidInputError(
                f"the {name} of sample {int(chunk['index'][row])} is "
                f"{int(chunk[name][row])}, out of range: there are {plan.num_logits} "
                "logits"
            )
    return count


def copy_rows(target: Tensor, source: Tensor) -> bool:
    """Copy rows; return whether all of them are finite."""
    is_float, finite = target.is_floating_point(), True
    flat = source.detach().cpu().reshape(-1)
    for to, of in zip(
        target.view(-1).split(COPY_SIZE), flat.split(COPY_SIZE), strict=True
    ):
        to.copy_(of)
        # Minimum and maximum need no memory of their own, and both propagate NaN.
        if is_float and not all(math.isfinite(end.item()) for end in to.aminmax()):
            finite = False
    return finite


def not_finite(name: str, rows: Rows) -> str:
    """The message that a number of some rows is not finite."""
    row = int(rows[name].isfinite().all(1).logical_not().nonzero()[0])
    return (
        f"{name} of sample {int(rows['index'][row])} at label "
        f"{int(rows['label'][row])} is not finite in {rows[name].dtype}; leave the "
        "sample out, correct the network, or choose a wider dtype"
    )


def first_outside(labels: Tensor, count: int) -> int | None:
    """The first position of a label ``(n,)`` that is not from 0 to ``count - 1``."""
    if not len(labels):
        return None
    low, high = torch.aminmax(labels)
    if 0 <= int(low) and int(high) < count:
        return None
    return int(((labels < 0) | (labels >= count)).nonzero()[0])
