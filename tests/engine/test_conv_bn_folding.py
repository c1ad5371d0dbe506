"""Normalizations folded into the convolutions before them: the same answers while it lasts, nothing changed after."""

from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from sft_magics.engine.kernels import conv_bn_folding, convolutions
from sft_magics.engine.runtime.hardware import Hardware

FP32 = Hardware(torch.device("cpu"), "fp32", 1, "", free=True)
BF16 = Hardware(torch.device("cpu"), "bf16", 1, "", free=True)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _lived(model: nn.Module) -> nn.Module:
    """A model whose normalizations have seen something."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval().to(memory_format=torch.channels_last)


@torch.no_grad()
def _compare(model: nn.Module, chosen: Hardware, quick: bool = False) -> tuple[int, float]:
    """Return how many are folded, and how far the answers are from the model's own, as a share of the largest."""
    pictures = torch.randn(3, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    own = model(pictures)
    if quick:
        convolutions.quicken(model)
    with conv_bn_folding.folded(model, chosen, lambda: model(pictures[:1])) as count, chosen.autocast():
        said = model(pictures).float()
    after = model(pictures)
    torch.testing.assert_close(after, own, rtol=1e-4, atol=1e-4)
    return count, float((said - own).abs().max() / own.abs().max())


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv3_small_050", "resnet10t", "efficientnet_b0"])
@pytest.mark.parametrize("quick", [True, False])
def test_the_answers_are_the_same(name: str, quick: bool) -> None:
    model = _lived(timm.create_model(name, pretrained=False, num_classes=5))
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    count, off = _compare(model, FP32, quick)
    assert count == norms
    assert off < 1e-4


def test_torchvisions_models_fold_too() -> None:
    count, off = _compare(_lived(torchvision.models.resnet18(num_classes=5)), FP32)
    assert count == 20
    assert off < 1e-4


def test_in_bfloat16_they_are_as_near_as_bfloat16_is() -> None:
    model = _lived(timm.create_model("resnet10t", pretrained=False, num_classes=5))
    count, off = _compare(model, BF16)
    assert count > 0
    assert off < 0.1


class _Twice(nn.Module):
    """A convolution whose output is used beside its normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.last = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, rows: torch.Tensor) -> Any:
        found = self.convolution(rows)
        return self.last(self.norm(found) + found).mean((2, 3))


def test_a_convolution_that_is_used_elsewhere_stays_as_it_is() -> None:
    count, off = _compare(_lived(_Twice()), FP32)
    assert count == 0
    assert off == 0.0


def test_where_fp32_was_asked_for_nothing_is_folded() -> None:
    model = _lived(timm.create_model("resnet10t", pretrained=False, num_classes=5))
    count, off = _compare(model, Hardware(torch.device("cpu"), "fp32", 1, ""))
    assert (count, off) == (0, 0.0)


def test_an_error_inside_leaves_the_model_as_it_was() -> None:
    model = _lived(timm.create_model("resnet10t", pretrained=False, num_classes=5))
    before = {name: vars(m).get("forward") for name, m in model.named_modules()}
    with (
        pytest.raises(ValueError, match="inside"),
        conv_bn_folding.folded(model, FP32, lambda: model(torch.zeros(1, 3, 64, 64))),
    ):
        raise ValueError("inside")
    assert {name: vars(m).get("forward") for name, m in model.named_modules()} == before
