from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from inputs import images, kernels
from torch import Tensor, nn

import blurfft
import blurfft.reference
from blurfft import functional

x, y, k = images((4, 3, 12, 10)), images((4, 3, 12, 10)), kernels((3, 3))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_modules_are_the_functions(reduction: str) -> None:
    weight = blurfft.wiener_weight(k, (12, 10))
    for module, expected in (
        (
            blurfft.WienerLoss(k, 0.02, eps=0.1, reduction=reduction),
            blurfft.wiener_loss(x, y, k, 0.02, eps=0.1, reduction=reduction),
        ),
        (
            blurfft.WienerNLL(k, 0.02, eps=0.1, reduction=reduction),
            blurfft.wiener_nll(x, y, k, 0.02, eps=0.1, reduction=reduction),
        ),
        (blurfft.BlurMSELoss(k, reduction), blurfft.blur_mse(x, y, k, reduction)),
        (
            blurfft.SpectralMSELoss(weight, reduction),
            blurfft.spectral_mse(x, y, weight, reduction),
        ),
    ):
        torch.testing.assert_close(module(x, y), expected)


def test_defaults_are_the_functions() -> None:
    torch.testing.assert_close(blurfft.WienerLoss(k)(x, y), blurfft.wiener_loss(x, y, k))
    torch.testing.assert_close(blurfft.WienerNLL(k)(x, y), blurfft.wiener_nll(x, y, k))
    torch.testing.assert_close(blurfft.FocalFrequencyLoss()(x, y), blurfft.focal_frequency_loss(x, y))


def test_focal_frequency_loss_options() -> None:
    options = {
        "loss_weight": 2.0,
        "alpha": 0.5,
        "patch_factor": 2,
        "ave_spectrum": True,
        "log_matrix": True,
        "batch_matrix": True,
    }
    torch.testing.assert_close(
        blurfft.FocalFrequencyLoss(**options)(x, y), blurfft.focal_frequency_loss(x, y, **options)
    )


@pytest.mark.parametrize("module", [blurfft.WienerLoss, blurfft.WienerNLL, blurfft.BlurMSELoss])
def test_a_call_may_bring_its_kernel(module: type[nn.Module]) -> None:
    each = kernels((4, 1, 3, 3))
    torch.testing.assert_close(module(k)(x, y, each), module(each)(x, y))
    torch.testing.assert_close(module()(x, y, kernel=each), module(each)(x, y))


def test_tensors_are_buffers_and_parameters_are_trained() -> None:
    module = blurfft.WienerNLL(nn.Parameter(k.clone()), torch.tensor(0.1), eps=nn.Parameter(torch.tensor(0.2)))
    assert {name for name, _ in module.named_parameters()} == {"kernel", "eps"}
    assert {name for name, _ in module.named_buffers()} == {"nsr"}
    module(x, y).backward()
    assert all(p.grad is not None for p in module.parameters())

    other = blurfft.WienerNLL(
        nn.Parameter(torch.ones(3, 3, dtype=k.dtype)), torch.ones(()), eps=nn.Parameter(torch.ones(()))
    )
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(other(x, y), module(x, y))
    torch.testing.assert_close(copy.deepcopy(module)(x, y), module(x, y))

    assert module.to(torch.float32).kernel.dtype == torch.float32
    assert module.to("meta").nsr.device.type == "meta"


@pytest.mark.parametrize("module", [blurfft.WienerLoss, blurfft.WienerNLL, blurfft.BlurMSELoss])
def test_a_computed_kernel_is_kept_detached(module: type[nn.Module]) -> None:
    logits = torch.zeros(9, dtype=k.dtype, requires_grad=True)
    criterion = module(logits.softmax(0).view(3, 3))
    assert not criterion.kernel.requires_grad
    torch.testing.assert_close(copy.deepcopy(criterion)(x, y), criterion(x, y))
    leaf = k.clone().requires_grad_()
    assert module(leaf).kernel is leaf


@pytest.mark.filterwarnings("ignore")  # of the tracer, that it writes shapes down
def test_a_module_is_traced_with_a_number_not_met_before() -> None:
    criterion = blurfft.WienerLoss(k, 0.4140625)
    traced = torch.jit.trace(criterion, (x, y))
    torch.testing.assert_close(traced(2 * x, y), criterion(2 * x, y))


@pytest.mark.filterwarnings("ignore")  # of the tracer, that it writes shapes down
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("trained", [False, True])
def test_a_traced_loss_is_that_of_any_images(reduction: str, trained: bool) -> None:
    kernel: Tensor = nn.Parameter(k.clone()) if trained else k
    nsr, eps = ((nn.Parameter(torch.tensor(v, dtype=k.dtype)) if trained else v) for v in (0.1, 0.2))
    criteria = [
        blurfft.WienerLoss(kernel, nsr, eps=eps, reduction=reduction),
        blurfft.WienerNLL(kernel, nsr, eps=eps, reduction=reduction),
        blurfft.BlurMSELoss(kernel, reduction=reduction),
        blurfft.SpectralMSELoss(blurfft.wiener_weight(k, x.shape[2:]), reduction=reduction),
        blurfft.FocalFrequencyLoss(0.5),
        blurfft.FocalFrequencyLoss(0.5, batch_matrix=True),
        blurfft.FocalFrequencyLoss(0.5, ave_spectrum=True),
    ]
    for criterion in criteria:
        traced = torch.jit.trace(criterion, (x, y))
        others = [torch.cat((x, 2 * x, 3 * x)), x[:1]]
        if not isinstance(criterion, blurfft.SpectralMSELoss):
            others += [x[..., :9], x[:2].repeat(1, 1, 2, 2)[..., 1:, :]]
        for other in others:
            input, target = other.clone().requires_grad_(), other.flip(0, 3) - 1
            losses = [loss(input, target) for loss in (traced, criterion)]
            torch.testing.assert_close(*losses)
            gradients = [torch.autograd.grad(loss.sum(), (input, *criterion.parameters())) for loss in losses]
            torch.testing.assert_close(*gradients)


@pytest.mark.filterwarnings("ignore")  # of the tracer, that it writes shapes down
@pytest.mark.parametrize(
    "function",
    [
        lambda x: blurfft.blur(x, k),
        lambda x: blurfft.wiener_filter(x, k, 0.1),
        lambda x: blurfft.wiener_weight(k, x.shape[2:], 0.1),
        lambda x: blurfft.irfft2(blurfft.rfft2(x, norm="ortho"), x.shape[2:], norm="ortho"),
    ],
)
def test_a_traced_function_is_that_of_any_images(function: Callable[[Tensor], Tensor]) -> None:
    traced = torch.jit.trace(function, x)
    for other in (x[:1], x[..., :9], x[:2].repeat(1, 1, 2, 2)[..., 1:, :]):
        torch.testing.assert_close(traced(other), function(other))


def test_numbers_and_fixed_kernels_are_not_trained() -> None:
    module = blurfft.WienerLoss(k, 0.1, eps=0.2)
    assert not list(module.parameters())
    assert not module.state_dict()
    assert not blurfft.WienerLoss().state_dict()


def test_repr() -> None:
    assert repr(blurfft.WienerLoss(k)) == "WienerLoss(kernel=(3, 3), reduction='mean', nsr=0.01, eps=0.0)"
    assert repr(blurfft.BlurMSELoss()) == "BlurMSELoss(kernel=None, reduction='mean')"
    assert repr(blurfft.SpectralMSELoss(torch.ones(4, 3))) == "SpectralMSELoss(weight=(4, 3), reduction='mean')"
    assert "alpha=2.0" in repr(blurfft.FocalFrequencyLoss(alpha=2.0))


def test_a_kernel_is_fitted() -> None:
    """BlurMSELoss finds the blur. LBFGS converges to it; where a fixed number of steps of Adam ends is luck."""
    target = images((8, 1, 16, 16))
    true = kernels((3, 3))
    blurred = blurfft.blur(target, true)
    logits = nn.Parameter(torch.zeros(9, dtype=torch.float64))
    optimiser = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")
    criterion = blurfft.BlurMSELoss()

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = criterion(blurred, target, logits.softmax(0).view(3, 3))
        loss.backward()
        return loss

    optimiser.step(closure)
    torch.testing.assert_close(logits.softmax(0).view(3, 3), true, atol=1e-4, rtol=0)


def test_a_fixed_kernel_is_what_the_code_says() -> None:
    model = nn.ModuleDict({"net": nn.Linear(2, 2), "criterion": blurfft.WienerLoss(k)})
    model.load_state_dict({"net.weight": torch.ones(2, 2), "net.bias": torch.ones(2)})
    old = {**model.state_dict(), "criterion.kernel": torch.zeros(5, 5)}  # as it was saved once
    model.load_state_dict(old)
    assert "criterion.kernel" in old and model["criterion"].kernel is k
    weight = blurfft.wiener_weight(k, (12, 10))
    criterion = blurfft.SpectralMSELoss(weight)
    assert not criterion.state_dict()
    criterion.load_state_dict({"weight": weight + 1})
    assert criterion.weight is weight
    trained = blurfft.WienerLoss(nn.Parameter(k.clone()))
    trained.load_state_dict({"kernel": k + 1})
    assert torch.equal(trained.kernel, k + 1)


@pytest.mark.parametrize("narrow", ["half", "bfloat16"])
def test_fixed_tensors_keep_their_precision(narrow: str) -> None:
    modules = nn.ModuleList(
        [
            blurfft.WienerLoss(k.float(), torch.tensor(0.1), eps=nn.Parameter(torch.tensor(0.2))),
            blurfft.SpectralMSELoss(torch.rand(12, 6)),
        ]
    )
    kernel, nsr, weight = modules[0].kernel.clone(), modules[0].nsr.clone(), modules[1].weight.clone()
    getattr(modules, narrow)()
    assert torch.equal(modules[0].kernel, kernel) and torch.equal(modules[0].nsr, nsr)
    assert torch.equal(modules[1].weight, weight)
    assert modules[0].eps.dtype == getattr(torch.zeros(()), narrow)().dtype
    assert {name for name, _ in modules.named_buffers()} == {"0.kernel", "0.nsr", "1.weight"}
    assert modules.double()[0].kernel.dtype == torch.float64
    assert modules.to("meta")[0].kernel.device.type == "meta"
    moved = modules.to("meta", torch.float16)[0].kernel
    assert (moved.device.type, moved.dtype) == ("meta", torch.float64)


def test_the_package_s_matrix() -> None:
    package = pytest.importorskip("focal_frequency_loss").FocalFrequencyLoss
    for options in ({}, {"patch_factor": 2}, {"ave_spectrum": True, "loss_weight": 1.7}):
        patches = options.get("patch_factor", 1)
        height, width = 12 // patches, 10 // patches
        matrix = torch.rand(1 if "ave_spectrum" in options else 4, patches**2, 3, height, width, dtype=x.dtype)
        for given in (matrix, matrix[:, :1, :1], matrix[0, 0, 0], matrix[:1, :, :1]):
            leaves = x.clone().requires_grad_(), x.clone().requires_grad_()
            ours, theirs = (
                m(**options)(leaf, y, given)
                for m, leaf in zip((blurfft.FocalFrequencyLoss, package), leaves, strict=True)
            )
            torch.testing.assert_close(ours, theirs)
            torch.testing.assert_close(
                *(torch.autograd.grad(v, leaf)[0] for v, leaf in zip((ours, theirs), leaves, strict=True))
            )
            truth = blurfft.reference.focal_frequency_loss(x, y, **options, matrix=given)
            torch.testing.assert_close(ours, truth)


@pytest.mark.filterwarnings("ignore")  # that script is deprecated
@pytest.mark.parametrize("make", [lambda: blurfft.WienerLoss(k), lambda: nn.Sequential(blurfft.FocalFrequencyLoss())])
def test_script_is_refused_in_words(make) -> None:
    with pytest.raises(NotImplementedError, match=r"^torch\.jit\.script does not take \w+Loss; torch\.jit\.trace"):
        torch.jit.script(make())


@pytest.mark.filterwarnings("ignore")  # that script is deprecated
@pytest.mark.parametrize("name", [name for name in functional.__dict__ if name in blurfft.__all__])
def test_script_of_a_function_is_refused_in_words(name: str) -> None:
    function = getattr(blurfft, name)

    def caller(x: Tensor) -> Tensor:
        return function(x, x, x)

    for scripted in (function, caller):
        with pytest.raises(RuntimeError, match=rf"torch\.jit\.script does not take blurfft\.{name}; torch\.jit\.trace"):
            torch.jit.script(scripted)
