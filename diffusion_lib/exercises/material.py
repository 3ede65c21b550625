"""What exercises show: pictures and runs that a lesson hands to the student, right ones beside broken ones.

It says which bug is behind which letter: read it afterwards.
"""

from functools import partial

import torch

from .. import data
from ..denoisers import Denoiser, even_times
from ..forward import add_noise, noise_like
from ..networks import MLP
from ..samplers import ddim, last, start_noise, time_grid
from ..schedules import Betas, Cosine
from ..targets import V
from ..training import make_optimizers, train
from .engine import seeded

# ------------------------------------------------------------------------------------------------- lesson 01

MUSEUM_TIMES = (0.05, 0.3, 0.6, 1.0)


def museum(n=16):
    """The right pictures and those of three bugs: DDPM's forward process on n digits at the times MUSEUM_TIMES.

    Returns:
        dict: "right", "A", "B", "C" -> (4, n, 1, 28, 28), one batch for each time.
    """
    x_0 = data.digits()[0][3 : 3 + n]
    generator = seeded(5)
    schedule, betas = Betas.linear(), torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    pictures = {"right": [], "A": [], "B": [], "C": []}
    for t in MUSEUM_TIMES:
        noise = torch.randn(x_0.shape, generator=generator)
        steps = betas[: round(1000 * t)]
        still = (1 - steps).flip(0).cumprod(0).flip(0) / (1 - steps)  # what the later steps leave of its noise
        alpha_t, noise_scale = float(schedule.alpha(t)), float((steps**2 * still).sum() ** 0.5)
        pictures["right"].append(add_noise(schedule, x_0, noise, t))
        pictures["A"].append(add_noise(schedule, x_0, noise[:1].expand_as(x_0), t))
        pictures["B"].append(alpha_t * x_0 + noise_scale * noise)
        pictures["C"].append(alpha_t * (x_0 + 1) * 127.5 + float(schedule.sigma(t)) * noise)
    return {name: torch.stack(rows) for name, rows in pictures.items()}


# ------------------------------------------------------------------------------------------------- lesson 04

FAULTS = {
    "A": "labels shuffled",
    "B": "time not given",
    "C": "learning rate too high",
    "D": "target made of other noise",
}


def broken_run(letter, steps=300):
    """A short training run on eight Gaussians, with the fault of that letter; any other letter gives a healthy run.

    Returns:
        losses (list), samples (400, 2), and the labels (400,) they were asked to have.
    """
    fault = FAULTS.get(letter, "none")
    generator = seeded(4)
    x_0, label = data.eight_gaussians(4096, generator)
    if fault == "labels shuffled":
        label = label[torch.randperm(len(label), generator=generator)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MLP(features=2, width=64, depth=3, labels=8)
    if fault == "time not given":
        with_time = network.forward
        network.forward = lambda x_t, t, label=None: with_time(x_t, torch.full_like(t, 0.5), label)
    model = Denoiser(network, Cosine(), V)
    optimizers = make_optimizers(model, learning_rate=0.1 if fault == "learning rate too high" else 5e-3, muon_rate=0)

    def loss_fn(model, batch, generator):
        points, asked = batch
        t, noise = even_times(len(points), generator), noise_like(points, generator)
        if fault != "target made of other noise":
            return model.loss(points, t, noise, label=asked)
        x_t = add_noise(model.schedule, points, noise_like(points, generator), t)
        wanted = model.target.mix(points, noise, *model.schedule.scales(t, like=points))
        return ((model.network(x_t, t.float(), label=asked) - wanted) ** 2).mean(1)

    losses = []
    try:
        for progress in train(model, data.Batches(x_0, label, 128), loss_fn, steps, optimizers=optimizers):
            losses.append(progress.loss)
    except FloatingPointError:  # what too high a rate may end in
        pass
    asked = torch.arange(400) % 8
    noise = start_noise(model.schedule, (400, 2), seeded(1))
    return losses, last(ddim(partial(model, label=asked), model.schedule, noise, time_grid(20))), asked
