from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.func import functional_call

from fewshot_sdk import adapt, evaluate
from fewshot_sdk.adaptation.methods import Adapter, Strategy
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.records import Baseline, Mode
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.tasks import TaskSampler, mini_batches
from fewshot_sdk.engine.features import features
from fewshot_sdk.engine.forward import Forward
from fewshot_sdk.engine.heads import open_head
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.meta import evaluation
from fewshot_sdk.meta.evaluation import MODES, accuracies, predict, summarize
from fewshot_sdk.nets.network import build_network, random_params
from tests.conftest import tiny_recipe


def bars(n_classes: int, noise: int = 0) -> ClassImages:
    """Class c has a dark bar at height c: its images differ only by noise."""
    rng = np.random.default_rng(0)
    images = np.full((n_classes, 10, 16, 16, 1), 255, np.int64)
    for c in range(n_classes):
        images[c, :, 2 * c : 2 * c + 3] = 0
    images = (images + rng.integers(-noise, noise + 1, images.shape)).clip(0, 255)
    return ClassImages(
        images=images.astype(np.uint8).reshape(-1, 16, 16, 1),
        rows=tuple(np.arange(10) + 10 * c for c in range(n_classes)),
        names=tuple(f"bar{c}" for c in range(n_classes)),
        source="bars test",
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("known", "accuracy"), [(5, 1.0), (2, 0.4), (0, 0.0)])
def test_a_model_that_knows_some_classes_is_right_on_those(
    init: Initialization, monkeypatch: pytest.MonkeyPatch, mode: Mode, known: int, accuracy: float
) -> None:
    """It predicts the nearest neighbour's label, which is right on bars, except for labels it does not know."""
    tasks = TaskSampler(data=bars(6), n_way=5, k_shot=2, n_query=2)
    numbers = iter(range(10))

    def answer(queries: torch.Tensor) -> torch.Tensor:
        support = tasks.task(next(numbers)).support.flatten(1).float()
        label = torch.cdist(queries.flatten(1).float(), support).argmin(1) // 2
        return torch.eye(5)[torch.where(label < known, label, (label + 1) % 5)]

    monkeypatch.setattr(evaluation, "predict", lambda _mode, _forward, _support, q: answer(q))
    result = evaluate(init, tasks, n_tasks=10, mode=mode)
    assert result.accuracy == pytest.approx(accuracy)
    assert result.ci95 == pytest.approx(0, abs=1e-12)
    assert (result.tasks, result.ways, result.shots, result.mode, result.seed) == (10, 5, 2, mode, 0)


def test_a_model_that_always_answers_the_first_class_is_right_once_in_five(init: Initialization) -> None:
    """No inner step and a zero head: all logits are equal, and the first label wins."""
    still = init.recipe.replace(adaptation=init.recipe.adaptation.replace(steps=0))
    blind = replace(init, recipe=still)
    tasks = TaskSampler(data=bars(6), n_way=5, k_shot=1, n_query=3)
    result = evaluate(blind, tasks, n_tasks=7)
    assert result.accuracy == pytest.approx(0.2)
    assert result.ci95 == pytest.approx(0, abs=1e-12)


def test_the_interval_is_1_96_standard_errors(sampler: TaskSampler) -> None:
    result = summarize([0.0, 1.0, 1.0, 1.0], sampler, "inductive")
    assert result.accuracy == 0.75
    assert result.ci95 == pytest.approx(1.96 * 0.5 / 2)
    assert summarize([1.0], sampler, "inductive").ci95 == 0


def test_the_first_tasks_are_the_same_however_many_are_asked_for(init: Initialization) -> None:
    tasks = TaskSampler(data=bars(6, noise=120), n_way=5, k_shot=1, n_query=1, seed=3)
    few = list(accuracies(init, tasks, n_tasks=3, modes=["inductive"]))
    more = list(accuracies(init, tasks, n_tasks=6, modes=["inductive"]))
    assert more[:3] == few


def test_transductive_queries_share_their_statistics_and_inductive_ones_do_not() -> None:
    recipe = tiny_recipe()
    network = build_network(recipe.backbone, recipe.preprocessing, 5)
    params = random_params(network, 0)
    images = torch.from_numpy(bars(6, noise=90).images)
    support, queries = images[:20], images[20:26]
    forward = Forward(network, params)
    together = predict("transductive", forward, support, queries)
    assert not torch.allclose(predict("transductive", forward, support, queries[:3]), together[:3], atol=1e-4)
    alone = predict("inductive", forward, support, queries)
    torch.testing.assert_close(predict("inductive", forward, support, queries[:3]), alone[:3])
    by_hand = functional_call(network, params, (torch.cat([support, queries[2:3]]),))[-1]
    torch.testing.assert_close(alone[2], by_hand.detach())


def test_frozen_is_what_an_adapted_classifier_answers(init: Initialization) -> None:
    tasks = TaskSampler(data=bars(6, noise=100), n_way=5, k_shot=2, n_query=3, seed=1)
    for index, right in enumerate(accuracies(init, tasks, n_tasks=4, modes=["frozen"])):
        task = tasks.task(index)
        names = tuple(map(str, range(5)))
        support = SupportSet(labels=names, images=task.support.numpy(), targets=task.support_labels.numpy())
        same_order = mini_batches(10, 50, 20, task.seed)
        assert torch.equal(same_order.sort(1).values, torch.arange(10).expand(20, 10))  # the whole set each time
        found = adapt(init, support, method="reptile", reject_rate=None).probabilities(task.query.numpy()).argmax(1)
        assert right["frozen"] == pytest.approx((found == task.query_labels.numpy()).mean())


def test_all_modes_are_of_the_same_tasks_and_adaptations(init: Initialization) -> None:
    tasks = TaskSampler(data=bars(6, noise=120), n_way=5, k_shot=1, n_query=1, seed=3)
    together = list(accuracies(init, tasks, n_tasks=4, modes=MODES))
    for mode in MODES:
        apart = [right[mode] for right in accuracies(init, tasks, n_tasks=4, modes=[mode])]
        assert apart == [right[mode] for right in together]


def test_a_random_network_guesses_on_noise(init: Initialization) -> None:
    data = bars(6)
    noise = replace(data, images=np.random.default_rng(1).integers(0, 256, data.images.shape, np.uint8))
    recipe = tiny_recipe(adaptation=tiny_recipe().adaptation.replace(steps=3))
    untrained = fresh(recipe, 0, init.provenance)
    tasks = TaskSampler(data=noise, n_way=5, k_shot=1, n_query=1)
    assert abs(evaluate(untrained, tasks, n_tasks=150).accuracy - 0.2) < 0.06


def test_the_baselines_are_of_the_same_tasks_and_say_what_the_initialization_is_worth(init: Initialization) -> None:
    """On bars class means of any features suffice; fresh weights differ between tasks, and are repeatable."""
    tasks = TaskSampler(data=bars(6, noise=20), n_way=5, k_shot=2, n_query=1, seed=3)
    baselines: tuple[Baseline, ...] = ("prototypes", "probe", "random")
    for baseline in baselines:
        found = list(accuracies(init, tasks, n_tasks=6, modes=MODES, baseline=baseline))
        assert list(accuracies(init, tasks, n_tasks=3, modes=MODES, baseline=baseline)) == found[:3]
        if baseline != "random":
            assert np.mean([right["frozen"] for right in found]) > 0.5
    (said,) = evaluation.summaries(found, tasks, 6, Workers())[:1]
    (marked,) = evaluation.summaries(found, tasks, 6, Workers(), "random")[:1]
    assert marked == said.replace(baseline="random")


def test_a_random_baseline_is_a_fresh_initialization_adapted_by_the_same_steps(init: Initialization) -> None:
    tasks = TaskSampler(data=bars(6, noise=120), n_way=5, k_shot=1, n_query=3, seed=1)
    (right,) = accuracies(init, tasks, n_tasks=1, modes=["inductive"], baseline="random")
    draw = int(np.random.SeedSequence((1, 0, 3)).generate_state(1)[0])
    by_hand = accuracies(fresh(init.recipe, draw, init.provenance), tasks, n_tasks=1, modes=["inductive"])
    assert right == next(by_hand)


def test_a_prototype_baseline_takes_the_nearest_class_mean(init: Initialization) -> None:
    tasks = TaskSampler(data=bars(6, noise=120), n_way=5, k_shot=2, n_query=3, seed=2)
    task = tasks.task(0)
    network = build_network(init.recipe.backbone, init.recipe.preprocessing, 5)
    start = open_head(init.state, init.recipe.head, network).params
    together = torch.cat([task.support, task.query])
    seen = features(network, start, together)[10:]
    means = features(network, start, task.support).view(5, 2, -1).mean(1)
    nearest = torch.cdist(seen, means).argmin(1)  # with the statistics of all queries, close to those of each alone
    (right,) = accuracies(init, tasks, n_tasks=1, modes=["inductive"], baseline="prototypes")
    assert right["inductive"] == pytest.approx((nearest == task.query_labels).double().mean().item(), abs=2 / 15)


def test_a_probe_baseline_is_the_probe_that_adapt_makes(init: Initialization) -> None:
    tasks = TaskSampler(data=bars(6, noise=120), n_way=5, k_shot=2, n_query=5, seed=2)
    task = tasks.task(0)
    adapter = Adapter(init, 5)
    ((_, params),) = adapter.learn(task.support, task.support_labels, [Strategy(method="probe")], 0)
    said = Forward(adapter.network, params).apart(task.query, task.support).argmax(1)
    (right,) = accuracies(init, tasks, n_tasks=1, modes=["frozen"], baseline="probe")
    assert right["frozen"] == (said == task.query_labels).double().mean().item()


def test_baselines_stand_on_the_card_in_a_table_of_their_own(init: Initialization) -> None:
    tasks = TaskSampler(data=bars(6), n_way=5, k_shot=1)
    card = init
    shown: tuple[tuple[float, Baseline | None], ...] = ((0.9, None), (0.7, "prototypes"), (0.5, "random"))
    for accuracy, baseline in shown:
        card = card.with_evaluation(summarize([accuracy, accuracy], tasks, "frozen", baseline))
    assert [e.baseline for e in card.evaluations] == [None, "prototypes", "random"]
    text = card.files()["README.md"].decode()
    assert "| bars 5-way 1-shot | frozen | 90.00 ± 0.00 % | 2 | 0 |" in text
    assert "| bars 5-way 1-shot | frozen | 70.00 ± 0.00 % | 50.00 ± 0.00 % | 2 | 0 |" in text
    assert "linear probe" not in text
    card = card.with_evaluation(summarize([0.6, 0.6], tasks, "frozen", "probe"))
    text = card.files()["README.md"].decode()
    assert "| baseline | mode | class means of its features, no step | linear probe on its features | random" in text
    assert "| 70.00 ± 0.00 % | 60.00 ± 0.00 % | 50.00 ± 0.00 % | 2 | 0 |" in text
    assert "frozen accuracy, baseline: random initialization, same steps, 50.00" in text
