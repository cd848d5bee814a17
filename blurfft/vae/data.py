"""Images to train on: a folder, images in installed packages, or synthetic ones.

Everything is decoded once and kept as 8-bit squares. Unusable files are named and left out.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .. import images as photos
from ..files import Refused, atomic, counted, expanded
from ..images import foreign
from . import leaves, outputs

EMBEDDED = "embedded"
"""``embedded`` is ``embedded:photographs``; the others are ``embedded:brain`` and ``embedded:leaves``."""

PHOTOGRAPHS = ("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "rocket.jpg")
_LARGEST_PATCH = 64
_HELD_OUT_SHARE = 0.25
_VALIDATION_SHARE = 0.25  # of what is not held out

_TEMPLATE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
_SLICES = range(30, 150)  # with brain in them; 1 mm apart
# Of every 40 slices 8 are held out, and 4 on either side of them left out.
_BLOCK, _HELD_OUT_FROM, _HELD_OUT_TO, _GAP = 40, 16, 24, 4
_VARIANTS = {"train": 16, "held_out": 8}

_INDEX, _PARTS = "images.json", ("train", "held_out")  # of the cache

_NAMED = 20  # at most so many left-out images are named: a folder may have many thousands

_PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")  # CelebA's own, and Kaggle's
_TRAIN_FOLDERS = ("train", "training")
_HELD_OUT_FOLDERS = ("test", "val", "valid", "validation")
_HELD_OUT_FILES = 10  # one in so many is held out if the folder does not decide
_ROUNDING = 1 / 255  # how far floating-point values may exceed 0 and 1: scaling an image does that


@dataclass(frozen=True)
class Images:
    """Square 8-bit images, (n, C, size, size) each."""

    train: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    description: str

    @cached_property
    def digest(self) -> str:
        """Identifies the images, wherever they came from."""
        found = hashlib.sha256()
        for part in (self.train, self.held_out):
            found.update(str(part.shape).encode())
            found.update(np.ascontiguousarray(part).data)
        return found.hexdigest()


Progress = Callable[[int, int], None]
"""Called with the number of decoded images and of all images."""


def load(
    source: str,
    size: int,
    channels: int | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda message: None,
    progress: Progress = lambda done, total: None,
) -> Images:
    """The images of a source, cut square in the middle and scaled to ``size``.

    Args:
        source: ``"embedded"``, ``"embedded:photographs"``, ``"embedded:brain"``, ``"embedded:leaves"`` (synthetic), or
            a folder, in which ``~`` is the home folder. Every image below a folder is taken once, links included;
            hidden files and the pictures that a run has left there are not. Images in folders ``test``, ``val``,
            ``valid`` and ``validation`` are held out; if there are none, those that CelebA's
            ``list_eval_partition.txt`` or ``.csv`` numbers 1 or 2; else a tenth of the usable images.
        size: the side, in pixels.
        channels: 1 or 3. None: 1 for the brain, 3 for the others.
        cache: where to keep a folder's decoded images; a second call with the same files and size reads them.
        say: called with a sentence about each image that is left out.
        progress: called while images are decoded.

    Raises:
        Refused: there is nothing to train on, in words for the user.
        ValueError: ``channels`` is neither 1 nor 3.

    Examples:
        >>> load("embedded", size=32).train.shape[1:]
        (3, 32, 32)
    """
    if not source:  # as of a variable of the shell that is not set; it would be the current folder
        raise Refused("--data is empty")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    name, _, which = source.partition(":")
    if name == EMBEDDED:
        if which in ("", "photographs"):
            return photographs(size, channels or 3)
        if which == "brain":
            return brain(size, channels or 1)
        if which == "leaves":
            return dead_leaves(size, channels or 3)
        raise Refused(f"the embedded sets are photographs, brain and leaves (synthetic), got {source!r}")
    return folder(expanded(Path(source)), size, channels or 3, cache, say, progress)


def photographs(size: int, channels: int, validation: bool = False) -> Images:
    """Patches of photographs in scikit-image's wheel: the left three quarters of each to train on, the right quarter
    held out. For choosing options, ``validation`` holds out the right quarter of those three quarters instead, and the
    right quarter takes no part."""
    if size > _LARGEST_PATCH:
        raise Refused(f"the embedded photographs are too small for patches of {size} pixels; at most {_LARGEST_PATCH}")
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise Refused("the embedded photographs are those of scikit-image: pip install 'blurfft[demo]'")
    scale = 2 if size <= _LARGEST_PATCH // 2 else 1
    train, held_out = [], []
    for name in PHOTOGRAPHS:
        path = Path(spec.origin).parent / "data" / name
        try:
            colour = _channels(photos.read(path).colour, channels)
        except Refused as error:
            raise Refused(f"{path}: {error}") from None
        border, end = round(colour.shape[2] * (1 - _HELD_OUT_SHARE)), colour.shape[2]
        if validation:
            border, end = round(border * (1 - _VALIDATION_SHARE)), border
        train.append(_patches(colour[:, :, :border], size, scale, stride=size // 4))
        held_out.append(_patches(colour[:, :, border:end], size, scale, stride=size // 2))
    return Images(
        _bytes(torch.cat(train)),
        _bytes(torch.cat(held_out)),
        f"patches of {size} x {size} pixels of {len(PHOTOGRAPHS)} photographs in scikit-image"
        + (", scaled down by 2" if scale == 2 else "")
        + (
            "; left 56 % of each to train on, the next 19 % to validate"
            if validation
            else "; left three quarters of each to train on, right quarter held out"
        ),
    )


def _patches(region: Tensor, size: int, scale: int, stride: int) -> Tensor:
    """(C, H, W) to (n, C, size, size). Scaled here, so that no pixel of another region has a part in it."""
    height, width = region.shape[1] // scale, region.shape[2] // scale
    region = region[:, : height * scale, : width * scale]
    if scale > 1:
        region = F.avg_pool2d(region[None], scale)[0]
    tiles = region.unfold(1, size, stride).unfold(2, size, stride)  # (C, rows, columns, size, size)
    return tiles.permute(1, 2, 0, 3, 4).reshape(-1, region.shape[0], size, size)


def brain(size: int, channels: int) -> Images:
    """Axial slices of the ICBM 152 T1 template in nilearn's wheel, slightly turned, scaled and shifted; the same every
    time."""
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None or importlib.util.find_spec("nibabel") is None:
        raise Refused("the embedded brain is that of nilearn: pip install 'blurfft[brain]'")
    path = Path(spec.origin).parent / "datasets" / "data" / _TEMPLATE
    if not path.is_file():
        raise Refused(f"this nilearn lacks {path}; install nilearn>=0.11")
    nibabel: Any = importlib.import_module("nibabel")  # of an extra, which may be absent where types are checked
    volume = torch.from_numpy(np.asarray(nibabel.load(path).dataobj, dtype=np.float32))
    volume /= volume.max()
    generator = torch.Generator().manual_seed(0)
    slices: dict[str, list[Tensor]] = {"train": [], "held_out": []}
    for i in _SLICES:
        place = (i - _SLICES.start) % _BLOCK
        if _HELD_OUT_FROM <= place < _HELD_OUT_TO:
            part = "held_out"
        elif _HELD_OUT_FROM - _GAP <= place < _HELD_OUT_TO + _GAP:
            continue
        else:
            part = "train"
        upright = volume[:, :, i].T.flip(0)[None, None]  # (1, 1, H, W), the nose above
        count = _VARIANTS[part]
        theta = _small_motions(count, upright.shape[2], upright.shape[3], generator)
        grid = F.affine_grid(theta, [count, 1, 256, 256], align_corners=False)
        varied = F.grid_sample(upright.expand(count, -1, -1, -1), grid, align_corners=False)
        slices[part].append(F.interpolate(varied, size=(size, size), mode="bilinear", antialias=True))
    parts = {name: _bytes(torch.cat(tensors).expand(-1, channels, -1, -1)) for name, tensors in slices.items()}
    return Images(
        parts["train"],
        parts["held_out"],
        f"axial slices of the ICBM 152 2009a T1 template in nilearn, {size} x {size} pixels, each in "
        f"{_VARIANTS['train']} (held out: {_VARIANTS['held_out']}) variants turned by up to 8 degrees, scaled by up to "
        f"8 % and shifted by up to 4 %; slabs of {_HELD_OUT_TO - _HELD_OUT_FROM} mm held out, {_GAP} mm on either side "
        "of them unused",
    )


def dead_leaves(size: int, channels: int, train: int = 2048, held_out: int = 256) -> Images:
    """Synthetic images of ``leaves.draw``, those held out of another seed."""
    return Images(
        leaves.draw(train, size, channels, seed=0),
        leaves.draw(held_out, size, channels, seed=1),
        f"synthetic dead leaves, {size} x {size} pixels: discs and rectangles of uniform colour that hide one another, "
        "radii r by a density of 1/r³; those held out of another seed",
    )


def _small_motions(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Affine maps (count, 2, 3) from a square to an image that keep its proportions."""
    angle, scale, dx, dy = 2 * torch.rand(4, count, generator=generator) - 1
    angle, scale = angle * np.pi * 8 / 180, 1 + 0.08 * scale
    side = 0.85 * max(height, width)  # what is beyond is black
    theta = torch.empty(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = scale * angle.cos() * side / width, -scale * angle.sin() * side / width
    theta[:, 1, 0], theta[:, 1, 1] = scale * angle.sin() * side / height, scale * angle.cos() * side / height
    theta[:, 0, 2], theta[:, 1, 2] = 0.08 * dx, 0.08 * dy
    return theta


def folder(
    path: Path, size: int, channels: int, cache: Path | None, say: Callable[[str], None], progress: Progress
) -> Images:
    """The images below a folder."""
    if not path.is_dir():
        raise Refused(
            f"{path} is not a folder; --data takes a folder of images, where they have moved to if a run is resumed, "
            f"or {EMBEDDED}"
        )
    known = {*Image.registered_extensions(), *foreign.EXTENSIONS}
    everything = list(_files(path, say))
    files = _once(path, [file for file in everything if file.suffix.lower() in known])
    if not files:
        raise Refused(f"there is no image in {path}: no file has the extension of one")
    partitions = [file for file in everything if file.name in _PARTITIONS]
    wanted = {"files": _facts(path, [*files, *partitions]), "size": size, "channels": channels}
    if cache is not None and (images := _from_cache(cache, wanted)):
        return images
    decoded = _decoded(files, size, channels, say, progress)
    train, held_out = split(path, list(decoded), partitions, say)
    refused = len(files) - len(decoded)
    if not train or not held_out:
        which = "train on" if not train else "hold out"
        why = f"{refused} of {counted(len(files), 'file')} unusable at --size {size}"
        if held_out:
            why += f", {len(held_out)} held out by their folder or by a list"
        raise Refused(f"{path} has no image to {which}: {why}")
    note = f", {refused} left out" if refused else ""
    description = f"{len(train) + len(held_out)} images of {path}, {size} x {size} pixels{note}"
    train_images, held_out_images = (np.stack([decoded[file] for file in part]) for part in (train, held_out))
    result = Images(train_images, held_out_images, description)
    if cache is not None:
        try:
            _to_cache(cache, wanted, result)
        except OSError as error:
            say(f"the decoded images cannot be kept in {cache}: {error.strerror or error}; a resumption decodes again")
    return result


def _files(root: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """Every file below ``root`` in the order of names, links followed and each folder once; without hidden files and
    the pictures that a run has left in its folder."""
    seen = {_identity(root)}

    def unreadable(error: OSError) -> None:
        say(f"{error.filename} is left out: {error.strerror}")

    for place, folders, names in os.walk(root, onerror=unreadable, followlinks=True):
        identities = {name: _identity(Path(place, name)) for name in sorted(folders) if not name.startswith(".")}
        folders[:] = [name for name, identity in identities.items() if identity not in seen]  # loops of links end
        seen.update(identities.values())
        left = outputs.PICTURES if outputs.is_run(Path(place)) else ()
        yield from (Path(place, name) for name in sorted(names) if not name.startswith(".") and name not in left)


def _identity(path: Path) -> object:
    """Identifies a file or folder under all its names."""
    try:
        status = path.stat()
    except OSError:  # a link to nowhere, which is named when it is read
        return path
    return status.st_dev, status.st_ino


def _once(root: Path, files: Sequence[Path]) -> list[Path]:
    """Each file under one name: one in a held-out folder if there is one."""
    names: dict[object, Path] = {}
    for file in files:
        identity = _identity(file)
        if identity not in names or _held_out_by_folder(file.relative_to(root)):
            names[identity] = file
    return [*names.values()]


def _decoded(
    files: Sequence[Path], size: int, channels: int, say: Callable[[str], None], progress: Progress
) -> dict[Path, NDArray[np.uint8]]:
    """The usable images; ``say`` is told why the others are not."""
    found, refused = {}, 0
    # Decoders release the interpreter's lock.
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        for i, (file, result) in enumerate(
            zip(files, pool.map(lambda file: _square(file, size, channels), files), strict=True)
        ):
            progress(i + 1, len(files))
            if isinstance(result, str):
                refused += 1
                if refused <= _NAMED:
                    say(f"{file} is left out: {result}")
            else:
                found[file] = result
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt waits for no more than is being decoded
    if refused > _NAMED:
        say(f"{counted(refused - _NAMED, 'more file')} left out")
    return found


def split(
    root: Path,
    files: Sequence[Path],
    partitions: Sequence[Path] = (),
    say: Callable[[str], None] = lambda message: None,
) -> tuple[list[Path], list[Path]]:
    """The files to train on and those to hold out; see ``load``."""
    held_out = [file for file in files if _held_out_by_folder(file.relative_to(root))]
    for partition in partitions:
        if not held_out and not (held_out := _held_out_by_list(partition, files)):
            say(f"{partition} is ignored: it holds out none of these images")
    if not held_out:
        order = np.random.default_rng(0).permutation(len(files))
        held_out = [files[i] for i in sorted(order[: max(1, len(files) // _HELD_OUT_FILES)])]
    chosen = {*held_out}
    return [file for file in files if file not in chosen], held_out


def _held_out_by_folder(file: Path) -> bool:
    """The outermost folder that is named after a part decides: a class in ``train`` may be called "test"."""
    parts = (part.lower() for part in file.parts[:-1])
    return next((part in _HELD_OUT_FOLDERS for part in parts if part in (*_TRAIN_FOLDERS, *_HELD_OUT_FOLDERS)), False)


def _held_out_by_list(partition: Path, files: Sequence[Path]) -> list[Path]:
    """The images that CelebA's list numbers other than 0, matched by stem, since it says .jpg for PNG images too."""
    try:
        text = partition.read_text("utf-8-sig", "replace")
    except OSError as error:
        raise Refused(f"{partition} cannot be read: {error.strerror or error}") from None
    rows = (re.split(r"[\s,;]+", line) for line in text.splitlines())
    numbers = {Path(row[0].strip('"')).stem: row[1].strip('"') for row in rows if len(row) > 1}
    # Of what counts with pandas, 0 may have become 0.0.
    return [file for file in files if numbers.get(file.stem, "0").removesuffix(".0") != "0"]


def _square(path: Path, size: int, channels: int) -> NDArray[np.uint8] | str:
    """The image (C, size, size), or why it cannot be used."""
    try:
        colour = photos.read(path).colour
    except Refused as error:
        return str(error)
    height, width = colour.shape[1:]
    side = min(height, width)
    if side < size:
        return f"{width} x {height} pixels, too small for --size {size}"
    lowest, highest = colour.min().item(), colour.max().item()
    if not -_ROUNDING <= lowest <= highest <= 1 + _ROUNDING:  # which is false of NaN, too
        return f"floating-point values from {lowest:g} to {highest:g}; scale them to 0 to 1"
    top, left = (height - side) // 2, (width - side) // 2
    square = _channels(colour[:, top : top + side, left : left + side], channels)[None]
    return _bytes(F.interpolate(square, size=(size, size), mode="bicubic", antialias=True)[0])


def _channels(colour: Tensor, channels: int) -> Tensor:
    """(1|3, H, W) with that many channels; grey is the luma of ITU-R BT.601."""
    if channels == 1 and colour.shape[0] == 3:
        return (colour * colour.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
    return colour.expand(channels, -1, -1)


def _bytes(values: Tensor) -> NDArray[np.uint8]:
    return (values.clamp(0, 1) * 255).round().to(torch.uint8).contiguous().numpy()


def _facts(root: Path, files: Sequence[Path]) -> str:
    """A digest of the files' names, sizes and times, which tells whether to decode again."""
    facts = []
    for file in files:
        try:
            status = file.stat()
        except OSError:  # a link to nowhere, which is left out later
            continue
        facts.append((str(file.relative_to(root)), status.st_size, status.st_mtime_ns))
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _to_cache(cache: Path, wanted: dict[str, Any], found: Images) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    (cache / _INDEX).unlink(missing_ok=True)
    for name in _PARTS:
        outputs.sweep(cache, f"{name}.npy")
        with atomic(cache / f"{name}.npy") as file:
            np.save(file, getattr(found, name))
    outputs.sweep(cache, _INDEX)
    with atomic(cache / _INDEX) as file:  # last: what it describes is complete
        described = {**wanted, "digest": found.digest, "description": found.description}
        file.write(json.dumps(described).encode())


def _from_cache(cache: Path, wanted: dict[str, Any]) -> Images | None:
    """The images that ``_to_cache`` kept, if they are the wanted ones, complete and undamaged."""
    try:
        facts = json.loads((cache / _INDEX).read_bytes())
        # Mapped: what does not fit the memory stays on disk, and processes on one machine share it.
        train, held_out = (np.load(cache / f"{name}.npy", mmap_mode="r") for name in _PARTS)
        found = Images(train, held_out, facts.pop("description"))
        return found if facts == {**wanted, "digest": found.digest} else None
    except (OSError, ValueError, KeyError, AttributeError, EOFError, TypeError):
        return None
