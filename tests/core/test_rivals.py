"""rivals: the ELBO beside a log p(x) that is known, the game of the GAN where its value is known, known mixtures."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diffusion_lib import data, rivals
from tests.common import agree, normal, seeded

# The VAE


def test_kl_is_that_of_torch_and_of_its_definition():
    mean, log_variance = normal(5, 3), normal(5, 3, seed=1)
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    p = torch.distributions.Normal(torch.zeros(3).double(), torch.ones(3).double())
    closed = rivals.kl(mean, log_variance)
    torch.testing.assert_close(closed, torch.distributions.kl_divergence(q, p).sum(1))
    z = rivals.sample_latent(
        mean.expand(20_000, 5, 3).flatten(0, 1), log_variance.repeat(20_000, 1), normal(100_000, 3)
    )
    z = z.reshape(20_000, 5, 3)
    agree((q.log_prob(z) - p.log_prob(z)).sum(2), closed)


def test_kl_is_zero_at_the_standard_normal_only():
    zero = torch.zeros(1, 4)
    assert rivals.kl(zero, zero).item() == 0
    for mean, log_variance in [(0.1, 0), (0, 0.1), (0, -0.1)]:
        assert rivals.kl(zero + mean, zero + log_variance).item() > 0


def test_a_latent_has_its_mean_and_variance():
    n = 100_000
    mean, log_variance = torch.tensor([[0.5, -2.0]]).double(), torch.tensor([[0.25, 4.0]]).double().log()
    z = rivals.sample_latent(mean.expand(n, 2), log_variance.expand(n, 2), normal(n, 2))
    agree(z, mean[0])
    agree((z - mean) ** 2, torch.tensor([0.25, 4.0]).double())


def test_gradients_go_through_the_draw():
    """E[z^2] = mean^2 + variance: its slopes are 2 mean in the mean and the variance in the log-variance."""
    n = 200_000
    mean = torch.full((n, 1), 0.7, dtype=torch.float64, requires_grad=True)
    log_variance = torch.full((n, 1), -0.4, dtype=torch.float64, requires_grad=True)
    z = rivals.sample_latent(mean, log_variance, normal(n, 1))
    slopes = torch.autograd.grad((z**2).sum(), (mean, log_variance))
    agree(slopes[0], 2 * 0.7)
    agree(slopes[1], math.exp(-0.4))


class LinearEncoder(nn.Module):
    """mean = gain x + shift, and one log-variance for all x."""

    def __init__(self, gain, log_variance, shift=0.0):
        super().__init__()
        self.gain, self.log_variance, self.shift = gain, log_variance, shift

    def forward(self, x):
        mean = x @ self.gain.T + self.shift
        return torch.cat([mean, self.log_variance.expand_as(mean)], dim=1)


def linear_vae(std=0.6):
    """x = W z + std * noise with orthogonal columns W: the posterior is a Gaussian of its own variances, known exactly.

    Returns:
        the VAE with the exact posterior as its encoder, -log p(x) as a function, the posterior's gain and variance.
    """
    W = torch.linalg.qr(normal(5, 2)).Q * torch.tensor([1.5, 0.8], dtype=torch.float64)
    vae = rivals.VAE(latent=2, std=std)
    variance = 1 / (1 + (W**2).sum(0) / std**2)
    gain = variance[:, None] * W.T / std**2
    vae.decoder = nn.Linear(2, 5, bias=False).double()
    vae.decoder.weight.data = W
    vae.encoder = LinearEncoder(gain, variance.log())
    covariance = W @ W.T + std**2 * torch.eye(5, dtype=torch.float64)
    x = torch.distributions.MultivariateNormal(torch.zeros(5, dtype=torch.float64), covariance)
    return vae, lambda x_0: -x.log_prob(x_0), gain, variance


@torch.no_grad()
def test_the_loss_is_log_p_where_the_encoder_is_exact():
    vae, surprise, _, _ = linear_vae()
    x_0 = normal(4, 5, seed=2)
    losses = vae.loss(x_0.repeat(20_000, 1), normal(80_000, 2, seed=3)).reshape(20_000, 4)
    agree(losses, surprise(x_0))


@torch.no_grad()
def test_the_loss_is_above_log_p_by_the_kl_of_the_encoder_from_the_posterior():
    vae, surprise, gain, variance = linear_vae()
    x_0, shift, wrong = normal(4, 5, seed=2), torch.tensor([0.3, -0.2]).double(), torch.tensor([0.2, 0.5]).double()
    vae.encoder = LinearEncoder(gain, wrong.log(), shift)
    losses = vae.loss(x_0.repeat(20_000, 1), normal(80_000, 2, seed=3)).reshape(20_000, 4)
    q, p = torch.distributions.Normal(shift, wrong.sqrt()), torch.distributions.Normal(0 * shift, variance.sqrt())
    gap = torch.distributions.kl_divergence(q, p).sum()
    agree(losses, surprise(x_0) + gap)
    assert (losses.mean(0) > surprise(x_0)).all()


@torch.no_grad()
def test_beta_weighs_the_kl_alone():
    x_0, noise = data.digits("held_out")[0][:3], normal(3, 12, dtype=torch.float32)
    vae = rivals.VAE()
    losses = {}
    for vae.beta in (0, 1, 4):
        losses[vae.beta] = vae.loss(x_0, noise)
    torch.testing.assert_close(losses[4] - losses[0], 4 * rivals.kl(*vae.encode(x_0)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(losses[1] - losses[0], rivals.kl(*vae.encode(x_0)), rtol=1e-3, atol=1e-3)


def test_samples_are_means_of_normal_codes():
    vae = rivals.VAE()
    images = vae.sample(3, seeded(5))
    assert images.shape == (3, 1, 28, 28) and images.abs().max() <= 1
    torch.testing.assert_close(images, vae.decode(torch.randn(3, 12, generator=seeded(5))).detach())
    assert not torch.equal(images, vae.sample(3, seeded(6)))


# The GAN


def test_a_blind_discriminator_scores_two_logs_of_two():
    assert rivals.discriminator_loss(torch.zeros(8, 1), torch.zeros(8, 1)).item() == pytest.approx(1.386294, abs=1e-6)


def test_the_best_discriminator_measures_the_jensen_shannon_divergence():
    """Goodfellow et al. 2014, theorem 1: at D = p / (p + q) the loss is 2 log 2 - 2 JSD, and no other D has less."""
    p, q = torch.tensor([5.0, 2.0, 1.0]).double() / 8, torch.tensor([1.0, 3.0, 4.0]).double() / 8
    real, fake = torch.arange(3).repeat_interleave((8 * p).long()), torch.arange(3).repeat_interleave((8 * q).long())
    best = (p / q).log()  # the logit of p / (p + q)
    middle = (p + q) / 2
    jensen_shannon = ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2
    least = rivals.discriminator_loss(best[real], best[fake])
    assert least.item() == pytest.approx(2 * math.log(2) - 2 * jensen_shannon.item(), abs=1e-12)
    for seed in range(20):
        other = best + 0.1 * normal(3, seed=seed)
        assert rivals.discriminator_loss(other[real], other[fake]) > least


def test_the_losses_are_logs_of_probabilities():
    real, fake = normal(6, 1), normal(6, 1, seed=1)
    D_real, D_fake = torch.sigmoid(real), torch.sigmoid(fake)
    torch.testing.assert_close(rivals.discriminator_loss(real, fake), -(D_real.log() + (1 - D_fake).log()).mean())
    torch.testing.assert_close(rivals.generator_loss(fake), -D_fake.log().mean())
    far = torch.full((1, 1), 200.0)  # no infinity where a probability rounds to 0
    assert rivals.discriminator_loss(-far, far).item() == 400 and rivals.generator_loss(-far).item() == 200


def test_the_generator_learns_where_the_discriminator_is_sure():
    logit = torch.tensor([-8.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(rivals.generator_loss(logit), logit)
    (saturated,) = torch.autograd.grad(-F.softplus(logit).mean(), logit)  # log(1 - D), what it would go down instead
    assert slope.item() == pytest.approx(-1 / (1 + math.exp(-8))) and saturated.item() == pytest.approx(
        -1 / (1 + math.exp(8))
    )


def test_r1_of_a_quadratic_discriminator():
    """D(x) = x A x / 2 + b x has the slope A x + b; and the penalty itself has a slope in b, A x + b on average."""
    A, b, x = normal(3, 3), normal(3, seed=1).requires_grad_(), normal(7, 3, seed=2).requires_grad_()
    A = A + A.T
    penalty = rivals.r1(((x @ A) * x).sum(1) / 2 + x @ b, x)
    slope = (x @ A + b).detach()
    assert penalty.item() == pytest.approx((slope**2).sum(1).mean().item() / 2)
    torch.testing.assert_close(torch.autograd.grad(penalty, b)[0], slope.mean(0))


def small_gan(penalty):
    gan = rivals.GAN(latent=2, penalty=penalty)
    gan.generator = nn.Sequential(nn.Linear(2, 3), nn.Tanh()).double()
    gan.discriminator = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1)).double()
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (gan.generator, gan.discriminator)]
    return gan, optimizers, normal(6, 3, seed=4)


def draw_codes_in_double(monkeypatch):
    codes = rivals.normal_codes
    monkeypatch.setattr(rivals, "normal_codes", lambda *arguments: codes(*arguments).double())


@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_a_move_of_each_player_is_a_step_down_its_own_loss(penalty, monkeypatch):
    """Both moves are made again by hand, with the plain gradients of the written losses."""
    draw_codes_in_double(monkeypatch)
    torch.manual_seed(0)
    gan, optimizers, x_0 = small_gan(penalty)
    G, D = gan.generator, gan.discriminator
    before = {name: p.detach().clone() for name, p in gan.named_parameters()}
    fake = G(rivals.normal_codes(6, 2, gan, seeded(3)))
    real = x_0.clone().requires_grad_()
    logit = D(real)
    contest = -(torch.sigmoid(logit).log().mean() + (1 - torch.sigmoid(D(fake))).log().mean())
    (slope,) = torch.autograd.grad(logit.sum(), real, create_graph=True)
    loss = contest + penalty * (slope**2).sum(1).mean() / 2
    wanted_d = [p - 0.1 * g for p, g in zip(D.parameters(), torch.autograd.grad(loss, list(D.parameters())))]

    losses = rivals.gan_step(gan, optimizers, x_0, seeded(3))
    for p, wanted in zip(D.parameters(), wanted_d):
        torch.testing.assert_close(p.detach(), wanted.detach())
    # The discriminator has moved; the generator's step is down the new one's verdict, from its own old weights.
    G_old = nn.Sequential(nn.Linear(2, 3), nn.Tanh()).double()
    G_old.load_state_dict({name.removeprefix("generator."): p for name, p in before.items() if "generator." in name})
    persuade = -torch.sigmoid(D(G_old(rivals.normal_codes(6, 2, gan, seeded(3))))).log().mean()
    slopes = torch.autograd.grad(persuade, list(G_old.parameters()))
    for p, old, slope in zip(G.parameters(), G_old.parameters(), slopes):
        torch.testing.assert_close(p.detach(), (old - 0.1 * slope).detach())
    assert losses == pytest.approx({"generator": persuade.item(), "discriminator": contest.item()})
    assert not x_0.requires_grad


def test_spectral_normalisation_keeps_every_layer_near_one():
    gan = rivals.GAN(penalty=0.0, spectral=True)
    for _ in range(50):
        gan.discriminator(normal(2, 1, 28, 28, dtype=torch.float32))
    weights = [layer.weight for layer in gan.discriminator if hasattr(layer, "weight")]
    assert len(weights) >= 3
    for weight in weights:
        assert torch.linalg.svdvals(weight.flatten(1))[0].item() == pytest.approx(1, abs=0.05)


def test_a_gan_learns_a_cloud_of_points(monkeypatch):
    """Real points lie around (2, 2, 2); made ones begin around 0 and arrive there."""
    draw_codes_in_double(monkeypatch)
    torch.manual_seed(0)
    gan, _, _ = small_gan(penalty=0.1)
    gan.generator = nn.Linear(2, 3).double()
    optimizers = [torch.optim.Adam(part.parameters(), 0.02) for part in (gan.generator, gan.discriminator)]
    generator = seeded(1)
    for _ in range(300):
        rivals.gan_step(gan, optimizers, 2 + 0.3 * torch.randn(64, 3, generator=generator).double(), generator)
    made = gan.sample(2000, seeded(2))
    assert (made.mean(0) - 2).abs().max() < 0.3, made.mean(0)


def test_descend_moves_its_own_parameters_only():
    mine, other = nn.Linear(2, 1), nn.Linear(1, 1)
    mine.weight.grad = torch.full_like(mine.weight, 100.0)  # what an earlier step left counts for nothing
    loss = other(mine(torch.ones(1, 2))).sum()
    wanted = mine.weight - 0.5 * torch.autograd.grad(loss, mine.weight, retain_graph=True)[0]
    kept = other.weight.clone()
    rivals.descend(torch.optim.SGD(mine.parameters(), lr=0.5), loss)
    torch.testing.assert_close(mine.weight, wanted)
    assert torch.equal(other.weight, kept) and other.weight.grad is None


# The baseline


def test_one_gaussian_has_the_mean_and_covariance_of_the_pixels():
    x_0 = 0.1 * (normal(500, 4, dtype=torch.float32) @ normal(4, 4, seed=1, dtype=torch.float32)) + 0.2
    mixture = rivals.Mixture(x_0.reshape(500, 1, 2, 2), directions=4, floor=0.0)
    made = mixture.sample(40_000, seeded(2)).flatten(1)
    agree(made, x_0.double().mean(0))
    a, b = made - x_0.mean(0), x_0 - x_0.mean(0)
    agree((a[:, :, None] * a[:, None]).flatten(1), (b.T @ b / 500).double().flatten())


def test_a_mixture_finds_its_parts():
    n, generator = 2000, seeded(3)
    far = torch.rand(n, generator=generator) < 0.25
    x_0 = torch.where(far[:, None], 0.5, -0.5) + 0.05 * torch.randn(n, 3, generator=generator)
    mixture = rivals.Mixture(x_0.reshape(n, 1, 1, 3), parts=2, directions=3, floor=0.0)
    order = mixture.weights.argsort()
    assert mixture.weights[order][0].item() == pytest.approx(far.float().mean().item(), abs=1e-3)
    centres = mixture.parts.mean[order] @ mixture.basis + mixture.mean
    torch.testing.assert_close(centres, torch.tensor([[0.5] * 3, [-0.5] * 3]), atol=0.01, rtol=0)
    spread = mixture.parts.covariance_matrix.diagonal(dim1=1, dim2=2).sqrt()
    torch.testing.assert_close(spread, torch.full((2, 3), 0.05), atol=0.005, rtol=0)
    made = mixture.sample(4000, seeded(4)).flatten(1)
    assert (made.mean(1) > 0).float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_more_parts_give_real_digits_a_larger_likelihood():
    x_0 = data.digits("train")[0][:1000]
    likelihood = []
    for parts in (1, 5, 20):
        mixture = rivals.Mixture(x_0, parts, directions=10)
        y = (x_0.flatten(1) - mixture.mean) @ mixture.basis.T
        likelihood.append((mixture.parts.log_prob(y[:, None]) + mixture.weights.log()).logsumexp(1).mean().item())
    assert likelihood == sorted(likelihood)
    assert mixture.sample(5, seeded()).shape == (5, 1, 28, 28)
