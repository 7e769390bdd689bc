"""A walk over the options of all commands: nonsense ends in one line each."""

import importlib
import random
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gradnet.cli.arguments import parse_several
from gradnet.cli.commands import COMMANDS
from gradnet.cli.grow import Grow
from gradnet.cli.main import main
from gradnet.cli.trials import TrialSettings
from gradnet.constructive.cascade.settings import SpiralCascadeSettings
from gradnet.constructive.node_creation import NodeCreationSettings
from gradnet.core.validation import Validated, describe_type, hints_of
from gradnet.errors import InvalidInputError
from gradnet.growth import GROWTH

NONSENSE = ["-1", "0", "nan", "inf", "1e300", "100000000000", "x", "", "[]", "{a: 1}"]
NONSENSE += [
    "null",
    "\udcff",
    "../../x",
    "$x^$",
    "-5 nan",
    "1e-300",
    "true",
    "[1, [2]]",
]
# What makes each command quick where it accepts a value.
QUICK = {
    "reproduce": [
        "--training.steps",
        "2",
        "--max_epochs",
        "0.01",
        "--controls",
        "null",
    ],
    "train-base": ["--training.steps", "2"],
    "fit": ["missing.safetensors"],
    "evaluate": ["missing.safetensors"],
    "table": ["missing"],
    "check": ["--model", "mlp", "--data", "digits", "--samples", "2"],
    "extract": ["--model", "mlp", "--data", "digits", "--limit", "2", "--out", "store"],
    "inspect": ["missing"],
    "import-weights": ["--weights", "missing.pt"],
    "recipe": ["default"],
}
QUICK_TRIALS = {
    "cascade-correlation": ["--max_units", "1", "--outputs.epochs", "2"],
    "node-creation": ["--max_sweeps", "2"],
}
Case = tuple[list[type[Any]], list[str]]


def cases() -> Iterator[Case]:
    """The settings of each command, and arguments that make it quick."""
    for name, arguments in QUICK.items():
        entry = COMMANDS[name]
        module = importlib.import_module(f"gradnet.cli.{entry.module}")
        yield [getattr(module, entry.name)], [name, *arguments]
    for method, kind in GROWTH.items():
        yield [kind, Grow], ["grow", method, "--training.steps", "2"]
    trials = [SpiralCascadeSettings, NodeCreationSettings]
    for kind, (method, arguments) in zip(trials, QUICK_TRIALS.items(), strict=True):
        quick = ["grow", method, "--data", "xor", "--trials", "2", *arguments]
        yield [kind, TrialSettings], quick


CASES = list(cases())
NAMES = [" ".join(arguments[:2]) for _, arguments in CASES]


def options(kind: type[Any], prefix: str = "--") -> Iterator[tuple[str, Any]]:
    """Option -> annotation, those of nested settings too."""
    for name, hint in hints_of(kind).items():
        parts = [
            p for p in (hint, *typing.get_args(hint)) if typing.get_origin(p) is None
        ]
        inner = [p for p in parts if isinstance(p, type) and issubclass(p, Validated)]
        if inner:
            yield from options(inner[0], f"{prefix}{name}.")
        else:
            yield prefix + name, hint


def is_number(hint: Any) -> bool:
    return describe_type(hint).startswith(("a whole number", "a number"))


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_numbers_out_of_range_are_refused_by_the_name_of_the_option(case: Case) -> None:
    kinds, arguments = case
    known = [o for kind in kinds for o, hint in options(kind) if is_number(hint)]
    for option in known[:1]:
        given = [*arguments[2 if arguments[0] == "grow" else 1 :], option, "-7"]
        with pytest.raises(InvalidInputError) as caught:
            parse_several(kinds, "gradnet", given)
        assert str(caught.value).startswith(f"{option} is -7")
        assert "it must be >" in str(caught.value) and "\n" not in str(caught.value)


def test_help_says_the_range_of_each_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["grow", "net2deeper", "--help"])
    text = "".join(capsys.readouterr().out.split())
    for option, hint in [*options(GROWTH["net2deeper"]), *options(Grow)]:
        # The first is the usage; an example may follow the description.
        _, *descriptions = text.split(option)
        allowed = "".join(describe_type(hint).replace("None", "null").split())
        if "number" in allowed:
            assert any(allowed in found[:600] for found in descriptions), option


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_every_option_takes_nonsense_without_a_traceback(
    case: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kinds, arguments = case
    given = [
        f"{option}={value}"
        for kind in kinds
        for option, _ in options(kind)
        for value in random.Random(option).sample(NONSENSE, 2)
    ]
    for number, nonsense in enumerate(given):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        capsys.readouterr()
        try:
            main([*arguments, nonsense])
        except SystemExit as stop:
            lines = capsys.readouterr().err.strip().splitlines()
            told = [line for line in lines if "gradnet: error:" in line]
            assert stop.code == 2 and len(told) == 1, (nonsense, lines[-3:])
            assert len(lines) - lines.index(told[0]) <= 3
        assert not list(folder.glob("gradnet-report*")), nonsense
        assert not list(tmp_path.glob("x*")), nonsense
