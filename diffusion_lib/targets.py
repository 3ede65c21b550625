"""What a network is trained to predict (built in lesson 02).

Noise, x_0, v or the flow's velocity: each is a * x_0 + b * noise with its own a and b. Together with
x_t = alpha_t * x_0 + sigma_t * noise that makes two linear equations in two unknowns, so that any of them gives all
the others.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Target:
    """target = a * x_0 + b * noise, with (a, b) = weights(alpha_t, sigma_t).

    Args:
        name: for messages and figures.
        weights: function (alpha_t, sigma_t) -> (a, b).

    >>> import torch
    >>> alpha_t, sigma_t = torch.tensor(0.6), torch.tensor(0.8)
    >>> v = V.mix(torch.tensor(1.0), torch.tensor(-1.0), alpha_t, sigma_t)
    >>> round(float(V.recover_x_0(v, 0.6 * 1.0 + 0.8 * -1.0, alpha_t, sigma_t)), 6)
    1.0
    """

    name: str
    weights: Callable[[Tensor, Tensor], tuple]

    def mix(self, x_0: Tensor, noise: Tensor, alpha_t: Tensor | float, sigma_t: Tensor | float) -> Tensor:
        """The target (B, ...) for these x_0 and noise (B, ...)."""
        a, b = self.weights(alpha_t, sigma_t)
        return a * x_0 + b * noise

    def recover_x_0(self, output: Tensor, x_t: Tensor, alpha_t: Tensor | float, sigma_t: Tensor | float) -> Tensor:
        """x_0 (B, ...) from a network's output and x_t (B, ...): Cramer's rule for the two equations."""
        a, b = self.weights(alpha_t, sigma_t)
        return (b * x_t - sigma_t * output) / (b * alpha_t - a * sigma_t)

    def recover_noise(self, output: Tensor, x_t: Tensor, alpha_t: Tensor | float, sigma_t: Tensor | float) -> Tensor:
        """The noise (B, ...) from a network's output and x_t (B, ...), by the same rule."""
        a, b = self.weights(alpha_t, sigma_t)
        return (alpha_t * output - a * x_t) / (b * alpha_t - a * sigma_t)

    def determinant(self, alpha_t: Tensor | float, sigma_t: Tensor | float) -> Tensor | float:
        """b * alpha_t - a * sigma_t: where it is 0, the output says nothing about x_0 or noise."""
        a, b = self.weights(alpha_t, sigma_t)
        return b * alpha_t - a * sigma_t


NOISE = Target("noise", lambda alpha_t, sigma_t: (0.0, 1.0))  # Ho et al. 2020
X_0 = Target("x_0", lambda alpha_t, sigma_t: (1.0, 0.0))
V = Target("v", lambda alpha_t, sigma_t: (-sigma_t, alpha_t))  # Salimans and Ho 2022, app. D
FLOW = Target("flow", lambda alpha_t, sigma_t: (-1.0, 1.0))  # Lipman et al. 2023: noise - x_0


def edm(data_std: float = 0.5) -> Target:
    """The preconditioned target of EDM: x_0 = c_skip * x_t + c_out * output (Karras et al. 2022, table 1).

    Args:
        data_std: standard deviation of the data, > 0.
    """
    require_data_std(data_std)

    def weights(alpha_t, sigma_t):
        variance = (alpha_t * data_std) ** 2 + sigma_t**2
        c_skip, c_out = alpha_t * data_std**2 / variance, sigma_t * data_std / variance**0.5
        return (1 - c_skip * alpha_t) / c_out, -c_skip * sigma_t / c_out

    return Target("edm", weights)


def require_data_std(data_std):
    """Refuse a standard deviation that is not positive."""
    if not data_std > 0:
        raise ValueError(f"data_std is {data_std}; expected the standard deviation of your data, a positive number.")
