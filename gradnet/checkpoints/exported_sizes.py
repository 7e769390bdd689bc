"""Which arithmetic on sizes a ``.pt2`` may hold: known functions, and small results.

sympy evaluates expressions of sizes as code, and powers such as ``9**9**9**9`` without
end. So neither is left to it.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

SIZE_FUNCTIONS = re.compile(
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv"
    r"|CleanDiv|IntTrueDiv|FloatTrueDiv|PowByNatural|ToFloat|Eq|Ne|Lt|Le|Gt|Ge"
    r"|Equality|Unequality|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan"
)
SYMBOL = re.compile(r"[a-z]+\d+", re.ASCII)
ARITHMETIC = (
    *(ast.Expression, ast.Call, ast.Name, ast.Load, ast.keyword, ast.Constant),
    *(ast.UnaryOp, ast.USub, ast.BinOp),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod),
)
POWERS = ("Pow", "PowByNatural")
MAX_LENGTH, MAX_PARTS, MAX_DEPTH = 5_000, 400, 40
MAX_NUMBER, MAX_EXPONENT = 2**63, 16
# Sizes multiplied with each other in a row; a network multiplies a handful.
MAX_DEGREE = 256


def is_arithmetic(expression: str) -> bool:
    """Whether it has known functions, symbols and small numbers only.

    Example:
        >>> is_arithmetic("Mul(Integer(2), Pow(Symbol('s0'), Integer(2)))")
        True
        >>> is_arithmetic("Pow(Integer(9), Pow(Integer(9), Integer(9)))")
        False
    """
    if len(expression) > MAX_LENGTH:
        return False
    try:
        tree = ast.parse(expression, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    nodes = list(ast.walk(tree))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    values = [node.value for node in nodes if isinstance(node, ast.Constant)]
    operands = [
        operand
        for node in nodes
        if isinstance(node, ast.BinOp)
        for operand in (node.left, node.right)
    ]
    return (
        len(nodes) <= MAX_PARTS
        and all(isinstance(node, ARITHMETIC) for node in nodes)
        and all(SIZE_FUNCTIONS.fullmatch(name) for name in names)
        and all(map(_is_small, values))
        and not any(map(_is_text, operands))  # which a product repeats
        and _exponents(calls) <= MAX_EXPONENT
    )


def _is_small(value: object) -> bool:
    if isinstance(value, str):
        # sympy would evaluate any other string as an expression.
        return SYMBOL.fullmatch(value) is not None
    is_number = value is None or isinstance(value, int | float)
    return is_number and (value is None or abs(value) <= MAX_NUMBER)  # type: ignore[arg-type]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _exponents(calls: list[ast.Call]) -> float:
    """The product of all exponents, as if all powers were within each other."""
    product = 1.0
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id in POWERS:
            exponent = call.args[1] if len(call.args) == 2 else None
            product *= max(1.0, _number(exponent))
    return product


def _number(node: ast.expr | None) -> float:
    """The magnitude of an exponent; infinite where it is not a plain number."""
    if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
        return _number(node.args[0])
    if isinstance(node, ast.UnaryOp):
        return _number(node.operand)
    if isinstance(node, ast.Call) and len(node.args) == 2:  # Rational(1, 2)
        return max(map(_number, node.args))
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return abs(node.value)
    return float("inf")


def has_small_products(nodes: list[dict[str, Any]]) -> bool:
    """Whether the graph multiplies few sizes with each other.

    A size that is squared forty times in a row has more digits than a memory holds.

    Args:
        nodes: of the graph, in order.
    """
    degrees: dict[str, int] = {}
    for node in nodes:
        if not node["target"].startswith(("_operator.", "torch.sym_")):
            continue
        found = [degrees.get(name, 1) for name in _sizes(node["inputs"])]
        is_product = node["target"] == "_operator.mul"
        degree = sum(found) if is_product else max(found, default=1)
        if degree > MAX_DEGREE:
            return False
        for output in node["outputs"]:
            degrees |= dict.fromkeys(_sizes([{"arg": output}]), degree)
    return True


def _sizes(arguments: list[dict[str, Any]]) -> Iterator[str]:
    """The names of sizes among arguments; a number counts as a size."""
    for argument in arguments:
        for kind, value in argument["arg"].items():
            if isinstance(value, Mapping) and "as_name" in value:
                yield value["as_name"]
            elif kind == "as_int":
                yield ""
