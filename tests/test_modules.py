from __future__ import annotations

import copy

import pytest
import torch
from inputs import images, kernels
from torch import nn

import blurfft

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


def test_numbers_and_fixed_kernels_are_not_trained() -> None:
    module = blurfft.WienerLoss(k, 0.1, eps=0.2)
    assert not list(module.parameters())
    assert set(module.state_dict()) == {"kernel"}
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
