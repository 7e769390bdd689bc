"""Progressive networks: each column also uses the features of earlier columns.

A. A. Rusu et al., Progressive neural networks, 2016, arXiv 1606.04671; here with all
columns for the same task. Column k
computes ``h_i = f(W_i h_{i-1} + lateral_i(features h_{i-1} of the columns before))``;
``f`` is ReLU, for convolutions followed by 2x2 pooling. The first layers of all columns
take the images, and have no lateral connections.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.errors import InvalidInputError
from gradnet.models.cnn import initialize_lecun_normal

Kind = Literal["cnn", "mlp"]
AdapterKind = Literal["linear", "mlp", "none"]

# The paper only says "small random values".
ALPHA_DEVIATION = 0.1


@dataclass(frozen=True)
class ColumnPlan:
    """The architecture of all columns; see :class:`ProgressiveNetwork`."""

    in_channels: int
    image_size: int
    num_classes: int
    widths: tuple[int, ...]
    kind: Kind
    adapter: AdapterKind

    def __post_init__(self) -> None:
        """Validate the fields.

        Raises:
            InvalidInputError: see :class:`ProgressiveNetwork`.
        """
        for what, name, known in (
            ("kind of column", self.kind, get_args(Kind)),
            ("adapter", self.adapter, get_args(AdapterKind)),
        ):
            if name not in known:
                raise InvalidInputError(
                    f"no {what} {name!r}; there are: {', '.join(known)}"
                )
        if not self.widths or min(self.widths) < 1:
            raise InvalidInputError(
                f"widths are {list(self.widths)}; give at least one hidden layer, each "
                "of at least one unit"
            )
        if self.kind == "cnn" and self.image_size < 2 ** len(self.widths):
            raise InvalidInputError(
                f"images of {self.image_size} x {self.image_size} are too small for "
                f"{len(self.widths)} convolutions with pooling; give fewer widths, or "
                "use kind mlp"
            )

    @property
    def names(self) -> list[str]:
        """Names of a column's layers, the output layer last."""
        layer = "conv" if self.kind == "cnn" else "linear"
        return [*(f"{layer}{index}" for index in range(len(self.widths))), "output"]

    def layer(self, index: int, bias: bool = True) -> nn.Module:
        """A new layer for this index; without bias, for a lateral connection to it."""
        inputs = (self.in_channels, *self.widths)[index]
        outputs = (*self.widths, self.num_classes)[index]
        if self.kind == "cnn" and index < len(self.widths):
            return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
        if self.kind == "cnn":
            inputs *= (self.image_size // 2**index) ** 2
        elif index == 0:
            inputs *= self.image_size**2
        return nn.Linear(inputs, outputs, bias=bias)

    def lateral(self, index: int, earlier: int) -> nn.Module:
        """A new adapter from the ``earlier`` columns to the layer of this index."""
        if self.adapter == "linear":
            return LinearAdapter(self.layer(index, bias=False) for _ in range(earlier))
        width = self.widths[index - 1]
        project = (
            nn.Conv2d(earlier * width, width, 1)
            if self.kind == "cnn"
            else nn.Linear(earlier * width, width)
        )
        return MLPAdapter(earlier, project, self.layer(index, bias=False))


def apply_layer(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer to features ``(N, ...)``, flattened for a linear layer."""
    output: Tensor = layer(x.flatten(1) if isinstance(layer, nn.Linear) else x)
    return output


class LinearAdapter(nn.Module):
    """The linear adapter ``sum over j of U_j h_j``.

    Args:
        combine: ``U_j`` for each earlier column.
    """

    def __init__(self, combine: Iterable[nn.Module]) -> None:
        super().__init__()
        self.combine = nn.ModuleList(combine)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the features ``(N, ...)`` of each earlier column to preactivations."""
        pairs = zip(self.combine, features, strict=True)
        return functools.reduce(torch.add, (apply_layer(u, h) for u, h in pairs))


class MLPAdapter(nn.Module):
    """``U relu(V [alpha_1 h_1, alpha_2 h_2, ...])``, the paper's nonlinear adapter.

    Args:
        earlier: number of earlier columns.
        project: ``V``, from the features of all of them to the width of one column, so
            that the cost of a lateral connection hardly grows with their number.
        combine: ``U``.

    Attributes:
        alpha: ``(earlier,)``, learned scales, small at the start.
    """

    def __init__(self, earlier: int, project: nn.Module, combine: nn.Module) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(earlier).normal_(std=ALPHA_DEVIATION))
        self.project, self.combine = project, combine

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the features ``(N, ...)`` of each earlier column to preactivations."""
        scaled = [self.alpha[j] * h for j, h in enumerate(features)]
        hidden = functional.relu(self.project(torch.cat(scaled, 1)))
        return apply_layer(self.combine, hidden)


class Column(nn.Module):
    """A column: its layers, and adapters from earlier columns.

    Args:
        plan: the architecture that all columns share.
        earlier: number of earlier columns.

    Attributes:
        laterals: adapters, by the name of the layer to whose preactivations they add.
    """

    def __init__(self, plan: ColumnPlan, earlier: int) -> None:
        super().__init__()
        self.plan = plan
        for index, name in enumerate(plan.names):
            self.add_module(name, plan.layer(index))
        self.laterals = nn.ModuleDict()
        if earlier and plan.adapter != "none":
            for index, name in enumerate(plan.names[1:], start=1):
                self.laterals[name] = plan.lateral(index, earlier)
        initialize_lecun_normal(self)

    def forward(self, x: Tensor, earlier: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """The features of each hidden layer.

        Args:
            x: images ``(N, in_channels, image_size, image_size)``.
            earlier: the features of each earlier column.

        Returns:
            One tensor ``(N, ...)`` for each hidden layer.
        """
        features: list[Tensor] = []
        for index in range(len(self.plan.widths)):
            x = functional.relu(self._sums(index, x, earlier))
            if self.plan.kind == "cnn":
                x = functional.max_pool2d(x, 2)
            features.append(x)
        return features

    def logits(
        self, features: Sequence[Tensor], earlier: Sequence[Sequence[Tensor]]
    ) -> Tensor:
        """Logits ``(N, K)`` from the features of this and the earlier columns."""
        return self._sums(len(features), features[-1], earlier)

    def zero_output(self) -> None:
        """Set the weights of the output layer to zero, so that all logits are zero."""
        layers = [self.get_submodule("output")]
        if "output" in self.laterals:
            layers.append(self.laterals["output"].get_submodule("combine"))
        for layer in layers:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def _sums(
        self, index: int, x: Tensor, earlier: Sequence[Sequence[Tensor]]
    ) -> Tensor:
        name = self.plan.names[index]
        sums = apply_layer(self.get_submodule(name), x)
        if name in self.laterals:
            lateral = self.laterals[name]([features[index - 1] for features in earlier])
            sums = sums + lateral
        return sums


class ProgressiveNetwork(nn.Module):
    """A network of one column, to which :meth:`add_column` adds others.

    Input ``(N, in_channels, image_size, image_size)``, output logits ``(N, K)``: those
    of the last column, or with ``preserving`` the sum over all columns. Columns that
    do not contribute to the output are not computed.

    Args:
        in_channels: channels of the images.
        image_size: their height and width, in pixels.
        num_classes: ``K``.
        widths: channels or units of each hidden layer of a column.
        kind: of each column: ``cnn`` (3x3 convolutions, each with ReLU and 2x2 pooling;
            the output layer takes the flattened features) or ``mlp``.
        adapter: ``linear``; ``mlp``, see :class:`MLPAdapter`; or ``none``: no lateral
            connections.
        preserving: add the logits of all columns; those of a new column start at zero,
            so that adding it is function-preserving.

    Raises:
        InvalidInputError: the images are too small, a width is less than 1, or the kind
            or the adapter is unknown.
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int = 8,
        num_classes: int = 10,
        widths: Sequence[int] = (16, 32, 64),
        kind: Kind = "cnn",
        adapter: AdapterKind = "mlp",
        preserving: bool = False,
    ) -> None:
        super().__init__()
        self.plan = ColumnPlan(
            in_channels, image_size, num_classes, tuple(widths), kind, adapter
        )
        self.preserving = preserving
        self.columns = nn.ModuleList([Column(self.plan, 0)])

    def add_column(self) -> None:
        """Add a column, with random weights from torch's global generator."""
        column = Column(self.plan, len(self.columns))
        if self.preserving:
            column.zero_output()
        like = next(self.parameters())
        self.columns.append(column.to(like.device, like.dtype).train(self.training))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, K)`` of images, see the class."""
        columns: list[Column] = list(self.columns)  # type: ignore[arg-type]
        if self.plan.adapter == "none" and not self.preserving:
            columns = columns[-1:]
        features: list[list[Tensor]] = []
        for column in columns:
            features.append(column(x, features))
        used = range(len(columns)) if self.preserving else [len(columns) - 1]
        logits = (columns[k].logits(features[k], features[:k]) for k in used)
        return functools.reduce(torch.add, logits)
