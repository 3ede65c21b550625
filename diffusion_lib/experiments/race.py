"""The long comparison of lesson 11: grids of settings, the race of five seeds, and who is still getting better.

Each method's settings are the best of a grid, at a seed that is not used again. All three write after every run and go
on where they were stopped.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .. import data, rivals
from ..costs import multiply_adds
from ..measured import circumstances, read, write, write_pictures
from ..networks import count_parameters
from . import bench

SECONDS = 180  # of one core: the budget of equal seconds; that of equal images is what diffusion sees in them
SEEDS = (0, 1, 2, 3, 4)
TUNING_SEED, TUNING_SECONDS = 100, 30
GRIDS = {  # every combination is tried once; later grids of each go on where the best so far lay at an edge
    "diffusion": (
        {"rate": (1e-3, 2e-3, 4e-3), "times": ("even", "middle")},
        {"rate": (8e-3,), "times": ("middle",)},
    ),
    "gan": (
        {"rate": (5e-4, 2e-3), "beta_1": (0.0, 0.5), "remedy": ("R1 of 0.1", "R1 of 1", "spectral")},
        {"rate": (5e-3, 1e-2), "beta_1": (0.0,), "remedy": ("R1 of 0.1", "R1 of 1", "spectral")},
    ),
    "vae": (
        {"rate": (1e-3, 2e-3, 4e-3), "std": (0.1, 0.2, 0.3, 0.5)},
        {"rate": (8e-3,), "std": (0.5, 0.8)},
        {"rate": (4e-3,), "std": (0.8,)},
        {"rate": (8e-3, 1.6e-2), "std": (1.2,)},
        {"rate": (1.6e-2,), "std": (0.8,)},
        {"rate": (8e-3,), "std": (1.6, 2.4)},
    ),
}
LONG_SECONDS, LONG_SEEDS = 540, (0,)
CURVE_SEEDS, CURVE_POINTS, CURVE_N, CURVE_SAMPLER = (0, 1), 8, 500, ("dpm_solver", 10)
SWEEP_SEEDS, SWEEP_N = (0, 1, 2), 500
SWEEP = (
    *(("ddim", calls) for calls in (5, 10, 20, 50)),
    *(("dpm_solver", calls) for calls in (5, 10, 20)),
    ("ddpm", 100),
)
BASELINES = {"gaussian": {"parts": 1}, "mixture": {"parts": 30}}  # settings of rivals.Mixture


def trial(
    name: str,
    setting: dict,
    device: torch.device | None = None,
    seed: int = TUNING_SEED,
    seconds: float = TUNING_SECONDS,
) -> dict:
    """One trial of a grid: train for some seconds, judge CURVE_N samples."""
    model = bench.new_contestant(name, seed, setting).to(device or torch.device("cpu"))
    row = train_and_time(name, model, seed, setting, seconds=seconds)
    x = images_after(row, name, model, CURVE_N, seed, *CURVE_SAMPLER)
    return {"method": name, "setting": setting, "seed": seed} | row | bench.judge(x)


def images_after(row: dict, name: str, model: nn.Module, n: int, seed: int, *way) -> Tensor:
    """Samples, or images of nan after a run that diverged: whatever its weights still draw does not count."""
    if row["diverged"]:
        return torch.full((n, 1, 28, 28), torch.nan)
    return bench.sample_contestant(name, model, n, seed, *way)


def train_and_time(
    name: str,
    model: nn.Module,
    seed: int,
    setting: dict | None = None,
    seconds: float | None = None,
    images: float | None = None,
    look: Callable | None = None,
) -> dict:
    """Train to the end of the budget and leave the averaged weights in the model; `look` sees every BenchStep.

    Returns:
        dict with steps, images, seconds of one core, wall seconds, losses (means of the last tenth), parameters,
        and "diverged": whether the losses ceased to be numbers.
    """
    begin, ema, history, diverged = time.perf_counter(), bench.ema_of(name, model), [], False
    looking = 0.0
    try:
        for progress in bench.train_contestant(name, model, seed, seconds, images, setting, ema):
            history.append(progress)
            pause = time.perf_counter()
            if look is not None:
                look(progress, ema)
            looking += time.perf_counter() - pause
    except FloatingPointError:
        diverged = True
    ema.swap()
    end = history[-max(1, len(history) // 10) :]
    losses = {key: round(float(np.mean([p.losses[key] for p in end])), 4) for key in end[0].losses} if end else {}
    return {
        "steps": len(history),
        "images": len(history) * bench.BATCH_SIZE,
        "seconds": round(history[-1].seconds, 2) if history else 0.0,
        "wall_seconds": round(time.perf_counter() - begin - looking, 1),
        "parameters": count_parameters(model),
        "losses": losses,
        "diverged": diverged,
    }


def run_one(
    name: str, seed: int, device: torch.device, seconds: float | None = None, images: float | None = None
) -> tuple[nn.Module, Tensor, dict, dict | None]:
    """One run of the bench: the trained model, N of its images, its row, and its curve (None for most seeds)."""
    model, budget = bench.new_contestant(name, seed).to(device), "seconds" if seconds else "images"
    curve = {"method": name, "seed": seed, "budget": budget, "at": [], "images": [], "frechet": [], "coverage": []}
    recent = []

    def look(progress, ema):
        recent.append(progress.losses)
        done = progress.seconds / seconds
        if done < (len(curve["at"]) + 1) / CURVE_POINTS:
            return
        ema.swap()
        judged = bench.judge(bench.sample_contestant(name, model, CURVE_N, seed, *CURVE_SAMPLER))
        ema.swap()
        for key in recent[0]:
            curve.setdefault(key, []).append(round(float(np.mean([losses[key] for losses in recent])), 4))
        curve["at"].append(round(progress.seconds, 2))
        curve["images"].append(progress.images)
        for key in ("frechet", "coverage"):
            curve[key].append(judged[key])
        recent.clear()

    watched = budget == "seconds" and seed in CURVE_SEEDS
    row = train_and_time(name, model, seed, None, seconds, images, look if watched else None)
    x = images_after(row, name, model, bench.N, seed)
    return model, x, {"method": name, "seed": seed, "budget": budget} | row | bench.judge(x), curve if watched else None


@torch.no_grad()
def sweep(name: str, model: nn.Module, seed: int) -> Iterator[dict]:
    """What sampling costs and what it is worth: a row for every sampler, or one for a method of one call."""
    device, one = next(model.parameters()).device, torch.zeros(1, 1, 28, 28)
    for sampler, calls in SWEEP if name == "diffusion" else (("one call", 1),):
        options = (sampler, calls) if name == "diffusion" else ()
        with bench.one_core(device):
            begin = bench.clock(device)
            x = bench.sample_contestant(name, model, SWEEP_N, seed, *options)
            seconds = (bench.clock(device) - begin) * 100 / SWEEP_N
        ask = partial(model, one.to(device), torch.tensor(0.5)) if name == "diffusion" else partial(model.sample, 1)
        row = {"method": name, "seed": seed, "sampler": sampler, "calls": calls}
        row |= {"seconds": round(seconds, 4), "multiply_adds": calls * multiply_adds(ask)}
        yield row | bench.judge(x)


def baselines() -> list[dict]:
    """The same numbers without a rival: one Gaussian, a mixture of thirty, copies of training digits, real digits."""
    x_0, held_out = data.digits("train")[0], data.digits("held_out")[0]
    found = []
    for name, options in BASELINES.items():
        for seed in SEEDS:
            begin = time.process_time()
            mixture = rivals.Mixture(x_0, **options, seed=seed)
            row = {"method": name, "seed": seed, "seconds": round(time.process_time() - begin, 2)}
            found.append(row | bench.judge(mixture.sample(bench.N, torch.Generator().manual_seed(seed))))
    for seed in SEEDS:
        pick = torch.randint(len(x_0), (bench.N,), generator=torch.Generator().manual_seed(seed))
        found.append({"method": "copies", "seed": seed, "seconds": 0.0} | bench.judge(x_0[pick]))
    for n in (SWEEP_N, bench.N):
        found.append({"method": "real", "seed": 0, "seconds": 0.0} | bench.judge(held_out[:n]))
    return found


def step_cost() -> dict[str, dict]:
    """Multiply-adds of training on one image, each method's whole step with its gradients, counted by torch."""
    x_0, cost = data.digits("train")[0][: bench.BATCH_SIZE], {}
    for name in bench.METHODS:
        setting, generator = dict(bench.CHOSEN[name]), torch.Generator().manual_seed(0)
        if setting.get("remedy") == "spectral":  # few multiply-adds, and torch's counter stumbles over them
            setting["remedy"] = "none"
        model = bench.new_contestant(name, 0, setting)
        optimizers, parameters = (
            [torch.optim.Adam(p.parameters(), 1e-3) for p in bench.players(name, model)],
            model.parameters,
        )
        if name == "gan":  # torch's counter stumbles over a module that is given x_0 itself, where r1 takes a slope
            look = lambda x, see=model.discriminator: see(1 * x)  # noqa: E731
            model = SimpleNamespace(**vars(model), parameters=parameters, generator=model.generator, discriminator=look)
        step = partial(bench.update, name, model, optimizers, x_0, generator, setting)
        number = sum(p.numel() for p in parameters())
        cost[name] = {"parameters": number, "multiply_adds": round(multiply_adds(step) / bench.BATCH_SIZE)}
    return cost


def settings(what: str, seconds: float | None = None) -> dict:
    """All that decides a result but the seeds: rows made with other settings do not belong into the same file.

    Args:
        what: "tune", "run" or "long".
        seconds: another budget than the usual one, or None.
    """
    if seconds is not None:
        bench.require_budget(seconds, None)
    size = {"batch_size": bench.BATCH_SIZE, "widths": bench.WIDTHS, "condition": bench.CONDITION}
    size |= {"rival_width": bench.RIVAL_WIDTH, "vae_latent": bench.VAE_LATENT}
    if what == "tune":
        own = {"seconds": seconds or TUNING_SECONDS, "seed": TUNING_SEED, "n": CURVE_N, "sampler": CURVE_SAMPLER}
        own |= {"grids": GRIDS}
    else:
        own = {"seconds": seconds or SECONDS, "n": bench.N, "sampler": bench.SAMPLER}
        if what == "long":
            own["seconds"] = seconds or LONG_SECONDS
        own |= {"chosen": bench.CHOSEN, "baselines": BASELINES}
        own |= {"collapsed": {"recall": bench.RECALL, "classes": bench.CLASSES}}
        own |= {"curve": {"seeds": CURVE_SEEDS, "points": CURVE_POINTS, "n": CURVE_N, "sampler": CURVE_SAMPLER}}
        own |= {"sweep": {"seeds": SWEEP_SEEDS, "n": SWEEP_N, "samplers": SWEEP}}
    return json.loads(json.dumps(size | own))


def trials() -> Iterator[tuple[str, dict]]:
    """Every (method, setting) of the grids, all first grids before the second ones."""
    for number in range(max(len(grids) for grids in GRIDS.values())):
        for name, grids in GRIDS.items():
            for grid in grids[number : number + 1]:
                yield from ((name, dict(zip(grid, values))) for values in product(*grid.values()))


def tune(folder: str | Path, device: torch.device, seconds: float | None = None, progress: Callable = tqdm) -> dict:
    """Try every setting of the grids that the file in the folder does not hold yet; return its results."""
    path = Path(folder) / "bench_tuning.json"
    results = about(device) | opened(path, settings("tune", seconds), {"rows": []}) | about(device)
    done = [(row["method"], row["setting"]) for row in results["rows"]]
    for name, setting in progress([job for job in trials() if job not in done], desc="trials"):
        results["rows"].append(trial(name, setting, device, seconds=results["settings"]["seconds"]))
        write(path, results)
    return results


def run_bench(
    folder: str | Path,
    device: torch.device,
    seeds: Sequence[int] = SEEDS,
    seconds: float | None = None,
    progress: Callable = tqdm,
) -> dict:
    """Make every run that the file in the folder does not hold yet; return its results.

    With equal images, each rival sees as many as diffusion saw in its seconds with the same seed; diffusion's own row
    is the same for both budgets.
    """
    require_seeds(seeds)
    path, pictures_path = Path(folder) / "bench.json", Path(folder) / "bench_samples.npz"
    empty = {"rows": [], "curves": [], "sampling": []}
    results = about(device) | opened(path, settings("run", seconds), empty) | about(device)
    if "baselines" not in results:
        results |= {"baselines": baselines(), "training_cost": step_cost()}
        write(path, results)
    done = {(row["method"], row["seed"], row["budget"]) for row in results["rows"]}
    jobs = [(name, seed, budget) for seed in seeds for budget in ("seconds", "images") for name in bench.METHODS]
    for name, seed, budget in progress([job for job in jobs if job not in done], desc="runs"):
        diffusion = [row for row in results["rows"] if (row["method"], row["seed"]) == ("diffusion", seed)]
        if budget == "images" and name == "diffusion":
            results["rows"].append(diffusion[0] | {"budget": "images"})
            continue
        amount = results["settings"]["seconds"] if budget == "seconds" else diffusion[0]["images"]
        model, x, row, curve = run_one(name, seed, device, **{budget: amount})
        if budget == "seconds":
            results["curves"] += [curve] if curve else []
            if seed in SWEEP_SEEDS and not row["diverged"]:
                results["sampling"] += sweep(name, model, seed)
            keep_pictures(pictures_path, f"{name}_{seed}", x[:10])  # before the row: a finished row has its pictures
        results["rows"].append(row)
        write(path, results)
    return results


def run_long_bench(
    folder: str | Path,
    device: torch.device,
    seeds: Sequence[int] = LONG_SEEDS,
    seconds: float | None = None,
    progress: Callable = tqdm,
) -> dict:
    """The same with more seconds, for few seeds: rows and curves only, in a file of its own."""
    require_seeds(seeds)
    path = Path(folder) / "bench_long.json"
    results = about(device) | opened(path, settings("long", seconds), {"rows": [], "curves": []}) | about(device)
    done = {(row["method"], row["seed"]) for row in results["rows"]}
    jobs = [(name, seed) for seed in seeds for name in bench.METHODS]
    for name, seed in progress([job for job in jobs if job not in done], desc="long runs"):
        _, _, row, curve = run_one(name, seed, device, seconds=results["settings"]["seconds"])
        results["curves"] += [curve] if curve else []
        results["rows"].append(row)
        write(path, results)
    return results


def keep_pictures(path: Path, key: str, x: Tensor) -> None:
    """Add images (n, 1, 28, 28) to the file of pictures, as bytes (n, 28, 28)."""
    kept = dict(np.load(path)) if path.exists() else {}
    write_pictures(path, kept | {key: data.to_uint8(x[:, 0].nan_to_num()).numpy()})


def opened(path: Path, wanted: dict, empty: dict) -> dict:
    """What is in the results file, if it was made with these settings; the empty results if there is none.

    Raises:
        ValueError: it was made with other settings, or is no results file.
    """
    if not path.exists():
        return {"settings": wanted} | empty
    try:
        results = json.loads(path.read_text(encoding="utf8"))
        there = results["settings"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no results of this bench ({error}); move it away, or name a folder.") from error
    differ = sorted(key for key in there.keys() | wanted.keys() if there.get(key) != wanted.get(key))
    if differ:
        raise ValueError(
            f"{path} was made with other settings ({', '.join(differ)}), so that its rows and new ones cannot be "
            "compared. Ask for the same, or name another folder."
        )
    return results


def about(device: torch.device) -> dict:
    """Machine, date, versions and code of these results."""
    found = circumstances(device) | {"precision": "float32", "code": {"commit": commit()}}
    if device.type == "cpu":
        found["machine"] = found["machine"].rsplit(",", 1)[0] + ", 1 thread"
    return found


def commit() -> str | None:
    """The git commit of this code, or None."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def best(results: dict | None = None) -> dict[str, dict]:
    """The setting with the smallest Frechet distance in each grid: what `bench.CHOSEN` must be."""
    rows = (results or read("bench_tuning"))["rows"]
    found = {}
    for name in bench.METHODS:
        tried = [row for row in rows if row["method"] == name and row.get("frechet") is not None]
        found[name] = min(tried, key=lambda row: row["frechet"])["setting"]
    return found


def require_seeds(seeds):
    """Refuse a list of seeds that is empty, counts one twice, or holds what is no seed or was used for tuning."""
    seeds = list(seeds)
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds are {seeds}; expected different whole numbers of at least 0, one at least.")
    if TUNING_SEED in seeds:
        raise ValueError(f"seed {TUNING_SEED} chose the settings; a fair bench does not use it again.")
