"""The compiled network against PyTorch in float64."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from fewshot_sdk.config.recipe import Conv4, InnerLoop, Preprocessing
from fewshot_sdk.engine import compiler as native
from fewshot_sdk.engine.compiled import CompiledConv4, compiled
from fewshot_sdk.engine.forward import Forward
from fewshot_sdk.engine.inner_loop import FineTuner, fine_tune
from fewshot_sdk.nets.network import Network, build_network, random_params
from fewshot_sdk.nets.params import LearnerState, Params

pytestmark = pytest.mark.usefixtures("c_code")

COLOUR = Preprocessing(height=13, width=10, channels=3, resize="box", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
GREY = Preprocessing(height=28, width=28, channels=1, resize="box", mean=(1.0,))
NETWORKS = {
    "the paper's": (Conv4(), GREY, 5),
    "the paper's for mini-ImageNet": (Conv4(filters=32, downsample="pool"), COLOUR, 5),
    "narrow": (Conv4(filters=3), COLOUR, 2),
    "odd and wide": (Conv4(filters=50), COLOUR, 7),
    "wider than a tile": (Conv4(filters=112, downsample="pool"), COLOUR, 3),
}


def case(name: str) -> tuple[Network, LearnerState, Tensor, Tensor]:
    """A network, weights whose biases and norms have an effect, noise images, and labels."""
    network = build_network(*NETWORKS[name])
    generator = torch.Generator().manual_seed(0)
    params = {
        key: tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
        for key, tensor in random_params(network, 1).items()
    }
    moments = {key: torch.full_like(tensor, 0.01) for key, tensor in params.items()}
    pixels = network.preprocessing
    shape = (23, pixels.height, pixels.width, pixels.channels)
    images = torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
    labels = torch.arange(23) % network.n_way
    return network, LearnerState(params=params, second_moments=moments, updates=40), images, labels


def double(params: Params) -> Params:
    return {name: tensor.double() for name, tensor in params.items()}


def in_float64(network: Network, start: LearnerState) -> tuple[Network, LearnerState]:
    exact = build_network(network.backbone, network.preprocessing, network.n_way).double()
    return exact, LearnerState(
        params=double(start.params), second_moments=double(start.second_moments), updates=start.updates
    )


def furthest(found: Params, expected: Params) -> float:
    return max(float((found[name].double() - expected[name]).abs().max()) for name in expected)


def moving(params: Params) -> Params:
    """Without the biases that a norm subtracts again: their gradient is 0 up to rounding."""
    return {name: t for name, t in params.items() if not (name.startswith("conv") and name.endswith("bias"))}


def check_gradients(name: str, size: int) -> None:
    """A step's gradients are those of autograd in float64, in whatever inner loop is at work."""
    network, start, images, labels = case(name)
    sgd = InnerLoop(optimizer="sgd", learning_rate=1.0, batch_size=size, steps=1)
    batch = torch.randperm(23, generator=torch.Generator().manual_seed(size))[:size].unsqueeze(0)
    end, (loss,) = fine_tune(network, start, images, labels, batch, sgd)
    exact_end, (exact_loss,) = fine_tune(*in_float64(network, start), images, labels, batch, sgd)
    assert loss.item() == pytest.approx(exact_loss.item(), rel=1e-5)
    for key, begin in moving(start.params).items():
        gradient, exact = begin.double() - end.params[key].double(), begin.double() - exact_end.params[key]
        assert float((gradient - exact).norm() / (exact.norm() + 1e-3)) < 1e-4, key
    assert end.updates == 41
    assert end.second_moments == {}


def check_adam(name: str, divisor: int | None) -> None:
    """Adam goes on from its moments as in float64, in whatever inner loop is at work."""
    network, start, images, labels = case(name)
    adam = InnerLoop(learning_rate=1e-3, batch_size=7, steps=4, loss_divisor=divisor)
    batches = torch.stack([torch.randperm(23, generator=torch.Generator().manual_seed(i))[:7] for i in range(4)])
    end, losses = fine_tune(network, start, images, labels, batches, adam)
    exact, exact_losses = fine_tune(*in_float64(network, start), images, labels, batches, adam)
    torch.testing.assert_close(losses.double(), exact_losses, rtol=1e-4, atol=1e-4)
    assert furthest(moving(end.params), moving(exact.params)) < 1e-4
    assert furthest(moving(end.second_moments), moving(exact.second_moments)) < 1e-4
    assert end.updates == exact.updates == 44


@pytest.mark.parametrize(("name", "size"), [("the paper's", 1), *((n, s) for n in NETWORKS for s in (2, 7, 10, 23))])
def test_gradients_are_those_of_float64(name: str, size: int) -> None:
    check_gradients(name, size)


@pytest.mark.parametrize(("name", "divisor"), [*((name, None) for name in NETWORKS), ("narrow", 10)])
def test_adam_continues_from_its_moments_as_in_float64(name: str, divisor: int | None) -> None:
    check_adam(name, divisor)


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_are_those_of_float64_together_and_apart(name: str) -> None:
    network, start, images, _ = case(name)
    fast, exact = Forward(network, start.params), Forward(*((f := in_float64(network, start))[0], f[1].params))
    torch.testing.assert_close(fast.together(images).double(), exact.together(images), rtol=1e-4, atol=1e-4)
    apart = fast.apart(images[10:], images[:10])
    torch.testing.assert_close(apart.double(), exact.apart(images[10:], images[:10]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fast.apart(images[10:11], images[:10]), apart[:1], rtol=1e-4, atol=1e-5)


def test_bfloat16_products_round_to_eight_bits_and_no_more() -> None:
    network, start, images, labels = case("the paper's")
    batch = torch.arange(10).unsqueeze(0)
    plain = InnerLoop(optimizer="sgd", learning_rate=1.0, batch_size=10, steps=1)
    end = fine_tune(network, start, images, labels, batch, plain)[0].params
    rounded = fine_tune(network, start, images, labels, batch, plain.replace(precision="bfloat16"))[0].params
    difference = furthest(rounded, double(end))
    assert difference < 0.1 * furthest(end, double(start.params))
    assert (difference > 0) == ("bf16" in native.instructions())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_bits_each_time_and_the_start_is_left_alone(precision: Literal["float32", "bfloat16"]) -> None:
    network, start, images, labels = case("odd and wide")
    inner = InnerLoop(learning_rate=0.01, batch_size=5, steps=3, precision=precision)
    before = {name: tensor.clone() for name, tensor in start.params.items()}
    batches = torch.arange(15).view(3, 5)
    ends = [fine_tune(network, start, images, labels, batches, inner)[0] for _ in range(2)]
    assert all(torch.equal(ends[0].params[name], ends[1].params[name]) for name in before)
    assert all(torch.equal(start.params[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_bits_on_any_number_of_cores(name: str, precision: Literal["float32", "bfloat16"]) -> None:
    network, start, images, labels = case(name)
    inner = InnerLoop(learning_rate=0.01, batch_size=7, steps=2, precision=precision)
    batches = torch.arange(14).view(2, 7)
    alone = FineTuner(network, start, inner).tune(images, labels, batches)
    for cores in (2, 3, 8):
        shared = FineTuner(network, start, inner).tune(images, labels, batches, cores=cores)
        assert all(torch.equal(one, other) for one, other in zip(alone, shared, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_packed_state_unpacks_to_itself(name: str) -> None:
    network, start, _, _ = case(name)
    compiled_network = compiled(network, start.params)
    assert compiled_network is not None
    found = compiled_network.unpack(compiled_network.pack(start), start, start.updates)
    for part in ("params", "second_moments"):
        for key, tensor in getattr(start, part).items():
            assert torch.equal(getattr(found, part)[key], tensor)
            assert getattr(found, part)[key].is_contiguous()


def test_a_nan_loss_is_not_hidden_by_a_relu_or_a_pool() -> None:
    for name in ("the paper's", "the paper's for mini-ImageNet"):
        network, start, images, labels = case(name)
        start.params["norm2.bias"][:] = torch.nan
        _, losses = fine_tune(network, start, images, labels, torch.arange(5).unsqueeze(0), InnerLoop(
            learning_rate=0.1, batch_size=5, steps=1))  # fmt: skip
        assert losses.isnan().all()


def test_rows_labels_and_images_outside_memory_are_refused() -> None:
    network, start, images, labels = case("narrow")
    tuner = FineTuner(network, start, InnerLoop(learning_rate=0.1, batch_size=2, steps=1))
    rows = torch.tensor([[0, 1]])
    for bad_images, bad_labels, bad_rows, message in (
        (images, labels, rows + 22, "int64 rows below 23"),
        (images, labels, rows - 1, "int64 rows below 23"),
        (images, labels + 1, rows, "23 labels below 2"),
        (images, labels[:5], rows, "23 labels below 2"),
        (images[:, 1:], labels, rows, "uint8 images"),
        (images.float(), labels, rows, "uint8 images"),
    ):
        with pytest.raises(ValueError, match=message):
            tuner.tune(bad_images, bad_labels, bad_rows)


def test_float64_weights_have_no_compiled_version() -> None:
    network, start, _, _ = case("narrow")
    assert isinstance(compiled(network, start.params), CompiledConv4)
    assert compiled(network, double(start.params)) is None
