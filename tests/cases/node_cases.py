"""Networks of node creation, one number after the other: the slow reference."""

import math


def sigmoid(net):
    return 1 / (1 + math.exp(-net))


def scalar_outputs(incoming, outgoing, x):
    """Hidden values, a one for the bias first, and outputs, number by number."""
    hidden = [1.0]
    for weights in incoming[1:]:
        hidden.append(
            sigmoid(sum(w * v for w, v in zip(weights, [1, *x], strict=True)))
        )
    outputs = [
        sigmoid(sum(h * row[k] for h, row in zip(hidden, outgoing, strict=True)))
        for k in range(len(outgoing[0]))
    ]
    return hidden, outputs


def scalar_learn(weights, steps, batch, rate, momentum):
    """Backpropagation number by number; changes weights and steps in place."""
    incoming, outgoing = weights
    slopes = [[[0.0] * len(row) for row in part] for part in weights]
    for x, target in batch:
        hidden, outputs = scalar_outputs(incoming, outgoing, x)
        errors = [(y - t) * y * (1 - y) for y, t in zip(outputs, target, strict=True)]
        for unit, value in enumerate(hidden):
            back = sum(w * e for w, e in zip(outgoing[unit], errors, strict=True))
            for k, error in enumerate(errors):
                slopes[1][unit][k] += error * value
            for i, v in enumerate([1, *x]):
                slopes[0][unit][i] += back * value * (1 - value) * v
    for part, moved, sloped in zip(weights, steps, slopes, strict=True):
        for unit, row in enumerate(part):
            for i in range(len(row)):
                moved[unit][i] = momentum * moved[unit][i] - rate * sloped[unit][i]
                row[i] += moved[unit][i]
