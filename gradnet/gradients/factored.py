"""The fast engine: one forward pass, and backward passes through activations only.

Hooks on the chosen layers keep their inputs; each label's cotangent is pulled back to
their outputs, never to their weights; ``layer_rules.py`` makes the gradients of both.
It walks no structure of the model: branches, residuals, layers used twice and tied
weights add up. What it assumes, it verifies on a few samples whenever the model or the
shape of its input is new; it cannot see a layer that is used in another way for samples
that were not among them. One engine serves one thread at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from gradnet.core.evaluation_mode import differentiable_attention, layerwise_attention
from gradnet.errors import GradnetError
from gradnet.gradients.factors import Factors
from gradnet.gradients.layer_rules import LayerRules, rules_of
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


@dataclass
class Call:
    """One call of a layer.

    Attributes:
        x: its input.
        version: of the input then; a later one means it was overwritten.
        edge: where the cotangent of its output arrives.
        shape: of its output.
        dtype: of its output.
        cotangents: ``(N, C, m, ...)`` for an output ``(m N, ...)``; filled later.
    """

    x: Tensor
    version: int
    edge: GradientEdge
    shape: torch.Size
    dtype: torch.dtype
    cotangents: Tensor | None = None


@dataclass
class Layer:
    """A layer with rules, and which parameters to read there.

    Attributes:
        module: the layer.
        rules: its rules.
        leaves: name in the layer -> parameter name in the layout.
        calls: of the forward pass at hand.
    """

    module: nn.Module
    rules: LayerRules
    leaves: dict[str, str] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)


class FactoredEngine:
    """Per-sample gradients of a model's layers, as factors.

    Args:
        model: in evaluation mode; nothing of it is changed.
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

        A layer that turns out not to be used as its rule assumes is given up, and left
        out of what is returned.

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
                    self._give_up(list(leaves.values()), str(error))
        finally:
            self._forget_calls()

    def _forget_calls(self) -> None:
        for layer in self.layers.values():
            layer.calls = []

    def _forward(self, x: Tensor) -> Tensor:
        """The forward pass, ``(N, K)``; keeps what :meth:`_backward` needs."""
        self._forget_calls()
        for name, layer in self.layers.items():
            if self.model.get_submodule(name) is not layer.module:
                raise GradnetError(
                    f"layer {name!r} was replaced since the extractor was made; make a "
                    "new one"
                )
        before = torch.get_rng_state()
        with torch.inference_mode(False), torch.enable_grad():
            x = x.clone()  # the model may overwrite it
            # On a CPU the fused backward pass of attention is the slower one.
            attention = layerwise_attention if x.is_cuda else differentiable_attention
            with self._hooks(), attention():
                logits: Tensor = self.model(x)
        if not torch.equal(before, torch.get_rng_state()):
            raise GradnetError(
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
                for name, factors in _apply_rules(layer, call, count):
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
            if logits.requires_grad:  # else nothing that is read has a part in them
                pulled = torch.autograd.grad(
                    logits,
                    edges,
                    cotangents[:, label],
                    retain_graph=label < labels - 1,
                    allow_unused=True,
                )
            for call, gradient in zip(calls, pulled, strict=True):
                assert call.cotangents is not None
                place = call.cotangents[:, label]
                if gradient is None:
                    place.zero_()
                else:
                    place.copy_(gradient.reshape(place.shape))

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        """Record the calls of all layers; the hooks are gone afterwards."""
        handles = []
        try:
            for layer in self.layers.values():
                if layer.leaves:
                    hook = _recorder(layer)
                    handles.append(
                        layer.module.register_forward_hook(
                            hook, prepend=True, with_kwargs=True
                        )
                    )
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.inference_mode(False)
    def verify(self, x: Tensor) -> None:
        """Compare with single samples; what differs is not read any more.

        It is done once for each shape of a sample, and anew when weights or modes of
        the model have changed. It finds what no rule can see: a weight that is used
        outside its layer's forward pass, a batch that is not in the first dimension,
        samples that see each other.

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
        except RuntimeError as error:  # of torch, which cannot differentiate it so
            self._give_up(self.names, str(error).splitlines()[0])
            return
        for name in [name for name in found if name in expected]:
            reason = why_wrong(found[name], expected[name])
            if reason:
                self._give_up([name], reason)
        self._verified.add(key)

    def _state(self) -> object:
        """What changes when a weight or a mode of the model does."""
        weights = tuple((id(p), p._version) for p in self.model.parameters())
        return hash((weights, tuple(m.training for m in self.model.modules())))

    def _give_up(self, names: Sequence[str], reason: str) -> None:
        for name in list(names):
            self.reasons[name] = reason
            for layer in self.layers.values():
                layer.leaves = {k: v for k, v in layer.leaves.items() if v != name}


def _recorder(layer: Layer) -> Callable[..., Tensor | None]:
    def record(
        module: nn.Module,
        arguments: tuple[Tensor, ...],
        named: dict[str, Tensor],
        output: Tensor,
    ) -> Tensor | None:
        x = (arguments[0] if arguments else named["input"]).detach()
        replacement = None
        if not output.requires_grad:
            # Frozen up to here: a leaf, so that cotangents have where to arrive, and a
            # copy of it, which may be overwritten.
            leaf = output.detach().requires_grad_()
            replacement = leaf.clone()
            output = leaf
        edge = get_gradient_edge(output)
        call = Call(x, x._version, edge, output.shape, output.dtype)
        layer.calls.append(call)
        return replacement

    return record


def _apply_rules(layer: Layer, call: Call, count: int) -> Iterator[tuple[str, Factors]]:
    """The factors of one call; a batch of ``m N`` is m places, or m calls."""
    assert call.cotangents is not None
    x = call.x.unflatten(0, (count, -1))
    multiple = x.shape[1]
    if layer.rules.channels_first or multiple == 1:
        parts = [(x[:, i], call.cotangents[:, :, i]) for i in range(multiple)]
    else:
        parts = [(x, call.cotangents)]
    for leaf, name in layer.leaves.items():
        for part, cotangents in parts:
            yield name, layer.rules.rules[leaf](layer.module, part, cotangents)
