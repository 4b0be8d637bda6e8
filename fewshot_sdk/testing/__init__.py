"""LocalHub, a Hub on this machine, for users' tests and ours."""

from fewshot_sdk.testing.hub import LocalHub

__all__ = ["LocalHub"]
