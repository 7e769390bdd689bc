"""Ways to the gradients at all labels: ours, and what others offer.

A method takes a model in evaluation mode whose wanted parameters require gradients, and
inputs ``(N, ...)``. It gives back a function that computes, at each call, the gradients
of the cross-entropy of every sample at every label: parameter name -> ``(N, K,
*shape)``, or a list of K tensors ``(N, *shape)``, so that rivals need not stack them.
"""

import copy
import warnings
from collections.abc import Callable, Mapping
from functools import partial

import torch
from networks import NUM_CLASSES
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradnet.gradients.extractor import GradientExtractor

Gradients = Mapping[str, Tensor | list[Tensor]]
Run = Callable[[], Gradients]
Method = Callable[[nn.Module, Tensor], Run]
Chunks = Callable[[], list[Gradients]]


class Refused(Exception):
    """A rival cannot do it."""


def ours(
    model: nn.Module,
    x: Tensor,
    engine: str = "factored",
    reuse: bool = False,
    dtype: torch.dtype | None = None,
) -> Run:
    """Our extractor; with ``reuse`` it writes into the same memory at every call."""
    extractor = GradientExtractor(model, engine=engine, dtype=dtype)
    out = extractor.allocate(len(x), NUM_CLASSES, x.device) if reuse else None
    return lambda: extractor.logits_and_gradients(x, out=out)[1]


def ours_in_tf32(model: nn.Module, x: Tensor) -> Run:
    """Ours, with products of a GPU in TF32."""
    run = ours(model, x)

    def in_tf32() -> Gradients:
        allow_tf32(True)
        try:
            return run()
        finally:
            allow_tf32(False)

    return in_tf32


def allow_tf32(allowed: bool) -> None:
    """Whether a GPU may round the factors of float32 products to TF32."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def quiet() -> None:
    """Pass over what Opacus and BackPACK warn of, and we know."""
    for message in ("Full backward hook is firing", "Extension saving to grad_batch"):
        warnings.filterwarnings("ignore", message=message)


def wanted(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are differentiated, by name."""
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def summed_loss(logits: Tensor, label: int) -> Tensor:
    """The sum over samples, so that no gradient is divided by their number."""
    labels = torch.full((len(logits),), label, device=logits.device)
    return functional.cross_entropy(logits, labels, reduction="sum")


def opacus(
    model: nn.Module,
    x: Tensor,
    force_functorch: bool = False,
    num_classes: int = NUM_CLASSES,
) -> Run:
    """Opacus' ``grad_sample``; a forward pass a label, since its hooks use it up.

    Its hooks see nothing in evaluation mode, so the copy is in training mode, which
    changes nothing in networks that it accepts and that have no dropout.
    """
    from opacus.grad_sample import GradSampleModule

    module = GradSampleModule(
        copy.deepcopy(model).train(),
        loss_reduction="sum",
        force_functorch=force_functorch,
    )
    parameters = {n.removeprefix("_module."): p for n, p in wanted(module).items()}

    def run() -> Gradients:
        found: dict[str, list[Tensor]] = {name: [] for name in parameters}
        for label in range(num_classes):
            summed_loss(module(x), label).backward()
            for name, parameter in parameters.items():
                found[name].append(parameter.grad_sample)
                parameter.grad_sample = parameter.grad = None
        return found

    return run


def backpack(model: nn.Module, x: Tensor, num_classes: int = NUM_CLASSES) -> Run:
    """BackPACK's ``BatchGrad``; one forward pass, and a backward pass a label.

    Where layers write in place its own converter, and a copy that does not, are needed.
    """
    from backpack import backpack as enabled
    from backpack import extend
    from backpack.extensions import BatchGrad

    module = copy.deepcopy(model)
    in_place = [part for part in module.modules() if getattr(part, "inplace", False)]
    for part in in_place:
        part.inplace = False
    module = extend(module, use_converter=bool(in_place))
    parameters = wanted(module)

    def run() -> Gradients:
        found: dict[str, list[Tensor]] = {name: [] for name in parameters}
        with enabled(BatchGrad(), retain_graph=True):
            logits = module(x)
            for label in range(num_classes):
                last = label == num_classes - 1
                summed_loss(logits, label).backward(retain_graph=not last)
                for name, parameter in parameters.items():
                    if not hasattr(parameter, "grad_batch"):
                        layer = module.get_submodule(name.rpartition(".")[0])
                        kind = type(layer).__name__
                        raise Refused(f"no extension for {kind}, which has {name}")
                    found[name].append(parameter.grad_batch)
                    parameter.grad = None
                    del parameter.grad_batch
        return found

    return run


def _split(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What is differentiated, and the other parameters and buffers; both detached."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    read = {name: tensor.detach() for name, tensor in wanted(model).items()}
    return read, {n: t.detach() for n, t in state.items() if n not in read}


def vmap_of_grad(model: nn.Module, x: Tensor) -> Run:
    """The tutorial's form: ``vmap`` over samples of ``grad``, in a loop over labels."""
    read, rest = _split(model)

    def loss(weights: dict[str, Tensor], sample: Tensor, label: int) -> Tensor:
        logits = functional_call(model, {**weights, **rest}, (sample[None],))
        return summed_loss(logits, label)

    def run() -> Gradients:
        found: dict[str, list[Tensor]] = {name: [] for name in read}
        for label in range(NUM_CLASSES):
            by_sample = vmap(grad(partial(loss, label=label)), in_dims=(None, 0))
            with sdpa_kernel(SDPBackend.MATH):  # vmap knows no other attention
                gradients = by_sample(read, x)
            for name, gradient in gradients.items():
                found[name].append(gradient)
        return found

    return run


def vmap_over_cotangents(model: nn.Module, x: Tensor) -> Run:
    """``vmap`` over samples of ``vjp``, and over the cotangents of all its labels."""
    read, rest = _split(model)
    labels = torch.eye(NUM_CLASSES, device=x.device)

    def of_one(sample: Tensor) -> dict[str, Tensor]:
        def logits_of(weights: dict[str, Tensor]) -> Tensor:
            return functional_call(model, {**weights, **rest}, (sample[None],))[0]

        logits, pull_back = vjp(logits_of, read)
        return vmap(pull_back)(logits.softmax(0) - labels)[0]

    def run() -> Gradients:
        with sdpa_kernel(SDPBackend.MATH):  # vmap knows no other attention
            return vmap(of_one)(x)

    return run


def loop(model: nn.Module, x: Tensor) -> Run:
    """A forward pass a sample, and a backward pass a label."""
    parameters = wanted(model)

    def run() -> Gradients:
        rows: dict[str, list[Tensor]] = {name: [] for name in parameters}
        for sample in x:
            logits = model(sample[None])
            for label in range(NUM_CLASSES):
                last = label == NUM_CLASSES - 1
                found = torch.autograd.grad(
                    summed_loss(logits, label),
                    list(parameters.values()),
                    retain_graph=not last,
                )
                for name, gradient in zip(parameters, found, strict=True):
                    rows[name].append(gradient)
        return {
            name: torch.stack(found).unflatten(0, (len(x), NUM_CLASSES))
            for name, found in rows.items()
        }

    return run


def in_chunks(method: Method, model: nn.Module, x: Tensor, size: int) -> Chunks:
    """A method on ``size`` samples at a time; what all chunks gave stays alive."""
    runs = [method(model, chunk) for chunk in x.split(size)]
    return lambda: [run() for run in runs]


HEADLINE = "ours"
METHODS: Mapping[str, Method] = {
    HEADLINE: ours,
    "ours, memory used again": partial(ours, reuse=True),
    "ours, torch.func engine": partial(ours, engine="func"),
    "Opacus, hooks": opacus,
    "Opacus, functorch": partial(opacus, force_functorch=True),
    "BackPACK BatchGrad": backpack,
    "vmap of grad": vmap_of_grad,
    "vmap over cotangents": vmap_over_cotangents,
    "loop": loop,
}

ON_A_GPU: Mapping[str, Method] = {
    "ours, TF32": ours_in_tf32,
    "ours, bfloat16": partial(ours, dtype=torch.bfloat16),
}


def stacked(gradients: Gradients) -> dict[str, Tensor]:
    """Parameter name -> ``(N, K, *shape)``, whatever form a method chose."""
    return {
        name: found if isinstance(found, Tensor) else torch.stack(found, dim=1)
        for name, found in gradients.items()
    }


def relative_error(actual: Gradients, expected: Gradients) -> float:
    """The largest over parameters, in units of the length of the expected one.

    Raises:
        Refused: other parameters than were expected.
    """
    found, right = stacked(actual), stacked(expected)
    if found.keys() != right.keys():
        raise Refused(f"differs in {sorted(found.keys() ^ right.keys())}")
    return max(
        float((found[name].to(g.dtype) - g).norm() / g.norm())
        for name, g in right.items()
    )
