"""Registries: built-in entries, registered ones, and those of installed packages."""

import importlib
import subprocess
import sys

import pytest
from packages import write_package

from gradnet.core.registry import Registry
from gradnet.errors import InvalidInputError

GROUP = "gradnet.test_shapes"


def _only_numbers(name: str, entry: object) -> None:
    if not isinstance(entry, int):
        raise InvalidInputError(f"{name} must be an int")


def _shapes(group: str | None = None) -> Registry[int]:
    return Registry("shape", {"square": 4}, group, check=_only_numbers)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a fake distribution on sys.path: its module and its entry points."""

    def _install(name: str, module: str, points: dict[str, str]) -> None:
        write_package(tmp_path, name, module, GROUP, points)
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield _install
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_registered_entry_is_found_and_listed_after_the_built_in_ones():
    shapes = _shapes()
    shapes.register("triangle", 3)
    assert dict(shapes) == {"square": 4, "triangle": 3}
    assert len(shapes) == 2 and "circle" not in shapes
    assert shapes.find("triangle") == shapes["triangle"] == 3
    with pytest.raises(KeyError):
        shapes["circle"]
    message = "no shape 'circle'; there are: square, triangle"
    with pytest.raises(InvalidInputError, match=message):
        shapes.find("circle")


def test_a_taken_name_needs_replace():
    shapes = _shapes()
    with pytest.raises(InvalidInputError, match=r"'square' exists already \(built in"):
        shapes.register("square", 5)
    assert shapes["square"] == 4
    shapes.register("square", 5, replace=True)
    assert shapes["square"] == 5
    with pytest.raises(InvalidInputError, match="registered by a call"):
        shapes.register("square", 6)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a/b", "-a", "a\n", 3])
def test_a_name_must_be_usable_on_the_command_line_and_in_files(name):
    with pytest.raises(InvalidInputError, match="is no name of a shape"):
        _shapes().register(name, 3)


def test_an_entry_is_checked():
    with pytest.raises(InvalidInputError, match="triangle must be an int"):
        _shapes().register("triangle", "three")  # type: ignore[arg-type]


def test_unregister_removes_an_entry():
    shapes = _shapes()
    shapes.register("triangle", 3)
    shapes.unregister("triangle")
    assert list(shapes) == ["square"]
    with pytest.raises(InvalidInputError, match="no shape 'triangle'"):
        shapes.unregister("triangle")


def test_the_built_in_entries_of_the_caller_stay_as_they_were():
    entries = {"square": 4}
    Registry("shape", entries).register("triangle", 3)
    assert entries == {"square": 4}


def test_entry_points_are_loaded_once_and_only_when_needed(install):
    install("manyshapes", "triangle = 3\n", {"triangle": "manyshapes:triangle"})
    shapes = _shapes(GROUP)
    assert shapes["square"] == 4 and "square" in shapes
    assert "my_package.shapes:triangle" not in shapes  # it can be no entry's name
    assert "manyshapes" not in sys.modules
    assert list(shapes) == ["square", "triangle"]
    sys.modules["manyshapes"].triangle = 0
    assert shapes["triangle"] == 3
    with pytest.raises(InvalidInputError, match=r"manyshapes:triangle of manyshapes"):
        shapes.register("triangle", 5)


def test_without_a_group_installed_packages_add_nothing(install):
    install("unused", "triangle = 3\n", {"triangle": "unused:triangle"})
    assert list(_shapes()) == ["square"]


@pytest.mark.parametrize(
    ("module", "value", "reason"),
    [
        ("raise RuntimeError('out of order')\n", "broken:shape", "out of order"),
        ("", "broken:shape", "no attribute 'shape'"),
        ("", "absent_module:shape", "No module named 'absent_module'"),
        ("shape = 'three'\n", "broken:shape", "bad must be an int"),
    ],
)
def test_a_failing_entry_point_is_named_and_leaves_the_others(
    install, module, value, reason
):
    install("broken", module, {"bad": value})
    install("sound", "triangle = 3\n", {"triangle": "sound:triangle"})
    shapes = _shapes(GROUP)
    with pytest.warns(UserWarning, match=rf"'bad' \({value} of broken\): .*{reason}"):
        assert list(shapes) == ["square", "triangle"]
    assert "bad" not in shapes  # and no second warning


def test_a_clash_names_both_and_the_first_wins(install):
    install("clashing", "square = 5\n", {"square": "clashing:square"})
    shapes = _shapes(GROUP)
    warning = r"'square' \(clashing:square of clashing\) is left out: built in already"
    with pytest.warns(UserWarning, match=warning):
        assert list(shapes) == ["square"]
    assert shapes["square"] == 4


def test_two_packages_with_one_name_are_both_named(install):
    install("first", "triangle = 3\n", {"triangle": "first:triangle"})
    install("second", "triangle = 6\n", {"triangle": "second:triangle"})
    with pytest.warns(UserWarning, match="triangle") as caught:
        assert len(_shapes(GROUP)) == 2
    (message,) = [str(warning.message) for warning in caught]
    assert "first:triangle" in message and "second:triangle" in message


def test_a_package_may_register_as_it_is_imported(install, monkeypatch):
    shapes = _shapes(GROUP)
    monkeypatch.setattr("gradnet.core.registry.shapes", shapes, raising=False)
    module = """
        from gradnet.core.registry import shapes
        triangle = 1000
        shapes.register("triangle", triangle)
    """
    install("eager", module, {"triangle": "eager:triangle"})
    assert dict(shapes) == {"square": 4, "triangle": 1000}


def test_importing_the_registry_imports_neither_torch_nor_entry_points():
    code = "import sys, gradnet.core.registry; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
