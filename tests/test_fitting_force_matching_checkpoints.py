"""Trainings that are killed, whose disk is full, or whose files are damaged: nothing is lost that was complete."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from test_state_of_force_matching import Work, fit

pytestmark = pytest.mark.filterwarnings("ignore:.*has learned nothing")

EPOCHS = 3
WORK = Work().change("settings", epochs=EPOCHS, learning_rate=1e-2)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return WORK.write(tmp_path_factory.mktemp("frames") / "run" / "beads.h5md")


@pytest.fixture(scope="module")
def whole(path, tmp_path_factory):
    """An uninterrupted training."""
    return fit(WORK, path, tmp_path_factory.mktemp("whole"))


class Interrupt(Callback):
    """Ends a training in its second epoch, when the first one is on the disk."""

    class InterruptionError(Exception):
        pass

    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.current_epoch == EPOCHS - 1 and index == 1:
            raise self.InterruptionError


def interrupted(path, folder):
    with pytest.raises(Interrupt.InterruptionError):
        fit(WORK.change("settings", trainer_options={"callbacks": [Interrupt()]}), path, folder)
    return folder


def assert_equal(result, whole):
    assert (result.epochs, result.best_epoch) == (whole.epochs, whole.best_epoch)
    assert result.validation_force_rmse == whole.validation_force_rmse
    ours, theirs = (each.potential.network.state_dict() for each in (result, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


PROGRAM = """
import os, resource, signal, sys, torch
sys.path.insert(0, sys.argv[1])
from lightning.pytorch.callbacks import Callback
from test_fitting_force_matching_checkpoints import EPOCHS, WORK, fit

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


class Trouble(Callback):
    def on_save_checkpoint(self, trainer, module, checkpoint):
        if trainer.current_epoch == EPOCHS - 1:
            TROUBLE


fit(WORK.change("settings", trainer_options={"callbacks": [Trouble()]}), sys.argv[2], sys.argv[3])
"""
FULL_DISK = "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))"
# Half of a file is there, and then there is no process any more.
KILLED = (
    "open(trainer.checkpoint_callback.folder / 'last.ckpt.part', 'wb').write(bytes(100)); "
    "os.kill(os.getpid(), signal.SIGKILL)"
)


@pytest.mark.parametrize(("trouble", "words"), [(FULL_DISK, "File too large"), (KILLED, "")], ids=["full", "killed"])
def test_a_training_goes_on_after_its_process_died(trouble, words, path, whole, tmp_path):
    program = PROGRAM.replace("TROUBLE", trouble)
    arguments = [sys.executable, "-c", program, Path(__file__).parent, path, tmp_path]
    process = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True)
    assert process.returncode != 0
    if words:
        assert f"ckpt could not be written ({words}); what it held before is unharmed. Make room" in process.stderr
    for name in ("best.ckpt", "last.ckpt"):
        torch.load(tmp_path / name, weights_only=True)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == EPOCHS - 2
    assert not (tmp_path / "result.json").exists()
    assert_equal(fit(WORK, path, tmp_path), whole)


@pytest.mark.parametrize("kept", [0, 0.5, 0.99])
def test_a_damaged_last_checkpoint_gives_way_to_the_best_with_a_word(kept, path, whole, tmp_path):
    last = interrupted(path, tmp_path) / "last.ckpt"
    content = last.read_bytes()
    last.write_bytes(content[: int(kept * len(content))])
    with pytest.warns(UserWarning, match=r"last\.ckpt is damaged.*goes on from .*best\.ckpt, epoch \d"):
        result = fit(WORK, path, tmp_path)
    assert_equal(result, whole)


def test_damaged_checkpoints_are_named(path, tmp_path):
    folder = interrupted(path, tmp_path)
    (folder / "best.ckpt").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"best\.ckpt is damaged.*bring back a copy, or remove"):
        fit(WORK, path, folder)
    (folder / "last.ckpt").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged.*best\.ckpt is damaged.*remove .* to begin anew"):
        fit(WORK, path, folder)


@pytest.mark.parametrize("name", ["potential.pt", "result.json"])
def test_a_damaged_result_is_named_and_made_anew_without_training(name, path, whole, tmp_path):
    fit(WORK, path, tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{name}'? is damaged.* remove it"):
        fit(WORK, path, tmp_path)
    (tmp_path / name).unlink()
    assert_equal(fit(WORK, path, tmp_path), whole)
    assert [log.name for log in (tmp_path / "log").iterdir()] == ["version_0"]


def test_a_directory_may_be_moved_between_two_sessions(path, whole, tmp_path):
    interrupted(path, tmp_path / "here").rename(tmp_path / "there")
    assert_equal(fit(WORK, path, tmp_path / "there"), whole)


class Rates(Callback):
    """The learning rate of every step."""

    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, module, batch, index):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_more_epochs_go_on_with_the_learning_rate_of_one_cycle_over_all_of_them(path, tmp_path):
    def rates(folder, epochs):
        callback = Rates()
        result = fit(WORK.change("settings", epochs=epochs, trainer_options={"callbacks": [callback]}), path, folder)
        return result, callback.rates

    _, at_once = rates(tmp_path / "at once", 4)
    _, first = rates(tmp_path / "in two", 2)
    result, second = rates(tmp_path / "in two", 4)
    assert len(at_once) == 8 and len(first) == 4
    assert second == pytest.approx(at_once[4:])
    assert first[2:] != pytest.approx(at_once[2:4])
    assert [tuple(stage) for stage in result.stages] == [(0, 2, 5), (2, 4, 5)]
    assert result.potential.provenance["stages"] == [[0, 2, 5], [2, 4, 5]]


def test_more_patience_goes_on(path, tmp_path):
    # So high a rate that there is no progress.
    impatient = WORK.change("settings", epochs=8, learning_rate=1.0, patience=1)
    first = fit(impatient, path, tmp_path)
    assert first.epochs == first.best_epoch + 1 < 8
    again = fit(impatient.change("settings", epochs=9), path, tmp_path)
    assert again.epochs == first.epochs  # more epochs alone do not help where there is no progress
    patient = fit(impatient.change("settings", epochs=9, patience=2), path, tmp_path)
    assert patient.epochs > first.epochs


@pytest.mark.slow
def test_a_training_in_several_processes_gives_its_result(path, tmp_path):
    """Lightning starts processes of its own, whose trainers this one never sees."""
    options = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_spawn"}
    result = fit(WORK.change("settings", trainer_options=options), path, tmp_path)
    assert result.epochs == EPOCHS
    assert 0 < result.validation_force_rmse < float("inf")
    assert result.validation_force_rmse**2 == pytest.approx(result.errors.potential, rel=1e-2)


PROCESSES = """
import os, sys
sys.path.insert(0, sys.argv[1])
from test_fitting_force_matching_checkpoints import EPOCHS, WORK, fit

options = {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}
work = WORK.change("settings", trainer_options=options)
for name in ("first", "second"):
    result = fit(work, sys.argv[2], os.path.join(sys.argv[3], name))
    line = f"{os.environ['LOCAL_RANK']} {name} {result.epochs}"
    print(line + os.linesep, end="", flush=True)  # in one write: processes share the pipe
"""


@pytest.mark.slow
def test_processes_that_run_the_same_script_for_one_training_are_let_in(path, tmp_path):
    script = tmp_path / "script.py"  # which Lightning starts again
    script.write_text(PROCESSES)
    arguments = [sys.executable, script, Path(__file__).parent, path, tmp_path]
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    expected = {f"{rank} {name} {EPOCHS}" for rank in (0, 1) for name in ("first", "second")}
    assert expected <= set(done.stdout.splitlines())
