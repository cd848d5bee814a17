"""What is measured: the cases of each suite, their inputs, and the targets that the results are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Loss, gradient by input, gradient by kernel; None where there is none.
Outputs = tuple[Tensor | None, Tensor | None, Tensor | None]
OUTPUT_NAMES = ("loss", "input gradient", "kernel gradient")

MAIN_SIZES = (64, 128, 256)
OTHER_SIZES = (28, 96, 160, 224, 512)
PIXELS = 256 * 3 * 64 * 64  # 12 MiB a tensor in fp32: several of them exceed the caches, as in training
CHANNELS = 3


@dataclass(frozen=True)
class Case:
    """One op on one shape; fp32, contiguous, forward + backward."""

    op: str  # its name in the public API and in blurfft.reference
    shape: tuple[int, int, int, int]  # (N, C, H, W)
    kernel_size: int = 11
    kernel_per_sample: bool = False  # else one kernel for the whole batch
    kernel_grad: bool = False

    @property
    def pixels(self) -> int:
        return torch.Size(self.shape).numel()

    @property
    def images(self) -> str:
        return "×".join(str(extent) for extent in self.shape)

    def __str__(self) -> str:
        return f"{self.op} {self.images}"


def _shape(size: int, pixels: int) -> tuple[int, int, int, int]:
    batch = max(1, round(pixels / (CHANNELS * size * size)))
    return batch, CHANNELS, size, size


def loss_cases(sizes: Sequence[int], pixels: int) -> list[Case]:
    return [Case("wiener_loss", _shape(size, pixels)) for size in sizes]


def nll_cases(sizes: Sequence[int], pixels: int) -> list[Case]:
    return [Case("wiener_nll", _shape(size, pixels), kernel_per_sample=True, kernel_grad=True) for size in sizes]


def all_cases(sizes: Sequence[int], pixels: int) -> list[Case]:
    return loss_cases(sizes, pixels) + nll_cases(sizes, pixels)


SUITES: dict[str, Callable[[Sequence[int], int], list[Case]]] = {
    "loss": loss_cases,
    "nll": nll_cases,
    "memory": all_cases,
    "accuracy": all_cases,
}


@dataclass
class Inputs:
    input: Tensor  # (N, C, H, W)
    target: Tensor  # (N, C, H, W)
    kernel: Tensor  # (kh, kw) or (N, 1, kh, kw)

    @classmethod
    def of(cls, case: Case, seed: int = 0) -> Inputs:
        generator = torch.Generator().manual_seed(seed)
        target = torch.rand(case.shape, generator=generator)
        noise = torch.randn(case.shape, generator=generator)
        # A blur as a network predicts it: a Gaussian with some irregularity, non-negative and of sum 1.
        k = case.kernel_size
        axis = torch.arange(k) - k // 2
        gaussian = -(axis[:, None] ** 2 + axis**2) / (2 * 2.0**2)
        size = (case.shape[0], 1, k, k) if case.kernel_per_sample else (k, k)
        logits = gaussian + 0.5 * torch.randn(size, generator=generator)
        kernel = logits.flatten(-2).softmax(-1).view(size)
        return cls(
            target.add(noise, alpha=0.1).requires_grad_(),
            target,
            kernel.requires_grad_(case.kernel_grad),
        )

    def double(self) -> Inputs:
        input, target, kernel = (
            t.detach().double().requires_grad_(t.requires_grad) for t in (self.input, self.target, self.kernel)
        )
        return Inputs(input, target, kernel)

    def clear(self) -> None:
        self.input.grad = self.kernel.grad = None

    def backward(self, loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Outputs:
        """One step of training as the loss sees it: gradients set to None, forward, backward."""
        self.clear()
        value = loss(self.input, self.target, self.kernel)
        value.backward()
        return value, self.input.grad, self.kernel.grad


# Contenders by name; the backends of blurfft are "blurfft cpu" and so on.
COPY = "copy"
MSE = "mse_loss"
EAGER = "torch.fft"
HAND = "torch.fft by hand"
GRADIENT = "gradient alone"
OURS = "blurfft"


@dataclass(frozen=True)
class Target:
    """What the quotient of two contenders should be, at the main sizes and at others. It is shown, nothing more."""

    numerator: str
    denominator: str
    relation: str  # "≤" or "≥"
    main: float
    other: float

    def limit(self, case: Case) -> float:
        return self.main if case.shape[2] in MAIN_SIZES and case.shape[3] in MAIN_SIZES else self.other

    def met(self, case: Case, value: float) -> bool:
        return value <= self.limit(case) if self.relation == "≤" else value >= self.limit(case)


TARGETS = {
    "loss": (
        Target(OURS, MSE, "≤", 0.75, 1.0),
        Target(EAGER, OURS, "≥", 12.0, 8.0),
        Target(HAND, OURS, "≥", 3.0, 2.0),
    ),
    "nll": (
        Target(OURS, MSE, "≤", 1.5, 2.0),
        Target(EAGER, OURS, "≥", 10.0, 8.0),
    ),
    "accuracy": (Target(OURS, EAGER, "≤", 1.0, 1.0),),
}
MEMORY_TARGET = 2.0  # % of one gradient tensor, beyond the gradients
