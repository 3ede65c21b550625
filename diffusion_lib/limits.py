"""Where diffusion ends, measured: the long experiments of lesson 12, and the code that made their committed results.

Does a model copy what it learnt from, and do two models that saw other pictures agree? Can it count? What happens to a
minority under guidance? Which schedule does a larger image need? To make the results again:

    python -m diffusion_lib.limits memory          # copies against the number of training images, two halves
    python -m diffusion_lib.limits dots            # pictures with exact counts
    python -m diffusion_lib.limits minority        # rare kinds of digits against the scale of guidance
    python -m diffusion_lib.limits resolution      # where digits of three sizes drown in noise
"""

import argparse
import time
from functools import partial
from importlib import resources
from pathlib import Path

import torch
import torch.nn.functional as F

from . import data, guidance, measured, metrics, pretrained, samplers
from .denoisers import Denoiser, exact_mixture, middle_times
from .forward import add_noise, noise_like
from .networks import UNet
from .schedules import Cosine, Shifted
from .targets import V
from .training import best_device

# ---------------------------------------------------------------------------------------------- memory


def half(which, n):
    """The first n digits of one half of the training digits, 0 or 1: (x_0 (n, 1, 28, 28), label (n,)).

    The two halves have no digit in common, and each holds all classes alike.
    """
    require_half(which, n)
    x_0, label = data.digits("train")
    place = slice(2000 * which, 2000 * which + n)
    return x_0[place], label[place]


def new_half_model(seed=0):
    """A small digit model without labels. It works on the four pixels of each 2 x 2 block as channels, (B, 4, 14, 14):
    the same pixels in another order, at a third of the multiply-adds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Denoiser(UNet(channels=4, widths=(24, 48)), Cosine(), V)


def plain_loss(model, batch, generator):
    """The loss (B,) of a batch (x_0, label) for a model without labels: mostly middle times, fresh noise."""
    x_0, _ = batch
    t = middle_times(len(x_0), generator)
    return model.loss(x_0, t, noise_like(x_0, generator))


def train_half(which, n, steps=1000, device="cpu", batch_size=64):
    """Train on n digits of one half; the half is the seed, too, so that two models share nothing but their recipe."""
    x_0, label = (values.repeat_interleave(-(-batch_size // n), 0) for values in half(which, n))  # at least a batch
    blocks, model = F.pixel_unshuffle(x_0, 2), new_half_model(which)
    return pretrained.fit(model, blocks, label, plain_loss, steps, seed=which, device=device, batch_size=batch_size)[0]


def sample_half(model, n, device="cpu", steps=20, seed=0):
    """n digits (n, 1, 28, 28) of such a model with DDIM; equal seeds start from equal noise, whatever the model."""
    blocks = pretrained.sample(guidance.clip(model), model.schedule, (n, 4, 14, 14), device, steps, eta=0, seed=seed)
    return F.pixel_shuffle(blocks, 2).cpu()


def correlation(a, b):
    """Correlation (B,) of the pixels of each image of a with that of the same place in b, both (B, ...): 1 if alike."""
    require_pairs(a, b)
    a, b = a.flatten(1), b.flatten(1)
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True))


def twins(a, b, training_a, training_b):
    """(B,) bool: which pairs are nearer to each other than either is to the nearest image of its training set."""
    require_pairs(a, b)
    between = (a - b).flatten(1).double().norm(dim=1)
    to_data = [metrics.nearest(x, training)[0][:, 0] for x, training in ((a, training_a), (b, training_b))]
    return between < torch.minimum(*to_data)


# (digits, steps): the first series gives each size the same steps, the second shows each digit 128 times
PLAN = (*((size, 1000) for size in (10, 30, 100, 300, 1000, 2000)), *((n, 2 * n) for n in (100, 300, 1000, 2000)))


def memory(device, seeds, progress, plan=PLAN, n=500, show=((100, 1000), (2000, 4000)), keep=16):
    """Train on few and on many digits for so many steps, twice: on each of two halves.

    For both models of every pair (size, steps) of the plan: the share of copies, the way to the nearest training digit
    beside that of held-out digits, the loss on data seen and not seen, and what the metrics say. For the pair: how
    alike are samples that began at the same noise? `seeds` are those of that noise; each model is trained once.

    Returns:
        results, {"size_steps": (2, keep, 28, 28) uint8}: the first samples of both models of the pairs to show.
    """
    held_out, judge = data.digits("held_out")[0], pretrained.classifier()
    all_real, some_real = judge.features(data.digits("train")[0]), judge.features(held_out[:n])
    rows, pairs, kept = [], [], {}
    for size, steps in plan:
        parts = [half(which, size)[0] for which in (0, 1)]
        models = [train_half(which, size, steps, device) for which in (0, 1)]
        loss = [losses(model, part, held_out, device) for model, part in zip(models, parts)]
        for seed in seeds:
            x = [sample_half(model, n, device, seed=seed) for model in models]
            if seed == seeds[0] and (size, steps) in show:
                kept[f"{size}_{steps}"] = data.to_uint8(torch.stack(x)[:, :keep, 0])
            for which in (0, 1):
                features = judge.features(x[which])
                row = {"size": size, "steps": steps, "half": which, "seed": seed}
                row |= nearness(x[which], held_out, parts[which])
                row["loss"] = loss[which]
                row["frechet"] = round(metrics.frechet_distance(features, all_real), 3)
                row |= {key: round(v, 4) for key, v in metrics.fidelity(some_real, features)._asdict().items()}
                rows.append(row)
                progress(str(row))
            alike, unrelated = correlation(*x), correlation(x[0], x[1].roll(1, 0))
            pair = {"size": size, "steps": steps, "seed": seed, "same_noise": round(float(alike.mean()), 4)}
            pair |= {"other_noise": round(float(unrelated.mean()), 4)}
            pair["twins"] = round(float(twins(*x, *parts).double().mean()), 4)
            pairs.append(pair)
            progress(str(pair))
    floor = measured.fidelity_and_distance(all_real, some_real)
    results = {"batch_size": 64, "n": n, "sampler": "ddim, 20 steps, eta 0", "floor": floor}
    return results | {"rows": rows, "pairs": pairs}, kept


def nearness(x, held_out, training):
    """Share of copies, and medians: way to the nearest training image, and that over the way to the second nearest;
    of samples x and of held-out images, which cannot be copies."""
    result = {}
    for name, images in (("sample", x), ("held_out", held_out)):
        distance = metrics.nearest(images, training, k=2)[0]
        result[name] = {
            "copies": round(float(metrics.copies(images, training).double().mean()), 4),
            "distance": round(float(distance[:, 0].median()), 3),
            "ratio": round(float((distance[:, 0] / distance[:, 1]).median()), 3),
        }
    return result


@torch.no_grad()
def losses(model, training, held_out, device, times=(0.2, 0.4, 0.6, 0.8), n=500):
    """The mean loss on training and on held-out images at these times, n noisy images each."""
    result = {}
    for name, images in (("training", training), ("held_out", held_out)):
        x_0 = F.pixel_unshuffle(images.repeat(-(-n // len(images)), 1, 1, 1)[:n], 2).to(device)
        noise = noise_like(x_0, torch.Generator().manual_seed(0))
        result[name] = {str(t): round(float(model.loss(x_0, torch.tensor(t), noise).mean()), 4) for t in times}
    return result


def require_half(which, n):
    """Refuse another half than 0 and 1, and more digits than it has."""
    if which not in (0, 1) or not 1 <= n <= 2000:
        raise ValueError(f"half {which} with {n} digits; expected half 0 or 1, and 1 to 2000 digits.")


def require_pictures(x):
    """Refuse what are no pictures with one channel."""
    if x.ndim != 4 or x.shape[1] != 1:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected pictures with one channel, (B, 1, H, W).")


def require_place(where):
    """Refuse a place that is none of the three."""
    if where not in PLACES:
        raise ValueError(f"where is {where!r}; expected one of {', '.join(map(repr, PLACES))}.")


def require_rare(rare):
    """Refuse a share that leaves one kind out."""
    if not 0 < rare < 1:
        raise ValueError(f"rare is {rare}; expected a share in (0, 1).")


def require_classes(label, training_label):
    """Refuse classes that the training images lack."""
    if missing := set(label.tolist()) - set(training_label.tolist()):
        raise ValueError(f"classes {sorted(missing)} have no training images; expected some of every class.")


def require_enlargement(factor):
    """Refuse a side that is no whole number of pixels."""
    if int(factor) != factor or factor < 1:
        raise ValueError(f"factor is {factor}; expected a whole number of at least 1, the larger side over the side.")


def require_crossing(times, shares, level):
    """Refuse shares that do not begin above the level and end below it."""
    if len(times) != len(shares) or not shares[0] >= level > min(shares):
        raise ValueError(
            f"{len(times)} times and {len(shares)} shares from {shares[0]:.3g} down to {min(shares):.3g}; expected one "
            f"share a time, the first at least {level} and a later one below it."
        )


def require_pairs(a, b):
    """Refuse what are no pairs of images."""
    if a.shape != b.shape:
        raise ValueError(f"images have shapes {tuple(a.shape)} and {tuple(b.shape)}; expected pairs of one shape.")


# ---------------------------------------------------------------------------------------------- dots


def count_pieces(ink, corners=True):
    """How many connected pieces there are in each image: (B,) whole numbers.

    Pixels belong together if they share a side (or, with corners, a corner). Every pixel takes the largest number among
    its piece's pixels as its name; a piece is counted at the pixel that brought the name.

    Args:
        ink: (B, 1, H, W), True where there is something.
        corners: whether pixels that meet in a corner belong together.
    """
    require_pictures(ink)
    ink = ink.float()
    number = ink * torch.arange(1, ink[0].numel() + 1, device=ink.device).reshape(ink.shape[1:])
    name, before = number, None
    while before is None or not torch.equal(name, before):
        rows = F.max_pool2d(name, (1, 3), stride=1, padding=(0, 1))
        wide = F.max_pool2d(rows if corners else name, (3, 1), stride=1, padding=(1, 0))
        name, before = ink * torch.maximum(rows, wide), name
    return ((name == number) & (ink > 0)).flatten(1).sum(1)


def count_dots(x):
    """How many white pieces (above 0) each picture x (B, 1, H, W) has: (B,). Pieces that meet in a corner are one."""
    return count_pieces(x > 0)


def count_holes(x):
    """How many holes the white of each picture x (B, 1, H, W) has: (B,). Pieces of the black but the one outside."""
    require_pictures(x)
    return count_pieces(F.pad(x <= 0, (1, 1, 1, 1), value=True), corners=False) - 1


def proper_dots(x):
    """Which images hold nothing but dots of 2 x 2 pixels that do not touch, however many: (B,) bool.

    Every white pixel must be in a white square of 2 x 2, and there must be four of them for each piece.
    """
    require_pictures(x)
    ink = (x > 0).float()
    square = -F.max_pool2d(-ink, 2, stride=1)  # 1 where all four are white
    covered = F.max_pool2d(F.pad(square, (1, 1, 1, 1)), 2, stride=1)
    return (covered == ink).flatten(1).all(1) & (ink.flatten(1).sum(1) == 4 * count_dots(x))


def new_dots_model(seed=0):
    """The course's digit U-Net for pictures of 16 x 16, with the number of dots as the label (9, or none, for none)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Denoiser(UNet(channels=1, widths=(16, 32, 64), labels=9), Cosine(), V)


def train_dots(n=10_000, steps=1000, seed=0, device="cpu", batch_size=64):
    """Train on n pictures of data.dots."""
    x_0, label = data.dots(n, torch.Generator().manual_seed(seed))
    model = new_dots_model(seed)
    loss = pretrained.class_loss
    return pretrained.fit(model, x_0, label, loss, steps, seed=seed, device=device, batch_size=batch_size)[0]


def sample_dots(model, label, scale=1.0, interval=(0, 1), steps=50, eta=0, seed=0):
    """Pictures (B, 1, 16, 16) with so many dots: label (B,), whole numbers from 1 to 8; as pretrained.sample_digits."""
    denoiser = pretrained.guided(model, label, scale, interval)
    return pretrained.sample(denoiser, model.schedule, (len(label), 1, 16, 16), label.device, steps, eta, seed).cpu()


def dots(
    device, seeds, progress, budgets=(125, 250, 500, 1000), scales=(1, 2, 3, 5), looks=((100, 0), (100, 1)), n=400
):
    """How many samples have the number of dots that was asked for: against training steps, the scale of guidance (0
    asks for no number), and how the sampler walks.

    All lengths of training for the first seed, 250 steps for the others, always with 10,000 pictures. `looks` are calls
    and eta of longer walks, after the longest training. "frechet" is the distance to 2,000 real pictures in the means
    of 2 x 2 pixels, which is what a metric sees that knows nothing of counts.
    """
    label = 1 + torch.arange(n, device=device) % 8
    real = brightness(data.dots(2000, torch.Generator().manual_seed(10**6))[0])
    again = brightness(data.dots(n, torch.Generator().manual_seed(10**6 + 1))[0])
    rows = []
    for steps, seed in [(steps, seed) for seed in seeds for steps in budgets if seed == seeds[0] or steps == 250]:
        model = train_dots(10_000, steps, seed, device)
        ways = [(scale, 25, 0) for scale in ((*scales, 0) if seed == seeds[0] else scales[:1])]
        ways += [(1, *look) for look in looks] if steps == budgets[-1] and seed == seeds[0] else []
        for scale, calls, eta in ways:
            x = sample_dots(model, label, scale, steps=calls, eta=eta, seed=seed)
            row = {"size": 10_000, "steps": steps, "seed": seed, "scale": scale, "calls": calls, "eta": eta}
            rows.append(row | counted(x, label.cpu() if scale > 0 else None, real))
            progress(str(rows[-1]))
    floor = round(metrics.frechet_distance(again, real), 3)
    return {"n": n, "batch_size": 64, "floor": floor, "rows": rows}, {}


def counted(x, label, real):
    """What pictures x show: share with as many dots as label (B,) says, for all and for each count; share of proper
    pictures; how often each count came; and the Frechet distance of their brightness to that of real ones."""
    count = count_dots(x)
    result = {"proper": round(float(proper_dots(x).double().mean()), 4)}
    result["histogram"] = count.clamp(max=12).bincount(minlength=13).tolist()
    if label is not None:
        right = (count == label).double()
        result["right"] = round(float(right.mean()), 4)
        result["right_by_count"] = [round(float(right[label == k].mean()), 4) for k in range(1, 9)]
        result["mean_error"] = round(float((count - label).double().mean()), 4)
    return result | {"frechet": round(metrics.frechet_distance(brightness(x), real), 3)}


def brightness(x):
    """(B, 64) features of pictures (B, 1, 16, 16): the means of their blocks of 2 x 2 pixels."""
    return F.avg_pool2d(x, 2).flatten(1)


# ---------------------------------------------------------------------------------------------- minority

# Two classes in the plane, each of a frequent and a rare kind: where are the rare ones, seen from the other class?
PLACES = {
    "inside": ((-0.8, 0.0), (-0.25, 0.0), (0.8, 0.0), (0.25, 0.0)),  # frequent and rare of class 0, then of class 1
    "beside": ((-0.5, -0.3), (-0.5, 0.3), (0.5, -0.3), (0.5, 0.3)),
    "outside": ((-0.25, 0.0), (-0.8, 0.0), (0.25, 0.0), (0.8, 0.0)),
}


def rare_kinds(where, rare=0.1, std=0.08):
    """The exact densities of two classes with a rare kind each: (class 0, both classes), for exact_mixture.

    Args:
        where: "inside" (between the frequent kinds), "beside" or "outside" (beyond them).
        rare: share of the rare kind within its class, in (0, 1).
        std: standard deviation of every kind.

    Returns:
        two dicts of weights, means and stds, frequent kinds first and rare ones second in each class.
    """
    require_place(where)
    require_rare(rare)
    means, weights = torch.tensor(PLACES[where]), torch.tensor([1 - rare, rare])
    one = {"weights": weights, "means": means[:2], "stds": torch.full((2,), std)}
    return one, {"weights": weights.repeat(2) / 2, "means": means, "stds": torch.full((4,), std)}


def rare_share(where, scale, interval=(0, 1), n=4000, steps=100, seed=0, rare=0.1):
    """Share of the rare kind among n guided samples of class 0, with exact denoisers: nothing is learned here.

    Args:
        where, rare: as for `rare_kinds`.
        scale: of guidance.
        interval: times with guidance.
        n, steps, seed: samples, steps of DDIM, and the seed of their noise.
    """
    one, both = rare_kinds(where, rare)
    schedule = Cosine()
    plain, anything = (exact_mixture(schedule, **kinds) for kinds in (one, both))
    denoiser = guidance.limited(guidance.classifier_free(plain, anything, scale), plain, *interval)
    noise = samplers.start_noise(schedule, (n, 2), torch.Generator().manual_seed(seed))
    x = samplers.last(samplers.ddim(denoiser, schedule, noise, samplers.time_grid(steps)))
    return float((torch.cdist(x, both["means"]).argmin(1) == 1).double().mean())


def slant(x):
    """How much each digit x (B, 1, 28, 28) leans to the right: (B,), the shear that would set it upright.

    Minus the covariance of column and row over the variance of the row, over the ink (rows run downwards).
    """
    require_pictures(x)
    ink = (x[:, 0].double() + 1).clamp(min=0) + 1e-9  # (B, H, W)
    ink = ink / ink.sum((1, 2), keepdim=True)
    row = torch.arange(x.shape[2], dtype=torch.float64, device=x.device)[:, None]
    column = torch.arange(x.shape[3], dtype=torch.float64, device=x.device)
    from_row = row - (ink * row).sum((1, 2))[:, None, None]
    from_column = column - (ink * column).sum((1, 2))[:, None, None]
    return -(ink * from_row * from_column).sum((1, 2)) / (ink * from_row**2).sum((1, 2))


def rare_styles(x, label, training, training_label):
    """How frequent rare styles are among digits of known classes: {style: share}.

    "thin", "bold", "left" and "right" are the tenth of each class with least and most ink, and that which leans most to
    the left and to the right, as the training digits say: each has a share of 0.1 there. "open" is the share of zeros,
    sixes and nines without a hole; "loop" that of twos with one. "spread of ink" and "spread of slant" are standard
    deviations within a class over those of the training digits, means over the classes.

    Args:
        x, label: (B, 1, 28, 28) and (B,), with samples of each class.
        training, training_label: what is frequent and what is rare.
    """
    require_classes(label, training_label)
    result = {}
    measures = {("thin", "bold", "spread of ink"): ink, ("left", "right", "spread of slant"): slant}
    for (low, high, spread), measure in measures.items():
        value, real = measure(x), measure(training)
        each = []
        for k in label.unique():
            v, r = value[label == k], real[training_label == k]
            least, most = r.quantile(0.1), r.quantile(0.9)
            each.append(torch.stack([(v < least).double().mean(), (v > most).double().mean(), v.std() / r.std()]))
        result |= dict(zip((low, high, spread), torch.stack(each).mean(0).tolist()))
    round_ones, twos = torch.isin(label, torch.tensor([0, 6, 9])), label == 2
    result["open"] = float((count_holes(x[round_ones]) == 0).double().mean())
    result["loop"] = float((count_holes(x[twos]) > 0).double().mean())
    return {style: round(share, 4) for style, share in result.items()}


def ink(x):
    """How much of each picture x (B, ...) in [-1, 1] is white: (B,) shares."""
    return (x.double().flatten(1).mean(1) + 1) / 2


def minority(device, seeds, progress, scales=(1, 2, 3, 5, 8), digit_scales=(2, 3, 5), n=500, steps=20):
    """Rare kinds under guidance: in the plane, with exact denoisers, and rare styles of digits, with the shipped model.

    Both with guidance at all times and in the interval of `pretrained` only.
    """
    ways = {"everywhere": (0, 1), "interval": pretrained.INTERVAL}
    exact = []
    for place in PLACES:
        for where, interval in ways.items():
            for scale in scales:
                share = round(rare_share(place, scale, interval), 4)
                exact.append({"place": place, "where": where, "scale": scale, "share": share})
    progress(str(exact))
    model, judge = pretrained.digits(device), pretrained.classifier()
    training, label = data.digits("train"), torch.arange(n, device=device) % 10
    rows = []
    for where, scale in [("everywhere", 1), *((where, scale) for where in ways for scale in digit_scales)]:
        for seed in seeds:
            x = pretrained.sample_digits(model, label, scale, ways[where], steps, eta=0, seed=seed).cpu()
            row = {"where": where, "scale": scale, "seed": seed}
            row["accuracy"] = round(metrics.accuracy(judge, x, label.cpu()), 4)
            rows.append(row | rare_styles(x, label.cpu(), *training))
            progress(str(rows[-1]))
    real = rare_styles(*data.digits("held_out"), *training)
    return {
        "rare": 0.1,
        "exact": exact,
        "n": n,
        "sampler": f"ddim, {steps} steps, eta 0",
        "real": real,
        "rows": rows,
    }, {}


# ---------------------------------------------------------------------------------------------- resolution


def enlarge(x, factor):
    """Images (B, C, H, W) with every pixel as a square of factor x factor pixels: (B, C, factor H, factor W)."""
    require_enlargement(factor)
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def read_through_noise(judge, x_0, label, schedule, t, factor, generator=None):
    """Share of enlarged digits that are still read at time t, after the mean of each square of pixels was taken.

    The mean of factor x factor pixels keeps the picture and divides the standard deviation of the noise by factor.

    Args:
        judge: a FeatureNetwork.
        x_0, label: digits (B, 1, 28, 28) and their classes (B,).
        schedule: a Schedule.
        t: a time in [0, 1) with some signal.
        factor: side of the enlarged digits over 28, a whole number.
        generator: for the noise.
    """
    large = enlarge(x_0, factor)
    x_t = add_noise(schedule, large, noise_like(large, generator), t)
    alpha_t, _ = schedule.scales(t, like=x_t)
    return metrics.accuracy(judge, F.avg_pool2d(x_t / alpha_t, factor), label)


def resolution(device, seeds, progress, n=1000, factors=(1, 2, 4), times=tuple(i / 20 for i in range(1, 20))):
    """Where digits of 28, 56 and 112 pixels drown in noise: accuracy of reading them at each time, under the cosine
    schedule and under the same schedule shifted for their size; and the time at which one half is read."""
    judge, (x_0, label) = pretrained.classifier(), (values[:n] for values in data.digits("held_out"))
    rows = []
    for shifted in (False, True):
        for factor in factors:
            schedule = Shifted(Cosine(), factor) if shifted else Cosine()
            for seed in seeds:
                generator = torch.Generator().manual_seed(seed)
                seen = [read_through_noise(judge, x_0, label, schedule, t, factor, generator) for t in times]
                row = {"shifted": shifted, "side": 28 * factor, "seed": seed}
                row |= {"accuracy": [round(share, 4) for share in seen], "half_at": round(crossing(times, seen), 4)}
                rows.append(row)
                progress(str(row))
    return {"n": n, "times": list(times), "rows": rows}, {}


def crossing(times, shares, level=0.5):
    """The time at which falling shares first go below the level, on the line between two measured times."""
    require_crossing(times, shares, level)
    i = next(i for i, share in enumerate(shares) if share < level)
    return times[i - 1] + (shares[i - 1] - level) / (shares[i - 1] - shares[i]) * (times[i] - times[i - 1])


# ---------------------------------------------------------------------------------------------- the command


def main(arguments=None):
    """Make results again: python -m diffusion_lib.limits NAME."""
    experiments = {"memory": memory, "dots": dots, "minority": minority, "resolution": resolution}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=list(experiments))
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds")
    parser.add_argument("--folder", type=Path, default=Path(str(resources.files("diffusion_lib"))) / "assets/measured")
    options = parser.parse_args(arguments)
    device, begin = best_device(), time.perf_counter()
    results, images = experiments[options.name](device, range(options.seeds), partial(print, flush=True))
    results = measured.circumstances(device) | {"took_seconds": round(time.perf_counter() - begin)} | results
    path = options.folder / f"{options.name}.json"
    if images:
        measured.write_pictures(path.with_suffix(".npz"), {key: x.numpy() for key, x in images.items()})
    measured.write(path, results)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
