"""Measurements that take too long for a lesson: the code that makes them, and the results that were committed.

Every file says on which machine, when and with which versions it was made. Lessons draw the committed results and run a
small part of the same thing live. To make them again:

    python -m diffusion_lib.measured headline      # what 60 seconds and what 500 steps of training give
    python -m diffusion_lib.measured calls         # quality against calls of the network, four samplers
    python -m diffusion_lib.measured guidance      # fidelity and diversity against the scale of guidance
    python -m diffusion_lib.measured latent        # cost and quality of diffusion in pixels and in latents
    python -m diffusion_lib.measured text          # masked diffusion and left to right, on sums and on English
    python -m diffusion_lib.measured minute        # lesson 04's minute of training, for where nobody can wait for it
"""

import argparse
import json
import math
import os
import platform
import re
import statistics
import time
from datetime import date
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from . import __version__, data, guidance, metrics, pretrained, samplers, tokens
from .costs import multiply_adds
from .forward import noise_like
from .schedules import Linear
from .training import EMA, autocast, best_device, half_precision, to_device, train


def committed(name, ending, what):
    """The committed file of that name and ending (".json" or ".npz"); `what` it holds is for the message.

    Raises:
        ValueError: there is none.
    """
    folder = resources.files("diffusion_lib") / "assets" / "measured"
    known = sorted(path.name.removesuffix(ending) for path in folder.iterdir() if path.name.endswith(ending))
    if name not in known:
        raise ValueError(f"there are no {what} called {name!r}; committed are {', '.join(known) or 'none'}.")
    return folder / f"{name}{ending}"


def read(name):
    """The committed results of that name, a dict.

    Raises:
        ValueError: there are none.
    """
    return json.loads(committed(name, ".json", "results").read_text(encoding="utf8"))


def read_pictures(name):
    """The images that were kept beside committed results: {key: float tensor in [-1, 1]}.

    Raises:
        ValueError: there are none.
    """
    path = committed(name, ".npz", "pictures")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {key: data.to_unit(arrays[key]) for key in arrays.files}


def write(path, results):
    """Results (a dict) as a JSON file that is there in one moment: a run that is killed leaves none or the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")
    os.replace(part, path)


def write_pictures(path, pictures):
    """Pictures {key: uint8 array} as an npz file, likewise there in one moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name("part_" + path.name)
    np.savez_compressed(part, **pictures)
    os.replace(part, path)


def circumstances(device):
    """Machine, date and versions, for the results file."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{cpu}, {torch.get_num_threads()} threads"
    return {
        "machine": f"{device.type}: {name}",
        "precision": str(half_precision(device) or torch.float32).removeprefix("torch."),
        "date": date.today().isoformat(),
        "versions": {"diffusion_lib": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def headline(device, seeds, progress, n=300, steps=50, eta=0.5):
    """Train from scratch for 60 seconds, and for 500 steps; for each seed measure plain and guided samples.

    A slow machine makes few steps in a minute, so that these are kept small; where steps are counted, they are larger.
    """
    rows = []
    for seed in seeds:
        for budget, batch_size in ({"seconds": 60}, 128), ({"steps": 500}, 256):
            begin = time.perf_counter()
            model, history = pretrained.train_digits(**budget, seed=seed, device=device, batch_size=batch_size)
            row = {"seed": seed, "budget": budget, "seconds": round(time.perf_counter() - begin, 1)}
            row |= {"steps": len(history), "batch_size": batch_size, "images": len(history) * batch_size}
            for way, result in pretrained.quality(model, n, steps, eta, seed).items():
                row[way] = {key: result[key] for key in ("accuracy", "frechet")}
            rows.append(row)
            progress(str(row))
    summary = {}
    for budget in ("seconds", "steps"):
        chosen = [row for row in rows if budget in row["budget"]]
        summary[budget] = {
            way: {key: mean_and_worst([row[way][key] for row in chosen], key) for key in ("accuracy", "frechet")}
            for way in ("plain", "guided", "guided everywhere")
        }
    sampler = f"ddim, {steps} steps, eta {eta}"
    return {"n": n, "sampler": sampler, "floor": result["floor"], "summary": summary, "rows": rows}


def mean_and_worst(values, key):
    """Mean over the seeds, and the worst of them: the lowest accuracy, the highest distance."""
    return {"mean": round(statistics.mean(values), 3), "worst": min(values) if key == "accuracy" else max(values)}


LOOKS = (0.03, 0.08, 1 / 6, 0.28, 5 / 12, 0.55, 0.75)  # when lesson 04 looks at its run, as shares of the time


def minute(device, seeds, progress, seconds=60):
    """Lesson 04's minute of training with its looks at the run, from the first of the seeds.

    Returns:
        dict: "looks", for each its seconds, step, and the held-out loss of the raw weights and of their average; and
        "pictures": {"raw", "average"}: uint8 (looks, 10, 1, 28, 28), one sample of each class, always from one noise.
    """
    model = to_device(pretrained.new_digits_model(seeds[0]), device)
    batches = data.Batches(*(value.to(device) for value in data.digits("train")), pretrained.BATCH_SIZE, seed=seeds[0])
    held_out, label = (value[:100].to(device) for value in data.digits("held_out"))
    t, noise = (torch.arange(100) + 0.5) / 100, noise_like(held_out, torch.Generator().manual_seed(3))
    ema, looks, pictures = EMA(model), [], {"raw": [], "average": []}

    @torch.no_grad()
    def look(done):
        seen = {"seconds": round(done.seconds, 1), "step": done.step}
        for name in pictures:
            seen[f"{name} loss"] = round(model.loss(held_out, t, noise, label=label).mean().item(), 4)
            samples = pretrained.sample_digits(model, torch.arange(10, device=device), steps=10)
            pictures[name].append(((samples.cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
            ema.swap()
        looks.append(seen)
        progress(str(seen))

    dtype = half_precision(device)
    for done in train(model, batches, pretrained.digits_loss, seconds=seconds, ema=ema, dtype=dtype, seed=seeds[0]):
        if len(looks) < len(LOOKS) and done.seconds > LOOKS[len(looks)] * seconds:
            look(done)
    look(done)
    return {"seed": seeds[0], "looks": looks, "pictures": {k: torch.stack(v).numpy() for k, v in pictures.items()}}


SAMPLERS = {  # name: (function of samplers, options), in the order of the lessons
    "ddpm": ("ddpm", {}),
    "ddpm_large": ("ddpm", {"variance": "large"}),
    "ddim": ("ddim", {}),
    "heun": ("heun", {}),
    "dpm_solver": ("dpm_solver", {}),
}


def calls(device, seeds, progress, n=300, budgets=(4, 6, 10, 20, 50), long_budgets=(100, 250)):
    """What n plain conditional samples are worth, for each sampler, number of calls and seed.

    Only DDPM is asked for the long budgets too: the others have long arrived.
    """
    model, judge = pretrained.digits(device), pretrained.classifier()
    real, label = judge.features(data.digits("train")[0]), torch.arange(n, device=device) % 10
    denoiser = pretrained.guided(model, label, scale=1)
    rows = []
    for name, (function, options) in SAMPLERS.items():
        for budget in (*budgets, *(long_budgets if function == "ddpm" else ())):
            for seed in seeds:
                generator = torch.Generator().manual_seed(seed)
                noise = samplers.start_noise(model.schedule, (n, 1, 28, 28), generator, device)
                # Heun looks twice in every step but the last; the other samplers once.
                times = samplers.time_grid((budget + 1) // 2 if name == "heun" else budget)
                random = {"generator": generator} if function == "ddpm" else {}
                with autocast(device, half_precision(device)):
                    steps = getattr(samplers, function)(denoiser, model.schedule, noise, times, **options, **random)
                    x = samplers.last(steps).float().cpu()
                row = {"sampler": name, "calls": 2 * len(times) - 3 if name == "heun" else budget, "seed": seed}
                row["accuracy"] = round(metrics.accuracy(judge, x, label.cpu()), 4)
                rows.append(row | fidelity_and_distance(real, judge.features(x)))
                progress(str(rows[-1]))
    floor = fidelity_and_distance(real, judge.features(data.digits("held_out")[0][:n]))
    return {"n": n, "floor": floor["frechet"], "real": floor, "rows": rows}


def guidance_scales(device, seeds, progress, n=300, scales=(0, 0.5, 1, 1.5, 2, 3, 5, 8), steps=20):
    """What scales of guidance do to n samples, at all times and in an interval of them, for each seed.

    Fidelity: accuracy, precision, density. Diversity: recall, coverage. Both: Frechet distance. The interval is that
    of `pretrained`; scales up to 1 are measured at all times only.
    """
    model, judge = pretrained.digits(device), pretrained.classifier()
    real, label = judge.features(data.digits("train")[0]), torch.arange(n, device=device) % 10
    held_out = judge.features(data.digits("held_out")[0][:n])
    floor = fidelity_and_distance(real, held_out)
    rows = []
    for where, interval in {"everywhere": (0, 1), "interval": pretrained.INTERVAL}.items():
        for scale in (scale for scale in scales if where == "everywhere" or scale > 1):
            for seed in seeds:
                x = pretrained.sample_digits(model, label, scale, interval, steps, eta=0, seed=seed).cpu()
                row = {"where": where, "scale": scale, "seed": seed}
                row["accuracy"] = round(metrics.accuracy(judge, x, label.cpu()), 4)
                rows.append(row | fidelity_and_distance(real, judge.features(x)))
                progress(str(rows[-1]))
    sampler = f"ddim, {steps} steps, eta 0"
    return {"n": n, "sampler": sampler, "interval": list(pretrained.INTERVAL), "floor": floor, "rows": rows}


@torch.no_grad()
def latent(device, seeds, progress, n=300, steps=20, batch_size=64, repeats=15):
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
        cost[name] |= {"parameters": numbers(model), "numbers_an_image": shape[0] * shape[1] * shape[2]}
    cost["decode"]["parameters"], cost["encode"]["parameters"] = numbers(encoder.decoder), numbers(encoder.encoder)

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


ORDERS = ("random", "shuffled", "confidence")
LENGTHS = {"masked": (1500, 4500), "left_to_right": (200, 400, 800, 1500)}  # steps of training on English


def text(
    device,
    seeds,
    progress,
    n=500,
    lines=100,
    steps=(1, 2, 3, 4, 6, 9),
    text_steps=(1, 4, 12, 24, 48),
    repeats=5,
    lengths=LENGTHS,
):
    """Masked diffusion and the left-to-right model of the same size and training: n sums and so many lines of English.

    Against steps, order and seed: share of right sums, how many differ, and how many are sums that were held out from
    training; share of words that occur in the text, and of lines that copy 24 characters of the training text. Beside
    them the exact denoiser of the sums, which only its steps keep from being right. What held-out data costs each
    model (on English also after other lengths of training), and which results or second numbers of held-out sums it
    finds. Times of n sums are the shortest of several.
    """
    half = str(half_precision(device) or torch.float32).removeprefix("torch.")
    return {
        "precision": f"float32, times in {half}",
        "n": n,
        "lines": lines,
        "sums": sums_written(device, seeds, progress, n, steps),
        "blanks": blanks_filled(device, seeds),
        "sums_nats": {
            "entropy": round(math.log(10_000), 3),
            "masked": nats_of(pretrained.sums(device), "sums", language=data.sums("all")),
            "masked_in_order": nats_of(pretrained.sums(device), "sums", pretrained.nats_in_order),
            "left_to_right": nats_of(pretrained.sums_left_to_right(device), "sums"),
        },
        "seconds": seconds_of_sums(device, n, steps, repeats),
        "english": english_written(device, seeds, progress, lines, text_steps),
        "english_bits": english_bits(device),
        "english_lengths": english_lengths(device, progress, lengths),
    }


def sums_written(device, seeds, progress, n, steps):
    """One row for every model, order, number of steps and seed."""
    models = {"masked": pretrained.sums(device), "exact": tokens.exact_language(data.sums("all"), 12)}
    start, held_out = tokens.all_masked(n, 9, 12, device), set(map(tuple, data.sums("held_out").tolist()))
    rows = []

    def add(x, **row):
        right = pretrained.right_sums(x)
        different = {tuple(line) for line in x[right].tolist()}
        row |= {"right": round(float(right.float().mean()), 4), "different": len(different)}
        rows.append(row | {"held_out": round(len(different & held_out) / max(len(different), 1), 4)})
        progress(str(rows[-1]))

    for seed in seeds:
        for name, denoiser in models.items():
            for order in ORDERS:
                for count in steps:
                    generator = torch.Generator().manual_seed(seed)
                    grid = samplers.time_grid(count)
                    x = samplers.last(tokens.unmask(denoiser, Linear(), start, grid, generator, order))
                    add(x, model=name, order=order, calls=count, seed=seed)
        x = pretrained.sums_left_to_right(device).generate(n, 9, torch.Generator().manual_seed(seed))
        add(x, model="left_to_right", order="left to right", calls=9, seed=seed)
    return rows


def blanks_filled(device, seeds):
    """Share of held-out sums whose missing part is found, for each seed: the result (three blanks), or the second
    number (two blanks), which a left-to-right model cannot be asked for."""
    x_0, rows = data.sums("held_out").to(device), []
    for missing, places in {"result": slice(6, 9), "second number": slice(3, 5)}.items():
        blank = x_0.clone()
        blank[:, places] = 12
        for seed in seeds:
            for order in ("shuffled", "confidence"):
                for calls in (1, places.stop - places.start):
                    x = pretrained.write(pretrained.sums(device), blank, calls, order, seed)
                    rows.append({"missing": missing, "model": "masked", "order": order, "calls": calls, "seed": seed})
                    rows[-1]["found"] = round(float((x == x_0).all(1).float().mean()), 4)
            if missing == "result":
                x = pretrained.write(pretrained.sums_left_to_right(device), blank, seed=seed)
                found = round(float((x == x_0).all(1).float().mean()), 4)
                rows.append({"missing": missing, "model": "left_to_right", "calls": 3, "seed": seed, "found": found})
    return rows


def nats_of(model, name, nats=pretrained.nats, **options):
    """Mean nats of held-out and of some training data of that name, and the standard error of the former."""
    device, results = next(model.parameters()).device, {}
    for split in ("held_out", "train"):
        x_0 = getattr(data, name)(split).to(device)
        each = nats(model, x_0[:: max(len(x_0) // 500, 1)], **options)  # some 500 to 1,000 of them
        results[split] = round(float(each.mean()), 3)
        if split == "held_out":
            results["standard_error"] = round(float(each.std()) / len(each) ** 0.5, 3)
    return results


def seconds_of_sums(device, n, steps, repeats):
    """Seconds for n sums, by the number of steps of unmasking, and from left to right."""
    masked, other = pretrained.sums(device), pretrained.sums_left_to_right(device)
    start = tokens.all_masked(n, 9, 12, device)
    calls = {f"masked, {count} steps": partial(pretrained.write, masked, start, count, "shuffled") for count in steps}
    calls["left_to_right"] = partial(pretrained.write, other, start)
    return {name: round(seconds, 4) for name, seconds in in_turn(calls, device, repeats).items()}


def english_written(device, seeds, progress, lines, steps):
    """One row for every model, order, number of steps and seed, and one for held-out lines."""
    known = {split: tokens.decode(data.text(split), data.TEXT_SYMBOLS) for split in ("all", "train", "held_out")}
    words = set(words_of(known["all"]))
    copied = {line[i : i + 24] for line in known["train"] for i in range(25)}
    start, rows = tokens.all_masked(lines, 48, len(data.TEXT_SYMBOLS), device), []

    def add(written, **row):
        found = [word in words for word in words_of(written)]
        row |= {"words": round(sum(found) / max(len(found), 1), 4), "number_of_words": len(found)}
        copies = [any(line[i : i + 24] in copied for i in range(25)) for line in written]
        rows.append(row | {"copies": round(sum(copies) / len(copies), 4), "example": written[:3]})
        progress(str(rows[-1]))

    add(known["held_out"], model="held-out lines")
    for seed in seeds:
        for order in ORDERS:
            for count in steps:
                x = pretrained.write(pretrained.text(device), start, count, order, seed)
                written = tokens.decode(x, data.TEXT_SYMBOLS)
                add(written, model="masked", order=order, calls=count, seed=seed)
        x = pretrained.write(pretrained.text_left_to_right(device), start, seed=seed)
        add(tokens.decode(x, data.TEXT_SYMBOLS), model="left_to_right", order="left to right", calls=48, seed=seed)
    return rows


def english_lengths(device, progress, lengths):
    """Bits a character of both models after other lengths of training, {model: steps}: a small text is soon learned by
    heart, and a fair comparison stops each model when its held-out bits are lowest."""
    rows = []
    for name, steps in [(name, steps) for name, budgets in lengths.items() for steps in budgets]:
        model, _ = pretrained.train_text(steps=steps, device=device, left_to_right=name == "left_to_right")
        bits = {key: round(nats / 48 / math.log(2), 3) for key, nats in nats_of(model, "text").items()}
        rows.append({"model": name, "steps": steps} | bits)
        progress(str(rows[-1]))
    return rows


def words_of(lines):
    """The words of a list of strings, in their order; a hyphen ends a word."""
    return re.findall("[a-z']+", " ".join(lines))


def english_bits(device):
    """Bits a character of both models (an upper bound for the masked one, and its exact number if it is asked from left
    to right), and of counting what follows on two or four characters."""
    train, held_out = data.text("train"), data.text("held_out")
    bits = {
        "masked": nats_of(pretrained.text(device), "text"),
        "masked_in_order": nats_of(pretrained.text(device), "text", pretrained.nats_in_order),
        "left_to_right": nats_of(pretrained.text_left_to_right(device), "text"),
    }
    bits = {name: {key: round(nats / 48 / math.log(2), 3) for key, nats in part.items()} for name, part in bits.items()}
    for name, order in {"trigram": 3, "fivegram": 5}.items():
        bits[name] = {"held_out": round(count_characters(train, held_out, order, len(data.TEXT_SYMBOLS)), 3)}
    return bits


def count_characters(train, held_out, order, symbols, strengths=(3, 10, 30, 100, 300)):
    """Bits a character of held-out lines for a model that counts: the character after the last order - 1 of its line.

    A count is mixed with `strength` times the answer of the next shorter context, down to all symbols alike (MacKay and
    Peto 1995). The best strength is taken, as seen on the held-out lines: that favours this model.

    Args:
        train, held_out: (N, L) and (M, L) token ids.
        order: characters that are looked at, the one in question included; at least 1.
        symbols: V.
        strengths: the numbers to choose from.
    """
    require_order(order)
    p = {strength: torch.full(held_out.shape, 1 / symbols, dtype=torch.float64) for strength in strengths}
    for length in range(order):  # of the context
        known, asked = windows(train, length, symbols), windows(held_out, length, symbols)
        seen = times_seen(known, asked)
        before = times_seen(known // (symbols + 1), asked // (symbols + 1))  # the context alone
        p = {strength: (seen + strength * shorter) / (before + strength) for strength, shorter in p.items()}
    return min(float(-mixed.log2().mean()) for mixed in p.values())


def windows(x, length, symbols):
    """For each token of x (N, L) one number that stands for it (the last digit) and the `length` tokens before it."""
    padded = torch.nn.functional.pad(x, (length, 0), value=symbols)
    return sum(padded[:, length - k : length - k + x.shape[1]] * (symbols + 1) ** k for k in range(length + 1))


def times_seen(known, asked):
    """How often each of the numbers `asked` is among the numbers `known`."""
    values, counts = known.unique(return_counts=True)
    place = torch.searchsorted(values, asked).clamp(max=len(values) - 1)
    return torch.where(values[place] == asked, counts[place], 0)


def require_order(order):
    """Refuse an order that is no number of characters."""
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"order is {order!r}; expected a whole number of at least 1, 3 for pairs before each.")


def numbers(module):
    """How many numbers a module holds as parameters, frozen ones too."""
    return sum(p.numel() for p in module.parameters())


def in_turn(calls, device, repeats):
    """The shortest seconds of each of these functions, called in turn {name: function}."""
    shortest = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats + 1):  # the first round only warms up
        for name, call in calls.items():
            begin = time.perf_counter()
            with autocast(device, half_precision(device)):
                call()
            if device.type == "cuda":
                torch.cuda.synchronize()
            shortest[name] = min(shortest[name], time.perf_counter() - begin)
    return shortest


def fidelity_and_distance(real, generated):
    """Frechet distance to all real features, and precision, recall, density, coverage against as many of them."""
    four = metrics.fidelity(real[: len(generated)], generated)._asdict()
    return {"frechet": round(metrics.frechet_distance(generated, real), 3)} | {k: round(v, 4) for k, v in four.items()}


def main(arguments=None):
    """Make results again: python -m diffusion_lib.measured NAME."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=["headline", "calls", "guidance", "latent", "text", "minute"])
    parser.add_argument("--seeds", type=int, help="number of seeds; 5 for the headline, else 3")
    parser.add_argument("--folder", type=Path, default=Path(str(resources.files("diffusion_lib"))) / "assets/measured")
    options = parser.parse_args(arguments)
    device = best_device()
    measures = {"headline": headline, "calls": calls, "guidance": guidance_scales, "latent": latent, "text": text}
    measure = (measures | {"minute": minute})[options.name]
    begin = time.perf_counter()
    seeds = options.seeds or (5 if options.name == "headline" else 3)
    result = measure(device, range(seeds), partial(print, flush=True))
    result = circumstances(device) | {"took_seconds": round(time.perf_counter() - begin)} | result
    path = options.folder / f"{options.name}.json"
    if pictures := result.pop("pictures", None):
        write_pictures(path.with_suffix(".npz"), pictures)
    write(path, result)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
