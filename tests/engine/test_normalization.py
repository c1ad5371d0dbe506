"""Normalization that is held still, folded into convolutions that learn: the same gradients, in less time."""

import copy
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sft_magics.engine.kernels import conv_bn_folding, convolutions, install, normalization
from tests.engine.test_conv_bn_folding import BF16, _lived, _one_thread  # noqa: F401  the last is for every test


class Held(nn.Module):
    """A body whose normalization keeps the statistics that it has, and a head."""

    def __init__(self, body: nn.Module, *, still: bool = True) -> None:
        super().__init__()
        self.still = still
        self.body = body
        self.head = nn.LazyConv2d(3, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        found = self.body(pictures)
        said: torch.Tensor = self.head(found[-1] if isinstance(found, list) else found)
        return said

    def train(self, mode: bool = True) -> "Held":
        super().train(mode)
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def _held(body: nn.Module, **how: Any) -> Held:
    """A model that has seen something and learns."""
    _lived(body)
    model = Held(body, **how)
    model(_pictures())
    return model.train().to(memory_format=torch.channels_last)


def _maps(name: str) -> nn.Module:
    return timm.create_model(name, pretrained=False, features_only=True)


def _pictures() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 3, 64, 64).contiguous(memory_format=torch.channels_last)


def _learned(model: nn.Module, *, bf16: bool = False) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the loss of some pictures, and its gradients."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        said = model(_pictures().to(next(model.parameters()).dtype))
    loss = (said if said.dtype == torch.float64 else said.float()).square().mean()
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def _off(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of any gradient, as a share of its norm."""
    assert one.keys() == other.keys()
    return max(float((one[n] - other[n]).norm() / one[n].norm().clamp(min=1e-9)) for n in one)


class Operations(TorchDispatchMode):
    """Counts the operations by name, and knows of which number format they were."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.kinds: dict[str, set[torch.dtype]] = {}  # of what each was given first

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.counts[name] = self.counts.get(name, 0) + 1
        if args and isinstance(args[0], torch.Tensor):
            self.kinds.setdefault(name, set()).add(args[0].dtype)
        return func(*args, **(kwargs or {}))


def _normalized(model: nn.Module) -> int:
    """Return how many batch normalizations a step computes, there and back."""
    with Operations() as seen:
        _learned(model)
    return sum(count for name, count in seen.counts.items() if "batch_norm" in name)


NETS = ["tf_efficientnet_lite0", "mobilenetv3_small_050", "resnet10t", "efficientnet_b0"]


@pytest.mark.parametrize("name", NETS)
def test_the_gradients_are_the_same(name: str) -> None:
    model = _held(_maps(name))
    assert _normalized(model) > 10
    names = list(model.state_dict())
    plain = copy.deepcopy(model).double()
    normalization.quicken(model)
    assert _normalized(model) == 0
    assert list(model.state_dict()) == names
    assert model.training
    (loss, own), (again, folded) = _learned(plain), _learned(model.double())
    assert again == pytest.approx(loss, rel=1e-9)
    assert _off(own, folded) < 1e-6


@pytest.mark.parametrize("name", NETS)
def test_beside_quick_convolutions_too(name: str) -> None:
    model = _held(_maps(name))
    convolutions.quicken(model)
    loss, own = _learned(model)
    normalization.quicken(model)
    again, folded = _learned(model)
    assert _normalized(model) == 0
    assert again == pytest.approx(loss, rel=1e-4)
    assert _off(own, folded) < 0.02  # a number at the bend of an activation may fall to its other side


def test_in_bfloat16_they_are_as_near_as_bfloat16_is() -> None:
    model = _held(_maps("resnet10t"))
    _, exact = _learned(model)
    convolutions.quicken(model)
    _, own = _learned(model, bf16=True)
    normalization.quicken(model)
    _, folded = _learned(model, bf16=True)
    assert _off(exact, folded) < max(0.05, 1.5 * _off(exact, own))


def test_normalization_that_counts_stays_as_it_is() -> None:
    model = _held(_maps("resnet10t"), still=False)
    before = _normalized(model)
    normalization.quicken(model)
    assert _normalized(model) == before


def test_a_model_may_be_placed_again() -> None:
    model = _held(_maps("tf_efficientnet_lite0"))
    said = model.eval()(_pictures())
    for _ in range(3):
        install.place(model, BF16)
        torch.testing.assert_close(model(_pictures()), said, rtol=1e-3, atol=1e-4)
    model.train()
    assert _normalized(model) == 0


class OfOneSize(nn.Module):
    """A body that reads pictures of a certain size."""

    def __init__(self) -> None:
        super().__init__()
        self.body = _maps("resnet10t")

    def forward(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        if pictures.shape[-1] != 96:
            raise AssertionError("96 pixels, please")
        found: list[torch.Tensor] = self.body(pictures)
        return found


def test_a_body_that_cannot_read_a_small_picture_stays_as_it_is() -> None:
    model = Held(OfOneSize())
    pictures = torch.randn(2, 3, 96, 96)
    model(pictures)
    model.train()
    training = [m.training for m in model.modules()]
    said = model(pictures)
    normalization.quicken(model)
    assert torch.equal(model(pictures), said)
    assert [m.training for m in model.modules()] == training


class Twice(nn.Module):
    """A convolution whose output is used beside its normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        found = self.convolution(pictures)
        said: torch.Tensor = self.norm(found) + found
        return said


def test_what_another_reads_too_stays_as_it_is() -> None:
    model = _held(Twice())
    loss, own = _learned(model)
    normalization.quicken(model)
    assert _normalized(model) == 2
    assert (loss, 0.0) == (_learned(model)[0], _off(own, _learned(model)[1]))


def test_the_bias_of_a_convolution_learns() -> None:
    model = _held(nn.Sequential(nn.Conv2d(3, 8, 3, bias=True), nn.BatchNorm2d(8), nn.ReLU()))
    _, own = _learned(model)
    normalization.quicken(model)
    assert _normalized(model) == 0
    assert _off(own, _learned(model)[1]) < 1e-4


def test_what_is_frozen_gets_no_gradient() -> None:
    model = _held(_maps("resnet10t"))
    convolutions.quicken(model)
    normalization.quicken(model)
    model.body.requires_grad_(False)
    assert set(_learned(model)[1]) == {"head.weight", "head.bias"}
    norms = [m for m in model.body.modules() if isinstance(m, nn.BatchNorm2d)]
    norms[-1].bias.requires_grad_(True)
    assert len(_learned(model)[1]) == 3


def test_a_copy_reads_its_own_weights() -> None:
    model = _held(_maps("resnet10t"))
    normalization.quicken(model)
    twin = copy.deepcopy(model)
    said = model(_pictures())
    with torch.no_grad():
        for weight in twin.body.parameters():
            weight.zero_()
    assert torch.equal(model(_pictures()), said)
    assert not torch.equal(twin(_pictures()), said)


def test_reading_folds_it_away_as_before() -> None:
    model = _held(_maps("tf_efficientnet_lite0"))
    convolutions.quicken(model)
    own = model.eval()(_pictures())
    normalization.quicken(model)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    with torch.no_grad(), conv_bn_folding.folded(model, BF16, lambda: model(_pictures()[:1])) as count, BF16.autocast():
        assert count == norms
        model(_pictures())
    torch.testing.assert_close(model(_pictures()), own, rtol=1e-3, atol=1e-4)
    model.train()
    assert _normalized(model) == 0


def test_groups_are_normalized_in_full() -> None:
    torch.manual_seed(0)
    norm = nn.GroupNorm(4, 16)
    rows = (3 + torch.randn(2, 16, 9, 9)).contiguous(memory_format=torch.channels_last)
    exact, own = norm(rows), norm(rows.bfloat16())
    normalization.quicken(norm)
    with Operations() as seen:
        assert torch.equal(norm(rows), exact)
        assert torch.equal(norm(rows.bfloat16()), own)
    assert seen.kinds["native_group_norm"] == {torch.float32}
