"""The command: python -m diffusion_lib.experiments NAME."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from pathlib import Path

from .. import measured
from ..training import best_device
from . import (
    calls,
    dots,
    guidance,
    headline,
    latent,
    memory,
    minority,
    minute,
    overhead,
    race,
    resolution,
    text,
    weights,
)

PACKAGE = Path(str(resources.files("diffusion_lib")))
MEASUREMENTS = {  # name of the results: (its file, function (device, seeds, progress) -> results)
    "headline": (headline, headline.measure_headline),
    "minute": (minute, minute.measure_minute),
    "calls": (calls, calls.measure_calls),
    "guidance": (guidance, guidance.measure_guidance),
    "latent": (latent, latent.measure_latent),
    "text": (text, text.measure_text),
    "memory": (memory, memory.measure_memory),
    "dots": (dots, dots.measure_dots),
    "minority": (minority, minority.measure_minority),
    "resolution": (resolution, resolution.measure_resolution),
    "overhead": (overhead, overhead.measure_overhead),
}
RACES = {  # name of the results: (what it is, function (folder, device, seeds, seconds) -> results, its seeds, seconds)
    "bench_tuning": ("The settings of lesson 11's bench: 18 trials of the GAN, 20 of the VAE, 7 of diffusion.",
                     race.tune, (race.TUNING_SEED,), race.TUNING_SECONDS),
    "bench": ("Diffusion, a GAN and a VAE, five seeds, equal seconds or images: an hour of one core (lesson 11).",
              race.run_bench, race.SEEDS, race.SECONDS),
    "bench_long": ("Three times the seconds for one seed: who is still getting better? (lesson 11)",
                   race.run_long_bench, race.LONG_SEEDS, race.LONG_SECONDS),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Make committed results or weights again; without a name, say which there are."""
    parser = argparse.ArgumentParser(prog="python -m diffusion_lib.experiments", description=main.__doc__)
    names = parser.add_subparsers(dest="name", metavar="NAME")
    for name, (module, function) in MEASUREMENTS.items():
        command = experiment(names, name, module.__doc__, run=partial(measure, name, function))
        seeds_option(command, module.SEEDS)
    for name, (what, function, seeds, seconds) in RACES.items():
        command = experiment(names, name, what, run=partial(take_part, function))
        command.add_argument("--seconds", type=float, default=seconds, help=f"of one core, for each run ({seconds})")
        if name != "bench_tuning":  # the seed of the trials is not used again, and theirs is no other
            seeds_option(command, seeds)
    command = experiment(names, "weights", weights.__doc__, run=retrain, folder="weights")
    command.add_argument("model", choices=list(weights.shipped()))
    command.add_argument("--steps", type=int, help="a shorter run, for a try")
    command.add_argument("--checkpoint", type=Path, help="file to save the run in, and to go on from after a stop")
    options = parser.parse_args(arguments)
    if options.name is None:
        for name, command in names.choices.items():
            print(f"{name:<13} {command.description}")
        return
    options.run(options)


def experiment(names, name: str, text: str, run: Callable, folder: str = "assets/measured") -> argparse.ArgumentParser:
    """The options that every experiment has; more can be added to what comes back."""
    what = text.split("\n")[0]
    command = names.add_parser(name, help=what, description=what)
    command.add_argument("--folder", type=Path, default=PACKAGE / folder, help="where the results go")
    command.set_defaults(run=run, refuse=command.error)
    return command


def seeds_option(command: argparse.ArgumentParser, seeds: Sequence[int]) -> None:
    """Seeds as a list of numbers."""
    usual = " ".join(map(str, seeds))
    command.add_argument("--seeds", type=int, nargs="+", default=list(seeds), help=f"which seeds ({usual})")


def measure(name: str, function: Callable, options: argparse.Namespace) -> None:
    """Measure once, and write the results with their circumstances, and pictures if there are any."""
    device, begin = best_device(), time.perf_counter()
    results = function(device, options.seeds, partial(print, flush=True))
    results = measured.circumstances(device) | {"took_seconds": round(time.perf_counter() - begin)} | results
    path = options.folder / f"{name}.json"
    if pictures := results.pop("pictures", None):
        measured.write_pictures(path.with_suffix(".npz"), pictures)
    measured.write(path, results)
    print(f"wrote {path}")


def take_part(function: Callable, options: argparse.Namespace) -> None:
    """Run what the file in the folder lacks of one of the races; each run is written when it ends."""
    seeds = {"seeds": options.seeds} if "seeds" in options else {}
    try:
        results = function(options.folder, best_device(), **seeds, seconds=options.seconds)
    except ValueError as error:
        options.refuse(str(error))
    print(f"{len(results['rows'])} runs in {options.folder}")
    if not seeds:
        print(json.dumps(race.best(results)))


def retrain(options: argparse.Namespace) -> None:
    """Train one of the shipped models again, and write weights and card."""
    weights.write_weights(options.folder, *weights.make_weights(options.model, options.steps, options.checkpoint))


if __name__ == "__main__":
    main()
