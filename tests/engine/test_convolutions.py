"""Convolutions by other kernels: the same values and gradients, and quicker where it was bought for."""

import copy

import pytest
import timm
import torch
from torch import nn

from sft_magics.engine.kernels import convolutions, install
from sft_magics.engine.runtime.hardware import Hardware

CASES = [  # channels, side, kernel, stride, padding
    (6, 9, 5, 2, 2), (6, 8, 5, 1, 2), (6, 8, 3, 2, 1), (6, 7, 5, 2, 0), (6, 40, 5, 1, 2), (6, 8, 5, 2, 2),
    (6, 8, 7, 1, 3),
]  # fmt: skip


def _gradients(model: nn.Module, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    rows = rows.clone().requires_grad_(True)
    said = model(rows)
    (said if said.dtype == torch.float64 else said.float()).square().sum().backward()
    assert rows.grad is not None
    return (said.detach(), rows.grad, *[p.grad for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("last", [True, False])
def test_depthwise_gives_the_same_values_and_gradients(case: tuple[int, ...], last: bool) -> None:
    torch.manual_seed(0)
    channels, side, kernel, stride, padding = case
    plain = nn.Sequential(nn.Conv2d(channels, channels, kernel, stride, padding, groups=channels, bias=False))
    quick = copy.deepcopy(plain)
    convolutions.quicken(quick)
    assert "forward" in vars(quick[0])
    rows = torch.randn(3, channels, side, side)
    if last:
        rows = rows.contiguous(memory_format=torch.channels_last)
    for ours, theirs in zip(_gradients(quick, rows), _gradients(plain, rows), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
def test_pointwise_gives_the_same_values_and_gradients(bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(8, 12, 1, bias=bias)).to(memory_format=torch.channels_last)
    quick = copy.deepcopy(plain)
    convolutions.quicken(quick)
    rows = torch.randn(3, 8, 5, 5).contiguous(memory_format=torch.channels_last)
    ours, theirs = _gradients(quick, rows), _gradients(plain, rows)
    assert ours[0].is_contiguous(memory_format=torch.channels_last)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_pointwise_as_a_product_has_the_gradients_too(bias: bool) -> None:
    torch.manual_seed(0)
    quick = nn.Sequential(nn.Conv2d(8, 12, 1, bias=bias), nn.ReLU6(inplace=True)).to(memory_format=torch.channels_last)
    plain = copy.deepcopy(quick).double()
    convolutions.quicken(quick)
    rows = torch.randn(3, 8, 5, 5).contiguous(memory_format=torch.channels_last)
    exact = _gradients(plain, rows.double())
    with torch.autocast("cpu", torch.bfloat16):
        short = _gradients(quick, rows)
    for one, other in zip(short, exact, strict=True):
        assert (one - other).norm() < 0.02 * other.norm()
    quick.zero_grad()
    for one, other in zip(_gradients(quick.double(), rows.double()), exact, strict=True):
        torch.testing.assert_close(one, other.to(one.dtype), rtol=1e-6, atol=1e-8)


def test_what_it_cannot_stand_for_stays_as_it_is() -> None:
    others = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(4, 4, 3, groups=4, bias=True), nn.Conv2d(4, 4, 3, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding="same", groups=4), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect", groups=4),
        nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, stride=2),
    )  # fmt: skip
    convolutions.quicken(others)
    assert not [m for m in others if "forward" in vars(m)]


def test_a_whole_net_has_the_gradients_of_the_plain_one_in_fp32_and_as_near_in_bfloat16() -> None:
    torch.manual_seed(0)
    plain = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=3).eval()
    quick = copy.deepcopy(plain)
    install.place(quick, Hardware(torch.device("cpu"), "bf16", 1, "", free=True))
    rows = torch.randn(4, 3, 64, 64)

    def whole(model: nn.Module) -> torch.Tensor:
        model.zero_grad()
        return torch.cat([t.float().flatten() for t in _gradients(model, rows)])

    exact = whole(plain)
    torch.testing.assert_close(whole(quick), exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))
    with torch.autocast("cpu", torch.bfloat16):
        theirs, ours = (float((whole(model) - exact).norm() / exact.norm()) for model in (plain, quick))
    assert ours < 1.2 * theirs < 0.3


def test_where_fp32_was_asked_for_nothing_is_changed() -> None:
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=3)
    install.place(net, Hardware(torch.device("cpu"), "fp32", 1, ""))
    assert not [m for m in net.modules() if isinstance(m, nn.Conv2d) and "forward" in vars(m)]
