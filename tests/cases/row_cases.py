"""Rows and evaluations as studies write them, for the tests of tables and figures."""


def level_row(seed, level, method, accuracy):
    """A row of a GradNet study."""
    return {"seed": seed, "level": level, "method": method, "test_accuracy": accuracy}


LEVEL_ROWS = [
    level_row(0, 0.7, "fine-tuned", 0.9),
    level_row(0, 0.7, "mine", 0.8),
    *(level_row(s, 0.7, "default", a) for s, a in enumerate((0.71, 0.74, 0.8))),
    *(level_row(s, 0.5, "base", a) for s, a in enumerate((0.51, 0.52))),
    level_row(0, 0.7, "base", 0.7),
]


def growth_row(seed, method, accuracy):
    """A row of a growth study."""
    return {
        "seed": seed,
        "method": method,
        "validation_accuracy": accuracy,
        "test_accuracy": accuracy,
        "test_loss": 0.5,
        "parameters": 1234,
        "training_flops": 2.5e12,
        "training_seconds": 7.0,
        "steps": 30,
        "settings": {"training": {"evaluate_every": 10}},
    }


def evaluation(seed, method, step, stage):
    """An evaluation of a growth run; its accuracy is 0.1 + step / 100."""
    return {
        "seed": seed,
        "method": method,
        "event": "evaluation",
        "step": step,
        "stage": stage,
        "accuracy": 0.1 + step / 100,
        "flops": step * 10,
        "seconds": step / 5,
    }


EVALUATIONS = [
    evaluation(seed, method, step, stage)
    for seed in (0, 1)
    for method in ("a", "b")
    for step, stage in ((0, 0), (10, 0), (10, 1), (20, 1))
]
TRIAL_ROWS = [
    {"trial": n, "solved": n != 2, "hidden_units": units, "epochs": 100 * units}
    for n, units in enumerate((3, 5, 9, 4))
]
