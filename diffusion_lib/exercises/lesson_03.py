"""The exercises of lesson 03: time as waves, a block that listens, the first loss, eight images, parameters."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

from ..networks import ResBlock, count_parameters
from ..schedules import Cosine, Linear
from .engine import Exercise, Wrong, ask, ask_tensor, compare, normal, uniform


def fresh_generator():
    """A torch.Generator that draws other numbers at every check."""
    generator = torch.Generator()
    generator.seed()
    return generator


# 03.1


def waves(t, dim, speed=1000, last=10_000, count=None):
    """cosines and sines (B, dim / 2) each, of all frequencies."""
    half = dim // 2
    k = torch.arange(half, dtype=torch.float64)
    angles = speed * t[:, None] * torch.exp(-math.log(last) * k / (count or half))
    return angles.cos(), angles.sin()


def embedding(t, dim):
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half) / half)
    angles = 1000 * t[:, None] * frequencies[None, :]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def test_embedding(answer):
    generator = fresh_generator()
    for B, dim in [(5, 16), (3, 10), (8, 16), (1, 4)]:
        t = uniform(generator, B, low=0.05, high=0.95)
        got = ask_tensor(answer, t, dim)
        half = dim // 2
        if tuple(got.shape) != (B, dim) and tuple(got.shape) in [(half, 2 * B), (dim, B)]:
            return (
                f"For {B} times and dim = {dim} the result has shape {tuple(got.shape)}, expected {(B, dim)}: "
                "are rows and columns swapped? A row belongs to a time, a column to a wave."
            )
        if tuple(got.shape) != (B, dim):
            return f"For {B} times and dim = {dim} the result has shape {tuple(got.shape)}; expected {(B, dim)}."
        cosines, sines = waves(t, dim)
        swapped = torch.cat([cosines.T, sines.T], 1).reshape(B, dim)
        slips = {
            "Right shape, wrong places: are rows and columns swapped (and reshaped)? A row belongs to a time, a column "
            "to a wave.": swapped,
            "Your fastest wave turns by less than one radian between t = 0 and t = 1: DDPM counts a thousand steps "
            "there. Is a factor missing?": torch.cat(waves(t, dim, speed=1), 1),
            "At t = 0 the first half of a row should be ones, and yours is zeros: are cosines and sines in the other "
            "order?": torch.cat([sines, cosines], 1),
            "Your cosines and sines alternate along a row; here all cosines come first.": torch.stack(
                [cosines, sines], 2
            ).flatten(1),
            "Your slowest wave has exactly the frequency 1/10000. Some published code does that; by what is k divided "
            "in this lesson?": torch.cat(waves(t, dim, count=max(half - 1, 1)), 1),
            "Your slowest wave is near 1/100, not 1/10000: how many frequencies are there?": torch.cat(
                waves(t, dim, count=dim), 1
            ),
            "Every row is that of the first time: is t[0] used for all of them?": torch.cat(
                waves(t[:1].expand(B), dim), 1
            ),
        }
        symptom = compare(got, torch.cat([cosines, sines], 1), slips, "the embedding", tolerance=2e-3)
        if symptom:
            return symptom
    return None


def embedding_swapped(t, dim):
    frequencies = torch.exp(-math.log(10_000) * torch.arange(dim // 2) / (dim // 2))
    angles = 1000 * t[None, :] * frequencies[:, None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def embedding_unscaled(t, dim):
    return embedding(t / 1000, dim)


def embedding_sines_first(t, dim):
    cosines, sines = embedding(t, dim).chunk(2, dim=1)
    return torch.cat([sines, cosines], dim=1)


def embedding_alternating(t, dim):
    return torch.stack(embedding(t, dim).chunk(2, dim=1), dim=2).flatten(1)


# 03.2


def block(x, condition, conv_1, film, conv_2):
    h = conv_1(F.silu(x))
    scale, shift = film(condition)[:, :, None, None].chunk(2, dim=1)
    return x + conv_2(F.silu(h * (1 + scale) + shift))


def test_block(answer):
    generator = fresh_generator()
    for B, C, H, W, D in [(3, 6, 6, 6, 5), (2, 4, 7, 5, 9), (4, 8, 5, 6, 3)]:
        conv_1, conv_2 = (nn.Conv2d(C, C, 3, padding=1, dtype=torch.float64) for _ in range(2))
        film = nn.Linear(D, 2 * C, dtype=torch.float64)
        x, condition = normal(generator, B, C, H, W), 2 * normal(generator, B, D)
        try:
            got = ask_tensor(answer, x, condition, conv_1, film, conv_2, shape=x.shape)
        except Wrong as wrong:
            if "size of tensor" in str(wrong):
                raise Wrong(f"{wrong} Which shape must scale have to multiply (B, C, H, W)?") from wrong
            raise
        again = ask_tensor(answer, x, condition.flip(0) + 1, conv_1, film, conv_2)
        if torch.allclose(got, again):
            return "Two different conditions give the same output: where does the time get in?"
        h = conv_1(F.silu(x))
        scale, shift = film(condition)[:, :, None, None].chunk(2, dim=1)
        first_scale, first_shift = scale[:1], shift[:1]
        branch = conv_2(F.silu(h * (1 + scale) + shift))
        slips = {
            "The branch is right, but the input does not come through beside it: where is the shortcut?": branch,
            "Where the film layer gives zeros, your branch forgets h altogether: what should a scale of 0 do?": x
            + conv_2(F.silu(h * scale + shift)),
            "Scale and shift seem to have changed places: which half of film(condition) is which?": x
            + conv_2(F.silu(h * (1 + shift) + scale)),
            "Every sample gets the scale and shift of the first: each has its own time.": x
            + conv_2(F.silu(h * (1 + first_scale) + first_shift)),
            "Something is missing in front of the second convolution: two linear maps in a row are one.": x
            + conv_2(h * (1 + scale) + shift),
            "The first convolution sees x as it is: is an activation missing in front of it?": x
            + conv_2(F.silu(conv_1(x) * (1 + scale) + shift)),
        }
        if C == W:
            along_w, down_w = (v.reshape(B, 1, 1, C) for v in (scale, shift))
            along_h, down_h = (v.reshape(B, 1, C, 1) for v in (scale, shift))
            words = "of the image instead of over its channels: which axis is C?"
            slips[f"Your scale runs along the width {words}"] = x + conv_2(F.silu(h * (1 + along_w) + down_w))
            slips[f"Your scale runs along the height {words}"] = x + conv_2(F.silu(h * (1 + along_h) + down_h))
        symptom = compare(got, x + branch, slips, "the block's output", tolerance=1e-6)
        if symptom:
            return symptom
    return None


def block_deaf(x, condition, conv_1, film, conv_2):
    return x + conv_2(F.silu(conv_1(F.silu(x))))


def block_without_shortcut(x, condition, conv_1, film, conv_2):
    return block(x, condition, conv_1, film, conv_2) - x


def block_scale_alone(x, condition, conv_1, film, conv_2):
    scale, shift = film(condition)[:, :, None, None].chunk(2, dim=1)
    return x + conv_2(F.silu(conv_1(F.silu(x)) * scale + shift))


def block_along_width(x, condition, conv_1, film, conv_2):
    scale, shift = film(condition)[:, None, None, :].chunk(2, dim=3)
    return x + conv_2(F.silu(conv_1(F.silu(x)) * (1 + scale) + shift))


def block_first_time(x, condition, conv_1, film, conv_2):
    return block(x, condition[:1], conv_1, film, conv_2)


# 03.3


def first_loss(schedule, x_0, t):
    alpha_t, sigma_t = schedule.alpha(t), schedule.sigma(t)
    return alpha_t**2 + sigma_t**2 * (x_0**2).flatten(1).mean(1)


def test_first_loss(answer):
    generator = fresh_generator()
    for schedule, shape in [(Cosine(), (4, 1, 6, 6)), (Linear(), (3, 2, 5, 4)), (Cosine(), (5, 7))]:
        B = shape[0]
        one = (B, *[1] * (len(shape) - 1))
        mean, std = uniform(generator, *one, low=-0.9, high=-0.3), uniform(generator, *one, low=0.2)
        x_0 = mean + std * normal(generator, *shape)
        t = uniform(generator, B, low=0.15, high=0.85)
        got = ask_tensor(answer, schedule, x_0, t)
        alpha_t, sigma_t = schedule.alpha(t), schedule.sigma(t)
        square, flat = (x_0**2).flatten(1).mean(1), x_0.flatten(1)
        right = alpha_t**2 + sigma_t**2 * square
        if got.shape == ():
            same = torch.allclose(got.double(), right.mean())
            return "You give one number for the whole batch; every image has its own t, so " + (
                "give its own loss to each: over which axes is the mean?" if same else f"({B},) losses are expected."
            )
        if tuple(got.shape) != (B,):
            return f"For x_0 {tuple(x_0.shape)} and t ({B},) the result has shape {tuple(got.shape)}; expected ({B},)."
        slips = {
            "This mixes standard deviations and squares: alpha_t and sigma_t are scales, and a squared error adds up "
            "variances.": alpha_t + sigma_t * square,
            "Which scale goes with the noise in v, and which with x_0? In yours they have changed places.": sigma_t**2
            + alpha_t**2 * square,
            "You took the variance of the pixels; a loss is a mean of squares, and a digit's mean is not 0.": alpha_t**2
            + sigma_t**2 * flat.var(1, unbiased=False),
            "You took the variance of the pixels; a loss is a mean of squares, and their mean is not 0.": alpha_t**2
            + sigma_t**2 * flat.var(1),
            "That is the first loss of a network that predicts the noise. What is v?": torch.ones_like(right),
            "That is the first loss of a network that predicts x_0. What is v?": square,
            "That is the first loss of a network that predicts the flow, noise - x_0. What is v?": 1 + square,
            "x_0 enters without being squared.": alpha_t**2 + sigma_t**2 * flat.mean(1),
            "The pixels are added up; the loss is their mean.": (alpha_t**2 + sigma_t**2 * square) * flat.shape[1],
        }
        symptom = compare(got, right, slips, "the first loss", tolerance=1e-5)
        if symptom:
            return symptom
    return None


def first_loss_scales(schedule, x_0, t):
    return schedule.alpha(t) + schedule.sigma(t) * (x_0**2).flatten(1).mean(1)


def first_loss_swapped(schedule, x_0, t):
    return schedule.sigma(t) ** 2 + schedule.alpha(t) ** 2 * (x_0**2).flatten(1).mean(1)


def first_loss_variance(schedule, x_0, t):
    return schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2 * x_0.flatten(1).var(1)


def first_loss_of_noise(schedule, x_0, t):
    return torch.ones_like(t)


def first_loss_of_batch(schedule, x_0, t):
    return first_loss(schedule, x_0, t).mean()


# 03.4


def overfit(network, optimizer, x_t, t, target, steps):
    losses = []
    for _ in range(steps):
        loss = ((network(x_t, t) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


class Line(nn.Module):
    """weight * x_t + slope * t + bias: a network whose course under gradient descent can be worked out."""

    def __init__(self):
        super().__init__()
        start = torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64)
        self.weight, self.slope, self.bias = (nn.Parameter(value.clone()) for value in start)

    def forward(self, x_t, t):
        return self.weight * x_t + self.slope * t.reshape(-1, *[1] * (x_t.ndim - 1)) + self.bias


def course(network, rate, x_t, t, target, steps, loss=lambda error: (error**2).mean(), keep=False):
    """Losses before each of `steps` steps of gradient descent, and after the last; keep=True adds up the gradients."""
    network, losses = copy.deepcopy(network), []
    total = [torch.zeros_like(p) for p in network.parameters()]
    for _ in range(steps + 1):
        value = loss(network(x_t, t) - target)
        losses.append(value.item())
        gradients = torch.autograd.grad(value, list(network.parameters()), allow_unused=True)
        with torch.no_grad():
            for p, g, old in zip(network.parameters(), gradients, total):
                g = torch.zeros_like(p) if g is None else g
                old.mul_(float(keep)).add_(g)
                p.sub_(rate * old)
    return losses


def test_overfit(answer):
    generator = fresh_generator()
    for B, steps, rate in [(8, 6, 0.05), (5, 9, 0.08)]:
        x_t, t = normal(generator, B, 1, 3, 4), uniform(generator, B, low=0.1, high=0.9)
        target = 1.5 * x_t - 2 * t.reshape(-1, 1, 1, 1) + normal(generator, B, 1, 3, 4)
        start = Line()
        network = copy.deepcopy(start)
        given = ask(answer, network, torch.optim.SGD(network.parameters(), lr=rate), x_t, t, target, steps)
        if not isinstance(given, list | tuple) or len(given) != steps:
            many = f"{len(given)} of them" if isinstance(given, list | tuple) else f"a {type(given).__name__}"
            return f"A list of {steps} losses is expected for steps = {steps}, and this is {many}."
        if any(isinstance(loss, torch.Tensor) and loss.requires_grad for loss in given):
            return (
                "Your losses are tensors that still hold on to the computation behind them, so memory grows with every "
                "step: what turns a tensor with one number into that number?"
            )
        got = torch.tensor([float(loss) for loss in given], dtype=torch.float64)

        def expected(first=0, t=t, network=start, x_t=x_t, target=target, steps=steps, rate=rate, **options):
            return torch.tensor(course(network, rate, x_t, t, target, steps, **options)[first : first + steps])

        if steps > 1 and float((got - got[0]).abs().max()) < 1e-12:
            return "The loss never changes: does the optimiser step, and is there still a gradient when it does?"
        slips = {
            "The first steps fit, then the loss runs away from the expected course, as if every step also walked all "
            "earlier gradients again: what empties them?": expected(keep=True),
            "Your first loss is already the one after a step: record it before the weights change.": expected(first=1),
            "The losses are too large by the number of values: is it a sum instead of a mean?": expected(
                loss=lambda error: (error**2).sum()
            ),
            "The network seems to be told t = 0 for every image.": expected(t=torch.zeros_like(t)),
            "Errors are not squared: absolute values instead?": expected(loss=lambda error: error.abs().mean()),
        }
        symptom = compare(got, expected(), slips, "the list of losses", tolerance=1e-6)
        if symptom:
            return symptom
        if abs(network.weight.item() - trained_weight(start, rate, x_t, t, target, steps)) > 1e-6:
            return f"The losses are right, but after {steps} steps the network is not where they should bring it."
    return None


def trained_weight(network, rate, x_t, t, target, steps):
    """The weight of a Line after so many steps."""
    network = copy.deepcopy(network)
    overfit(network, torch.optim.SGD(network.parameters(), lr=rate), x_t, t, target, steps)
    return network.weight.item()


def overfit_adding_up(network, optimizer, x_t, t, target, steps):
    losses = []
    for _ in range(steps):
        loss = ((network(x_t, t) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def overfit_standing_still(network, optimizer, x_t, t, target, steps):
    losses = []
    for _ in range(steps):
        loss = ((network(x_t, t) - target) ** 2).mean()
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        losses.append(loss.item())
    return losses


def overfit_sum(network, optimizer, x_t, t, target, steps):
    losses = []
    for _ in range(steps):
        loss = ((network(x_t, t) - target) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def overfit_without_time(network, optimizer, x_t, t, target, steps):
    return overfit(lambda x, time: network(x, 0 * time), optimizer, x_t, t, target, steps)


def overfit_holding_on(network, optimizer, x_t, t, target, steps):
    losses = []
    for _ in range(steps):
        loss = ((network(x_t, t) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss)
    return losses


# 03.5


def block_parameters(channels_in, channels_out, condition_dim):
    norms = 2 * channels_in + 2 * channels_out
    convolutions = 9 * channels_in * channels_out + channels_out + 9 * channels_out**2 + channels_out
    film = condition_dim * 2 * channels_out + 2 * channels_out
    shortcut = channels_in * channels_out + channels_out if channels_in != channels_out else 0
    return norms + convolutions + film + shortcut


def test_block_parameters(answer):
    for a, b, d in [(64, 32, 128), (16, 16, 128), (8, 24, 10), (40, 40, 7), (48, 8, 33)]:
        got = ask(answer, a, b, d)
        right = count_parameters(ResBlock(a, b, d))
        one_by_one = a * b + b
        slips = {
            "A bias is missing: every convolution and every linear layer has one for each output.": right
            - (2 * b + 2 * b + (b if a != b else 0)),
            "The two normalisations learn something too: a scale and a shift for each channel.": right - 2 * a - 2 * b,
            "The condition gives two numbers for each channel, and you count one.": right - (d * b + b),
            "There is a layer on the way around the block when the channels change.": right - one_by_one * (a != b),
            "Where the channels stay the same, the way around the block is free.": right + one_by_one * (a == b),
            "A window of 3 x 3 has more than 3 weights.": right - 6 * a * b - 6 * b * b,
            "Both convolutions seem to start from channels_in: what does the second one receive?": right
            - 9 * b * b
            + 9 * a * b,
        }
        symptom = compare(got, right, slips, f"the number for ({a}, {b}, {d})", tolerance=1e-9)
        if symptom:
            return symptom
    return None


def block_parameters_without_biases(channels_in, channels_out, condition_dim):
    a, b = channels_in, channels_out
    return 2 * a + 2 * b + 9 * a * b + 9 * b * b + 2 * b * condition_dim + (a * b if a != b else 0)


def block_parameters_without_norms(channels_in, channels_out, condition_dim):
    return block_parameters(channels_in, channels_out, condition_dim) - 2 * channels_in - 2 * channels_out


def block_parameters_shift_alone(channels_in, channels_out, condition_dim):
    return block_parameters(channels_in, channels_out, condition_dim) - (condition_dim + 1) * channels_out


def block_parameters_without_shortcut(channels_in, channels_out, condition_dim):
    a, b = channels_in, channels_out
    return block_parameters(a, b, condition_dim) - (a * b + b if a != b else 0)


def block_parameters_always_shortcut(channels_in, channels_out, condition_dim):
    a, b = channels_in, channels_out
    return block_parameters(a, b, condition_dim) + (a * b + b if a == b else 0)


EXERCISES = {
    "03.1": Exercise(
        test=test_embedding,
        solution=embedding,
        mistakes={
            "rows and columns swapped": (embedding_swapped, "rows and columns swapped"),
            "swapped, then reshaped": (
                lambda t, dim: embedding_swapped(t, dim).reshape(len(t), dim),
                "swapped (and reshaped)",
            ),
            "t not scaled": (embedding_unscaled, "less than one radian"),
            "sines first": (embedding_sines_first, "other order"),
            "alternating": (embedding_alternating, "alternate"),
        },
        remark="Worth knowing: the product of two embeddings depends on the difference of their times alone.",
    ),
    "03.2": Exercise(
        test=test_block,
        solution=block,
        mistakes={
            "condition not used": (block_deaf, "does the time get in"),
            "no shortcut": (block_without_shortcut, "shortcut"),
            "scale instead of 1 + scale": (block_scale_alone, "forgets h"),
            "scale along the width": (block_along_width, "along the width"),
            "one time for all": (block_first_time, "of the first"),
        },
        remark="Worth knowing: with 1 + scale a film layer that gives zeros changes nothing: a gentle way to begin.",
    ),
    "03.3": Exercise(
        test=test_first_loss,
        solution=first_loss,
        mistakes={
            "scales for variances": (first_loss_scales, "variances"),
            "alpha and sigma swapped": (first_loss_swapped, "changed places"),
            "variance for mean square": (first_loss_variance, "mean of squares"),
            "loss of a noise prediction": (first_loss_of_noise, "predicts the noise"),
            "one number for the batch": (first_loss_of_batch, "whole batch"),
        },
        remark="Worth knowing: a first loss far from this is a fault in data, target or schedule, found at once.",
    ),
    "03.4": Exercise(
        test=test_overfit,
        solution=overfit,
        mistakes={
            "gradients never emptied": (overfit_adding_up, "earlier gradients"),
            "gradients emptied too late": (overfit_standing_still, "never changes"),
            "sum for mean": (overfit_sum, "sum instead of a mean"),
            "time not given": (overfit_without_time, "t = 0"),
            "losses keep their graph": (overfit_holding_on, "memory grows"),
        },
        remark="Worth knowing: with fresh noise in every step the loop could not reach zero; the loss has a floor.",
    ),
    "03.5": Exercise(
        test=test_block_parameters,
        solution=block_parameters,
        mistakes={
            "no biases": (block_parameters_without_biases, "bias"),
            "no normalisation": (block_parameters_without_norms, "normalisations"),
            "shift without scale": (block_parameters_shift_alone, "two numbers for each channel"),
            "no shortcut": (block_parameters_without_shortcut, "way around"),
            "shortcut always": (block_parameters_always_shortcut, "free"),
        },
        remark="Worth knowing: the number does not depend on the size of the image; the work does.",
    ),
}
