"""Loads networks of ``torch.export`` (``.pt2``) without running code in the file.

``torch.export.load`` trusts its file: it unpickles entries marked as pickled, evaluates
size expressions, calls any function of torch that is named, and generates Python code
from names. Here the program is read as JSON, anything that could run code is refused,
and torch loads a copy that holds the validated parts only.
"""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule

from gradnet.checkpoints.exported_sizes import has_small_products, is_arithmetic
from gradnet.core.archives import HARMLESS_BYTES, MAX_RATIO, check_archive
from gradnet.core.plain_values import parse_json
from gradnet.core.regular_files import regular_file
from gradnet.core.text import listed, reason_of, shown
from gradnet.errors import DamagedFileError

PROGRAM = "models/model.json"
SAMPLES = "data/sample_inputs/model.pt"
PAYLOADS = {
    "data/weights/model_weights_config.json": r"weight_\d+",
    "data/constants/model_constants_config.json": r"tensor_\d+",
}
OPERATOR = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)", re.ASCII)
SIZE_OPERATORS = re.compile(
    r"_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge)"
    r"|torch\.sym_(max|min|not|float|int)"
)
IDENTIFIER = re.compile(r"\w*", re.ASCII)
DOTTED = re.compile(r"[\w.+-]*", re.ASCII)
TRAINING_FLAGS = ("train", "training", "use_input_stats")


class _Refusal(Exception):
    """The file holds something that could run code, or that is not supported."""


def load_exported(path: str | Path) -> nn.Module:
    """Load a network that ``torch.export.save`` wrote; no code in the file is run.

    Only tensors stored as plain bytes, operators of ATen and arithmetic on sizes are
    accepted; this guards against code in the file, not against errors in torch's own
    operators. Layers become plain modules that hold the parameters under their old
    names; the mode (evaluation) is part of the graph.

    Args:
        path: the file; exported from evaluation mode, with one input, whose first
            dimension is dynamic.

    Raises:
        DamagedFileError: the file is missing or damaged, holds pickled objects or
            anything else that could run code, or was exported in training mode or for
            one batch size only.
    """
    check_archive(regular_file(path))
    data = Path(path).read_bytes()
    try:
        program = torch.export.load(_checked_copy(data))
        module = program.module(check_guards=False)
        _check_elements(module, len(data))
    except _Refusal as refusal:
        raise DamagedFileError(f"{path} is refused: {refusal}") from None
    except Exception as error:  # a damaged file fails wherever the reader is
        raise DamagedFileError(
            f"{path} cannot be read as a .pt2 of torch.export: {reason_of(error)}"
        ) from None
    _tie(module)
    _use_size_method(module)
    # torch overrides these with functions that raise, since the graph has one mode;
    # here only the flag matters.
    del module.train, module.eval
    return module.eval()


def _check_elements(module: nn.Module, stored: int) -> None:
    """Refuse strides that make a few numbers look like a memory full of them."""
    tensors = [*module.parameters(), *module.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if size > max(HARMLESS_BYTES, MAX_RATIO * stored):
        raise _Refusal(f"its tensors would take {size:,} bytes, it has {stored:,}")


def _tie(module: nn.Module) -> None:
    """Share the parameters again that were shared before the export."""
    first: dict[tuple[Any, ...], nn.Parameter] = {}
    for name, parameter in list(module.named_parameters()):
        if parameter.numel():
            key = (parameter.data_ptr(), parameter.shape, parameter.stride())
            layer, _, leaf = name.rpartition(".")
            owner = module.get_submodule(layer)
            setattr(owner, leaf, first.setdefault(key, parameter))


def _use_size_method(module: GraphModule) -> None:
    """Read sizes by ``Tensor.size``, as eager code does: ``vmap`` needs it."""
    for node in module.graph.nodes:
        if node.target is torch.ops.aten.sym_size.int:
            node.op, node.target = "call_method", "size"
    module.recompile()


def _checked_copy(data: bytes) -> io.BytesIO:
    """A copy with validated parts only; without sample inputs, which are pickled."""
    # Imported here because it takes a second.
    from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

    reader = PT2ArchiveReader(io.BytesIO(data))
    program = parse_json(reader.read_string(PROGRAM))
    _strip(program)
    _check_values(program)
    _check_inputs(program["graph_module"])
    if not has_small_products(program["graph_module"]["graph"]["nodes"]):
        raise _Refusal("it multiplies sizes with each other without end")
    copy = io.BytesIO()
    with PT2ArchiveWriter(copy) as writer:
        for config_name, file_pattern in PAYLOADS.items():
            config = parse_json(reader.read_string(config_name))
            _check_values(config)
            writer.write_string(config_name, json.dumps(config))
            folder = config_name.rpartition("/")[0]
            for file in _payload_files(config["config"], file_pattern):
                name = f"{folder}/{file}"
                writer.write_bytes(name, reader.read_bytes(name))
        writer.write_string(PROGRAM, json.dumps(program))
        writer.write_bytes(SAMPLES, b"")
    copy.seek(0)
    return copy


def _strip(program: dict[str, Any]) -> None:
    """Remove the metadata of the program, which is free text."""
    program["guards_code"] = []
    module = program["graph_module"]
    module["metadata"], module["treespec_namedtuple_fields"] = {}, {}
    for node in module["graph"]["nodes"]:
        node["metadata"] = {}


def _check_values(value: Any, key: str = "") -> None:
    """Validate all strings: torch generates Python code from names and expressions."""
    if isinstance(value, dict):
        if "target" in value and any(map(_is_training_flag, value["inputs"])):
            raise _Refusal(
                f"{value['target']} is in training mode; call model.eval() before "
                "torch.export.export"
            )
        for name, inner in value.items():
            _check_string(name, "")
            _check_values(inner, name)
    elif isinstance(value, list):
        for inner in value:
            _check_values(inner, key)
    elif isinstance(value, str):
        _check_string(value, key)


def _check_string(text: str, key: str) -> None:
    if key in ("target", "as_operator"):
        fine = _is_harmless_operator(text)
    elif key == "expr_str":
        fine = is_arithmetic(text)
    elif key in ("in_spec", "out_spec"):
        fine = _is_plain_structure(parse_json(text)[1])
    elif key in ("as_string", "as_strings"):
        fine = True  # an argument of an operator, used as a string
    elif key in ("name", "as_name", "forward_arg_names"):
        fine = IDENTIFIER.fullmatch(text) is not None
    else:
        fine = DOTTED.fullmatch(text) is not None
    if not fine:
        raise _Refusal(
            f"{text[:80]!a} ({shown(key) if key else 'a name'}) could run code, or "
            "without end; only operators of ATen, plain names and small numbers are "
            "accepted"
        )


def _is_training_flag(argument: dict[str, Any]) -> bool:
    return argument["name"] in TRAINING_FLAGS and argument["arg"].get("as_bool") is True


def _is_harmless_operator(target: str) -> bool:
    """Whether it is an operator of ATen that opens no file, or size arithmetic."""
    if SIZE_OPERATORS.fullmatch(target):
        return True
    match = OPERATOR.fullmatch(target)
    packet = match and getattr(torch.ops.aten, match[1], None)
    operator = packet and match and getattr(packet, match[2], None)
    if not isinstance(operator, torch._ops.OpOverload):
        return False
    return all(argument.name != "filename" for argument in operator._schema.arguments)


def _is_plain_structure(spec: dict[str, Any]) -> bool:
    """Whether it has tuples, lists and empty dicts only; others import their type."""
    kinds = (None, "builtins.tuple", "builtins.list", "builtins.dict")
    return (
        spec["type"] in kinds
        and spec["context"] in (None, "null", "[]")
        and all(map(_is_plain_structure, spec["children_spec"]))
    )


def _payload_files(config: dict[str, Any], pattern: str) -> Iterator[str]:
    seen = set()
    for name, payload in config.items():
        file = payload["path_name"]
        if payload["use_pickle"] or not re.fullmatch(pattern, file):
            raise _Refusal(
                f"{listed([name])} is a pickled object, which could run any code when "
                "loaded; export a model whose parameters and constants are plain "
                "tensors"
            )
        if file not in seen:
            yield file
        seen.add(file)


def _check_inputs(module: dict[str, Any]) -> None:
    """Check that there is one input tensor, with a dynamic first dimension."""
    specs = [
        spec for spec in module["signature"]["input_specs"] if "user_input" in spec
    ]
    if len(specs) != 1 or any("as_tensor" not in x for x in module["graph"]["inputs"]):
        raise _Refusal(f"it takes {len(specs)} inputs; only one tensor is supported")
    name = specs[0]["user_input"]["arg"]["as_tensor"]["name"]
    batch = module["graph"]["tensor_values"][name]["sizes"][0]
    if "as_expr" not in batch:
        raise _Refusal(
            f"it was exported for batches of {batch['as_int']}; export it with "
            "dynamic_shapes=({0: torch.export.Dim('batch')},)"
        )
