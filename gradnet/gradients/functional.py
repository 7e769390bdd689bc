"""The general engine: per-sample gradients of any module that torch.func accepts.

It does not know layers. So the row of an Embedding's padding index has the gradient of
its use here, where backward passes leave it out.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from gradnet.core.evaluation_mode import differentiable_attention
from gradnet.errors import InvalidInputError


class FunctionalEngine:
    """Per-sample gradients by ``torch.func``.

    Args:
        model: in evaluation mode; it is not modified.
        parameters: names of those to read.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[str]) -> None:
        self.model = model
        self.names = list(parameters)

    def split_parameters(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The parameters to read; all other parameters and buffers."""
        parameters = {name: p.detach() for name, p in self.model.named_parameters()}
        chosen = {name: parameters.pop(name) for name in self.names}
        return chosen, parameters | dict(self.model.named_buffers())

    @torch.no_grad()
    def logits_and_pullback(
        self, x: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], dict[str, Tensor]]]:
        """One forward pass, and a function that turns cotangents into gradients.

        Every sample has its own copy of the weights (a view), so one pullback gives the
        gradients of all samples.

        Args:
            x: ``(N, ...)``.

        Returns:
            ``(N, K)``, and a function of ``(N, K)`` that returns parameter name ->
            ``(N, *shape)``.

        Raises:
            InvalidInputError: the model draws random numbers.
        """
        chosen, fixed = self.split_parameters()

        def logits_of_one(weights: dict[str, Tensor], sample: Tensor) -> Tensor:
            inputs = (sample[None],)
            return functional_call(self.model, {**weights, **fixed}, inputs)[0]

        def logits_of_all(weights: dict[str, Tensor]) -> Tensor:
            return vmap(logits_of_one)(weights, x)

        copies = {name: w.expand(len(x), *w.shape) for name, w in chosen.items()}
        try:
            with differentiable_attention():
                logits, pullback = vjp(logits_of_all, copies)[:2]
        except RuntimeError as error:
            if "random" in str(error):
                raise InvalidInputError(
                    "the model draws random numbers in its forward pass; call "
                    "model.eval() first, or take the random part out"
                ) from error
            raise
        return logits, lambda cotangent: pullback(cotangent)[0]

    @torch.no_grad()
    def pull_back(
        self,
        pullback: Callable[[Tensor], dict[str, Tensor]],
        cotangents: Tensor,
        out: Mapping[str, Tensor],
    ) -> None:
        """Write the gradients of all labels, one label after the other.

        Batching labels too (vmap) was half as fast on a CPU.

        Args:
            pullback: from :meth:`logits_and_pullback`.
            cotangents: ``(N, C, K)``.
            out: parameter name -> ``(N, C, *shape)``.
        """
        for label in range(cotangents.shape[1]):
            for name, gradient in pullback(cotangents[:, label]).items():
                out[name][:, label] = gradient
