"""Exercises of lesson 09: known pixels, the jump back, strength, the way back from averages, noisy measurements."""

import math
from functools import partial

import torch
import torch.nn.functional as F

from ..denoisers import exact_mixture
from ..forward import add_noise, noise_like
from ..samplers import ddim, last, time_grid
from ..schedules import Betas, Cosine, Linear
from .engine import Exercise, Untouched, Wrong, ask, ask_tensor, close, compare, describe, seeded


def normal(shape, generator):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


# ---------------------------------------------------------------------------------------------- 09.1 known pixels


def keep_with(slip=""):
    """The denoiser of 09.1 with one slip; without a name it is right."""

    def my_keep(denoiser, known, mask, trust=1.0):
        def denoiser_with_known(x_t, t):
            if slip == "the question, not the answer":
                return denoiser(torch.where(mask.bool(), trust * known + (1 - trust) * x_t, x_t), t)
            x_0 = denoiser(x_t, t)
            believed = {
                "trust reversed": (1 - trust) * known + trust * x_0,
                "trust ignored": known,
                "added": x_0 + trust * known,
                "x_t for the estimate": trust * known + (1 - trust) * x_t,
                "faded": trust * known,
            }.get(slip, trust * known + (1 - trust) * x_0)
            if slip == "mask reversed":
                return torch.where(mask.bool(), x_0, believed)
            if slip == "everywhere":
                return believed
            if slip == "multiplied":
                return mask * believed + (1 - mask.to(x_0)) * x_0
            return torch.where(mask.bool(), believed, x_0)

        return denoiser_with_known

    return my_keep


def keep_exact(denoiser, known, mask, trust=1.0):
    def denoiser_with_known(x_t, t):
        x_0 = denoiser(x_t, t)
        believed = known if trust == 1 else trust * known + (1 - trust) * x_0
        return torch.where(mask.bool(), believed, x_0)

    return denoiser_with_known


KEEP_SYMPTOMS = {
    "mask reversed": "Your known pixels are the denoiser's, and your unknown ones are those of `known`: what does a 1 "
    "in the mask mean?",
    "the question, not the answer": "You put the known pixels into x_t, the question. At time t these pixels should "
    "be under noise; where does the estimate of x_0 come out?",
    "trust reversed": "With trust = 1 the denoiser has its way, with trust = 0 the known pixels: is trust on the right "
    "one of the two?",
    "trust ignored": "Your known pixels are those of `known` for every trust. What is mixed, if trust is 0.7?",
    "added": "The known pixels come on top of the estimate: what has to make room for them?",
    "x_t for the estimate": "What is not believed comes from x_t, which is noisy: what does the task mix with?",
    "faded": "Your known pixels become darker with less trust: what stands there in the place of what is not believed?",
    "everywhere": "Your unknown pixels change as well. Which pixels are to believe `known`?",
}


def smooth_denoiser(x_t, t):
    """Any smooth function of x_t and t."""
    return torch.tanh(1.7 * x_t) + 0.3 * t


def test_keep(answer):
    generator = seeded(9)
    cases = [((3, 2, 4, 5), (1, 1, 4, 5), 1.0), ((2, 3, 3, 4), (2, 3, 3, 4), 0.7), ((4, 6), (1, 6), 0.25)]
    for kind in (torch.bool, torch.float64):
        for shape, mask_shape, trust in cases:
            known, x_t = normal(shape, generator), normal(shape, generator)
            mask = (torch.rand(mask_shape, generator=generator) < 0.5).to(kind)
            made = ask(answer, smooth_denoiser, known, mask, trust)
            if not callable(made):
                return f"A denoiser is expected, a function (x_t, t) -> x_0, and this is {describe(made)}."
            before = known.clone()
            got = ask_tensor(made, x_t, 0.6, shape=shape)
            if not torch.equal(known, before):
                return (
                    "Your denoiser changes `known` when it is called, and it is called once for every step: does a "
                    "line write into it?"
                )
            slips = {
                text: keep_with(slip)(smooth_denoiser, known, mask, trust)(x_t, 0.6)
                for slip, text in KEEP_SYMPTOMS.items()
            }
            right = keep_exact(smooth_denoiser, known, mask, trust)(x_t, 0.6)
            if symptom := compare(got, right, slips, f"the estimate with trust = {trust}", tolerance=1e-9):
                return symptom
    known, x_t, mask = normal((2, 1, 4, 4), generator), normal((2, 1, 4, 4), generator), torch.ones(1, 1, 4, 4)
    mask[..., 2:] = 0
    blank = torch.where(mask.bool(), known, torch.inf)
    blank[..., 3:] = torch.nan
    got = ask(ask(answer, smooth_denoiser, blank, mask), x_t, 0.3)
    if not got.isfinite().all():
        return (
            "It is right while every number is finite. But where the mask is 0 `known` may hold anything, and here "
            "what it holds leaks into the estimate: what is 0 times infinity, and which function chooses instead of "
            "multiplying?"
        )
    inside = mask.bool().expand_as(got)
    if not torch.equal(got[inside], known[inside]):
        return "With trust = 1 the known pixels are only nearly those of `known`: do they pass through arithmetic?"
    return None


def one_answer_for_all(denoiser, known, mask, trust=1.0):
    """Asks the denoiser too early: an estimate, not a denoiser."""
    return keep_exact(denoiser, known, mask, trust)(known, 0.5)


# ---------------------------------------------------------------------------------------------- 09.2 the jump back


def jump_with(slip=""):
    """The jump of 09.2 with one slip; without a name it is right."""

    def my_jump(schedule, x_s, noise, s, t):
        alpha_s, sigma_s = schedule.scales(s, like=x_s)
        alpha_t, sigma_t = schedule.scales(t, like=x_s)
        shrink = alpha_t / alpha_s
        if slip == "add_noise":
            return add_noise(schedule, x_s, noise, t)
        variance = {
            "alpha and sigma of one circle": 1 - shrink**2,
            "all noise": sigma_t**2,
            "old noise not shrunk": sigma_t**2 - sigma_s**2,
            "shrink not squared": sigma_t**2 - shrink * sigma_s**2,
            "deviations subtracted": (sigma_t - shrink * sigma_s) ** 2,
            "a variance": (sigma_t**2 - shrink**2 * sigma_s**2) ** 2,
        }.get(slip, sigma_t**2 - shrink**2 * sigma_s**2)
        signal = {"no shrinking": 1.0, "alpha_t": alpha_t, "the wrong way": alpha_s / alpha_t}.get(slip, shrink)
        return signal * x_s + variance.sqrt() * noise

    return my_jump


JUMP_SYMPTOMS = {
    "add_noise": "Yours is add_noise with x_s in the place of x_0. But x_s is shrunk and noisy already.",
    "alpha and sigma of one circle": "It is right where alpha^2 + sigma^2 = 1. Not every schedule has that: which "
    "variance must x_t have?",
    "all noise": "Your x_t has variance {too_much:.2f} around alpha_t x_0, where {variance:.2f} is expected: some of "
    "the noise is in x_s already. How much of it is left after shrinking?",
    "old noise not shrunk": "Your x_t has too little noise: the noise in x_s shrinks together with its signal before "
    "fresh noise is added. By which factor does its variance shrink?",
    "shrink not squared": "Your x_t has too little noise: a factor in front of x_s changes a variance by which power?",
    "deviations subtracted": "You subtract standard deviations. What adds up when independent noises meet?",
    "a variance": "Your fresh noise is multiplied by a variance. What is noise multiplied by?",
    "no shrinking": "Your x_t carries the signal of x_s, alpha_s x_0. How large should it be at t?",
    "alpha_t": "Your signal is alpha_t alpha_s x_0: x_s was shrunk once already. What is left to do?",
    "the wrong way": "Your signal grows on the way into the noise: is the ratio of alphas upside down?",
}


class FlatScales:
    """A schedule whose scales keep the shape (B,), as they come out of schedule.alpha(t)."""

    def __init__(self, schedule):
        self.schedule = schedule

    def scales(self, t, like):
        return self.schedule.alpha(t), self.schedule.sigma(t)


def one_time_for_all(schedule, x_s, noise, s, t):
    return jump_with()(FlatScales(schedule), x_s, noise, s, t)


def test_jump(answer):
    generator = seeded(2)
    for schedule, shape in [(Cosine(), (4, 3)), (Betas.linear(500), (3, 2, 5, 4)), (Linear(), (5, 2))]:
        x_s, noise = (0.5 + normal(shape, generator) for _ in range(2))
        s, t = (torch.rand(2, generator=generator, dtype=torch.float64) * 0.3 + torch.tensor([0.15, 0.55])).unbind()
        got = ask_tensor(answer, schedule, x_s, noise, s, t, shape=shape)
        sigma_t, ratio = float(schedule.sigma(t)), float(schedule.alpha(t) / schedule.alpha(s))
        numbers = {"variance": sigma_t**2, "too_much": sigma_t**2 + (ratio * float(schedule.sigma(s))) ** 2}
        slips = {
            text.format(**numbers): jump_with(slip)(schedule, x_s, noise, s, t) for slip, text in JUMP_SYMPTOMS.items()
        }
        if symptom := compare(got, jump_with()(schedule, x_s, noise, s, t), slips, "x_t", tolerance=1e-6):
            return symptom
    x_s, noise = normal((2, 4, 2, 3, 4), generator).unbind()
    inputs = (Cosine(), x_s, noise, torch.tensor([0.1, 0.2, 0.3, 0.5]), torch.tensor([0.3, 0.9, 0.5, 0.8]))
    try:
        got = ask_tensor(answer, *inputs, shape=x_s.shape).double()
    except Wrong:
        got = torch.zeros(())
    if not close(got, jump_with()(*inputs), 1e-6):
        return (
            "It is right when all samples share their s and t and wrong when each has its own: what shape must alpha_t "
            "have to multiply (B, C, H, W), and which method of the schedule sees to that?"
        )
    return None


# ---------------------------------------------------------------------------------------------- 09.3 strength


def image_to_image_with(slip=""):
    """The function of 09.3 with one slip; without a name it is right."""

    def my_image_to_image(denoiser, schedule, image, strength, steps, generator):
        if strength == 0 and slip != "no end at 0":
            return image
        noise = torch.randn(image.shape, dtype=image.dtype) if slip == "own noise" else noise_like(image, generator)
        begin = {"strength reversed": 1 - strength}.get(slip, strength)
        level = {"noised to 1": 1.0, "strength reversed": 1 - strength}.get(slip, strength)
        x_t = {
            "no noise": image,
            "image not shrunk": image + schedule.scales(strength, like=image)[1] * noise,
            "plain noise": image + noise,
        }.get(slip, add_noise(schedule, image, noise, level))
        count = {
            "all steps": steps,
            "rounded down": max(1, int(strength * steps)),
            "rounded up": max(1, math.ceil(strength * steps)),
            "the other share": max(1, round((1 - strength) * steps)),
        }.get(slip, round(strength * steps) if slip == "no step" else max(1, round(strength * steps)))
        start = 1.0 if slip == "grid from 1" else begin
        if slip == "fresh noise":
            return last(ddim(denoiser, schedule, x_t, time_grid(count, start=start), 1.0, generator))
        if slip == "end of the whole grid":
            return last(ddim(denoiser, schedule, x_t, time_grid(steps)[-(count + 1) :]))
        if slip == "noised to the grid":
            times = time_grid(steps)[-(count + 1) :]
            return last(ddim(denoiser, schedule, add_noise(schedule, image, noise, times[0]), times))
        return last(ddim(denoiser, schedule, x_t, time_grid(count, start=start)))

    return my_image_to_image


STRENGTH_SYMPTOMS = {
    "grid from 1": "Your sampler begins at t = 1, and the image was noised to t = strength only: the denoiser is told "
    "of more noise than there is. Where does the grid begin?",
    "noised to 1": "Your image is noised to t = 1, and the sampler begins at t = strength: the denoiser is told of "
    "less noise than there is. To which time is the image noised?",
    "strength reversed": "With strength 1 you get the image, and near 0 a free sample: which end is which?",
    "no noise": "Your sampler begins with the clean image: the denoiser looks for noise that is not there.",
    "image not shrunk": "Your noisy image is brighter than any x_t of training: what happens to the signal at time t?",
    "plain noise": "Your noise has variance 1 at every strength, and the image is not shrunk. Which function of lesson "
    "01 makes x_t?",
    "all steps": "You make all the steps, however weak the strength: each of yours is shorter than one of a whole run. "
    "How many of them lie below t = strength?",
    "rounded down": "One step too few for some strengths: int cuts off where round is asked for.",
    "rounded up": "One step too many for some strengths: you round up where round is asked for.",
    "fresh noise": "Your steps add fresh noise; asked is eta = 0.",
    "end of the whole grid": "Your times are the last ones of a whole run, and the first of them is not always "
    "strength: your image has more or less noise than the denoiser is told.",
    "noised to the grid": "Your times are the last ones of a whole run, and the first of them is not always strength.",
    "the other share": "You make few steps for a large strength and many for a small one: which share of the run lies "
    "between t = strength and 0?",
}


def test_image_to_image(answer):
    schedule, generator = Cosine(), seeded(3)
    means = normal((3, 2), generator)
    denoiser = exact_mixture(schedule, [0.5, 0.3, 0.2], means, [0.3, 0.2, 0.4])
    image = normal((6, 2), generator)
    for strength, steps in [(0.6, 10), (0.3, 20), (0.75, 9), (0.35, 9), (1.0, 12)]:
        got = ask_tensor(answer, denoiser, schedule, image, strength, steps, seeded(5), shape=image.shape)
        again = ask_tensor(answer, denoiser, schedule, image, strength, steps, seeded(5), shape=image.shape)
        if not close(got.double(), again.double(), 1e-9):
            return "Two calls with equal generators give two pictures: does your noise come from `generator`?"
        inputs = (denoiser, schedule, image, strength, steps)
        slips = {}
        for slip, text in STRENGTH_SYMPTOMS.items():
            if strength < 1 or slip in ("no noise", "image not shrunk", "plain noise"):
                slips[text] = partial(image_to_image_with(slip), *inputs, seeded(5))
        right = image_to_image_with()(*inputs, seeded(5))
        if symptom := compare(got, right, slips, f"the picture with strength {strength}", tolerance=1e-6):
            return symptom
    try:
        got = ask_tensor(answer, denoiser, schedule, image, 0.0, 10, seeded(5), shape=image.shape)
    except Wrong as wrong:
        return (
            f"It is right from 0.3 to 1. But with strength 0 no step is left to make, and yours does not give the "
            f"image back. {wrong}"
        )
    if not torch.equal(got, image):
        return "It is right from 0.3 to 1. But strength 0 should give the image back, unchanged to the last bit."
    try:
        got = ask_tensor(answer, denoiser, schedule, image, 0.02, 10, seeded(5), shape=image.shape)
    except Wrong:
        return "With strength 0.02 and 10 steps your number of steps rounds to 0: at least one must be made."
    if torch.equal(got, image):
        return "With strength 0.02 and 10 steps you give the image back: at least one step must be made."
    right = image_to_image_with()(denoiser, schedule, image, 0.02, 10, seeded(5))
    return compare(got, right, what="the picture with strength 0.02", tolerance=1e-6)


# ---------------------------------------------------------------------------------------------- 09.4 averages


def way_back(y, factor):
    return y.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def correction(x_0, y, factor):
    return x_0 + way_back(y - F.avg_pool2d(x_0, factor), factor)


def transposed(y, factor):
    return way_back(y, factor) / factor**2


def sums(y, factor):
    return way_back(y, factor) * factor**2


def tiled(y, factor):
    return y.repeat(1, 1, factor, factor)


def one_corner(y, factor):
    out = torch.zeros_like(way_back(y, factor))
    out[..., ::factor, ::factor] = y * factor**2
    return out


def blurred(y, factor):
    return F.interpolate(y, scale_factor=factor, mode="bilinear")


WAY_BACK_SYMPTOMS = {
    transposed: "Your way back is A transposed, not the pseudo-inverse: measured again, it gives y divided by the "
    "number of pixels in a square. Which value must they have for their mean to be y?",
    sums: "Measured again, your picture gives too much, by the number of pixels in a square: y is a mean, not a sum.",
    tiled: "Your picture is the small one several times side by side. Each value should fill its own square.",
    one_corner: "Your picture measures right, but it is not the smallest one that does: all the light of a square is "
    "in one pixel. Which values have the same mean and the smallest sum of squares?",
    blurred: "Your picture is smooth and does not measure y: at the edges of a square it borrows from the neighbours.",
}


def forgets_the_estimate(x_0, y, factor):
    return way_back(y, factor)


def only_the_change(x_0, y, factor):
    return way_back(y - F.avg_pool2d(x_0, factor), factor)


def adds_all(x_0, y, factor):
    return x_0 + way_back(y, factor)


def wrong_sign(x_0, y, factor):
    return x_0 - way_back(y - F.avg_pool2d(x_0, factor), factor)


def through_transposed(x_0, y, factor):
    return x_0 + transposed(y - F.avg_pool2d(x_0, factor), factor)


CORRECTION_SYMPTOMS = {
    forgets_the_estimate: "Your correction measures y, but nothing of the estimate is left in it: what y does not see "
    "should stay as the denoiser made it.",
    only_the_change: "That is the change alone. What does it change?",
    adds_all: "You add all of y on top of an estimate that measures something already. What is missing to y?",
    wrong_sign: "Your correction moves away from y: which of the two is subtracted from the other?",
    through_transposed: "Your correction goes only a part of the way to y: does it use the pseudo-inverse?",
}


def test_way_back(answer):
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        return f"Two functions are expected, the way back and the correction, and this is {describe(answer)}."
    first, second = answer
    generator = seeded(4)
    cases = [((2, 1, 3, 4), 2), ((1, 3, 2, 2), 3), ((3, 2, 4, 1), 4)]
    for shape, factor in cases:
        B, C, h, w = shape
        y, full = 0.5 + normal(shape, generator), (B, C, factor * h, factor * w)
        try:
            got = ask_tensor(first, y, factor, shape=full)
        except Untouched:
            x_0 = normal(full, generator)
            ask(second, x_0, y, factor)  # raises Untouched if that one is open as well
            return "You wrote the correction; the way back is still to be written."
        slips = {text: slip(y, factor) for slip, text in WAY_BACK_SYMPTOMS.items()}
        if symptom := compare(got, way_back(y, factor), slips, "the way back", tolerance=1e-6):
            return symptom
    for shape, factor in cases:
        B, C, h, w = shape
        y, full = 0.5 + normal(shape, generator), (B, C, factor * h, factor * w)
        x_0 = normal(full, generator)
        try:
            got = ask_tensor(second, x_0, y, factor, shape=full)
        except Untouched:
            return "Your way back is right: it is the pseudo-inverse. The correction is still to be written."
        slips = {text: slip(x_0, y, factor) for slip, text in CORRECTION_SYMPTOMS.items()}
        if symptom := compare(got, correction(x_0, y, factor), slips, "the correction", tolerance=1e-6):
            return symptom
    return None


# ---------------------------------------------------------------------------------------------- 09.5 what y says


def update_with(slip=""):
    """The update of 09.5 with one slip; without a name it is right."""

    def my_update(guess, C_t, A, y, std):
        noise = std**2 * torch.eye(len(A), dtype=A.dtype)
        S = A @ C_t @ A.T + noise
        if slip == "variance for deviation":
            S = A @ C_t @ A.T + std * torch.eye(len(A), dtype=A.dtype)
        if slip == "the estimate is certain":
            S = noise
        if slip == "noise forgotten":
            S = A @ C_t @ A.T
        if slip == "variance everywhere":
            S = A @ C_t @ A.T + std**2
        if slip == "y alone":
            return guess + C_t @ A.T @ torch.linalg.solve(S, y)
        carry = A.T if slip == "no pixel tells of another" else C_t @ A.T
        if slip == "the pseudo-inverse":
            return guess + torch.linalg.pinv(A) @ (y - A @ guess)
        off = A @ guess - y if slip == "wrong sign" else y - A @ guess
        change = carry @ torch.linalg.solve(S, off)
        return change if slip == "only the change" else guess + change

    return my_update


UPDATE_SYMPTOMS = {
    "the estimate is certain": "Yours is DPS: it trusts the guess fully, so the step is too long. What else than the "
    "camera's noise makes y differ from A guess?",
    "noise forgotten": "Your result measures y exactly, noise and all: where is the variance of the noise?",
    "variance for deviation": "std is a standard deviation; what stands in a covariance matrix?",
    "variance everywhere": "It is right for one measured number. With more, you add std^2 to every entry of the "
    "matrix: which entries are variances?",
    "y alone": "You correct by all of y. What does the guess measure already?",
    "no pixel tells of another": "Only the measured directions move, and with the wrong size: which matrix carries "
    "what was measured to the numbers that go together with it?",
    "the pseudo-inverse": "Yours is `consistent`: it ignores how numbers go together, and how noisy y is.",
    "wrong sign": "Your result moves away from y: which of the two is subtracted from the other?",
    "only the change": "That is the change alone. What does it change?",
}


def test_update(answer):
    generator = seeded(6)
    for D, K in [(2, 1), (5, 2), (4, 3)]:
        root = normal((D, D), generator)
        C_t, A = root @ root.T / D + 0.2 * torch.eye(D, dtype=torch.float64), normal((K, D), generator)
        guess, y, std = normal((D,), generator), normal((K,), generator), 0.4
        got = ask_tensor(answer, guess, C_t, A, y, std, shape=(D,))
        slips = {text: update_with(slip)(guess, C_t, A, y, std) for slip, text in UPDATE_SYMPTOMS.items()}
        right = update_with()(guess, C_t, A, y, std)
        if symptom := compare(got, right, slips, "the update"):
            return symptom
    return None


EXERCISES = {
    "09.1": Exercise(
        test=test_keep,
        solution=keep_exact,
        mistakes={
            "mask reversed": (keep_with("mask reversed"), "what does a 1 in the mask mean"),
            "the question, not the answer": (keep_with("the question, not the answer"), "the question"),
            "trust reversed": (keep_with("trust reversed"), "is trust on the right one"),
            "trust ignored": (keep_with("trust ignored"), "What is mixed"),
            "added": (keep_with("added"), "make room"),
            "faded": (keep_with("faded"), "darker with less trust"),
            "x_t for the estimate": (keep_with("x_t for the estimate"), "comes from x_t, which is noisy"),
            "everywhere": (keep_with("everywhere"), "unknown pixels change"),
            "multiplied": (keep_with("multiplied"), "what is 0 times infinity"),
            "one answer for all": (one_answer_for_all, "A denoiser is expected"),
        },
        remark="It is a denoiser again, so that guidance, clipping and every sampler can go around it.",
    ),
    "09.2": Exercise(
        test=test_jump,
        solution=jump_with(),
        mistakes={
            "the jump from 0": (jump_with("all noise"), "in x_s already"),
            "old noise not shrunk": (jump_with("old noise not shrunk"), "By which factor does its variance"),
            "shrink not squared": (jump_with("shrink not squared"), "by which power"),
            "deviations subtracted": (jump_with("deviations subtracted"), "You subtract standard deviations"),
            "a variance": (jump_with("a variance"), "multiplied by a variance"),
            "no shrinking": (jump_with("no shrinking"), "carries the signal of x_s"),
            "alpha_t for the ratio": (jump_with("alpha_t"), "shrunk once already"),
            "the ratio upside down": (jump_with("the wrong way"), "upside down"),
            "add_noise again": (jump_with("add_noise"), "in the place of x_0"),
            "variances that sum to 1": (jump_with("alpha and sigma of one circle"), "Not every schedule has that"),
            "one time for all": (one_time_for_all, "wrong when each has its own"),
        },
        remark="With s = 0 it is add_noise, and with neighbouring steps it is lesson 01's noising_step.",
    ),
    "09.3": Exercise(
        test=test_image_to_image,
        solution=image_to_image_with(),
        mistakes={
            "grid from 1": (image_to_image_with("grid from 1"), "Where does the grid begin"),
            "noised to 1": (image_to_image_with("noised to 1"), "To which time is the image noised"),
            "strength reversed": (image_to_image_with("strength reversed"), "which end is which"),
            "no noise": (image_to_image_with("no noise"), "noise that is not there"),
            "image not shrunk": (image_to_image_with("image not shrunk"), "brighter than any x_t"),
            "plain noise": (image_to_image_with("plain noise"), "Which function of lesson 01"),
            "all steps": (image_to_image_with("all steps"), "You make all the steps"),
            "rounded down": (image_to_image_with("rounded down"), "int cuts off"),
            "rounded up": (image_to_image_with("rounded up"), "you round up"),
            "fresh noise": (image_to_image_with("fresh noise"), "asked is eta = 0"),
            "the end of a whole grid": (image_to_image_with("end of the whole grid"), "the denoiser is told"),
            "noised to that grid": (image_to_image_with("noised to the grid"), "not always strength"),
            "the other share": (image_to_image_with("the other share"), "which share of the run"),
            "no end at 0": (image_to_image_with("no end at 0"), "with strength 0 no step is left"),
            "no step at all": (image_to_image_with("no step"), "rounds to 0"),
            "own noise": (image_to_image_with("own noise"), "does your noise come from"),
        },
        remark="The cost is in proportion to the strength: a light touch-up is cheaper than a new picture.",
    ),
    "09.4": Exercise(
        test=test_way_back,
        solution=(way_back, correction),
        mistakes={
            "A transposed": ((transposed, correction), "A transposed"),
            "sums": ((sums, correction), "y is a mean, not a sum"),
            "tiled": ((tiled, correction), "side by side"),
            "one corner": ((one_corner, correction), "not the smallest one"),
            "interpolated": ((blurred, correction), "borrows from the neighbours"),
            "the estimate forgotten": ((way_back, forgets_the_estimate), "nothing of the estimate is left"),
            "all of y added": ((way_back, adds_all), "on top of an estimate"),
            "wrong sign": ((way_back, wrong_sign), "moves away from y"),
            "corrected through A transposed": ((way_back, through_transposed), "a part of the way"),
            "only the change": ((way_back, only_the_change), "What does it change"),
            "the other half": ((lambda y, factor: ..., correction), "the way back is still to be written"),
            "only half done": ((way_back, lambda x_0, y, factor: ...), "still to be written"),
        },
        remark="The nearest picture with these averages: what you add is the same for all pixels of a square.",
    ),
    "09.5": Exercise(
        test=test_update,
        solution=update_with(),
        mistakes={
            "DPS": (update_with("the estimate is certain"), "Yours is DPS"),
            "noise forgotten": (update_with("noise forgotten"), "noise and all"),
            "a deviation for a variance": (update_with("variance for deviation"), "what stands in a covariance"),
            "variance in every entry": (update_with("variance everywhere"), "which entries are variances"),
            "all of y": (update_with("y alone"), "measure already"),
            "no covariance": (update_with("no pixel tells of another"), "which matrix carries"),
            "the projection": (update_with("the pseudo-inverse"), "Yours is `consistent`"),
            "wrong sign": (update_with("wrong sign"), "moves away from y"),
            "only the change": (update_with("only the change"), "the change alone"),
        },
        remark="It is the step of a Kalman filter, and every method of this lesson leaves out a part of it.",
    ),
}
