"""The schemas of the ops, behind their names. ``setup.py`` reads them for the C++ library, so torch is not imported."""

from __future__ import annotations


def _loss(*parameters: str, options: str = "SymInt count") -> str:
    """Of a loss of two images and so many parameters: its value and, where they are asked for, its gradients."""
    tensors = [f"Tensor {name}" for name in ("input", "target", *parameters)]
    flags = ["bool per_sample", "bool input_grad", *(f"bool {name}_grad" for name in parameters[:1])]
    results = ["Tensor loss", "Tensor grad", *(f"Tensor {name}_grad" for name in parameters)]
    return f"({', '.join([*tensors, options, *flags])}) -> ({', '.join(results)})"


SCHEMAS = {
    "rfft2": "(Tensor input, str norm) -> Tensor",
    "irfft2": "(Tensor input, SymInt width, str norm) -> Tensor",
    "otf": "(Tensor kernel, SymInt height, SymInt width) -> Tensor",
    "otf_backward": "(Tensor grad, SymInt width, SymInt kh, SymInt kw) -> Tensor",
    "spectral_filter": "(Tensor input, Tensor transfer) -> Tensor",
    "cross_spectrum": "(Tensor a, Tensor b, SymInt n, SymInt c, bool complex) -> Tensor",
    "spectral_loss": _loss("weight"),  # (N|1, C|1, H, W//2+1)
    "wiener_loss": _loss("kernel", "nsr", "eps", options="SymInt count, bool nll"),  # (N|1, C|1, kh, kw), (N|1, C|1)
    "blur_mse": _loss("kernel"),
    "focal_frequency_loss": _loss(options="float alpha, bool log_matrix, float loss_weight, SymInt count"),
}
