"""The outcome of a growth run counts what is left, and says where it was made."""

import pytest
from growth_cases import digits, tiny

from gradnet.core.reproducibility import environment
from gradnet.errors import InvalidInputError
from gradnet.growth.run import grow
from gradnet.training.loop import Callbacks, _Run


def test_a_run_that_continues_elsewhere_names_both_environments(tmp_path, monkeypatch):
    train_step, path = _Run.train_step, tmp_path / "run.pt"

    def interrupted(run):
        if run.step == 8:
            raise KeyboardInterrupt
        train_step(run)

    with monkeypatch.context() as patch:
        patch.setattr(_Run, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            grow(tiny("net2wider"), digits(), callbacks=Callbacks(path))
    here = environment("cpu")
    there = {**here, "threads": 64}
    for name in ("gradnet.growth.run", "gradnet.training.loop"):
        monkeypatch.setattr(f"{name}.environment", lambda device: there)
    with pytest.raises(InvalidInputError, match="now 64"):
        grow(tiny("net2wider"), digits(), callbacks=Callbacks(path))
    callbacks = Callbacks(path, accept_differences=True)
    growth = grow(tiny("net2wider"), digits(), callbacks=callbacks)
    assert growth.environments == [here, there]
    assert growth.parameters == sum(p.numel() for p in growth.model.parameters())
