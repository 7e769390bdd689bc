"""Without callbacks, nothing is called, kept or accepted."""

from gradnet.training.callbacks import Callbacks


def test_the_defaults_do_nothing():
    callbacks = Callbacks()
    assert callbacks.checkpoint is None and not callbacks.accept_differences
    assert callbacks.on_resume([{"step": 1}]) is None
    assert callbacks.on_evaluation({"step": 1}) is None
    assert dict(callbacks.identity) == dict(callbacks.inputs) == {}
