"""From `timm:NAME` to a recipe and weights: a repository of the timm library on the Hugging Face Hub, made ours.

Of what the repository says only an allow-list is believed, and only safetensors are read; the weights must make of
the architecture's name alone the very network that timm makes of the repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field

from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.recipe import Config, Count, DataSource, Listed, Preprocessing, Recipe, Timm
from fewshot_sdk.errors import BundleError, ConfigError
from fewshot_sdk.nets.network import Network, build_network
from fewshot_sdk.nets.params import Params, check_alike
from fewshot_sdk.nets.timm import TimmBody, library
from fewshot_sdk.storage.files import MAX_FILE_BYTES, MAX_TEXT_BYTES, read_bounded, sha256
from fewshot_sdk.storage.hub_client import Session
from fewshot_sdk.storage.repositories import address
from fewshot_sdk.storage.tensors import from_safetensors

TIMM = "timm:"  # what the names of its models begin with here
_WEIGHTS = "model.safetensors"
_TOLERANCE = 1e-4


class _Lenient(Config):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class _Seen(_Lenient):
    """What a model expects of pictures, as timm writes it."""

    input_size: Annotated[Listed[Count], Field(min_length=3, max_length=3)] = (3, 224, 224)
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    crop_pct: float = 0.875
    crop_mode: Literal["center", "squash", "border"] = "center"
    mean: Listed[float] = (0.485, 0.456, 0.406)
    std: Listed[float] = (0.229, 0.224, 0.225)
    fixed_input_size: bool = False
    classifier: Listed[str] | str | None = None


class _Arguments(_Lenient):
    """The arguments of the architecture that change its shape; all others change what a name alone stands for."""

    img_size: Annotated[Listed[Count], Field(min_length=2, max_length=2)] | Count | None = None
    global_pool: str | None = None


class _Repository(_Lenient):
    """The config.json of a timm repository."""

    architecture: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,100}$")]
    pretrained_cfg: _Seen
    model_args: _Arguments = _Arguments()


@dataclass(frozen=True, kw_only=True, eq=False)
class Pretrained:
    """A timm model as it came: how it is used, its weights by the names in our network, without a head, and
    `timm:user/repo@commit`.
    """

    recipe: Recipe
    params: Params
    source: str


def pretrained(name: str) -> Pretrained:
    """The timm model that `timm:NAME` or `timm:user/repo[@revision]` names, downloaded if need be.

    Raises MissingExtra without timm; ConfigError for an unknown name, and for a model that is not what its
    architecture's name alone stands for; HubError if the Hub refuses; BundleError for weights that are damaged.
    """
    wanted = address(repository_of(name.removeprefix(TIMM)))
    session = Session(wanted.name, wanted.revision, ("a timm model", "safetensors, because pickles are not read"))
    with session.alone():
        commit = session.resolve()
        described = read_bounded(session.file("config.json", commit, None, MAX_TEXT_BYTES), MAX_TEXT_BYTES)
        place = session.file(_WEIGHTS, commit, None, MAX_FILE_BYTES)
        weights, hashed = read_bounded(place, MAX_FILE_BYTES), place.resolve().name
        if len(hashed) == 64 and sha256(weights) != hashed:  # the Hub names large files by their SHA-256
            place.resolve().unlink(missing_ok=True)
            place.unlink(missing_ok=True)
            raise BundleError(f"{place} is damaged: its SHA-256 is not the Hub's; it was removed, pull it again")
    try:
        told = _Repository.from_json(described)
    except ConfigError as error:
        raise ConfigError(f"{wanted.name} cannot be used as a timm model: {error}") from None
    seen = _preprocessing(told)
    backbone = Timm(name=told.architecture)
    theirs = _as_timm_makes_it(told, from_safetensors(weights, str(place)))
    params = _checked(theirs, build_network(backbone, seen, 2), f"{wanted.name}@{commit}")
    return Pretrained(
        recipe=recipe_for(
            preset("photo").replace(preset=name, data=DataSource(name="timm", split="pretrained")), backbone, seen
        ),
        params=params,
        source=f"{TIMM}{wanted.name}@{commit}",
    )


def repository_of(name: str) -> str:
    """The repository on the Hub of a timm model, by timm's name, such as `resnet10t.c3_in1k`, or by its own."""
    if "/" in name:
        return name.removeprefix("hf-hub:")
    timm = library()
    known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if known is None or not known.hf_hub_id:
        near = ", ".join(timm.list_pretrained(f"*{name.partition('.')[0][:8]}*")[:5])
        raise ConfigError(
            f"timm {timm.__version__} names no weights of {name!r} on the Hub{f'; it has {near}' if near else ''}; "
            "expected a name of timm.list_pretrained(), or user/repo"
        )
    return str(known.hf_hub_id) + (name if str(known.hf_hub_id).endswith("/") else "")


def _preprocessing(told: _Repository) -> Preprocessing:
    """Our settings for what a timm model expects: its size, filter, crop, mean and deviation."""
    seen, size = told.pretrained_cfg, told.model_args.img_size
    channels, height, width = seen.input_size
    if size is not None:  # what was made for another size than its like
        height, width = (size, size) if isinstance(size, int) else size
    if channels != 3:
        raise ConfigError(f"a timm model that sees {channels} channels cannot be used; expected 3")
    fit: dict[str, Literal["pad", "crop", "stretch"]] = {"center": "crop", "squash": "stretch", "border": "pad"}
    return Preprocessing(
        height=height,
        width=width,
        channels=3,
        resize=seen.interpolation,
        fit=fit[seen.crop_mode],
        kept=1.0 if seen.crop_mode == "border" else min(seen.crop_pct, 1.0),
        mean=seen.mean,
        std=seen.std,
    )


def recipe_for(recipe: Recipe, backbone: Timm, seen: Preprocessing) -> Recipe:
    """The recipe with a timm model as its network: the low rate of `photo` inside, for it has learned already."""
    photo = preset("photo")
    return recipe.replace(
        backbone=backbone, preprocessing=seen, head="zero", pretraining=None, inner=photo.inner,
        adaptation=photo.adaptation,
    )  # fmt: skip


def _as_timm_makes_it(told: _Repository, tensors: Params) -> TimmBody:
    timm, seen = library(), told.pretrained_cfg
    settings = {**seen.model_dump(), "architecture": told.architecture, "state_dict": tensors, "num_classes": -1}
    arguments = {key: value for key, value in told.model_args.model_dump().items() if value is not None}
    try:
        with torch.random.fork_rng(devices=[]):
            model = timm.create_model(
                told.architecture, pretrained=True, pretrained_cfg=settings, num_classes=0, **arguments
            )
    except (RuntimeError, TypeError, ValueError, AssertionError, KeyError) as error:
        raise ConfigError(f"timm {timm.__version__} cannot make {told.architecture} of it: {error}") from None
    if missing := sorted(model.state_dict().keys() - tensors.keys() - _counters(model)):
        raise ConfigError(f"its weights cannot be used: {missing[0]} is missing, and timm would leave it random")
    return TimmBody(model)


def _counters(model: torch.nn.Module) -> set[str]:
    """How many batches the norms have seen, which is of no use to anybody."""
    return {name for name, _ in model.named_buffers() if name.endswith("num_batches_tracked")}


def _checked(theirs: TimmBody, ours: Network, what: str) -> Params:
    """Their weights by the names in our network, which with them gives the same features of a made-up picture."""
    params = {f"body.{name}": tensor.detach().clone() for name, tensor in theirs.named_parameters()}
    body = {name: tensor for name, tensor in ours.named_parameters() if name.startswith("body.")}
    check_alike(params, {name: tensor.detach() for name, tensor in body.items()}, what)
    seen = ours.preprocessing
    picture = torch.rand(1, 3, seen.height, seen.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = theirs(picture)
        its = {name.removeprefix("body."): tensor for name, tensor in params.items()}
        found = torch.func.functional_call(ours.get_submodule("body"), its, (picture,))
    if wanted.shape != found.shape or not torch.allclose(wanted, found, rtol=_TOLERANCE, atol=_TOLERANCE):
        raise ConfigError(
            f"{what} is not what its architecture's name stands for in timm: it has settings of its own, "
            "which are not kept; take one without"
        )
    return params
