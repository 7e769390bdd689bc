"""ResNet-18 with projected blocks: time, memory, and how well inner products are kept.

    python benchmarks/projection.py --images 1000

Runs torchvision's ResNet-18 (11.7 M parameters, random weights) on random images, 10
labels, and prints what the peak of the process was. Inner products of projected
gradients are compared with the exact ones on a few images.
"""

import argparse
import importlib
import resource
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from gradnet.core.files import write_json
from gradnet.core.reproducibility import hardware, versions
from gradnet.core.torchvision import import_torchvision
from gradnet.gradients.extractor import GradientExtractor
from gradnet.gradients.projections import Projection

EXACT_IMAGES = 3


def peak_megabytes() -> float:
    """The most memory that the process has taken so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def inner_product_errors(
    model: nn.Module, x: Tensor, projections: list[Projection]
) -> dict[str, float]:
    """Root mean square error by block, in units of the product of both lengths."""
    total: dict[str, Tensor] = {}
    extractor = GradientExtractor(model, chunk_size=1)
    exact = {
        name: torch.cat(
            [
                extractor.layout.to_blocks(extractor.all_labels(row[None]))[name]
                for row in x
            ]
        ).flatten(0, 1)
        for name in extractor.layout.names
    }
    for projection in projections:
        _, projected = extractor.reduced(x, projection)
        for name, rows in exact.items():
            lengths = rows.norm(dim=1)
            kept = projected[name].flatten(0, 1)
            error = (kept @ kept.T - rows @ rows.T) / torch.outer(lengths, lengths)
            total[name] = total.get(name, torch.zeros(())) + error.square().mean()
    return {name: float((t / len(projections)).sqrt()) for name, t in total.items()}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--size", type=int, default=512, help="numbers a block")
    parser.add_argument("--max-memory", default="256MB", help="of one chunk")
    parser.add_argument("--seeds", type=int, default=5, help="for the inner products")
    parser.add_argument("--out", default="benchmarks/results/projection.json")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    import_torchvision()  # mends the import of torchvision
    models = importlib.import_module("torchvision.models")
    model = models.resnet18(num_classes=10).eval()
    side = arguments.image_size
    images = torch.randn(arguments.images, 3, side, side)
    extractor = GradientExtractor(model, max_memory=arguments.max_memory)
    projection = Projection(arguments.size)
    before = peak_megabytes()
    start = time.perf_counter()
    _, projected = extractor.reduced(images, projection)
    seconds = time.perf_counter() - start
    peak = peak_megabytes()
    coordinates = sum(block.shape[-1] for block in projected.values())
    gradients = arguments.images * 10
    errors = inner_product_errors(
        model,
        images[:EXACT_IMAGES],
        [Projection(arguments.size, seed=seed) for seed in range(arguments.seeds)],
    )
    reduced = [n for n, b in projected.items() if b.shape[-1] == arguments.size]
    worst = max(errors[name] for name in reduced)
    bound = (8 / arguments.size) ** 0.5
    print(
        f"{gradients} gradients of {extractor.layout.size} coordinates to {coordinates}"
    )
    print(f"{seconds:.0f} s, {gradients / seconds:.0f} gradients/s")
    print(f"peak of the process {peak:.0f} MB (before: {before:.0f} MB)")
    print(f"error of inner products: at most {worst:.4f} a block, bound {bound:.4f}")
    result = {
        **vars(arguments),
        "seconds": round(seconds, 1),
        "gradients_per_second": round(gradients / seconds, 1),
        "peak_megabytes": round(peak),
        "megabytes_before": round(before),
        "coordinates": coordinates,
        "inner_product_error_by_block": {n: round(e, 4) for n, e in errors.items()},
        "inner_product_error_bound": round(bound, 4),
        "hardware": hardware(images.device),
        "versions": versions(),
    }
    write_json(Path(arguments.out), result)


if __name__ == "__main__":
    main()
