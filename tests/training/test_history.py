"""A history knows its best evaluation, and where it was trained."""

from gradnet.training.history import History, merged


def test_the_best_evaluation_and_how_long_it_is_ago():
    records = [{"step": step} for step in (0, 5, 10, 15)]
    history = History(records, best_step=5)
    assert history.best == {"step": 5} and history.evaluations_since_best == 2


def test_an_environment_of_both_parts_is_named_once():
    a, b = {"threads": 1}, {"threads": 2}
    assert merged([a], [a, b]) == [a, b] and merged([], [b]) == [b]
