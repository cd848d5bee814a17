"""What ``torch.onnx.export`` makes of the functions, in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from inputs import images, kernels
from torch import Tensor, nn

import blurfft

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class Everything(nn.Module):
    def forward(self, x: Tensor, y: Tensor, kernel: Tensor, nsr: Tensor) -> tuple[Tensor, ...]:
        spectrum = blurfft.rfft2(x, norm="ortho")
        return (
            spectrum.real,
            blurfft.irfft2(spectrum, x.shape[-2:], norm="ortho"),
            blurfft.blur(x, kernel),
            blurfft.wiener_filter(x, kernel, nsr),
            blurfft.wiener_loss(x, y, kernel, nsr, eps=0.1),
            blurfft.wiener_loss(x, y, kernel, nsr, reduction="none"),
            blurfft.wiener_nll(x, y, kernel, nsr),
            blurfft.spectral_mse(x, y, blurfft.wiener_weight(kernel, x.shape[-2:], nsr)),
            blurfft.blur_mse(x, y, kernel),
            blurfft.focal_frequency_loss(x, y),
            blurfft.focal_frequency_loss(x, y, 1.5, patch_factor=2, log_matrix=True),
        )


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize(("open_sizes", "dtype"), [(False, torch.float32), (True, torch.float64)])
def test_onnx_runtime_gives_the_same(open_sizes: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    """A module for batches of any size, and a program exported before for images of any size."""

    def arguments(samples: int, height: int, width: int) -> list[Tensor]:
        pair = [images((samples, 3, height, width)) for _ in range(2)]
        return [t.to(dtype) for t in (*pair, kernels((3, 5)), torch.tensor(0.1, dtype=torch.float64))]

    # Powers of two, at which ONNX Runtime's DFT is precise.
    model, example = Everything().eval(), tuple(arguments(2, 16, 8))
    if open_sizes:
        patch = torch.export.Dim("height", min=3), torch.export.Dim("width", min=3)
        image = {0: torch.export.Dim("batch"), 2: 2 * patch[0], 3: 2 * patch[1]}
        program = torch.export.export(model, example, dynamic_shapes=(image, image, None, None))
        exported = torch.onnx.export(program, dynamo=True, verbose=False)
    else:
        dynamic = ({0: "batch"}, {0: "batch"}, None, None)
        exported = torch.onnx.export(model, example, dynamo=True, dynamic_shapes=dynamic, verbose=False)
    assert exported is not None
    assert all(node.domain == "" for node in exported.model.graph), "not standard ONNX"
    exported.save(tmp_path / "model.onnx")

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for size in ((2, 16, 8), (5, 16, 8), *([(3, 32, 16), (1, 10, 26)] if open_sizes else [])):
        given = arguments(*size)
        inputs = {i.name: t.numpy() for i, t in zip(session.get_inputs(), given, strict=True)}
        for value, expected in zip(session.run(None, inputs), model(*given), strict=True):
            # At other lengths ONNX Runtime's DFT in float64 is no more precise than one in float32.
            tolerance = {"rtol": 1e-6, "atol": 1e-6} if size == (1, 10, 26) else {}
            torch.testing.assert_close(torch.from_numpy(value), expected, **tolerance)
