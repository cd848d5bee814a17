"""Which images of a folder are for training, and which are held out."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blurfft import images
from blurfft.vae import data, outputs

rng = np.random.default_rng(0)


def save(path: Path, side: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(path)
    return path


def many(folder: Path, n: int = 10) -> list[Path]:
    return [save(folder / f"{i:02}.png") for i in range(n)]


def load(folder: Path, cache: Path | None = None) -> tuple[data.Images, list[str]]:
    said: list[str] = []
    return data.load(str(folder), 28, 1, cache, said.append), said


def counts(folder: Path) -> tuple[int, int]:
    loaded, _ = load(folder)
    return len(loaded.train), len(loaded.held_out)


def test_what_is_hidden_is_no_data(tmp_path):
    for place in (tmp_path, tmp_path / "a", tmp_path / ".ipynb_checkpoints", tmp_path / "a" / ".cache" / "b"):
        many(place)
    save(tmp_path / "._00.png")
    assert counts(tmp_path) == (18, 2)


def test_a_hidden_folder_that_is_asked_for_is_data(tmp_path):
    many(tmp_path / ".cache" / "faces")
    assert counts(tmp_path / ".cache" / "faces") == (9, 1)


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    many(tmp_path / "faces")
    assert counts(Path("~/faces")) == counts(Path("~")) == (9, 1)
    many(tmp_path / "~", 20)  # a folder that is really called so
    assert counts(Path("~")) == (18, 2)


def test_links_are_followed_and_loops_of_them_end(tmp_path):
    root = tmp_path / "root"
    many(root / "real", 12)
    many(tmp_path / "store", 12)
    (root / "linked").symlink_to(tmp_path / "store")
    assert counts(root) == (22, 2)
    (root / "again").symlink_to(tmp_path / "store")
    (root / "real" / "up").symlink_to(root)
    (tmp_path / "store" / "back").symlink_to(root / "real")
    (root / "one.png").symlink_to(root / "real" / "00.png")
    os.link(root / "real" / "01.png", root / "two.png")
    assert counts(root) == (22, 2)
    (tmp_path / "elsewhere").symlink_to(root)
    assert counts(tmp_path / "elsewhere") == (22, 2)


def test_an_image_that_is_held_out_under_one_of_its_names_is_held_out(tmp_path):
    files = many(tmp_path / "train")
    (tmp_path / "val").mkdir()
    for file in files[:3]:
        (tmp_path / "val" / file.name).symlink_to(file)
    loaded, _ = load(tmp_path)
    assert (len(loaded.train), len(loaded.held_out)) == (7, 3)


def test_a_link_to_nowhere_is_named(tmp_path):
    many(tmp_path)
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    _, said = load(tmp_path)
    assert said == [f"{tmp_path / 'lost.png'} is left out: no such file"]


def test_pictures_of_a_run_are_no_data(tmp_path):
    many(tmp_path)
    for run, trace in ((tmp_path, outputs.LOG), (tmp_path / "runs" / "a", outputs.CHECKPOINT)):
        for name in outputs.PICTURES:
            save(run / name)
        (run / trace).touch()
    assert counts(tmp_path) == (9, 1)
    (tmp_path / outputs.LOG).unlink()  # without a run beside them they are ordinary pictures
    assert sum(counts(tmp_path)) == 10 + len(outputs.PICTURES)


@pytest.mark.parametrize("damaged", [0, 2, 14])
def test_what_is_damaged_takes_no_part_in_the_split(tmp_path, damaged):
    files = many(tmp_path, 15)
    files[damaged].write_bytes(b"broken")
    assert counts(tmp_path) == (13, 1)


def test_two_images_are_enough_and_one_is_not(tmp_path):
    save(tmp_path / "a.png")
    with pytest.raises(images.Refused, match="has no image to train on: 0 of 1 file unusable at --size 28"):
        load(tmp_path)
    save(tmp_path / "b.png").write_bytes(b"broken")
    with pytest.raises(images.Refused, match="has no image to train on: 1 of 2 files unusable at --size 28"):
        load(tmp_path)
    save(tmp_path / "b.png")
    assert counts(tmp_path) == (1, 1)


def test_no_folder_is_not_the_current_one(tmp_path, monkeypatch):
    many(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(images.Refused, match="--data is empty"):
        data.load("", 28)
    assert len(data.load(".", 28).train) == 9


def test_without_an_image_to_train_on_it_says_where_they_are(tmp_path):
    many(tmp_path / "test", 3)
    with pytest.raises(images.Refused, match="0 of 3 files unusable at --size 28, 3 held out by their folder or by a"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "start", "words"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        ("a.CR2", b"II*\0", "a camera's raw file"),
        ("a.jxl", b"\xff\x0a", "JPEG XL"),
    ],
)
def test_photographs_that_pillow_does_not_read_are_named(tmp_path, name, start, words):
    many(tmp_path, 12)
    (tmp_path / name).write_bytes(start + bytes(100))
    loaded, said = load(tmp_path)
    assert len(loaded.train) + len(loaded.held_out) == 12
    assert len(said) == 1 and said[0].startswith(f"{tmp_path / name} is left out: {words}")


CELEBA = "".join(f"{i:02}.jpg {int(i > 7)}\n" for i in range(10))
KAGGLE = "image_id,partition\n" + "".join(f"{i:02}.jpg,{int(i > 7)}\n" for i in range(10))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list_eval_partition.txt", CELEBA),
        ("list_eval_partition.csv", KAGGLE),
        ("list_eval_partition.csv", "\ufeff" + KAGGLE.replace("\n", "\r\n")),
        ("list_eval_partition.csv", KAGGLE.replace(",", ";")),
        ("list_eval_partition.csv", KAGGLE.replace(",0", ",0.0").replace(",1", ",1.0")),
        ("list_eval_partition.csv", "".join(f'"{row[:6]}",{row[7:]}\n' for row in KAGGLE.splitlines()[1:])),
    ],
)
@pytest.mark.parametrize("place", [".", "Anno"])
def test_celeba_as_png(tmp_path, name, text, place):
    files = many(tmp_path / "img_align_celeba_png")
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / name).write_text(text, newline="")
    train, held_out = data.split(tmp_path, files, [tmp_path / place / name])
    assert (train, held_out) == (files[:8], files[8:])
    assert counts(tmp_path) == (8, 2)


def test_a_partition_of_other_images_is_named(tmp_path):
    many(tmp_path)
    (tmp_path / "list_eval_partition.txt").write_text("face.jpg 1\n")
    loaded, said = load(tmp_path)
    assert len(loaded.held_out) == 1
    assert said == [f"{tmp_path / 'list_eval_partition.txt'} is ignored: it holds out none of these images"]


@pytest.mark.parametrize("above", ["", "celeba", "a/b"])
@pytest.mark.parametrize("held_out", ["val", "Test", "valid"])
def test_train_and_val_may_lie_deeper(tmp_path, above, held_out):
    many(tmp_path / above / "train" / "faces")
    many(tmp_path / above / held_out / "faces", 4)
    assert counts(tmp_path) == (10, 4)


def test_a_class_that_is_called_test_is_trained_on(tmp_path):
    many(tmp_path / "train" / "test")
    many(tmp_path / "val" / "test", 4)
    assert counts(tmp_path) == (10, 4)


@pytest.mark.parametrize(
    ("low", "high", "used"), [(0, 1, True), (0.2, 0.8, True), (-0.003, 1.003, True), (0, 255, False), (-1, 1, False)]
)
def test_floating_point_images(tmp_path, low, high, used):
    tifffile = pytest.importorskip("tifffile")
    many(tmp_path)
    values = np.linspace(low, high, 32 * 32, dtype=np.float32).reshape(32, 32)
    tifffile.imwrite(tmp_path / "f.tif", values)
    loaded, said = load(tmp_path)
    assert len(loaded.train) + len(loaded.held_out) == 10 + used
    named = [f"{tmp_path / 'f.tif'} is left out: floating-point values from {low:g} to {high:g}; scale them to 0 to 1"]
    assert said == ([] if used else named)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floating_point_images_that_are_not_finite(tmp_path, value):
    tifffile = pytest.importorskip("tifffile")
    many(tmp_path)
    tifffile.imwrite(tmp_path / "f.tif", np.full((32, 32), value, np.float32))
    _, said = load(tmp_path)
    assert len(said) == 1 and "f.tif is left out: " in said[0]


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 255
    path.write_bytes(content)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").touch()


@pytest.mark.parametrize("name", ["train.npy", "held_out.npy", "images.json"])
@pytest.mark.parametrize("harm", [Path.unlink, truncated, flipped, lambda path: path.write_bytes(b"")])
def test_a_damaged_cache_is_made_again(tmp_path, name, harm):
    many(tmp_path / "photos")
    cache = tmp_path / "cache"
    before, _ = load(tmp_path / "photos", cache)
    kept = {file.name: file.read_bytes() for file in cache.iterdir()}
    harm(cache / name)
    after, _ = load(tmp_path / "photos", cache)
    assert after.digest == before.digest
    assert {file.name: file.read_bytes() for file in cache.iterdir()} == kept


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    many(tmp_path / "photos")
    (tmp_path / "cache").touch()
    loaded, said = load(tmp_path / "photos", tmp_path / "cache")
    assert len(loaded.train) == 9
    assert said == [
        f"the decoded images cannot be kept in {tmp_path / 'cache'}: File exists; a resumption decodes again"
    ]


def test_half_written_caches_of_killed_runs_are_removed(tmp_path):
    many(tmp_path / "photos")
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / ".train.npy.1.part").write_bytes(b"half")
    load(tmp_path / "photos", cache)
    assert sorted(os.listdir(cache)) == ["held_out.npy", "images.json", "train.npy"]


def test_a_folder_is_known_by_its_images_wherever_it_is(tmp_path):
    files = many(tmp_path / "a")
    first, _ = load(tmp_path / "a", tmp_path / "cache")
    (tmp_path / "a").rename(tmp_path / "b")
    moved, _ = load(tmp_path / "b")
    assert moved.digest == first.digest
    save(tmp_path / "b" / files[0].name)
    assert load(tmp_path / "b")[0].digest != first.digest


def test_an_interrupt_does_not_wait_for_what_is_not_begun(tmp_path, monkeypatch):
    many(tmp_path, 200)
    square, seen = data._square, []

    def counted(path: Path, *arguments: int) -> Any:
        seen.append(path)
        return square(path, *arguments)

    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "_square", counted)
    with pytest.raises(KeyboardInterrupt):
        data.load(str(tmp_path), 28, 1, progress=interrupted)
    assert len(seen) < 150


def test_loading_leaves_the_process_as_it_was(tmp_path):
    many(tmp_path, 40)
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    for _ in range(10):
        load(tmp_path)
    assert before == (Image.MAX_IMAGE_PIXELS, list(warnings.filters))
