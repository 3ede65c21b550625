"""How good are samples? Measured in the features of a small digit classifier (built in lesson 07).

A distance between two sets of images; whether the samples are like real ones and whether all kinds of real ones are
among them; whether they are copies; and how much of each number is luck. The classifier never sees a generated image in
training, and nothing here knows of diffusion.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FeatureNetwork(nn.Module):
    """A small digit classifier whose last hidden layer (64 numbers an image) serves as the features of this course."""

    def __init__(self, labels: int = 10):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.ReLU(),  # (B, 16, 14, 14)
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),  # (B, 32, 7, 7)
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, labels)
        self.register_buffer("scale", torch.tensor(1.0))  # see train_classifier

    def features(self, x: Tensor) -> Tensor:
        """(B, 64) features of images x (B, 1, 28, 28) in [-1, 1], scaled as train_classifier says."""
        require_digits(x)
        return self.scale * self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 10) logits of the classes."""
        require_digits(x)
        return self.head(self.body(x))


def train_classifier(
    x_0: Tensor,
    label: Tensor,
    steps: int = 3000,
    batch_size: int = 100,
    seed: int = 0,
    progress: Callable | None = None,
) -> FeatureNetwork:
    """A FeatureNetwork trained on digits that are moved, turned and stretched a little.

    Its features are scaled so that two random real digits are at a squared distance of 100 on average: a Frechet
    distance of 1 is one per cent of that.

    Args:
        x_0: (N, 1, 28, 28) in [-1, 1].
        label: (N,) classes.
        steps, batch_size, seed: the length of the run, and what decides its randomness.
        progress: wrapper for the loop, such as tqdm, or None.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FeatureNetwork()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    decay = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    for _ in (progress or iter)(range(steps)):
        pick = torch.randint(len(x_0), (batch_size,), generator=generator)
        moved = jiggle(x_0[pick], generator)
        loss = F.cross_entropy(model(moved), label[pick], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    with torch.no_grad():
        model.scale *= 10 / (2 * model.features(x_0).var(0).sum()).sqrt()
    return model.eval()


def jiggle(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images x (B, C, H, W), each turned, stretched and moved a little (about 8 degrees, 8 %, 2 pixels of 28)."""
    change = torch.randn(len(x), 2, 3, generator=generator) * torch.tensor([0.08, 0.14, 0.07])
    change[:, 1, :2] = change[:, 1, :2].flip(1)
    grid = F.affine_grid(torch.eye(2, 3) + change, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


@torch.no_grad()
def accuracy(classifier: nn.Module, x: Tensor, label: Tensor) -> float:
    """Share of images x (N, 1, 28, 28) in which the classifier sees the class label (N,)."""
    require_same_number(x, label)
    return float((classifier(x).argmax(1).cpu() == label.cpu()).double().mean())


@torch.no_grad()
def class_histogram(classifier: nn.Module, x: Tensor) -> Tensor:
    """How many of the images x (N, 1, 28, 28) the classifier takes for each class: (labels,) whole numbers."""
    logits = classifier(x)
    return logits.argmax(1).bincount(minlength=logits.shape[1]).cpu()


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Squared distance between two sets of features, each read as one Gaussian (Frechet 1957; Heusel et al. 2017).

    |mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), in float64, with the trace of the root taken from the
    singular values of C_a^(1/2) C_b^(1/2). The scale depends on the features and on the number of samples: print a
    floor beside it.

    Args:
        features_a, features_b: (N, D) and (M, D), N and M larger than D.

    Returns:
        a number >= 0.

    Raises:
        ValueError: too few samples for a covariance, features of different sizes, nan or inf.
    """
    require_features(features_a, features_b)
    require_enough(features_a, features_b)
    a, b = features_a.detach().cpu().double(), features_b.detach().cpu().double()
    C_a, C_b = a.T.cov(), b.T.cov()
    overlap = torch.linalg.svdvals(root(C_a) @ root(C_b)).sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + C_a.trace() + C_b.trace() - 2 * overlap
    return max(0.0, float(distance))


def root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a covariance (D, D)."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


class Fidelity(NamedTuple):
    """Are samples like real ones (precision, density), and is every kind of real one among them (recall, coverage)?"""

    precision: float
    recall: float
    density: float
    coverage: float


def fidelity(real: Tensor, generated: Tensor, k: int = 5) -> Fidelity:
    """Four numbers from balls around samples, each as large as the way to the k-th neighbour of its own set.

    precision: share of generated samples inside a ball of a real one; recall: share of real samples inside a ball of a
    generated one (Kynkaanniemi et al. 2019, eq. 2). density: how many balls of real samples a generated one is inside
    of, over k; coverage: share of real balls that hold a generated sample (Naeem et al. 2020, eq. 3 and 4). Two large
    sets of equal size from one distribution have density 1 and coverage 1 - 2^(-k) on average.

    Args:
        real, generated: (N, D) and (M, D) features; take N = M, since all four depend on both.
        k: which neighbour, at least 1.

    Returns:
        Fidelity(precision, recall, density, coverage); shares in [0, 1], and density at least 0.

    Raises:
        ValueError: fewer than k + 1 samples, features of different sizes, nan or inf.
    """
    require_features(real, generated)
    require_neighbours(real, generated, k)
    real, generated = real.detach().cpu().double(), generated.detach().cpu().double()
    distance = torch.cdist(real, generated)  # (N, M)
    in_real = distance < reach(real, k)[:, None]  # generated sample j is inside the ball of real sample i
    in_generated = distance < reach(generated, k)  # and the other way round
    return Fidelity(
        precision=float(in_real.any(0).double().mean()),
        recall=float(in_generated.any(1).double().mean()),
        density=float(in_real.double().sum(0).mean() / k),
        coverage=float(in_real.any(1).double().mean()),
    )


def reach(features: Tensor, k: int) -> Tensor:
    """(N,) distance of each of the features (N, D) to its k-th nearest neighbour in the set, itself not counted."""
    return torch.cdist(features, features).kthvalue(k + 1, dim=1).values


def nearest(x: Tensor, training: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """The nearest training images, pixel by pixel.

    Args:
        x: (B, ...) samples.
        training: (N, ...) what they may be copies of.
        k: how many.

    Returns:
        distance (B, k), place in training (B, k), the nearest first.
    """
    require_alike(x, training, k)
    a, b = x.detach().cpu().flatten(1).double(), training.detach().cpu().flatten(1).double()
    return torch.cdist(a, b).topk(k, dim=1, largest=False)


def copies(x: Tensor, training: Tensor, threshold: float = 0.5) -> Tensor:
    """Which samples are copies: far nearer to one training image than to any other (after Yoon et al. 2023).

    A sample counts as a copy if the way to its nearest training image is less than `threshold` times the way to the
    second nearest. Of the course's held-out digits none does. A copy that was moved or changed escapes (lesson 07).

    Args:
        x: (B, ...) samples.
        training: (N, ...) the training set.
        threshold: in (0, 1].

    Returns:
        (B,) bool.
    """
    require_threshold(threshold)
    distance, _ = nearest(x, training, k=2)
    return distance[:, 0] < threshold * distance[:, 1]


class Interval(NamedTuple):
    """A measured value and the ends of its 95 % interval; prints as `0.97 (0.95 to 0.99)`."""

    value: float
    low: float
    high: float

    def __str__(self):
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def bootstrap(
    measure: Callable, samples: Tensor, draws: int = 200, seed: int = 0, label: Tensor | None = None
) -> Interval:
    """How far a measured value may be off by the luck of these samples: value +- 1.96 standard deviations.

    The standard deviation is that of the measure over sets drawn from `samples` with replacement (Efron 1979). Its
    spread is used and not its percentiles: drawn sets hold samples twice, which moves a Frechet distance up.

    Args:
        measure: function (N, ...) -> a number.
        samples: (N, ...) what is measured: features, or 0 and 1 for wrong and right.
        draws: how many sets are drawn.
        seed: decides the draws.
        label: (N,) if the samples were made with so many of each class: they are drawn within their class then.

    Returns:
        Interval(value, low, high).
    """
    require_draws(samples, draws)
    groups = by_class(label, len(samples))
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(draws):
        picks = [group[torch.randint(len(group), (len(group),), generator=generator)] for group in groups]
        values.append(float(measure(samples[torch.cat(picks)])))
    value, spread = float(measure(samples)), float(torch.tensor(values).std())
    return Interval(value, value - 1.96 * spread, value + 1.96 * spread)


def permutation_test(
    measure: Callable, a: Tensor, b: Tensor, draws: int = 200, seed: int = 0, label: Tensor | None = None
) -> float:
    """The p-value of "a and b come from one distribution": how often chance makes two sets that differ as much.

    (1 + number of random divisions of all samples with measure >= that of a and b) / (1 + draws) (Phipson and Smyth
    2010, eq. 2).

    Args:
        measure: function of two sets that grows with their difference.
        a, b: (N, ...) and (M, ...).
        draws: how many random divisions.
        seed: decides them.
        label: (N,) classes of both a and b, if both were made class by class; samples change sides within a class then.

    Returns:
        a number in (0, 1]; small if a and b differ.
    """
    pool = torch.cat([a, b])
    require_draws(pool, draws)
    if label is not None:
        require_same_number(a, label)
        require_same_number(b, label)
        label = torch.cat([label, label])
    groups = by_class(label, len(pool))
    generator = torch.Generator().manual_seed(seed)
    observed, as_large = measure(a, b), 0
    for _ in range(draws):
        order = torch.empty(len(pool), dtype=torch.int64)
        for group in groups:
            order[group] = group[torch.randperm(len(group), generator=generator)]
        as_large += measure(pool[order[: len(a)]], pool[order[len(a) :]]) >= observed
    return float(1 + as_large) / (1 + draws)


# 97.5 % of the t distribution lie below these, and 97.5 % of the F distribution with equal degrees of freedom: for 2 to
# 10 values, that is 1 to 9 degrees.
STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]
FISHER = [647.79, 39.0, 15.439, 9.605, 7.146, 5.82, 4.995, 4.433, 4.026]


def difference(a: Tensor | Sequence[float], b: Tensor | Sequence[float]) -> Interval:
    """mean(a) - mean(b) of a few runs each, with its 95 % interval (Student 1908; Welch 1947).

    The interval is +- t sqrt(var(a) / n_a + var(b) / n_b), with the t of the smaller set: a little too wide rather than
    too narrow. If it holds 0, these runs do not say which of the two is larger.

    Args:
        a, b: (n,) values, one for each seed, 2 to 10 of them.

    Returns:
        Interval(value, low, high).

    >>> print(difference([5.0, 6.0, 7.0], [1.0, 2.0, 3.0]))
    4.00 (0.49 to 7.51)
    """
    require_runs(a, b)
    a, b = (torch.as_tensor(values, dtype=torch.float64) for values in (a, b))
    t = STUDENT[min(len(a), len(b)) - 2]
    value = float(a.mean() - b.mean())
    half = t * float(a.var() / len(a) + b.var() / len(b)) ** 0.5
    return Interval(value, value - half, value + half)


def spread_ratio(a: Tensor | Sequence[float], b: Tensor | Sequence[float]) -> Interval:
    """Standard deviation of a over that of b, with its 95 % interval, if the runs are normal (Snedecor 1934).

    The squared ratio, divided by the true one, follows the F distribution. If the interval holds 1, these runs do not
    say which of the two spreads more; with five runs each that takes a ratio of 3.1.

    Args:
        a, b: (n,) values, one for each seed, equally many, 2 to 10 of them.

    Returns:
        Interval(value, low, high).
    """
    require_runs(a, b)
    require_as_many(a, b)
    a, b = (torch.as_tensor(values, dtype=torch.float64) for values in (a, b))
    value, factor = float(a.std() / b.std()), FISHER[len(a) - 2] ** 0.5
    return Interval(value, value / factor, value * factor)


def by_class(label: Tensor | None, n: int) -> list[Tensor]:
    """The places of each class, a list of index tensors; one list with all n places if label is None."""
    if label is None:
        return [torch.arange(n)]
    require_same_number(range(n), label)
    label = label.cpu()
    return [torch.where(label == k)[0] for k in label.unique()]


def report(classifier: nn.Module, x: Tensor, label: Tensor, training: Tensor, k: int = 5) -> dict:
    """What this course says of a set of samples, all with the same n.

    Args:
        classifier: a FeatureNetwork.
        x: (N, 1, 28, 28) samples.
        label: (N,) the classes that were asked for.
        training: (M, 1, 28, 28) real images, M at least N, in an order in which the first N are a fair choice.
        k: neighbours for precision and the rest.

    Returns:
        dict with n; accuracy and frechet (Intervals); precision, recall, density, coverage; copies (a share).
    """
    require_same_number(x, label)
    x, label = x.cpu(), label.cpu()
    with torch.no_grad():
        features, real = classifier.features(x), classifier.features(training)
        right = (classifier(x).argmax(1) == label).double()
    return {
        "n": len(x),
        "accuracy": bootstrap(torch.mean, right, label=label),
        "frechet": bootstrap(lambda some: frechet_distance(some, real), features, label=label),
        **fidelity(real[: len(x)], features, k)._asdict(),
        "copies": float(copies(x, training).double().mean()),
    }


def require_digits(x):
    """Refuse what is no batch of digits."""
    if x.ndim != 4 or tuple(x.shape[1:]) != (1, 28, 28):
        raise ValueError(f"x has shape {tuple(x.shape)}; the feature network was made for digits (B, 1, 28, 28).")


def require_same_number(x, label):
    """Refuse labels that are not one for each image."""
    if len(x) != len(label):
        raise ValueError(f"{len(x)} images and {len(label)} labels; expected one label for each image.")


def require_features(a, b):
    """Refuse what are no two sets of features of one size, and nan or inf: a sampler or a training run has diverged."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features have shapes {tuple(a.shape)} and {tuple(b.shape)}; expected (N, D) and (M, D).")
    for values in (a, b):
        if not values.isfinite().all():
            raise ValueError("features hold nan or inf; expected finite numbers: have the samples diverged?")


def require_enough(a, b):
    """Refuse too few samples for a covariance."""
    if min(len(a), len(b)) <= a.shape[1]:
        raise ValueError(f"{min(len(a), len(b))} samples for features of size {a.shape[1]}; a covariance needs more.")


def require_neighbours(real, generated, k):
    """Refuse a k-th neighbour that does not exist."""
    if k < 1 or min(len(real), len(generated)) <= k:
        raise ValueError(f"k is {k} with {len(real)} and {len(generated)} samples; expected 1 <= k < both numbers.")


def require_alike(x, training, k):
    """Refuse samples of another shape than the training images, and more neighbours than there are images."""
    if x.shape[1:] != training.shape[1:]:
        raise ValueError(
            f"samples are {tuple(x.shape[1:])} and training images {tuple(training.shape[1:])}; expected the same."
        )
    if not 1 <= k <= len(training):
        raise ValueError(f"k is {k} with {len(training)} training images; expected 1 <= k <= that number.")


def require_threshold(threshold):
    """Refuse a threshold that no ratio of nearest to second nearest can be compared with."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}; expected a number in (0, 1], the nearest over the second nearest.")


def require_draws(samples, draws):
    """Refuse fewer than two samples or draws: they have no spread."""
    if len(samples) < 2 or draws < 2:
        raise ValueError(f"{len(samples)} samples and {draws} draws; expected at least two of each.")


def require_runs(a, b):
    """Refuse sets of runs that are too few for a spread or more than the tables hold, and what did not come out."""
    for values in (a, b):
        if not 2 <= len(values) <= len(STUDENT) + 1:
            raise ValueError(f"{len(values)} runs; expected 2 to {len(STUDENT) + 1} of each, one value for each seed.")
        if not torch.as_tensor(values, dtype=torch.float64).isfinite().all():
            raise ValueError("runs hold nan or inf; expected finite numbers: count the runs that failed.")


def require_as_many(a, b):
    """Refuse sets of runs of different sizes."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} runs; expected as many of the one as of the other.")
