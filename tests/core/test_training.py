"""training: closed forms, an independent Muon, and runs that are killed, damaged, poisoned and go on bit for bit."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from diffusion_lib import data, training
from diffusion_lib.denoisers import Denoiser, even_times, exact_gaussian
from diffusion_lib.forward import noise_like
from diffusion_lib.networks import MLP, UNet
from diffusion_lib.schedules import Cosine
from diffusion_lib.targets import V
from diffusion_lib.training import (
    EMA,
    Checkpoint,
    Muon,
    learning_rate_share,
    load_tensors,
    orthogonal,
    save_tensors,
    train,
)
from tests.common import normal, seeded
from tools import ROOT

STEPS, SAVE_EVERY = 12, 5


class Scalar(nn.Module):
    """The smallest model: numbers that learn."""

    def __init__(self, *values):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(values or (1.0,)))


def forever(value=None):
    while True:
        yield value


def sgd(model, lr=1.0):
    return [torch.optim.SGD(model.parameters(), lr=lr)]


def moons_loss(model, batch, generator):
    x_0, label = batch
    return model.loss(x_0, even_times(len(x_0), generator), noise_like(x_0, generator), label=label)


class Parts:
    """A small run with everything in it: labels, both optimisers, EMA, resumable batches."""

    def __init__(self, width=16, muon_rate=0.02, ema=True, seed=0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = Denoiser(MLP(features=2, width=width, depth=2, labels=2), Cosine(), V)
        x_0, label = data.two_moons(70, seeded(1))
        self.batches = data.Batches(x_0, label, batch_size=16, seed=2)  # 4 in an epoch: the run crosses epochs
        self.optimizers = training.make_optimizers(self.model, muon_rate=muon_rate)
        self.ema = EMA(self.model) if ema else None

    def train(self, steps=STEPS, loss_fn=moons_loss, **options):
        return train(self.model, self.batches, loss_fn, steps, optimizers=self.optimizers, ema=self.ema, **options)

    def checkpoint(self):
        scaler = torch.amp.GradScaler(enabled=False)
        return Checkpoint(self.model, self.optimizers, self.ema, self.batches, torch.Generator().manual_seed(0), scaler)

    def state(self):
        """Everything that decides how the run goes on, as (name, value) pairs that can be compared."""
        tensors = {name: value.clone() for name, value in self.checkpoint().tensors().items() if name != "generator"}
        position = getattr(self.batches, "position", None)
        return tensors, (position, self.ema.step if self.ema else None)


def same(a, b):
    """Bit for bit."""
    return a[1] == b[1] and a[0].keys() == b[0].keys() and all(torch.equal(a[0][k], b[0][k]) for k in a[0])


# ------------------------------------------------------------------------------------------------- EMA


def walk_weights(ema, n=30):
    """Give the model other weights n times and take each into the average: returns all of them, the first included."""
    values = [ema.model.w.detach().clone()]
    for k in range(n):
        with torch.no_grad():
            ema.model.w.copy_(torch.tensor([math.sin(k), k / 10]))
        ema.update()
        values.append(ema.model.w.detach().clone())
    return torch.stack(values).double()


def test_ema_is_its_closed_form():
    """The weight of step k is share_k * product over later j of (1 - share_j), share_k = 1 / (1 + window k)."""
    for window in (0.05, 0.12, 1.0):
        ema = EMA(Scalar(0.3, -0.2), window)
        values = walk_weights(ema)
        share = [1.0] + [1 / (1 + window * k) for k in range(1, 31)]
        weight = [share[k] * math.prod(1 - s for s in share[k + 1 :]) for k in range(31)]
        assert sum(weight) == pytest.approx(1)
        right = (torch.tensor(weight).double()[:, None] * values).sum(0)
        torch.testing.assert_close(ema.average["w"].double(), right, rtol=1e-5, atol=1e-6)


def test_ema_over_the_whole_run_is_the_mean():
    ema = EMA(Scalar(0.3, -0.2), window=1.0)
    torch.testing.assert_close(walk_weights(ema).mean(0), ema.average["w"].double(), rtol=1e-5, atol=1e-6)


def test_ema_looks_at_the_window_of_the_steps_so_far():
    """The mean age of what is averaged is about window * steps, however long the run is."""
    for steps in (100, 1000):
        share = [1 / (1 + 0.12 * k) for k in range(1, steps + 1)]
        ema = EMA(Scalar(0.0), window=0.12)
        for k in range(1, steps + 1):
            with torch.no_grad():
                ema.model.w.fill_(float(k))
            ema.update()
        age = steps - float(ema.average["w"])
        assert 0.08 * steps < age < 0.14 * steps and share[-1] < 0.1


def test_swap_exchanges_and_exchanges_back():
    ema = EMA(Scalar(0.3, -0.2))
    walk_weights(ema, 3)
    weights, average = ema.model.w.detach().clone(), ema.average["w"].clone()
    assert not torch.equal(weights, average)
    ema.swap()
    assert torch.equal(ema.model.w, average) and torch.equal(ema.average["w"], weights)
    ema.swap()
    assert torch.equal(ema.model.w, weights) and torch.equal(ema.average["w"], average)


# ------------------------------------------------------------------------------------------------ Muon

A, B, C = 3.4445, -4.7750, 2.0315  # the polynomial of Jordan et al. 2024


def by_svd(G, steps=5):
    """What Newton-Schulz does, on the singular values alone: s -> a s + b s^3 + c s^5, five times, from s / |G|."""
    U, S, Vh = torch.linalg.svd(G, full_matrices=False)
    S = S / (S.square().sum().sqrt() + 1e-7)
    for _ in range(steps):
        S = A * S + B * S**3 + C * S**5
    return (U * S) @ Vh


@pytest.mark.parametrize("shape", [(16, 16), (16, 40), (40, 16), (3, 5)])
def test_orthogonal_moves_the_singular_values_alone(shape):
    G = normal(*shape)
    torch.testing.assert_close(orthogonal(G), by_svd(G), rtol=1e-9, atol=1e-9)


def test_orthogonal_brings_singular_values_near_one():
    S = torch.linalg.svdvals(orthogonal(normal(16, 64) * 1e3))
    assert 0.65 < S.min() and S.max() < 1.25
    torch.testing.assert_close(orthogonal(normal(4, 9)), orthogonal(1e-3 * normal(4, 9)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(16, 20), (40, 16), (24, 4, 3, 3)])
def test_muon_is_nesterov_momentum_made_orthogonal(shape):
    """Against the same written with an SVD, over several steps, for matrices and for convolutions."""
    p = nn.Parameter(normal(*shape))
    right, momentum = p.detach().clone(), torch.zeros(shape, dtype=torch.float64)
    optimizer = Muon([p], lr=0.02, momentum=0.95)
    rows, columns = shape[0], math.prod(shape[1:])
    for k in range(4):
        p.grad = normal(*shape, seed=10 + k)
        momentum = 0.95 * momentum + 0.05 * p.grad
        update = by_svd((0.05 * p.grad + 0.95 * momentum).reshape(rows, columns)).reshape(shape)
        right = right - 0.02 * max(1, rows / columns) ** 0.5 * update
        optimizer.step()
        torch.testing.assert_close(p.detach(), right, rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
@pytest.mark.parametrize("shape", [(16, 20), (40, 16)])
def test_muon_is_torch_s(shape):
    """torch iterates in bfloat16, whose step is 1/256."""
    ours, theirs = nn.Parameter(normal(*shape).float()), nn.Parameter(normal(*shape).float())
    optimizers = [Muon([ours], lr=0.02), torch.optim.Muon([theirs], lr=0.02, weight_decay=0.0)]
    for k in range(4):
        ours.grad, theirs.grad = normal(*shape, seed=k).float(), normal(*shape, seed=k).float()
        before = ours.detach().clone(), theirs.detach().clone()
        for optimizer in optimizers:
            optimizer.step()
        moved = ours.detach() - before[0], theirs.detach() - before[1]
        assert (moved[0] - moved[1]).norm() < 0.02 * moved[0].norm()


def test_muon_leaves_weights_without_gradient_alone():
    p, q = nn.Parameter(normal(16, 16)), nn.Parameter(normal(16, 16))
    before = q.detach().clone()
    optimizer = Muon([p, q])
    p.grad = normal(16, 16, seed=1)
    optimizer.step()
    assert torch.equal(q, before) and not torch.equal(p, before)


def test_every_parameter_has_one_optimiser():
    model = UNet(channels=1, widths=(16, 32), labels=10, condition_dim=32)
    adamw, muon = training.make_optimizers(model, learning_rate=1e-3, muon_rate=0.05)
    assert type(adamw) is torch.optim.AdamW and type(muon) is Muon
    assert adamw.param_groups[0]["lr"] == 1e-3 and muon.param_groups[0]["lr"] == 0.05
    both = [id(p) for optimizer in (adamw, muon) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(both) == sorted(id(p) for p in model.parameters())
    names = {id(p): name for name, p in model.named_parameters()}
    for_muon = {names[id(p)] for p in muon.param_groups[0]["params"]}
    assert "down.0.conv_1.weight" in for_muon and "middle_1.film.weight" in for_muon
    # norms, biases, the label table, and the layers at both ends are no matrices inside the network
    assert not any("bias" in n or "norm" in n or "condition.label" in n or n.startswith("first.") for n in for_muon)
    assert len(training.make_optimizers(model, muon_rate=0)) == 1


# ------------------------------------------------------------------------------- devices and precision


def test_the_16_bit_type_fits_the_machine(monkeypatch):
    for capability, right in [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None, c=capability: c)
        assert training.half_precision("cuda") == right
    for supported in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda s=supported: s, raising=False)
        assert training.half_precision("cpu") == (torch.bfloat16 if supported else None)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert training.half_precision("cpu") is None
    assert training.half_precision("mps") is None


def test_the_best_device_is_the_first_there_is(monkeypatch):
    monkeypatch.delenv("DIFFUSION_DEVICE", raising=False)
    monkeypatch.setattr(training, "calculates", lambda device: True)
    for cuda, mps, right in [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda c=cuda: c)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda m=mps: m)
        assert training.best_device().type == right
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("DIFFUSION_DEVICE", "cpu")
    assert training.best_device().type == "cpu"


def test_a_device_that_cannot_calculate_is_left_out_with_a_warning(monkeypatch):
    def calculates(device):
        raise RuntimeError("no kernel image is available for execution on the device")

    assert training.calculates("cpu")
    monkeypatch.delenv("DIFFUSION_DEVICE", raising=False)
    monkeypatch.setattr(training, "calculates", calculates)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.warns(UserWarning, match="cuda is there and does not work.*no kernel image"):
        assert training.best_device().type == "cpu"


def test_compiling_reaches_the_network_that_training_calls():
    model = Denoiser(MLP(features=1), Cosine(), V)
    assert training.to_device(model, "cpu", compile=True).network._compiled_call_impl is not None


def test_muon_s_step_depends_on_the_number_of_inputs_alone():
    """Root mean square 1 / sqrt(columns), for tall and wide matrices alike; Newton-Schulz leaves some 15 per cent."""
    for rows, columns in [(64, 256), (256, 64), (128, 128), (32, 64), (128, 64)]:
        p = nn.Parameter(torch.zeros(rows, columns))
        p.grad = torch.randn(rows, columns, generator=seeded(rows))
        Muon([p], lr=1.0).step()
        assert p.square().mean().sqrt().item() * columns**0.5 == pytest.approx(0.9, abs=0.2)


class Overflow(nn.Module):
    """One weight for each of two optimisers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))


def overflowing_run(monkeypatch, factors, steps):
    """`train` on the CPU with an old GPU's scaler; `factors` scale the first weight's gradient, step by step."""
    scaler, made = torch.amp.GradScaler, []

    def on_cpu(enabled):
        made.append(scaler("cpu", init_scale=8.0))
        return made[-1]

    monkeypatch.setattr(torch.amp, "GradScaler", on_cpu)
    model, factors = Overflow(), iter(factors)
    ema = EMA(model)

    def loss(model, batch, generator):
        hooked = model.first * 1.0
        factor = next(factors)
        hooked.register_hook(lambda gradient: gradient * factor)
        return hooked + model.second

    optimizers = [torch.optim.SGD([p], lr=0.1) for p in (model.first, model.second)]
    run = train(model, iter([None] * 99), loss, steps, optimizers=optimizers, ema=ema, warmup=0.0)
    return model, ema, made, run


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_step_that_overflows_for_one_optimizer_is_left_out_for_all(bad, monkeypatch):
    model, ema, made, run = overflowing_run(monkeypatch, [1, bad, 1], 3)
    next(run)
    before = [p.item() for p in model.parameters()]
    assert all(value < 1 for value in before)
    next(run)
    assert [p.item() for p in model.parameters()] == before and ema.step == 1
    assert made[0].get_scale() == 4.0
    next(run)
    assert all(p.item() < value for p, value in zip(model.parameters(), before)) and ema.step == 2


def test_overflow_that_no_scale_cures_stops_the_run(monkeypatch):
    model, _, _, run = overflowing_run(monkeypatch, [float("nan")] * 9, 9)
    with pytest.raises(FloatingPointError, match="gradient's norm became nan in step 4"):
        list(run)
    assert [p.item() for p in model.parameters()] == [1.0, 1.0]


def test_a_run_after_one_that_stopped_is_not_spoilt_by_its_gradients():
    model = Overflow()
    with pytest.raises(FloatingPointError, match="gradient's norm"):
        list(train(model, iter([0]), lambda m, b, g: (m.first - 1).abs().sqrt() + m.second, 1))
    history = list(train(model, iter([0, 0]), lambda m, b, g: m.first + m.second, 2))
    assert len(history) == 2 and all(p.isfinite() for p in model.parameters())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux which files are open")
def test_a_checkpoint_that_was_read_is_not_kept_open(tmp_path):
    path = tmp_path / "kept.safetensors"
    save_tensors(path, {"x": torch.arange(5000.0)}, {})
    tensors, _ = load_tensors(path)
    assert path.name not in Path("/proc/self/maps").read_text()
    assert tensors["x"][-1] == 4999


def test_autocast_changes_matrix_products_or_nothing():
    layer, x = nn.Linear(4, 4), torch.ones(1, 4)
    with training.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with training.autocast("cpu", None):
        assert layer(x).dtype == torch.float32


def test_half_precision_keeps_the_weights_in_single_precision():
    parts, seen = Parts(), []

    def loss_fn(model, batch, generator):
        seen.append(torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"))
        return moons_loss(model, batch, generator)

    losses = [p.loss for p in parts.train(4, loss_fn, dtype=torch.bfloat16)]
    assert seen == [torch.bfloat16] * 4 and all(math.isfinite(loss) for loss in losses)
    assert {p.dtype for p in parts.model.parameters()} == {torch.float32}
    exact = Parts()
    for loss, right in zip(losses, [p.loss for p in exact.train(4)]):
        assert loss == pytest.approx(right, rel=0.05)


# -------------------------------------------------------------------------------------------- the loop


def test_the_learning_rate_rises_in_a_line_and_falls_in_half_a_cosine():
    assert learning_rate_share(0.0, 0.1) == pytest.approx(0.01)
    assert learning_rate_share(0.05, 0.1) == pytest.approx(0.505)
    assert learning_rate_share(0.1, 0.1) == 1
    assert learning_rate_share(0.55, 0.1) == pytest.approx(0.5)
    assert learning_rate_share(0.1 + 0.9 / 3, 0.1) == pytest.approx(0.75)
    assert learning_rate_share(1.0, 0.1) == pytest.approx(0, abs=1e-12)
    assert learning_rate_share(0.0, 0.0) == 1


def test_every_optimiser_gets_its_share_of_its_own_peak():
    model, seen = Scalar(1.0), []
    optimizers = sgd(model, 0.5) + sgd(model, 0.002)

    def loss_fn(model, batch, generator):
        seen.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers])
        return model.w**2

    history = list(train(model, forever(), loss_fn, steps=20, optimizers=optimizers, warmup=0.25))
    right = [learning_rate_share(k / 20, 0.25) for k in range(20)]
    assert [p.rate for p in history] == pytest.approx(right)
    assert [p.step for p in history] == list(range(1, 21))
    for lr, share in zip(seen, right):
        assert lr == pytest.approx([0.5 * share, 0.002 * share])


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(training.time, "perf_counter", lambda: self.now)


def test_by_seconds(monkeypatch):
    clock, model = Clock(monkeypatch), Scalar(1.0)

    def loss_fn(model, batch, generator):
        clock.now += 0.5
        return model.w**2

    history = list(train(model, forever(), loss_fn, seconds=4, optimizers=sgd(model, 0.1)))
    assert [p.seconds for p in history] == pytest.approx([0.5 * k for k in range(1, 9)])
    assert [p.rate for p in history] == pytest.approx([learning_rate_share(k / 8, 0.05) for k in range(8)])
    assert len(list(train(model, forever(), loss_fn, steps=3, seconds=4, optimizers=sgd(model)))) == 3
    assert len(list(train(model, forever(), loss_fn, steps=300, seconds=4, optimizers=sgd(model)))) == 8


@pytest.mark.parametrize("size, moved", [(100.0, 1.0), (0.25, 0.25)])
def test_the_gradient_is_clipped_to_its_norm(size, moved):
    model = Scalar(0.6, -0.8)
    slope = size * torch.tensor([0.6, 0.8])
    next(train(model, forever(), lambda m, b, g: (m.w * slope).sum(), steps=1, optimizers=sgd(model), warmup=0.0))
    step = torch.tensor([0.6, -0.8]) - model.w.detach()
    torch.testing.assert_close(step, moved * torch.tensor([0.6, 0.8]), rtol=1e-4, atol=1e-6)


def test_the_loss_is_averaged_over_the_batch():
    model = Scalar(2.0)
    progress = next(train(model, forever(), lambda m, b, g: m.w * torch.tensor([1.0, 3.0]), 1, optimizers=sgd(model)))
    assert progress.loss == pytest.approx(4.0)


def test_gradients_do_not_pile_up():
    """With a constant slope every step is rate * slope; gradients that pile up would take 2, 3, ... times that."""
    model, before = Scalar(1.0), 1.0
    for p in train(model, forever(), lambda m, b, g: 0.01 * m.w, 5, optimizers=sgd(model), warmup=0.0):
        assert before - float(model.w.detach()) == pytest.approx(0.01 * p.rate, rel=1e-3)
        before = float(model.w.detach())


def test_randomness_comes_from_the_seed_alone():
    states = []
    for seed in (0, 0, 1):
        parts = Parts()
        torch.manual_seed(len(states))
        before = torch.random.get_rng_state()
        list(parts.train(seed=seed))
        assert torch.equal(before, torch.random.get_rng_state())
        states.append(parts.state())
    assert same(states[0], states[1]) and not same(states[0], states[2])


def test_training_finds_the_exact_denoiser():
    """Data from one Gaussian: the best answer is known, and a short run comes close to it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Denoiser(MLP(features=1, width=32, depth=2), Cosine(), V)
    x_0 = 0.3 + 0.4 * normal(4096, 1, dtype=torch.float32)
    ema = EMA(model)

    def loss_fn(model, x_0, generator):
        pick = torch.randint(len(x_0), (128,), generator=generator)
        return model.loss(x_0[pick], even_times(128, generator), noise_like(x_0[pick], generator))

    list(train(model, forever(x_0), loss_fn, steps=300, ema=ema))
    ema.swap()
    exact = exact_gaussian(Cosine(), 0.3, 0.4)
    for t in (0.2, 0.5, 0.8):
        alpha, sigma = float(Cosine().alpha(t)), float(Cosine().sigma(t))
        x_t = alpha * 0.3 + math.hypot(alpha * 0.4, sigma) * torch.linspace(-2, 2, 41)[:, None]
        with torch.no_grad():
            assert (model(x_t, t) - exact(x_t, t)).abs().mean() < 0.06


# ------------------------------------------------------------------------------------------- poisoning


def poisoned(at, poison):
    """A loss that goes wrong in step `at`."""
    step = 0

    def loss_fn(model, batch, generator):
        nonlocal step
        step += 1
        loss = moons_loss(model, batch, generator)
        return poison(model, loss) if step == at else loss

    return loss_fn


POISONS = {
    "the loss is nan": lambda model, loss: loss * math.nan,
    "the loss is infinite": lambda model, loss: loss * math.inf,
    # d sqrt(x) / dx is infinite at 0, and infinity times 0 is nan, while the loss itself stays finite
    "only its gradient is nan": lambda model, loss: loss + (0 * next(model.parameters())).sum().sqrt(),
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_nan_stops_before_the_weights_are_touched(poison):
    parts, clean = Parts(), Parts()
    run = parts.train(loss_fn=poisoned(4, poison))
    for _ in range(3):
        next(run)
        before = parts.state()
    with pytest.raises(
        FloatingPointError, match="became (nan|inf) in step 4; the weights are those of the step before"
    ):
        next(run)
    after = parts.state()
    assert same((before[0], None), (after[0], None))
    history = clean.train()
    for _ in range(3):
        next(history)
    assert same((clean.state()[0], None), (after[0], None))


# ---------------------------------------------------------------------------------- checkpoint, resume


def whole():
    """The run that nobody disturbs."""
    parts = Parts()
    list(parts.train())
    return parts.state()


def victim(path, how):
    """In a process of its own: a run that does not survive. The file of step 5 is what is left."""
    parts = Parts()
    if how == "saving":  # dies in the save of step 10, with the new file written and not yet in its place
        training.os.replace = stop_before_replacing(training.os.replace)
    for progress in parts.train(checkpoint=path, save_every=SAVE_EVERY):
        print(progress.step, flush=True)
        if how == "training" and progress.step == 8:
            time.sleep(600)


def stop_before_replacing(replace):
    count = 0

    def replacement(part, path):
        nonlocal count
        count += 1
        if count == 2:
            print("8", flush=True)
            time.sleep(600)
        replace(part, path)

    return replacement


@pytest.mark.parametrize("how", ["training", "saving"])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, how):
    path = tmp_path / "run.safetensors"
    code = f"from tests.core.test_training import victim; victim({str(path)!r}, {how!r})"
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE) as process:
        try:
            reached = any(line.strip() == b"8" for line in process.stdout)
        finally:
            process.kill()
    assert reached and process.returncode != 0
    assert load_tensors(path)[1]["step"] == SAVE_EVERY

    parts = Parts(seed=3)  # other weights: all that counts comes from the file
    resumed = list(parts.train(checkpoint=path, save_every=SAVE_EVERY))
    assert [p.step for p in resumed] == list(range(SAVE_EVERY + 1, STEPS + 1))
    assert same(parts.state(), whole())


def test_stopping_and_going_on_changes_nothing(tmp_path):
    """Also for runs that stop between two saves, and that are resumed more than once."""
    path = tmp_path / "run.safetensors"
    for stop in (7, 11, STEPS):
        parts = Parts(seed=0 if stop == 7 else stop)  # resumed runs begin with other weights
        for progress in parts.train(checkpoint=path, save_every=SAVE_EVERY):
            if progress.step == stop:
                break
    assert same(parts.state(), whole())
    assert (
        list(Parts(seed=1).train(checkpoint=path)) == []
    )  # it is over: step 12 was saved, though 5 does not divide it
    assert same(parts.state(), whole())


def test_the_time_of_a_resumed_run_counts_on(tmp_path, monkeypatch):
    clock, path = Clock(monkeypatch), tmp_path / "run.safetensors"

    def loss_fn(model, batch, generator):
        clock.now += 1
        return moons_loss(model, batch, generator)

    for progress in Parts().train(None, loss_fn, seconds=10, checkpoint=path, save_every=4):
        if progress.step == 6:
            break
    clock.now += 1000  # a night passes
    history = list(Parts().train(None, loss_fn, seconds=10, checkpoint=path, save_every=4))
    assert [p.step for p in history] == [5, 6, 7, 8, 9, 10]
    assert [p.seconds for p in history] == pytest.approx([5, 6, 7, 8, 9, 10])
    assert load_tensors(path)[1]["step"] == 10  # the end is saved, though 4 does not divide it
    assert list(Parts().train(None, loss_fn, seconds=10, checkpoint=path, save_every=4)) == []


def test_a_second_run_begins_with_the_first_rates_again():
    """The first run leaves the optimisers with a rate near 0; that is not the peak of the next one."""
    parts = Parts()
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in parts.optimizers]
    _, second = list(parts.train()), list(parts.train())
    assert [o.param_groups[0]["lr"] for o in parts.optimizers] == pytest.approx([second[-1].rate * p for p in peaks])


def test_batches_that_end_too_early_are_named():
    parts = Parts()
    parts.batches = iter([next(parts.batches) for _ in range(3)])
    with pytest.raises(ValueError, match="batches ended after 3 steps, before the run did"):
        list(parts.train())


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of step 5, and its bytes."""
    path = tmp_path / "run.safetensors"
    for progress in Parts().train(checkpoint=path, save_every=SAVE_EVERY):
        if progress.step == SAVE_EVERY:
            break
    return path, path.read_bytes()


@pytest.mark.parametrize("broken", ["save_file", "replace"])
def test_an_error_while_saving_leaves_the_old_file(saved, monkeypatch, broken):
    path, content = saved

    def half(tensors, part, metadata):
        Path(part).write_bytes(content[: len(content) // 2])
        raise OSError("No space left on device")

    def refuse(part, path):
        raise PermissionError("the file is open elsewhere")

    with monkeypatch.context() as patch:
        patch.setattr(*((training, "save_file", half) if broken == "save_file" else (training.os, "replace", refuse)))
        with pytest.raises(OSError, match="No space left" if broken == "save_file" else "open elsewhere"):
            list(Parts().train(checkpoint=path, save_every=SAVE_EVERY))
    assert path.read_bytes() == content
    parts = Parts(seed=3)
    list(parts.train(checkpoint=path))
    assert same(parts.state(), whole())


def refused(path, parts=None, words="not a complete file of weights"):
    """Resuming from this file must say so and leave every part of the run as it was."""
    parts = parts or Parts(seed=3)
    run = parts.checkpoint()
    before, generator = parts.state(), run.generator.get_state()
    with pytest.raises(ValueError, match=words):
        run.load(path)
    assert same(before, parts.state()) and torch.equal(generator, run.generator.get_state())
    with pytest.raises(ValueError, match=words):
        next(parts.train(checkpoint=path))
    assert same(before, parts.state())


def test_a_truncated_checkpoint_is_refused(saved):
    path, content = saved
    for size in (0, 1, 7, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        refused(path)


def test_a_checkpoint_with_one_altered_byte_is_refused(saved):
    """Anywhere: in the length, in the header's numbers and names, in the weights."""
    path, content = saved
    header = 8 + int.from_bytes(content[:8], "little")
    spots = torch.randint(header, (25,), generator=seeded()).tolist()
    spots += torch.randint(header, len(content), (25,), generator=seeded()).tolist()
    step = content.index(b'\\"step\\": 5') + len(b'\\"step\\": ')
    run = Parts(seed=3).checkpoint()
    before = {name: value.clone() for name, value in run.tensors().items()}
    for spot in [step, *spots]:
        altered = bytearray(content)
        altered[spot] ^= 1
        path.write_bytes(altered)
        with pytest.raises(ValueError, match=r"delete it and make or fetch it again"):
            run.load(path)
    assert all(torch.equal(before[name], value) for name, value in run.tensors().items())


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    for content in (
        b"",
        b"hello",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 123456\n",
        b"\x80\x04",
    ):
        path.write_bytes(content)
        refused(path)
    training.save_file({"w": torch.ones(2)}, path)  # safetensors, but not one of ours
    refused(path)
    save_tensors(path, {"w": torch.ones(2)}, {"name": "other weights"})
    refused(path, words="holds another run than this one")


def test_a_checkpoint_of_another_run_is_refused(saved):
    path, _ = saved
    words = "holds another run than this one .*{}.*Give the same model"
    refused(path, Parts(width=32), words.format("network"))
    refused(path, Parts(ema=False), words.format("ema"))
    refused(path, Parts(muon_rate=0), words.format("optimisers"))
    plain = Parts()
    plain.batches = forever(next(plain.batches))  # a position cannot be set in it
    refused(path, plain, words.format("batches"))


def test_a_checkpoint_of_a_gpu_run_with_loss_scale_goes_on_without(saved):
    """And the other way round: a scaler refuses an empty state."""
    path, _ = saved
    tensors, numbers = load_tensors(path)
    assert numbers["scaler"] == {}
    save_tensors(path, tensors, numbers | {"scaler": {"scale": 1024.0, "growth_factor": 2.0, "backoff_factor": 0.5}})
    parts = Parts(seed=3)
    list(parts.train(checkpoint=path))
    assert same(parts.state(), whole())


def test_tensors_and_header_survive_the_file(tmp_path):
    tensors = {
        "a": normal(3, 4).T,  # not contiguous
        "b": torch.tensor(3, dtype=torch.int64),
        "c": normal(2, 2).bfloat16(),
        "d": torch.zeros(0),
        "e": torch.tensor([True, False]),
    }
    header = {"text": "äöü", "numbers": [1, 2.5, None]}
    save_tensors(tmp_path / "x.safetensors", tensors, header)
    back, numbers = load_tensors(tmp_path / "x.safetensors")
    assert numbers == header and back.keys() == tensors.keys()
    assert all(torch.equal(back[k], tensors[k]) and back[k].dtype == tensors[k].dtype for k in tensors)
    assert [f.name for f in tmp_path.iterdir()] == ["x.safetensors"]


# ------------------------------------------------------------------------------------------------- GPU


def gpu_parts(device="cuda"):
    torch.manual_seed(0)
    parts = Parts()
    parts.model = training.to_device(Denoiser(UNet(1, (16, 32), labels=10), Cosine(), V), device)
    x_0, label = data.digits("train")
    parts.batches = data.Batches(x_0[:640].to(device), label[:640].to(device), 64)
    parts.optimizers, parts.ema = training.make_optimizers(parts.model), EMA(parts.model)
    return parts


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16], ids=str)
def test_a_run_on_a_gpu_learns(dtype):
    parts = gpu_parts()
    losses = [p.loss for p in parts.train(60, dtype=dtype)]
    assert all(math.isfinite(loss) for loss in losses) and sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert {p.dtype for p in parts.model.parameters()} == {torch.float32}


@pytest.mark.gpu
def test_the_loss_scale_is_saved_and_put_back(tmp_path):
    path = tmp_path / "run.safetensors"
    list(gpu_parts().train(4, dtype=torch.float16, checkpoint=path))
    assert load_tensors(path)[1]["scaler"]["scale"] > 0
    assert list(gpu_parts().train(4, dtype=torch.float16, checkpoint=path)) == []
    assert [p.step for p in gpu_parts().train(6, dtype=torch.float16, checkpoint=path)] == [5, 6]


@pytest.mark.gpu
def test_a_step_whose_half_precision_gradient_overflows_is_left_out():
    """The scaler halves its scale and goes on; the weights stay finite."""
    parts = gpu_parts()
    history = list(parts.train(8, lambda m, b, g: 1e4 * moons_loss(m, b, g), dtype=torch.float16))
    assert len(history) == 8
    assert all(p.isfinite().all() for p in parts.model.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("first, second", [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_checkpoint_moves_between_devices(tmp_path, first, second):
    path = tmp_path / "run.safetensors"
    list(gpu_parts(first).train(3, checkpoint=path))
    parts = gpu_parts(second)
    with torch.no_grad():
        for p in parts.model.parameters():
            p.zero_()
    dtype = torch.float16 if second == "cuda" else None  # a scaler that the file knows nothing of
    assert [p.step for p in parts.train(5, dtype=dtype, checkpoint=path)] == [4, 5]
    assert next(parts.model.parameters()).device.type == second
    assert all(value.device.type == second for value in parts.ema.average.values())


@pytest.mark.gpu
def test_a_compiled_model_trains_and_shares_its_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"
    parts = gpu_parts()
    parts.model.compile()
    list(parts.train(3, dtype=training.half_precision("cuda"), checkpoint=path))
    assert [p.step for p in gpu_parts().train(4, checkpoint=path)] == [4]  # without compiling, from the same file


@pytest.mark.gpu
def test_the_gpu_sees_the_noise_that_the_cpu_sees():
    seen = []
    for device in ("cpu", "cuda"):
        parts = gpu_parts(device)

        def loss_fn(model, batch, generator):
            seen.append((noise_like(batch[0], generator).cpu(), batch[1].cpu()))
            return moons_loss(model, batch, generator)

        next(parts.train(1, loss_fn))
    assert torch.equal(seen[0][0], seen[1][0]) and torch.equal(seen[0][1], seen[1][1])
