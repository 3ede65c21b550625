"""Multiply-adds by hand are those that torch counts; training, sampling, seconds and watt-hours follow from them."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffusion_lib import costs, data, guidance, recipes, samplers
from diffusion_lib.costs import attention, convolution, count, linear, multiply_adds
from diffusion_lib.networks import Attention, Autoencoder, Transformer, UNet
from diffusion_lib.schedules import Cosine


def flops(call):
    """What torch's own counter says, in FLOPs."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_multiplies_every_input_for_every_output(bias):
    layer, x = nn.Linear(5, 7, bias=bias), torch.zeros(3, 4, 5)
    assert linear(5, 7, rows=12) == 12 * 35 == flops(lambda: layer(x)) // 2
    assert count(layer, x) == {"": 12 * 35}


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_is_counted_as_torch_counts_it(stride, groups, bias):
    layer, x = nn.Conv2d(4, 8, 3, stride=stride, padding=1, groups=groups, bias=bias), torch.zeros(2, 4, 9, 12)
    out = layer(x)
    by_hand = 2 * convolution(4, 8, 3, out.shape[2] * out.shape[3], groups)
    assert by_hand == flops(lambda: layer(x)) // 2 == sum(count(layer, x).values())


def test_a_convolution_by_running_through_its_loops():
    """3 x 3 over 2 channels to 3 channels at the 4 x 5 places of a padded image: one product at a time."""
    products = sum(1 for _ in range(4 * 5) for _ in range(3) for _ in range(2) for _ in range(3 * 3))
    assert convolution(2, 3, 3, 4 * 5) == products == 20 * 54


@pytest.mark.parametrize("stride", [1, 2])
def test_a_transposed_convolution_works_at_the_places_of_its_input(stride):
    layer, x = nn.ConvTranspose2d(6, 4, 4, stride=stride, padding=1), torch.zeros(2, 6, 7, 7)
    assert sum(count(layer, x).values()) == flops(lambda: layer(x)) // 2 == 2 * convolution(6, 4, 4, 49)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_an_attention_costs_the_same_with_any_number_of_heads(heads):
    q, k, v = (torch.zeros(1, heads, n, 8 // heads) for n in (5, 9, 9))
    by_hand = flops(lambda: (q @ k.transpose(-1, -2)) @ v) // 2
    assert attention(queries=5, keys=9, channels=8) == by_hand == 2 * 5 * 9 * 8
    x = torch.zeros(1, 8, 6, 6)
    assert count(Attention(8, heads=heads), x)[""] == 2 * 36**2 * 8


def test_a_fused_attention_is_counted_too():
    """torch's counter alone says 0 for it on some machines."""
    q = torch.zeros(2, 4, 9, 8)
    with torch.no_grad():
        assert multiply_adds(lambda: F.scaled_dot_product_attention(q, q, q)) == 2 * attention(9, 9, channels=4 * 8)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "network, inputs",
    [
        (UNet(1, (16, 32, 64), labels=10), (torch.zeros(1, 1, 28, 28), torch.zeros(1))),
        (UNet(3, (8, 16, 24, 32)), (torch.zeros(1, 3, 32, 48), torch.zeros(1))),
        (UNet(4, (16,), condition_dim=32), (torch.zeros(1, 4, 7, 7), torch.zeros(1))),
        (Autoencoder(width=8).encoder, (torch.zeros(1, 1, 28, 28),)),
        (Autoencoder(width=8).decoder, (torch.zeros(1, 4, 7, 7),)),
        (Transformer(12, 9, width=16, depth=2), (torch.zeros(1, 9, dtype=torch.int64),)),
        (Transformer(12, 9, width=16, depth=2, causal=True), (torch.zeros(1, 9, dtype=torch.int64),)),
    ],
    ids=["digits", "colour", "latent", "encoder", "decoder", "transformer", "causal"],
)
def test_layer_by_layer_is_what_torch_counts_for_the_whole(network, inputs, batch):
    inputs = [values.repeat_interleave(batch, 0) for values in inputs]
    with torch.no_grad():
        whole = multiply_adds(lambda: network(*inputs))
    work = count(network, *inputs)
    assert sum(work.values()) == whole
    assert sum(work.values()) == batch * sum(count(network, *(values[:1] for values in inputs)).values())


def test_counting_takes_a_denoiser_and_leaves_no_hooks_behind():
    model = recipes.new_digits_model()
    x_t, label = torch.zeros(2, 1, 28, 28), torch.tensor([3, 4])
    assert sum(count(model, x_t, 0.5, label=label).values()) == 2 * 36_549_248  # as in the results of lesson 09
    with pytest.raises(ValueError, match=r"shape \(2, 3, 28, 28\); this network expects \(B, 1, H, W\)"):
        count(model, torch.zeros(2, 3, 28, 28), 0.5)
    assert not any(layer._forward_hooks for layer in model.modules())


def test_a_layer_that_is_called_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(self.layer(x))

    assert count(Twice(), torch.zeros(1, 4)) == {"layer": 32}


def test_going_back_costs_twice_as_much_as_going_forward():
    """A real training batch, forward and back: three times the forward calls, but for what the first layers do not owe
    (a gradient for the image and the time) and what attention owes on top."""
    model, (x_0, label) = recipes.new_digits_model(), data.digits("train")
    x_0, label = x_0[:4], label[:4]

    def step():
        recipes.digits_loss(model, (x_0, label), torch.Generator().manual_seed(0)).mean().backward()

    forward = sum(count(model, x_0[:1], 0.5).values())
    assert multiply_adds(step) == pytest.approx(costs.training_cost(forward, images=4), rel=0.01)

    layers = nn.Sequential(nn.Linear(8, 16, bias=False), nn.Linear(16, 8, bias=False), nn.Linear(8, 4, bias=False))
    x = torch.zeros(5, 8, requires_grad=True)  # now the first layer owes both gradients, too: exactly three times
    work = sum(count(layers, x).values())
    assert multiply_adds(lambda: layers(x).sum().backward()) == costs.training_cost(work, images=1)


def test_what_the_optimiser_costs_does_not_depend_on_the_batch():
    """Muon multiplies matrices of weights: as much as the images of a small batch, a few per cent of a usual one."""
    x_0, label = data.digits("train")
    forward = sum(count(recipes.new_digits_model(), x_0[:1], 0.5).values())
    extra = {}
    for batch in (2, 6):
        run = partial(recipes.fit, loss_fn=recipes.digits_loss, steps=1, batch_size=batch)
        work = multiply_adds(lambda run=run: run(recipes.new_digits_model(), x_0[:50], label[:50]))
        extra[batch] = work - costs.training_cost(forward, batch)
    assert extra[2] == pytest.approx(extra[6], rel=0.05)
    assert 0.01 < extra[2] / costs.training_cost(forward, images=128) < 0.03


class Counting(nn.Module):
    """A network without weights that knows how often it was called, image by image."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x_t, t, label=None):
        self.calls += len(x_t)
        return torch.zeros_like(x_t)


@pytest.mark.parametrize("interval, guided_calls", [((0, 0), 0), ((0, 1), 10), ((0.45, 0.85), 4)])
def test_sampling_costs_a_call_a_look_and_two_with_guidance(interval, guided_calls):
    network = Counting()
    plain = partial(network, label=torch.zeros(3))
    denoiser = guidance.in_interval(guidance.classifier_free(plain, network, 2.0), plain, *interval)
    samplers.last(samplers.ddim(denoiser, Cosine(), torch.ones(3, 2), samplers.time_grid(10)))
    assert network.calls * 7 == costs.sampling_cost(one_call=7, images=3, calls=10, guided_calls=guided_calls)


def test_heun_looks_twice_in_every_step_but_the_last():
    network = Counting()
    samplers.last(samplers.heun(network, Cosine(), torch.ones(3, 2), samplers.time_grid(10)))
    assert network.calls * 7 == costs.sampling_cost(one_call=7, images=3, calls=2 * 10 - 1)


def test_a_rate_is_work_over_the_shortest_time(monkeypatch):
    now, lengths = 5.0, iter([8, 4, 2, 4])  # the first warms up

    def call():
        nonlocal now
        now += next(lengths)

    monkeypatch.setattr(costs.time, "perf_counter", lambda: now)
    assert costs.rate(call, work=1000, repeats=3) == 1000 / 2
    assert next(lengths, None) is None


def test_energy_in_watt_hours():
    assert costs.energy(3600, watts=100) == 100
    assert costs.energy(60, watts=300) == 5
    assert costs.energy(60, watts=300, overhead=1.5) == 7.5


def test_a_cost_says_its_units():
    cost = costs.cost(work=7.2e12, rate=1e9, watts=50, overhead=1.2)
    assert cost == (7.2e12, 7200, pytest.approx(120))
    assert str(cost) == "7.2e+12 multiply-adds (1.4e+13 FLOPs), 2 h, 1.2e+02 Wh"


@pytest.mark.parametrize(
    "seconds, text",
    [(0.25, "0.25 s"), (34, "34 s"), (119, "1.2e+02 s"), (120, "2 min"), (7199, "1.2e+02 min"), (2e5, "2.3 days")],
)
def test_times_are_readable(seconds, text):
    assert costs.readable_time(seconds) == text
