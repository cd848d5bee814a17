"""Data, the training loop and ``blurfft train``."""

from __future__ import annotations

import csv
import errno
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn
from typer.main import get_command
from typer.testing import CliRunner, Result

from blurfft import cli, images
from blurfft.vae import TERMS, data, leaves, run
from blurfft.vae.options import Options, flag
from blurfft.vae.training import Diverged, Trainer, load_checkpoint, save_checkpoint

SMALL = Options(size=28, channels=1, kernel_size=5, latent=4, width=8, batch=8)


def features() -> nn.Module:
    """A network for --features."""
    torch.manual_seed(0)
    return nn.Conv2d(1, 4, 3)


def pictured(n: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Images of a bright disk somewhere, (n, 1, 28, 28)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:28, :28]
    centres = rng.uniform(8, 20, (n, 2, 1, 1))
    inside = (y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2 < 36
    return np.where(inside, 220, 30).astype(np.uint8)[:, None]


DISKS = data.Images(pictured(64), pictured(16), "disks")


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, pixels in enumerate(pictured(20)[:, 0]):
        Image.fromarray(pixels).resize((40, 32)).save(folder / f"{i:02}.png")
    return folder


def command(*arguments: Any) -> Result:
    return CliRunner().invoke(cli.app, ["train", *map(str, arguments)], prog_name="blurfft")


def small(folder: Path, out: Path, *arguments: Any) -> Result:
    options = ["--size", 28, "--channels", 1, "--latent", 4, "--width", 8, "--batch", 8, "--kernel-size", 5]
    return command("--data", folder, "--out", out, *options, "--device", "cpu", "--no-tensorboard", *arguments)


def words(text: str) -> str:
    return " ".join(text.translate(dict.fromkeys(map(ord, "│╭╮╰╯─"), " ")).split())


def state(folder: Path) -> dict[str, Any]:
    return load_checkpoint(folder / "checkpoint.pt")


def flat(values: Any) -> list[Tensor]:
    if isinstance(values, dict):
        return [tensor for key in values for tensor in flat(values[key])]
    if isinstance(values, list):
        return [tensor for value in values for tensor in flat(value)]
    return [values] if isinstance(values, Tensor) else []


def same(a: Any, b: Any) -> bool:
    return len(flat(a)) == len(flat(b)) > 0 and all(map(torch.equal, flat(a), flat(b)))


@pytest.mark.parametrize("loss", TERMS)
def test_every_term_trains(loss):
    options = replace(SMALL, loss=loss, features=f"{__name__}:features" if loss == "perceptual" else None)
    trainer = Trainer(options, DISKS)
    networks = [trainer.vae.encoder, trainer.vae.decoder]
    networks += [trainer.term.auxiliary] if trainer.term.auxiliary is not None else []
    parameters = [*(p for network in networks for p in network.parameters()), *trainer.term.own_parameters()]
    before = [p.detach().clone() for p in parameters]
    for _ in range(2):
        terms = trainer.step()
    trainer.check_finite({name: value.item() for name, value in terms.items()})
    assert all(not torch.equal(p, b) for p, b in zip(parameters, before, strict=True))
    assert ("bits_per_dimension" in trainer.evaluate()) == (TERMS[loss].why_no_density is None)


def test_the_bound_improves_on_held_out_images(double):
    trainer = Trainer(replace(SMALL, learning_rate=3e-3), DISKS)
    before = trainer.evaluate()["bits_per_dimension"]
    for _ in range(60):
        trainer.step()
    # About 8 bits, a margin that no draw approaches.
    assert trainer.evaluate()["bits_per_dimension"] < before - 2


@pytest.mark.parametrize(("loss", "factor"), [("robust", 1), ("gaussian", 10), ("blur", 10)])
def test_own_parameters_have_the_rate_of_their_term(loss, factor):
    networks, own = Trainer(replace(SMALL, loss=loss), DISKS).optimizer.param_groups
    assert own["lr"] == pytest.approx(factor * networks["lr"])


def test_the_rate_is_steered():
    trainer = Trainer(replace(SMALL, rate=5.0, beta=0.5), DISKS)
    first = trainer.step()
    assert first["beta"].item() == pytest.approx(0.5)
    expected = (trainer.control.gain + trainer.control.damping) * torch.clamp((first["kl"] / 5).log(), -1, 1)
    torch.testing.assert_close(trainer.step()["beta"].log(), np.log(0.5) + expected)


def test_epochs_take_every_image_once():
    trainer = Trainer(replace(SMALL, batch=24), DISKS)
    taken = np.concatenate([trainer._indices(step) for step in range(8)])  # three epochs
    for epoch in range(3):
        assert sorted(taken[64 * epoch : 64 * epoch + 64]) == list(range(64))
    assert not np.array_equal(taken[:64], taken[64:128])
    # Requested out of order, as after a resumption.
    assert np.array_equal(trainer._indices(3), taken[72:96])


def test_resumed_bit_for_bit(tmp_path):
    whole, first, second = (Trainer(replace(SMALL, rate=5.0), DISKS) for _ in range(3))
    for _ in range(6):
        whole.step()
    for _ in range(3):
        first.step()
    save_checkpoint(first, tmp_path / "checkpoint.pt")
    second.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt"))
    for _ in range(3):
        second.step()
    assert same(second.state_dict(), whole.state_dict())
    assert not same(first.state_dict(), whole.state_dict())


def test_an_interrupt_loses_one_interval(photos, tmp_path, monkeypatch):
    assert small(photos, tmp_path / "whole", "--steps", 6, "--interval", 2).exit_code == 0

    step = Trainer.step

    def interrupted(self: Trainer) -> dict[str, Tensor]:
        if self.steps_done == 5:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "step", interrupted)
    cut = tmp_path / "cut"
    result = small(photos, cut, "--steps", 6, "--interval", 2)
    assert result.exit_code == 130
    assert f"{cut / 'checkpoint.pt'} is the last checkpoint; --resume continues" in words(result.output)
    assert state(cut)["step"] == 4

    monkeypatch.undo()
    result = command("--out", cut, "--steps", 6, "--resume", "--interval", 2, "--no-tensorboard", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "resumed at step 4" in result.output
    assert same(state(cut), state(tmp_path / "whole"))
    logs = []
    for folder in (cut, tmp_path / "whole"):
        with (folder / "log.csv").open(newline="") as file:
            logs.append([{**row, "steps_per_second": ""} for row in csv.DictReader(file)])
    assert logs[0] == logs[1]
    assert [row["step"] for row in logs[0]] == ["2", "4", "6"]
    assert all(row["held_out_bits_per_dimension"] for row in logs[0])
    for name in ("reconstructions", "samples", "kernels", "error"):
        with Image.open(cut / f"{name}.png") as picture:
            assert np.asarray(picture).std() > 0

    result = command("--out", cut, "--steps", 3, "--resume", "--no-tensorboard", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "resumed at step 6: of 3 steps nothing is left to do" in words(result.output)
    assert state(cut)["step"] == 6
    result = small(photos, cut, "--steps", 8)
    assert (result.exit_code, "holds a run already: --resume continues it" in words(result.output)) == (1, True)
    assert small(photos, cut, "--steps", 1, "--overwrite", "--loss", "mse").exit_code == 0
    assert state(cut)["step"] == 1
    assert not (cut / "kernels.png").exists()
    for name, other, value in (("--nsr", 0.5, 0.01), ("--lr", 0.5, 0.001)):
        result = command("--out", cut, "--resume", "--steps", 8, name, other)
        assert result.exit_code == 1
        assert f"{name} is {other}, but the run in {cut} has {value}" in words(result.output)


def test_an_interrupt_after_the_last_step_loses_nothing(photos, tmp_path, monkeypatch):
    evaluate, calls = Trainer.evaluate, iter(range(9))

    def interrupted(self: Trainer) -> dict[str, float]:
        if next(calls) == 1:  # the first is for the log
            raise KeyboardInterrupt
        return evaluate(self)

    monkeypatch.setattr(Trainer, "evaluate", interrupted)
    result = small(photos, tmp_path / "run", "--steps", 1)
    assert result.exit_code == 130
    assert f"{tmp_path / 'run' / 'checkpoint.pt'} is the last checkpoint" in words(result.output)
    assert state(tmp_path / "run")["step"] == 1


@pytest.mark.parametrize("kind", ["torch", "GPU", "numpy"])
def test_without_memory_it_says_what_takes_less(kind, photos, tmp_path, monkeypatch):
    step = Trainer.step

    def exhausted(self: Trainer) -> dict[str, Tensor]:
        if self.steps_done == 1:
            if kind == "GPU":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
            np.empty(1 << 50) if kind == "numpy" else torch.empty(1 << 50)
        return step(self)

    monkeypatch.setattr(Trainer, "step", exhausted)
    result = small(photos, tmp_path / "run", "--steps", 2, "--interval", 1)
    assert result.exit_code == 1
    message = words(result.output)
    assert "the training does not fit into memory; with a smaller --batch" in message
    assert f"{tmp_path / 'run' / 'checkpoint.pt'} is the last checkpoint" in message


def test_other_errors_of_torch_keep_their_traceback(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "step", lambda self: torch.ones(2, 3) @ torch.ones(2, 3))
    assert "mat1 and mat2" in str(small(photos, tmp_path / "run", "--steps", 1).exception)


def test_resumed_with_other_images_it_says_so(photos, tmp_path):
    changed = f"the files in {photos} have changed since the run was begun"
    assert small(photos, tmp_path, "--steps", 1).exit_code == 0
    result = command("--out", tmp_path, "--resume", "--steps", 2, "--device", "cpu")
    assert (result.exit_code, changed in words(result.output)) == (0, False)
    os.utime(photos / "00.png", (0, 0))  # decoded again, to the same
    result = command("--out", tmp_path, "--resume", "--steps", 3, "--device", "cpu")
    assert (result.exit_code, changed in words(result.output)) == (0, False)
    Image.new("L", (40, 32), 99).save(photos / "00.png")
    result = command("--out", tmp_path, "--resume", "--steps", 4, "--device", "cpu")
    assert (result.exit_code, changed in words(result.output)) == (0, True)


def resumed(out: Path, *arguments: Any) -> Result:
    return command("--out", out, "--resume", "--device", "cpu", "--no-tensorboard", *arguments)


def test_a_run_is_known_by_its_images_not_by_where_they_lie(photos, tmp_path):
    out, moved = tmp_path / "out", tmp_path / "moved"
    assert small(f"{photos}/", out, "--steps", 1).exit_code == 0
    assert resumed(out, "--steps", 2, "--data", photos).exit_code == 0
    photos.rename(moved)
    result = resumed(out, "--steps", 3)
    assert (result.exit_code, "where they have moved to if a run is resumed" in words(result.output)) == (1, True)
    result = resumed(out, "--steps", 3, "--data", moved)
    assert (result.exit_code, "resumed at step 2" in result.output) == (0, True)
    assert state(out)["options"]["data"] == str(moved)
    photos.mkdir()
    for i, pixels in enumerate(pictured(20)[:, 0]):
        Image.fromarray(255 - pixels).save(photos / f"{i:02}.png")
    result = resumed(out, "--steps", 4, "--data", photos)
    message = f"the images in {photos} are not those that the run in {out} was begun with"
    assert (result.exit_code, message in words(result.output), state(out)["step"]) == (1, True, 3)


def test_a_run_inside_its_images(photos):
    assert small(photos, photos / "run", "--steps", 1).exit_code == 0
    result = resumed(photos / "run", "--steps", 2)
    assert (result.exit_code, "18 images to train on, 2 held out" in words(result.output)) == (0, True)
    assert "have changed" not in result.output
    assert small(photos, photos, "--steps", 1).exit_code == 0  # in the folder itself, too
    result = resumed(photos, "--steps", 2)
    assert (result.exit_code, "18 images to train on, 2 held out" in words(result.output)) == (0, True)


def rows(out: Path) -> list[str]:
    with (out / "log.csv").open(newline="") as file:
        return [row["step"] for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    "saved",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\r\n", "\n"),
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: "\r\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in text.splitlines()),
        lambda text: text + "4,0.",  # the disk was full
    ],
    ids=["mark", "ends of lines", "semicolons", "tabs", "quotes", "cut off"],
)
def test_a_log_that_another_program_saved(photos, tmp_path, saved):
    assert small(photos, tmp_path, "--steps", 4, "--interval", 2).exit_code == 0
    log = tmp_path / "log.csv"
    before = log.read_bytes()
    log.write_text(saved(before.decode()), newline="")
    assert resumed(tmp_path, "--steps", 6, "--interval", 2).exit_code == 0
    assert log.read_bytes().startswith(before)
    assert rows(tmp_path) == ["2", "4", "6"]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"a,b\n1,2\n", b"step,loss\nx,1\n", b"step\n\0\n"])
def test_a_log_that_is_lost_or_damaged_is_begun_again(photos, tmp_path, content):
    assert small(photos, tmp_path, "--steps", 2).exit_code == 0
    log, aside = tmp_path / "log.csv", tmp_path / "log.damaged.csv"
    log.unlink() if content is None else log.write_bytes(content)
    result = resumed(tmp_path, "--steps", 4)
    assert result.exit_code == 0, result.output
    assert "a new one begins after step 2" in words(result.output)
    assert rows(tmp_path) == ["4"]
    assert aside.exists() == (content is not None)
    if content is not None:
        assert aside.read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        {"options": {}, "step": 1},
        {"options": {"unknown": 1}, "step": 1},
        {"step": 1},
        [1, 2],
        torch.zeros(2),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(photos, tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    result = resumed(tmp_path, "--steps", 2, "--data", photos)
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert words(result.output).endswith(f"{path} is not a checkpoint of this version of blurfft train, or damaged")


@pytest.mark.parametrize("write", ["log", "pictures", "checkpoint"])
def test_what_cannot_be_written_ends_in_a_sentence(photos, tmp_path, monkeypatch, write):
    assert small(photos, tmp_path, "--steps", 2).exit_code == 0

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place = {"log": (run.Log, "write"), "pictures": (run.figures, "draw"), "checkpoint": (run, "save_checkpoint")}
    monkeypatch.setattr(*place[write], full)
    result = resumed(tmp_path, "--steps", 4)
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    kept = f"{tmp_path / 'checkpoint.pt'} is the last checkpoint; --resume continues"
    assert f"cannot write to {tmp_path}: No space left on device; {kept}" in words(result.output)
    monkeypatch.undo()
    assert resumed(tmp_path, "--steps", 4).exit_code == 0
    assert rows(tmp_path) == ["2", "4"]


@pytest.mark.parametrize("write", ["log", "pictures", "checkpoint"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_is_killed_loses_no_row(photos, tmp_path, monkeypatch, write, when):
    """Whatever was written last: a row for each checkpoint, none twice."""

    class Killed(BaseException):
        pass

    place = {"log": (run.Log, "write"), "pictures": (run.figures, "draw"), "checkpoint": (run, "save_checkpoint")}
    function = getattr(*place[write])
    calls = 0

    def killed(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if when == "after":
            function(*arguments)
        if calls == 2:
            raise Killed
        return function(*arguments) if when == "before" else None

    monkeypatch.setattr(*place[write], killed)
    with pytest.raises(Killed):
        small(photos, tmp_path, "--steps", 6, "--interval", 2)
    monkeypatch.undo()
    assert resumed(tmp_path, "--steps", 6, "--interval", 2).exit_code == 0
    assert rows(tmp_path) == ["2", "4", "6"]


def test_what_killed_runs_had_half_written_is_removed(photos, tmp_path):
    assert small(photos, tmp_path, "--steps", 1).exit_code == 0
    before = sorted(os.listdir(tmp_path))
    for name in ("checkpoint.pt", "log.csv", "samples.png"):
        (tmp_path / f".{name}.123.part").touch()
    (tmp_path / ".of.the.user.part").touch()
    assert resumed(tmp_path, "--steps", 2).exit_code == 0
    assert sorted(os.listdir(tmp_path)) == sorted([*before, ".of.the.user.part"])


@pytest.mark.skipif(not run.tensorboard_installed(), reason="TensorBoard is not installed")
def test_tensorboard(photos, tmp_path):
    run.train(replace(SMALL, data=str(photos)), tmp_path / "run", steps=1, device="cpu", tensorboard=True)
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert b"held_out/bits_per_dimension" in events.read_bytes()
    run.train(replace(SMALL, data=str(photos)), tmp_path / "run", steps=1, overwrite=True, device="cpu")
    assert not list((tmp_path / "run" / "tensorboard").iterdir())


def test_without_tensorboard_the_old_run_stays(photos, tmp_path, monkeypatch):
    assert small(photos, tmp_path, "--steps", 2).exit_code == 0
    monkeypatch.setattr(run, "tensorboard_installed", lambda: False)
    result = small(photos, tmp_path, "--steps", 1, "--overwrite", "--tensorboard")
    assert (result.exit_code, "pip install tensorboard" in words(result.output)) == (1, True)
    assert state(tmp_path)["step"] == 2


def test_what_is_not_finite_stops_the_run(photos, tmp_path, monkeypatch):
    batch = Trainer._batch
    monkeypatch.setattr(
        Trainer, "_batch", lambda self, step: tuple(t * (float("nan") if step == 3 else 1) for t in batch(self, step))
    )
    result = small(photos, tmp_path / "run", "--steps", 6, "--interval", 2)
    assert result.exit_code == 1
    assert "the loss is not finite at step 4: loss nan" in words(result.output)
    assert f"{tmp_path / 'run' / 'checkpoint.pt'} is the last good one" in words(result.output)
    assert state(tmp_path / "run")["step"] == 2


def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
    trainer = Trainer(SMALL, DISKS)
    terms = {name: value.item() for name, value in trainer.step().items()}
    with torch.no_grad():
        next(trainer.vae.parameters())[0] = float("inf")
    with pytest.raises(Diverged, match="a parameter is not finite at step 1"):
        trainer.check_finite(terms)


def test_a_checkpoint_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(images.Refused, match="there is no checkpoint"):
        load_checkpoint(path)
    save_checkpoint(Trainer(SMALL, DISKS), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(images.Refused, match="or damaged"):
        load_checkpoint(path)


def test_a_failed_write_keeps_the_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    trainer = Trainer(SMALL, DISKS)
    save_checkpoint(trainer, path)
    trainer.step()

    def full(state: object, file: Any) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(trainer, path)
    assert load_checkpoint(path)["step"] == 0
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


def work(rank: int, folder: Path, out: Path, rendezvous: Path) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    initialise = dist.init_process_group
    # torchrun's environment needs a port.
    dist.init_process_group = lambda backend: initialise(
        backend, init_method=f"file://{rendezvous}", rank=rank, world_size=2
    )
    run.train(replace(SMALL, data=str(folder), rate=5.0), out, steps=3, device="cpu")


@pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="this torch has no gloo")
def test_two_processes_are_one(double, photos, tmp_path):
    run.train(replace(SMALL, data=str(photos), rate=5.0), tmp_path / "one", steps=3, device="cpu")
    torch.multiprocessing.spawn(work, args=(photos, tmp_path / "two", tmp_path / "rendezvous"), nprocs=2)
    one, two = state(tmp_path / "one"), state(tmp_path / "two")
    assert two["step"] == 3
    # Adam's first steps are as large as the learning rate, 1e-3, whatever the gradient: a wrong one would show as that.
    # Rounding shows where a gradient is about 0.
    torch.testing.assert_close(flat(two), flat(one), rtol=1e-6, atol=1e-6)


def test_a_batch_that_cannot_be_shared():
    with pytest.raises(images.Refused, match="--batch must be a multiple of the 3 processes, got 8"):
        Trainer(SMALL, DISKS, world=3)
    with pytest.raises(images.Refused, match="--batch must be a multiple of the 3 processes, got 8"):
        SMALL.check(world=3)  # before images are decoded


def test_what_is_no_use_is_left_out(photos, tmp_path, monkeypatch):
    (photos / "damaged.png").write_bytes((photos / "00.png").read_bytes()[:60])
    (photos / "empty.jpg").touch()
    (photos / "notes.txt").write_text("no image")
    Image.new("L", (40, 20)).save(photos / "tiny.png")
    said: list[str] = []
    loaded = data.load(str(photos), 28, 1, tmp_path / "cache", said.append)
    assert len(loaded.train) + len(loaded.held_out) == 20
    assert loaded.train.shape[1:] == (1, 28, 28) and loaded.train.dtype == np.uint8
    assert len(said) == 3
    text = " ".join(said)
    assert "tiny.png is left out: 40 x 20 pixels, too small for --size 28" in text
    assert "empty.jpg is left out: the file is empty" in text
    assert "damaged.png is left out" in text

    said.clear()
    monkeypatch.setattr(data, "_NAMED", 1)
    data.load(str(photos), 28, 1, say=said.append)
    assert said[1:] == ["2 more files left out"]
    said.clear()
    monkeypatch.setattr(data, "_NAMED", 2)
    data.load(str(photos), 28, 1, say=said.append)
    assert said[2:] == ["1 more file left out"]

    monkeypatch.setattr(data, "_square", lambda *_: pytest.fail("decoded again"))
    again = data.load(str(photos), 28, 1, tmp_path / "cache")
    assert np.array_equal(again.train, loaded.train) and again.description == loaded.description


def test_a_folder_that_changed_is_decoded_again(photos, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    before = data.load(str(photos), 28, 1, cache)
    for path in photos.iterdir():
        Image.new("L", (40, 32), 99).save(path)
    (photos / "dangling.png").symlink_to(tmp_path / "nowhere")
    again = data.load(str(photos), 28, 1, cache)
    assert again.train.shape == before.train.shape and (again.train == 99).all()

    (photos / "list_eval_partition.txt").write_text("\n".join(f"{i:02}.png {i % 2}" for i in range(20)))

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        data.load(str(photos), 28, 1, cache)
    monkeypatch.undo()
    assert not (cache / "images.json").exists()
    assert len(data.load(str(photos), 28, 1, cache).held_out) == 10


def test_channels_are_one_or_three():
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        data.load("embedded", 32, 2)


def test_no_rate_and_no_weight():
    terms = Trainer(replace(SMALL, beta=0.0, seed=2**32 - 1), DISKS).step()
    assert terms["beta"] == 0 and torch.equal(terms["loss"], terms["reconstruction"])


@pytest.mark.parametrize("files", [[], ["a.txt"], ["a.png"]])
def test_a_folder_with_nothing_in_it(tmp_path, files):
    for name in files:
        (tmp_path / name).touch()
    result = small(tmp_path, tmp_path / "out", "--steps", 1)
    assert result.exit_code == 1
    assert ("has no image to" if files == ["a.png"] else "there is no image in") in words(result.output)


def test_held_out_as_celeba_says(photos):
    lines = [f"{path.name} {i % 3}" for i, path in enumerate(sorted(photos.glob("*.png")))]
    (photos / "list_eval_partition.txt").write_text("\n".join(lines))
    train, held_out = data.split(photos, sorted(photos.glob("*.png")), [photos / "list_eval_partition.txt"])
    assert [path.name for path in train] == [line.split()[0] for line in lines if line.endswith("0")]
    assert len(train) + len(held_out) == 20


def test_held_out_subfolders(tmp_path):
    files = [tmp_path / "train" / "a.png", tmp_path / "val" / "b.png"]
    assert data.split(tmp_path, files) == ([files[0]], [files[1]])


@pytest.mark.skipif(importlib.util.find_spec("skimage") is None, reason="scikit-image is not installed")
def test_held_out_photographs_come_from_elsewhere(monkeypatch):
    """Photographs that show in every pixel which column it is: those of the two parts do not overlap."""
    columns = torch.linspace(0, 1, 400).expand(1, 300, 400)
    monkeypatch.setattr(images, "read", lambda path: images.Photo(columns, None, 8, "PNG", ".png", None, None, ()))
    for size in (32, 64):
        loaded = data.load("embedded", size, channels=1)
        assert loaded.train.max() < loaded.held_out.min()
        validated = data.photographs(size, channels=1, validation=True)
        assert validated.train.max() < validated.held_out.min()
        assert validated.held_out.max() < loaded.held_out.min()


@pytest.mark.skipif(importlib.util.find_spec("skimage") is None, reason="scikit-image is not installed")
def test_embedded_photographs():
    loaded = data.load("embedded:photographs", 32)
    assert loaded.train.shape[1:] == (3, 32, 32) and len(loaded.train) > 1000
    assert loaded.held_out.shape[1:] == (3, 32, 32) and len(loaded.held_out) > 100
    with pytest.raises(images.Refused, match="at most 64"):
        data.load("embedded", 128)


needs_brain = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("nilearn", "nibabel")), reason="nilearn is not installed"
)


@needs_brain
def test_embedded_brain():
    loaded = data.load("embedded:brain", 32)
    assert loaded.train.shape[1:] == (1, 32, 32) and len(loaded.train) > 500
    assert len(loaded.held_out) > 100
    assert loaded.train.mean() == pytest.approx(loaded.held_out.mean(), rel=0.2)
    assert np.array_equal(loaded.train, data.load("embedded:brain", 32).train)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (40, 3)])
def test_dead_leaves_are_the_same_each_time_and_held_out_are_others(monkeypatch, size, channels):
    loaded = data.dead_leaves(size, channels, train=6, held_out=4)
    assert loaded.train.shape == (6, channels, size, size) and loaded.held_out.shape == (4, channels, size, size)
    assert "synthetic" in loaded.description
    assert loaded.digest == data.dead_leaves(size, channels, train=6, held_out=4).digest
    assert np.array_equal(loaded.train[:3], data.dead_leaves(size, channels, train=3, held_out=1).train)
    every = {image.tobytes() for image in (*loaded.train, *loaded.held_out)}
    assert len(every) == 10


def test_dead_leaves_have_the_spectrum_of_natural_images():
    """Power falls roughly with the square of the frequency, and flat areas meet in sharp edges."""
    drawn = leaves.draw(64, 32, 1, seed=0)[:, 0] / 255
    power = (np.abs(np.fft.fft2(drawn)) ** 2).mean(0)
    radius = np.rint(32 * np.hypot(*np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32))))
    rings = np.arange(1, 16)
    slope, _ = np.polyfit(np.log(rings), np.log([power[radius == ring].mean() for ring in rings]), 1)
    assert -2.7 < slope < -1.8
    steps = np.abs(np.diff(drawn, axis=1))
    assert np.median(steps) == 0 and np.quantile(steps, 0.9) > 0.1
    assert 0.45 < drawn.mean() < 0.55


def test_without_the_packages_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, extra in (("embedded", "demo"), ("embedded:brain", "brain")):
        with pytest.raises(images.Refused, match=rf"pip install 'blurfft\[{extra}\]'"):
            data.load(name, 32)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--loss", "l2"], 2, "'l2' is not one of mse, gaussian"),
        (["--nsr", "-1"], 2, "it must be a number from 0 to 3.4e+38, got -1.0"),
        (["--channels", "2"], 2, "it must be 1 or 3, got 2"),
        (["--steps", "5", "--epochs", "5"], 2, "give epochs or steps, not both"),
        (["--data", "nowhere"], 1, "nowhere is not a folder"),
        (["--data", "embedded:faces"], 1, "the embedded sets are photographs, brain and leaves (synthetic)"),
        (["--resume", "--overwrite"], 2, "give --resume or --overwrite, not both"),
        (["--device", "tpu"], 1, "--device must be auto, cpu or cuda, got 'tpu'"),
        (["--resume"], 1, "there is no checkpoint"),
    ],
)
def test_wrong_usage_is_explained(tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    result = command(*arguments)
    assert result.exit_code == code
    assert message in words(result.output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loss", "perceptual"], "needs your network: --features"),
        (["--loss", "perceptual", "--features", "nowhere:net"], "--features nowhere:net is not found"),
        (["--loss", "perceptual", "--features", "math:pi"], "not callable"),
        (["--eps", "0"], "--eps must be a finite number above 0, got 0.0"),
        (["--kernel-size", "29"], "--kernel-size must be at most the image's side, 28, got 29"),
        (["--size", "30"], "--size must be a multiple of 4"),
        (["--lr", "-1"], "--lr must be positive and finite, got -1.0"),
        (["--lr", "0"], "--lr must be positive and finite, got 0.0"),
        (["--lr", "nan"], "--lr must be positive and finite, got nan"),
        (["--seed", 2**32], "--seed must be at least 0 and below 2**32, got 4294967296"),
        (["--beta", "inf"], "--beta must be finite and at least 0, got inf"),
        (["--beta", "0", "--rate", "5"], "--beta must be positive and finite where a rate steers it, got 0.0"),
        (["--rate", "-1"], "--rate must be positive and finite, got -1.0"),
        (["--rate", "inf"], "--rate must be positive and finite, got inf"),
        (["--width", "12"], "--width must be a positive multiple of 8, got 12"),
    ],
)
def test_options_that_cannot_be_are_explained(photos, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr(data, "load", lambda *_: pytest.fail("images were loaded first"))
    result = small(photos, tmp_path / "out", "--steps", 1, *arguments)
    assert result.exit_code == 1
    assert message in words(result.output)


def test_the_command_line_offers_the_options_with_their_defaults_and_help():
    offered = {parameter.name: parameter for parameter in get_command(cli.app).commands["train"].params}  # type: ignore[attr-defined]
    for option in fields(Options):
        parameter = offered[option.name]
        default = getattr(parameter.default, "value", parameter.default)
        assert (default, parameter.help) == (option.default, option.metadata["help"]), option.name
        assert flag(option.name) in parameter.opts


def test_a_run_is_replaced_only_when_all_is_in_order(photos, tmp_path):
    out = tmp_path / "out"
    assert small(photos, out, "--steps", 2).exit_code == 0
    for arguments in (["--data", tmp_path / "typo"], ["--eps", "0"], ["--batch", 10**6, "--seed", 2**63]):
        assert small(photos, out, "--steps", 1, "--overwrite", *arguments).exit_code == 1
        assert state(out)["step"] == 2
    (photos / "00.png").unlink()
    (photos / "new").mkdir()
    for i in range(3):
        Image.fromarray(pictured(1)[0, 0]).save(photos / "new" / f"{i}.png")
    result = small(photos, out, "--steps", 1, "--overwrite")
    assert "20 images to train on, 2 held out" in words(result.output)
    assert state(out)["step"] == 1
