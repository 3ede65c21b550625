"""The training loop, and what keeps it fast, steady and safe (built in lesson 04).

`train` is a generator: it makes one step and tells how it went, so that the caller logs, plots and stops. Around it: an
average of the weights (EMA), a second optimiser for matrices (Muon), half precision where the machine has it, and a
checkpoint from which a killed run goes on bit for bit.
"""

import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from .files import replacing


class Progress(NamedTuple):
    """How a training step went: its number (from 1), loss, learning rate as a share of its peak, seconds since the
    start."""

    step: int
    loss: float
    rate: float
    seconds: float


def best_device() -> torch.device:
    """cuda, then mps, then cpu: the first that this machine has and that can calculate.

    The environment variable DIFFUSION_DEVICE overrules it. A GPU that is there but does not work (one too old for this
    PyTorch, say) is named in a warning and left out.
    """
    if chosen := os.environ.get("DIFFUSION_DEVICE"):
        return torch.device(chosen)
    for name, there in [("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())]:
        try:
            if there and calculates(name):
                return torch.device(name)
        except RuntimeError as error:
            warnings.warn(f"{name} is there and does not work, so the CPU is used: {error}", stacklevel=2)
    return torch.device("cpu")


def calculates(device):
    """Whether a small product comes out right on this device; raises RuntimeError where nothing runs at all."""
    ones = torch.ones(8, 8, device=device)
    return (ones @ ones).sum().item() == 8**3


def half_precision(device: torch.device | str) -> torch.dtype | None:
    """The 16-bit type that pays on this device, or None.

    bfloat16 on GPUs and CPUs that calculate in it, float16 on older GPUs, none elsewhere.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    if device.type == "cpu":
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        return torch.bfloat16 if supported() else None
    return None


def autocast(device: torch.device | str, dtype: torch.dtype | None) -> AbstractContextManager:
    """A context in which convolutions and matrix products run in dtype; None changes nothing."""
    return nullcontext() if dtype is None else torch.autocast(torch.device(device).type, dtype=dtype)


def to_device(model: nn.Module, device: torch.device | str, compile: bool = False) -> nn.Module:
    """The model, ready for its device: channels last on CUDA, where convolutions like it; compiled on request.

    Compiling takes tens of seconds and then saves some in every thousand steps: it pays in long runs.
    """
    device = torch.device(device)
    if device.type == "cuda":
        model = model.to(device, memory_format=torch.channels_last)
    else:
        model = model.to(device)
    if compile:
        getattr(model, "network", model).compile()  # a Denoiser calls its network, in training and in sampling
    return model


class EMA:
    """A running average of the weights: samples come from it, not from the weights that still jump about.

    average += (weights - average) / (1 + window * step): a mean over roughly the last `window` of all steps, however
    long the run is (Karras et al. 2024, sec. 3.1, in the same spirit).

    Args:
        model: the module that is trained.
        window: share of the run that is averaged, in (0, 1].
    """

    def __init__(self, model: nn.Module, window: float = 0.12):
        require_window(window)
        self.model, self.window, self.step = model, window, 0
        self.average = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self):
        """Take the model's present weights into the average."""
        self.step += 1
        share = 1 / (1 + self.window * self.step)
        for name, p in self.model.named_parameters():
            self.average[name].lerp_(p, share)

    @torch.no_grad()
    def swap(self):
        """Exchange the model's weights and the average; call it again to change back."""
        for name, p in self.model.named_parameters():
            weights = p.detach().clone()
            p.copy_(self.average[name])
            self.average[name].copy_(weights)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal: every direction of a weight matrix moves equally far (Jordan et al.
    2024).

    The update of a matrix G is close to U V^T of its singular value decomposition, found by five Newton-Schulz steps.
    Convolution weights (out, in, h, w) count as matrices (out, in * h * w).

    Args:
        parameters: weights with at least two axes.
        lr: size of the update, per root mean square.
        momentum: in [0, 1).
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float = 0.02, momentum: float = 0.95):
        super().__init__(parameters, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                buffer = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(buffer, group["momentum"]).flatten(1)).reshape(p.shape)
                p.add_(
                    update, alpha=-group["lr"] * max(1, update.flatten(1).shape[0] / update.flatten(1).shape[1]) ** 0.5
                )


def orthogonal(G: Tensor, steps: int = 5) -> Tensor:
    """A matrix with the singular vectors of G and singular values near 1, by Newton-Schulz iteration.

    Args:
        G: (rows, columns).
        steps: number of iterations; five bring most values into 0.7 .. 1.2.
    """
    a, b, c = 3.4445, -4.7750, 2.0315  # Jordan et al. 2024
    X = G.T if G.shape[0] > G.shape[1] else G
    X = X / (X.norm() + 1e-7)
    for _ in range(steps):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return X.T if G.shape[0] > G.shape[1] else X


def make_optimizers(model: nn.Module, learning_rate: float = 1e-2, muon_rate: float = 0.02) -> list[Optimizer]:
    """Muon for the weight matrices inside the network, AdamW for everything else.

    Args:
        model: module to train.
        learning_rate: AdamW's peak rate.
        muon_rate: Muon's peak rate; 0 gives everything to AdamW.

    Returns:
        list of optimisers.
    """
    matrices, rest = [], []
    for module in model.modules():
        for p in module.parameters(recurse=False):
            inside = isinstance(module, (nn.Linear, nn.Conv2d)) and p.ndim >= 2 and min(p.flatten(1).shape) >= 16
            (matrices if inside and muon_rate > 0 else rest).append(p)
    optimizers = [torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01)]
    if matrices:
        optimizers.append(Muon(matrices, lr=muon_rate))
    return optimizers


def train_step(
    model: nn.Module,
    batch,
    loss_fn: Callable,
    generator: torch.Generator,
    optimizers: list[Optimizer],
    scaler: torch.amp.GradScaler,
    ema: EMA | None = None,
    clip: float = 1.0,
    dtype: torch.dtype | None = None,
    step: int = 1,
) -> float:
    """Make one step: the loss of a batch, its gradient, a step of every optimiser, the average.

    Args:
        model, loss_fn, optimizers, ema, clip, dtype: as for `train`.
        batch, generator: what loss_fn gets.
        scaler: a GradScaler; disabled, it changes nothing.
        step: the step's number, for messages.

    Returns:
        the loss before the step.

    Raises:
        FloatingPointError: loss or gradient is not finite; the weights are still those of the step before.
    """
    with autocast(next(model.parameters()).device, dtype):
        loss = loss_fn(model, batch, generator).mean()
    require_finite("loss", loss, step)
    scaler.scale(loss).backward()
    for optimizer in optimizers:
        scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    too_large = scaler.is_enabled() and not torch.isfinite(norm) and scaler.get_scale() > 1
    if not too_large:  # for float16; else leave the step out, and update() lowers the scale of the loss
        require_finite("gradient's norm", norm, step)
        for optimizer in optimizers:
            scaler.step(optimizer)
        if ema is not None:
            ema.update()
    scaler.update()
    model.zero_grad()
    return loss.item()


def train(
    model: nn.Module,
    batches: Iterator,
    loss_fn: Callable,
    steps: int | None = None,
    seconds: float | None = None,
    optimizers: list[Optimizer] | None = None,
    ema: EMA | None = None,
    warmup: float = 0.05,
    clip: float = 1.0,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    save_every: int = 200,
) -> Iterator[Progress]:
    """Train a model, one step at a time: each `next` makes a step and says how it went.

    The learning rate rises over the first `warmup` of the run and falls as half a cosine over the rest. Give `steps` or
    `seconds` (or both: the first to be reached ends the run). A second run with the same optimisers starts again from
    their first rates.

    Args:
        model: module whose parameters learn.
        batches: endless iterator of batches (data.Batches, if the run shall be resumable).
        loss_fn: function (model, batch, generator) -> loss, a number or (B,). Draw its randomness from the generator.
        steps: length of the run in steps.
        seconds: length of the run in seconds.
        optimizers: list of optimisers, make_optimizers(model) if None.
        ema: an EMA of the model, or None.
        warmup: share of the run in which the rate rises, in [0, 1).
        clip: largest norm of the gradient.
        dtype: 16-bit type for autocast, or None for float32 (see half_precision).
        seed: decides the generator that loss_fn gets (on the CPU, so that every device sees the same numbers).
        checkpoint: path of a file to save the run in and to go on from if it exists, or None.
        save_every: steps between two saves; the end of the run is saved, too.

    Yields:
        Progress(step, loss, rate, seconds).

    Raises:
        ValueError: neither steps nor seconds, a number out of its range, or batches that end before the run.
        TypeError: batches is no iterator.
        FloatingPointError: loss or gradient is not finite; the weights are still those of the step before.
    """
    require_run(batches, steps, seconds, warmup, clip, save_every)
    optimizers = make_optimizers(model) if optimizers is None else optimizers
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    scaler = torch.amp.GradScaler(enabled=dtype == torch.float16 and device.type == "cuda")
    state = Checkpoint(model, optimizers, ema, batches, generator, scaler)
    model.zero_grad()  # nothing may be left of what came before
    step, before = state.load(checkpoint) if checkpoint and Path(checkpoint).exists() else (0, 0.0)
    start = time.perf_counter() - before
    while True:
        elapsed = time.perf_counter() - start
        done = max(step / steps if steps else 0.0, elapsed / seconds if seconds else 0.0)
        if done >= 1:
            break
        rate = learning_rate_share(done, warmup)
        set_rates(optimizers, rate)
        batch = next_batch(batches, step)
        step += 1
        loss = train_step(model, batch, loss_fn, generator, optimizers, scaler, ema, clip, dtype, step)
        if checkpoint and (step % save_every == 0 or step == steps):
            state.save(checkpoint, step, time.perf_counter() - start)
        yield Progress(step, loss, rate, time.perf_counter() - start)
    if checkpoint:
        state.save(checkpoint, step, time.perf_counter() - start)


def require_window(window):
    """Refuse a window that is no share of the run."""
    if not 0 < window <= 1:
        raise ValueError(f"window is {window}; expected a share of the run, in (0, 1].")


def require_run(batches, steps, seconds, warmup, clip, save_every):
    """Refuse a run that would never begin, never end, or go wrong in the middle."""
    if not hasattr(batches, "__next__"):
        raise TypeError(f"batches is a {type(batches).__name__}; expected an iterator: data.Batches, or iter(yours).")
    if steps is None and seconds is None:
        raise ValueError("give steps=... or seconds=..., or the run would never end.")
    for name, value in [("steps", steps), ("seconds", seconds), ("clip", clip), ("save_every", save_every)]:
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value}; expected a positive number.")
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is {warmup}; expected a share of the run, in [0, 1).")


def next_batch(batches, step):
    """The next batch, or a clear error where a generator would only say StopIteration."""
    try:
        return next(batches)
    except StopIteration:
        raise ValueError(
            f"batches ended after {step} steps, before the run did; give an endless iterator, such as data.Batches."
        ) from None


def require_finite(name, value, step):
    """Stop before a number that is none gets into the weights."""
    if not torch.isfinite(value):
        raise FloatingPointError(
            f"the {name} became {value.item()} in step {step}; the weights are those of the step before. "
            "Look at the data (is it in [-1, 1]?), or lower the learning rate."
        )


def learning_rate_share(done: float, warmup: float) -> float:
    """Share of the peak rate when `done` of the run is over: up in a line, down in half a cosine.

    Args:
        done, warmup: shares of the run, in [0, 1].
    """
    if done < warmup:
        return 0.01 + 0.99 * done / warmup  # a first step of 0 would be lost
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def set_rates(optimizers: list[Optimizer], share: float) -> None:
    """Give every optimiser this share of the learning rate with which it was made."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group.setdefault("initial_lr", group["lr"])


class Checkpoint:
    """All that a run needs to go on: weights, optimisers, average, position in the data, random generator, loss scale.

    One safetensors file, with the numbers as JSON in its header; written under another name and then renamed, so
    that a kill while saving leaves the file before it. Nothing in it can run code.
    """

    def __init__(self, model, optimizers, ema, batches, generator, scaler):
        self.model, self.optimizers, self.ema = model, optimizers, ema
        self.batches, self.generator, self.scaler = batches, generator, scaler

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the run by name."""
        named = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.ema is not None:
            named |= {f"ema.{name}": value for name, value in self.ema.average.items()}
        for i, optimizer in enumerate(self.optimizers):
            for k, values in optimizer.state_dict()["state"].items():
                named |= {f"optimizer.{i}.{k}.{name}": value for name, value in values.items()}
        return named | {"generator": self.generator.get_state()}

    def layout(self):
        """Name and number of weights of each optimiser: a saved state fits only the same ones."""
        return [[type(o).__name__, sum(len(group["params"]) for group in o.param_groups)] for o in self.optimizers]

    def save(self, path: Path | str, step: int, seconds: float) -> None:
        """Write the run, atomically."""
        numbers = dict(step=step, seconds=seconds, position=getattr(self.batches, "position", None))
        numbers |= dict(ema_step=self.ema.step if self.ema else None, scaler=self.scaler.state_dict())
        numbers |= dict(optimizers=self.layout())
        save_tensors(path, self.tensors(), numbers)

    def load(self, path: Path | str) -> tuple[int, float]:
        """Put a saved run back and return (step, seconds). A file that does not fit changes nothing.

        Raises:
            ValueError: not a checkpoint, damaged, or of another model.
        """
        tensors, numbers = load_tensors(path)
        own = {name: v.shape for name, v in self.tensors().items() if not name.startswith("optimizer.")}
        saved = {name: v.shape for name, v in tensors.items() if not name.startswith("optimizer.")}
        odd = sorted(name for name in own.keys() | saved.keys() if own.get(name) != saved.get(name))
        if numbers.get("optimizers") != self.layout():
            odd.append("its optimisers")
        if (numbers.get("position") is None) != (getattr(self.batches, "position", None) is None):
            odd.append("the position in its batches")
        if odd:
            raise ValueError(
                f"{path} holds another run than this one (it differs in {', '.join(odd[:3])}). "
                "Give the same model, optimisers, EMA and kind of batches, or another checkpoint path."
            )
        self.model.load_state_dict({name: tensors[f"model.{name}"] for name in self.model.state_dict()})
        for i, optimizer in enumerate(self.optimizers):
            state = {}
            for name, value in tensors.items():
                if name.startswith(f"optimizer.{i}."):
                    k, key = name.removeprefix(f"optimizer.{i}.").split(".")
                    state.setdefault(int(k), {})[key] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        if self.ema is not None:
            for name, value in self.ema.average.items():
                value.copy_(tensors[f"ema.{name}"])
            self.ema.step = numbers["ema_step"]
        if numbers["position"] is not None:
            self.batches.position = numbers["position"]
        if numbers["scaler"]:  # empty if the run was saved on a device that needs none
            self.scaler.load_state_dict(numbers["scaler"])
        self.generator.set_state(tensors["generator"])
        return numbers["step"], numbers["seconds"]


def save_tensors(path: Path | str, tensors: dict[str, Tensor], header: dict) -> None:
    """Write named tensors and a JSON header as one safetensors file, atomically.

    Args:
        path: where to.
        tensors: dict of tensors.
        header: dict of numbers, strings, lists.
    """
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    text = json.dumps(header)
    with replacing(path) as part:
        save_file(plain, part, metadata={"header": text, "sha256": fingerprint(plain, text)})


def load_tensors(path: Path | str) -> tuple[dict[str, Tensor], dict]:
    """Named tensors and header of a file from save_tensors.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or a damaged one.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}; look at the folder and the spelling.")
    try:
        with safe_open(path, "pt") as file:
            # Copies: what lies in the file would keep it open, and Windows does not replace open files.
            tensors, header = {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata()
        if header["sha256"] != fingerprint(tensors, header["header"]):
            raise ValueError("its numbers were altered since it was written")
        return tensors, json.loads(header["header"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a complete file of weights ({error}). It may be cut short, or stand for a file that was "
            "never fetched: delete it and make or fetch it again."
        ) from error


def fingerprint(tensors, text):
    """SHA-256 over names, types and bytes of CPU tensors, and a text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
