"""GradientExtractor: per-sample loss gradients for any candidate label, in chunks.

Two engines read them: ``functional_engine.py`` is the definition and serves every
module that ``torch.func`` accepts; ``factored.py`` is fast and serves the usual layers.
Letters as in ``blocks.py``.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from gradnet.core.evaluation_mode import check_evaluation_mode
from gradnet.core.memory import ChunkSizes
from gradnet.errors import GradnetError
from gradnet.gradients.cotangents import (
    CROSS_ENTROPY,
    LOSSES,
    Loss,
    check_labels,
)
from gradnet.gradients.dispatch import EngineName, Engines, ParameterPath
from gradnet.gradients.factors import FactoredBlock
from gradnet.gradients.functional import FunctionalEngine
from gradnet.gradients.layout import BlockLayout
from gradnet.gradients.projections import Reduction


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
        loss: a name of :data:`gradnet.gradients.LOSSES`, or a function of logits
            ``(K,)`` and a label ``()`` that returns a scalar.
        weight_decay: adds ``weight_decay * W`` to each gradient, as the vectors of the
            2018 code had it (5e-4).
        chunk_size: samples that are differentiated at once; None measures how many fit
            ``max_memory``. It changes nothing but rounding.
        engine: ``"func"`` (any module), ``"factored"`` (fast, the usual layers), or
            ``"auto"``: the fast one for the layers that it can read. See
            :meth:`explain`.
        max_memory: of one chunk with its gradients, such as ``"2GB"``; at least one
            sample is always taken.
        dtype: of the gradients; None takes that of the weights. With
            ``torch.bfloat16`` the fast engine multiplies in it too.

    Raises:
        GradnetError: a pattern matches no layer, there is nothing to read, or an
            argument is out of its range.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Sequence[str] | None = None,
        biases: bool = False,
        loss: str | Loss = CROSS_ENTROPY,
        weight_decay: float = 0.0,
        chunk_size: int | None = None,
        engine: EngineName = "auto",
        max_memory: str | float | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if isinstance(loss, str):
            LOSSES.find(loss)  # which raises if there is none
        self.model = model
        self.loss = loss
        self.weight_decay = weight_decay
        self.layout = BlockLayout.of(model, layers, biases)
        self._engines = Engines(model, self.layout, loss, weight_decay, engine)
        self.chunk_sizes = ChunkSizes(chunk_size, max_memory)
        self.dtype = dtype or self._engines.dtype

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
        self,
        x: Tensor,
        labels: Tensor | None = None,
        out: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits and gradients at chosen labels, by one forward pass.

        Args:
            x: ``(N, ...)``.
            labels: ``(N, C)``, from 0 to K - 1; None takes all K.
            out: receives the gradients, if given; fresh memory is slower than memory
                that is used again.

        Returns:
            ``(N, K)``, and parameter name -> ``(N, C, *shape)``.

        Raises:
            GradnetError: a layer changes from call to call (BatchNorm in training
                mode, active dropout), a label is out of range, an input is not finite,
                the model does not return ``(N, K)``, or the engine that was asked for
                cannot read a layer.
        """
        labels, num_logits = self._check(x, labels)
        if out is None:
            out = self.allocate(*_size_of(labels), x.device)
        logits = []
        for part in self._parts(x, labels):
            place = {name: gradient[part] for name, gradient in out.items()}
            logits.append(self._differentiate(x[part], labels[part], place))
        return torch.cat(logits) if logits else self._no_logits(x, num_logits), out

    @torch.no_grad()
    def chunks(
        self, x: Tensor, labels: Tensor | None = None
    ) -> Iterator[tuple[slice, Tensor, dict[str, Tensor]]]:
        """The same, chunk by chunk; the next one overwrites the gradients of the last.

        Args:
            x: ``(N, ...)``.
            labels: ``(N, C)``; None takes all K.

        Yields:
            Which samples, their logits ``(n, K)``, and parameter name -> ``(n, C,
            *shape)``.

        Raises:
            GradnetError: see :meth:`logits_and_gradients`.
        """
        labels, _ = self._check(x, labels)
        parts = self._parts(x, labels)
        buffers = self.allocate(*_size_of(labels[parts[0]]), x.device) if parts else {}
        for part in parts:
            count = len(x[part])
            place = {name: buffer[:count] for name, buffer in buffers.items()}
            yield part, self._differentiate(x[part], labels[part], place), place

    @torch.no_grad()
    def factored_blocks(
        self, x: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, dict[str, FactoredBlock]]:
        """Logits and gradients that are not formed yet, of all samples at once.

        What is done with them (contraction with weights, projection, norms) need not
        form them at all. Where only the general engine can read, they are formed.

        Args:
            x: ``(N, ...)``, few enough for the memory.
            labels: ``(N, C)``; None takes all K.

        Returns:
            ``(N, K)``, and block name -> its gradients.

        Raises:
            GradnetError: see :meth:`logits_and_gradients`.
        """
        labels, _ = self._check(x, labels)
        return self._engines.read(x, labels)

    def allocate(
        self,
        num_samples: int,
        num_labels: int,
        device: torch.device | str = "cpu",
    ) -> dict[str, Tensor]:
        """Uninitialized memory for gradients: parameter name -> ``(N, C, *shape)``.

        It can be given as ``out`` to :meth:`logits_and_gradients`, again and again.
        """
        return {
            name: torch.empty(
                num_samples, num_labels, *shape, dtype=self.dtype, device=device
            )
            for name, shape in self.layout.shapes.items()
        }

    def explain(self, x: Tensor | None = None) -> list[ParameterPath]:
        """Which engine reads which parameter, and why.

        Args:
            x: a few samples ``(N, ...)``. Without any, it is told what the layers
                promise; with some, what they keep: the fast engine is compared with
                gradients of single samples.
        """
        if x is not None:
            self._check(x, None)
            self._engines.verify(x)
        return self._engines.explain()

    def selected_and_fixed_parameters(
        self,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The parameters that are differentiated; all other parameters and buffers.

        Both are detached, by name, as ``torch.func.functional_call`` takes them.
        """
        return FunctionalEngine(self.model, list(self.layout.shapes)).split_parameters()

    @torch.no_grad()
    def reduced(
        self, x: Tensor, reduction: Reduction, labels: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits and reduced gradients; no more than a chunk is alive unreduced.

        Args:
            x: ``(N, ...)``.
            reduction: what is kept of each block.
            labels: ``(N, C)``; None takes all K.

        Returns:
            ``(N, K)``, and block name -> ``(N, C, size)``.

        Raises:
            GradnetError: see :meth:`logits_and_gradients`.
        """
        labels, num_logits = self._check(x, labels)
        out = {
            block.name: torch.empty(
                *labels.shape,
                reduction.size_of(block),
                dtype=self.dtype,
                device=x.device,
            )
            for block in self.layout.blocks
        }
        logits = []
        for part in self._parts(x, labels, reduction):
            found, reduced = self._reduce(x[part], labels[part], reduction)
            logits.append(found)
            for name, values in reduced.items():
                out[name][part] = values
        return torch.cat(logits) if logits else self._no_logits(x, num_logits), out

    @torch.no_grad()
    def samples_per_chunk(
        self, x: Tensor, labels: Tensor, reduction: Reduction | None = None
    ) -> int:
        """How many samples fit the memory, measured on one at one and at two labels."""
        if not labels.numel():
            return max(1, len(x))
        about = None if reduction is None else repr(reduction.to_dict())
        key = x.shape[1:], x.dtype, x.device, about

        def read(num_labels: int) -> None:
            at = labels[:1, :1].expand(1, num_labels)
            if reduction is None:
                self._differentiate(x[:1], at, self.allocate(1, num_labels, x.device))
            else:
                self._reduce(x[:1], at, reduction)

        self._engines.verify(x)
        return self.chunk_sizes.find(key, read, labels.shape[1], x.device)

    def _parts(
        self, x: Tensor, labels: Tensor, reduction: Reduction | None = None
    ) -> list[slice]:
        """The chunks, as slices of the samples."""
        if not len(x):
            return []
        size = self.samples_per_chunk(x, labels, reduction)
        return [slice(start, start + size) for start in range(0, len(x), size)]

    def _differentiate(
        self, x: Tensor, labels: Tensor, out: Mapping[str, Tensor]
    ) -> Tensor:
        """Write the gradients of one chunk into ``out``; return its logits."""
        logits, blocks = self._engines.read(x, labels, out)
        for block in blocks.values():
            for name in block.parts:
                block.form_parameter(name, out[name])
        return logits

    def _reduce(
        self, x: Tensor, labels: Tensor, reduction: Reduction
    ) -> tuple[Tensor, dict[str, Tensor]]:
        logits, blocks = self._engines.read(x, labels)
        return logits, {name: reduction.apply(block) for name, block in blocks.items()}

    def _check(self, x: Tensor, labels: Tensor | None) -> tuple[Tensor, int]:
        """The labels ``(N, C)`` to read, and the number of logits."""
        check_evaluation_mode(self.model)
        if x.is_floating_point() and not torch.isfinite(x).all():
            raise GradnetError("the input has values that are not finite")
        # A copy: the model may overwrite it.
        probe = x[:1].clone() if len(x) else x.new_zeros(1, *x.shape[1:])
        with torch.no_grad():
            logits = self.model(probe)
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits)
            raise GradnetError(f"the model returns {shape}, not logits (N, K)")
        return check_labels(labels, len(x), logits.shape[1], x.device), logits.shape[1]

    def _no_logits(self, x: Tensor, num_logits: int) -> Tensor:
        return x.new_empty(0, num_logits, dtype=self._engines.dtype)


def _size_of(labels: Tensor) -> tuple[int, int]:
    return labels.shape[0], labels.shape[1]
