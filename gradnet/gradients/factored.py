"""The fast engine: one forward pass, and backward passes through activations only.

Hooks on the chosen layers keep their inputs (``layer_calls``). Each label's cotangent
is pulled back to their outputs, never to their weights, and ``layer_rules`` makes the
gradients from inputs and cotangents. The structure of the model plays no part:
branches, residual connections, layers used twice and tied weights add up.

The assumptions are verified on a few samples whenever the model or the shape of its
input is new. A layer that is used in another way for other samples goes unnoticed. An
engine must not be used by two threads at once.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gradnet.core.evaluation_mode import differentiable_attention, layerwise_attention
from gradnet.errors import InvalidInputError
from gradnet.gradients.factors import Factors
from gradnet.gradients.layer_calls import Call, Layer, apply_rules, record_calls
from gradnet.gradients.layer_rules import rules_of
from gradnet.gradients.reference import (
    gradients_one_by_one,
    probe_cotangents,
    why_wrong,
)

PROBE_SAMPLES = 3


class _NotFactorable(Exception):
    """A layer is not used as its rule assumes.

    Args:
        layer: its name.
        reason: how it is used.
    """

    def __init__(self, layer: str, reason: str) -> None:
        super().__init__(reason)
        self.layer = layer


class FactoredEngine:
    """Per-sample gradients of a model's layers, as factors.

    Args:
        model: in evaluation mode; it is not modified.
        parameters: names of those to read.

    Attributes:
        reasons: parameter name -> why this engine cannot read it.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[str]) -> None:
        self.model = model
        self.reasons: dict[str, str] = {}
        self.layers: dict[str, Layer] = {}
        self._verified: set[object] = set()
        self._verified_state: object = None
        wanted = {id(model.get_parameter(name)): name for name in parameters}
        for layer_name, module in model.named_modules():
            for leaf, parameter in module.named_parameters(recurse=False):
                if id(parameter) in wanted:
                    self._add(layer_name, module, leaf, wanted[id(parameter)])
        for layer in self.layers.values():
            layer.leaves = {
                leaf: name
                for leaf, name in layer.leaves.items()
                if name not in self.reasons
            }

    def _add(self, name: str, module: nn.Module, leaf: str, parameter: str) -> None:
        rules = rules_of(module)
        if rules is None or leaf not in rules.rules:
            kind = type(module).__name__
            self.reasons[parameter] = f"no rule for {leaf!r} of {kind} {name!r}"
            return
        layer = self.layers.setdefault(name, Layer(module, rules))
        layer.leaves[leaf] = parameter

    @property
    def names(self) -> list[str]:
        """The parameters that this engine reads."""
        found = (n for layer in self.layers.values() for n in layer.leaves.values())
        return list(dict.fromkeys(found))

    def read(
        self, x: Tensor, cotangents_of: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, dict[str, list[Factors]]]:
        """Logits, and what each use of a parameter adds to its gradients.

        A layer that is not used as its rule assumes is excluded from now on, and left
        out of the result.

        Args:
            x: ``(N, ...)``.
            cotangents_of: a function of the logits ``(N, K)`` that returns cotangents
                ``(N, C, K)``.

        Returns:
            ``(N, K)``, and parameter name -> factors.
        """
        try:
            while True:
                logits = self._forward(x)
                cotangents = cotangents_of(logits.detach())
                try:
                    return logits.detach(), self._backward(logits, cotangents)
                except _NotFactorable as error:
                    leaves = self.layers[error.layer].leaves
                    self._exclude(list(leaves.values()), str(error))
        finally:
            self._clear_calls()

    def _clear_calls(self) -> None:
        for layer in self.layers.values():
            layer.calls = []

    def _forward(self, x: Tensor) -> Tensor:
        """The forward pass, ``(N, K)``; keeps what :meth:`_backward` needs."""
        self._clear_calls()
        for name, layer in self.layers.items():
            if self.model.get_submodule(name) is not layer.module:
                raise InvalidInputError(
                    f"layer {name!r} was replaced since the extractor was made; make a "
                    "new one"
                )
        before = torch.get_rng_state()
        with torch.inference_mode(False), torch.enable_grad():
            x = x.clone()  # the model may overwrite it
            # On a CPU the fused backward pass of attention is the slower one.
            attention = layerwise_attention if x.is_cuda else differentiable_attention
            with record_calls(self.layers.values()), attention():
                logits: Tensor = self.model(x)
        if not torch.equal(before, torch.get_rng_state()):
            raise InvalidInputError(
                "the model draws random numbers in its forward pass; call model.eval() "
                "first, or take the random part out"
            )
        return logits

    def _backward(self, logits: Tensor, cotangents: Tensor) -> dict[str, list[Factors]]:
        """The factors; frees the graph of the logits."""
        count, labels = cotangents.shape[:2]
        pairs = [(n, call) for n, layer in self.layers.items() for call in layer.calls]
        for name, call in pairs:
            if call.x._version != call.version:
                reason = f"the input of layer {name!r} is overwritten later"
                raise _NotFactorable(name, reason)
            if call.shape[0] % count or call.x.shape[0] != call.shape[0]:
                raise _NotFactorable(
                    name,
                    f"layer {name!r} turns {tuple(call.x.shape)} into "
                    f"{tuple(call.shape)} for {count} samples: not sample by sample",
                )
            shape = count, labels, call.shape[0] // count, *call.shape[1:]
            call.cotangents = cotangents.new_empty(shape, dtype=call.dtype)
        self._pull_back(logits, cotangents, [call for _, call in pairs])
        found: dict[str, list[Factors]] = {name: [] for name in self.names}
        for layer in self.layers.values():
            for call in layer.calls:
                for name, factors in apply_rules(layer, call, count):
                    found[name].append(factors)
        return found

    def _pull_back(
        self, logits: Tensor, cotangents: Tensor, calls: Sequence[Call]
    ) -> None:
        """One backward pass a label, to the outputs of the layers.

        Batched over labels (``is_grads_batched``) they were slower on a CPU: pooling
        expands its indices then.
        """
        labels = cotangents.shape[1]
        edges = [call.edge for call in calls]
        for label in range(labels):
            pulled: Sequence[Tensor | None] = [None] * len(calls)
            if logits.requires_grad:  # else they depend on no parameter that is read
                pulled = torch.autograd.grad(
                    logits,
                    edges,
                    cotangents[:, label],
                    retain_graph=label < labels - 1,
                    allow_unused=True,
                )
            for call, gradient in zip(calls, pulled, strict=True):
                assert call.cotangents is not None
                target = call.cotangents[:, label]
                if gradient is None:
                    target.zero_()
                else:
                    target.copy_(gradient.reshape(target.shape))

    @torch.inference_mode(False)
    def verify(self, x: Tensor) -> None:
        """Compare with single samples, and exclude parameters that differ.

        This is done once for each shape of a sample, and again when weights or modes of
        the model have changed. It finds what no rule can see: a weight that is used
        outside its layer's forward pass, a batch that is not in the first dimension,
        samples that influence each other.

        Args:
            x: ``(N, ...)``; a few are used, the first and the last among them.
        """
        state, several = self._state(), len(x) > 1
        if state != self._verified_state:
            self._verified, self._verified_state = set(), state
        key = x.shape[1:], several
        if not self.names or not len(x) or key in self._verified:
            return
        chosen = torch.linspace(0, len(x) - 1, PROBE_SAMPLES if several else 1)
        x = x[chosen.long().to(x.device)].detach()
        try:
            logits, found = self.read(x, probe_cotangents)
            cotangents = probe_cotangents(logits)
            expected = gradients_one_by_one(self.model, self.names, x, cotangents)
        except RuntimeError as error:  # torch cannot differentiate the model this way
            self._exclude(self.names, str(error).splitlines()[0])
            return
        for name in [name for name in found if name in expected]:
            reason = why_wrong(found[name], expected[name])
            if reason:
                self._exclude([name], reason)
        self._verified.add(key)

    def _state(self) -> object:
        """A hash that changes when a weight or a mode of the model does."""
        weights = tuple((id(p), p._version) for p in self.model.parameters())
        return hash((weights, tuple(m.training for m in self.model.modules())))

    def _exclude(self, names: Sequence[str], reason: str) -> None:
        for name in list(names):
            self.reasons[name] = reason
            for layer in self.layers.values():
                layer.leaves = {k: v for k, v in layer.leaves.items() if v != name}
