"""Each variant of the C code that this processor can run, against PyTorch in float64."""

from __future__ import annotations

import platform
import shutil
from itertools import pairwise
from typing import cast

import pytest
import torch

from fewshot_sdk.config.recipe import Conv4, InnerLoop
from fewshot_sdk.engine import compiler as native
from fewshot_sdk.engine.compiled import CompiledConv4
from fewshot_sdk.engine.inner_loop import fine_tune
from fewshot_sdk.engine.variants import PROCESSOR, flags, parts, variants
from tests.engine.test_compiled import case, furthest, in_float64, moving

MACHINE = platform.machine()


@pytest.mark.parametrize("machine", ["x86_64", "AMD64"])
def test_a_faster_variant_has_the_instructions_of_the_slower_ones(machine: str) -> None:
    known = list(variants(machine).values())
    assert len(known) == 4
    assert all(fast[: len(slow)] == slow != fast for slow, fast in pairwise(known))


@pytest.mark.parametrize("machine", ["aarch64", "arm64", "riscv64"])
def test_where_there_is_one_variant_nothing_chooses(machine: str) -> None:
    (only,) = parts(machine)
    assert only != PROCESSOR


def test_nothing_is_tuned_to_the_processor_that_compiles() -> None:
    for system in ("linux", "darwin", "win32"):
        for part in parts("x86_64"):
            assert not [
                flag for flag in flags(part, "x86_64", system) if flag.startswith(("-march", "-mtune", "-Ofast"))
            ]


@pytest.mark.slow  # it compiles each for four seconds
@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
@pytest.mark.parametrize("name", ["the paper's", "odd and wide", "wider than a tile"])
@pytest.mark.parametrize("variant", variants(MACHINE))
def test_a_variant_computes_what_float64_does(variant: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if variant not in native._runnable(list(variants(MACHINE))):
        pytest.skip("this processor cannot run it")
    monkeypatch.setenv("FEWSHOT_NATIVE", variant)
    code = native.library.__wrapped__()
    assert code is not None
    assert code.conv4_instructions().decode() == variant
    network, start, images, labels = case(name)
    c = CompiledConv4(network, cast("Conv4", network.backbone), code)
    adam = InnerLoop(learning_rate=1e-3, batch_size=7, steps=4)
    batches = torch.stack([torch.randperm(23, generator=torch.Generator().manual_seed(i))[:7] for i in range(4)])
    packed, losses = c.fine_tune(c.pack(start), 40, images, labels, batches, adam)
    exact, exact_losses = fine_tune(*in_float64(network, start), images, labels, batches, adam)
    torch.testing.assert_close(losses.double(), exact_losses, rtol=1e-4, atol=1e-4)
    assert furthest(moving(c.unpack(packed, start, 44).params), moving(exact.params)) < 1e-4
