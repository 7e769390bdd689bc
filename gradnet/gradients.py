"""GradientExtractor: per-sample loss gradients for any candidate label, by torch.func.

This is the definition of what the toolkit reads. It serves every module that
``torch.func`` accepts. Letters as in ``blocks.py``.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradnet.blocks import BlockLayout
from gradnet.errors import GradnetError

# Gradients of one chunk, in bytes: about the last-level cache of a CPU, and enough
# work to fill a GPU. Larger chunks were slower here, not faster.
CHUNK_BYTES = {"cpu": 48e6, "cuda": 1e9}

Loss = Callable[[Tensor, Tensor], Tensor]


def label_cotangents(logits: Tensor, labels: Tensor) -> Tensor:
    """The gradient of cross-entropy with respect to the logits, for candidate labels.

    It is ``softmax(z) - onehot(c)``; weighted by the probabilities of the labels, the
    cotangents of all of them sum to zero.

    Args:
        logits: ``(N, K)``.
        labels: ``(N, C)``.

    Returns:
        ``(N, C, K)``.
    """
    onehot = functional.one_hot(labels, logits.shape[-1])
    return logits.softmax(-1)[:, None] - onehot.to(logits.dtype)


class GradientExtractor:
    """Reads the loss gradients of single samples from a trained network.

    The gradient feature of a sample x and a candidate label c is the gradient of the
    loss at (x, c) with respect to the weights (arXiv 1912.09306, section 2): a
    vector-Jacobian product of the label cotangent. All labels of a sample share one
    forward pass.

    Args:
        model: maps ``(N, ...)`` to logits ``(N, K)``; it is left as it is.
        layers: name patterns of the layers to read, see :meth:`BlockLayout.of`.
        biases: read the biases too.
        loss: ``"cross_entropy"``, or a function of logits ``(K,)`` and a label ``()``
            that returns a scalar.
        weight_decay: adds ``weight_decay * W`` to each gradient, as the vectors of the
            2018 code had it (5e-4).
        chunk_size: samples that are differentiated at once; None chooses by memory.
            It changes nothing but rounding.

    Raises:
        GradnetError: a pattern matches no layer, or there is nothing to read.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Sequence[str] | None = None,
        biases: bool = False,
        loss: Literal["cross_entropy"] | Loss = "cross_entropy",
        weight_decay: float = 0.0,
        chunk_size: int | None = None,
    ) -> None:
        if isinstance(loss, str) and loss != "cross_entropy":
            raise GradnetError(
                f"no loss {loss!r}; give 'cross_entropy' or a function of logits and "
                "label"
            )
        if chunk_size is not None and chunk_size < 1:
            raise GradnetError(f"chunk_size is {chunk_size}; it must be at least 1")
        self.model = model
        self.loss = loss
        self.weight_decay = weight_decay
        self.chunk_size = chunk_size
        self.layout = BlockLayout.of(model, layers, biases)

    def per_sample(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The gradient of each sample at one label of its own.

        Args:
            x: ``(N, ...)``.
            labels: ``(N,)``, from 0 to K - 1.

        Returns:
            Parameter name -> ``(N, *shape)``.

        Raises:
            GradnetError: see :meth:`logits_and_gradients`.
        """
        if labels.dim() != 1:
            raise GradnetError(f"labels are {tuple(labels.shape)}; they must be (N,)")
        _, gradients = self.logits_and_gradients(x, labels[:, None])
        return {name: gradient[:, 0] for name, gradient in gradients.items()}

    def all_labels(self, x: Tensor) -> dict[str, Tensor]:
        """The gradients of each sample at every label.

        Args:
            x: ``(N, ...)``.

        Returns:
            Parameter name -> ``(N, K, *shape)``.

        Raises:
            GradnetError: see :meth:`logits_and_gradients`.
        """
        return self.logits_and_gradients(x)[1]

    @torch.no_grad()
    def logits_and_gradients(
        self, x: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits and gradients at chosen labels, by one forward pass.

        Args:
            x: ``(N, ...)``.
            labels: ``(N, C)``, from 0 to K - 1; None takes all K.

        Returns:
            ``(N, K)``, and parameter name -> ``(N, C, *shape)``.

        Raises:
            GradnetError: a layer changes from call to call (BatchNorm in training
                mode, active dropout), a label is out of range, an input is not finite,
                or the model does not return ``(N, K)``.
        """
        refuse_changing_layers(self.model)
        if x.is_floating_point() and not torch.isfinite(x).all():
            raise GradnetError("the input has values that are not finite")
        num_logits = self._num_logits(x)
        labels = _check_labels(labels, len(x), num_logits, x.device)
        chosen, fixed = self.parameters()
        gradients = {
            name: value.new_empty(*labels.shape, *value.shape)
            for name, value in chosen.items()
        }
        logits = []
        chunk = self.chunk_size or self._automatic_chunk_size(labels.shape[1], x.device)
        for start in range(0, len(x), chunk):
            part = slice(start, start + chunk)
            logits.append(
                self._differentiate(
                    chosen,
                    fixed,
                    x[part],
                    labels[part],
                    {name: gradient[part] for name, gradient in gradients.items()},
                )
            )
        if self.weight_decay:
            for name, value in chosen.items():
                gradients[name] += self.weight_decay * value
        dtype = next(iter(chosen.values())).dtype
        empty = x.new_empty(0, num_logits, dtype=dtype)
        return torch.cat(logits) if logits else empty, gradients

    def _num_logits(self, x: Tensor) -> int:
        probe = x[:1] if len(x) else x.new_zeros(1, *x.shape[1:])
        logits = self.model(probe)
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits)
            raise GradnetError(f"the model returns {shape}, not logits (N, K)")
        return logits.shape[1]

    def parameters(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The tensors that are read, and the parameters and buffers that are not."""
        parameters = {name: p.detach() for name, p in self.model.named_parameters()}
        chosen = {name: parameters.pop(name) for name in self.layout.shapes}
        return chosen, parameters | dict(self.model.named_buffers())

    def _automatic_chunk_size(self, num_labels: int, device: torch.device) -> int:
        budget = CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"])
        return max(1, int(budget / (4 * max(1, num_labels) * self.layout.size)))

    def _differentiate(
        self,
        chosen: dict[str, Tensor],
        fixed: dict[str, Tensor],
        x: Tensor,
        labels: Tensor,
        out: dict[str, Tensor],
    ) -> Tensor:
        """Write the gradients of one chunk into ``out``; return its logits.

        Every sample has a copy of the weights of its own (a view), so one pullback
        gives the gradients of all samples. The loop runs over labels: batching them
        too (vmap) was half as fast on a CPU.
        """

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
                raise GradnetError(
                    "the model draws random numbers in its forward pass; call "
                    "model.eval() first, or take the random part out"
                ) from error
            raise
        cotangents = self._cotangents(logits, labels)
        for index in range(labels.shape[1]):
            gradients = pullback(cotangents[:, index])[0]
            for name, gradient in gradients.items():
                out[name][:, index] = gradient
        return logits

    def _cotangents(self, logits: Tensor, labels: Tensor) -> Tensor:
        if isinstance(self.loss, str):
            return label_cotangents(logits, labels)
        per_label = vmap(grad(self.loss), in_dims=(None, 0))
        return vmap(per_label)(logits, labels)


def _check_labels(
    labels: Tensor | None, count: int, num_logits: int, device: torch.device
) -> Tensor:
    if labels is None:
        return torch.arange(num_logits, device=device).expand(count, -1)
    if labels.dim() != 2 or len(labels) != count:
        raise GradnetError(
            f"labels are {tuple(labels.shape)} for {count} samples; they must be (N, C)"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise GradnetError(f"labels are {labels.dtype}; they must be whole numbers")
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < num_logits:
        bad = labels[(labels < 0) | (labels >= num_logits)][0].item()
        raise GradnetError(
            f"label {bad} is out of range: the model has {num_logits} logits, labels "
            f"go from 0 to {num_logits - 1}"
        )
    return labels.to(device=device, dtype=torch.long)


@contextmanager
def differentiable_attention() -> Iterator[None]:
    """Let attention layers compute by operations that torch.func can differentiate.

    Under ``vmap`` and ``jvp`` torch takes them for inference, and for fused kernels
    that have no derivative there.
    """
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)


def refuse_changing_layers(model: nn.Module) -> None:
    """Refuse a model whose output for a sample changes from call to call.

    Raises:
        GradnetError: it names the first such layer and the remedy.
    """
    for name, module in model.named_modules():
        reason = _why_changing(module)
        if reason:
            raise GradnetError(
                f"layer {name or 'model'!r} ({type(module).__name__}) {reason}, so the "
                "gradient of one sample is not defined; call model.eval() first"
            )


def _why_changing(module: nn.Module) -> str | None:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        if module.training:
            return "is in training mode: it normalizes by the batch"
        if module.running_mean is None:
            return "keeps no running statistics: it normalizes by the batch in any mode"
    if not module.training:
        return None
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return "updates running statistics" if module.track_running_stats else None
    if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
        return f"drops units at random (p={module.p})"
    if isinstance(module, nn.RReLU):
        return "draws its slopes at random"
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention) and module.dropout > 0:
        return f"drops units at random (p={module.dropout})"
    return None
