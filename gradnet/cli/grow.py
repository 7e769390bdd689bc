"""``gradnet grow``: a network that grows while it trains, by one of several methods."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from gradnet.cli.arguments import option_value, parse_several
from gradnet.cli.options import print_table, run_folder
from gradnet.cli.trials import asks_for_trials, run_trials
from gradnet.core.constraints import Name, PathText, Range
from gradnet.core.files import write_text
from gradnet.core.validation import Seeds
from gradnet.data.problem import ProblemSettings, make_problem
from gradnet.errors import GradnetError
from gradnet.experiments.growth_study import GrowthStudy
from gradnet.growth import GROWTH
from gradnet.growth.method import GrowthMethod
from gradnet.growth.start import read_start


@dataclass(frozen=True)
class Grow(ProblemSettings):
    """Let a network grow while it trains; write its results, and a table of all runs.

    Attributes:
        name: of the row in the table; default: that of the method.
        seeds: one run for each.
        max_flops: train for as many steps as these FLOPs allow, without growth: for a
            network trained directly beside one that grew.
        start: begin with a trained network in place of the method's first one: a grown
            one, the file networks/seed-0/NAME.safetensors of another run; or weights
            of your own (.pt, .safetensors) for the network that the method's options
            describe, such as --model and --model_args. "{seed}" in the name stands for
            the seed. With --growth.first 0 it is edited at once. Methods that take
            a --model take any network; others go on from what their own options
            describe. A --model that is given has to be the one that this network grew
            from. It has to be given where the network has layers of your own: a file
            does not decide which code runs.
        accept_differences: continue a stopped run also where torch, gradnet, the number
            of threads or the device are others than when it began.
        out: the run folder; default: runs/growth- and the name of the data. Other
            methods, names and seeds may be added to a folder later.
    """

    name: Name | None = None
    seeds: Seeds = field(default_factory=lambda: [0])
    max_flops: Annotated[float, Range(above=0, at_most=1e30)] | None = None
    start: PathText | None = None
    accept_differences: bool = False
    out: PathText | None = None


def run_grow(arguments: Sequence[str]) -> None:
    """Parse what follows ``gradnet grow`` and do it.

    Raises:
        GradnetError: no such method, or something is wrong with the options.
    """
    known = ", ".join(GROWTH)
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(f"usage: gradnet grow METHOD [options]\n\nmethods: {known}\n")
        for method, kind in GROWTH.items():
            print(f"  {method:20} {(kind.__doc__ or '').partition(chr(10))[0]}")
        print("\ngradnet grow METHOD --help explains a method's options.")
        print(
            "With --data two-spirals, parity-N, ... many trials run at once; for their "
            "options:\ngradnet grow METHOD --data two-spirals --help"
        )
        return
    if name not in GROWTH:
        raise GradnetError(f"no growth method {name!r}; there are: {known}")
    if asks_for_trials(arguments):
        run_trials(name, arguments[1:])
        return
    (method, settings), config = parse_several(
        [GROWTH[name], Grow],
        f"gradnet grow {name}",
        arguments[1:],
        f"Example:\n    gradnet grow {name} --data digits --training.steps 200",
    )
    _grow(name, settings, method, config, option_value("--model", arguments))


def _grow(
    name: str, settings: Grow, method: GrowthMethod, config: str, model: str | None
) -> None:
    row = name if settings.name is None else settings.name
    out = settings.out or f"runs/growth-{run_folder(settings.data, None).name}"
    problem = make_problem(settings)
    study = GrowthStudy(problem, out, settings.accept_differences)
    probe = problem.augmentation.evaluate(problem.data.x_train[:2])
    for seed in settings.seeds:
        start = None
        if settings.start is not None:
            path = settings.start.replace("{seed}", str(seed))
            start = read_start(
                path, method, probe, problem.data.num_classes, seed=seed, model=model
            )
        study.run(row, method, seed, settings.max_flops, start)
        # Now it is known that the row was not made before with other options.
        write_text(Path(out) / "configs" / f"{row}.yaml", config)
    print_table(Path(out))
