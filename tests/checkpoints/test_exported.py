"""Exported networks give the same logits and gradients; nothing in a file runs."""

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, NUM_CLASSES, Case
from hypothesis import given
from hypothesis import strategies as st
from reference import assert_same, gradients_by_loop
from torch import Tensor, nn
from torch.export import Dim, export
from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

from gradnet.checkpoints.exported import load_exported
from gradnet.errors import GradnetError
from gradnet.gradients.extractor import GradientExtractor


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class Flat(nn.Module):
    """Asks for the size of its batch, and adds a constant and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, NUM_CLASSES)
        self.constant = torch.arange(3.0, dtype=torch.float64)
        self.register_buffer("kept", torch.ones(3, dtype=torch.float64))
        self.register_buffer("unkept", torch.ones(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(x.shape[0], x.shape[1] * x.shape[2])
        return self.linear(x) * self.constant + self.kept + self.unkept


def flat() -> Case:
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    return Case(Flat().double().eval(), x, torch.tensor([0, 1, 2, 0]))


def save(path: Path, case: Case) -> Path:
    shapes = ({0: Dim("batch")},)
    torch.export.save(export(case.model, (case.x[:2],), dynamic_shapes=shapes), path)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("whole") / "flat.pt2", flat())


def rewrite(
    source: Path, target: Path, changes: dict[str, Callable[[bytes], bytes]]
) -> Path:
    """The archive with some of its records changed."""
    reader = PT2ArchiveReader(str(source))
    with PT2ArchiveWriter(str(target)) as writer:
        for record in reader.get_file_names():
            if record.startswith(("data/", "models/")):
                change = changes.get(record, bytes)
                writer.write_bytes(record, change(reader.read_bytes(record)))
    return target


def attack_program(source: Path, target: Path, attack: str, trap: Path) -> Path:
    def change(data: bytes) -> bytes:
        program = json.loads(data)
        ATTACKS[attack](program, str(trap))
        return json.dumps(program).encode()

    return rewrite(source, target, {"models/model.json": change})


def pickled(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


@pytest.mark.parametrize("build", [*CASES.values(), flat], ids=lambda b: b.__name__)
def test_logits_and_gradients_are_those_of_the_source(
    tmp_path: Path, build: Callable[[], Case]
) -> None:
    case = build()
    found = load_exported(save(tmp_path / "a.pt2", case))
    assert not found.training and not found.train().eval().training
    for count in (1, 3):
        assert_same(found(case.x[:count]), case.model(case.x[:count]))
    names = [name for name, _ in case.model.named_parameters()]
    assert {name for name, _ in found.named_parameters()} == set(names)
    labels = torch.arange(NUM_CLASSES).expand(len(case.x), -1)
    expected = gradients_by_loop(case.model, case.x, labels)
    gradients = GradientExtractor(found, biases=True).all_labels(case.x)
    assert_same(gradients, {name: expected[name] for name in gradients})


def test_the_state_dict_is_that_of_the_source(whole: Path) -> None:
    case = flat()
    found = load_exported(whole)
    found.load_state_dict(case.model.state_dict())
    assert_same(found(case.x), case.model(case.x))


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(GradnetError, match=r"none\.pt2: no such file"):
        load_exported(tmp_path / "none.pt2")
    with pytest.raises(GradnetError, match="is a folder"):
        load_exported(tmp_path)


@given(data=st.data())
def test_truncated_files_are_refused(whole: Path, data: st.DataObject) -> None:
    content = whole.read_bytes()
    path = whole.with_name("cut.pt2")
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(GradnetError, match=r"cut\.pt2 cannot be read"):
        load_exported(path)


def test_other_zip_files_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2)}, tmp_path / "state.pt2")
    with pytest.raises(GradnetError, match=r"state\.pt2 cannot be read"):
        load_exported(tmp_path / "state.pt2")


def test_an_export_in_training_mode_is_refused(tmp_path: Path) -> None:
    case = CASES["residual"]()
    case.model.train()
    with pytest.raises(GradnetError, match=r"batch_norm.* is in training mode"):
        load_exported(save(tmp_path / "a.pt2", case))


def test_an_export_for_one_batch_size_is_refused(tmp_path: Path) -> None:
    case = flat()
    torch.export.save(export(case.model, (case.x[:2],)), tmp_path / "a.pt2")
    with pytest.raises(GradnetError, match=r"for batches of 2; export it with dynamic"):
        load_exported(tmp_path / "a.pt2")


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    program = export(nn.Bilinear(2, 2, 3), (torch.randn(3, 2), torch.randn(3, 2)))
    torch.export.save(program, tmp_path / "a.pt2")
    with pytest.raises(GradnetError, match="it takes 2 inputs; only one tensor"):
        load_exported(tmp_path / "a.pt2")


def test_pickled_sample_inputs_are_not_touched(tmp_path: Path, whole: Path) -> None:
    trap = tmp_path / "trap"
    samples = pickled(((Hostile(trap),), {}))
    changes = {"data/sample_inputs/model.pt": lambda _: samples}
    path = rewrite(whole, tmp_path / "a.pt2", changes)
    load_exported(path)
    assert not trap.exists()
    logging.disable(logging.WARNING)  # torch tells at length that it falls back
    try:
        torch.export.load(path)
    finally:
        logging.disable(logging.NOTSET)
    assert trap.exists(), "the trap itself must work, or this test shows nothing"


def test_pickled_weights_are_refused_and_not_run(tmp_path: Path, whole: Path) -> None:
    trap = tmp_path / "trap"
    no, yes = (f'"use_pickle": {answer}'.encode() for answer in ("false", "true"))
    changes = {
        "data/weights/model_weights_config.json": lambda data: data.replace(no, yes, 1),
        "data/weights/weight_0": lambda _: pickled(Hostile(trap)),
    }
    path = rewrite(whole, tmp_path / "a.pt2", changes)
    with pytest.raises(GradnetError, match=r"linear\.weight is a pickled object"):
        load_exported(path)
    assert not trap.exists()
    with pytest.raises(Exception):  # noqa: B017 it is no tensor, but it has run
        torch.export.load(path)
    assert trap.exists(), "the trap itself must work, or this test shows nothing"


def set_target(target: str) -> Callable[[dict[str, Any], str], None]:
    def change(program: dict[str, Any], trap: str) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = target

    return change


def set_size(expression: str) -> Callable[[dict[str, Any], str], None]:
    def change(program: dict[str, Any], trap: str) -> None:
        values = program["graph_module"]["graph"]["tensor_values"]
        size = next(s for s in values["x"]["sizes"] if "as_expr" in s)
        size["as_expr"]["expr_str"] = expression.replace("TRAP", trap)

    return change


def rename_output(program: dict[str, Any], trap: str) -> None:
    node = program["graph_module"]["graph"]["nodes"][-1]
    node["name"] = f"x = open({trap!r}, 'w'); y"


def rename_layer(program: dict[str, Any], trap: str) -> None:
    spec = program["graph_module"]["signature"]["input_specs"][0]["parameter"]
    spec["parameter_name"] = f'"), open({trap!r}, "w'


def import_in_structure(program: dict[str, Any], trap: str) -> None:
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    context = {"__enum__": 1, "fqn": "antigravity:X", "name": "a"}
    spec = {"type": None, "context": json.dumps(context), "children_spec": []}
    signature["in_spec"] = json.dumps([1, spec])


OPEN = "__import__('pathlib').Path('TRAP').touch()"
ATTACKS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "function of os": set_target("torch.os.system"),
    "writes a file": set_target("torch.ops.aten.save.default"),
    "reads a file": set_target("torch.ops.aten.from_file.default"),
    "other namespace": set_target("torch.ops.profiler._record_function_enter.default"),
    "unknown": set_target("torch.ops.aten.nothing.default"),
    "attribute": set_target("torch.ops.aten.add.__class__"),
    "extension": set_target("#extension:thing"),
    "size": set_size(OPEN),
    "size in a string": set_size(f'Integer("{OPEN}")'),
    "symbol": set_size(f'Symbol("{OPEN}")'),
    "size and symbol": set_size(f"Add(Symbol('s7'), Integer(\"{OPEN}\"))"),
    "symbol in a string": set_size(f"Integer(\"Symbol('s7'), {OPEN}\")"),
    "attribute of a size": set_size("Symbol('s7').__class__"),
    "lambda": set_size("(lambda: 1)()"),
    "tower of powers": set_size("9**9**9**9"),
    "tower of named powers": set_size("Pow(Integer(9), Pow(Integer(9), Integer(9)))"),
    "powers of powers": set_size("Pow(Pow(Pow(Symbol('s0'), 9), 9), 9)"),
    "shift": set_size("1 << 10**12"),
    "long number": set_size(f"Integer({'9' * 4000})"),
    "deep": set_size("-" * 4000 + "1"),
    "name of a node": rename_output,
    "name of a parameter": rename_layer,
    "structure": import_in_structure,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_programs_that_could_run_code_are_refused(
    tmp_path: Path, whole: Path, attack: str
) -> None:
    trap = tmp_path / "trap"
    path = attack_program(whole, tmp_path / "a.pt2", attack, trap)
    with pytest.raises(GradnetError, match=r"a\.pt2 is refused: .* could run code"):
        load_exported(path)
    assert not trap.exists()


def test_such_programs_do_run_code(tmp_path: Path, whole: Path) -> None:
    trap = tmp_path / "trap"
    path = attack_program(whole, tmp_path / "a.pt2", "size", trap)
    with pytest.raises(Exception):  # noqa: B017 what comes out is no size
        torch.export.load(path)
    assert trap.exists()


def square_the_batch(program: dict[str, Any], trap: str) -> None:
    """Forty squares of a size in a row: three to the power of 2^40."""
    nodes = program["graph_module"]["graph"]["nodes"]
    before = {"as_int": 3}
    for index in range(40):
        name = {"as_name": f"square_{index}"}
        nodes.append(
            {
                "target": "_operator.mul",
                "inputs": [{"name": n, "arg": before, "kind": 1} for n in "ab"],
                "outputs": [{"as_sym_int": name}],
                "metadata": {},
                "is_hop_single_tensor_return": None,
            }
        )
        before = {"as_sym_int": name}


def test_products_without_end_are_refused(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ATTACKS, "squares", square_the_batch)
    path = attack_program(whole, tmp_path / "a.pt2", "squares", tmp_path / "trap")
    with pytest.raises(GradnetError, match="multiplies sizes"):
        load_exported(path)
