"""The ops as PyTorch sees them: schemas, fakes, compile, export, torch.func, autocast, saved gradients."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from backends import Backend
from inputs import LAYOUTS, images, kernels, positive
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

import blurfft
from blurfft import _dispatch, reference
from blurfft._backends import composed
from blurfft.ops import _call, _define, _fastpath

overloads = SimpleNamespace(**{name: op.overload for name, op in _define.OPS.items()})
f32, f64, bf16, f16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
SHAPE = (2, 3, 6, 5)


def spectrum(*shape: int, dtype: torch.dtype = torch.complex128) -> Tensor:
    return torch.randn(shape, dtype=torch.complex128).to(dtype)


def loss_arguments(dtype: torch.dtype = f64, layout: str = "contiguous", target_layout: str = "contiguous") -> list:
    compute = reference.compute_dtype(dtype)
    return [
        images(SHAPE, dtype, layout),
        images(SHAPE, dtype, target_layout),
        kernels((2, 1, 3, 2), compute),
        positive((2, 1), compute),
        positive((1, 3), compute),
    ]


# Every op, with what opcheck calls it with.
SAMPLES: dict[str, tuple[Any, Callable[[], tuple[Any, ...]]]] = {
    "rfft2": (overloads.rfft2, lambda: (images(SHAPE), "ortho")),
    "rfft2-half-permuted": (overloads.rfft2, lambda: (images(SHAPE, bf16, "permuted"), "forward")),
    "irfft2": (overloads.irfft2, lambda: (spectrum(2, 3, 6, 3), 5, "backward")),
    "irfft2-permuted": (overloads.irfft2, lambda: (spectrum(3, 6, 2).permute(2, 1, 0), 4, "ortho")),
    "otf": (overloads.otf, lambda: (kernels((2, 1, 3, 2)), 6, 5)),
    "otf_backward": (overloads.otf_backward, lambda: (spectrum(2, 1, 6, 3), 5, 3, 2)),
    "spectral_filter": (overloads.spectral_filter, lambda: (images(SHAPE), spectrum(2, 1, 6, 3))),
    "spectral_filter-real-permuted": (
        overloads.spectral_filter,
        lambda: (images(SHAPE, f32, "permuted"), torch.rand(1, 3, 6, 3)),
    ),
    "cross_spectrum": (overloads.cross_spectrum, lambda: (images(SHAPE), images(SHAPE, layout="sliced"), 1, 3, True)),
    "cross_spectrum-real": (overloads.cross_spectrum, lambda: (images(SHAPE, f32), images(SHAPE, f32), 2, 1, False)),
    "spectral_loss": (
        overloads.spectral_loss,
        lambda: (images(SHAPE), images(SHAPE), torch.rand(2, 1, 6, 3, dtype=f64), 7, False, True, True),
    ),
    "spectral_loss-per-sample-permuted": (
        overloads.spectral_loss,
        lambda: (images(SHAPE, f32, "permuted"), images(SHAPE, f32), torch.rand(1, 1, 6, 3), 1, True, True, False),
    ),
    "wiener_loss": (overloads.wiener_loss, lambda: (*loss_arguments(), 4, True, False, True, True)),
    "wiener_loss-half-channels-last": (
        overloads.wiener_loss,
        lambda: (*loss_arguments(bf16, "channels_last", "permuted"), 4, False, False, True, True),
    ),
    "wiener_loss-per-sample-expanded": (
        overloads.wiener_loss,
        lambda: (*loss_arguments(f32, "expanded", "sliced"), 1, True, True, True, False),
    ),
    "blur_mse": (overloads.blur_mse, lambda: (*loss_arguments()[:3], 4, False, True, True)),
    "blur_mse-half-permuted-per-sample": (
        overloads.blur_mse,
        lambda: (*loss_arguments(bf16, "permuted", "channels_last")[:3], 4, True, True, True),
    ),
    "focal_frequency_loss": (
        overloads.focal_frequency_loss,
        lambda: (images(SHAPE), images(SHAPE), 1.5, True, 2.5, 4, False, True),
    ),
    "focal_frequency_loss-half-permuted": (
        overloads.focal_frequency_loss,
        lambda: (images(SHAPE, bf16, "permuted"), images(SHAPE, bf16), 1.0, False, 2.5, 4, True, True),
    ),
    "wiener_loss-no-gradients": (overloads.wiener_loss, lambda: (*loss_arguments(f32), 1, True, True, False, False)),
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_opcheck(sample: str, backend: Backend) -> None:
    op, make = SAMPLES[sample]
    needs_grad = not sample.endswith("no-gradients")
    args = [a.detach().requires_grad_(needs_grad) if isinstance(a, Tensor) else a for a in make()]
    torch.library.opcheck(op, args)


def _tuple(out: Any) -> tuple[Tensor, ...]:
    return out if isinstance(out, tuple) else (out,)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fakes_have_the_strides_of_the_results(layout: str, backend: Backend) -> None:
    x, y, weight = images(SHAPE, f32, layout), images(SHAPE, f32), torch.rand(2, 1, 6, 3)
    calls: list[tuple[Any, tuple[Any, ...]]] = [
        (overloads.rfft2, (x, "ortho")),
        (overloads.spectral_filter, (x, weight)),
        (overloads.cross_spectrum, (x, y, 2, 3, True)),
        (overloads.spectral_loss, (x, y, weight, 1, True, True, True)),
        (overloads.wiener_loss, (x, y, *loss_arguments(f32)[2:], 1, True, False, True, True)),
        (overloads.blur_mse, (x, y, loss_arguments(f32)[2], 1, True, True, True)),
        (overloads.focal_frequency_loss, (x, y, 1.0, False, 2.5, 1, True, True)),
    ]
    for op, args in calls:
        with FakeTensorMode() as mode:
            fakes = op(*(mode.from_tensor(a) if isinstance(a, Tensor) else a for a in args))
        for real, fake in zip(_tuple(op(*args)), _tuple(fakes), strict=True):
            assert (real.shape, real.stride(), real.dtype) == (fake.shape, fake.stride(), fake.dtype), op


def test_meta_tensors(backend: Backend) -> None:
    x, k = torch.empty(4, 3, 8, 6, device="meta", requires_grad=True), torch.empty(3, 3, device="meta")
    loss = blurfft.wiener_loss(x, x.detach(), k)
    loss.backward()
    assert loss.device.type == "meta" and x.grad is not None and x.grad.shape == x.shape


def every_loss(module: Any, x: Tensor, y: Tensor, k: Tensor, nsr: Tensor) -> Tensor:
    """All public functions in one number."""
    height, width = x.shape[-2:]
    total = module.wiener_loss(x, y, k, nsr) + module.wiener_nll(x, y, k, nsr, eps=nsr)
    total = total + module.wiener_loss(x, y, k, reduction="none").mean()
    total = total + module.wiener_nll(x, y, k, reduction="none").square().mean() / 1e4
    total = total + module.spectral_mse(x, y, module.wiener_weight(k, (height, width), nsr, 0.1))
    total = total + module.blur_mse(x, y, k) + module.focal_frequency_loss(x, y)
    total = total + module.wiener_filter(module.blur(x, k), k).square().mean()
    return total + (module.irfft2(module.rfft2(x), (height, width)) * y).mean()


def every_argument(samples: int = 2, dtype: torch.dtype = f64) -> list[Tensor]:
    shape = (samples, 3, 6, 5)
    args = [images(shape, dtype), images(shape, dtype), kernels((samples, 1, 3, 2), dtype), positive((samples,), dtype)]
    return [a.requires_grad_() for a in args]


def test_compile() -> None:
    """With inductor, of which every generated kernel costs seconds: a training step's worth."""
    torch._dynamo.reset()

    def step(module: Any, x: Tensor, y: Tensor, k: Tensor, nsr: Tensor) -> Tensor:
        return module.wiener_nll(x.tanh(), y, k, nsr) + module.blur_mse(x, y, k)

    args = every_argument()
    actual, truth = torch.compile(step, fullgraph=True)(blurfft, *args), step(reference, *args)
    torch.testing.assert_close(actual, truth)
    torch.testing.assert_close(torch.autograd.grad(actual, args), torch.autograd.grad(truth, args))


def test_every_function_compiles(backend: Backend) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda *args: every_loss(blurfft, *args), fullgraph=True, backend="aot_eager")
    args = every_argument()
    actual, truth = compiled(*args), every_loss(reference, *args)
    torch.testing.assert_close(actual, truth)
    torch.testing.assert_close(torch.autograd.grad(actual, args), torch.autograd.grad(truth, args))


def test_compiled_modules() -> None:
    torch._dynamo.reset()
    k = torch.nn.Parameter(kernels((3, 2), f32))
    x, y = images(SHAPE, f32).requires_grad_(), images(SHAPE, f32)
    for module in (
        blurfft.WienerLoss(k),
        blurfft.WienerNLL(k, torch.tensor(0.1)),
        blurfft.BlurMSELoss(k, "none"),
        blurfft.SpectralMSELoss(torch.rand(6, 3)),
        blurfft.FocalFrequencyLoss(),
    ):
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x, y), module(x, y))
        with torch.no_grad():
            torch.testing.assert_close(compiled(x, y), module(x, y))


def test_a_graph_serves_every_batch_size_and_backend() -> None:
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(lambda *args: every_loss(blurfft, *args), fullgraph=True, dynamic=True, backend=counter)
    for samples, backend in ((7, "auto"), (8, "reference"), (4, "auto")):
        args = every_argument(samples)
        with blurfft.use_backend(backend):
            torch.testing.assert_close(compiled(*args), every_loss(reference, *args))
    assert counter.frame_count == 1


def test_compiled_backward_of_a_half_precision_channels_last_image(backend: Backend) -> None:
    torch._dynamo.reset()
    x = images((2, 4, 6, 8), bf16, "channels_last").requires_grad_()
    y, k = images((2, 4, 6, 8), bf16), kernels((3, 3), f32)
    compiled = torch.compile(lambda x: blurfft.wiener_loss(x * 2, y, k), fullgraph=True, backend="aot_eager")
    loss, truth = compiled(x), blurfft.wiener_loss(x * 2, y, k)
    torch.testing.assert_close(loss, truth)
    torch.testing.assert_close(torch.autograd.grad(loss, x), torch.autograd.grad(truth, x))


def test_export(backend: Backend) -> None:
    class Everything(torch.nn.Module):
        def forward(self, x: Tensor, y: Tensor, k: Tensor, nsr: Tensor) -> Tensor:
            return every_loss(blurfft, x, y, k, nsr)

    batch = torch.export.Dim("batch")
    args = [a.detach() for a in every_argument(2)]
    program = torch.export.export(
        Everything(), tuple(args), dynamic_shapes={name: {0: batch} for name in ("x", "y", "k", "nsr")}
    )
    held = {str(node.target) for node in program.graph.nodes if "blurfft" in str(node.target)}
    assert held == {
        f"blurfft.{name}.default"
        for name in (
            *("wiener_loss", "spectral_loss", "blur_mse", "focal_frequency_loss"),
            *("otf", "spectral_filter", "rfft2", "irfft2"),
        )
    }
    others = [a.detach() for a in every_argument(5)]
    torch.testing.assert_close(program.module()(*others), every_loss(reference, *others))


def test_export_of_any_size(backend: Backend) -> None:
    class Everything(torch.nn.Module):
        def forward(self, x: Tensor, y: Tensor, k: Tensor, nsr: Tensor) -> Tensor:
            loss = every_loss(blurfft, x, y, k, nsr) + blurfft.focal_frequency_loss(x, y, batch_matrix=True)
            return loss + blurfft.spectral_mse(x, y, blurfft.wiener_weight(k, x.shape[2:]), "none").sum()

    sides = {2: torch.export.Dim("height", min=4, max=64), 3: torch.export.Dim("width", min=4, max=64)}
    _, _, k, nsr = (a.detach() for a in every_argument(2))
    shapes = {"x": sides, "y": sides, "k": None, "nsr": None}
    x = images((2, 3, 8, 6), f64)
    program = torch.export.export(Everything(), (x, x + x * x, k, nsr), dynamic_shapes=shapes)
    for height, width in ((7, 9), (10, 12)):
        x, y = images((2, 3, height, width), f64), images((2, 3, height, width), f64)
        torch.testing.assert_close(program.module()(x, y, k, nsr), Everything()(x, y, k, nsr))


def test_func_grad(backend: Backend) -> None:
    args = [a.detach() for a in every_argument()]
    actual, truth = (
        grad(lambda *a, module=module: every_loss(module, *a), (0, 1, 2, 3))(*args) for module in (blurfft, reference)
    )
    torch.testing.assert_close(actual, truth)


IN_DIMS = [(0, None, None, None), (1, 0, 0, 0), (None, 2, None, 1), (None, None, 3, None), (None, None, None, 0)]


@pytest.mark.parametrize("in_dims", IN_DIMS, ids=str)
def test_func_vmap(in_dims: tuple[int | None, ...], backend: Backend) -> None:
    def several(a: Tensor, dim: int | None) -> Tensor:
        return a.detach() if dim is None else torch.stack([a.detach() * (1 + i / 4) for i in range(3)], dim)

    args = [several(a, dim) for a, dim in zip(every_argument(), in_dims, strict=True)]

    def value(module: Any) -> Callable[..., Tensor]:
        return lambda *a: every_loss(module, *a)

    torch.testing.assert_close(vmap(value(blurfft), in_dims)(*args), vmap(value(reference), in_dims)(*args))
    # Per-example gradients, and the gradient of a sum over examples.
    everything = tuple(range(4))
    actual, truth = (vmap(grad(value(m), everything), in_dims)(*args) for m in (blurfft, reference))
    torch.testing.assert_close(actual, truth)
    actual, truth = (
        grad(lambda *a, m=m: vmap(value(m), in_dims)(*a).square().sum(), everything)(*args)
        for m in (blurfft, reference)
    )
    torch.testing.assert_close(actual, truth)


def test_func_vmap_of_shared_parameters(backend: Backend) -> None:
    xs, y, k = torch.randn(4, *SHAPE, dtype=f64), images(SHAPE), kernels((1, 3, 3, 2))

    def nll(module: Any) -> Callable[..., Tensor]:
        return lambda x, k: module.wiener_nll(x, y, k, reduction="none")

    for shape in ((3, 2), (1, 3, 3, 2), (2, 1, 3, 2)):
        k = kernels(shape)
        torch.testing.assert_close(vmap(nll(blurfft), (0, None))(xs, k), vmap(nll(reference), (0, None))(xs, k))
        actual, truth = (vmap(jacrev(nll(m), 1), (0, None))(xs, k) for m in (blurfft, reference))
        torch.testing.assert_close(actual, truth)


def test_func_nests(backend: Backend) -> None:
    args = [a.detach() for a in every_argument()]
    x, y, k, nsr = args

    def loss(module: Any) -> Callable[[Tensor], Tensor]:
        return lambda k: module.wiener_nll(x, y, k, nsr)

    actual, truth = (jacrev(jacrev(loss(m)))(k) for m in (blurfft, reference))
    torch.testing.assert_close(actual, truth)

    ks = torch.rand(2, 3, *k.shape, dtype=f64)
    actual, truth = (vmap(vmap(grad(loss(m))))(ks) for m in (blurfft, reference))
    torch.testing.assert_close(actual, truth)


@pytest.mark.parametrize("sample", [name for name in SAMPLES if "-" not in name])
def test_forward_mode(sample: str, backend: Backend) -> None:
    op, make = SAMPLES[sample]
    args = make()
    tensors = tuple(a for a in args if isinstance(a, Tensor))
    rest = args[len(tensors) :]

    def value(*tensors: Tensor) -> Tensor:
        return _tuple(op(*tensors, *rest))[0]

    tangents = tuple(map(torch.randn_like, tensors))
    out, along = jvp(value, tensors, tangents)
    assert along.dtype == out.dtype
    # <J t, u> = <t, J* u>, by the reverse mode.
    u = torch.randn_like(out)
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    back = torch.autograd.grad(value(*leaves), leaves, u)
    inner = sum(torch.sum((t * b.conj()).real) for t, b in zip(tangents, back, strict=True))
    torch.testing.assert_close(torch.sum((along * u.conj()).real), inner)


def test_compiled_forward_mode(backend: Backend) -> None:
    x, y, k, _ = (a.detach() for a in every_argument())

    def values(module: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: module.wiener_loss(x, y, k, 0.1) + x.square().sum() + module.blur(x, k).square().sum()

    def along(module: Any) -> Callable[[Tensor, Tensor], Any]:
        return lambda x, t: (jvp(values(module), (x,), (t,)), jvp(grad(values(module)), (x,), (t,)))

    t = torch.randn_like(x)
    torch._dynamo.reset()
    compiled = torch.compile(along(blurfft), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, t), along(reference)(x, t))


@pytest.mark.parametrize("options", [{}, {"loss_weight": 2.5}, {"batch_matrix": True}])
def test_tangents_have_the_dtype_of_the_focal_loss(options: dict[str, Any], backend: Backend) -> None:
    x, y, t = (images(SHAPE, f32) for _ in range(3))

    def along(x: Tensor, t: Tensor) -> Any:
        return jvp(lambda x: blurfft.focal_frequency_loss(x, y, **options), (x,), (t,))

    torch._dynamo.reset()
    expected = along(x, t)
    assert expected[0].dtype == expected[1].dtype == f32
    torch.testing.assert_close(torch.compile(along, fullgraph=True, backend="aot_eager")(x, t), expected)


def test_gradients_have_the_layout_of_the_image(backend: Backend) -> None:
    x, k = images(SHAPE, f32, "channels_last").requires_grad_(), kernels((3, 3), f32)
    y, weight = images(SHAPE, f32), torch.rand(6, 3)
    for function in (
        blurfft.blur,
        blurfft.wiener_filter,
        lambda x, k: blurfft.wiener_loss(x, y, k, eps=0.1, reduction="none"),
        lambda x, k: blurfft.blur_mse(x, y, k, reduction="none"),
        lambda x, _: blurfft.spectral_mse(x, y, weight, reduction="none"),
    ):
        (by_image,) = torch.autograd.grad(function(x, k).sum(), x)  # whose cotangent has no layout
        assert by_image.is_contiguous(memory_format=torch.channels_last)


def test_vmap_of_images_with_channels_last(backend: Backend) -> None:
    x, y, k = torch.randn(2, *SHAPE), images(SHAPE, f32), kernels((3, 3), f32)

    def value(x: Tensor) -> Tensor:
        return blurfft.focal_frequency_loss(x, y, ave_spectrum=True) + blurfft.blur(x, k).square().sum()

    last = x.movedim(2, -1).contiguous().movedim(-1, 2)
    torch.testing.assert_close(vmap(grad(value))(last), torch.stack([grad(value)(example) for example in x]))


def test_forward_mode_of_calls_like_earlier_ones(backend: Backend) -> None:
    x, y, k, _ = (a.detach() for a in every_argument())
    t = torch.randn_like(x)

    def values(module: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: module.wiener_loss(x, y, k, 0.1) + module.blur_mse(x, y, k) + module.blur(x, k).square().sum()

    values(blurfft)(x)
    expected = jvp(values(reference), (x,), (t,))
    torch.testing.assert_close(jvp(values(blurfft), (x,), (t,)), expected)
    for leaf in (x, x.clone().requires_grad_()):
        with forward_ad.dual_level():
            dual = forward_ad.unpack_dual(values(blurfft)(forward_ad.make_dual(leaf, t)))
            torch.testing.assert_close(dual.tangent, expected[1])


def test_forward_mode_does_not_warn() -> None:
    """Neither when it is first used: what warns only once would escape every other test."""
    program = """
import warnings
import torch
import blurfft

x, y, k = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8), torch.rand(3, 3)
torch.func.jvp(torch.sin, (x,), (y,))  # warns of itself in torch 2.13
warnings.simplefilter("error")
for function in (
    lambda x: blurfft.wiener_loss(x, y, k),
    lambda x: blurfft.wiener_loss(x, y, k, reduction="none"),
    lambda x: blurfft.wiener_nll(x, y, k),
    lambda x: blurfft.spectral_mse(x, y, blurfft.wiener_weight(k, (8, 8))),
    lambda x: blurfft.blur_mse(x, y, k),
    lambda x: blurfft.focal_frequency_loss(x, y),
    lambda x: blurfft.wiener_filter(blurfft.blur(x, k), k),
    lambda x: blurfft.irfft2(blurfft.rfft2(x)),
):
    torch.func.jvp(function, (x,), (y,))
    torch.func.hessian(lambda t: function(t * x).sum())(torch.ones(()))
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_hessians(backend: Backend) -> None:
    x, y, k, nsr = (a.detach() for a in every_argument())

    def loss(module: Any) -> Callable[[Tensor], Tensor]:
        return lambda k: module.wiener_nll(x, y, k, nsr)

    expected = jacrev(jacrev(loss(reference)))(k)
    torch.testing.assert_close(hessian(loss(blurfft))(k), expected)
    torch.testing.assert_close(jacrev(jacfwd(loss(blurfft)))(k), expected)
    vectorised = torch.autograd.functional.hessian(
        loss(blurfft), k, vectorize=True, outer_jacobian_strategy="forward-mode"
    )
    torch.testing.assert_close(vectorised, expected)


@pytest.mark.filterwarnings("ignore")  # of the tracer, that it writes shapes down
def test_nothing_of_a_transform_outlives_it() -> None:
    x, y, k = images(SHAPE, f32), images(SHAPE, f32), kernels((3, 2), f32)

    def loss(x: Tensor) -> Tensor:
        return blurfft.wiener_loss(x, y, k, 0.375)  # of which no constant has been made yet

    jacrev(lambda x: grad(loss)(x).sum())(x)
    torch.testing.assert_close(grad(loss)(x), grad(lambda x: reference.wiener_loss(x, y, k, 0.375))(x))
    loss(x)
    # Traced twice, to compare.
    traced = torch.jit.trace(lambda x: blurfft.wiener_loss(x, y, k, 0.4375), x)
    torch.testing.assert_close(traced(2 * x), reference.wiener_loss(2 * x, y, k, 0.4375))


@pytest.mark.parametrize("sample", [name for name in SAMPLES if "-" not in name])
def test_every_batching_rule(sample: str, backend: Backend) -> None:
    op, make = SAMPLES[sample]
    args = make()
    tensors = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
    for mapped in [tensors, *([i] for i in tensors)]:
        dims = tuple(args[i].dim() if i in mapped else None for i in range(len(args)))  # the last
        batched = [
            torch.stack([a * (j + 1) / 3 for j in range(3)], -1) if i in mapped else a for i, a in enumerate(args)
        ]
        actual = _tuple(vmap(op, dims)(*batched))
        each = [_tuple(op(*(a[..., j] if i in mapped else a for i, a in enumerate(batched)))) for j in range(3)]
        for out, expected in zip(actual, zip(*each, strict=True), strict=True):
            torch.testing.assert_close(out, torch.stack(expected))


def test_is_grads_batched(backend: Backend) -> None:
    x, y, k, nsr = every_argument()
    cotangents = torch.randn(3, dtype=f64)
    actual, truth = (
        torch.autograd.grad(every_loss(m, x, y, k, nsr), (x, k), cotangents, is_grads_batched=True)
        for m in (blurfft, reference)
    )
    torch.testing.assert_close(actual, truth)
    # A batch of ones is no plain 1.
    loss = blurfft.wiener_loss(x, y, k, nsr)
    (batch,) = torch.autograd.grad(loss, x, torch.ones(3, dtype=f64), is_grads_batched=True)
    assert batch.shape == (3, *SHAPE)


def test_second_gradients_where_a_kernel_has_no_response(backend: Backend) -> None:
    """By nsr they are 0, by the kernel 2 mean(e²) / nsr², also beside powers of 1 / nsr that are out of range."""
    x, y = images(SHAPE, f32), images(SHAPE, f32)
    k, nsr = torch.zeros(1, 1, requires_grad=True), torch.tensor(1e-12, requires_grad=True)
    loss = 1e6 * blurfft.wiener_loss(x, y, k, nsr, eps=1.0)
    by_k, by_nsr = torch.autograd.grad(loss, (k, nsr), create_graph=True)
    second_by_nsr, mixed = torch.autograd.grad(by_nsr, (nsr, k), retain_graph=True)
    assert by_k == by_nsr == second_by_nsr == mixed == 0
    (second_by_k,) = torch.autograd.grad(by_k, k)
    truth = 2e6 * (x.double() - y.double()).square().mean() / nsr.detach().double().square()
    torch.testing.assert_close(second_by_k.double().squeeze(), truth, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [bf16, f16])
def test_a_cotangent_is_not_rounded_to_half_precision(dtype: torch.dtype, backend: Backend) -> None:
    x, y, k = images(SHAPE, dtype).requires_grad_(), images(SHAPE, dtype), kernels((3, 2), f32)
    factor = torch.tensor(1.003)
    one, scaled = (torch.autograd.grad(f * blurfft.wiener_loss(x, y, k, reduction="sum"), x)[0] for f in (1.0, factor))
    assert factor.to(dtype) != factor
    if dtype == f16:  # is rounded once it has been scaled
        x, y = x.detach().float().requires_grad_(), y.float()
        (one,) = torch.autograd.grad(blurfft.wiener_loss(x, y, k, reduction="sum"), x)
    torch.testing.assert_close(scaled, (one.float() * factor).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [bf16, f16])
def test_autocast(dtype: torch.dtype, backend: Backend) -> None:
    x, y, k = images(SHAPE, f32).requires_grad_(), images(SHAPE, f32), kernels((3, 2), f32)
    weight = torch.rand(6, 3)
    plain = blurfft.wiener_loss(x, y, k)
    with torch.autocast("cpu", dtype=dtype):
        half = F.conv2d(x, torch.ones(3, 3, 1, 1))
        assert half.dtype == dtype
        for loss in (
            blurfft.wiener_loss(half, y, k),
            blurfft.wiener_nll(half, y, k.to(dtype)),
            blurfft.spectral_mse(half, half, weight),
            blurfft.blur_mse(half, y, k),
            blurfft.focal_frequency_loss(half, half),
        ):
            assert loss.dtype == F.mse_loss(half, y).dtype == f32
        assert blurfft.blur(half, k).dtype == dtype
        # What is in float32 is computed with in float32.
        inside = blurfft.wiener_loss(x, y, k)
        torch.testing.assert_close(inside, plain, rtol=0, atol=0)
        (actual,) = torch.autograd.grad(inside, x)
    torch.testing.assert_close(actual, torch.autograd.grad(plain, x)[0], rtol=0, atol=0)


def test_autocast_unites_the_dtypes_of_an_op(backend: Backend) -> None:
    x, y, k, nsr, eps = loss_arguments(f32)
    half, weight, transfer = x.to(bf16), torch.rand(1, 1, 6, 3), spectrum(1, 1, 6, 3)
    with torch.autocast("cpu", dtype=bf16):
        loss, gradient, *_ = overloads.wiener_loss(half, y, k.half(), nsr.double(), eps, 1, False, False, True, False)
        united = overloads.wiener_loss(half.float(), y, k.half().float(), nsr, eps, 1, False, False, True, False)
        torch.testing.assert_close((loss, gradient), united[:2])
        loss, gradient, _ = overloads.spectral_loss(half, half * 2, weight.half(), 1, False, True, False)
        assert (loss.dtype, gradient.dtype) == (f32, bf16)
        assert overloads.spectral_filter(half, transfer).dtype == bf16
        assert overloads.cross_spectrum(half, y, 1, 1, False).dtype == f32


def test_the_saved_gradient_is_handed_out_without_a_copy(backend: Backend) -> None:
    x, y, k = images(SHAPE, f32).requires_grad_(), images(SHAPE, f32), kernels((3, 2), f32)
    loss = blurfft.wiener_loss(x, y, k)
    saved = loss.grad_fn.saved_tensors[3].data_ptr()
    loss.backward()
    assert x.grad is not None and x.grad.data_ptr() == saved


def test_gradients_of_a_loss_that_keeps_its_graph_are_independent(backend: Backend) -> None:
    x, y, k = images(SHAPE, f32).requires_grad_(), images(SHAPE, f32), kernels((3, 2), f32)
    loss = blurfft.wiener_loss(x, y, k)
    first, second = (torch.autograd.grad(loss, x, retain_graph=True)[0] for _ in range(2))
    expected = first.clone()
    first.zero_()
    torch.testing.assert_close(second, expected)
    second.zero_()
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0], expected)


def test_gradients_are_computed_only_where_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    flags: list[tuple[bool, bool]] = []

    class Recorded(_define.Prepared):
        def __new__(cls, op: Any, args: Any) -> Any:
            flags.append(args[-2:])
            return super().__new__(cls, op, args)

    monkeypatch.setattr(_define, "Prepared", Recorded)
    monkeypatch.setattr(_fastpath, "recall", lambda *_: None)
    x, y, k, nsr = every_argument()
    blurfft.wiener_loss(x.detach(), y.detach(), k.detach())
    blurfft.wiener_loss(x, y.detach(), k.detach())
    blurfft.wiener_loss(x.detach(), y, k.detach())
    blurfft.wiener_loss(x.detach(), y.detach(), k)
    blurfft.wiener_nll(x.detach(), y.detach(), k.detach(), nsr)
    with torch.no_grad():
        blurfft.wiener_loss(x, y, k, nsr)
    assert flags == [(False, False), (True, False), (True, False), (False, True), (False, True), (False, False)]

    # Of losses of their own a shared nsr cannot have one gradient yet, the samples' own kernels can.
    flags.clear()
    blurfft.wiener_nll(x, y, k, reduction="none")
    blurfft.wiener_nll(x, y, k.detach(), torch.tensor(0.1, requires_grad=True), reduction="none")
    assert flags == [(True, True), (True, False)]


def test_inference_mode(backend: Backend) -> None:
    x, y, k = images(SHAPE, f32), images(SHAPE, f32), kernels((3, 2), f32)
    with torch.inference_mode():
        inside = blurfft.wiener_nll(x, y, k)
    torch.testing.assert_close(inside, blurfft.wiener_nll(x, y, k))


# Losses with a parameter of two dimensions, whose calls are remembered.
LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "wiener_loss": lambda x, y, k: blurfft.wiener_loss(x, y, k, 0.1),
    "wiener_nll": lambda x, y, k: blurfft.wiener_nll(x, y, k, 0.1, reduction="none").square().sum(),
    "blur_mse": lambda x, y, k: blurfft.blur_mse(x, y, k, "sum"),
    "spectral_mse": lambda x, y, k: blurfft.spectral_mse(x, y, k),
    "focal_frequency_loss": lambda x, y, k: blurfft.focal_frequency_loss(x, y, 1.3),
}


def parameter(loss: str, dtype: torch.dtype = f64) -> Tensor:
    return torch.rand(6, 3, dtype=dtype) if loss == "spectral_mse" else kernels((3, 2), dtype)


def gradients(value: Tensor, *tensors: Tensor) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(value, tensors, allow_unused=True)


@pytest.mark.parametrize("name", LOSSES)
def test_later_calls_are_as_good_as_the_first(name: str, backend: Backend) -> None:
    loss = LOSSES[name]
    _fastpath.forget()
    for layout in ("contiguous", "channels_last", "expanded", "contiguous"):
        x, y, given = images(SHAPE, f64, layout), images(SHAPE, f64, layout), parameter(name)
        for k in (given, given.mul_(0.5), given.t().contiguous().t(), given.clone().requires_grad_()):
            for needs_x, needs_y in ((True, False), (True, True), (False, True), (False, False)):
                x, y = x.detach().requires_grad_(needs_x), y.detach().requires_grad_(needs_y)
                with blurfft.use_backend("reference"):
                    expected = loss(x.double(), y.double(), k.double())
                actual = loss(x, y, k)
                torch.testing.assert_close(actual, expected)
                assert actual.requires_grad == expected.requires_grad
                leaves = [t for t in (x, y, k) if t.requires_grad]
                if actual.requires_grad:
                    torch.testing.assert_close(gradients(actual, *leaves), gradients(expected, *leaves))
    assert _fastpath._calls or not _fastpath.available


# Of the focal frequency loss the weight is a constant in the gradient.
@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"focal_frequency_loss"}))
def test_later_calls_are_differentiable_twice(name: str, backend: Backend) -> None:
    x, y, k = images(SHAPE).requires_grad_(), images(SHAPE).requires_grad_(), parameter(name).requires_grad_()
    for _ in range(2):
        assert torch.autograd.gradgradcheck(LOSSES[name], (x, y, k), fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda x: LOSSES[name](x, y, k.detach()), (x,), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_in_half_precision_are_rounded_once(name: str, dtype: torch.dtype, backend: Backend) -> None:
    x, y, k = images(SHAPE, dtype).requires_grad_(), images(SHAPE, dtype).requires_grad_(), parameter(name, f32)
    actual = gradients(LOSSES[name](x, y, k), x, y)
    wide = [t.detach().double().requires_grad_() for t in (x, y)]
    with blurfft.use_backend("reference"):
        expected = gradients(LOSSES[name](*wide, k.double()), *wide)
    for a, e in zip(actual, expected, strict=True):
        assert a is not None and e is not None
        # The product with a cotangent that is not 1 is rounded once more.
        assert ((a - e).abs() <= torch.finfo(dtype).eps * e.abs() + 1e-5 * e.abs().max()).all()


@pytest.mark.parametrize("name", LOSSES)
def test_float16_survives_loss_scaling(name: str, backend: Backend) -> None:
    # The gradient of a mean is below what float16 holds, the scale of GradScaler above.
    x = images((24, 3, 32, 32), torch.float16)
    y = x + 1e-2 * images(x.shape, torch.float16)
    k = parameter(name, f32) if name != "spectral_mse" else torch.rand(32, 17)
    scale = 2.0**16 if name != "wiener_nll" and name != "blur_mse" else 1.0
    x, y = x.requires_grad_(), y.requires_grad_()
    actual = gradients(scale * LOSSES[name](x, y, k), x, y)
    wide = [t.detach().double().requires_grad_() for t in (x, y)]
    with blurfft.use_backend("reference"):
        expected = gradients(scale * LOSSES[name](*wide, k.double()), *wide)
    for a, e in zip(actual, expected, strict=True):
        assert a is not None and e is not None and a.dtype == torch.float16
        assert ((a - e).abs() <= 2**-11 * e.abs() + 1e-5 * e.abs().max() + 2**-25).all()


def test_later_calls_are_judged_by_all_that_matters() -> None:
    x, y, k = images(SHAPE, f32).requires_grad_(), images(SHAPE, f32), kernels((3, 2), f32)
    for _ in range(2):
        blurfft.wiener_loss(x, y, k, 1.0)
        blurfft.focal_frequency_loss(x, y, patch_factor=1)
    with pytest.raises(TypeError, match="nsr must be a float"):
        blurfft.wiener_loss(x, y, k, True)
    with pytest.raises(TypeError, match="patch_factor must be an int"):
        blurfft.focal_frequency_loss(x, y, patch_factor=True)
    with pytest.raises(ValueError, match="nsr must be non-negative"):
        blurfft.wiener_loss(x, y, k, -1.0)
    with pytest.raises(ValueError, match="reduction"):
        blurfft.wiener_loss(x, y, k, 1.0, reduction="median")
    with pytest.raises(ValueError, match="same shape"):
        blurfft.wiener_loss(x, y[:1], k, 1.0)
    with pytest.raises(TypeError, match="dense"):
        blurfft.wiener_loss(x, y.to_sparse(), k, 1.0)
    with pytest.raises(TypeError, match="got ndarray"):
        blurfft.wiener_loss(x, y.numpy(), k, 1.0)  # type: ignore[arg-type]
    nested = torch.nested.nested_tensor([y[0], y[1]])  # torch's guards would abort the process
    for arguments in ((nested, y, k), (x, nested, k), (x, y, nested)):
        with pytest.raises(TypeError, match="nested"):
            blurfft.wiener_loss(*arguments, 1.0)
    jagged = torch.nested.nested_tensor([y, y], layout=torch.jagged)
    with pytest.raises(RuntimeError, match=r"[nN]ested"):
        vmap(lambda y: blurfft.wiener_loss(x, y, k, 1.0))(jagged)
    assert blurfft.wiener_loss(x, y.double(), k, 1.0).dtype == f64
    with torch.no_grad():
        assert not blurfft.wiener_loss(x, y, k, 1.0).requires_grad
    with blurfft.use_backend("reference"):
        loss = blurfft.wiener_loss(x, y, k, 1.0)
    by_reference = [call for key, calls in _fastpath._calls.items() if "reference" in key for _, call in calls]
    assert {call.backend for call in by_reference} == {"reference"}
    assert loss.grad_fn is not None and loss.grad_fn.call.backend == "reference"


@pytest.mark.filterwarnings("ignore")  # of the tracer, that it writes shapes down
def test_transforms_and_modes_see_calls_like_earlier_ones() -> None:
    x, y, k = images(SHAPE, f64), images(SHAPE, f64), kernels((3, 2), f64)

    def loss(x: Tensor) -> Tensor:
        return blurfft.wiener_loss(x, y, k, 0.1)

    expected = gradients(loss(x.requires_grad_()), x)[0]
    x = x.detach()
    loss(x)
    torch.testing.assert_close(grad(loss)(x), expected)
    torch.testing.assert_close(vmap(loss)(torch.stack((x, x)))[1], loss(x))
    with FakeTensorMode() as mode:
        assert blurfft.wiener_loss(*map(mode.from_tensor, (x, y, k)), 0.1).shape == ()
    with torch.inference_mode():
        inside = blurfft.wiener_loss(x, y, k, 0.2)
    assert inside.is_inference() and not blurfft.wiener_loss(x, y, k, 0.2).is_inference()
    torch.testing.assert_close(torch.jit.trace(loss, x, check_trace=False)(2 * x), loss(2 * x))
    for pre_dispatch in (False, True):
        graph = make_fx(loss, pre_dispatch=pre_dispatch)(x).graph
        assert "blurfft.wiener_loss" in str(graph)
    value = reference.wiener_loss(x, y, k, 0.1)
    with torch.autocast("cpu"):
        torch.testing.assert_close(loss(x), value)
    with torch._C._AutoDispatchBelowAutograd():
        assert not loss(x.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_loss_computes_no_gradient(strict: bool) -> None:
    x, y = images(SHAPE).requires_grad_(), images(SHAPE)
    criterion = blurfft.WienerNLL(torch.nn.Parameter(kernels((3, 2))), torch.nn.Parameter(positive(())))
    exported = torch.export.export(criterion, (x, y), strict=strict)
    (node,) = (node for node in exported.graph.nodes if node.target is overloads.wiener_loss)
    assert node.args[-3:] == (False, False, False)  # per sample, by input, by kernel
    # It is there for whoever wants it.
    expected = gradients(criterion(x, y), x, criterion.kernel, criterion.nsr)
    program = exported.module()
    torch.testing.assert_close(gradients(program(x, y), x, program.kernel, program.nsr), expected)


@pytest.mark.filterwarnings("ignore")  # of the tracer, that it writes shapes down
def test_the_weight_of_a_whole_batch_is_a_constant_in_graphs() -> None:
    x, y = images(SHAPE, f64), images(SHAPE, f64)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return blurfft.focal_frequency_loss(x, y, batch_matrix=True)

    class Module(torch.nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return loss(x, y)

    expected = grad(loss)(x, y)
    traced = torch.jit.trace(loss, (x, y), check_trace=False)
    exported = torch.export.export(Module(), (x, y))
    for graph in (traced, exported.module()):
        leaf = x.clone().requires_grad_()
        torch.testing.assert_close(gradients(graph(leaf, y), leaf)[0], expected)


@pytest.mark.parametrize("name", LOSSES)
def test_compiled_autograd(name: str) -> None:
    x, y, k = images(SHAPE, f64).requires_grad_(), images(SHAPE, f64).requires_grad_(), parameter(name)
    expected = gradients(LOSSES[name](x, y, k), x, y)
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        LOSSES[name](x, y, k).backward()
    torch.testing.assert_close((x.grad, y.grad), expected)


def test_calls_of_many_shapes_are_remembered_newest_first() -> None:
    k = kernels((3, 2), f32)
    _fastpath.forget()

    def arguments(width: int) -> tuple[Tensor, ...]:
        return images((1, 1, 6, width), f32), images((1, 1, 6, width), f32), k

    for width in range(2, 4 + _fastpath.LIKE_EACH_OTHER):
        blurfft.wiener_loss(*arguments(width), 0.3)
    (settings,) = _fastpath._calls
    assert _fastpath.recall(settings, arguments(2)) is None
    for width in range(4, 4 + _fastpath.LIKE_EACH_OTHER):
        x, y, k = arguments(width)
        call = _fastpath.recall(settings, (x, y, k))
        assert call is not None
        torch.testing.assert_close(call(x, y, k), reference.wiener_loss(x, y, k, 0.3))
    strided = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert _fastpath.recall(settings, (strided, y, k)) is call
    # Torch's guards mistrust a tensor that is given twice: nothing is remembered, and nothing forgotten for it.
    for _ in range(_fastpath.LIKE_EACH_OTHER):
        torch.testing.assert_close(blurfft.wiener_loss(x, x, k, 0.3), torch.tensor(0.0))
    assert _fastpath.recall(settings, (x, x, k)) is None
    assert _fastpath.recall(settings, (x, y, k)) is call


def remembered() -> int:
    return sum(map(len, _fastpath._calls.values()))


def test_the_least_recently_used_call_is_forgotten_first() -> None:
    x, y, k = images((1, 1, 6, 5), f32), images((1, 1, 6, 5), f32), kernels((3, 2), f32)
    wide = images((1, 1, 6, 8), f32)
    _fastpath.forget()
    blurfft.wiener_loss(x, y, k, 0.5)
    blurfft.wiener_loss(wide, wide + 1, k, 0.5)
    (often,) = _fastpath._calls
    for i in range(2 * _fastpath.LIMIT):
        blurfft.wiener_loss(x, y, k, 1.0 + i)
        assert _fastpath.recall(often, (x, y, k)) is not None
        assert remembered() == _fastpath._number <= _fastpath.LIMIT
    assert remembered() == _fastpath.LIMIT
    assert len(_fastpath._calls[often]) == 2  # the set is as young as its youngest
    for i in range(_fastpath.LIMIT):
        blurfft.wiener_loss(x, y, k, 1.0 + i)
    assert often not in _fastpath._calls


def test_compiled_transforms_nest() -> None:
    torch._dynamo.reset()
    x, y, k, nsr = (a.detach() for a in every_argument())

    def loss(module: Any) -> Callable[[Tensor], Tensor]:
        return lambda k: module.wiener_nll(x, y, k, nsr) + module.blur_mse(x, y, k)

    functions: list[Callable[[Any, Tensor], Any]] = [
        lambda m, k: jacrev(grad(loss(m)))(k),
        lambda m, k: vmap(grad(loss(m)))(torch.stack((k, 2 * k))),
        lambda m, k: grad(lambda k: vmap(loss(m))(torch.stack((k, 2 * k))).square().sum())(k),
    ]
    for function in functions:
        compiled = torch.compile(lambda k, f=function: f(blurfft, k), fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(k), function(reference, k))


NAMES = {
    "wiener_loss": "WienerLossBackward",
    "wiener_nll": "WienerLossBackward",
    "blur_mse": "BlurMSEBackward",
    "spectral_mse": "SpectralLossBackward",
    "focal_frequency_loss": "FocalFrequencyLossBackward",
}


@pytest.mark.parametrize("name", LOSSES)
def test_graphs_and_profiles_name_the_op(name: str) -> None:
    function = (lambda x, y, k: blurfft.wiener_nll(x, y, k, 0.1)) if name == "wiener_nll" else LOSSES[name]
    x, y, k = images(SHAPE, f32).requires_grad_(), images(SHAPE, f32), parameter(name, f32)
    value = function(x, y, k)  # torch 2.11 names no node that outlives its tensor
    node = value.grad_fn
    assert node is not None and node.name() == type(node).__name__ == NAMES[name]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        function(x, y, k).backward()
    assert {NAMES[name], NAMES[name].removesuffix("Backward")} <= {event.name for event in profile.events()}
    with torch.autograd.set_detect_anomaly(True), pytest.warns(UserWarning, match=f"Error detected in {NAMES[name]}"):
        broken = function(x * float("nan"), y, k)
        with pytest.raises(RuntimeError, match=f"Function '{NAMES[name]}' returned nan"):
            broken.backward()


@pytest.mark.parametrize("factor", [1.0, -2.5])
def test_on_a_gpu_gradients_are_scaled_in_place_unless_they_are_needed_again(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaled: list[int] = []
    select = _dispatch.select

    def counting(op: str, *args: Any) -> Callable[..., Any]:
        if op == "scale_":
            return lambda tensors, by: (scaled.append(len(tensors)), composed.scale_(tensors, by))
        return select(op, *args)

    monkeypatch.setattr(_dispatch, "select", counting)
    x, y, kernel = (torch.rand(2, 3, 8, 8, requires_grad=i < 1) for i in range(3))
    kernel = kernel[:, :1, :3, :3].clone().requires_grad_()

    def loss() -> Tensor:
        return blurfft.wiener_nll(x, y, kernel, 0.1)

    with blurfft.use_backend("reference"):
        monkeypatch.setattr(_call, "_on_gpu", lambda tensor: False)
        expected = [factor * g for g in torch.autograd.grad(loss(), (x, kernel))]
        monkeypatch.setattr(_call, "_on_gpu", lambda tensor: True)
        weight = torch.tensor(factor)
        kept = loss()
        for _ in range(2):
            for g, e in zip(torch.autograd.grad(kept, (x, kernel), weight, retain_graph=True), expected, strict=True):
                torch.testing.assert_close(g, e)
        assert not scaled
        for g, e in zip(torch.autograd.grad(kept, (x, kernel), weight), expected, strict=True):
            torch.testing.assert_close(g, e)
        assert scaled == [2]
        batched = torch.autograd.grad(loss(), (x, kernel), torch.stack([weight, 2 * weight]), is_grads_batched=True)
        for g, e in zip(batched, expected, strict=True):
            torch.testing.assert_close(g, torch.stack([e, 2 * e]))
        mapped = torch.func.vmap(lambda w: torch.autograd.grad(loss(), x, w)[0])(torch.stack([weight, 2 * weight]))
        torch.testing.assert_close(mapped, torch.stack([expected[0], 2 * expected[0]]))
        assert scaled == [2]


def test_an_import_after_another_replaces_it() -> None:
    """As in a notebook or a test runner that drops modules. What was made before goes on working."""
    program = """
import importlib, sys
import torch
import blurfft as before

x, y, k = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8), torch.rand(3, 3)
compiled = torch.compile(before.wiener_filter, backend="aot_eager", fullgraph=True)
filtered, loss = compiled(x, k), before.wiener_loss(x, y, k)

assert importlib.reload(before) is before
for name in [name for name in sys.modules if name.split(".")[0] == "blurfft"]:
    del sys.modules[name]
import blurfft

assert blurfft.wiener_loss is not before.wiener_loss
for module in before, blurfft:
    assert module.wiener_loss(x, y, k) == loss
    leaf = x.clone().requires_grad_()
    module.wiener_loss(leaf, y, k).backward()
    torch.testing.assert_close(torch.func.grad(module.wiener_loss)(x, y, k), leaf.grad)
    assert torch.func.vmap(module.wiener_loss, (0, 0, None))(x[None], y[None], k).shape == (1,)
with blurfft.use_backend("reference"):
    torch.testing.assert_close(compiled(x, k), filtered)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
