"""denoisers: the exact ones against integrals by brute force, the trained one against losses known exactly."""

import math

import pytest
import torch
from torch import nn

from diffusion_lib import denoisers, pretrained
from diffusion_lib.denoisers import (
    Denoiser,
    even_times,
    exact_dataset,
    exact_gaussian,
    exact_mixture,
    middle_times,
)
from diffusion_lib.forward import add_noise
from diffusion_lib.schedules import Betas, Cosine, Linear
from diffusion_lib.targets import FLOW, NOISE, X_0, V, edm
from tests.common import Counting, agree, normal, seeded

SCHEDULES = [Betas.linear(), Cosine(), Linear()]
TARGETS = [NOISE, X_0, V, FLOW, edm(0.5)]
WEIGHTS, MEANS, STDS = [0.6, 0.3, 0.1], [[-0.5, 0.2], [0.6, -0.1], [0.0, 0.9]], [0.12, 0.08, 0.3]


def density(points, weights, means, stds):
    """Of a mixture of round Gaussians at points (..., D), from its definition."""
    total = 0
    for w, mean, std in zip(weights, means, stds):
        off = points - torch.tensor(mean, dtype=torch.float64)
        D = points.shape[-1]
        total = total + w * torch.exp(-(off**2).sum(-1) / (2 * std**2)) / (std * math.sqrt(2 * math.pi)) ** D
    return total


def integrated(schedule, grid, p, x_t, t):
    """E[x_0 | x_t] = int x_0 p(x_0) q(x_t | x_0) / int p(x_0) q(x_t | x_0), as a sum over a fine grid (G, D)."""
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    log_q = -((x_t - alpha * grid) ** 2).sum(-1) / (2 * sigma**2)
    weight = p * torch.exp(log_q - log_q.max())
    return (weight[:, None] * grid).sum(0) / weight.sum()


def line(n=20_001, limit=4.0):
    return torch.linspace(-limit, limit, n, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_exact_gaussian_is_the_integral(schedule):
    grid = line()
    p = density(grid, [1.0], [[0.3]], [0.4])
    denoiser = exact_gaussian(schedule, 0.3, 0.4)
    for t in (0.1, 0.5, 0.95):
        for x in (-1.2, 0.05, 0.9):
            x_t = torch.tensor([[x]]).double()
            torch.testing.assert_close(denoiser(x_t, t)[0], integrated(schedule, grid, p, x_t, t), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_exact_mixture_is_the_integral_in_one_dimension(schedule):
    grid = line()
    weights, means, stds = [0.7, 0.3], [[-0.5], [0.6]], [0.12, 0.08]
    p = density(grid, weights, means, stds)
    denoiser = exact_mixture(schedule, weights, means, stds)
    x_t = torch.tensor([[-1.2], [0.05], [0.9]]).double()
    for t in (0.1, 0.5, 0.95):
        right = torch.stack([integrated(schedule, grid, p, x, t) for x in x_t])
        torch.testing.assert_close(denoiser(x_t, t), right, rtol=1e-6, atol=1e-8)


def test_exact_mixture_is_the_integral_in_two_dimensions():
    """Here a component's density is 1 / std^2 and not 1 / std: the D in the logarithm matters."""
    axis = torch.linspace(-3, 3, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    p = density(grid, WEIGHTS, MEANS, STDS)
    denoiser = exact_mixture(Cosine(), WEIGHTS, MEANS, STDS)
    x_t = torch.tensor([[-0.4, 0.3], [0.1, 0.1], [0.2, 0.7]]).double()
    t = torch.tensor([0.2, 0.5, 0.8])
    right = torch.stack([integrated(Cosine(), grid, p, x, when) for x, when in zip(x_t, t)])
    torch.testing.assert_close(denoiser(x_t, t), right, rtol=1e-6, atol=1e-8)


def test_exact_dataset_is_the_sum_over_its_members():
    """In plain Python, one member after the other, for images and a time for each."""
    members, x_t = normal(5, 1, 2, 2), normal(3, 1, 2, 2, seed=1)
    t = torch.tensor([0.1, 0.4, 0.9])
    for schedule in SCHEDULES:
        answer = exact_dataset(schedule, members)(x_t, t)
        for b in range(3):
            alpha, sigma = float(schedule.alpha(t[b])), float(schedule.sigma(t[b]))
            distances = [float(((x_t[b] - alpha * member) ** 2).sum()) for member in members]
            weights = [math.exp((min(distances) - d) / (2 * sigma**2)) for d in distances]
            right = sum(w * member for w, member in zip(weights, members)) / sum(weights)
            torch.testing.assert_close(answer[b], right, rtol=1e-9, atol=1e-9)


def test_exact_dataset_is_a_mixture_of_very_narrow_gaussians():
    members = normal(6, 3)
    x_t = normal(4, 3, seed=1)
    narrow = exact_mixture(Cosine(), [1 / 6] * 6, members, [1e-4] * 6)
    torch.testing.assert_close(exact_dataset(Cosine(), members)(x_t, 0.5), narrow(x_t, 0.5), rtol=1e-5, atol=1e-5)


def test_exact_dataset_copies_when_there_is_little_noise():
    members = normal(20, 1, 4, 4, dtype=torch.float32)
    x_t = add_noise(Cosine(), members, normal(20, 1, 4, 4, seed=1, dtype=torch.float32), 0.05)
    torch.testing.assert_close(exact_dataset(Cosine(), members)(x_t, 0.05), members)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_tweedie(schedule):
    """E[x_0 | x_t] = (x_t + sigma^2 score) / alpha, with the score of the noisy density by autograd (Efron 2011)."""
    x_t = normal(5, 2).requires_grad_()
    for t in (0.2, 0.6, 0.9):
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        noisy = [math.hypot(alpha * std, sigma) for std in STDS]
        means = (alpha * torch.tensor(MEANS, dtype=torch.float64)).tolist()
        (score,) = torch.autograd.grad(density(x_t, WEIGHTS, means, noisy).log().sum(), x_t)
        answer = exact_mixture(schedule, WEIGHTS, MEANS, STDS)(x_t, t)
        torch.testing.assert_close(answer, (x_t + sigma**2 * score) / alpha, rtol=1e-7, atol=1e-7)


def test_a_mixture_of_one_is_a_gaussian():
    x_t = normal(4, 2)
    one = exact_mixture(Cosine(), [1.0], [[0.1, -0.2]], [0.3])
    gaussian = exact_gaussian(Cosine(), torch.tensor([0.1, -0.2]).double(), 0.3)
    torch.testing.assert_close(one(x_t, 0.4), gaussian(x_t, 0.4))


def test_no_answer_is_better_than_the_exact_one():
    """The mean squared error of E[x_0 | x_t] is the least; any shift of it adds its square."""
    x_0 = 0.3 + 0.4 * normal(100_000)
    x_t = add_noise(Cosine(), x_0, normal(100_000, seed=1), 0.5)
    answer = exact_gaussian(Cosine(), 0.3, 0.4)(x_t, 0.5)
    alpha, sigma = float(Cosine().alpha(0.5)), float(Cosine().sigma(0.5))
    agree((x_0 - answer) ** 2, 1 / (1 / 0.4**2 + alpha**2 / sigma**2))  # the variance that is left
    agree((x_0 - answer) * x_t, 0.0)  # nothing in x_t tells more


# ------------------------------------------------------------------------- network + schedule + target


class Recorder(nn.Module):
    """Answers with what it was made with (zero by default) and remembers what it was asked."""

    def __init__(self, answer=None):
        super().__init__()
        self.answer = answer
        self.calls = []

    def forward(self, x_t, t, **condition):
        self.calls.append((x_t, t, condition))
        return torch.zeros_like(x_t) if self.answer is None else self.answer


def test_loss_of_a_silent_network_is_the_target_s_square():
    """Known exactly: noise^2, x_0^2, (alpha noise - sigma x_0)^2, (noise - x_0)^2, averaged over each sample alone."""
    x_0, noise, t = normal(3, 1, 4, 4), normal(3, 1, 4, 4, seed=1), torch.tensor([0.2, 0.5, 0.9])
    for schedule in SCHEDULES:
        alpha, sigma = schedule.scales(t, x_0)
        right = {"noise": noise, "x_0": x_0, "v": alpha * noise - sigma * x_0, "flow": noise - x_0}
        for target in (NOISE, X_0, V, FLOW):
            loss = Denoiser(Recorder(), schedule, target).loss(x_0, t, noise)
            assert loss.shape == (3,)
            for i in range(3):
                assert float(loss[i]) == pytest.approx(float((right[target.name][i] ** 2).mean()), rel=1e-12)


def test_loss_shows_the_network_the_noisy_sample_its_time_and_its_label():
    x_0, noise, t = normal(3, 1, 4, 4), normal(3, 1, 4, 4, seed=1), torch.tensor([0.2, 0.5, 0.9])
    network = Recorder()
    label = torch.tensor([1, 2, 3])
    Denoiser(network, Cosine(), V).loss(x_0, t, noise, label=label)
    ((x_t, when, condition),) = network.calls
    torch.testing.assert_close(x_t, add_noise(Cosine(), x_0, noise, t))
    assert torch.equal(when, t.double()) and condition.get("label") is label


def test_loss_of_a_perfect_network_is_zero():
    x_0, noise, t = normal(3, 5), normal(3, 5, seed=1), torch.tensor([0.2, 0.5, 0.9])
    for target in TARGETS:
        answer = target.mix(x_0, noise, *Cosine().scales(t, x_0))
        assert Denoiser(Recorder(answer), Cosine(), target).loss(x_0, t, noise).max() < 1e-25


def test_denoiser_turns_every_target_into_x_0():
    x_0, noise, t = normal(3, 5), normal(3, 5, seed=1), torch.tensor([0.2, 0.5, 0.9])
    for schedule in SCHEDULES:
        x_t = add_noise(schedule, x_0, noise, t)
        for target in TARGETS:
            answer = target.mix(x_0, noise, *schedule.scales(t, x_0))
            torch.testing.assert_close(Denoiser(Recorder(answer), schedule, target)(x_t, t), x_0)


def test_denoiser_gives_a_time_to_every_sample_and_passes_conditions_on():
    network = Recorder()
    Denoiser(network, Cosine(), V)(normal(3, 5), 0.5, label="any")
    _, t, condition = network.calls[0]
    assert torch.equal(t, torch.full((3,), 0.5).double()) and condition == {"label": "any"}


def test_a_half_precision_answer_is_recovered_in_the_sample_s_precision():
    x_t = normal(2, 5, dtype=torch.float32)
    answer = Denoiser(Recorder(torch.ones(2, 5, dtype=torch.bfloat16)), Cosine(), V)(x_t, 0.5)
    assert answer.dtype == torch.float32
    loss = Denoiser(Recorder(torch.ones(2, 5, dtype=torch.bfloat16)), Cosine(), V).loss(x_t, 0.5, x_t)
    assert loss.dtype == torch.float32


def test_gradients_of_the_loss_reach_the_network():
    network = nn.Linear(5, 5)
    model = Denoiser(Timeless(network), Cosine(), NOISE)
    model.loss(normal(3, 5, dtype=torch.float32), 0.5, normal(3, 5, seed=1, dtype=torch.float32)).mean().backward()
    assert network.weight.grad.abs().sum() > 0 and list(model.parameters())


class Timeless(nn.Module):
    """A network that does not look at the time."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x_t, t):
        return self.layer(x_t)


# ----------------------------------------------------------------------------------------------- times


def test_even_times_hold_one_time_in_each_slice():
    for batch in (1, 2, 7, 64):
        t = even_times(batch, seeded(batch))
        assert t.shape == (batch,) and ((t >= 0) & (t <= 1)).all()
        if batch > 1:
            gaps = t.double().sort().values.diff()
            torch.testing.assert_close(gaps, torch.full((batch - 1,), 1 / batch).double(), rtol=1e-4, atol=1e-6)


def test_each_even_time_alone_is_uniform():
    generator = seeded(3)
    t = torch.stack([even_times(4, generator) for _ in range(4000)]).double()
    agree(t, 0.5)
    agree((t - 0.5) ** 2, 1 / 12)
    agree((t < 0.1).double(), 0.1)
    agree((t > 0.9).double(), 0.1)


@pytest.mark.parametrize("mean", [0.5, -1.0])
def test_middle_times_are_the_sigmoid_of_a_normal(mean):
    """Esser et al. 2024, sec. 3.1: logit(t) has its mean, variance 1, fourth moment 3, for each time of a batch."""
    generator = seeded(4)
    t = torch.stack([middle_times(4, generator, mean=mean) for _ in range(8000)]).double()
    assert ((t >= 0) & (t <= 1)).all()
    z = torch.logit(t) - mean
    for power, moment in [(1, 0.0), (2, 1.0), (4, 3.0)]:
        agree(z**power, moment)
    # and a batch covers them evenly: one time in each quarter of the distribution
    edges = torch.sigmoid(mean + torch.tensor([-0.67449, 0.0, 0.67449]).double())
    assert torch.equal(torch.bucketize(t, edges).sort(1).values, torch.arange(4).expand(8000, 4))


def test_even_times_obey_their_generator():
    assert torch.equal(even_times(8, seeded(1)), even_times(8, seeded(1)))
    assert not torch.equal(even_times(8, seeded(1)), even_times(8, seeded(2)))


def test_time_per_sample():
    x = torch.zeros(3, 2)
    assert torch.equal(denoisers.time_per_sample(0.25, x), torch.full((3,), 0.25))
    t = torch.tensor([0.1, 0.2, 0.3])
    torch.testing.assert_close(denoisers.time_per_sample(t, x), t)


@pytest.mark.parametrize("t", [0.4, torch.tensor([0.2, 0.9, 0.5, 0.7])], ids=["one", "each"])
def test_the_schedule_is_asked_once_for_an_estimate_and_once_for_a_loss(t):
    x_0, noise = normal(4, 2), normal(4, 2, seed=1)
    for use in (lambda model: model(x_0, t), lambda model: model.loss(x_0, t, noise)):
        schedule = Counting(Cosine())
        use(Denoiser(lambda x_t, t: 0 * x_t, schedule, V))
        assert schedule.asked == ["alpha", "sigma"]


# ---------------------------------------------------------------------------------------------- compilers


@pytest.mark.skipif(not torch._dynamo.is_dynamo_supported(), reason="this torch traces no functions on this Python")
def test_a_compiler_sees_one_graph():
    """Refusals that look at values step aside: with one of them in the way, `fullgraph` fails."""
    model = pretrained.digits()
    x, label = normal(4, 1, 28, 28, dtype=torch.float32), torch.tensor([0, 3, 9, 10])
    each = torch.tensor([0.1, 0.4, 0.6, 1.0])
    compiled, loss = (torch.compile(f, backend="eager", fullgraph=True) for f in (model, model.loss))
    with torch.no_grad():
        for t in (each, torch.tensor(0.4, dtype=torch.float64)):
            torch.testing.assert_close(compiled(x, t, label=label), model(x, t, label=label))
            right = model.loss(x, t, x.flip(0), label=label)
            torch.testing.assert_close(loss(x, t, x.flip(0), label=label), right)
        exported = torch.export.export(model.network, (x, each, label))
        torch.testing.assert_close(exported.module()(x, each, label), model.network(x, each, label))
    with pytest.raises(ValueError, match="label reaches from 5 to 15"):
        model(x, each, label=label + 5)


@pytest.mark.gpu
def test_exact_denoisers_follow_the_device():
    x_t, t = normal(4, 2, dtype=torch.float32), torch.tensor([0.2, 0.4, 0.6, 0.8])
    for make in (
        lambda: exact_gaussian(Cosine(), torch.tensor([0.1, 0.2]), 0.4),
        lambda: exact_mixture(Cosine(), WEIGHTS, MEANS, STDS),
        lambda: exact_dataset(Cosine(), normal(6, 2, seed=2)),
    ):
        for when in (0.5, t, t.cuda()):
            there = make()(x_t.cuda(), when)
            here = make()(x_t, when.cpu() if isinstance(when, torch.Tensor) else when)
            assert there.is_cuda
            torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_a_denoiser_on_a_gpu_answers_as_on_the_cpu():
    torch.manual_seed(0)
    model = Denoiser(Timeless(nn.Linear(5, 5)), Cosine(), V)
    x_0, noise = normal(3, 5, dtype=torch.float32), normal(3, 5, seed=1, dtype=torch.float32)
    t = torch.tensor([0.2, 0.5, 0.9])
    here = model(x_0, t), model.loss(x_0, t, noise)
    model.cuda()
    there = model(x_0.cuda(), t.cuda()), model.loss(x_0.cuda(), t, noise.cuda())
    for a, b in zip(here, there):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-4, atol=1e-5)
