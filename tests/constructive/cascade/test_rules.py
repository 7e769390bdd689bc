"""Compiled rules have exact truth tables, and are recruited where they help."""

import itertools

import pytest
import torch
from cascade_cases import bits

from gradnet.constructive.cascade.candidates import PlainUnits
from gradnet.constructive.cascade.knowledge import KnowledgeUnits
from gradnet.constructive.cascade.rules import NOfM, Not, RuleNetwork, all_of, any_of
from gradnet.constructive.cascade.settings import CascadeSettings
from gradnet.constructive.cascade.trainer import cascade_correlation
from gradnet.errors import InvalidInputError

XOR = any_of(all_of(0, Not(1)), all_of(Not(0), 1))


def holds(rule, row):
    """Whether a rule holds for a row of zeros and ones."""
    if isinstance(rule, int):
        return bool(row[rule])
    if isinstance(rule, Not):
        return not holds(rule.of, row)
    return sum(holds(a, row) for a in rule.antecedents) >= rule.least


def assert_exact(rule, inputs, **arguments):
    rows = bits(inputs)
    expected = [holds(rule, row) for row in rows.tolist()]
    for coding, coded in (("binary", rows), ("signed", 2 * rows - 1)):
        network = RuleNetwork(rule, coding=coding, **arguments)
        assert (network(coded)[:, 0] > 0).tolist() == expected
        between = RuleNetwork(rule, coding=coding, centered=False, **arguments)
        assert (between(coded)[:, 0].round() > 0).tolist() == expected


@pytest.mark.parametrize("steepness", [6.0, 20.0])
@pytest.mark.parametrize("many", range(1, 6))
def test_n_of_m_with_any_negations(many, steepness):
    for signs in itertools.product([False, True], repeat=many):
        antecedents = [Not(i) if s else i for i, s in enumerate(signs)]
        for least in range(1, many + 1):
            assert_exact(NOfM(least, antecedents), many, steepness=steepness)


@pytest.mark.parametrize(
    ("rule", "inputs"),
    [
        (all_of(0, 1, Not(2)), 3),
        (any_of(Not(0), 2), 3),
        (Not(1), 2),
        (2, 3),
        (Not(all_of(0, 1)), 2),
        (Not(Not(0)), 1),
        (XOR, 2),
        (Not(XOR), 2),
        (NOfM(2, [XOR, Not(2), all_of(1, 3)]), 4),
    ],
    ids=str,
)
def test_rules_of_rules(rule, inputs):
    assert_exact(rule, inputs, steepness=10.0)


def test_signed_inputs_have_the_published_bias():
    # -W (2n - 1 - m) / 2 for weights W / 2: the unit for inputs of -1 and 1.
    network = RuleNetwork(NOfM(2, [0, 1, 2]), 8.0, coding="signed", centered=False)
    row = torch.tensor([[1.0, -1.0, 1.0]])
    expected = torch.sigmoid(4 * row.sum() - 4 * (2 * 2 - 1 - 3))
    torch.testing.assert_close(network(row).squeeze(), expected)


def test_invalid_rules_are_refused():
    for least in (0, 3):
        with pytest.raises(InvalidInputError, match=f"at least {least} of 2"):
            NOfM(least, [0, 1])
    with pytest.raises(InvalidInputError, match="at least 1 of 0"):
        any_of()


def test_a_rule_of_the_task_is_recruited():
    rows = bits(6)
    rule = NOfM(2, [XOR, all_of(2, 3), all_of(4, 5)])
    truth = torch.tensor([[holds(rule, row)] for row in rows.tolist()])
    targets = truth.double() - 0.5
    source = RuleNetwork(rule, steepness=10.0)
    groups = [PlainUnits(4), KnowledgeUnits(source, 6, 4, direct=True)]
    with_rule = cascade_correlation(rows, targets, seeds=range(4), groups=groups)
    without = cascade_correlation(rows, targets, CascadeSettings(), seeds=range(4))
    assert with_rule.solved.all() and (with_rule.hidden_units == 1).all()
    assert (with_rule.network.units[0].group == 1).all()
    assert without.hidden_units.min() > 1
