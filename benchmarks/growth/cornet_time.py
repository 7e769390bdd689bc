"""Training time of cornet and pronet beside the full ResNet-14, in one run.

Every stage's training step is timed on synthetic images of CIFAR-10's shape, in turn
with all others, and its median weighted by the steps that the published schedule (500,
then every 501, of 7,820) gives to it. With a kept trunk the passes that fill it, over
50,000 images a stage, are counted in.

    python benchmarks/growth/cornet_time.py --width 8 --threads 1
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.core.files import write_json
from gradnet.core.flops import forward_flops, training_flops
from gradnet.core.reproducibility import hardware, versions
from gradnet.growth.frozen_trunk import children_between, trunk_length
from gradnet.growth.method import EditContext, GrowthHistory
from gradnet.growth.methods.cornet import CornetAsPublished, PronetAsPublished
from gradnet.training.supervised import set_training_mode

IMAGES = 50_000
BATCH = 64


@dataclass
class Stage:
    """A stage's networks: what trains, and what fills its trunk, if kept."""

    steps: int
    module: nn.Module
    inputs: Tensor
    filling: nn.Module | None = None
    filling_inputs: Tensor | None = None


def stages_of(method: CornetAsPublished, images: Tensor, keeps: bool) -> list[Stage]:
    """Each stage's network as it trains, frozen as the method says."""
    model = method.initial_model((3, 32, 32), 10)
    history = GrowthHistory(method.training.steps)
    stages, length = [], 0
    for number in range(method.edits + 1):
        history.stage = number
        steps = method.latest_step(history) - history.start
        method.freeze(model, number)
        trained = copy.deepcopy(model)
        stage = Stage(steps, trained, images)
        if keeps and (now := trunk_length(trained)):
            with torch.no_grad():
                passed = children_between(trained, 0, now).eval()(images)
                fed = (
                    children_between(trained, 0, length).eval()(images)
                    if length
                    else images
                )
            rest = children_between(trained, now, len(trained))
            filling = children_between(trained, length, now) if now > length else None
            stage = Stage(steps, rest, passed, filling, fed)
            length = now
        stages.append(stage)
        history.start += steps
        if number < method.edits:
            model = method.edit(model, EditContext(number + 1, images, 0)).model
    return stages


def step_of(stage: Stage, device: torch.device) -> Callable[[], None]:
    """One training step of a stage."""
    labels = torch.arange(BATCH, device=device) % 10
    trained = [p for p in stage.module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained)

    def step() -> None:
        set_training_mode(stage.module)
        optimizer.zero_grad()
        functional.cross_entropy(stage.module(stage.inputs), labels).backward()
        optimizer.step()

    return step


def fill_of(stage: Stage) -> Callable[[], None]:
    """One batch of the pass that fills a stage's trunk."""
    assert stage.filling is not None
    filling, inputs = stage.filling.eval(), stage.filling_inputs

    def fill() -> None:
        with torch.no_grad():
            filling(inputs)

    return fill


def seconds(call: Callable[[], None], device: torch.device) -> float:
    """Of one call, with the device's work done."""
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(width: int, rounds: int, device: torch.device) -> dict[str, object]:
    """Times and FLOPs of all arms, and their ratios to the full network's."""
    torch.manual_seed(0)
    images = torch.randn(BATCH, 3, 32, 32, device=device)
    full = CornetAsPublished(width=width, initial_blocks=14, final_blocks=14)
    arms = {
        "resnet14": stages_of(full, images, False),
        "pronet": stages_of(PronetAsPublished(width=width), images, False),
        "cornet": stages_of(CornetAsPublished(width=width), images, False),
        "cornet, kept trunk": stages_of(CornetAsPublished(width=width), images, True),
    }
    for stages in arms.values():
        for stage in stages:
            stage.module.to(device)
    calls, weights, flops = {}, {}, dict.fromkeys(arms, 0.0)
    for arm, stages in arms.items():
        for number, stage in enumerate(stages):
            calls[arm, number, "step"] = step_of(stage, device)
            weights[arm, number, "step"] = stage.steps
            cost = training_flops(stage.module, stage.inputs).total
            flops[arm] += stage.steps * BATCH * cost
            if stage.filling is not None and stage.filling_inputs is not None:
                cost = forward_flops(stage.filling, stage.filling_inputs)
                flops[arm] += IMAGES * cost
                calls[arm, number, "fill"] = fill_of(stage)
                weights[arm, number, "fill"] = IMAGES / BATCH
    times: dict[tuple[str, int, str], list[float]] = {key: [] for key in calls}
    for turn in range(rounds + 1):
        for key, call in calls.items():
            spent = seconds(call, device)
            if turn:  # the first round warms up
                times[key].append(spent)
    totals = dict.fromkeys(arms, 0.0)
    for key, spent_times in times.items():
        totals[key[0]] += weights[key] * statistics.median(spent_times)
    return {
        "width": width,
        "seconds": totals,
        "time_ratio": {arm: totals[arm] / totals["resnet14"] for arm in arms},
        "flops_ratio": {arm: flops[arm] / flops["resnet14"] for arm in arms},
    }


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--out", default="benchmarks/results/growth/cornet_time.json", type=Path
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    result = measure(options.width, options.rounds, device)
    for arm, ratio in result["time_ratio"].items():  # type: ignore[attr-defined]
        counted = result["flops_ratio"][arm]  # type: ignore[index]
        print(f"{arm:20} time {ratio:.3f}   FLOPs {counted:.3f}")
    facts = {"hardware": hardware(device), "versions": versions()}
    write_json(options.out, {**result, **facts, "rounds": options.rounds})


if __name__ == "__main__":
    main()
