"""What training and sampling cost: counted in multiply-adds, turned into seconds and watt-hours (built in lesson 12).

The unit of everything here is the multiply-add: one product that is added to a sum. Many count it as two floating point
operations (FLOPs), so a number of FLOPs is twice a number of multiply-adds. Only products of matrices and
convolutions are counted; additions of a bias, normalisation and activations are a few per cent beside them.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .networks import Attention, TransformerBlock


def linear(features_in: int, features_out: int, rows: int = 1) -> int:
    """Multiply-adds of a linear layer: every output needs every input once, for each of the rows."""
    require_whole(features_in=features_in, features_out=features_out, rows=rows)
    return rows * features_in * features_out


def convolution(channels_in: int, channels_out: int, kernel: int, places: int, groups: int = 1) -> int:
    """Multiply-adds of a convolution for one image: kernel^2 * channels_in / groups for each channel of each place.

    Args:
        channels_in, channels_out: C before and after.
        kernel: side of the square kernel.
        places: height * width of the output, which a stride makes smaller than the input. (Of a transposed convolution
            that of the input: there every place of the input is sent out through the kernel.)
        groups: number of groups; channels only see those of their own group.
    """
    require_whole(channels_in=channels_in, channels_out=channels_out, kernel=kernel, places=places, groups=groups)
    require_groups(channels_in, channels_out, groups)
    return kernel**2 * (channels_in // groups) * channels_out * places


def attention(queries: int, keys: int, channels: int) -> int:
    """Multiply-adds of one attention, all heads together: queries with keys, and their weights with the values.

    It grows with the fourth power of an image's side, where every place asks every place.
    """
    require_whole(queries=queries, keys=keys, channels=channels)
    return 2 * queries * keys * channels


def count(network: nn.Module, *inputs: Tensor, **condition) -> dict[str, int]:
    """Multiply-adds of one call of the network, layer by layer, by the three formulas above.

    A network of other parts than linear layers, square convolutions and this course's attentions needs `multiply_adds`.

    Args:
        network: a module; a Denoiser is one.
        *inputs, **condition: what to call it with, such as torch.zeros(1, 1, 28, 28), torch.tensor(0.5).

    Returns:
        {name of the layer: multiply-adds for the whole batch}, in the order of the calls.
    """
    work, hooks = {}, []

    def note(layer, inputs, output, name):
        batch, shape = len(output), output.shape
        if isinstance(layer, nn.Linear):
            amount = linear(layer.in_features, layer.out_features, rows=output[..., 0].numel())
        elif isinstance(layer, Attention):  # (B, C, H, W): every place asks every place
            amount = batch * attention(shape[2] * shape[3], shape[2] * shape[3], channels=shape[1])
        elif isinstance(layer, TransformerBlock):  # (B, L, D): every token asks every token
            amount = batch * attention(shape[1], shape[1], channels=shape[2])
        else:
            spread = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
            channels, places = (layer.in_channels, layer.out_channels), spread.shape[2] * spread.shape[3]
            amount = batch * convolution(*channels, layer.kernel_size[0], places, layer.groups)
        work[name] = work.get(name, 0) + amount

    for name, layer in network.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, Attention, TransformerBlock)):
            hooks.append(layer.register_forward_hook(lambda *call, name=name: note(*call, name=name)))
    try:
        with torch.no_grad():
            network(*inputs, **condition)
    finally:
        for hook in hooks:
            hook.remove()
    return work


def multiply_adds(call: Callable[[], object]) -> int:
    """Multiply-adds of any call, counted by torch, which says two operations for each.

    Args:
        call: function without arguments, such as partial(model, x_t, t) or a whole training step.
    """
    # The counter does not see into an attention that is one fused kernel, so the plain one must do here.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() // 2


def training_cost(one_call: int, images: int) -> int:
    """Multiply-adds of training: three times those of the forward calls.

    Going back costs twice as much as going forward: each layer owes a gradient for its weights and one for its input,
    and each of the two takes as many multiply-adds as the layer itself.

    Args:
        one_call: multiply-adds of the network for one image.
        images: how many images the network sees: steps * batch size.
    """
    require_whole(one_call=one_call, images=images)
    return 3 * one_call * images


def sampling_cost(one_call: int, images: int, calls: int, guided_calls: int = 0) -> int:
    """Multiply-adds of sampling: one call a look, and two where classifier-free guidance looks with and without label.

    Args:
        one_call: multiply-adds of the network for one image.
        images: how many samples.
        calls: how often the sampler looks: DDIM's number of steps, 2 * steps - 1 for Heun.
        guided_calls: in how many of those looks there is guidance.
    """
    require_whole(one_call=one_call, images=images, calls=calls)
    require_guided(calls, guided_calls)
    return one_call * images * (calls + guided_calls)


def rate(call: Callable[[], object], work: float, repeats: int = 5) -> float:
    """Multiply-adds per second of this machine at a call that takes `work` of them; the shortest of several times.

    Args:
        call: function without arguments; it is called repeats + 1 times, the first to warm up.
        work: its multiply-adds.
        repeats: at least 1.
    """
    require_whole(work=work, repeats=repeats)
    shortest = float("inf")
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        shortest = min(shortest, time.perf_counter() - begin)
    return work / shortest


def energy(seconds: float, watts: float, overhead: float = 1.0) -> float:
    """Watt-hours: seconds * watts * overhead / 3600. An estimate, as good as its two assumptions.

    Args:
        seconds: how long the machine works.
        watts: what it draws meanwhile. A processor's or card's rated power is an upper end; a meter knows.
        overhead: power of the whole building over that of the machine (PUE), at least 1; 1 leaves cooling out.
    """
    require_positive(seconds=seconds, watts=watts)
    require_overhead(overhead)
    return seconds * watts * overhead / 3600


class Cost(NamedTuple):
    """What a run costs; prints as `1.2e+12 multiply-adds (2.3e+12 FLOPs), 34 s, 0.94 Wh`."""

    multiply_adds: float
    seconds: float
    watt_hours: float

    def __str__(self):
        return (
            f"{self.multiply_adds:.1e} multiply-adds ({2 * self.multiply_adds:.1e} FLOPs), "
            f"{readable_time(self.seconds)}, {self.watt_hours:.2g} Wh"
        )


def cost(work: float, rate: float, watts: float, overhead: float = 1.0) -> Cost:
    """The Cost of so many multiply-adds on a machine that makes `rate` of them a second.

    Args:
        work: multiply-adds, from training_cost or sampling_cost.
        rate: multiply-adds per second, measured at the same kind of work (training and sampling differ).
        watts, overhead: as for `energy`.
    """
    require_positive(work=work, rate=rate)
    return Cost(work, work / rate, energy(work / rate, watts, overhead))


def readable_time(seconds: float) -> str:
    """Seconds as text in the unit that suits them: `0.25 s`, `34 s`, `12 min`, `5.2 h`, `3.1 days`.

    >>> [readable_time(seconds) for seconds in (0.25, 720, 18_720)]
    ['0.25 s', '12 min', '5.2 h']
    """
    for unit, length in [("days", 86_400), ("h", 3600), ("min", 60)]:
        if seconds >= 2 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


def require_whole(**values):
    """Refuse what is no positive whole number."""
    for name, value in values.items():
        if int(value) != value or value < 1:
            raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1.")


def require_groups(channels_in, channels_out, groups):
    """Refuse groups that do not divide the channels."""
    if channels_in % groups or channels_out % groups:
        raise ValueError(f"{groups} groups for {channels_in} and {channels_out} channels; expected a divisor of both.")


def require_guided(calls, guided_calls):
    """Refuse guidance in more looks than there are."""
    if not 0 <= guided_calls <= calls:
        raise ValueError(f"guided_calls is {guided_calls} of {calls}; expected 0 <= guided_calls <= calls.")


def require_positive(**values):
    """Refuse what is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; expected a positive number.")


def require_overhead(overhead):
    """Refuse a building that draws less than its machines."""
    if not overhead >= 1:
        raise ValueError(f"overhead is {overhead}; expected at least 1, the building's power over the machine's.")
