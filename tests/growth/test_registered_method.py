"""A growth method of one's own gets a name by one call, and then is one of them."""

import subprocess
import sys
from dataclasses import asdict, dataclass

import pytest
from packages import write_package

from gradnet.errors import InvalidInputError
from gradnet.growth import GROWTH, _check_method, register_growth_method
from gradnet.growth.grown_header import make_method
from gradnet.growth.method import GrowthMethod
from gradnet.growth.methods.net2net import Net2Wider


@dataclass(frozen=True)
class _Mine(Net2Wider):
    mine: int = 3


@dataclass(frozen=True, kw_only=True)
class _WithoutDefault(Net2Wider):
    mine: int


@pytest.fixture
def own_method():
    register_growth_method("mine", _Mine)
    yield "mine"
    GROWTH.unregister("mine")


def test_a_registered_method_is_made_by_name(own_method):
    assert GROWTH[own_method] is _Mine
    assert make_method(own_method, asdict(_Mine(mine=4))) == _Mine(mine=4)
    with pytest.raises(InvalidInputError, match="'mine' exists already"):
        register_growth_method("mine", Net2Wider)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (int, "give a subclass of GrowthMethod"),
        (_Mine(), "give a subclass of GrowthMethod"),
        (_WithoutDefault, "a dataclass whose fields all have defaults"),
        (GrowthMethod, "does not define"),
    ],
)
def test_what_no_command_could_make_is_refused(method, reason):
    with pytest.raises(InvalidInputError, match=reason):
        register_growth_method("mine", method)
    assert "mine" not in GROWTH


@pytest.mark.parametrize("name", GROWTH)
def test_the_built_in_methods_hold_to_the_same_rules(name):
    _check_method(name, GROWTH[name])


def test_installed_packages_add_methods_that_the_command_lists(tmp_path):
    module = """
        from dataclasses import dataclass
        from gradnet.growth.methods.net2net import Net2Wider

        @dataclass(frozen=True)
        class Wider(Net2Wider):
            "Widens as they do."
    """
    points = {"their-wider": "theirs:Wider"}
    write_package(tmp_path, "theirs", module, "gradnet.growth_methods", points)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from gradnet.cli.main import main; main(['grow', '--help'])"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "their-wider          Widens as they do." in said
