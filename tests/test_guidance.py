"""guidance: the convention of the scale, the score it stands for, and how often labels are dropped."""

import math

import pytest
import torch

from diffusion_lib.denoisers import exact_dataset, exact_gaussian, exact_mixture
from diffusion_lib.guidance import classifier_free, clip, drop_labels, limited
from diffusion_lib.samplers import ddim, last, time_grid
from diffusion_lib.schedules import Cosine

from .conftest import agree, normal, seeded

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


def test_limited_guidance_holds_in_its_interval_only():
    guided, plain = (lambda x_t, t: x_t + 1), (lambda x_t, t: x_t - 1)
    x_t, both = torch.zeros(2, 3), limited(guided, plain, 0.4, 0.7)
    for t, expected in [(0.1, -1), (0.4, 1), (0.7, 1), (torch.tensor(0.70001), -1), (1.0, -1)]:
        assert (both(x_t, t) == expected).all()


@pytest.mark.gpu
def test_labels_on_a_gpu_stay_there():
    label = torch.arange(100, device="cuda") % 10
    dropped = drop_labels(label, 10, 0.3, seeded(1))
    assert dropped.is_cuda and torch.equal(dropped.cpu(), drop_labels(label.cpu(), 10, 0.3, seeded(1)))
