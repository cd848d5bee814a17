"""The public functions: special cases, and what is promised beyond the values, which test_backends.py compares."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from backends import Backend
from inputs import LAYOUTS, images, kernels, positive
from tolerances import assert_close

import blurfft
from blurfft import _backends as backends
from blurfft import functional, ops, reference

f32, f64, bf16, f16 = torch.float32, torch.float64, torch.bfloat16, torch.float16


@pytest.mark.parametrize("pair", [(bf16, f32), (f32, f64), (f16, bf16), (bf16, bf16)])
@pytest.mark.parametrize("function", ["wiener_loss", "blur_mse", "spectral_mse", "wiener_nll", "focal_frequency_loss"])
def test_dtypes_are_promoted(function: str, pair: tuple[torch.dtype, torch.dtype], backend: Backend) -> None:
    x, y = images((2, 1, 8, 6), pair[0]).requires_grad_(), images((2, 1, 8, 6), pair[1]).requires_grad_()
    last = {"spectral_mse": [torch.rand(8, 4)], "focal_frequency_loss": []}.get(function, [kernels((3, 3), f16)])
    loss = getattr(blurfft, function)(x, y, *last)
    common = torch.promote_types(*pair)
    assert loss.dtype == reference.compute_dtype(common)
    assert_close(loss, getattr(reference, function)(x.double(), y.double(), *(t.double() for t in last)), 4)
    loss.backward()
    assert x.grad is not None and x.grad.dtype == pair[0]
    assert y.grad is not None and y.grad.dtype == pair[1]
    if function not in ("wiener_nll", "focal_frequency_loss"):
        assert getattr(blurfft, function)(x, y, *last, reduction="none").dtype == common


def test_nsr_and_eps_as_numbers(backend: Backend) -> None:
    x, y, k = images((2, 3, 8, 6)), images((2, 3, 8, 6)), kernels((3, 3))
    for name in ("wiener_loss", "wiener_nll"):
        for options in ({}, {"nsr": 0.2, "eps": 0.03}, {"nsr": 1, "eps": 1}):
            actual = getattr(blurfft, name)(x, y, k, **options)
            assert_close(actual, getattr(reference, name)(x, y, k, **options))


@pytest.mark.parametrize("function", ["wiener_loss", "wiener_nll"])
def test_nsr_and_eps_as_numbers_beside_images_of_another_device(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a GPU, whose kernels get them with the launch; "meta" stands for it.
    monkeypatch.setattr(functional, "_by_value", lambda *tensors: True)
    tensors: list[torch.Tensor] = []
    prepare = ops.wiener_loss.prepare

    def noted(*args: Any, **options: Any) -> Any:
        tensors.extend(args[:5])
        return prepare(*args, **options)

    monkeypatch.setattr(ops.wiener_loss, "prepare", noted)
    x, y = (torch.empty(2, 3, 8, 6, device="meta", requires_grad=True) for _ in range(2))
    kernel = torch.empty(2, 1, 3, 3, device="meta", requires_grad=True)
    loss = getattr(blurfft, function)(x, y, kernel, 0.1, eps=0.01)
    assert [t.device.type for t in tensors] == ["meta"] * 3 + ["cpu"] * 2
    grads = torch.autograd.grad(loss, (x, kernel), create_graph=True)
    again = torch.autograd.grad([g.sum() for g in grads], (y, kernel))
    assert [g.shape for g in (*grads, *again)] == [x.shape, kernel.shape, y.shape, kernel.shape]
    with torch.no_grad():
        results = backends.reference.wiener_loss(*tensors, 1.0, function == "wiener_nll", False, True, True)
    assert [r.shape for r in results if r is not None] == [loss.shape, x.shape, kernel.shape, (1, 1), (1, 1)]


def test_a_delta_kernel_gives_f_mse_loss(backend: Backend) -> None:
    x, y = images((2, 3, 8, 6), f32), images((2, 3, 8, 6), f32)
    for reduction in ("mean", "sum", "none"):
        truth = F.mse_loss(x, y, reduction=reduction)
        delta = torch.ones(1, 1)
        torch.testing.assert_close(blurfft.wiener_loss(x, y, delta, 0.0, reduction=reduction), truth)
        torch.testing.assert_close(blurfft.spectral_mse(x, y, torch.ones(8, 4), reduction=reduction), truth)
        torch.testing.assert_close(blurfft.blur_mse(x, y, delta, reduction=reduction), truth)


def test_irfft2_sizes(backend: Backend) -> None:
    spectrum = torch.randn(2, 6, 4, dtype=torch.complex128)
    for s in (None, (6, 6), (6, 7), (4, 5), (9, 12), (3, 1), (-1, 7), (9, -1), (-1, -1)):
        assert_close(blurfft.irfft2(spectrum, s), torch.fft.irfft2(spectrum, s))
    real = torch.randn(6, 4)
    assert_close(blurfft.irfft2(real), torch.fft.irfft2(real.double()))


def test_any_leading_dimensions_of_the_transforms(backend: Backend) -> None:
    for shape in ((6, 5), (3, 6, 5), (2, 1, 3, 4, 6, 5)):
        x = torch.randn(shape, dtype=f64)
        assert_close(blurfft.rfft2(x), torch.fft.rfft2(x))
        assert_close(blurfft.irfft2(blurfft.rfft2(x), (6, 5)), x)


def test_an_asymmetric_weight_counts_by_its_symmetric_part(backend: Backend) -> None:
    x, y, weight = images((2, 1, 6, 8)), images((2, 1, 6, 8)), torch.rand(6, 5, dtype=f64)
    each = blurfft.spectral_mse(x, y, weight, reduction="none")
    torch.testing.assert_close(each.sum(), blurfft.spectral_mse(x, y, weight, reduction="sum"))
    assert_close(each.sum(), reference.spectral_mse(x, y, weight, reduction="sum"))


@pytest.mark.parametrize("shape", [(0, 3, 8, 6), (2, 0, 8, 6)])
@pytest.mark.parametrize("function", ["wiener_loss", "spectral_mse", "blur_mse", "focal_frequency_loss"])
def test_empty_batches_give_what_f_mse_loss_gives(function: str, shape: tuple[int, ...], backend: Backend) -> None:
    last = {"spectral_mse": [torch.ones(8, 4)], "focal_frequency_loss": []}.get(function, [torch.ones(3, 3)])
    for reduction in ("mean", "sum", "none"):
        if function == "focal_frequency_loss" and reduction != "mean":
            continue
        options = {} if function == "focal_frequency_loss" else {"reduction": reduction}
        x, y = torch.randn(shape, requires_grad=True), torch.randn(shape)
        loss = getattr(blurfft, function)(x, y, *last, **options)
        torch.testing.assert_close(loss, F.mse_loss(x, y, reduction=reduction), equal_nan=True)
        loss.sum().backward()
        assert x.grad is not None and x.grad.shape == shape


def test_empty_batches(backend: Backend) -> None:
    x = torch.randn(0, 3, 8, 6, requires_grad=True)
    k = torch.ones(0, 1, 3, 3, requires_grad=True)
    assert blurfft.wiener_nll(x, x, k, reduction="none").shape == (0,)
    assert blurfft.wiener_nll(x, x, k, reduction="sum") == 0
    assert blurfft.wiener_nll(x, x, torch.ones(3, 3)).isnan()
    assert blurfft.blur(x, k).shape == x.shape
    assert blurfft.wiener_filter(x, k).shape == x.shape
    assert blurfft.wiener_weight(k, (8, 6)).shape == (0, 1, 8, 4)
    assert blurfft.rfft2(x).shape == (0, 3, 8, 4)
    assert blurfft.irfft2(blurfft.rfft2(x)).shape == x.shape
    shared = torch.ones(3, 3, requires_grad=True)
    for loss in (blurfft.blur(x, shared).sum(), blurfft.wiener_nll(x, x, shared, reduction="sum")):
        (grad,) = torch.autograd.grad(loss, shared)
        torch.testing.assert_close(grad, torch.zeros(3, 3))


def test_backward_twice_accumulates(backend: Backend) -> None:
    x, y, k = images((2, 3, 8, 6), f32), images((2, 3, 8, 6), f32), kernels((2, 1, 3, 3), f32).requires_grad_()
    x.requires_grad_()
    loss = blurfft.wiener_nll(x, y, k)
    loss.backward(retain_graph=True)
    assert x.grad is not None and k.grad is not None
    once = x.grad.clone(), k.grad.clone()
    x.grad.zero_()
    k.grad.zero_()
    loss.backward()
    torch.testing.assert_close((x.grad, k.grad), once)


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_of_some_arguments_only(create_graph: bool, backend: Backend) -> None:
    for needs in ((0,), (1,), (2,), (3,), (4,), (1, 4), (0, 3)):
        args = [images((2, 3, 8, 6)), images((2, 3, 8, 6)), kernels((2, 1, 3, 3)), positive((2,)), positive(())]
        for i in needs:
            args[i].requires_grad_()
        for name in ("wiener_loss", "wiener_nll"):
            actual, truth = (
                torch.autograd.grad(
                    getattr(m, name)(*args[:4], eps=args[4]), [args[i] for i in needs], create_graph=create_graph
                )
                for m in (blurfft, reference)
            )
            for a, t in zip(actual, truth, strict=True):
                assert_close(a, t, 8)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_focal_frequency_loss_of_patches(layout: str, backend: Backend) -> None:
    x, y = images((2, 3, 8, 12), layout=layout).requires_grad_(), images((2, 3, 8, 12)).requires_grad_()
    options: dict[str, Any] = {"alpha": 1.5, "patch_factor": 2, "log_matrix": True, "loss_weight": 3.0}
    loss, truth = (m.focal_frequency_loss(x, y, **options) for m in (blurfft, reference))
    torch.testing.assert_close(loss, truth)
    torch.testing.assert_close(torch.autograd.grad(loss, (x, y)), torch.autograd.grad(truth, (x, y)))


@pytest.mark.parametrize("name", ["fft.rfft2", "fft.irfft2"])
def test_transforms_take_torchs_samples(name: str, backend: Backend) -> None:
    from torch.testing._internal.common_methods_invocations import op_db

    (info,) = (op for op in op_db if op.name == name)
    ours, theirs = getattr(blurfft, name[4:]), getattr(torch.fft, name[4:])
    dtypes = info.supported_dtypes("cpu")
    assert {torch.bool, torch.uint8, torch.int64, f32, f64} <= dtypes
    for dtype in dtypes:
        taken = 0
        for sample in info.sample_inputs("cpu", dtype):
            options = dict(sample.kwargs)
            dims = options.pop("dim", (-2, -1))
            if not isinstance(dims, tuple) or [d % sample.input.dim() - sample.input.dim() for d in dims] != [-2, -1]:
                continue
            assert not sample.args
            taken += 1
            wide = sample.input.to(torch.complex128 if dtype.is_complex else f64)
            for s in (options.pop("s", None), (4, 9), (-1, 3), (8, -1)):
                value = ours(sample.input, s, **options)
                assert value.dtype == theirs(sample.input, s, **options).dtype
                assert_close(value, theirs(wide, s, **options))
            assert_close(ours(sample.input, norm=None), theirs(wide, norm=None))
        assert taken >= 3


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_transforms_take_integers_without_a_sign(dtype: torch.dtype, backend: Backend) -> None:
    x = (65000 * torch.rand(3, 8, 6)).to(dtype)
    for ours, theirs in ((blurfft.rfft2, torch.fft.rfft2), (blurfft.irfft2, torch.fft.irfft2)):
        value = ours(x)
        assert value.dtype == theirs(x.float()).dtype
        assert_close(value, theirs(x.double()))


def test_means_of_images_whose_sum_is_out_of_range(backend: Backend) -> None:
    x = (1e18 * images((4, 3, 16, 12), f32)).requires_grad_()
    y, k, w = torch.zeros_like(x), kernels((3, 3), f32), 0.5 + torch.rand(16, 7)
    losses: tuple[Any, ...] = (
        lambda m, x, y, k, w: m.wiener_loss(x, y, k, 0.1),
        lambda m, x, y, k, w: m.spectral_mse(x, y, w),
        lambda m, x, y, k, w: m.blur_mse(x, y, k),
        lambda m, x, y, k, w: m.focal_frequency_loss(x, y),
        lambda m, x, y, k, w: m.focal_frequency_loss(x, y, batch_matrix=True),
    )
    wide = x.detach().double().requires_grad_()
    for loss in losses:
        value, truth = loss(blurfft, x, y, k, w), loss(reference, wide, y.double(), k.double(), w.double())
        assert truth * x.numel() > torch.finfo(f32).max
        assert_close(value, truth)
        assert_close(torch.autograd.grad(value, x)[0], torch.autograd.grad(truth, wide)[0])


def test_a_kernel_gradient_whose_factors_are_out_of_range() -> None:
    x, y, small = 1e18 * images((2, 1, 16, 12), f32), torch.zeros(2, 1, 16, 12), 1e-15 * kernels((3, 5), f32)
    exact = small.double().requires_grad_()
    for reduction, name in itertools.product(("sum", "none"), ("reference", "auto")):
        options: dict[str, Any] = {"eps": 1e-3, "reduction": reduction}
        truth = reference.wiener_nll(x.double(), y.double(), exact, 0.01, **options).sum()
        (expected,) = torch.autograd.grad(truth, exact)
        k = small.clone().requires_grad_()
        with blurfft.use_backend(name):
            loss = blurfft.wiener_nll(x, y, k, 0.01, **options).sum()
            assert_close(torch.autograd.grad(loss, k)[0], expected, 10)


def test_rfft2_of_a_size_is_differentiable(backend: Backend) -> None:
    x = images((2, 3, 6, 5)).requires_grad_()
    for s in ((4, 7), (8, 3)):
        assert torch.autograd.gradcheck(lambda x, s=s: blurfft.rfft2(x, s), (x,), fast_mode=True)


MAPS: dict[str, Any] = {
    "wiener_loss": lambda x, y, k: blurfft.wiener_loss(x, y, k, reduction="none"),
    "spectral_mse": lambda x, y, k: blurfft.spectral_mse(x, y, blurfft.wiener_weight(k, (8, 12)), "none"),
    "blur_mse": lambda x, y, k: blurfft.blur_mse(x, y, k, "none"),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_keep_the_layout(name: str, backend: Backend) -> None:
    x, y = (images((2, 3, 8, 12), f32, "channels_last") for _ in range(2))
    value = MAPS[name](x, y, kernels((3, 3), f32))
    assert value.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patch_factor": 2},
        {"ave_spectrum": True},
        {"ave_spectrum": True, "patch_factor": 4},
        {"batch_matrix": True},
    ],
    ids=str,
)
def test_focal_frequency_loss_keeps_the_layout(options: dict[str, Any], backend: Backend) -> None:
    for layout, format in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        x, y = images((2, 3, 8, 12), f64, layout).requires_grad_(), images((2, 3, 8, 12), f64, layout)
        loss, truth = (m.focal_frequency_loss(1 * x, y, **options) for m in (blurfft, reference))
        torch.testing.assert_close(loss, truth)
        z = (1 * x).detach().requires_grad_()
        seen: list[Any] = []
        inner = 1 * z
        inner.register_hook(seen.append)
        blurfft.focal_frequency_loss(inner, y, **options).backward()
        assert seen[0].is_contiguous(memory_format=format)


@pytest.mark.parametrize("options", [{"alpha": 10.0}, {"alpha": 1e300}, {"alpha": 10.0, "log_matrix": True}], ids=str)
@pytest.mark.parametrize("batch_matrix", [False, True])
def test_focal_weights_of_any_power(options: dict[str, Any], batch_matrix: bool) -> None:
    x, y = 1e4 * images((2, 1, 8, 8), f32), torch.zeros(2, 1, 8, 8)
    x.requires_grad_()
    truth = reference.focal_frequency_loss(x.double(), y.double(), **options, batch_matrix=batch_matrix)
    with blurfft.use_backend("reference"):
        loss = blurfft.focal_frequency_loss(x, y, **options, batch_matrix=batch_matrix)
    assert_close(loss, truth, 4)
    assert_close(torch.autograd.grad(loss, x)[0], torch.autograd.grad(truth, x)[0].double(), 4)


@pytest.mark.parametrize("options", [{}, {"batch_matrix": True}, {"patch_factor": 2}], ids=str)
def test_a_focal_loss_that_does_not_count_is_zero(options: dict[str, Any], backend: Backend) -> None:
    x = (1e25 * images((2, 1, 8, 8), f32)).requires_grad_()  # whose power is out of range
    loss = blurfft.focal_frequency_loss(x, torch.zeros_like(x), loss_weight=0, **options)
    loss.backward()
    assert loss == 0 and x.grad is not None and not x.grad.any()
    broken = torch.full_like(x, float("nan"))
    assert blurfft.focal_frequency_loss(broken, x, loss_weight=0, **options).isnan()


def test_composed_losses_do_not_depend_on_the_number_of_threads() -> None:
    x, y, k = images((2, 3, 256, 192), f32), images((2, 3, 256, 192), f32), kernels((5, 5), f32)
    cotangent = images(x.shape, f32)

    def results() -> list[torch.Tensor]:
        nsr, eps = (torch.tensor(v, requires_grad=True) for v in (0.1, 0.2))
        leaf = x.clone().requires_grad_()
        each = blurfft.wiener_loss(x, y, k, nsr, eps=eps, reduction="none")
        whole = blurfft.focal_frequency_loss(leaf, y, batch_matrix=True)
        weight = blurfft.wiener_weight(k, (256, 192), nsr, eps)
        return [
            *torch.autograd.grad(each, (nsr, eps), cotangent),
            *torch.autograd.grad(blurfft.wiener_filter(x, k, nsr), nsr, cotangent),
            *torch.autograd.grad(weight, (nsr, eps), cotangent[:1, :1, :, :97]),
            whole,
            *torch.autograd.grad(whole, leaf),
        ]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = results()
        for several in (2, 3, 7):
            torch.set_num_threads(several)
            for one, other in zip(alone, results(), strict=True):
                assert torch.equal(one, other)
    finally:
        torch.set_num_threads(threads)


def test_a_kernel_whose_power_is_out_of_range() -> None:
    kernel, tap = torch.full((3, 3), 1e20, requires_grad=True), torch.tensor([[float("inf")]])
    weight = blurfft.wiener_weight(kernel, (8, 8), eps=1.0)
    truth = reference.wiener_weight(kernel.double(), (8, 8), eps=1.0)
    torch.testing.assert_close(weight, truth.float())
    weight.sum().backward()
    assert kernel.grad is not None
    assert not kernel.grad.any()
    assert blurfft.wiener_weight(tap, (8, 8)).isnan().all()  # what is infinite does not vanish
    x, y = images((1, 1, 8, 8), f32), images((1, 1, 8, 8), f32)
    with blurfft.use_backend("reference"):
        actual = blurfft.wiener_loss(x, y, kernel, 0.01, eps=1.0)
    torch.testing.assert_close(actual, F.mse_loss(x, y))
