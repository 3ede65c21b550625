"""guidance: the convention of the scale, the score it stands for, and how often labels are dropped."""

import math

import pytest
import torch

from diffusion_lib.denoisers import Denoiser, exact_dataset, exact_gaussian, exact_mixture
from diffusion_lib.guidance import by_gradient, classifier_free, clip, drop_labels, in_interval, in_one_call, slope
from diffusion_lib.networks import MLP
from diffusion_lib.samplers import ddim, ddpm, last, time_grid
from diffusion_lib.schedules import Betas, Cosine, Linear
from diffusion_lib.targets import V
from tests.common import agree, normal, seeded

CLASS = exact_gaussian(Cosine(), 0.8, 0.2)
ANY = exact_mixture(Cosine(), [0.5, 0.5], [[0.8], [-0.8]], [0.2, 0.2])


def test_scale_zero_is_unconditional_and_one_is_conditional():
    x_t = normal(6, 1)
    torch.testing.assert_close(classifier_free(CLASS, ANY, 0)(x_t, 0.5), ANY(x_t, 0.5))
    torch.testing.assert_close(classifier_free(CLASS, ANY, 1)(x_t, 0.5), CLASS(x_t, 0.5))


def test_guidance_pushes_away_from_the_unconditional_answer():
    x_t = normal(6, 1)
    for scale in (0.5, 2.0, 7.5):
        w = scale - 1  # Ho and Salimans's own scale: (1 + w) conditional - w unconditional
        right = (1 + w) * CLASS(x_t, 0.5) - w * ANY(x_t, 0.5)
        torch.testing.assert_close(classifier_free(CLASS, ANY, scale)(x_t, 0.5), right)


def test_guidance_is_the_score_of_the_sharpened_density():
    """score = (1 - scale) score(p) + scale score(p | class), by autograd, with Tweedie's formula between them."""
    x_t = normal(6, 1).requires_grad_()
    alpha, sigma = float(Cosine().alpha(0.5)), float(Cosine().sigma(0.5))
    width = math.hypot(0.2 * alpha, sigma)

    def log_p(x, centre):
        return -((x - alpha * centre) ** 2) / (2 * width**2)

    conditional = log_p(x_t, 0.8)
    unconditional = torch.logaddexp(log_p(x_t, 0.8), log_p(x_t, -0.8))
    (score,) = torch.autograd.grad((-1.5 * unconditional + 2.5 * conditional).sum(), x_t)
    guided = classifier_free(CLASS, ANY, 2.5)(x_t, 0.5)
    torch.testing.assert_close(guided, (x_t + sigma**2 * score) / alpha, rtol=1e-7, atol=1e-7)


def test_guided_samples_are_of_the_class():
    x = last(ddim(classifier_free(CLASS, ANY, 2.0), Cosine(), normal(200, 1), time_grid(50)))
    assert (x > 0).all()


def test_clip_keeps_estimates_where_the_data_lives():
    def far(x_t, t):
        return 10 * x_t

    x_t = torch.tensor([[-1.0, -0.05, 0.05, 1.0]])
    torch.testing.assert_close(clip(far)(x_t, 0.5), torch.tensor([[-1.0, -0.5, 0.5, 1.0]]))
    torch.testing.assert_close(clip(far, 0.0, 0.2)(x_t, 0.5), torch.tensor([[0.0, 0.0, 0.2, 0.2]]))


def test_a_clipped_sampler_ends_inside():
    denoiser = clip(lambda x_t, t: 3 * x_t)
    assert last(ddim(denoiser, Cosine(), normal(50, 2), time_grid(10))).abs().max() <= 1


def test_labels_are_dropped_as_often_as_asked():
    """Within five standard errors, whatever the class, and each on its own."""
    label = torch.arange(50_000) % 10
    for probability in (0.1, 0.5):
        dropped = drop_labels(label, 10, probability, seeded(1)) == 10
        agree(dropped.double(), probability)
        for k in (0, 9):
            agree(dropped[label == k].double(), probability)
        agree((dropped[:-1] & dropped[1:]).double(), probability**2)


def test_labels_that_stay_are_unchanged():
    label = torch.arange(1000) % 10
    kept = drop_labels(label, 10, 0.3, seeded())
    assert ((kept == label) | (kept == 10)).all() and kept.dtype == label.dtype
    assert torch.equal(label, torch.arange(1000) % 10)
    assert torch.equal(drop_labels(label, 10, 0.0), label)
    assert (drop_labels(label, 10, 1.0) == 10).all()
    assert torch.equal(drop_labels(label, 10, 0.3, seeded(4)), drop_labels(label, 10, 0.3, seeded(4)))


def test_guidance_takes_any_denoiser():
    data = exact_dataset(Cosine(), normal(5, 1))
    x_t = normal(6, 1)
    torch.testing.assert_close(classifier_free(data, data, 3.0)(x_t, 0.5), data(x_t, 0.5))


def test_guidance_holds_in_its_interval_only():
    guided, plain = (lambda x_t, t: x_t + 1), (lambda x_t, t: x_t - 1)
    x_t, both = torch.zeros(2, 3), in_interval(guided, plain, 0.4, 0.7)
    for t, expected in [(0.1, -1), (0.4, 1), (0.7, 1), (torch.tensor(0.70001), -1), (1.0, -1)]:
        assert (both(x_t, t) == expected).all()


# ------------------------------------------------------------------------------------------- by the gradient

OURS = ([0.5, 0.5], [[0.2, 0.5], [0.6, -0.5]], [0.25, 0.25])
EVERYTHING = ([0.25, 0.25, 0.5], [[0.2, 0.5], [0.6, -0.5], [-0.3, 0.4]], [0.25, 0.25, 0.3])


def log_density(schedule, mixture, x, t):
    """log q(x_t) (B,) of a mixture, written out in float64."""
    w, mu, d = (torch.tensor(value, dtype=torch.float64) for value in mixture)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    normals = [
        torch.distributions.Normal(alpha * m, (alpha**2 * s**2 + sigma**2).sqrt()).log_prob(x).sum(1) + p.log()
        for p, m, s in zip(w, mu, d)
    ]
    return torch.stack(normals).logsumexp(0)


def exact_class(schedule):
    """log p(ours | x_t) by Bayes' rule."""
    return lambda x_t, t: (
        math.log(0.5) + log_density(schedule, OURS, x_t, t) - log_density(schedule, EVERYTHING, x_t, t)
    )


@pytest.mark.parametrize("schedule", [Cosine(), Betas.linear(), Linear()], ids=lambda s: type(s).__name__)
def test_an_exact_classifier_makes_the_conditional_denoiser(schedule):
    """Unconditional + gradient at scale 1 = conditional; on top of a conditional one, scale s is guidance of 1 + s."""
    of_ours, of_any = exact_mixture(schedule, *OURS), exact_mixture(schedule, *EVERYTHING)
    x_t = normal(50, 2)
    for t in (0.05, 0.4, 0.95):
        t = torch.tensor(t, dtype=torch.float64)
        with torch.no_grad():  # as samplers run
            steered = by_gradient(of_any, schedule, exact_class(schedule), 1.0)(x_t, t)
            on_top = by_gradient(of_ours, schedule, exact_class(schedule), 2.5)(x_t, t)
        torch.testing.assert_close(steered, of_ours(x_t, t), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(on_top, classifier_free(of_ours, of_any, 3.5)(x_t, t), rtol=1e-8, atol=1e-8)


def test_the_gradient_steers_a_sampler_to_the_class():
    schedule, x_t, times = Cosine(), normal(100, 2), time_grid(30, start=0.99)
    steered = by_gradient(exact_mixture(schedule, *EVERYTHING), schedule, exact_class(schedule), 1.0)
    there = last(ddim(steered, schedule, x_t, times))
    torch.testing.assert_close(there, last(ddim(exact_mixture(schedule, *OURS), schedule, x_t, times)))
    assert not there.requires_grad and not x_t.requires_grad
    within = in_interval(steered, exact_mixture(schedule, *EVERYTHING), 0.0, 0.99)  # so that a run can begin at t = 1
    assert last(ddim(within, schedule, x_t, time_grid(30))).isfinite().all()


def test_each_sample_gets_its_own_slope():
    x = normal(4, 2, 3).requires_grad_()
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    torch.testing.assert_close(slope((x**2).sum((1, 2)) * weights, x), 2 * weights[:, None, None] * x.detach())


def test_a_time_for_each_sample():
    """by_gradient and in_one_call with t (B,) do what they do for each sample alone."""
    schedule, x_t, t = Cosine(), normal(3, 2), torch.tensor([0.2, 0.5, 0.9])
    unconditional = exact_gaussian(schedule, 0.0, 1.0)
    steered = by_gradient(unconditional, schedule, lambda x, t: -((x - 1) ** 2).sum(1) * t, 2.0)
    each = [steered(x_t[k : k + 1], t[k]) for k in range(3)]
    torch.testing.assert_close(steered(x_t, t), torch.cat(each), rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------------------------------- two passes in one call


def labelled_network():
    torch.manual_seed(0)
    network = MLP(features=3, width=16, depth=2, labels=4)
    return Denoiser(network, Cosine(), V).requires_grad_(False)


@pytest.mark.parametrize("t", [0.4, torch.tensor(0.4), torch.tensor([0.1, 0.9, 0.5, 0.3, 0.7])])
@pytest.mark.parametrize("scale", [0, 1, 3.5])
def test_one_call_of_twice_the_batch_equals_two_calls(t, scale):
    model, x_t, label = labelled_network(), normal(5, 3, dtype=torch.float32), torch.tensor([0, 3, 1, 2, 3])
    two = classifier_free(lambda x, t: model(x, t, label=label), model, scale)
    torch.testing.assert_close(in_one_call(model, label, 4, scale)(x_t, t), two(x_t, t), rtol=1e-5, atol=1e-5)


def test_one_call_is_one_call():
    batches = []

    def model(x_t, t, label):
        batches.append((len(x_t), label.tolist(), torch.as_tensor(t).ndim))
        return x_t

    guided = in_one_call(model, torch.tensor([1, 2]), 9, 2.0)
    guided(torch.zeros(2, 1, 4, 4), 0.5)
    assert batches == [(4, [1, 2, 9, 9], 0)]


# ------------------------------------------------------------------------------------------- what is sampled


@pytest.mark.parametrize("scale", [0.7, 2.0, 3.0])
def test_guided_samplers_end_where_the_algebra_says_and_not_at_the_sharpened_density(scale):
    """Centred Gaussians (Bradley and Nakkiran 2024, with any two widths): DDIM s^scale S^(1 - scale), DDPM another."""
    s, S = 0.5, 1.0
    guided = classifier_free(exact_gaussian(Cosine(), 0.0, s), exact_gaussian(Cosine(), 0.0, S), scale)
    sharpened = (scale / s**2 + (1 - scale) / S**2) ** -0.5
    with_ddim = s**scale * S ** (1 - scale)
    size = s ** (4 * scale) * S ** (4 - 4 * scale) / (S**2 - s**2)
    with_ddpm = (size * ((S / s) ** (4 * scale - 2) - 1) / (2 * scale - 1)) ** 0.5
    z = normal(20_000, 1)
    assert float(last(ddim(guided, Cosine(), z, time_grid(300))).std() / z.std()) == pytest.approx(with_ddim, rel=0.02)
    x = last(ddpm(guided, Cosine(), z, time_grid(400), seeded(1)))
    assert float(x.std()) == pytest.approx(with_ddpm, rel=0.04)
    assert abs(with_ddim / sharpened - 1) > 0.05 and abs(with_ddpm / sharpened - 1) > 0.03


@pytest.mark.gpu
def test_labels_on_a_gpu_stay_there():
    label = torch.arange(100, device="cuda") % 10
    dropped = drop_labels(label, 10, 0.3, seeded(1))
    assert dropped.is_cuda and torch.equal(dropped.cpu(), drop_labels(label.cpu(), 10, 0.3, seeded(1)))
