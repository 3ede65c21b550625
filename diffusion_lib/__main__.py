"""The demo: python -m diffusion_lib samples 64 digits from noise and writes a picture and a film."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from . import plots, pretrained, samplers, start, training


def main(arguments: Sequence[str] | None = None) -> None:
    """Sample digits with the shipped weights and write digits.png and film.gif."""
    parser = argparse.ArgumentParser(prog="python -m diffusion_lib", description="Sample 64 digits from noise.")
    parser.add_argument("--folder", type=Path, default=Path("."), help="where digits.png and film.gif go")
    parser.add_argument("--steps", type=int, default=50, help="steps of the sampler")
    parser.add_argument("--scale", type=float, default=2.0, help="guidance scale, 1 for none")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)

    device = start()
    model = pretrained.digits(device)
    label = torch.arange(64, device=device) // 8 % 10
    generator = torch.Generator().manual_seed(options.seed)
    noise = samplers.start_noise(model.schedule, (64, 1, 28, 28), generator, device)
    times = samplers.time_grid(options.steps)
    with training.autocast(device, training.half_precision(device)):
        steps = samplers.ddim(pretrained.guided(model, label, options.scale), model.schedule, noise, times)
        film = [step.x_t for step in tqdm(steps, total=options.steps, desc="64 digits from noise")]

    frames = [plots.tile(x / max(1.0, float(x.abs().max()) / 2), 16) for x in [noise, *film[::-2][::-1]]]
    plots.save_png(options.folder / "digits.png", film[-1], columns=16)
    plots.save_film(options.folder / "film.gif", frames, scale=2)
    print(f"wrote {options.folder / 'digits.png'} and {options.folder / 'film.gif'}")


if __name__ == "__main__":
    main()
