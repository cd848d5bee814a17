"""Every kind of wrong argument has its own message, before any work."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import blurfft

x = torch.zeros(4, 3, 16, 12)
k = torch.ones(3, 3)
w = torch.ones(16, 7)
masked = torch.masked.masked_tensor(x, x == 0)
half = torch.zeros(4, 3, 16, 7, dtype=torch.complex64)

BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    # images
    (lambda: blurfft.wiener_loss([0.0], x, k), TypeError, "input must be a torch.Tensor, got list"),
    (lambda: blurfft.wiener_loss(x, x.numpy(), k), TypeError, "target must be a torch.Tensor, got ndarray"),
    (
        lambda: blurfft.wiener_loss(x.long(), x, k),
        TypeError,
        "input must be float32, float64, bfloat16 or float16, got torch.int64",
    ),
    (
        lambda: blurfft.wiener_nll(x, x.to(torch.complex64), k),
        TypeError,
        "target must be float32, float64, bfloat16 or",
    ),
    (lambda: blurfft.wiener_nll(x.bool(), x, k), TypeError, "input must be float32, float64, bfloat16 or float16, got"),
    (
        lambda: blurfft.blur(x.to(torch.float8_e5m2), k),
        TypeError,
        "input must be float32, float64, bfloat16 or float16, got",
    ),
    (lambda: blurfft.blur_mse(x.to_sparse(), x, k), TypeError, "input must be a dense (strided) tensor, got layout"),
    (
        lambda: blurfft.wiener_loss(x[0], x[0], k),
        ValueError,
        "input must have 4 dimensions (N, C, H, W), got shape (3, 16, 12)",
    ),
    (lambda: blurfft.spectral_mse(x, x[0], w), ValueError, "target must have 4 dimensions (N, C, H, W), got shape"),
    (lambda: blurfft.blur(x[None], k), ValueError, "input must have 4 dimensions (N, C, H, W), got shape (1, 4, 3"),
    (lambda: blurfft.wiener_filter(x[0], k), ValueError, "input must have 4 dimensions (N, C, H, W), got shape"),
    (
        lambda: blurfft.wiener_loss(x[..., :0], x[..., :0], k),
        ValueError,
        "input must have planes of at least 1x1, got shape (4, 3, 16, 0)",
    ),
    (
        lambda: blurfft.wiener_loss(x, x[:1], k),
        ValueError,
        "input and target must have the same shape, got (4, 3, 16, 12) and (1, 3, 16, 12)",
    ),
    (lambda: blurfft.focal_frequency_loss(x, x[:, :1]), ValueError, "input and target must have the same shape"),
    (
        lambda: blurfft.wiener_loss(x, x.to("meta"), k),
        ValueError,
        "target must be on the device of input, cpu, got meta",
    ),
    # kernels
    (lambda: blurfft.blur(x, [[1.0]]), TypeError, "kernel must be a torch.Tensor, got list"),
    (lambda: blurfft.blur(x, 1.0), TypeError, "kernel must be a torch.Tensor, got float"),
    (
        lambda: blurfft.blur(x, k.int()),
        TypeError,
        "kernel must be float32, float64, bfloat16 or float16, got torch.int32",
    ),
    (lambda: blurfft.blur(x, k.to_sparse()), TypeError, "kernel must be a dense (strided) tensor"),
    (
        lambda: blurfft.blur(x, k[0]),
        ValueError,
        "kernel must have shape (kh, kw) or (N|1, C|1, kh, kw), got (3,)",
    ),
    (
        lambda: blurfft.blur(x, k[None]),
        ValueError,
        "kernel must have shape (kh, kw) or (N|1, C|1, kh, kw), got (1, 3, 3)",
    ),
    (lambda: blurfft.wiener_loss(x, x, k[:0]), ValueError, "kernel must be at least 1x1, got shape (0, 3)"),
    (
        lambda: blurfft.wiener_nll(x, x, torch.ones(17, 3)),
        ValueError,
        "kernel must be no larger than the image, 16x12, got 17x3",
    ),
    (
        lambda: blurfft.blur(x, torch.ones(3, 13)),
        ValueError,
        "kernel must be no larger than the image, 16x12, got 3x13",
    ),
    (
        lambda: blurfft.blur(x, k.expand(2, 1, 3, 3)),
        ValueError,
        "kernel must be of 1 or N = 4 samples and of 1 or C = 3 channels, got shape (2, 1, 3, 3)",
    ),
    (lambda: blurfft.blur_mse(x, x, k.expand(4, 2, 3, 3)), ValueError, "kernel must be of 1 or N = 4 samples and of"),
    (
        lambda: blurfft.wiener_filter(x, k.to("meta")),
        ValueError,
        "kernel must be on the device of input, cpu, got meta",
    ),
    # nsr and eps
    (lambda: blurfft.wiener_loss(x, x, k, "0.1"), TypeError, "nsr must be a float or a torch.Tensor, got str"),
    (lambda: blurfft.wiener_loss(x, x, k, None), TypeError, "nsr must be a float or a torch.Tensor, got NoneType"),
    (lambda: blurfft.wiener_loss(x, x, k, True), TypeError, "nsr must be a float or a torch.Tensor, got bool"),
    (lambda: blurfft.wiener_loss(x, x, k, -0.1), ValueError, "nsr must be non-negative, got -0.1"),
    (lambda: blurfft.wiener_filter(x, k, float("nan")), ValueError, "nsr must be non-negative, got nan"),
    (lambda: blurfft.wiener_nll(x, x, k, eps=-1), ValueError, "eps must be non-negative, got -1"),
    (lambda: blurfft.wiener_nll(x, x, k, eps=[0.1]), TypeError, "eps must be a float or a torch.Tensor, got list"),
    (lambda: blurfft.wiener_nll(x, x, k, torch.ones(4).int()), TypeError, "nsr must be float32, float64, bfloat16 or"),
    (
        lambda: blurfft.wiener_nll(x, x, k, torch.ones(3)),
        ValueError,
        "nsr must be of 1 or N = 4 samples and of 1 or C = 3 channels, got shape (3,)",
    ),
    (
        lambda: blurfft.wiener_nll(x, x, k, eps=torch.ones(4, 4)),
        ValueError,
        "eps must be of 1 or N = 4 samples and of 1",
    ),
    (
        lambda: blurfft.wiener_loss(x, x, k, torch.ones(4, 3, 1)),
        ValueError,
        "nsr must have shape (), (N,) or (N, C), got (4, 3, 1)",
    ),
    (
        lambda: blurfft.wiener_loss(x, x, k, torch.ones((), device="meta")),
        ValueError,
        "nsr must be on the device of input, cpu, got meta",
    ),
    # weights
    (lambda: blurfft.spectral_mse(x, x, None), TypeError, "weight must be a torch.Tensor, got NoneType"),
    (lambda: blurfft.spectral_mse(x, x, half), TypeError, "weight must be float32, float64, bfloat16 or float16, got"),
    (
        lambda: blurfft.spectral_mse(x, x, w[0]),
        ValueError,
        "weight must have shape (H, W//2+1) or (N|1, C|1, H, W//2+1)",
    ),
    (
        lambda: blurfft.spectral_mse(x, x, torch.ones(16, 12)),
        ValueError,
        "weight must lie on the half spectrum of the image, (H, W//2+1) = (16, 7), got shape (16, 12)",
    ),
    (lambda: blurfft.spectral_mse(x, x, w.expand(3, 1, 16, 7)), ValueError, "weight must be of 1 or N = 4 samples and"),
    (
        lambda: blurfft.spectral_mse(x, x, w.to("meta")),
        ValueError,
        "weight must be on the device of input, cpu, got meta",
    ),
    # wiener_weight
    (lambda: blurfft.wiener_weight(k, 16), TypeError, "size must be a pair of ints (H, W), got 16"),
    (lambda: blurfft.wiener_weight(k, (16,)), TypeError, "size must be a pair of ints (H, W), got (16,)"),
    (lambda: blurfft.wiener_weight(k, (16, 12.0)), TypeError, "size must be a pair of ints (H, W), got (16, 12.0)"),
    (lambda: blurfft.wiener_weight(k, (True, 16)), TypeError, "size must be a pair of ints (H, W), got (True, 16)"),
    (lambda: blurfft.wiener_weight(k, (16, torch.tensor(12))), TypeError, "size must be a pair of ints (H, W), got"),
    (lambda: blurfft.wiener_weight(k, (np.True_, 16)), TypeError, "size must be a pair of ints (H, W), got ("),
    (lambda: blurfft.wiener_weight(k, (16, 0)), ValueError, "size must be positive, got (16, 0)"),
    (lambda: blurfft.wiener_weight(k, (2, 12)), ValueError, "kernel must be no larger than the image, 2x12, got 3x3"),
    (
        lambda: blurfft.wiener_weight(k.expand(2, 1, 3, 3), (8, 8), torch.ones(3)),
        ValueError,
        "kernel, nsr and eps must be of the same number of samples or of 1, got 2, 3, 1",
    ),
    (
        lambda: blurfft.wiener_weight(k, (8, 8), torch.ones((), device="meta")),
        ValueError,
        "nsr must be on the device of kernel, cpu, got meta",
    ),
    # options
    (
        lambda: blurfft.wiener_loss(x, x, k, reduction="avg"),
        ValueError,
        "reduction must be 'none', 'mean' or 'sum', got",
    ),
    (lambda: blurfft.blur_mse(x, x, k, None), ValueError, "reduction must be 'none', 'mean' or 'sum', got None"),
    (
        lambda: blurfft.rfft2(x, norm="unitary"),
        ValueError,
        "norm must be 'forward', 'backward' or 'ortho', got 'unitary'",
    ),
    (lambda: blurfft.irfft2(half, norm=1), ValueError, "norm must be 'forward', 'backward' or 'ortho', got 1"),
    (lambda: blurfft.focal_frequency_loss(x, x, alpha="1"), TypeError, "alpha must be a float, got str"),
    (lambda: blurfft.focal_frequency_loss(x, x, alpha=-0.5), ValueError, "alpha must be non-negative, got -0.5"),
    (lambda: blurfft.FocalFrequencyLoss(alpha=-1), ValueError, "alpha must be non-negative, got -1"),
    (
        lambda: blurfft.focal_frequency_loss(x, x, loss_weight=None),
        TypeError,
        "loss_weight must be a float, got NoneType",
    ),
    (lambda: blurfft.focal_frequency_loss(x, x, patch_factor=2.0), TypeError, "patch_factor must be an int, got float"),
    (lambda: blurfft.focal_frequency_loss(x, x, patch_factor=0), ValueError, "patch_factor must be positive, got 0"),
    (
        lambda: blurfft.focal_frequency_loss(x, x, patch_factor=8),
        ValueError,
        "patch_factor must divide the image's 16x12 planes, got 8",
    ),
    # transforms
    (lambda: blurfft.rfft2(None), TypeError, "input must be a torch.Tensor, got NoneType"),
    (
        lambda: blurfft.rfft2(half),
        TypeError,
        "input must be float32, float64, bfloat16 or float16, got torch.complex64",
    ),
    (
        lambda: blurfft.rfft2(x[0, 0, 0]),
        ValueError,
        "input must have at least 2 dimensions (..., H, W), got shape (12,)",
    ),
    (lambda: blurfft.rfft2(x[:, :, :0]), ValueError, "input must have planes of at least 1x1, got shape (4, 3, 0, 12)"),
    (lambda: blurfft.irfft2(3), TypeError, "input must be a torch.Tensor, got int"),
    (
        lambda: blurfft.irfft2(x.to(torch.float8_e5m2)),
        TypeError,
        "input must be complex64, complex128 or real, got torch.float8_e5m2",
    ),
    (lambda: blurfft.irfft2(x.to_sparse()), TypeError, "input must be a dense (strided) tensor, got layout"),
    (lambda: blurfft.irfft2(x[..., :1], (-1, -1)), ValueError, "s must be positive, got (16, 0)"),
    (lambda: blurfft.irfft2(half.to_sparse()), TypeError, "input must be a dense (strided) tensor, got layout"),
    (lambda: blurfft.irfft2(half[0, 0, 0]), ValueError, "input must have at least 2 dimensions (..., H, W//2+1), got"),
    (
        lambda: blurfft.irfft2(half[..., :0]),
        ValueError,
        "input must have planes of at least 1x1, got shape (4, 3, 16, 0)",
    ),
    (lambda: blurfft.irfft2(half[..., :1]), ValueError, "s must be given for an input of one column, got shape"),
    (lambda: blurfft.irfft2(half, s=12), TypeError, "s must be a pair of ints (H, W), got 12"),
    (lambda: blurfft.irfft2(half, s=(16, -2)), ValueError, "s must be positive, got (16, -2)"),
    # modules, at construction
    (lambda: blurfft.WienerLoss([[1.0]]), TypeError, "kernel must be a torch.Tensor, got list"),
    (lambda: blurfft.WienerLoss(k, -1.0), ValueError, "nsr must be non-negative, got -1.0"),
    (lambda: blurfft.WienerNLL(k, eps=torch.ones(1, 1, 1)), ValueError, "eps must have shape (), (N,) or (N, C), got"),
    (lambda: blurfft.WienerNLL(k, reduction="batchmean"), ValueError, "reduction must be 'none', 'mean' or 'sum', got"),
    (lambda: blurfft.BlurMSELoss(k[0]), ValueError, "kernel must have shape (kh, kw) or (N|1, C|1, kh, kw), got (3,)"),
    (lambda: blurfft.BlurMSELoss()(x, x), ValueError, "BlurMSELoss needs a kernel, at construction or at the call"),
    (lambda: blurfft.SpectralMSELoss(0.5), TypeError, "weight must be a torch.Tensor, got float"),
    (lambda: blurfft.FocalFrequencyLoss(patch_factor=-1), ValueError, "patch_factor must be positive, got -1"),
    (lambda: blurfft.FocalFrequencyLoss(log_matrix="x"), TypeError, "log_matrix must be a bool, got str"),
    # values that float32 cannot hold, and things that only look like arguments
    (lambda: blurfft.wiener_loss(x, x, k, float("inf")), ValueError, "nsr must be finite, got inf"),
    (lambda: blurfft.wiener_loss(x, x, k, 1e39), ValueError, "nsr must be at most 3.4e+38, the largest torch.float32"),
    (lambda: blurfft.wiener_nll(x, x, k, eps=10**400), ValueError, "eps must be at most 3.4e+38, the largest torch.fl"),
    (
        lambda: blurfft.focal_frequency_loss(x, x, alpha=float("nan")),
        ValueError,
        "alpha must be a finite float, got nan",
    ),
    (lambda: blurfft.focal_frequency_loss(x, x, ave_spectrum="no"), TypeError, "ave_spectrum must be a bool, got str"),
    (
        lambda: blurfft.wiener_loss(x, x, k, reduction=[0, 0]),
        ValueError,
        "reduction must be 'none', 'mean' or 'sum', got [0, 0]",
    ),
    (
        lambda: blurfft.wiener_loss(x, x, k, reduction=np.zeros(3)),
        ValueError,
        "reduction must be 'none', 'mean' or 'sum', got array(",
    ),
    (
        lambda: blurfft.rfft2(x, norm=np.zeros(2)),
        ValueError,
        "norm must be 'forward', 'backward' or 'ortho', got array(",
    ),
    (
        lambda: blurfft.FocalFrequencyLoss(alpha=10**400),
        ValueError,
        "alpha must be a finite float, got 1000",
    ),
    (
        lambda: blurfft.irfft2(torch.nested.nested_tensor([x, x])),
        TypeError,
        "input must be a dense (strided) tensor, got a nested one",
    ),
    (
        lambda: blurfft.wiener_weight(k, (2**70, 8)),
        ValueError,
        "size must be at most 2147483647 a side, got (1180591620717411303424, 8)",
    ),
    (
        lambda: blurfft.irfft2(half, (16, 2**31)),
        ValueError,
        "s must be at most 2147483647 a side, got (16, 2147483648)",
    ),
    (lambda: blurfft.rfft2(x, (0, 8)), ValueError, "s must be positive, got (0, 8)"),
    (lambda: blurfft.rfft2(x, (8,)), TypeError, "s must be a pair of ints (H, W), got (8,)"),
    (
        lambda: blurfft.wiener_loss(masked, x, k),
        TypeError,
        "input must be a dense (strided) tensor, got a MaskedTensor",
    ),
    (lambda: blurfft.blur(x, masked[0, 0]), TypeError, "kernel must be a dense (strided) tensor, got a MaskedTensor"),
    (
        lambda: blurfft.wiener_loss(x, x, k, masked),
        TypeError,
        "nsr must be a dense (strided) tensor, got a MaskedTensor",
    ),
    (
        lambda: blurfft.wiener_loss(x, x, k, np.bool_(True)),
        TypeError,
        "nsr must be a float or a torch.Tensor, got bool",
    ),
    (
        lambda: blurfft.wiener_loss(x, x, k, np.complex64(1)),
        TypeError,
        "nsr must be a float or a torch.Tensor, got com",
    ),
    (lambda: blurfft.wiener_loss(x, x, k, np.ones(4)), TypeError, "nsr must be a float or a torch.Tensor, got ndarray"),
    (lambda: blurfft.wiener_loss(x, x, k, np.float32("nan")), ValueError, "nsr must be non-negative, got nan"),
    (lambda: blurfft.FocalFrequencyLoss()(x, x, 0.5), TypeError, "matrix must be a torch.Tensor, got float"),
    (
        lambda: blurfft.FocalFrequencyLoss()(x, x, torch.ones(16, 7)),
        ValueError,
        "matrix must broadcast to (N, patches, C, h, w) = (4, 1, 3, 16, 12), got shape (16, 7)",
    ),
    (
        lambda: blurfft.FocalFrequencyLoss()(x, x, k.to("meta")),
        ValueError,
        "matrix must be on the device of input, cpu, got meta",
    ),
    (
        lambda: blurfft.wiener_loss(torch.nested.nested_tensor([x, x]), x, k),
        TypeError,
        "input must be a dense (strided) tensor, got a nested one",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[b[2] for b in BAD])
def test_message(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match="^" + re.escape(message)):
        call()


c = torch.ones(4)
# Every public function with every argument that may be a tensor.
CALLS: dict[str, dict[str, object]] = {
    "blur": {"input": x, "kernel": k},
    "wiener_filter": {"input": x, "kernel": k, "nsr": c},
    "wiener_weight": {"kernel": k, "size": (16, 12), "nsr": c, "eps": c},
    "spectral_mse": {"input": x, "target": x, "weight": w},
    "wiener_loss": {"input": x, "target": x, "kernel": k, "nsr": c, "eps": c},
    "wiener_nll": {"input": x, "target": x, "kernel": k, "nsr": c, "eps": c},
    "blur_mse": {"input": x, "target": x, "kernel": k},
    "focal_frequency_loss": {"input": x, "target": x, "matrix": x[0, 0]},
    "rfft2": {"input": x},
    "irfft2": {"input": half},
}
# What no argument may be, made of what it may be, with the end of the message.
NO_TENSORS: dict[str, tuple[Callable[[torch.Tensor], object], type[Exception], str]] = {
    "list": (lambda t: t.tolist(), TypeError, "torch.Tensor, got list"),
    "array": (lambda t: t.numpy(), TypeError, "torch.Tensor, got ndarray"),
    "string": (lambda t: "x", TypeError, "torch.Tensor, got str"),
    "integers": (lambda t: t.real.long(), TypeError, "got torch.int64"),
    "booleans": (lambda t: t.real.bool(), TypeError, "got torch.bool"),
    "complex32": (lambda t: t.to(torch.complex32), TypeError, "got torch.complex32"),
    "float8": (lambda t: t.real.to(torch.float8_e4m3fn), TypeError, "got torch.float8_e4m3fn"),
    "sparse": (lambda t: t.to_sparse(), TypeError, "a dense (strided) tensor, got layout torch.sparse_coo"),
    "nested": (lambda t: torch.nested.nested_tensor([t, t]), TypeError, "a dense (strided) tensor, got a nested one"),
    "masked": (
        lambda t: torch.masked.masked_tensor(t.abs(), torch.ones(t.shape, dtype=torch.bool)),
        TypeError,
        "a dense (strided) tensor, got a MaskedTensor",
    ),
    "elsewhere": (lambda t: t.to("meta"), ValueError, "cpu, got meta"),
    "many dimensions": (lambda t: t[(None,) * 4], ValueError, "got"),
}


@pytest.mark.filterwarnings("ignore")  # of torch about prototypes
@pytest.mark.parametrize("kind", NO_TENSORS)
@pytest.mark.parametrize(
    ("function", "argument"),
    [(f, name) for f, arguments in CALLS.items() for name, a in arguments.items() if isinstance(a, torch.Tensor)],
)
def test_every_argument_of_every_kind(function: str, argument: str, kind: str) -> None:
    make, error, message = NO_TENSORS[kind]
    first = next(iter(CALLS[function]))
    if argument == first and kind == "elsewhere":
        pytest.skip("the others are to be where the first is")
    if function in ("rfft2", "irfft2") and kind in ("many dimensions", "integers", "booleans"):
        pytest.skip("the transforms take planes in any number, and integers, as in torch.fft")
    arguments = CALLS[function]
    with pytest.raises(error, match=f"^{argument} must .*{re.escape(message)}"):
        getattr(blurfft, function)(**arguments | {argument: make(arguments[argument])})


def test_sizes_are_whatever_is_an_integer() -> None:
    size = (np.int64(16), np.int64(12))
    assert blurfft.wiener_weight(k, size).equal(blurfft.wiener_weight(k, (16, 12)))
    assert blurfft.irfft2(half, s=size).shape == (4, 3, 16, 12)
    two = np.int64(2)
    assert blurfft.focal_frequency_loss(x, x, patch_factor=two).equal(blurfft.FocalFrequencyLoss(patch_factor=2)(x, x))


@pytest.mark.parametrize(
    "call",
    [
        lambda v: blurfft.wiener_loss(x, 1 + x, k, v),
        lambda v: blurfft.wiener_nll(x, 1 + x, k, eps=v),
        lambda v: blurfft.wiener_filter(x, k, v),
        lambda v: blurfft.wiener_weight(k, (16, 12), v, eps=v),
        lambda v: blurfft.focal_frequency_loss(x, 1 + x, alpha=v),
        lambda v: blurfft.focal_frequency_loss(x, 1 + x, loss_weight=v),
        lambda v: blurfft.focal_frequency_loss(x, 1 + x, loss_weight=v, matrix=torch.ones(16, 12)),
    ],
)
def test_integers_may_be_as_large_as_floats(call: Callable[[float], Tensor]) -> None:
    torch.testing.assert_close(call(2**70), call(2.0**70), rtol=0, atol=0)


def test_tensors_are_not_looked_at() -> None:
    # Checking would synchronise a GPU: values in tensors are the caller's responsibility.
    negative = torch.tensor(-1e-3)
    assert blurfft.wiener_loss(x, x, k, negative, eps=negative).shape == ()


def test_what_has_passed_says_nothing_of_others() -> None:
    ones = torch.ones(4, 3, 16, 12)
    blurfft.wiener_loss(ones, ones, k, 1.0)
    with pytest.raises(TypeError, match=r"^nsr must be a float or a torch\.Tensor, got bool"):
        blurfft.wiener_loss(ones, ones, k, True)
    with pytest.raises(ValueError, match=r"^kernel must be no larger than the image"):
        blurfft.wiener_loss(ones[..., :2], ones[..., :2], k)
    with pytest.raises(ValueError, match=r"^kernel must be on the device of input"):
        blurfft.wiener_loss(ones, ones, k.to("meta"))
    for kernel in (k.double(), k.T, k.expand(4, 1, 3, 3), torch.nn.Parameter(k)):
        torch.testing.assert_close(blurfft.wiener_loss(ones, x, kernel), blurfft.wiener_loss(ones, x, k))
    mixed = blurfft.wiener_loss(ones, x.double(), k)
    assert mixed.dtype == torch.float64


def test_no_argument_is_kept() -> None:
    image, kernel, nsr = torch.ones(1, 1, 4, 4), torch.ones(1, 1), torch.ones(())
    blurfft.wiener_loss(image, image, kernel, nsr)
    kept = [weakref.ref(t) for t in (image, kernel, nsr)]
    del image, kernel, nsr
    gc.collect()
    assert [r() for r in kept] == [None, None, None]


def test_a_number_first_met_in_inference_mode_serves_outside() -> None:
    image = torch.ones(1, 1, 4, 4, requires_grad=True)
    with torch.inference_mode():
        inside = blurfft.wiener_loss(image, x[:1, :1, :4, :4], k, 0.40625)
    outside = blurfft.wiener_loss(image, x[:1, :1, :4, :4], k, 0.40625)
    outside.backward()
    torch.testing.assert_close(outside, inside)
