"""What diffusion is compared with: a variational autoencoder, a generative adversarial network, and something simple.

The VAE decodes an image from a short code and learns by a bound on log p(x). The GAN learns by a game of two networks:
one makes images, the other tells them from real ones. A mixture of Gaussians learns no network at all. Built in lesson
11, which puts them on one bench with diffusion.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

# ---------------------------------------------------------------------------------------------- the VAE


def sample_latent(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A draw from N(mean, variance), written so that gradients reach mean and variance: z = mean + std * noise.

    std = exp(log_variance / 2) (Kingma and Welling 2014, sec. 2.4; Rezende et al. 2014, sec. 3).

    Args:
        mean, log_variance: (B, D).
        noise: (B, D) standard normal.

    Returns:
        z (B, D).
    """
    require_latent(mean, log_variance)
    require_latent(mean, noise, "noise")
    return mean + (log_variance / 2).exp() * noise


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence (B,) of N(mean, variance) from N(0, 1), in nats, summed over the D numbers of the code.

    (mean^2 + variance - log variance - 1) / 2 for each of them (Kingma and Welling 2014, app. B).

    Args:
        mean, log_variance: (B, D).
    """
    require_latent(mean, log_variance)
    return ((mean**2 + log_variance.exp() - log_variance - 1) / 2).sum(1)


class VAE(nn.Module):
    """Digits from codes z of a few numbers that are standard normal (Kingma and Welling 2014; Rezende et al. 2014).

    The encoder says where z may lie for an image, q(z | x) = N(mean, variance); the decoder says which image z stands
    for, p(x | z) = N(decode(z), std^2). The standard deviation of the decoder is one fixed number for all pixels: a
    small one asks for sharp reconstructions, a large one for codes that fill the normal distribution they are drawn
    from. Up to the scale of the loss, std^2 is the beta of Higgins et al. 2017.

    Args:
        latent: numbers in a code.
        width: channels at 14 x 14; twice as many at 7 x 7.
        std: standard deviation of p(x | z) in a pixel, > 0.
        beta: weight of the KL divergence; the loss is a bound on -log p(x) for beta = 1 (and looser above it).
    """

    def __init__(self, latent: int = 12, width: int = 16, std: float = 0.3, beta: float = 1.0):
        require_vae(latent, width, std, beta)
        super().__init__()
        self.latent, self.std, self.beta = latent, std, beta
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1),  # (B, width, 14, 14)
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),  # (B, 2 * width, 7, 7)
            nn.GroupNorm(8, 2 * width),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 7 * 7, 2 * latent),  # mean and log-variance
        )
        self.decoder = image_decoder(latent, width)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, (B, latent) each, of the codes that may stand for images x (B, 1, 28, 28)."""
        return self.encoder(x).chunk(2, dim=1)

    def decode(self, z: Tensor) -> Tensor:
        """The mean image (B, 1, 28, 28) of codes z (B, latent)."""
        return self.decoder(z)

    def loss(self, x_0: Tensor, noise: Tensor) -> Tensor:
        """The negative ELBO (B,) in nats an image: -log p(x_0 | z) + beta * KL(q(z | x_0) from N(0, 1)).

        For beta = 1 its mean over the noise is never below -log p(x_0) (Kingma and Welling 2014, eqs. 2 and 3).

        Args:
            x_0: (B, 1, 28, 28) images.
            noise: (B, latent) standard normal, for z.
        """
        mean, log_variance = self.encode(x_0)
        z = sample_latent(mean, log_variance, noise)
        error = ((x_0 - self.decode(z)) / self.std) ** 2
        surprise = (error / 2 + math.log(self.std * math.sqrt(2 * math.pi))).flatten(1).sum(1)  # -log p(x_0 | z)
        return surprise + self.beta * kl(mean, log_variance)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n images (n, 1, 28, 28): the means of p(x | z) for codes z from N(0, 1).

        An honest draw from p(x | z) would add noise of standard deviation `std` to every pixel; all the world shows
        the means.
        """
        return self.decode(normal_codes(n, self.latent, self, generator))


# ---------------------------------------------------------------------------------------------- the GAN


class GAN(nn.Module):
    """A generator that makes images from noise, and a discriminator that tells them from real ones (Goodfellow et al.
    2014).

    Convolutions with a stride, leaky ReLU in the discriminator and tanh at the end, as in DCGAN (Radford et al. 2016).
    Its batch normalisation is left out: group normalisation in the generator does not mix the images of a batch, and
    goes with averaged weights.

    Args:
        latent: numbers in the noise of an image.
        width: channels of both networks at 14 x 14; twice as many at 7 x 7.
        penalty: weight of the R1 penalty (`r1`), at least 0.
        spectral: divide every weight of the discriminator by its largest singular value (Miyato et al. 2018).
    """

    def __init__(self, latent: int = 32, width: int = 16, penalty: float = 1.0, spectral: bool = False):
        require_gan(latent, width, penalty)
        super().__init__()
        self.latent, self.penalty = latent, penalty
        self.generator = image_decoder(latent, width)
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1),  # (B, width, 14, 14)
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),  # (B, 2 * width, 7, 7)
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * 7 * 7, 1),  # a logit: large for "real"
        )
        if spectral:
            for layer in self.discriminator:
                if hasattr(layer, "weight"):
                    spectral_norm(layer)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n images (n, 1, 28, 28): one call of the generator."""
        return self.generator(normal_codes(n, self.latent, self, generator))


def discriminator_loss(real_logit: Tensor, fake_logit: Tensor) -> Tensor:
    """Cross-entropy of "real" for real images and "fake" for made ones, the sum of two means, in nats.

    -log D(x) - log(1 - D(G(z))) with D = sigmoid(logit) (Goodfellow et al. 2014, eq. 1, with its sign turned). A
    discriminator that sees no difference scores 2 log 2 = 1.386.

    Args:
        real_logit, fake_logit: (B, ...).
    """
    return F.softplus(-real_logit).mean() + F.softplus(fake_logit).mean()


def generator_loss(fake_logit: Tensor) -> Tensor:
    """The non-saturating loss, -log D(G(z)): its slope is largest where the discriminator is sure (Goodfellow et al.
    2014, sec. 3).

    Args:
        fake_logit: (B, ...).
    """
    return F.softplus(-fake_logit).mean()


def r1(real_logit: Tensor, x_0: Tensor) -> Tensor:
    """Half the mean squared slope of the discriminator at real images, which keeps the game from swinging (Mescheder et
    al. 2018, eq. 9).

    Args:
        real_logit: (B, ...) what the discriminator says of x_0.
        x_0: (B, ...) real images, with requires_grad.
    """
    require_slope(x_0)
    (slope,) = torch.autograd.grad(real_logit.sum(), x_0, create_graph=True)
    return slope.flatten(1).square().sum(1).mean() / 2


def gan_step(
    gan: GAN, optimizers: Sequence[torch.optim.Optimizer], x_0: Tensor, generator: torch.Generator | None = None
) -> dict[str, float]:
    """One move of each player: first the discriminator on real and made images, then the generator.

    Args:
        gan: a GAN.
        optimizers: two of them, of the generator and of the discriminator, in this order.
        x_0: (B, 1, 28, 28) real images.
        generator: torch.Generator or None, for the noise.

    Returns:
        {"generator": its loss, "discriminator": its loss without the penalty}, before the move.
    """
    fake = gan.generator(normal_codes(len(x_0), gan.latent, gan, generator))
    x_0 = x_0.detach().requires_grad_(gan.penalty > 0)
    real_logit = gan.discriminator(x_0)
    contest = discriminator_loss(real_logit, gan.discriminator(fake.detach()))
    penalty = gan.penalty * r1(real_logit, x_0) if gan.penalty > 0 else 0.0
    descend(optimizers[1], contest + penalty)

    persuade = generator_loss(gan.discriminator(fake))
    descend(optimizers[0], persuade)
    return {"generator": persuade.item(), "discriminator": contest.item()}


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """A step of the optimiser down this loss. Gradients of its own parameters only: the other player's stay as they
    are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for p, slope in zip(parameters, torch.autograd.grad(loss, parameters)):
        p.grad = slope
    optimizer.step()


# ------------------------------------------------------------------------------------- for both, and a baseline


def image_decoder(latent: int, width: int) -> nn.Sequential:
    """From codes (B, latent) to images (B, 1, 28, 28) in [-1, 1]: the decoder of the VAE, the generator of the GAN."""
    return nn.Sequential(
        nn.Linear(latent, 2 * width * 7 * 7),
        nn.Unflatten(1, (2 * width, 7, 7)),
        nn.GroupNorm(8, 2 * width),
        nn.SiLU(),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        nn.GroupNorm(8, 2 * width),
        nn.SiLU(),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),  # (B, width, 14, 14)
        nn.GroupNorm(8, width),
        nn.SiLU(),
        nn.ConvTranspose2d(width, 16, 4, stride=2, padding=1),  # (B, 16, 28, 28)
        nn.GroupNorm(8, 16),
        nn.SiLU(),
        nn.Conv2d(16, 1, 3, padding=1),
        nn.Tanh(),
    )


def normal_codes(n: int, latent: int, model: nn.Module, generator: torch.Generator | None = None) -> Tensor:
    """n standard normal codes (n, latent), drawn on the CPU, on the device of the model."""
    require_number("n", n)
    return torch.randn(n, latent, generator=generator).to(next(model.parameters()).device)


class Mixture:
    """Something simple: Gaussians in the main directions of the pixels, fitted by expectation and maximisation.

    One part is "all digits are one Gaussian"; thirty parts are thirty kinds of digit. No network, no gradient
    (Dempster et al. 1977; Bishop 2006, sec. 9.2.2).

    Args:
        x_0: (N, 1, 28, 28) training images.
        parts: number of Gaussians.
        directions: how many principal components are kept; the rest of a picture is set to its mean.
        rounds: of expectation and maximisation.
        floor: variance added to every direction, so that no part shrinks to a point.
        seed: decides where the parts begin.
    """

    def __init__(
        self, x_0: Tensor, parts: int = 1, directions: int = 50, rounds: int = 20, floor: float = 0.05, seed: int = 0
    ):
        require_components(x_0, parts, directions)
        self.shape, pixels = x_0.shape[1:], x_0.flatten(1)
        self.mean = pixels.mean(0)
        self.basis = torch.linalg.svd(pixels - self.mean, full_matrices=False).Vh[:directions]
        y = (pixels - self.mean) @ self.basis.T  # (N, directions)
        start = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))[:parts]
        share = F.one_hot(torch.cdist(y, y[start]).argmin(1), parts).float()  # (N, parts): whose is each image?
        for _ in range(rounds if parts > 1 else 1):
            weights = share.sum(0) + 1e-6  # (parts,)
            means = share.T @ y / weights[:, None]
            apart = y[:, None] - means  # (N, parts, directions)
            covariances = torch.einsum("nk,nkd,nke->kde", share, apart, apart) / weights[:, None, None]
            covariances = covariances + floor * torch.eye(directions, device=y.device)
            self.parts = torch.distributions.MultivariateNormal(means, covariances)
            self.weights = weights / weights.sum()
            share = (self.parts.log_prob(y[:, None]) + self.weights.log()).softmax(1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n images (n, 1, 28, 28), kept in [-1, 1]."""
        require_number("n", n)
        k = torch.multinomial(self.weights.cpu(), n, replacement=True, generator=generator).to(self.weights.device)
        noise = torch.randn(n, len(self.basis), 1, generator=generator).to(self.mean)
        y = self.parts.mean[k] + (self.parts.scale_tril[k] @ noise)[..., 0]
        return (self.mean + y @ self.basis).clamp(-1, 1).reshape(n, *self.shape)


def require_latent(mean, other, name="log_variance"):
    """Refuse a mean that is not (B, D), and a log-variance or noise of another shape."""
    if mean.ndim != 2 or mean.shape != other.shape:
        raise ValueError(f"mean is {tuple(mean.shape)} and {name} {tuple(other.shape)}; expected (B, D) for both.")


def require_number(name, value):
    """Refuse what is no number of things."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1.")


def require_width(width):
    """Refuse a number of channels that eight groups do not divide."""
    require_number("width", width)
    if width % 8:
        raise ValueError(f"width is {width}; expected a multiple of 8, the number of groups that are normalised.")


def require_vae(latent, width, std, beta):
    """Refuse a VAE that cannot be."""
    require_number("latent", latent)
    require_width(width)
    if not 0 < std < math.inf:
        raise ValueError(f"std is {std}; expected a standard deviation of the decoder, a positive number.")
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta is {beta}; expected the weight of the KL divergence, at least 0 (1 for the ELBO).")


def require_gan(latent, width, penalty):
    """Refuse a GAN that cannot be."""
    require_number("latent", latent)
    require_width(width)
    if not 0 <= penalty < math.inf:
        raise ValueError(f"penalty is {penalty}; expected the weight of the R1 penalty, at least 0 (0 for none).")


def require_slope(x_0):
    """Refuse images that no slope can be taken at."""
    if not x_0.requires_grad:
        raise ValueError("x_0 has no gradient; call x_0.requires_grad_() before the discriminator looks at it.")


def require_components(x_0, parts, directions):
    """Refuse more parts than images, or more directions than pixels."""
    require_number("parts", parts)
    require_number("directions", directions)
    if parts > len(x_0) or directions > min(len(x_0), x_0[0].numel()):
        raise ValueError(
            f"{parts} parts and {directions} directions for {len(x_0)} images of {x_0[0].numel()} pixels; "
            "expected fewer of both."
        )
