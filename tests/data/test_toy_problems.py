"""Classic problems are what their rules say."""

import math

import pytest
import torch

from gradnet.data.toy_problems import classic_problem, is_classic
from gradnet.errors import GradnetError


@pytest.mark.parametrize("bits", [2, 3, 7])
def test_parity_is_the_exclusive_or_of_all_bits(bits):
    problem = classic_problem(f"parity-{bits}")
    assert (
        problem.inputs.shape == (2**bits, bits) and problem.inputs.unique().numel() == 2
    )
    assert len({tuple(row) for row in problem.inputs.tolist()}) == 2**bits
    for word, target in zip(
        problem.inputs.tolist(), problem.targets[:, 0], strict=True
    ):
        odd = False
        for bit in word:
            odd ^= bool(bit)
        assert target == odd


def test_xor_is_parity_of_two():
    xor, parity = classic_problem("xor"), classic_problem("parity-2")
    assert torch.equal(xor.inputs, parity.inputs)
    assert torch.equal(xor.targets, parity.targets)


def test_symmetry_is_told_by_reading_backwards():
    problem = classic_problem("symmetry-4")
    words = ["".join(str(int(b)) for b in row) for row in problem.inputs.tolist()]
    expected = [float(word == word[::-1]) for word in words]
    assert problem.targets[:, 0].tolist() == expected and sum(expected) == 4


def test_an_encoder_gives_back_what_it_gets():
    problem = classic_problem("encoder-8")
    assert torch.equal(problem.inputs, torch.eye(8, dtype=torch.float64))
    assert torch.equal(problem.inputs, problem.targets)


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_addition_adds(bits):
    problem = classic_problem(f"addition-{bits}")
    assert problem.targets.shape == (4**bits, bits + 1)

    def number(row: list[float]) -> int:
        return int("".join(str(int(bit)) for bit in row), 2)

    for row, target in zip(
        problem.inputs.tolist(), problem.targets.tolist(), strict=True
    ):
        assert number(row[:bits]) + number(row[bits:]) == number(target)


def test_the_two_spirals_have_fahlmans_194_points():
    problem = classic_problem("two-spirals")
    assert problem.inputs.shape == (194, 2) and problem.targets.sum() == 97
    first, mirrored = problem.inputs[::2], problem.inputs[1::2]
    assert torch.equal(first, -mirrored)
    assert first[0].tolist() == pytest.approx([0, 6.5])
    radius = 6.5 * (104 - 96) / 104
    assert first[96].norm() == pytest.approx(radius)
    angle = math.atan2(first[5, 0], first[5, 1])
    assert angle == pytest.approx(5 * math.pi / 16)


@pytest.mark.parametrize(("number", "size", "true"), [(1, 124, 216), (2, 169, 142)])
def test_monks_without_noise_are_subsets_of_their_rule(number, size, true):
    problem = classic_problem(f"monks-{number}")
    assert problem.test_inputs.shape == (432, 17)
    assert problem.test_targets.sum() == true
    assert len(problem.inputs) == size
    assert (problem.inputs.sum(1) == 6).all()
    for row, target in zip(problem.inputs, problem.targets, strict=True):
        (place,) = (problem.test_inputs == row).all(1).nonzero()[0]
        assert problem.test_targets[place] == target


def test_the_third_monks_problem_has_five_percent_of_wrong_labels():
    problem = classic_problem("monks-3")
    wrong = 0
    for row, target in zip(problem.inputs, problem.targets, strict=True):
        (place,) = (problem.test_inputs == row).all(1).nonzero()[0]
        wrong += int(problem.test_targets[place] != target)
    assert (len(problem.inputs), wrong) == (122, 6)
    assert problem.test_targets.sum() == 228
    again = classic_problem("monks-3")
    assert torch.equal(problem.inputs, again.inputs)


@pytest.mark.parametrize("name", ["spirals", "parity-x", "monks", "parity-0"])
def test_what_does_not_exist_is_refused_with_the_known_names(name):
    with pytest.raises(GradnetError, match="there are: xor, parity-N"):
        classic_problem(name)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("parity-11", "2 to 10"), ("monks-4", "1 to 3"), ("addition-6", "1 to 5")],
)
def test_sizes_out_of_range_are_refused(name, sizes):
    with pytest.raises(GradnetError, match=sizes):
        classic_problem(name)


def test_names_of_data_sets_are_no_classic_problems():
    assert is_classic("two-spirals") and is_classic("parity-3") and is_classic("xor")
    assert not any(map(is_classic, ("digits", "mnist", "cifar10", "a/b.npz")))
