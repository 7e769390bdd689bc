"""Chooses between the two engines, parameter by parameter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from gradnet.errors import InvalidInputError
from gradnet.gradients.cotangents import Loss, loss_cotangents
from gradnet.gradients.factored import FactoredEngine
from gradnet.gradients.factors import FactoredBlock, Factors, Formed
from gradnet.gradients.functional import FunctionalEngine
from gradnet.gradients.layout import BlockLayout, allocate
from gradnet.gradients.projections import Reduction

EngineName = Literal["auto", "func", "factored"]


@dataclass(frozen=True)
class ParameterPath:
    """Which engine reads a parameter.

    Attributes:
        parameter: its name.
        engine: ``factored`` or ``func``.
        reason: why not the fast engine; empty if it is the fast one.
    """

    parameter: str
    engine: str
    reason: str


class Engines:
    """Reads each parameter by the fast engine if possible, else by the general one.

    Args:
        model: in evaluation mode.
        layout: the parameters to read.
        loss: see :func:`gradnet.gradients.cotangents.loss_cotangents`.
        weight_decay: adds ``weight_decay * W`` to each gradient.
        name: ``auto``, ``func`` or ``factored``.

    Attributes:
        dtype: of the weights.

    Raises:
        InvalidInputError: there is no such engine.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: BlockLayout,
        loss: str | Loss,
        weight_decay: float,
        name: EngineName,
    ) -> None:
        if name not in ("auto", "func", "factored"):
            raise InvalidInputError(f"no engine {name!r}; give auto, func or factored")
        self.model, self.layout, self.name = model, layout, name
        self.loss, self.weight_decay = loss, weight_decay
        names = list(layout.shapes)
        self.dtype = model.get_parameter(names[0]).dtype
        self._factored = FactoredEngine(model, [] if name == "func" else names)

    def verify(self, x: Tensor) -> None:
        """Compare with single samples, see :meth:`FactoredEngine.verify`."""
        self._factored.verify(x)

    def explain(self) -> list[ParameterPath]:
        """Which engine reads which parameter, and why, as far as is known yet."""
        fast, reasons = set(self._factored.names), self._factored.reasons
        requested = "asked for with engine='func'"
        return [
            ParameterPath(name, "factored", "")
            if name in fast
            else ParameterPath(name, "func", reasons.get(name, requested))
            for name in self.layout.shapes
        ]

    def read(
        self, x: Tensor, labels: Tensor, out: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, FactoredBlock]]:
        """Logits, and gradients that are not formed yet.

        Args:
            x: ``(N, ...)``.
            labels: ``(N, C)``.
            out: parameter name -> ``(N, C, *shape)``, tensors that the general engine
                writes to; None allocates new ones.

        Returns:
            ``(N, K)``, and block name -> its gradients as factors.

        Raises:
            InvalidInputError: the requested engine cannot read a layer.
        """
        logits, parts = self._factors(x, labels, out)
        if self.weight_decay:
            for name in self.layout.shapes:
                term = self.weight_decay * self.model.get_parameter(name).detach()
                parts[name].append(Formed(term.expand(*labels.shape, *term.shape)))
        count = labels.shape[0], labels.shape[1]
        return logits, {
            block.name: FactoredBlock(
                block, {n: parts[n] for n in block.shapes}, count, self.dtype, x.device
            )
            for block in self.layout.blocks
        }

    def read_into(self, x: Tensor, labels: Tensor, out: Mapping[str, Tensor]) -> Tensor:
        """Write the gradients to ``out``, parameter name -> ``(N, C, *shape)``.

        Returns:
            The logits, ``(N, K)``.
        """
        logits, blocks = self.read(x, labels, out)
        for block in blocks.values():
            for name in block.parts:
                block.form_parameter(name, out[name])
        return logits

    def read_reduced(
        self, x: Tensor, labels: Tensor, reduction: Reduction
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits ``(N, K)``, and block name -> reduced gradients ``(N, C, size)``."""
        logits, blocks = self.read(x, labels)
        return logits, {name: reduction.apply(block) for name, block in blocks.items()}

    def _factors(
        self, x: Tensor, labels: Tensor, out: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, dict[str, list[Factors]]]:
        if not labels.numel():
            logits = self.model(x).detach()
            return logits, {name: [] for name in self.layout.shapes}

        def cotangents_of(logits: Tensor) -> Tensor:
            return loss_cotangents(self.loss, logits, labels)

        self.verify(x)
        parts: dict[str, list[Factors]] = {}
        if self._factored.names:
            logits, parts = self._factored.read(x, cotangents_of)
        rest = [name for name in self.layout.shapes if name not in parts]
        if rest and self.name == "factored":
            reason = self._factored.reasons[rest[0]]
            raise InvalidInputError(
                f"engine='factored' cannot read {rest[0]}: {reason}; engine='auto' can"
            )
        if rest:
            general = FunctionalEngine(self.model, rest)
            logits, pullback = general.logits_and_pullback(x)
            if not out:
                shapes = {name: self.layout.shapes[name] for name in rest}
                out = allocate(shapes, labels.shape, self.dtype, x.device)
            general.pull_back(pullback, cotangents_of(logits), out)
            parts |= {name: [Formed(out[name])] for name in rest}
        return logits, parts
