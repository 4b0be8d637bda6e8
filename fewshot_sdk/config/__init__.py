"""Settings, presets and the records written to disk. No PyTorch.

The settings that a recipe consists of can be imported from here.
"""

from fewshot_sdk.config.backbones import Backbone, Conv4, EfficientNet, Mlp, Residual, Timm
from fewshot_sdk.config.recipe import (
    DataSource,
    InnerLoop,
    MetaLoop,
    Preprocessing,
    Pretraining,
    Recipe,
)
from fewshot_sdk.config.settings import Config

__all__ = [
    "Backbone",
    "Config",
    "Conv4",
    "DataSource",
    "EfficientNet",
    "InnerLoop",
    "MetaLoop",
    "Mlp",
    "Preprocessing",
    "Pretraining",
    "Recipe",
    "Residual",
    "Timm",
]
