"""GradientExtractor: per-sample loss gradients for any candidate label, in chunks.

``dispatch`` chooses the engine that reads a parameter; ``layout`` defines the letters.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from gradnet.core.memory import ChunkSizes
from gradnet.errors import InvalidInputError
from gradnet.gradients.cotangents import CROSS_ENTROPY, LOSSES, Loss
from gradnet.gradients.dispatch import EngineName, Engines, ParameterPath
from gradnet.gradients.factors import FactoredBlock
from gradnet.gradients.functional import FunctionalEngine
from gradnet.gradients.inputs import check_inputs
from gradnet.gradients.layout import BlockLayout, allocate
from gradnet.gradients.projections import Reduction


class GradientExtractor:
    """Reads the loss gradients of single samples from a trained network.

    The gradient feature of a sample x and a candidate label c is the gradient of the
    loss at (x, c) with respect to the weights (arXiv 1912.09306, section 2): a
    vector-Jacobian product of the label cotangent. All labels of a sample share one
    forward pass.

    Args:
        model: maps ``(N, ...)`` to logits ``(N, K)``; it is not modified.
        layers: name patterns of the layers to read, see :meth:`BlockLayout.of`.
        biases: read the biases too.
        loss: a name of :data:`gradnet.gradients.LOSSES`, or a function of logits
            ``(K,)`` and a label ``()`` that returns a scalar.
        weight_decay: adds ``weight_decay * W`` to each gradient, as the 2018 code did
            (5e-4).
        chunk_size: samples that are differentiated at once; None measures how many fit
            ``max_memory``. Results depend on it by rounding only.
        engine: ``"func"`` (any module), ``"factored"`` (fast, the usual layers), or
            ``"auto"``: the fast one for the layers that it can read. See
            :meth:`explain`.
        max_memory: of one chunk with its gradients, in bytes or such as ``"2GB"``; a
            chunk has at least one sample.
        dtype: of the gradients; None takes that of the weights. With
            ``torch.bfloat16`` the fast engine multiplies in bfloat16 too.

    Raises:
        InvalidInputError: a pattern matches no layer, there is nothing to read, or an
            argument is out of its range.

    Example:
        >>> model = nn.Linear(2, 3)
        >>> _ = nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> gradients = GradientExtractor(model).all_labels(x)["weight"]
        >>> gradients.shape  # N samples, K labels, and the shape of the weight
        torch.Size([1, 3, 3, 2])
        >>> gradients[0, 0]  # (softmax(z) - onehot(0)) times x
        tensor([[-0.6667, -1.3333],
                [ 0.3333,  0.6667],
                [ 0.3333,  0.6667]])
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
            InvalidInputError: see :meth:`logits_and_gradients`.
        """
        if labels.dim() != 1:
            raise InvalidInputError(
                f"labels are {tuple(labels.shape)}; they must be (N,)"
            )
        _, gradients = self.logits_and_gradients(x, labels[:, None])
        return {name: gradient[:, 0] for name, gradient in gradients.items()}

    def all_labels(self, x: Tensor) -> dict[str, Tensor]:
        """The gradients of each sample at all labels.

        Args:
            x: ``(N, ...)``.

        Returns:
            Parameter name -> ``(N, K, *shape)``.

        Raises:
            InvalidInputError: see :meth:`logits_and_gradients`.
        """
        return self.logits_and_gradients(x)[1]

    @torch.no_grad()
    def logits_and_gradients(
        self,
        x: Tensor,
        labels: Tensor | None = None,
        out: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits and gradients at the given labels, by one forward pass.

        Args:
            x: ``(N, ...)``.
            labels: ``(N, C)``, from 0 to K - 1; None takes all K.
            out: tensors to write the gradients to, see :meth:`allocate`; to reuse them
                is faster than to allocate new ones.

        Returns:
            ``(N, K)``, and parameter name -> ``(N, C, *shape)``.

        Raises:
            InvalidInputError: a layer changes from call to call (BatchNorm in training
                mode, active dropout), a label is out of range, an input is not finite,
                the model does not return ``(N, K)``, or the requested engine cannot
                read a layer.
        """
        labels, num_logits = check_inputs(self.model, x, labels)
        if out is None:
            out = self.allocate(len(labels), labels.shape[1], x.device)
        logits = []
        for part in self._parts(x, labels):
            target = {name: gradient[part] for name, gradient in out.items()}
            logits.append(self._engines.read_into(x[part], labels[part], target))
        return torch.cat(logits) if logits else self._no_logits(x, num_logits), out

    @torch.no_grad()
    def chunks(
        self, x: Tensor, labels: Tensor | None = None
    ) -> Iterator[tuple[slice, Tensor, dict[str, Tensor]]]:
        """Logits and gradients, chunk by chunk; each chunk overwrites the last.

        Args:
            x: ``(N, ...)``.
            labels: ``(N, C)``; None takes all K.

        Yields:
            The slice of samples, their logits ``(n, K)``, and parameter name -> ``(n,
            C, *shape)``.

        Raises:
            InvalidInputError: see :meth:`logits_and_gradients`.
        """
        labels, _ = check_inputs(self.model, x, labels)
        parts = self._parts(x, labels)
        size = len(x[parts[0]]) if parts else 0
        buffers = self.allocate(size, labels.shape[1], x.device)
        for part in parts:
            count = len(x[part])
            out = {name: buffer[:count] for name, buffer in buffers.items()}
            yield part, self._engines.read_into(x[part], labels[part], out), out

    @torch.no_grad()
    def factored_blocks(
        self, x: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, dict[str, FactoredBlock]]:
        """Logits and gradients that are not formed yet, of all samples at once.

        Contraction with weights, projection and norms can do without forming them. What
        only the general engine can read is formed here.

        Args:
            x: ``(N, ...)``, few enough that all of it fits in memory.
            labels: ``(N, C)``; None takes all K.

        Returns:
            ``(N, K)``, and block name -> its gradients as factors.

        Raises:
            InvalidInputError: see :meth:`logits_and_gradients`.
        """
        labels, _ = check_inputs(self.model, x, labels)
        return self._engines.read(x, labels)

    def allocate(
        self, num_samples: int, num_labels: int, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """Uninitialized memory for gradients: parameter name -> ``(N, C, *shape)``.

        It can be given as ``out`` to :meth:`logits_and_gradients` any number of times.
        """
        count = num_samples, num_labels
        return allocate(self.layout.shapes, count, self.dtype, device)

    def explain(self, x: Tensor | None = None) -> list[ParameterPath]:
        """Which engine reads which parameter, and why.

        Args:
            x: a few samples ``(N, ...)``, on which the fast engine is first compared
                with the gradients of single samples; None explains by the kinds of the
                layers alone.
        """
        if x is not None:
            check_inputs(self.model, x, None)
            self._engines.verify(x)
        return self._engines.explain()

    def selected_and_fixed_parameters(
        self,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The parameters to read; all other parameters and buffers; all detached."""
        return FunctionalEngine(self.model, list(self.layout.shapes)).split_parameters()

    @torch.no_grad()
    def reduced(
        self, x: Tensor, reduction: Reduction, labels: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits and reduced gradients; one chunk at a time is in memory unreduced.

        Args:
            x: ``(N, ...)``.
            reduction: what is kept of each block.
            labels: ``(N, C)``; None takes all K.

        Returns:
            ``(N, K)``, and block name -> ``(N, C, size)``.

        Raises:
            InvalidInputError: see :meth:`logits_and_gradients`.
        """
        labels, num_logits = check_inputs(self.model, x, labels)
        sizes = {b.name: (reduction.size_of(b),) for b in self.layout.blocks}
        out = allocate(sizes, labels.shape, self.dtype, x.device)
        logits = []
        for part in self._parts(x, labels, reduction):
            at = x[part], labels[part]
            found, reduced = self._engines.read_reduced(*at, reduction)
            logits.append(found)
            for name, values in reduced.items():
                out[name][part] = values
        return torch.cat(logits) if logits else self._no_logits(x, num_logits), out

    @torch.no_grad()
    def samples_per_chunk(
        self, x: Tensor, labels: Tensor, reduction: Reduction | None = None
    ) -> int:
        """How many samples fit ``max_memory``, measured on one at one and two labels.

        Args:
            x: ``(N, ...)``.
            labels: ``(N, C)``.
            reduction: what is kept of each block; None keeps all.
        """
        if not labels.numel():
            return max(1, len(x))
        about = None if reduction is None else repr(reduction.to_dict())
        key = x.shape[1:], x.dtype, x.device, about

        def read(num_labels: int) -> None:
            at = labels[:1, :1].expand(1, num_labels)
            if reduction is None:
                out = self.allocate(1, num_labels, x.device)
                self._engines.read_into(x[:1], at, out)
            else:
                self._engines.read_reduced(x[:1], at, reduction)

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

    def _no_logits(self, x: Tensor, num_logits: int) -> Tensor:
        return x.new_empty(0, num_logits, dtype=self._engines.dtype)
