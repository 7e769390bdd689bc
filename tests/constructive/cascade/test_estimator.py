"""CascadeCorrelationClassifier: scikit-learn's conventions, early stopping, pruning."""

from dataclasses import asdict, fields, is_dataclass, replace

import numpy as np
import pytest
import torch
from cascade_cases import two_spirals
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from gradnet.constructive.cascade.estimator import CascadeCorrelationClassifier
from gradnet.constructive.cascade.settings import CascadeSettings, SpiralCascadeSettings
from gradnet.errors import InvalidInputError

QUICK = CascadeSettings(max_units=3, pool=4)


PRUNED = CascadeCorrelationClassifier(
    QUICK, validation_fraction=0.25, prune_fraction=0.2
)


@parametrize_with_checks([CascadeCorrelationClassifier(QUICK), PRUNED])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_two_classes_of_any_type_share_one_output():
    points, targets = two_spirals()
    labels = np.where(targets[:, 0] > 0, "outer", "inner")
    settings = CascadeSettings().for_two_spirals()
    classifier = CascadeCorrelationClassifier(settings).fit(points, labels)
    assert classifier.score(points, labels) == 1
    scores = classifier.decision_function(points)
    assert scores.shape == (194,)
    assert ((scores > 0) == (classifier.predict(points) == "outer")).all()
    assert classifier.result_.solved.all()


def test_many_classes_have_an_output_each():
    inputs, labels = load_iris(return_X_y=True)
    classifier = CascadeCorrelationClassifier().fit(inputs[::2], labels[::2])
    assert classifier.decision_function(inputs).shape == (150, 3)
    assert classifier.score(inputs[1::2], labels[1::2]) > 0.9


def test_early_stopping_restores_the_best_network():
    inputs, labels = load_digits(return_X_y=True)
    noisy = labels.copy()
    noisy[::7] = (noisy[::7] + 1) % 10  # so that the network never learns all samples
    classifier = CascadeCorrelationClassifier(validation_fraction=0.2, patience=2)
    classifier.fit(inputs[:400], noisy[:400])
    errors = classifier.validation_errors_
    best = int(np.argmin(errors))
    assert len(errors) == best + 3 and not classifier.result_.solved.any()
    assert classifier.network_.hidden.item() == best
    assert len(classifier.network_.units) == best + 2
    assert classifier.score(inputs[400:], labels[400:]) > 0.6


def test_pruning_deletes_weights_and_adds_no_validation_error():
    inputs, labels = load_digits(return_X_y=True)
    settings = CascadeSettings(max_units=4)
    plain, pruned = (
        CascadeCorrelationClassifier(
            settings, validation_fraction=0.3, prune_fraction=fraction
        ).fit(inputs[:600], labels[:600])
        for fraction in (0.0, 0.1)
    )
    counts = [
        sum(int((value != 0).sum()) for value in classifier.module_.parameters())
        for classifier in (plain, pruned)
    ]
    assert counts[1] < 0.95 * counts[0]
    _, held_out = pruned._split(labels[:600])
    found, before = (c.predict(inputs[:600])[held_out] for c in (pruned, plain))
    assert (found != labels[held_out]).sum() <= (before != labels[held_out]).sum()
    assert pruned.score(inputs[600:], labels[600:]) > 0.85


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_an_invalid_prune_fraction_is_refused_before_training(fraction):
    classifier = CascadeCorrelationClassifier(
        validation_fraction=0.5, prune_fraction=fraction
    )
    with pytest.raises(InvalidInputError, match="it must be >= 0 and < 1"):
        classifier.fit([[0.0], [1.0]], [0, 1])
    assert not hasattr(classifier, "result_")


def test_pruning_needs_held_out_samples():
    with pytest.raises(InvalidInputError, match="give validation_fraction"):
        CascadeCorrelationClassifier(prune_fraction=0.1).fit([[0.0], [1.0]], [0, 1])


def test_the_seed_determines_the_network():
    inputs, labels = load_iris(return_X_y=True)
    settings = replace(QUICK, max_units=1)
    first, again, other = (
        CascadeCorrelationClassifier(settings, random_state=seed)
        .fit(inputs, labels)
        .decision_function(inputs)
        for seed in (0, 0, 1)
    )
    assert (first == again).all() and (first != other).any()


def test_constant_inputs_are_allowed():
    inputs = np.array([[0, 7], [1, 7], [2, 7], [3, 7]], dtype=float)
    classifier = CascadeCorrelationClassifier(QUICK).fit(inputs, [0, 0, 1, 1])
    assert classifier.predict(inputs).tolist() == [0, 0, 1, 1]


def test_a_class_of_one_sample_can_be_held_out():
    inputs = np.arange(20, dtype=float)[:, None]
    labels = [0] * 10 + [1] * 9 + [2]
    classifier = CascadeCorrelationClassifier(QUICK, validation_fraction=0.2)
    assert classifier.fit(inputs, labels).predict(inputs).shape == (20,)


def test_one_class_and_linear_outputs_are_refused():
    inputs = np.ones((4, 2))
    with pytest.raises(InvalidInputError, match="all samples are of one class"):
        CascadeCorrelationClassifier().fit(inputs, [1, 1, 1, 1])
    linear = CascadeSettings(output="linear")
    with pytest.raises(InvalidInputError, match="set output='sigmoid'"):
        CascadeCorrelationClassifier(linear).fit(inputs, [0, 1, 0, 1])


def test_the_global_random_state_is_unchanged():
    inputs, labels = load_iris(return_X_y=True)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    CascadeCorrelationClassifier(QUICK).fit(inputs, labels)
    assert torch.equal(torch.rand(3), expected)


def count_fields(settings):
    """All fields of a settings dataclass, those of nested ones included."""
    values = [getattr(settings, field.name) for field in fields(settings)]
    return len(values) + sum(count_fields(v) for v in values if is_dataclass(v))


@pytest.mark.parametrize("settings", [None, QUICK, SpiralCascadeSettings()], ids=str)
def test_every_field_of_the_settings_is_a_parameter(settings):
    classifier = CascadeCorrelationClassifier(settings)
    expected = CascadeSettings() if settings is None else settings
    parameters = classifier.get_params()
    nested = {k: v for k, v in parameters.items() if k.startswith("settings__")}
    assert len(nested) == count_fields(expected)
    assert nested["settings__candidates__rate"] == expected.candidates.rate
    again = CascadeCorrelationClassifier().set_params(**nested)
    assert asdict(again.settings) == asdict(expected)
    assert parameters.keys() - nested.keys() == classifier.get_params(deep=False).keys()


def test_nested_parameters_leave_the_given_settings_unchanged():
    settings = CascadeSettings(max_units=3)
    classifier = CascadeCorrelationClassifier(settings)
    changes = {"settings__max_units": 7, "settings__outputs__decay": 0.5}
    copied = clone(classifier).set_params(**changes)
    assert copied.settings.max_units == 7 and copied.settings.outputs.decay == 0.5
    assert copied.settings.outputs.rate == settings.outputs.rate
    assert classifier.settings is settings and settings.max_units == 3


@pytest.mark.parametrize("reverse", [False, True])
def test_whole_settings_are_set_before_their_fields(reverse):
    changes = {"settings": QUICK, "settings__max_units": 9}
    ordered = dict(sorted(changes.items(), reverse=reverse))
    classifier = CascadeCorrelationClassifier().set_params(**ordered)
    assert classifier.settings == replace(QUICK, max_units=9)


@pytest.mark.parametrize(
    "name", ["settings__none", "settings__outputs__none", "settings__pool__none"]
)
def test_an_unknown_field_is_named(name):
    with pytest.raises(InvalidInputError, match="'none'"):
        CascadeCorrelationClassifier().set_params(**{name: 1})


def test_a_field_out_of_range_is_named():
    with pytest.raises(InvalidInputError, match="max_units is -1"):
        CascadeCorrelationClassifier().set_params(settings__max_units=-1)


def test_grid_search_over_the_settings():
    inputs, labels = load_iris(return_X_y=True)
    grid = {"settings__max_units": [0, 1], "settings__candidates__rate": [1.0, 2.0]}
    search = GridSearchCV(CascadeCorrelationClassifier(QUICK), grid, cv=2)
    search.fit(inputs[::3], labels[::3])
    best = search.best_estimator_
    assert best.settings.max_units == search.best_params_["settings__max_units"]
    assert best.settings.candidates.rate in grid["settings__candidates__rate"]
    assert len(search.cv_results_["params"]) == 4


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"settings": {"max_units": 3}}, "settings is a dict"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
        ({"validation_fraction": -0.1}, "validation_fraction is -0.1"),
        ({"validation_fraction": 0.5, "patience": 0}, "patience is 0"),
        ({"validation_fraction": 0.1}, "4 samples cannot be split"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_invalid_parameters_are_refused_in_fit(parameters, message):
    classifier = CascadeCorrelationClassifier(**parameters)
    with pytest.raises(InvalidInputError, match=message):
        classifier.fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    assert not hasattr(classifier, "result_")
