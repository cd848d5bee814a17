"""The reference against independent implementations and against theory."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import focal_frequency_loss
import numpy as np
import pytest
import scipy.ndimage
import skimage.restoration
import torch
import torch.nn.functional as F
from inputs import images, kernels, positive
from torch import Tensor

import blurfft
from blurfft import reference


def circulant(kernel: Tensor, height: int, width: int) -> Tensor:
    """The periodic convolution as a dense (HW, HW) matrix, entry by entry."""
    kh, kw = kernel.shape
    matrix = torch.zeros(height, width, height, width, dtype=kernel.dtype)
    for i in range(height):
        for j in range(width):
            for u in range(kh):
                for v in range(kw):
                    matrix[i, j, (i - u + kh // 2) % height, (j - v + kw // 2) % width] += kernel[u, v]
    return matrix.view(height * width, height * width)


def wiener_matrix(kernel: Tensor, height: int, width: int, nsr: Tensor) -> Tensor:
    """(AᵀA + C)⁻¹Aᵀ, the Wiener inverse of the blur A."""
    A = circulant(kernel, height, width)
    return torch.linalg.solve(A.T @ A + nsr * torch.eye(len(A), dtype=A.dtype), A.T)


@pytest.mark.parametrize("size", [(7, 6), (4, 9)])
@pytest.mark.parametrize("kernel_size", [(3, 3), (2, 3), (4, 1), (1, 6)])
def test_blur_is_scipys_periodic_convolution(size: tuple[int, int], kernel_size: tuple[int, int]) -> None:
    x, k = images((1, 1, *size)), kernels(kernel_size)
    truth = scipy.ndimage.convolve(x[0, 0].numpy(), k.numpy(), mode="wrap")
    np.testing.assert_allclose(reference.blur(x, k)[0, 0].numpy(), truth, atol=1e-12)


@pytest.mark.parametrize("kernel_size", [(3, 3), (5, 5), (3, 5)])
def test_wiener_filter_is_skimages(kernel_size: tuple[int, int]) -> None:
    x, k = images((1, 1, 12, 10)), kernels(kernel_size)
    truth = skimage.restoration.wiener(
        x[0, 0].numpy(), k.numpy(), balance=0.03, reg=np.ones((1, 1)), is_real=True, clip=False
    )
    np.testing.assert_allclose(reference.wiener_filter(x, k, 0.03)[0, 0].numpy(), truth, atol=1e-12)


def test_wiener_filter_is_the_matrix_inverse() -> None:
    x, k, nsr = images((2, 3, 5, 4)), kernels((2, 3, 3, 2)), positive((2, 3))
    restored = reference.wiener_filter(x, k, nsr)
    for n in range(2):
        for c in range(3):
            W = wiener_matrix(k[n, c], 5, 4, nsr[n, c])
            torch.testing.assert_close(restored[n, c].flatten(), W @ x[n, c].flatten())


@pytest.mark.parametrize("kernel_shape", [(3, 2), (2, 1, 3, 2), (1, 3, 2, 3)])
def test_wiener_nll_is_the_dense_gaussian(kernel_shape: tuple[int, ...]) -> None:
    N, C, H, W = 2, 3, 4, 3
    x, y, k = images((N, C, H, W)), images((N, C, H, W)), kernels(kernel_shape)
    nsr, eps = positive((N,)), positive((N, C))
    planes = k.expand(N, C, *k.shape[-2:])
    for n in range(N):
        nll = torch.zeros((), dtype=torch.float64)
        for c in range(C):
            inverse = wiener_matrix(planes[n, c], H, W, nsr[n])
            precision = inverse.T @ inverse + eps[n, c] * torch.eye(H * W, dtype=torch.float64)
            gaussian = torch.distributions.MultivariateNormal(x[n, c].flatten(), precision_matrix=precision)
            nll -= gaussian.log_prob(y[n, c].flatten())
        torch.testing.assert_close(reference.wiener_nll(x, y, k, nsr, eps=eps, reduction="none")[n], nll)


def test_wiener_nll_reductions() -> None:
    x, y, k = images((4, 2, 6, 5)), images((4, 2, 6, 5)), kernels((3, 3))
    each = reference.wiener_nll(x, y, k, reduction="none")
    assert each.shape == (4,)
    torch.testing.assert_close(reference.wiener_nll(x, y, k, reduction="sum"), each.sum())
    torch.testing.assert_close(reference.wiener_nll(x, y, k), each.mean())


def test_every_plane_contributes_its_log_determinant() -> None:
    x, k = images((1, 1, 6, 6)), kernels((3, 3))
    one = reference.wiener_nll(x, x, k)
    torch.testing.assert_close(reference.wiener_nll(x.expand(1, 5, 6, 6), x.expand(1, 5, 6, 6), k), 5 * one)


def test_the_likelihood_diverges_where_the_blur_removed_a_frequency() -> None:
    x, box = images((1, 1, 6, 6)), torch.full((1, 2), 0.5, dtype=torch.float64)  # K vanishes at f2 = W/2
    assert reference.wiener_nll(x, x, box, eps=0.0) > 100
    assert torch.isfinite(reference.wiener_nll(x, x, box, eps=1e-3))
    assert reference.wiener_weight(box, (6, 6))[..., 3].abs().max() < 1e-12


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_delta_kernel_gives_the_mean_squared_error(reduction: str) -> None:
    x, y = images((2, 3, 6, 5)), images((2, 3, 6, 5))
    delta = torch.zeros(3, 3, dtype=torch.float64)
    delta[1, 1] = 1
    truth = F.mse_loss(x, y, reduction=reduction)
    ones = torch.ones(6, 3, dtype=torch.float64)
    torch.testing.assert_close(reference.wiener_loss(x, y, delta, 0.0, eps=0.0, reduction=reduction), truth)
    torch.testing.assert_close(reference.spectral_mse(x, y, ones, reduction=reduction), truth)
    torch.testing.assert_close(reference.blur_mse(x, y, delta, reduction=reduction), truth)


@pytest.mark.parametrize("loss", ["wiener_loss", "spectral_mse", "blur_mse"])
def test_the_map_sums_to_the_loss(loss: str) -> None:
    x, y, k = images((2, 3, 6, 5)), images((2, 3, 6, 5)), kernels((3, 2))
    if loss == "spectral_mse":
        k = reference.wiener_weight(k, (6, 5))
    function = getattr(reference, loss)
    each = function(x, y, k, reduction="none")
    assert each.shape == x.shape
    torch.testing.assert_close(function(x, y, k, reduction="sum"), each.sum())
    torch.testing.assert_close(function(x, y, k, reduction="mean"), each.mean())


def test_wiener_loss_is_its_weight() -> None:
    x, y, k = images((2, 3, 6, 5)), images((2, 3, 6, 5)), kernels((2, 1, 3, 2))
    nsr, eps = positive((2, 3)), positive((2,))
    weight = reference.wiener_weight(k, (6, 5), nsr, eps)
    assert weight.shape == (2, 3, 6, 3)
    torch.testing.assert_close(reference.wiener_loss(x, y, k, nsr, eps=eps), reference.spectral_mse(x, y, weight))


def test_shifting_the_kernel_leaves_the_weight() -> None:
    k = F.pad(kernels((3, 3)), (1, 3, 2, 2))
    weight = reference.wiener_weight(k, (12, 10))
    torch.testing.assert_close(reference.wiener_weight(k.roll((1, -1), (0, 1)), (12, 10)), weight)


@pytest.mark.parametrize("nsr", [0.01, 0.3])
def test_the_weight_peaks_at_the_square_root_of_the_nsr(nsr: float) -> None:
    def weight(transfer: float) -> float:
        return reference.wiener_weight(torch.full((1, 1), transfer, dtype=torch.float64), (4, 4), nsr).max().item()

    peak = math.sqrt(nsr)
    assert weight(peak) == pytest.approx(1 / (4 * nsr))
    assert weight(0.9 * peak) < weight(peak) > weight(1.1 * peak)
    assert weight(0.0) == 0.0


def test_transforms_are_torchs() -> None:
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    for norm in ("backward", "ortho", "forward"):
        torch.testing.assert_close(reference.rfft2(x, norm=norm), torch.fft.rfft2(x, norm=norm))
        torch.testing.assert_close(reference.irfft2(reference.rfft2(x, norm=norm), (6, 5), norm=norm), x)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha": 0.5, "loss_weight": 2.5},
        {"patch_factor": 2},
        {"ave_spectrum": True},
        {"log_matrix": True},
        {"batch_matrix": True},
        {"alpha": 2.0, "patch_factor": 3, "ave_spectrum": True, "log_matrix": True, "batch_matrix": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(12, 6), (6, 18)])
def test_focal_frequency_loss_is_the_packages(options: dict[str, float], size: tuple[int, int]) -> None:
    x, y = images((3, 2, *size)).requires_grad_(), images((3, 2, *size)).requires_grad_()
    truth = focal_frequency_loss.FocalFrequencyLoss(**options)(x, y)
    loss = reference.focal_frequency_loss(x, y, **options)
    torch.testing.assert_close(loss, truth)
    torch.testing.assert_close(torch.autograd.grad(loss, (x, y)), torch.autograd.grad(truth, (x, y)))


def imports(path: Path) -> set[str]:
    """What a file imports of blurfft, as ``module`` or ``module.name``, below ``blurfft``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("blurfft")):
            module = (node.module or "").removeprefix("blurfft").strip(".")
            found |= {f"{module}.{name.name}".strip(".") for name in node.names} | {module}
        elif isinstance(node, ast.Import):
            found |= {name.name.removeprefix("blurfft.") for name in node.names if name.name.startswith("blurfft")}
    return found


def test_the_truth_shares_nothing_with_what_it_judges() -> None:
    assert reference.__file__ is not None
    assert imports(Path(reference.__file__)) == set()
    package = Path(reference.__file__).parent
    kernels = Path(blurfft.__path__[0]).parent / "kernels"
    judges = {"selfcheck.py", "demo.py"}  # these compare with it
    product = {path for path in (*package.rglob("*.py"), *kernels.glob("*.py")) if path.name not in judges}
    assert len(product) > 40
    for path in product:
        assert not {name for name in imports(path) if name.split(".")[0] == "reference"}, path
