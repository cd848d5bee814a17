"""The losses as modules: options at construction, images at the call.

A kernel, weight, ``nsr`` or ``eps`` given as an ``nn.Parameter`` is trained with the model and saved with it. Any other
tensor is a buffer: it moves with the module, and ``.half()`` and ``.bfloat16()`` leave it in its precision. Such a
kernel or weight is not saved: the one in the code holds, whatever an older checkpoint has. A tensor that was computed
from others is detached from them. To train what it was computed from, pass it to each call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from . import _checks, functional


class _Loss(nn.Module):
    """Holds what a loss is given at construction."""

    def __init__(self, **fixed: Tensor | None) -> None:
        super().__init__()
        for name, value in fixed.items():
            self._hold(name, value, saved=False)
        self._unsaved = tuple(fixed)
        self.register_load_state_dict_pre_hook(_without_unsaved)

    def _hold(self, name: str, value: float | Tensor | None, saved: bool = True) -> None:
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            self.register_buffer(name, value if value.is_leaf else value.detach(), persistent=saved)
        else:
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        # Numbers of one kind: a compiled module has a graph for each.
        super().__setattr__(name, _checks.as_float(value) if name in _NUMBERS else value)

    def __prepare_scriptable__(self) -> nn.Module:
        name = type(self).__name__
        raise NotImplementedError(
            f"torch.jit.script does not take {name}; torch.jit.trace, torch.compile and export do"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            after = getattr(self, name)
            if after.dtype in _HALF and buffer.dtype not in _HALF:
                setattr(self, name, buffer.to(after.device))
        return self


_NUMBERS = ("nsr", "eps", "alpha", "loss_weight")
_HALF = (torch.float16, torch.bfloat16)


def _without_unsaved(module: _Loss, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name in module._unsaved:
        if not isinstance(getattr(module, name), nn.Parameter):
            state.pop(prefix + name, None)


def _shown(value: float | Tensor | None) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else str(value)


class _KernelLoss(_Loss):
    """Holds a blur kernel, which a call may replace."""

    kernel: Tensor | None

    def __init__(self, kernel: Tensor | None, reduction: str) -> None:
        _checks.reduction(reduction)
        if kernel is not None:
            _checks.kernel(kernel)
        super().__init__(kernel=kernel)
        self.reduction = reduction

    def _kernel(self, kernel: Tensor | None) -> Tensor:
        if kernel is None:
            kernel = self.kernel
        if kernel is None:
            raise ValueError(f"{type(self).__name__} needs a kernel, at construction or at the call; both are None")
        return kernel

    def extra_repr(self) -> str:
        return f"kernel={_shown(self.kernel)}, reduction={self.reduction!r}"


class _WienerModule(_KernelLoss):
    nsr: float | Tensor
    eps: float | Tensor

    def __init__(self, kernel: Tensor | None, nsr: float | Tensor, eps: float | Tensor, reduction: str) -> None:
        super().__init__(kernel, reduction)
        self._hold("nsr", _checks.non_negative("nsr", nsr))
        self._hold("eps", _checks.non_negative("eps", eps))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nsr={_shown(self.nsr)}, eps={_shown(self.eps)}"


class WienerLoss(_WienerModule):
    """``blurfft.wiener_loss`` as a module.

    Args:
        kernel: (kh, kw) or (N|1, C|1, kh, kw); None if each call passes its own.
        nsr, eps, reduction: as in ``blurfft.wiener_loss``.

    Examples:
        >>> criterion = blurfft.WienerLoss(torch.full((5, 5), 1 / 25), nsr=0.01)
        >>> loss = criterion(torch.rand(4, 3, 64, 64), torch.rand(4, 3, 64, 64))
    """

    def __init__(
        self,
        kernel: Tensor | None = None,
        nsr: float | Tensor = 0.01,
        *,
        eps: float | Tensor = 0.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__(kernel, nsr, eps, reduction)

    def forward(self, input: Tensor, target: Tensor, kernel: Tensor | None = None) -> Tensor:
        """The loss of (N, C, H, W) images, with ``kernel`` in place of the module's if it is given."""
        return functional.wiener_loss(
            input, target, self._kernel(kernel), self.nsr, eps=self.eps, reduction=self.reduction
        )


class WienerNLL(_WienerModule):
    """``blurfft.wiener_nll`` as a module.

    Args:
        kernel: (kh, kw) or (N|1, C|1, kh, kw); None if each call passes its own.
        nsr, eps, reduction: as in ``blurfft.wiener_nll``.

    Examples:
        >>> criterion = blurfft.WienerNLL()
        >>> kernel = torch.rand(4, 1, 11, 11).flatten(1).softmax(1).view(4, 1, 11, 11)  # a network predicts one each
        >>> loss = criterion(torch.rand(4, 3, 64, 64), torch.rand(4, 3, 64, 64), kernel)
    """

    def __init__(
        self,
        kernel: Tensor | None = None,
        nsr: float | Tensor = 0.01,
        *,
        eps: float | Tensor = 1e-3,
        reduction: str = "mean",
    ) -> None:
        super().__init__(kernel, nsr, eps, reduction)

    def forward(self, input: Tensor, target: Tensor, kernel: Tensor | None = None) -> Tensor:
        """The loss of (N, C, H, W) images, with ``kernel`` in place of the module's if it is given."""
        return functional.wiener_nll(
            input, target, self._kernel(kernel), self.nsr, eps=self.eps, reduction=self.reduction
        )


class BlurMSELoss(_KernelLoss):
    """``blurfft.blur_mse`` as a module.

    Args:
        kernel: (kh, kw) or (N|1, C|1, kh, kw); None if each call passes its own.
        reduction: as in ``blurfft.blur_mse``.

    Examples:
        >>> criterion = blurfft.BlurMSELoss(torch.nn.Parameter(torch.full((5, 5), 1 / 25)))
        >>> criterion(torch.rand(4, 3, 64, 64), torch.rand(4, 3, 64, 64)).backward()
    """

    def __init__(self, kernel: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(kernel, reduction)

    def forward(self, input: Tensor, target: Tensor, kernel: Tensor | None = None) -> Tensor:
        """The loss of (N, C, H, W) images, with ``kernel`` in place of the module's if it is given."""
        return functional.blur_mse(input, target, self._kernel(kernel), reduction=self.reduction)


class SpectralMSELoss(_Loss):
    """``blurfft.spectral_mse`` as a module.

    Args:
        weight: (H, W//2+1) or (N|1, C|1, H, W//2+1).
        reduction: as in ``blurfft.spectral_mse``.

    Examples:
        >>> criterion = blurfft.SpectralMSELoss(blurfft.wiener_weight(torch.full((5, 5), 1 / 25), (64, 64)))
        >>> loss = criterion(torch.rand(4, 3, 64, 64), torch.rand(4, 3, 64, 64))
    """

    weight: Tensor

    def __init__(self, weight: Tensor, reduction: str = "mean") -> None:
        _checks.reduction(reduction)
        _checks.weight(weight)
        super().__init__(weight=weight)
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of (N, C, H, W) images."""
        return functional.spectral_mse(input, target, self.weight, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"weight={_shown(self.weight)}, reduction={self.reduction!r}"


class FocalFrequencyLoss(_Loss):
    """``blurfft.focal_frequency_loss`` as a module; the arguments are those of the package's module of this name.

    Examples:
        >>> criterion = blurfft.FocalFrequencyLoss(alpha=1.0)
        >>> loss = criterion(torch.rand(4, 3, 64, 64), torch.rand(4, 3, 64, 64))
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        alpha: float = 1.0,
        patch_factor: int = 1,
        ave_spectrum: bool = False,
        log_matrix: bool = False,
        batch_matrix: bool = False,
    ) -> None:
        super().__init__()
        self.loss_weight = _checks.number("loss_weight", loss_weight)
        self.alpha = _checks.exponent("alpha", alpha)
        _checks.flag("ave_spectrum", ave_spectrum)
        _checks.flag("log_matrix", log_matrix)
        _checks.flag("batch_matrix", batch_matrix)
        self.patch_factor = _checks.patch_factor(patch_factor)
        self.ave_spectrum = ave_spectrum
        self.log_matrix = log_matrix
        self.batch_matrix = batch_matrix

    def forward(self, input: Tensor, target: Tensor, matrix: Tensor | None = None) -> Tensor:
        """The loss of (N, C, H, W) images, with ``matrix`` as its weight if it is given."""
        return functional.focal_frequency_loss(
            input,
            target,
            self.alpha,
            self.patch_factor,
            self.ave_spectrum,
            self.log_matrix,
            self.batch_matrix,
            self.loss_weight,
            matrix=matrix,
        )

    def extra_repr(self) -> str:
        return (
            f"loss_weight={self.loss_weight}, alpha={self.alpha}, patch_factor={self.patch_factor}, "
            f"ave_spectrum={self.ave_spectrum}, log_matrix={self.log_matrix}, batch_matrix={self.batch_matrix}"
        )
