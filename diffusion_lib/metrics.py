"""How good are samples? Measured in the features of a small digit classifier (built in lesson 07).

A distance between two sets of images, and the share of images that show the class they were asked for. The classifier
never sees a generated image in training, and it knows nothing of diffusion.
"""

import torch
import torch.nn.functional as F
from torch import nn


class FeatureNetwork(nn.Module):
    """A small digit classifier whose last hidden layer (64 numbers an image) serves as the features of this course."""

    def __init__(self, labels=10):
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

    def features(self, x):
        """(B, 64) features of images x (B, 1, 28, 28) in [-1, 1], scaled as train_classifier says."""
        if x.ndim != 4 or tuple(x.shape[1:]) != (1, 28, 28):
            raise ValueError(f"x has shape {tuple(x.shape)}; the feature network was made for digits (B, 1, 28, 28).")
        return self.scale * self.body(x)

    def forward(self, x):
        """(B, 10) logits of the classes."""
        return self.head(self.features(x))


def train_classifier(x_0, label, steps=3000, batch_size=100, seed=0, progress=None):
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


def jiggle(x, generator):
    """Images x (B, C, H, W), each turned, stretched and moved a little (about 8 degrees, 8 %, 2 pixels of 28)."""
    change = torch.randn(len(x), 2, 3, generator=generator) * torch.tensor([0.08, 0.14, 0.07])
    change[:, 1, :2] = change[:, 1, :2].flip(1)
    grid = F.affine_grid(torch.eye(2, 3) + change, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


@torch.no_grad()
def accuracy(classifier, x, label):
    """Share of images x (N, 1, 28, 28) in which the classifier sees the class label (N,)."""
    if len(x) != len(label):
        raise ValueError(f"{len(x)} images and {len(label)} labels; expected one label for each image.")
    return float((classifier(x).argmax(1).cpu() == label.cpu()).double().mean())


def frechet_distance(features_a, features_b):
    """Squared distance between two sets of features, each read as one Gaussian (Frechet 1957; Heusel et al. 2017).

    |mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), in float64, with the trace of the root taken from the
    singular values of C_a^(1/2) C_b^(1/2). The scale depends on the features and on the number of samples: print a
    floor beside it.

    Args:
        features_a, features_b: (N, D) and (M, D), N and M larger than D.

    Returns:
        a number >= 0.

    Raises:
        ValueError: too few samples for a covariance, or features of different sizes.
    """
    check_finite(features_a, features_b)
    a, b = features_a.detach().cpu().double(), features_b.detach().cpu().double()
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features have shapes {tuple(a.shape)} and {tuple(b.shape)}; expected (N, D) and (M, D).")
    if min(len(a), len(b)) <= a.shape[1]:
        raise ValueError(f"{min(len(a), len(b))} samples for features of size {a.shape[1]}; a covariance needs more.")
    root_a, root_b = root(a.T.cov()), root(b.T.cov())
    overlap = torch.linalg.svdvals(root_a @ root_b).sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + a.T.cov().trace() + b.T.cov().trace() - 2 * overlap
    return max(0.0, float(distance))


def check_finite(*features):
    """Refuse features with nan or inf: a sampler or a training run has diverged."""
    for values in features:
        if not values.isfinite().all():
            raise ValueError("features hold nan or inf; expected finite numbers: have the samples diverged?")


def root(covariance):
    """The symmetric square root of a covariance (D, D)."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T
