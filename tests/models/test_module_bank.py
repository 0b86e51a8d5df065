import pytest
import torch
from torch.nn import functional

from bouncegrad.models.module_bank import ModuleBank, Routing


def bank(num_modules: int = 3, **options) -> ModuleBank:
    return ModuleBank(num_modules, (2, 5, 4), torch.Generator().manual_seed(0), **options)


def by_hand(modules: ModuleBank, kind: int, inputs: torch.Tensor) -> torch.Tensor:
    hidden = functional.relu(inputs @ modules.weights[0][kind] + modules.biases[0][kind])
    return hidden @ modules.weights[1][kind] + modules.biases[1][kind]


def test_every_item_goes_through_the_module_of_its_kind():
    modules, generator = bank(), torch.Generator().manual_seed(1)
    inputs = torch.randn(20, 7, 2, generator=generator)
    kinds = torch.randint(3, (20,), generator=generator)
    outputs = modules(inputs, kinds)
    for item in range(20):
        torch.testing.assert_close(outputs[item], by_hand(modules, int(kinds[item]), inputs[item]))


def test_a_kind_that_nobody_has_is_no_trouble():
    modules = bank()
    inputs = torch.ones(4, 2)
    torch.testing.assert_close(modules(inputs, torch.full((4,), 2)), by_hand(modules, 2, inputs))


def test_every_kind_equals_one_kind_at_a_time():
    modules = bank()
    inputs = torch.randn(6, 3, 2, generator=torch.Generator().manual_seed(2))
    everything = modules.every_kind(inputs)
    assert everything.shape == (3, 6, 3, 4)
    for kind in range(3):
        torch.testing.assert_close(everything[kind], modules(inputs, torch.full((6,), kind)))


@pytest.mark.parametrize("silent_first", [False, True])
def test_items_of_several_kinds_get_a_weighted_sum(silent_first: bool):
    modules, generator = bank(silent_first=silent_first), torch.Generator().manual_seed(4)
    inputs = torch.randn(6, 5, 2, generator=generator)
    shares = torch.rand(6, 3, generator=generator)
    expected = torch.einsum("k i t o, i k -> i t o", modules.every_kind(inputs), shares)
    torch.testing.assert_close(modules(inputs, shares), expected)


def test_the_first_kind_can_be_silent():
    modules, loud = bank(silent_first=True), bank()
    inputs, kinds = torch.ones(4, 2), torch.tensor([0, 1, 2, 0])
    said = modules(inputs, kinds)
    assert not said[kinds == 0].any()
    torch.testing.assert_close(said[kinds > 0], loud(inputs, kinds)[kinds > 0])
    torch.testing.assert_close(modules.every_kind(inputs)[kinds, torch.arange(4)], said)


def test_gradients_reach_the_used_kinds_only():
    modules = bank()
    modules(torch.ones(4, 2), torch.tensor([0, 2, 2, 0])).sum().backward()
    gradient = modules.biases[1].grad
    assert gradient is not None
    assert gradient[1].abs().sum() == 0
    assert (gradient[[0, 2]].abs().sum((1, 2)) > 0).all()


def test_final_relu_and_gain():
    inputs = torch.randn(50, 2, generator=torch.Generator().manual_seed(3))
    kinds = torch.zeros(50, dtype=torch.long)
    assert (bank(final_relu=True)(inputs, kinds) >= 0).all()
    assert bank(final_gain=1e-6)(inputs, kinds).abs().max() < 1e-4


def test_how_weights_and_biases_start():
    """Uniform within bounds that their inputs set; biases at 0 unless they are to be random."""
    for gain in (1.0, 6**0.5):
        modules = ModuleBank(4, (50, 80, 3), torch.Generator().manual_seed(0), gain=gain, random_biases=True)
        bounds = zip(modules.weights, modules.biases, (50, 80), (gain, 1.0), strict=True)
        for weight, bias, size_in, its_gain in bounds:
            assert 0.97 * its_gain < weight.abs().max() * size_in**0.5 <= its_gain
            assert 0.7 < bias.abs().max() * size_in**0.5 <= 1
            assert weight.mean().abs() < 0.1 * weight.abs().max()
        assert modules.biases[0].min() < 0 < modules.biases[0].max()
        assert [bias.shape for bias in modules.biases] == [(4, 1, 80), (4, 1, 3)]
    assert not any(bias.any() for bias in bank().biases)


def test_one_seed_one_bank():
    assert all(torch.equal(a, b) for a, b in zip(bank().parameters(), bank().parameters(), strict=True))


def test_kinds_are_sorted_once_for_many_steps():
    modules, generator = bank(), torch.Generator().manual_seed(1)
    inputs, kinds = torch.randn(7, 5, 2, generator=generator), torch.tensor([2, 0, 2, 1, 1, 0, 2])
    routing = modules.route(kinds)
    assert isinstance(routing, Routing)
    assert routing.counts == [2, 2, 3]
    assert torch.equal(modules(inputs, routing), modules(inputs, kinds))
    assert modules.route(routing) is routing
    for nothing_to_sort in (torch.rand(7, 3, generator=generator), torch.ones(7, 3)):
        assert modules.route(nothing_to_sort) is nothing_to_sort
    assert bank(1).route(kinds) is kinds
