"""Gradients at all labels: this engine, Opacus, BackPACK, torch.func and a loop.

    python benchmarks/extraction.py
    python benchmarks/extraction.py --networks cnn2018 --rounds 9 --threads 2
    python benchmarks/extraction.py --device cuda --networks cnn2018 resnet18

All in one run and in turn, medians over rounds; gradients of the weights, no biases, of
every sample at all 10 labels. Each rival is compared with ours before it is timed, and
each method takes as many samples at a time as are fastest for it. The floor is the time
that the method's operations take at the rate of a large matrix product of the same run.
Needs ``pip install -e '.[peers]'``.
"""

import argparse
import gc
import statistics
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from measure import (
    Ceilings,
    best_chunk,
    count_flops,
    interleaved,
    peak_megabytes,
    start_process_server,
    synchronize,
)
from methods import (
    HEADLINE,
    METHODS,
    ON_A_GPU,
    Method,
    allow_tf32,
    in_chunks,
    quiet,
    relative_error,
    wanted,
)
from networks import NETWORKS, NUM_CLASSES, make
from torch import Tensor, nn

from gradnet.core.files import write_json
from gradnet.core.reproducibility import hardware, resolve_device, versions

# Of the largest relative difference from ours, in float32 and with rounder products.
TOLERANCE, ROUND_TOLERANCE = 1e-4, 3e-2
COMPARED_SAMPLES = 2
LOOP_SAMPLES = 2  # a loop takes so long that it is timed on these and scaled


def methods_on(device: torch.device) -> dict[str, Method]:
    """Those to be compared, by name."""
    return {**METHODS, **(ON_A_GPU if device.type == "cuda" else {})}


def verified(
    methods: dict[str, Method], model: nn.Module, x: Tensor
) -> Iterator[tuple[str, float | None, str]]:
    """Each method's relative difference from ours, or why it refuses.

    Yields:
        Its name, the difference or None, the reason or an empty text.
    """
    few = x[:COMPARED_SAMPLES]
    expected = METHODS[HEADLINE](model, few)()
    for name, method in methods.items():
        try:
            error = relative_error(method(model, few)(), expected)
        except Exception as refusal:  # a rival may raise anything
            first = str(refusal).strip("[]").split("\n")[0][:200]
            yield name, None, f"{type(refusal).__name__}: {first}"
            continue
        tolerance = ROUND_TOLERANCE if name in ON_A_GPU else TOLERANCE
        wrong = f"wrong: differs by {error:.1e}" if not error <= tolerance else ""
        yield name, error, wrong


def compare(
    network: str, count: int, device: torch.device, rounds: int
) -> dict[str, Any]:
    """Times of all methods that can do it, on ``count`` samples."""
    model, x = make(network, count, device)
    rows: dict[str, dict[str, Any]] = {}
    ceilings = Ceilings(device)
    functions = dict(ceilings.functions)
    for function in functions.values():
        function()
    methods = methods_on(device)
    for name, error, refusal in verified(methods, model, x):
        rows[name] = {"method": name, "error": error, "refusal": refusal}
        if refusal:
            continue
        samples = x[:LOOP_SAMPLES] if name == "loop" else x
        rows[name]["samples"] = len(samples)
        chunk = rows[name]["chunk"] = best_chunk(methods[name], model, samples)
        allocated = _gpu_memory(device)
        functions[name] = in_chunks(methods[name], model, samples, chunk)
        functions[name]()  # the first call prepares
        if device.type == "cuda" and name != "loop":
            rows[name]["peak_mb"] = _gpu_memory(device, peak=True) - allocated
        gc.collect()
    seconds = interleaved(functions, rounds, device)
    for name in rows:
        if name in seconds:
            scale = count / rows[name].pop("samples")
            rows[name]["all_seconds"] = [round(scale * s, 5) for s in seconds[name]]
            rows[name]["seconds"] = scale * statistics.median(seconds[name])
    coordinates = sum(parameter.numel() for parameter in wanted(model).values())
    return {
        "network": network,
        "batch": count,
        "gradients": count * NUM_CLASSES,
        "coordinates": coordinates,
        "flops": count_flops(model, x),
        "output_bytes": 4 * count * NUM_CLASSES * coordinates,
        "ceilings": ceilings.rates(seconds),
        "rows": list(rows.values()),
    }


def _gpu_memory(device: torch.device, peak: bool = False) -> float:
    """MB of a GPU now, or at most since it was last asked; 0 elsewhere."""
    if device.type != "cuda":
        return 0.0
    synchronize(device)
    most = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return (most if peak else torch.cuda.memory_allocated(device)) / 1e6


def add_memory(group: dict[str, Any], threads: int) -> None:
    """The peak memory of each method, in a process of its own (CPU)."""
    for row in group["rows"]:
        if row["refusal"] or row["method"] == "loop":
            continue
        try:
            row["peak_mb"] = peak_megabytes(
                row["method"],
                group["network"],
                group["batch"],
                row["chunk"],
                threads,
            )
        except Exception as error:
            row["peak_mb"], row["memory_error"] = None, repr(error)


def add_rates(group: dict[str, Any]) -> None:
    """Gradients a second, ratios, and how far from the ceilings."""
    ceilings = group["ceilings"]
    group["floor_seconds"] = group["flops"] / ceilings["matrix product"]
    group["write_floor_seconds"] = group["output_bytes"] / ceilings["copy"]
    timed = {row["method"]: row for row in group["rows"] if "seconds" in row}
    for row in timed.values():
        row["gradients_per_second"] = group["gradients"] / row["seconds"]
        row["times_ours"] = row["seconds"] / timed[HEADLINE]["seconds"]
        row["times_floor"] = row["seconds"] / group["floor_seconds"]
        row["flops_per_second"] = group["flops"] / row["seconds"]
        share = 0.5 if "bfloat16" in row["method"] else 1.0
        row["bytes_per_second"] = share * group["output_bytes"] / row["seconds"]


def show(group: dict[str, Any]) -> None:
    """Print the table of a network and batch."""
    print(
        f"\n{group['network']}, batch {group['batch']}: {group['gradients']} gradients "
        f"of {group['coordinates']} weights, {group['output_bytes'] / 1e6:.0f} MB"
    )
    for name, rate in group["ceilings"].items():
        unit = "GB/s" if name == "copy" else "GFLOP/s"
        print(f"  {name}: {rate / 1e9:.1f} {unit}", end="")
    print(
        f"\n  floor {group['floor_seconds']:.4f} s ({group['flops'] / 1e9:.1f} GFLOP); "
        f"writing alone {group['write_floor_seconds']:.4f} s"
    )
    print(
        f"  {'':26}{'gradients/s':>12}{'x ours':>8}{'x floor':>9}{'seconds':>10}"
        f"{'peak MB':>9}{'GFLOP/s':>9}{'GB/s':>7}{'error':>9}{'chunk':>7}"
    )
    for row in group["rows"]:
        if row["refusal"]:
            print(f"  {row['method']:26}  {row['refusal'][:90]}")
            continue
        peak = row.get("peak_mb")
        print(
            f"  {row['method']:26}{row['gradients_per_second']:12.1f}"
            f"{row['times_ours']:8.2f}{row['times_floor']:9.2f}{row['seconds']:10.4f}"
            f"{'-' if peak is None else format(peak, '.0f'):>9}"
            f"{row['flops_per_second'] / 1e9:9.1f}"
            f"{row['bytes_per_second'] / 1e9:7.2f}{row['error']:9.0e}"
            f"{row['chunk']:7d}"
        )


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS)
    )
    parser.add_argument("--batch", type=int, help="samples, instead of each network's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", default="benchmarks/results/extraction.json")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write; what is done is written as it comes."""
    arguments = parse_arguments()
    device = resolve_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    quiet()
    allow_tf32(False)
    if device.type == "cpu":
        start_process_server()
    installed = {name: version(name) for name in ("opacus", "backpack-for-pytorch")}
    facts = {
        **vars(arguments),
        "hardware": hardware(device),
        "versions": {**versions(), **installed},
    }
    groups = []
    for network in arguments.networks:
        batches = [arguments.batch] if arguments.batch else NETWORKS[network].batches
        for count in batches:
            group = compare(network, count, device, arguments.rounds)
            gc.collect()
            if device.type == "cpu":
                add_memory(group, arguments.threads)
            add_rates(group)
            show(group)
            groups.append(group)
            write_json(Path(arguments.out), {**facts, "groups": groups})


if __name__ == "__main__":
    main()
