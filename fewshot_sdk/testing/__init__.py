"""LocalHub: a Hub on this machine, for users' tests and our own."""

from fewshot_sdk.testing.hub import LocalHub

__all__ = ["LocalHub"]
