"""metrics: the Frechet distance against closed forms, and a judge that knows digits from noise."""

import pytest
import torch

from diffusion_lib import data, metrics, pretrained
from diffusion_lib.metrics import accuracy, frechet_distance, jiggle, train_classifier

from .conftest import normal, seeded


def with_moments(mean, covariance, n=400, seed=0):
    """n samples whose own mean and covariance are exactly these."""
    D = len(mean)
    z = normal(n, D, seed=seed)
    z = z - z.mean(0)
    z = z @ torch.linalg.inv(torch.linalg.cholesky(z.T.cov())).T
    return mean + z @ torch.linalg.cholesky(covariance).T


def covariance(D, seed):
    A = normal(D, D, seed=seed)
    return A @ A.T + 0.1 * torch.eye(D).double()


def test_frechet_distance_of_known_gaussians():
    """|m_a - m_b|^2 + tr(C_a + C_b) - 2 sum of the roots of the eigenvalues of C_a C_b, which need not commute."""
    for seed in range(3):
        C_a, C_b, m_a, m_b = (
            covariance(5, seed),
            covariance(5, seed + 9),
            normal(5, seed=seed),
            normal(5, seed=seed + 5),
        )
        root = torch.linalg.eigvals(C_a @ C_b).real.sqrt().sum()
        right = float(((m_a - m_b) ** 2).sum() + C_a.trace() + C_b.trace() - 2 * root)
        got = frechet_distance(with_moments(m_a, C_a), with_moments(m_b, C_b, seed=1))
        assert got == pytest.approx(right, rel=1e-8)


def test_frechet_distance_in_one_dimension_and_along_axes():
    """(m_a - m_b)^2 + (s_a - s_b)^2 for each axis, with standard deviations s."""
    zero, s_a, s_b = (
        torch.zeros(3).double(),
        torch.tensor([1.0, 2.0, 0.5]).double(),
        torch.tensor([1.5, 2.0, 3.0]).double(),
    )
    a, b = with_moments(zero, torch.diag(s_a**2)), with_moments(zero + 2, torch.diag(s_b**2), seed=1)
    assert frechet_distance(a, b) == pytest.approx(float(12 + ((s_a - s_b) ** 2).sum()), rel=1e-8)


def test_frechet_distance_is_a_distance_of_sets():
    a, b = normal(300, 6), normal(500, 6, seed=1) * 1.2 + 0.1
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    order = torch.randperm(300, generator=seeded())
    assert frechet_distance(a[order], b) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    rotation, _ = torch.linalg.qr(normal(6, 6, seed=3))
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(frechet_distance(a, b), rel=1e-8)
    assert frechet_distance(a + 3, b + 3) == pytest.approx(frechet_distance(a, b), rel=1e-8)


def test_frechet_distance_survives_features_that_never_fire():
    a, b = normal(100, 4), normal(100, 4, seed=1)
    a[:, 2] = b[:, 2] = 0  # a covariance without an inverse
    kept = [0, 1, 3]
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(a[:, kept], b[:, kept]), rel=1e-6)


def test_accuracy_is_the_share_that_is_right():
    logits = torch.eye(4)
    assert accuracy(lambda x: x, logits, torch.tensor([0, 1, 2, 3])) == 1
    assert accuracy(lambda x: x, logits, torch.tensor([0, 1, 2, 0])) == 0.75
    assert accuracy(lambda x: x, logits, torch.tensor([1, 2, 3, 0])) == 0


def test_the_judge_knows_held_out_digits():
    judge = pretrained.classifier()
    x_0, label = data.digits("held_out")
    assert accuracy(judge, x_0, label) > 0.98
    assert accuracy(judge, x_0, (label + 1) % 10) < 0.01


def distance_of_two(features):
    """Mean squared distance of two different members of a set."""
    squares = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist").double() ** 2
    return float(squares.sum() / (len(features) * (len(features) - 1)))


def test_two_real_digits_are_at_a_squared_distance_of_a_hundred():
    judge = pretrained.classifier()
    features = judge.features(data.digits("train")[0])
    assert features.shape == (4000, 64)
    assert distance_of_two(features[:1000]) == pytest.approx(100, rel=0.02)
    assert judge(data.digits("train")[0][:5]).shape == (5, 10)


def test_worse_pictures_are_farther_away():
    """A floor of real pictures, then blurred ones, one class only, noise: the order that an eye would give."""
    judge = pretrained.classifier()
    real, held_out = judge.features(data.digits("train")[0]), data.digits("held_out")[0]
    floor = frechet_distance(judge.features(held_out), real)
    blurred = torch.nn.functional.avg_pool2d(held_out, 5, 1, 2)
    zeros = held_out[data.digits("held_out")[1] == 0]
    noise = normal(1000, 1, 28, 28, dtype=torch.float32)
    distances = [frechet_distance(judge.features(x), real) for x in (blurred, zeros, noise)]
    assert all(d > 10 * floor for d in distances), (floor, distances)


def test_confidence_alone_is_a_trap():
    """A classifier may be sure of pure noise; the distance is not fooled. That is why a floor is printed beside it."""
    judge = pretrained.classifier()
    noise = normal(300, 1, 28, 28, dtype=torch.float32)
    real = judge.features(data.digits("train")[0])
    floor = frechet_distance(judge.features(data.digits("held_out")[0][:300]), real)
    assert frechet_distance(judge.features(noise), real) > 20 * floor


def test_jiggle_moves_a_picture_a_little():
    x = data.digits("train")[0][:200]
    moved = jiggle(x, seeded())
    assert moved.shape == x.shape and moved.min() >= -1.001 and moved.max() <= 1.001
    assert torch.equal(moved, jiggle(x, seeded())) and not torch.equal(moved, jiggle(x, seeded(1)))
    axis = torch.linspace(-1, 1, 28)
    ink = (x + 1).squeeze(1), (moved + 1).squeeze(1)
    across = [(i * axis).sum((1, 2)) / i.sum((1, 2)) for i in ink]
    shift = (across[1] - across[0]).std() * 13.5  # in pixels
    assert 0.5 < shift < 2.5
    assert (moved - x).flatten(1).abs().mean(1).min() > 0  # every picture moves, each in its own way


def test_a_classifier_learns_in_seconds_and_leaves_the_random_state_alone():
    x_0, label = data.digits("train")
    before = torch.random.get_rng_state()
    judge = train_classifier(x_0, label, steps=40)
    assert torch.equal(before, torch.random.get_rng_state())
    assert accuracy(judge, *data.digits("held_out")) > 0.6
    assert not judge.training
    with torch.no_grad():
        assert distance_of_two(judge.features(x_0[:1000])) == pytest.approx(100, rel=0.02)


def test_training_a_classifier_is_decided_by_its_seed():
    x_0, label = data.digits("train")
    a, b, c = (train_classifier(x_0[:200], label[:200], steps=3, seed=s).head.weight for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.gpu
def test_the_judge_on_a_gpu_agrees():
    x_0, label = data.digits("held_out")
    there = pretrained.classifier("cuda")
    assert accuracy(there, x_0[:200].cuda(), label[:200]) == accuracy(pretrained.classifier(), x_0[:200], label[:200])
    features = there.features(x_0[:200].cuda())
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    assert isinstance(there, metrics.FeatureNetwork)
