"""Cost and quality of diffusion in pixels and in latents (lesson 09)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from .. import data, guidance, metrics, pretrained
from ..costs import multiply_adds
from ..networks import Autoencoder
from .common import fidelity_and_distance, in_turn

SEEDS = (0, 1, 2)


@torch.no_grad()
def measure_latent(
    device: torch.device,
    seeds: Sequence[int],
    progress: Callable,
    n: int = 300,
    steps: int = 20,
    batch_size: int = 64,
    repeats: int = 15,
) -> dict:
    """Diffusion in pixels and in latents: size and cost of a call, cost of decoding, quality of n plain samples.

    "reconstructed" are real digits that were encoded and decoded: what the best model of latents could reach.
    Times are the shortest of several, taken in turn, as other work on the machine only ever makes them longer.
    """
    judge, encoder = pretrained.classifier(), pretrained.autoencoder(device)
    models = {
        "pixels": (pretrained.digits(device), (1, 28, 28)),
        "latent": (pretrained.latent_digits(device), (4, 7, 7)),
    }
    real, label = judge.features(data.digits("train")[0]), torch.arange(n, device=device) % 10
    held_out, truth = (values[:n] for values in data.digits("held_out"))
    cost = cost_of_parts(models, encoder, label, device, batch_size, repeats)
    rows = []
    for name, (model, shape) in models.items():
        plain = partial(model, label=label)
        denoiser = guidance.clip(plain) if name == "pixels" else plain  # latents have no range to be kept in
        for seed in seeds:
            x = pretrained.sample(denoiser, model.schedule, (n, *shape), device, steps, eta=0, seed=seed)
            x = (encoder.decode(x).clamp(-1, 1) if name == "latent" else x).cpu()
            row = {"model": name, "seed": seed, "accuracy": round(metrics.accuracy(judge, x, label.cpu()), 4)}
            rows.append(row | fidelity_and_distance(real, judge.features(x)))
            progress(str(rows[-1]))
    again = encoder.decode(encoder.encode(held_out.to(device))).clamp(-1, 1).cpu()
    floor = fidelity_and_distance(real, judge.features(held_out))
    return {
        "n": n,
        "sampler": f"ddim, {steps} steps, eta 0",
        "batch_size": batch_size,
        "cost": cost,
        "floor": floor["frechet"],
        "real": floor,
        "reconstructed": fidelity_and_distance(real, judge.features(again))
        | {"accuracy": round(metrics.accuracy(judge, again, truth), 4)}
        | {"squared_error": round(float(((again - held_out) ** 2).mean()), 4)},
        "rows": rows,
    }


def cost_of_parts(
    models: dict, encoder: Autoencoder, label: Tensor, device: torch.device, batch_size: int, repeats: int
) -> dict[str, dict]:
    """What the two models, decoding and encoding cost: multiply-adds for one image, seconds for a batch, parameters."""

    def call(name, batch):
        model, shape = models[name]
        return partial(model, torch.zeros(batch, *shape, device=device), torch.tensor(0.5), label=label[:batch])

    parts = {name: partial(call, name) for name in models}
    parts["decode"] = lambda batch: partial(encoder.decode, torch.zeros(batch, 4, 7, 7, device=device))
    parts["encode"] = lambda batch: partial(encoder.encode, torch.zeros(batch, 1, 28, 28, device=device))
    seconds = in_turn({name: make(batch_size) for name, make in parts.items()}, device, repeats)
    cost = {
        name: {"multiply_adds": multiply_adds(make(1)), "seconds": round(seconds[name], 5)}
        for name, make in parts.items()
    }
    for name, (model, shape) in models.items():
        cost[name] |= {"parameters": all_parameters(model), "numbers_an_image": shape[0] * shape[1] * shape[2]}
    cost["decode"]["parameters"], cost["encode"]["parameters"] = map(all_parameters, (encoder.decoder, encoder.encoder))
    return cost


def all_parameters(module: nn.Module) -> int:
    """How many numbers a module holds as parameters, frozen ones too."""
    return sum(p.numel() for p in module.parameters())
