"""What an inspector's limit promises, in plain words, given how many pictures it was set on."""

from __future__ import annotations

import math

from fewshot_sdk.config.inspection import InspectorConfig
from fewshot_sdk.intervals import most


def promise_of(config: InspectorConfig) -> str:
    """One to three sentences: how the limit was set, what it costs here, and what is known of further pictures."""
    record, n, rate = config.inspection, config.good, config.inspection.reject_rate
    if config.limit is None:
        if rate == 0:
            return "No limit: at a rate of 0 nothing is called not good; pictures get scores alone."
        return "No limit: one good picture has no other to be measured by, so pictures get scores alone; add some."
    lost = f"{record.lost} of the {n} good pictures, each left out of the memory in turn, would be called not good"
    if config.bad:
        parted = f"{record.missed} of the {config.bad} bad ones good"
        return (
            f"Limit {config.limit:.3f}, which parts good from bad pictures best: {lost}, {parted}. A limit that was "
            "chosen on these pictures looks better on them than on others."
        )
    said = f"Limit {config.limit:.3f}, for at most {rate:.1%} of good pictures called not good: {lost}."
    if rate * (n + 1) < 1:
        needed = math.ceil(1 / rate - 1 - 1e-9)
        return (
            f"{said} {n} good pictures can promise no rate below 1 in {n + 1} ({1 / (n + 1):.1%}), so the limit is put "
            f"above the highest of their scores, as far as an exponential tail would reach; {needed} would do."
        )
    return (
        f"{said} A further picture like these is above it with a chance of at most {rate:.1%}, on average over many "
        f"inspectors; this one loses at most {most(record.lost, n):.0%}, at 95 % confidence."
    )
