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
            blurfft.spectral_mse(x, y, blurfft.wiener_weight(kernel, (12, 9), nsr)),
            blurfft.blur_mse(x, y, kernel),
            blurfft.focal_frequency_loss(x, y),
            blurfft.focal_frequency_loss(x, y, 1.5, patch_factor=3, log_matrix=True),
        )


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("exported_before", [False, True])
def test_onnx_runtime_gives_the_same(exported_before: bool, tmp_path: Path) -> None:
    def arguments(samples: int) -> list[Tensor]:
        pair = [images((samples, 3, 12, 9)) for _ in range(2)]
        return [*pair, kernels((3, 5)), torch.tensor(0.1, dtype=torch.float64)]

    model = Everything().eval()
    example, dynamic = tuple(arguments(2)), ({0: "batch"}, {0: "batch"}, None, None)
    if exported_before:
        batch = torch.export.Dim("batch")
        program = torch.export.export(model, example, dynamic_shapes=({0: batch}, {0: batch}, None, None))
        exported = torch.onnx.export(program, dynamo=True, verbose=False)
    else:
        exported = torch.onnx.export(model, example, dynamo=True, dynamic_shapes=dynamic, verbose=False)
    assert exported is not None
    assert all(node.domain == "" for node in exported.model.graph), "not standard ONNX"
    exported.save(tmp_path / "model.onnx")

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for samples in (2, 5):
        given = arguments(samples)
        inputs = {i.name: t.numpy() for i, t in zip(session.get_inputs(), given, strict=True)}
        for value, expected in zip(session.run(None, inputs), model(*given), strict=True):
            torch.testing.assert_close(torch.from_numpy(value), expected)
