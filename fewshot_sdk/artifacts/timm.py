"""From `timm:NAME` to a recipe and weights: models of the timm library, from their repositories on the Hub.

Of a repository's settings only an allow-list is used, and only safetensors are read. The architecture's name and the
weights must be enough to make the very network that timm makes from the whole repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field

from fewshot_sdk.config.backbone import Fit
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

TIMM = "timm:"  # the prefix of its models' names
_WEIGHTS = "model.safetensors"
_TEMPLATE = "mini-imagenet-residual"  # the preset of another pre-trained network, whose inner loops it uses
_TOLERANCE = 1e-4


class _Lenient(Config):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class _PretrainedConfig(_Lenient):
    """The input that a model expects, as timm writes it."""

    input_size: Annotated[Listed[Count], Field(min_length=3, max_length=3)] = (3, 224, 224)
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    crop_pct: float = 0.875
    crop_mode: Literal["center", "squash", "border"] = "center"
    mean: Listed[float] = (0.485, 0.456, 0.406)
    std: Listed[float] = (0.229, 0.224, 0.225)
    fixed_input_size: bool = False
    classifier: Listed[str] | str | None = None


class _Arguments(_Lenient):
    """Arguments for the architecture's shape; any other would make another network than its name alone does."""

    img_size: Annotated[Listed[Count], Field(min_length=2, max_length=2)] | Count | None = None
    global_pool: str | None = None


class _Repository(_Lenient):
    """The config.json of a timm repository."""

    architecture: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,100}$")]
    pretrained_cfg: _PretrainedConfig
    model_args: _Arguments = _Arguments()


@dataclass(frozen=True, kw_only=True, eq=False)
class Pretrained:
    """A timm model: a recipe to use it by, its weights by the names of our network, without a head, and
    `timm:user/repo@commit` as its source.
    """

    recipe: Recipe
    params: Params
    source: str


def pretrained(name: str) -> Pretrained:
    """The timm model that `timm:NAME` or `timm:user/repo[@revision]` names, downloaded if need be.

    Raises MissingExtra without timm; ConfigError for an unknown name, or a model that needs more than its
    architecture's name; HubError if the Hub refuses; BundleError for damaged weights.
    """
    wanted = address(repository_of(name.removeprefix(TIMM)))
    session = Session(wanted.name, wanted.revision, ("a timm model", "safetensors, because pickles are not read"))
    with session.alone():
        commit = session.resolve()
        config = read_bounded(session.file("config.json", commit, None, MAX_TEXT_BYTES), MAX_TEXT_BYTES)
        path = session.file(_WEIGHTS, commit, None, MAX_FILE_BYTES)
        weights, blob = read_bounded(path, MAX_FILE_BYTES), path.resolve().name
        if len(blob) == 64 and sha256(weights) != blob:  # the Hub names large files by their SHA-256
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise BundleError(f"{path} is damaged: its SHA-256 is not the Hub's; it was removed, pull it again")
    try:
        repository = _Repository.from_json(config)
    except ConfigError as error:
        raise ConfigError(f"{wanted.name} cannot be used as a timm model: {error}") from None
    preprocessing = _preprocessing(repository)
    backbone = Timm(name=repository.architecture)
    theirs = _as_timm_makes_it(repository, from_safetensors(weights, str(path)))
    params = _checked(theirs, build_network(backbone, preprocessing, 2), f"{wanted.name}@{commit}")
    recipe = preset(_TEMPLATE).replace(preset=name, data=DataSource(name="timm", split="pretrained"))
    return Pretrained(
        recipe=recipe_for(recipe, backbone, preprocessing), params=params, source=f"{TIMM}{wanted.name}@{commit}"
    )


def repository_of(name: str) -> str:
    """The Hub repository of a timm model, from timm's name for it, such as `resnet10t.c3_in1k`, or the repository's."""
    if "/" in name:
        return name.removeprefix("hf-hub:")
    timm = library()
    known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if known is None or not known.hf_hub_id:
        near = ", ".join(timm.list_pretrained(f"*{name.partition('.')[0][:8]}*")[:5])
        raise ConfigError(
            f"timm {timm.__version__} has no weights on the Hub for {name!r}{f'; it has {near}' if near else ''}; "
            "expected a name from timm.list_pretrained(), or user/repo"
        )
    return str(known.hf_hub_id) + (name if str(known.hf_hub_id).endswith("/") else "")


def _preprocessing(repository: _Repository) -> Preprocessing:
    """Our settings for a timm model's input: its size, filter, crop, mean and standard deviation."""
    config, size = repository.pretrained_cfg, repository.model_args.img_size
    channels, height, width = config.input_size
    if size is not None:  # not the architecture's usual size
        height, width = (size, size) if isinstance(size, int) else size
    if channels != 3:
        raise ConfigError(f"a timm model with {channels} input channels cannot be used; expected 3")
    fit: dict[str, Fit] = {"center": "crop", "squash": "stretch", "border": "pad"}
    return Preprocessing(
        height=height,
        width=width,
        channels=3,
        resize=config.interpolation,
        fit=fit[config.crop_mode],
        kept=1.0 if config.crop_mode == "border" else min(config.crop_pct, 1.0),
        mean=config.mean,
        std=config.std,
    )


def recipe_for(recipe: Recipe, backbone: Timm, preprocessing: Preprocessing) -> Recipe:
    """The recipe with a timm model as its network, and a low inner rate, since it is pre-trained."""
    template = preset(_TEMPLATE)
    return recipe.replace(
        backbone=backbone, preprocessing=preprocessing, head="zero", pretraining=None, inner=template.inner,
        adaptation=template.adaptation,
    )  # fmt: skip


def _as_timm_makes_it(repository: _Repository, tensors: Params) -> TimmBody:
    timm, architecture = library(), repository.architecture
    settings = {
        **repository.pretrained_cfg.model_dump(),
        "architecture": architecture,
        "state_dict": tensors,
        "num_classes": -1,
    }
    arguments = {key: value for key, value in repository.model_args.model_dump().items() if value is not None}
    try:
        with torch.random.fork_rng(devices=[]):
            model = timm.create_model(
                architecture, pretrained=True, pretrained_cfg=settings, num_classes=0, **arguments
            )
    except (RuntimeError, TypeError, ValueError, AssertionError, KeyError) as error:
        raise ConfigError(f"timm {timm.__version__} cannot make {architecture} from it: {error}") from None
    if missing := sorted(model.state_dict().keys() - tensors.keys() - _counters(model)):
        raise ConfigError(f"its weights cannot be used: {missing[0]} is missing, so timm would leave it random")
    return TimmBody(model)


def _counters(model: torch.nn.Module) -> set[str]:
    """The norms' counts of batches, which nothing uses."""
    return {name for name, _ in model.named_buffers() if name.endswith("num_batches_tracked")}


def _checked(theirs: TimmBody, ours: Network, what: str) -> Params:
    """Their weights by the names of our network, which must give the same features of a random picture with them."""
    params = {f"body.{name}": tensor.detach().clone() for name, tensor in theirs.named_parameters()}
    body = {name: tensor for name, tensor in ours.named_parameters() if name.startswith("body.")}
    check_alike(params, {name: tensor.detach() for name, tensor in body.items()}, what)
    height, width = ours.preprocessing.height, ours.preprocessing.width
    picture = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = theirs(picture)
        weights = {name.removeprefix("body."): tensor for name, tensor in params.items()}
        found = torch.func.functional_call(ours.get_submodule("body"), weights, (picture,))
    if wanted.shape != found.shape or not torch.allclose(wanted, found, rtol=_TOLERANCE, atol=_TOLERANCE):
        raise ConfigError(
            f"{what} is not the network that its architecture's name alone gives in timm: its repository has more "
            "settings, which are not kept; use a model without any"
        )
    return params
