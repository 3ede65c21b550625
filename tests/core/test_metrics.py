"""metrics: the Frechet distance against closed forms, and a judge that knows digits from noise."""

import pytest
import torch

from diffusion_lib import data, metrics, pretrained
from diffusion_lib.metrics import (
    accuracy,
    bootstrap,
    class_histogram,
    copies,
    fidelity,
    frechet_distance,
    jiggle,
    nearest,
    permutation_test,
    report,
    spread_ratio,
    train_classifier,
)
from tests.common import agree, normal, seeded


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


def test_frechet_distance_is_that_of_torchmetrics():
    """An independent implementation: the trace of the root from the eigenvalues of the product."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    a, b = normal(200, 4, 2, 2, seed=2), normal(150, 4, 2, 2, seed=3) * 1.3 + 0.2
    features = torch.nn.Flatten()
    features.num_features = 16
    theirs = FrechetInceptionDistance(feature=features, normalize=True).set_dtype(torch.float64)
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    # torchmetrics adds up in the precision of what it is given
    assert frechet_distance(a.flatten(1), b.flatten(1)) == pytest.approx(float(theirs.compute()), rel=1e-4)


def test_bias_of_the_frechet_distance():
    """n samples of N(0, I) against N(0, I): (D + D (D + 1) / 4) / n to first order (lesson 07)."""
    D, n, runs = 6, 400, 300
    reference = with_moments(torch.zeros(D).double(), torch.eye(D).double(), n=1000)
    distances = torch.tensor([frechet_distance(normal(n, D, seed=100 + i), reference) for i in range(runs)])
    first_order = (D + D * (D + 1) / 4) / n
    assert abs(distances.mean() - first_order) < 4 * distances.std() / runs**0.5 + 0.03 * first_order


def test_fidelity_is_that_of_prdc():
    """The implementation of Naeem et al., authors of density and coverage."""
    from prdc import compute_prdc

    for seed, n, m, k, shift in [(0, 60, 60, 5, 0.0), (1, 80, 50, 3, 0.7), (2, 40, 90, 1, 2.0), (3, 30, 30, 5, 9.0)]:
        real, generated = normal(n, 4, seed=seed), normal(m, 4, seed=seed + 10) + shift
        right = compute_prdc(real.numpy(), generated.numpy(), k)
        got = fidelity(real, generated, k)._asdict()
        assert got == pytest.approx({key: float(value) for key, value in right.items()}, abs=1e-12)


def test_fidelity_of_two_sets_from_one_distribution():
    """density 1 and coverage 1 - (n-1)...(n-k) / ((2n-1)...(2n-k)), about 1 - 2^-k, whatever the distribution."""
    n, k, runs = 100, 3, 60
    results = [fidelity(normal(n, 3, seed=i), normal(n, 3, seed=1000 + i), k) for i in range(runs)]
    missed = 1.0
    for j in range(1, k + 1):
        missed *= (n - j) / (2 * n - j)
    agree(torch.tensor([r.coverage for r in results]), 1 - missed)
    agree(torch.tensor([r.density for r in results]), 1.0)
    assert abs(missed - 2**-k) < 0.01


def test_fidelity_tells_faults_apart():
    """Half of the kinds missing: recall falls. Half of the samples strange: precision falls. By half, both times."""
    left, right = normal(100, 2, seed=1) - 50, normal(100, 2, seed=2) + 50
    real = torch.cat([left, right])
    one_kind = normal(200, 2, seed=3) - 50
    lost = fidelity(real, one_kind)
    assert lost.precision > 0.9 and 0.35 < lost.recall <= 0.5 and 0.35 < lost.coverage <= 0.5
    half_strange = torch.cat([normal(100, 2, seed=4) - 50, normal(100, 2, seed=5) + torch.tensor([0.0, 300.0])])
    strange = fidelity(real, half_strange)
    assert 0.4 < strange.precision <= 0.5 and strange.density < 0.6 and strange.recall > 0.3


def test_fidelity_by_hand():
    """On a line: real 0, 1, 10 with k = 1 have balls of 1, 1, 9; generated 0.5 and 30, balls of 29.5 each."""
    real, generated = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[0.5], [30.0]])
    got = fidelity(real, generated, k=1)
    # 0.5 is in the balls of 0, 1 and... |10 - 0.5| = 9.5 > 9: not of 10. 30 is in none.
    assert got == (0.5, 1.0, 1.0, pytest.approx(2 / 3))


def test_nearest_and_copies():
    training = normal(50, 1, 4, 4, seed=1)
    order = torch.randperm(50, generator=seeded())[:20]
    changed = training[order] + 0.05 * normal(20, 1, 4, 4, seed=2)
    distance, place = nearest(changed, training, k=2)
    assert torch.equal(place[:, 0], order) and (distance[:, 0] < distance[:, 1]).all()
    torch.testing.assert_close(distance[:, 0], (changed - training[order]).flatten(1).norm(dim=1))
    assert copies(changed, training).all()
    fresh = normal(200, 1, 4, 4, seed=3)
    assert not copies(fresh, training).any()
    ratio = torch.stack(nearest(fresh, training, k=2)[:1])[0]
    ratio = ratio[:, 0] / ratio[:, 1]
    for threshold in (0.8, 0.9):
        assert torch.equal(copies(fresh, training, threshold), ratio < threshold)


def test_no_held_out_digit_is_a_copy_and_every_training_digit_is():
    training, held_out = data.digits("train")[0], data.digits("held_out")[0]
    assert not copies(held_out, training).any()
    assert copies(training[:100], training).all()


def test_class_histogram_counts():
    logits = torch.eye(4)[[0, 0, 2, 2, 2]]
    assert class_histogram(lambda x: x, logits).tolist() == [2, 0, 3, 0]
    x_0, label = data.digits("held_out")
    counts = class_histogram(pretrained.classifier(), x_0)
    assert counts.sum() == len(x_0) and (counts - label.bincount()).abs().max() <= 5


def test_bootstrap_of_a_mean_is_its_standard_error():
    """1.96 s / sqrt(n), which is known in closed form."""
    values = normal(400, seed=5) * 3
    found = bootstrap(torch.mean, values, draws=2000)
    half = 1.96 * float(values.std()) / 20
    assert found.value == pytest.approx(float(values.mean()))
    assert found.high - found.value == pytest.approx(half, rel=0.06)
    assert found.value - found.low == pytest.approx(half, rel=0.06)
    assert str(type(found)(0.9712, 0.95, 0.9949)) == "0.97 (0.95 to 0.99)"


def test_bootstrap_keeps_its_promise():
    """19 of 20 intervals hold the true mean: 200 sets, within four standard errors."""
    held = []
    for i in range(200):
        interval = bootstrap(torch.mean, normal(60, seed=i) + 2.0, draws=100, seed=i)
        held.append(interval.low < 2.0 < interval.high)
    agree(torch.tensor(held).double(), 0.95)


def test_bootstrap_within_classes():
    """If the number in each class is fixed, differences between classes are no luck and must not count as such."""
    label = torch.arange(300) % 3
    values = label.double() * 100 + normal(300)
    half = 1.96 * float(torch.stack([values[label == k].var() for k in range(3)]).mean().sqrt()) / 300**0.5
    found = bootstrap(torch.mean, values, draws=1000, label=label)
    assert found.high - found.value == pytest.approx(half, rel=0.1)
    loose = bootstrap(torch.mean, values, draws=1000)
    assert loose.high - loose.value > 20 * half


def difference(a, b):
    return abs(float(a.mean() - b.mean()))


def test_permutation_test_is_honest():
    """If a and b come from one distribution, p <= 0.2 happens in one case of five."""
    ps = [permutation_test(difference, normal(20, seed=i), normal(20, seed=500 + i), 49, seed=i) for i in range(300)]
    agree((torch.tensor(ps) <= 0.2).double(), 0.2)
    assert min(ps) >= 1 / 50 and max(ps) <= 1


def test_permutation_test_agrees_with_scipy():
    from scipy import stats  # torchmetrics and prdc bring it

    a, b = normal(25, seed=1), normal(30, seed=2) + 0.5
    theirs = stats.permutation_test(
        (a.numpy(), b.numpy()),
        lambda x, y: abs(x.mean() - y.mean()),
        n_resamples=20_000,
        alternative="greater",
        rng=0,
    ).pvalue
    assert permutation_test(difference, a, b, draws=4000) == pytest.approx(theirs, abs=0.02)


def test_the_tables_are_those_of_scipy():
    from scipy import stats  # torchmetrics and prdc bring it

    for degrees, (t, f) in enumerate(zip(metrics.STUDENT, metrics.FISHER, strict=True), 1):
        assert t == pytest.approx(stats.t.ppf(0.975, degrees), rel=2e-4)
        assert f == pytest.approx(stats.f.ppf(0.975, degrees, degrees), rel=2e-4)


def test_intervals_over_runs_keep_their_promise():
    """In 95 % of 2,000 experiments the truth lies inside: exactly for a ratio, at least so often for a difference."""
    a, b = 1 + 0.5 * normal(2000, 5, seed=1), 2.0 * normal(2000, 5, seed=2)
    ratios = [spread_ratio(x, y) for x, y in zip(a, b)]
    held = torch.tensor([ratio.low < 0.25 < ratio.high for ratio in ratios]).double()
    agree(held, 0.95)
    for one, other, truth in [(a, b, 1.0), (a, 0.25 * b[:, :3], 1.0), (a[:, :2], b, 1.0)]:
        found = [metrics.difference(x, y) for x, y in zip(one, other)]
        assert torch.tensor([i.low < truth < i.high for i in found]).double().mean() > 0.94
        agree(torch.tensor([i.value for i in found]), truth)
    same = [metrics.difference(x, y) for x, y in zip(a[:1000], a[1000:])]
    assert 0.94 < torch.tensor([i.low < 0 < i.high for i in same]).double().mean() < 0.995  # not much too wide either


def test_a_difference_is_that_of_a_t_test():
    from scipy import stats  # torchmetrics and prdc bring it

    for shift in (0.0, 1.0, 2.0):
        a, b = normal(6, seed=3), normal(6, seed=4) + shift
        found, welch = metrics.difference(a, b), stats.ttest_ind(a, b, equal_var=False)
        assert (found.high - found.value) / 2.571 == pytest.approx(float(found.value / welch.statistic))
        assert welch.pvalue < 0.05 or found.low < 0 < found.high  # where Welch's test sees nothing, nor do we
        assert metrics.difference(b, a).low == pytest.approx(-found.high)
    assert found.high < 0


def test_permutation_within_classes():
    """With equal numbers in each class, free divisions would mix the classes unevenly and hide a real difference."""
    label = torch.arange(100) % 2
    a, b = (label * 20.0 + normal(100, seed=i) + shift for i, shift in [(1, 0.0), (2, 0.7)])
    assert permutation_test(difference, a, b, label=label) < 0.01
    assert permutation_test(difference, a, b) > 0.3


def test_report_of_real_digits_is_good_and_of_copies_is_too():
    """All but one number call a copy machine perfect; that is why the last one is there."""
    judge, (training, _), (held_out, label) = pretrained.classifier(), data.digits("train"), data.digits("held_out")
    real = report(judge, held_out[:300], label[:300], training)
    assert real["n"] == 300 and real["accuracy"].value > 0.98 and real["copies"] == 0
    assert real["frechet"].low < 0.436 < real["frechet"].high and real["precision"] > 0.9 and real["coverage"] > 0.9
    assert real["accuracy"].value == pytest.approx(accuracy(judge, held_out[:300], label[:300]))
    copied = report(judge, training[300:600], data.digits("train")[1][300:600], training)
    assert copied["copies"] == 1 and copied["frechet"].value < 0.5 and copied["precision"] > 0.9


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
    """A floor of real pictures; far above it blurred ones; far above those a single class, and noise."""
    judge = pretrained.classifier()
    real, held_out = judge.features(data.digits("train")[0]), data.digits("held_out")[0]
    floor = frechet_distance(judge.features(held_out), real)
    blurred = torch.nn.functional.avg_pool2d(held_out, 5, 1, 2)
    zeros = held_out[data.digits("held_out")[1] == 0]
    noise = normal(1000, 1, 28, 28, dtype=torch.float32)
    distances = [frechet_distance(judge.features(x), real) for x in (blurred, zeros, noise)]
    assert 10 * floor < distances[0] and 3 * distances[0] < min(distances[1:]), (floor, distances)


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


def test_a_classifier_learns_in_forty_steps_and_leaves_the_random_state_alone():
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
