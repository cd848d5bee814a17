"""What is measured: the cases of each suite, and their inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from blurfft import reference

# What a contender computes, by name.
Outputs = dict[str, Tensor]
RESULT = "result"  # the loss, or what an op that is no loss returns
INPUT_GRAD = "input gradient"
KERNEL_GRAD = "kernel gradient"

# The arguments of each op, by the names of the fields of Inputs.
ARGUMENTS = {
    "wiener_loss": ("input", "target", "kernel"),
    "wiener_nll": ("input", "target", "kernel"),
    "blur_mse": ("input", "target", "kernel"),
    "spectral_mse": ("input", "target", "weight"),
    "focal_frequency_loss": ("input", "target"),
    "wiener_filter": ("input", "kernel"),
    "blur": ("input", "kernel"),
    "rfft2": ("input",),
    "irfft2": ("spectrum", "size"),
}
TRAINING_STEP = "training step"  # no op, but what they are for
LOSSES = frozenset(op for op, arguments in ARGUMENTS.items() if "target" in arguments)

SIZES = (16, 32, 64, 128, 256, 512, 1024)
OTHER_SIZES = (28, 96, 160, 224)
CELEBA_SIZE = (218, 178)  # 2·109 × 2·89
# Sides with a prime factor above 7, each with the nearest size without any.
AWKWARD_SIZES = {
    (89, 97): (90, 96),
    (121, 143): (120, 144),
    (127, 127): (128, 128),
    CELEBA_SIZE: (224, 180),
    (251, 251): (256, 256),
    (509, 509): (512, 512),
}
NEIGHBOURS = tuple((height, width) for height, width in AWKWARD_SIZES.values() if height != width)
CHANNELS = 3
PIXELS = {
    "cpu": 256 * CHANNELS * 64 * 64,  # 12 MiB a tensor in fp32: several of them exceed the caches, as in training
    "cuda": 2048 * CHANNELS * 64 * 64,  # 96 MiB: one alone exceeds the second-level cache
}


@dataclass(frozen=True)
class Case:
    """One op on one shape. A pixel is one value of one channel."""

    op: str  # its name in the public API and in blurfft.reference
    shape: tuple[int, int, int, int]  # (N, C, H, W)
    dtype: str = "float32"
    channels_last: bool = False
    kernel_size: int = 11
    kernel_shared_by: str = "batch"  # or "sample": one for each sample; or "plane": one for each channel of each
    kernel_grad: bool = False
    backward: bool = True

    @property
    def pixels(self) -> int:
        return math.prod(self.shape)

    @property
    def size(self) -> tuple[int, int]:
        return self.shape[2], self.shape[3]

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def traffic(self) -> int:
        """The fewest bytes that can be moved, reading operands and writing results, relative to those of the input."""
        if self.op in LOSSES:
            return 3 if self.backward else 2
        return 4 if self.backward else 2

    @property
    def variant(self) -> str:
        """How the case differs from the usual one of its op, in words."""
        words = []
        if self.dtype != "float32":
            words.append(self.dtype)
        if self.channels_last:
            words.append("channels_last")
        if "kernel" in ARGUMENTS.get(self.op, ()):
            if self.kernel_size != 11:
                words.append(f"kernel {self.kernel_size}×{self.kernel_size}")
            if self.kernel_shared_by != "batch":
                words.append(f"a kernel a {self.kernel_shared_by}")
            if self.kernel_grad:
                words.append("its gradient")
        if not self.backward:
            words.append("forward")
        return ", ".join(words)

    @property
    def images(self) -> str:
        return "×".join(str(extent) for extent in self.shape)

    def __str__(self) -> str:
        return f"{self.op} {self.images}" + (f" ({self.variant})" if self.variant else "")


def batch_of(size: int | tuple[int, int], pixels: int, channels: int = CHANNELS) -> tuple[int, int, int, int]:
    """The batch shape with about ``pixels`` values."""
    height, width = (size, size) if isinstance(size, int) else size
    return max(1, round(pixels / (channels * height * width))), channels, height, width


def standard(op: str, size: int | tuple[int, int], pixels: int) -> Case:
    """The op as it is mostly used, on a batch of RGB images with about so many pixels in all."""
    case = Case(op, batch_of(size, pixels), backward=op in LOSSES)
    if op == "wiener_nll":  # of a VAE: a network predicts the kernels
        return replace(case, kernel_shared_by="sample", kernel_grad=True)
    if op == "blur_mse":  # the kernel is fitted
        return replace(case, kernel_grad=True)
    return case


def _sizes(op: str, pixels: int, sizes: Sequence[int | tuple[int, int]]) -> list[Case]:
    return [standard(op, size, pixels) for size in sizes]


def _batches(base: Case, batches: Sequence[int]) -> list[Case]:
    return [replace(base, shape=(n, *base.shape[1:])) for n in batches if n < base.shape[0]]


def loss_cases(pixels: int) -> list[Case]:
    base = standard("wiener_loss", 64, pixels)
    return [
        *_sizes("wiener_loss", pixels, (*SIZES, *OTHER_SIZES, *AWKWARD_SIZES, *NEIGHBOURS)),
        *_batches(base, (1, 4, 16, 64)),
        *(replace(base, shape=batch_of(64, pixels, channels)) for channels in (1, 16, 64)),
        *(replace(base, kernel_size=k) for k in (3, 31, 63)),
        *(replace(base, kernel_shared_by=by) for by in ("sample", "plane")),
        *(replace(base, dtype=dtype) for dtype in ("bfloat16", "float64")),
        *(replace(case, channels_last=True) for case in _sizes("wiener_loss", pixels, (64, 256))),
        *(replace(case, backward=False) for case in _sizes("wiener_loss", pixels, (64, 256))),
        *_sizes("spectral_mse", pixels, (64, 256)),
        *_sizes("blur_mse", pixels, (64, 256)),
    ]


def nll_cases(pixels: int) -> list[Case]:
    base = standard("wiener_nll", 64, pixels)
    return [
        *_sizes("wiener_nll", pixels, (*SIZES, *OTHER_SIZES, *AWKWARD_SIZES, *NEIGHBOURS)),
        *_batches(base, (1, 8, 64)),
        *(replace(base, kernel_size=k) for k in (3, 31)),
        replace(base, dtype="bfloat16"),
        replace(base, channels_last=True),
        replace(base, kernel_grad=False),
        replace(base, kernel_grad=False, backward=False),
    ]


def ffl_cases(pixels: int) -> list[Case]:
    base = standard("focal_frequency_loss", 64, pixels)
    return [
        *_sizes("focal_frequency_loss", pixels, (*SIZES, 28, 224, CELEBA_SIZE)),
        *_batches(base, (8,)),
        replace(base, dtype="bfloat16"),
        replace(base, channels_last=True),
        replace(base, backward=False),
    ]


def filter_cases(pixels: int) -> list[Case]:
    two = _sizes("wiener_filter", pixels, (64, 256))
    return [
        *_sizes("wiener_filter", pixels, (*SIZES, 224, CELEBA_SIZE)),
        *(replace(case, kernel_shared_by="sample") for case in two),
        *(replace(case, backward=True) for case in two),
        *_sizes("blur", pixels, (64, 256)),
    ]


def fft_cases(pixels: int) -> list[Case]:
    sizes: list[int | tuple[int, int]] = [*SIZES, *OTHER_SIZES, *AWKWARD_SIZES]
    return [case for op in ("rfft2", "irfft2") for case in _sizes(op, pixels, sizes)]


def overhead_cases(pixels: int) -> list[Case]:
    """Images so small that the call costs more than the arithmetic."""
    return [
        replace(standard(op, 64, pixels), shape=shape, kernel_size=5)
        for op in ("wiener_loss", "wiener_nll", "spectral_mse", "blur_mse", "focal_frequency_loss")
        for shape in ((1, 1, 16, 16), (1, 3, 32, 32), (8, 1, 64, 64))
    ]


def train_cases(pixels: int) -> list[Case]:
    """Steps of a VAE, see train.py."""
    batches = {side: min(64, batch_of(side, pixels // 4)[0]) for side in (32, 64, 128)}
    return [
        Case(TRAINING_STEP, (batch, CHANNELS, side, side), kernel_shared_by="sample", kernel_grad=True)
        for side, batch in batches.items()
    ]


def memory_cases(pixels: int) -> list[Case]:
    ops = ("wiener_loss", "wiener_nll", "focal_frequency_loss")
    cases = [case for op in ops for case in _sizes(op, pixels, (64, 256, 512))]
    sizes = dict.fromkeys((*AWKWARD_SIZES, *AWKWARD_SIZES.values()))
    return list(dict.fromkeys((*cases, *_sizes("wiener_loss", pixels, list(sizes)))))


def accuracy_cases(pixels: int) -> list[Case]:
    ops = ("wiener_loss", "wiener_nll", "focal_frequency_loss", "wiener_filter", "rfft2")
    return [case for op in ops for case in _sizes(op, pixels // 4, (28, 64, 256, 1024))]


SUITES: dict[str, Callable[[int], list[Case]]] = {
    "loss": loss_cases,
    "nll": nll_cases,
    "ffl": ffl_cases,
    "filter": filter_cases,
    "fft": fft_cases,
    "overhead": overhead_cases,
    "train": train_cases,
    "memory": memory_cases,
    "accuracy": accuracy_cases,
}


@dataclass
class Inputs:
    """The tensors of a case, by the names of its op's arguments."""

    case: Case
    input: Tensor  # (N, C, H, W)
    target: Tensor  # (N, C, H, W)
    kernel: Tensor  # (kh, kw), (N, 1, kh, kw) or (N, C, kh, kw)

    @classmethod
    def of(cls, case: Case, device: str = "cpu", seed: int = 0) -> Inputs:
        generator = torch.Generator(device).manual_seed(seed)
        layout = torch.channels_last if case.channels_last else torch.contiguous_format
        target = torch.rand(case.shape, generator=generator, device=device)
        input = target + 0.1 * torch.randn(case.shape, generator=generator, device=device)
        # A blur as a network predicts it: a Gaussian with some irregularity, non-negative and of sum 1.
        k = case.kernel_size
        axis = torch.arange(k, device=device) - k // 2
        gaussian = -(axis[:, None] ** 2 + axis**2) / (2 * 2.0**2)
        batch, channels, _, _ = case.shape
        planes = {"batch": (), "sample": (batch, 1), "plane": (batch, channels)}[case.kernel_shared_by]
        logits = gaussian + 0.5 * torch.randn((*planes, k, k), generator=generator, device=device)
        kernel = logits.flatten(-2).softmax(-1).view(logits.shape)
        return cls(
            case,
            input.to(case.torch_dtype, memory_format=layout).requires_grad_(case.backward),
            target.to(case.torch_dtype, memory_format=layout),
            kernel.to(reference.compute_dtype(case.torch_dtype)).requires_grad_(case.kernel_grad),
        )

    @property
    def size(self) -> tuple[int, int]:
        return self.case.size

    @cached_property
    def weight(self) -> Tensor:
        return reference.wiener_weight(self.kernel.detach(), self.size)  # (1, 1, H, W//2+1)

    @cached_property
    def spectrum(self) -> Tensor:
        return reference.rfft2(self.input.detach())  # (N, C, H, W//2+1)

    @cached_property
    def result_grad(self) -> Tensor:
        """The incoming gradient of an op that is not a loss."""
        return torch.flip(self.target, (0, 2))

    def double(self) -> Inputs:
        """The same values in float64."""
        input, target, kernel = (
            t.detach().double().requires_grad_(t.requires_grad) for t in (self.input, self.target, self.kernel)
        )
        return Inputs(self.case, input, target, kernel)

    def clear(self) -> None:
        self.input.grad = self.kernel.grad = None

    def run(self, op: Callable[..., Tensor]) -> Outputs:
        """Calls the op; if the case has a backward pass, sets gradients to None first and runs it, as in training."""
        arguments = [getattr(self, name) for name in ARGUMENTS[self.case.op]]
        if not self.case.backward:
            with torch.no_grad():
                return {RESULT: op(*arguments)}
        self.clear()
        result = op(*arguments)
        result.backward(None if self.case.op in LOSSES else self.result_grad)
        grads = {INPUT_GRAD: self.input.grad, KERNEL_GRAD: self.kernel.grad}
        return {RESULT: result, **{name: grad for name, grad in grads.items() if grad is not None}}
