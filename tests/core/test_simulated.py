"""The library on a second device, one that refuses CPU tensors as CUDA does (tools/simulated.py): what runs there gives
the CPU's numbers, bit for bit, and a forgotten `.to(device)` fails.
"""

import copy
import inspect
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._pytree import tree_leaves

from diffusion_lib import (
    costs,
    data,
    denoisers,
    editing,
    forward,
    guidance,
    metrics,
    networks,
    plots,
    rivals,
    samplers,
    schedules,
    targets,
    tokens,
    training,
)
from diffusion_lib.denoisers import Denoiser, even_times, exact_dataset, exact_gaussian, exact_mixture, middle_times
from diffusion_lib.forward import add_noise, noise_like
from diffusion_lib.samplers import last, start_noise, time_grid
from tests.common import normal, seeded
from tests.core.test_mutations import planted
from tests.core.test_samplers import MIXTURE, SAMPLERS
from tools import simulated

pytestmark = pytest.mark.skipif(not simulated.available(), reason="this PyTorch knows no devices written in Python")
COSINE, LINEAR = schedules.Cosine(), schedules.Linear()
# What a mixture of devices ends in: PyTorch's errors, or the library's own.
ERRORS = (RuntimeError, ValueError, TypeError)
WORDS = "on the same device|device type tensor to numpy|device type for generator|is on sim|is on cpu"


# While tests are collected, because autograd counts the devices when it first works in a process.
if simulated.available():
    simulated.install()


def small_model(device, labels=None):
    """A U-Net whose weights are not zero anywhere, as a denoiser on the device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Denoiser(networks.UNet(channels=1, widths=(8, 16), labels=labels, condition_dim=16), COSINE, targets.V)
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.1)
    return model.to(device)


def images(device, n=4, seed=0):
    return normal(n, 1, 8, 8, seed=seed, dtype=torch.float32).clamp(-1, 1).to(device)


# ------------------------------------------------------------------------------------------ the device itself


def test_a_tensor_says_where_it_is_and_prints_as_one_of_cuda():
    x = torch.tensor([[1.0, 2.0]], device="sim")
    assert x.device == torch.device("sim:0") and x.to("sim") is x and x.cpu().device.type == "cpu"
    assert repr(x) == "tensor([[1., 2.]], device='sim:0')"
    assert f"{x.sum():.1f} {x.sum().item()} {x.tolist()} {int(x[0, 1])}" == "3.0 3.0 [[1.0, 2.0]] 2"


def test_no_tensor_becomes_an_array_unasked():
    x = torch.ones(3, device="sim")
    for attempt in (x.numpy, x[0].numpy, partial(np.asarray, x), partial(np.add, x, 1)):
        with pytest.raises(TypeError, match="can't convert sim:0 device type tensor to numpy. Use Tensor.cpu()"):
            attempt()
    assert x.cpu().numpy().tolist() == x.numpy(force=True).tolist() == [1, 1, 1]


MIXED = {
    "sum": lambda here, there: here + there,
    "in place": lambda here, there: there.add_(here),
    "into a tensor of the CPU": lambda here, there: here.add_(there),
    "into a number of the CPU": lambda here, there: here.sum().add_(there.sum()),
    "into a result of the CPU": lambda here, there: torch.add(there.sum(), 1, out=torch.tensor(0.0)),
    "number of the device": lambda here, there: here * there.sum(),
    "product": lambda here, there: here @ there,
    "concatenation": lambda here, there: torch.cat([here, there]),
    "choice": lambda here, there: torch.where(there > 0, there, here),
    "mask": lambda here, there: there.masked_fill(here > 0, 0.0),
    "comparison": torch.equal,
    "index of the device": lambda here, there: here[there > 0],
    "values": lambda here, there: there.index_put_((torch.tensor([0]),), here[:1]),
    "layer": lambda here, there: torch.nn.Linear(3, 3)(there),
    "lookup": lambda here, there: torch.nn.Embedding(3, 3)(there.long()),
    "loss": lambda here, there: torch.nn.functional.mse_loss(here, there),
    "generator": lambda here, there: torch.randn(3, generator=seeded(), device="sim"),
    "generator in place": lambda here, there: there.normal_(generator=seeded()),
}


@pytest.mark.parametrize("name", MIXED)
def test_tensors_of_two_devices_do_not_meet(name):
    here, there = torch.ones(3, 3), torch.ones(3, 3, device="sim")
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device|Expected a 'sim' device"):
        MIXED[name](here, there)
    assert torch.equal(here, torch.ones(3, 3)) and torch.equal(there.cpu(), here)


def test_what_cuda_allows_is_allowed():
    """Numbers of the CPU, indices of the CPU, copies either way."""
    x = torch.arange(6.0, device="sim").reshape(2, 3)
    assert (x * torch.tensor(2.0)).tolist() == [[0, 2, 4], [6, 8, 10]]
    assert torch.where(x > 2, x, torch.tensor(0.0)).tolist() == [[0, 0, 0], [3, 4, 5]]
    assert x[torch.tensor([1])].tolist() == x[[1]].tolist() == x[np.array([1])].tolist() == [[3, 4, 5]]
    assert x[:, [0, 2]].tolist() == [[0, 2], [3, 5]] and x[torch.tensor([False, True])].tolist() == [[3, 4, 5]]
    assert x[[]].shape == (0, 3) and x[[x[0, 1].long()]].tolist() == [[3, 4, 5]]
    assert torch.zeros(2, 3).copy_(x).tolist() == x.tolist()
    x[[0]] = 7.0
    x[1].copy_(torch.ones(3))
    assert x.tolist() == [[7, 7, 7], [1, 1, 1]]
    assert torch.tensor([x[0, 0], x[1, 1]]).tolist() == [7, 1]


FACTORIES = {
    "arange": lambda d: torch.arange(1, 5, device=d),
    "as_tensor": lambda d: torch.as_tensor([1.0, 2.0], device=d),
    "eye": lambda d: torch.eye(3, 2, device=d),
    "full": lambda d: torch.full((2, 1), 5, device=d),
    "linspace": lambda d: torch.linspace(0, 1, 7, device=d),
    "logspace": lambda d: torch.logspace(0, 1, 7, device=d),
    "new_tensor": lambda d: torch.ones(1, device=d).new_tensor([1, 2]),
    "numpy": lambda d: torch.from_numpy(np.ones(3)).to(d),
    "one_hot": lambda d: torch.nn.functional.one_hot(torch.arange(3, device=d)),
    "ones_like": lambda d: torch.ones_like(torch.zeros(3, device=d)),
    "tensor": lambda d: torch.tensor(3, device=d),
    "tril_indices": lambda d: torch.tril_indices(3, 3, device=d),
    "zeros": lambda d: torch.zeros(2, 3, dtype=torch.int64, device=d),
    "randn": lambda d: torch.randn(3, device=d),
    "randint": lambda d: torch.randint(9, (3,), device=d),
    "randperm": lambda d: torch.randperm(5, device=d),
    "rand": lambda d: torch.rand(3, device=d),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_tensors_are_made_on_the_device(name):
    made = []
    with torch.random.fork_rng(devices=[]):
        for device in ("cpu", "sim"):
            torch.manual_seed(0)
            made.append(FACTORIES[name](device))
    assert made[1].device.type == "sim" and made[1].dtype == made[0].dtype
    assert torch.equal(made[0], made[1].cpu())


def test_a_module_moves_changes_its_type_and_goes_back():
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    weights = module[0].weight.detach().clone()
    module.to("sim").double()
    assert all(isinstance(p, torch.nn.Parameter) and p.device.type == "sim" for p in module.parameters())
    assert module(torch.ones(4, 2, dtype=torch.float64, device="sim")).dtype == torch.float64
    assert torch.equal(module.float().cpu()[0].weight, weights)


def test_a_copy_of_a_module_is_its_own():
    module = torch.nn.Linear(2, 3).to("sim")
    module.weight.requires_grad_(False)
    module(torch.ones(1, 2, device="sim")).sum().backward()
    twin = copy.deepcopy(module)
    assert isinstance(twin.bias, torch.nn.Parameter) and torch.equal(twin.bias.grad, module.bias.grad)
    assert twin.bias.requires_grad and not twin.weight.requires_grad
    with torch.no_grad():
        twin.bias += 1
    assert torch.equal(twin.bias, module.bias + 1) and torch.equal(twin.weight, module.weight)


def test_a_tensor_has_a_storage(tmp_path):
    """Of the size that it would have on a GPU, shared by its views; and safetensors reads it."""
    x = torch.arange(6.0, device="sim").reshape(2, 3)
    assert x.untyped_storage().nbytes() == 24 and x[1].data_ptr() == x.data_ptr() + 12
    assert x[1].untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    save_file({"x": x}, tmp_path / "x.safetensors")
    assert torch.equal(load_file(tmp_path / "x.safetensors")["x"], x.cpu())


def test_the_environment_chooses_the_device(monkeypatch):
    monkeypatch.setenv("DIFFUSION_DEVICE", "sim")
    device = training.best_device()
    assert device.type == "sim" and training.calculates(device) and training.half_precision(device) is None
    assert training.to_device(torch.nn.Linear(2, 2), device).weight.device.type == "sim"


# ------------------------------------------------------------------------------------------ the library on it

# name: function device -> tensors and numbers. Whatever it draws comes from generators of its own, on the CPU.
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def follow(sampler, device):
    noise = start_noise(COSINE, (8, 2), seeded(), device)
    return list(sampler(exact_mixture(COSINE, **MIXTURE), COSINE, noise, time_grid(4)))


CASES |= {name: partial(follow, sampler) for name, sampler in SAMPLERS.items()}


def test_every_sampler_is_among_them():
    first = ["denoiser", "schedule", "x_t", "times"]
    functions = {name: f for name, f in vars(samplers).items() if inspect.isfunction(f)}
    found = {name for name, f in functions.items() if list(inspect.signature(f).parameters)[:4] == first}
    assert found == {name.split()[0] for name in SAMPLERS}


@case
def forward_process(device):
    x, t = images(device), torch.tensor([0.1, 0.4, 0.7, 1.0], device=device)
    noise = noise_like(x, seeded())
    x_t = add_noise(COSINE, x, noise, t)
    chain = forward.noising_step(x, 0.1, noise)
    return x_t, chain, forward.posterior(COSINE, x, x_t, t, t / 2), forward.uniform_like(x, seeded())


@case
def every_schedule(device):
    x, t = images(device), torch.tensor([0.1, 0.4, 0.7, 0.9], device=device)
    each = [schedules.Betas.linear(), COSINE, LINEAR, schedules.Shifted(COSINE, 2.0)]
    return [(s.alpha(t), s.sigma(t), s.log_snr(t), s.scales(t, like=x), s.fresh_share(t, t / 2, like=x)) for s in each]


@case
def exact_denoisers(device):
    x, t = images(device), torch.tensor([0.1, 0.4, 0.7, 0.9], device=device)
    each = [
        exact_gaussian(COSINE, 0.1, 0.5)(x, t),
        exact_gaussian(COSINE, torch.full((1, 8, 8), 0.1), torch.full((8, 8), 0.5))(x, 0.3),
        exact_mixture(COSINE, **MIXTURE)(x.flatten(1)[:, :2], t),
        exact_dataset(COSINE, images("cpu", 9, seed=1))(x, t),  # the set may lie anywhere
        exact_dataset(COSINE, images(device, 9, seed=1))(x, t),
    ]
    return each


@case
def every_target(device):
    x, noise = images(device), images(device, seed=1)
    alpha_t, sigma_t = COSINE.scales(torch.tensor([0.1, 0.4, 0.7, 0.9], device=device), like=x)
    x_t, found = alpha_t * x + sigma_t * noise, []
    for target in (targets.NOISE, targets.X_0, targets.V, targets.FLOW, targets.edm()):
        output = target.mix(x, noise, alpha_t, sigma_t)
        found += [output, target.recover_x_0(output, x_t, alpha_t, sigma_t)]
        found += [target.recover_noise(output, x_t, alpha_t, sigma_t)]
    return found


@case
def every_network(device):
    x, t = images(device), torch.tensor([0.1, 0.4, 0.7, 1.0], device=device)
    ids = torch.arange(12, device=device).reshape(2, 6) % 5
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = {
            "MLP": (networks.MLP(features=64, labels=3), x.flatten(1), t, torch.arange(4, device=device) % 3),
            "Autoencoder": (networks.Autoencoder(width=8), torch.cat([x] * 9).reshape(1, 1, 48, 48)[..., :28, :28]),
            "both ways": (networks.Transformer(5, 6, width=16, depth=2), ids),
            "to the left": (networks.Transformer(5, 6, width=16, depth=2, causal=True), ids),
            "features": (metrics.FeatureNetwork(), images(device).repeat(1, 1, 4, 4)[..., :28, :28]),
        }
    found = [small_model(device)(x, t), small_model(device, labels=3)(x, t, label=torch.arange(4, device=device) % 3)]
    for network, *inputs in made.values():
        for p in network.parameters():
            torch.nn.init.normal_(p, std=0.1, generator=seeded())
        network.to(device)
        found.append(network.decode(network.encode(*inputs)) if hasattr(network, "encode") else network(*inputs))
    return found


def plain_loss(model, batch, generator):
    x_0, label = batch
    t = middle_times(len(x_0), generator)
    return model.loss(x_0, t, noise_like(x_0, generator), label=guidance.drop_labels(label, 3, 0.3, generator))


def run(device, steps, checkpoint=None, stop=None):
    """A training run with Muon, AdamW, EMA and a checkpoint; what is left of it after `steps`, or after a kill."""
    model = small_model(device, labels=3)
    batches = data.Batches(images("cpu", 20), torch.arange(20) % 3, 4).to(device)
    ema = training.EMA(model)
    options = dict(steps=steps, ema=ema, checkpoint=checkpoint, save_every=2)
    losses = []
    for progress in training.train(model, batches, plain_loss, **options):
        losses.append(progress.loss)
        if progress.step == stop:
            return losses
    ema.swap()
    return losses, dict(model.named_parameters()), ema.average


@case
def a_training_run(device):
    return run(device, 4)


@case
def batches(device):
    given = data.Batches(images(device, 10), torch.arange(10, device=device), 4, seed=3)
    first = [next(given) for _ in range(3)]
    given.position = 1
    return first, next(given)


@case
def times(device):
    return even_times(5, seeded()).to(device), middle_times(5, seeded()).to(device)


@case
def guiding(device):
    x, t, label = images(device), torch.tensor([0.1, 0.4, 0.7, 0.9], device=device), torch.arange(4, device=device) % 3
    model = small_model(device, labels=3).requires_grad_(False)
    conditional, unconditional = partial(model, label=label), partial(model, label=torch.full_like(label, 3))
    free = guidance.classifier_free(conditional, unconditional, 2.0)
    slope = guidance.by_gradient(conditional, COSINE, lambda x_t, t: -x_t.square().flatten(1).sum(1), 0.5)
    each = [free, guidance.in_one_call(model, label, 3, 2.0), guidance.clip(free), slope]
    return [d(x, t) for d in each], guidance.in_interval(free, conditional, 0.2, 0.8)(x, 0.5)


@case
def edited(device):
    known, mask = images(device, 1), torch.zeros(1, 1, 8, 8, device=device)
    mask[..., :4] = 1
    x_t, grid = start_noise(COSINE, (3, 1, 8, 8), seeded(), device), time_grid(3)
    denoiser = exact_dataset(COSINE, images(device, 9, seed=1))
    seen = [editing.masked(mask), editing.averaged(2)]
    each = [editing.keep(denoiser, known, mask)]
    each += [editing.consistent(denoiser, m, m.measure(known)) for m in seen]
    gradient = editing.by_measurement(denoiser, COSINE, seen[1].measure, seen[1].measure(known), 0.5)
    colour = known.expand(1, 3, 8, 8)
    return [
        [last(samplers.ddim(d, COSINE, x_t, grid)) for d in each],
        last(samplers.ddim(gradient, COSINE, x_t, time_grid(3, start=0.9))),
        last(editing.inpaint(denoiser, COSINE, x_t, grid, known, mask, seeded(), resample=2)),
        last(editing.image_to_image(denoiser, COSINE, known, 0.6, 4, generator=seeded())),
        editing.grey().invert(editing.grey().measure(colour)),
        editing.spherical(x_t[:2], x_t[1:], torch.tensor([0.3, 0.6], device=device)),
        editing.renoise(COSINE, x_t, images(device, 3, seed=2), 0.3, 0.5),
    ]


@case
def text(device):
    language = torch.tensor([[0, 1, 2], [0, 2, 1], [1, 1, 1]], device=device)
    exact = tokens.exact_language(language, 3)
    here = tokens.exact_language(language.cpu(), 3, torch.tensor([0.5, 0.25, 0.25]))  # the list may lie anywhere
    blank = tokens.all_masked(5, 3, 3, device)
    found = [
        last(tokens.unmask(denoiser, LINEAR, blank, time_grid(3), seeded(), order))
        for order in ("random", "shuffled", "confidence")
        for denoiser in (exact, here, tokens.sharpen(exact, 0.5))
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        both = tokens.MaskedDenoiser(networks.Transformer(3, 3, width=8, depth=1), LINEAR).to(device)
        left = tokens.LeftToRight(networks.Transformer(3, 3, width=8, depth=1, causal=True)).to(device)
    t = torch.tensor([0.2, 0.5, 0.9])
    losses = [both.loss(language, t.to(at), forward.uniform_like(language, seeded())) for at in ("cpu", device)]
    written = left.generate(4, 3, seeded()), left.generate(4, 3, seeded(), prompt=torch.tensor([[1]]))
    found += [tokens.decode(language, "abc"), tokens.weight(COSINE, t.to(device))]
    return found, losses, written, left.loss(language)


@case
def measured(device):
    judge, x = metrics.FeatureNetwork(), data.digits("held_out")[0][:60].to(device)
    label = torch.arange(60, device=device) % 10
    for p in judge.parameters():
        torch.nn.init.normal_(p, std=0.1, generator=seeded())
    judge.to(device)
    a, b = judge.features(x).detach()[:, :8].split(30)
    return [
        [metrics.accuracy(judge, x, label), metrics.class_histogram(judge, x), metrics.frechet_distance(a, b)],
        [metrics.fidelity(a, b), metrics.nearest(x[:5], x, 2), metrics.copies(x[:5], x)],
        metrics.bootstrap(lambda some: some.mean(), a[:, 0], draws=5),
        metrics.bootstrap(lambda some: some.mean(), a[:, 0], draws=5, label=label[:30]),
        metrics.permutation_test(lambda some, rest: (some.mean() - rest.mean()).abs(), a, b, draws=5),
    ]


@case
def rival_models(device):
    x, found = data.digits("held_out")[0][:8].to(device), []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae, gan = rivals.VAE(latent=2).to(device), rivals.GAN(latent=4).to(device)
    found += [vae.loss(x, normal(8, 2, dtype=torch.float32).to(device)), vae.sample(3, seeded())]
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (gan.generator, gan.discriminator)]
    found += [rivals.gan_step(gan, optimizers, x, seeded()), gan.sample(3, seeded())]
    return found + [rivals.Mixture(x, parts=2, directions=3, rounds=2).sample(3, seeded())]


@case
def counted_work(device):
    model, x = small_model(device), images(device, 1)
    return costs.multiply_adds(partial(model, x, torch.tensor(0.5))), costs.count(model, x, torch.tensor(0.5))


@case
def drawn(device):
    x = images(device)
    return plots.picture(x[0]), plots.tile(x, 2), data.to_uint8(x), data.to_unit(data.to_uint8(x))


def numbers(result):
    """All that came out: tensors on the CPU, arrays, numbers, words."""
    return [v.detach().cpu() if isinstance(v, torch.Tensor) else v for v in tree_leaves(result)]


def require_equal(here, there):
    assert len(here) == len(there) > 0
    for a, b in zip(here, there):
        if isinstance(a, torch.Tensor):
            assert a.dtype == b.dtype and torch.equal(a, b), (a, b)
        else:
            assert np.array_equal(a, b), (a, b)


@pytest.mark.parametrize("name", CASES)
def test_the_simulated_device_gives_the_numbers_of_the_cpu(name):
    there = CASES[name]("sim")
    require_equal(numbers(CASES[name]("cpu")), numbers(there))
    stayed = all(x.device.type == "sim" for x in tree_leaves(there) if isinstance(x, torch.Tensor))
    assert stayed or name in ("measured", "drawn")  # distances, counts and pictures are the CPU's


def test_a_run_goes_on_from_its_checkpoint_there_and_on_the_cpu(tmp_path):
    """Straight through, killed and resumed on the device, and killed there and resumed on the CPU: the same weights."""
    straight = numbers(run("sim", 4))
    for device in ("sim", "cpu"):
        run("sim", 4, tmp_path / device, stop=3)
        resumed = numbers(run(device, 4, tmp_path / device))
        require_equal(straight[2:], resumed)  # from step 3 on: step 2 is what was saved


# ------------------------------------------------------------------------------------------ what must not work

MEETINGS = {
    "noise": lambda x, y: add_noise(COSINE, x, y, 0.5),
    "times": lambda x, y: COSINE.alpha(torch.linspace(0.1, 0.4, 4)) * x[:, 0, 0, 0],
    "network": lambda x, y: small_model("cpu")(x, torch.tensor(0.5)),
    "label": lambda x, y: small_model("sim", labels=3)(x, torch.tensor(0.5), label=torch.arange(4) % 3),
    "loss": lambda x, y: small_model("sim").loss(x, torch.tensor(0.5), y),
    "batches": lambda x, y: data.Batches(x, torch.arange(4), 2),
    "mask": lambda x, y: editing.keep(exact_gaussian(COSINE, 0, 1), x, torch.ones(1, 1, 8, 8)),
    "known": lambda x, y: editing.keep(exact_gaussian(COSINE, 0, 1), y, torch.ones(1, 1, 8, 8))(x, 0.5),
    "measurement": lambda x, y: editing.consistent(exact_gaussian(COSINE, 0, 1), editing.averaged(2), y[..., ::2, ::2])(
        x, 0.5
    ),
    "way": lambda x, y: editing.spherical(x, y, 0.5),
    "tokens": lambda x, y: tokens.carry_over(torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.int64, device="sim")),
    "judge": lambda x, y: metrics.FeatureNetwork().features(x.repeat(1, 1, 4, 4)[..., :28, :28]),
}


@pytest.mark.parametrize("name", MEETINGS)
def test_the_library_mixes_no_devices(name):
    with pytest.raises(ERRORS, match=WORDS):
        MEETINGS[name](images("sim"), images("cpu"))


# A forgotten move to the device, which no CPU notices: (module, what stands there, what is left, the case that fails).
FORGOTTEN = {
    "noise": (forward, "dtype=x.dtype).to(x.device)", "dtype=x.dtype)", "forward_process"),
    "noise of tokens": (forward, "generator=generator, device=device).to(x.device)", "generator=generator)", "text"),
    "scales": (schedules, "values.to(device=like.device, dtype=like.dtype)", "values.to(like.dtype)", "a_training_run"),
    "table of a schedule": (schedules, "self.log_alpha.to(t.device)", "self.log_alpha", "every_schedule"),
    "mean of a Gaussian": (denoisers, "mean.to(x_t), std.to(x_t)", "mean, std", "exact_denoisers"),
    "data set": (denoisers, "x_0.to(x_t).flatten(1)", "x_0.flatten(1)", "exact_denoisers"),
    "frequencies": (networks, "torch.arange(half, device=t.device)", "torch.arange(half)", "every_network"),
    "causal mask": (networks, "dtype=torch.bool, device=x.device", "dtype=torch.bool", "every_network"),
    "labels of batches": (data, "self.label.to(device)", "self.label", "a_training_run"),
    "labels that are dropped": (guidance, "dropped.to(label.device)", "dropped", "a_training_run"),
    "colours": (editing, "w.to(x) * x", "w * x", "edited"),
    "members of a language": (tokens, "one_hot.to(x_t.device)", "one_hot", "text"),
    "labels of a judge": (metrics, "label.cpu()).double()", "label).double()", "measured"),
    "noise of a rival": (rivals, ".to(next(model.parameters()).device)", "", "rival_models"),
    "picture": (plots, "(x.detach().float().cpu() + 1)", "(x.detach().float() + 1)", "drawn"),
}


@pytest.mark.parametrize("name", FORGOTTEN)
def test_a_forgotten_move_fails_there_and_not_on_the_cpu(name):
    module, old, new, case = FORGOTTEN[name]
    right = numbers(CASES[case]("cpu"))
    with planted(module, old, new):
        require_equal(right, numbers(CASES[case]("cpu")))
        with pytest.raises(ERRORS, match=WORDS):
            CASES[case]("sim")
