"""networks: formulas in plain Python, parameters counted by hand, and what a network must and must not depend on."""

import math

import pytest
import torch
from torch import nn

from diffusion_lib.networks import (
    MLP,
    Attention,
    Autoencoder,
    Condition,
    ResBlock,
    Transformer,
    UNet,
    count_parameters,
    timestep_embedding,
)
from tests.common import normal, seeded


def noise_in(module, seed=0, size=0.1):
    """The module with every weight moved: layers that begin at zero hide what they do."""
    generator = seeded(seed)
    with torch.no_grad():
        for p in module.parameters():
            p += size * torch.randn(p.shape, generator=generator)
    return module


def unet(labels=10):
    torch.manual_seed(0)
    return noise_in(UNet(channels=2, widths=(8, 16, 16), labels=labels, condition_dim=16))


def mlp(labels=10):
    torch.manual_seed(0)
    return noise_in(MLP(features=3, width=16, depth=2, labels=labels))


def image(batch=3, seed=0):
    return normal(batch, 2, 8, 12, seed=seed, dtype=torch.float32)


def points(batch=3, seed=0):
    return normal(batch, 3, seed=seed, dtype=torch.float32)


BOTH = [(unet, image), (mlp, points)]
TIMES = torch.tensor([0.1, 0.5, 0.9])

# ------------------------------------------------------------------------------------------- embedding


def test_embedding_is_the_papers_waves():
    """Entry by entry in plain Python; as many times as frequencies, where swapped axes would not show in the shape."""
    t = torch.tensor([0.0, 0.013, 0.5, 1.0], dtype=torch.float64)
    embedding = timestep_embedding(t, 8)
    assert embedding.shape == (4, 8)
    for row in range(4):
        for k in range(4):
            angle = 1000 * float(t[row]) * 10_000 ** (-k / 4)
            assert float(embedding[row, k]) == pytest.approx(math.cos(angle), abs=1e-4)
            assert float(embedding[row, 4 + k]) == pytest.approx(math.sin(angle), abs=1e-4)


def test_every_step_of_a_thousand_has_its_own_embedding():
    embedding = timestep_embedding(torch.arange(1001, dtype=torch.float64) / 1000, 64).float()
    distance = torch.cdist(embedding, embedding) + 10 * torch.eye(1001)
    assert distance.min() > 0.5
    # times that are close have embeddings that are close
    assert (distance.argmin(1) - torch.arange(1001)).abs().max() == 1


# -------------------------------------------------------------------------- what the output depends on


@pytest.mark.parametrize("make, x", BOTH, ids=["unet", "mlp"])
def test_output_depends_on_the_time(make, x):
    network = make()
    assert network(x(), TIMES).shape == x().shape
    for other in (TIMES + 0.05, TIMES.flip(0)):
        moved = (network(x(), TIMES) - network(x(), other)).flatten(1).abs().amax(1)
        assert (moved[TIMES != other] > 1e-3).all()


@pytest.mark.parametrize("make, x", BOTH, ids=["unet", "mlp"])
def test_output_depends_on_the_label(make, x):
    network = make()
    outputs = [network(x(), TIMES, label=torch.full((3,), k)) for k in range(11)]
    for i in range(11):
        for j in range(i):
            assert (outputs[i] - outputs[j]).abs().max() > 1e-3, (i, j)


@pytest.mark.parametrize("make, x", BOTH, ids=["unet", "mlp"])
def test_the_null_label_is_no_label(make, x):
    network = make()
    torch.testing.assert_close(network(x(), TIMES, label=torch.full((3,), 10)), network(x(), TIMES))
    assert (network(x(), TIMES, label=torch.full((3,), 9)) - network(x(), TIMES)).abs().max() > 1e-3


@pytest.mark.parametrize("make, x", BOTH, ids=["unet", "mlp"])
def test_samples_of_a_batch_do_not_see_each_other(make, x):
    network = make()
    label = torch.tensor([1, 2, 10])
    together = network(x(), TIMES, label=label)
    for i in range(3):
        alone = network(x()[i : i + 1], TIMES[i : i + 1], label=label[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make, x", BOTH, ids=["unet", "mlp"])
def test_a_network_without_labels_has_no_table(make, x):
    network = make(labels=None)
    assert not any(isinstance(module, nn.Embedding) for module in network.modules())
    assert network(x(), TIMES).shape == x().shape


@pytest.mark.parametrize("make, x", BOTH, ids=["unet", "mlp"])
def test_the_gradient_reaches_every_parameter(make, x):
    network = make()
    target = x(seed=5)
    ((network(x(), TIMES, label=torch.tensor([1, 2, 10])) - target) ** 2).mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert not silent, silent


# ----------------------------------------------------------------------------------- what it begins as


def test_a_new_unet_says_nothing():
    network = UNet(channels=1, widths=(8, 16), labels=10)
    x_t = normal(2, 1, 8, 8, dtype=torch.float32)
    assert torch.equal(network(x_t, TIMES[:2]), torch.zeros_like(x_t))


def test_a_new_block_passes_its_input_on():
    x, condition = normal(2, 16, 4, 4, dtype=torch.float32), normal(2, 8, seed=1, dtype=torch.float32)
    assert torch.equal(ResBlock(16, 16, 8)(x, condition), x)
    assert torch.equal(Attention(16)(x), x)
    wider = ResBlock(16, 32, 8)
    torch.testing.assert_close(wider(x, condition), wider.shortcut(x))


def test_a_block_depends_on_its_condition():
    x, condition = normal(2, 16, 4, 4, dtype=torch.float32), normal(2, 8, seed=1, dtype=torch.float32)
    block = noise_in(ResBlock(16, 16, 8))
    assert (block(x, condition) - block(x, condition.flip(0))).abs().max() > 1e-3


def test_a_block_scales_and_shifts_each_channel_of_each_sample():
    """Against the same computed one sample and one channel at a time."""
    x, condition = normal(2, 8, 3, 3, dtype=torch.float32), normal(2, 4, seed=1, dtype=torch.float32)
    block = noise_in(ResBlock(8, 8, 4), size=0.3)
    h = block.norm_2(block.conv_1(nn.functional.silu(block.norm_1(x))))
    film = condition @ block.film.weight.T + block.film.bias
    for b in range(2):
        for c in range(8):
            h[b, c] = h[b, c] * (1 + film[b, c]) + film[b, 8 + c]
    torch.testing.assert_close(block(x, condition), x + block.conv_2(nn.functional.silu(h)), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------- attention


def test_attention_is_the_softmax_written_out():
    B, C, H, W, heads = 2, 8, 3, 2, 4
    x = normal(B, C, H, W, dtype=torch.float32)
    attention = noise_in(Attention(C, heads), size=0.3)
    q, k, v = attention.qkv(attention.norm(x)).flatten(2).split(C, dim=1)  # (B, C, H * W)
    out = torch.zeros(B, C, H * W)
    size = C // heads
    for b in range(B):
        for head in range(heads):
            rows = slice(head * size, (head + 1) * size)
            scores = q[b, rows].T @ k[b, rows] / math.sqrt(size)  # (from, to)
            out[b, rows] = v[b, rows] @ scores.softmax(dim=1).T
    torch.testing.assert_close(attention(x), x + attention.out(out.reshape(B, C, H, W)), rtol=1e-4, atol=1e-5)


def test_attention_does_not_know_where_a_position_is():
    x = normal(2, 8, 4, 4, dtype=torch.float32)
    attention = noise_in(Attention(8), size=0.3)
    torch.testing.assert_close(attention(x.flip(2, 3)), attention(x).flip(2, 3), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------ parameters


def convolution(a, b, side):
    return a * b * side * side + b


def linear(a, b):
    return a * b + b


def block_size(a, b, condition_dim):
    """Two norms, two 3 x 3 convolutions, the condition's scale and shift, a 1 x 1 shortcut if channels change."""
    shortcut = convolution(a, b, 1) if a != b else 0
    return 2 * a + convolution(a, b, 3) + linear(condition_dim, 2 * b) + 2 * b + convolution(b, b, 3) + shortcut


def test_parameters_counted_by_hand():
    assert count_parameters(ResBlock(16, 16, 8)) == block_size(16, 16, 8)
    assert count_parameters(ResBlock(16, 32, 8)) == block_size(16, 32, 8)
    assert count_parameters(Attention(16)) == 2 * 16 + convolution(16, 48, 1) + convolution(16, 16, 1)
    assert count_parameters(Condition(8, labels=10)) == 2 * linear(8, 8) + 11 * 8


def test_the_unet_s_parameters_counted_by_hand():
    dim = 32
    network = UNet(channels=3, widths=(8, 16, 24), labels=10, condition_dim=dim)
    condition = 2 * linear(dim, dim) + 11 * dim
    down = block_size(8, 8, dim) + convolution(8, 16, 3) + block_size(16, 16, dim) + convolution(16, 24, 3)
    attention = 2 * 24 + convolution(24, 72, 1) + convolution(24, 24, 1)
    middle = 2 * block_size(24, 24, dim) + attention
    up = convolution(24, 16, 3) + block_size(32, 16, dim) + convolution(16, 8, 3) + block_size(16, 8, dim)
    ends = convolution(3, 8, 3) + 2 * 8 + convolution(8, 3, 3)
    assert count_parameters(network) == condition + down + middle + up + ends


def test_count_parameters_counts_what_learns():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 6


def test_a_unet_takes_any_side_that_it_can_halve():
    network = unet()
    for sides in ((4, 4), (8, 20), (28, 28)):
        x_t = normal(1, 2, *sides, dtype=torch.float32)
        assert network(x_t, TIMES[:1]).shape == x_t.shape


def test_a_unet_s_bridges_carry_what_the_middle_cannot_see():
    """A change of one pixel reaches the output at its own place more than elsewhere (without bridges: 0.4 times)."""
    network = unet()
    x_t = normal(1, 2, 16, 16, dtype=torch.float32)
    changed = x_t.clone()
    changed[0, 0, 5, 9] += 1
    moved = (network(changed, TIMES[:1]) - network(x_t, TIMES[:1])).abs().sum(1)[0]
    assert moved[5, 9] > 3 * moved.median()


# ----------------------------------------------------------------------------------------- autoencoder


def autoencoder(**options):
    torch.manual_seed(0)
    return Autoencoder(8, **options)


def digit_like(batch=50, seed=0):
    return normal(batch, 1, 28, 28, seed=seed, dtype=torch.float32).clamp(-1, 1)


def test_standardised_latents_have_mean_0_and_variance_1_in_every_channel():
    model, x = autoencoder(), digit_like()
    assert model.encode(x).std() < 0.5
    model.standardise(x)
    z = model.encode(x)
    assert z.shape == (50, 4, 7, 7) and z.numel() * 4 == x.numel()
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(4))
    model.standardise(x)  # a second time changes nothing
    torch.testing.assert_close(model.encode(x), z)


def test_scaling_the_latents_does_not_change_what_they_decode_to():
    model, x = autoencoder(), digit_like()
    before = model.decode(model.encode(x))
    model.standardise(x)
    assert before.shape == x.shape
    torch.testing.assert_close(model.decode(model.encode(x)), before, rtol=1e-4, atol=1e-5)


def test_the_autoencoder_s_loss_written_out():
    model, x, noise = autoencoder(noise=0.3, pull=0.2), digit_like(3), normal(3, 4, 7, 7, dtype=torch.float32)
    with torch.no_grad():
        loss = model.loss(x, noise)
        for i in range(3):
            z = model.encoder(x[i : i + 1])
            again = model.decoder(z + 0.3 * noise[i : i + 1])
            right = (again - x[i]).square().mean() + 0.2 * z.square().mean()
            torch.testing.assert_close(loss[i], right)


def test_the_pull_is_a_kl_divergence_but_for_a_constant():
    """KL of N(z, s^2) from N(0, 1) is z^2 / 2 and what does not depend on z."""
    from torch.distributions import Normal, kl_divergence

    z, s = normal(5), 0.1
    kl = kl_divergence(Normal(z, s), Normal(torch.zeros(5), torch.ones(5)))
    torch.testing.assert_close(kl - kl_divergence(Normal(0.0, s), Normal(0.0, 1.0)), z**2 / 2)


def test_the_scale_of_the_latents_is_saved_and_not_learned():
    model = autoencoder()
    assert {"mean", "std"} <= model.state_dict().keys()
    assert not {"mean", "std"} & dict(model.named_parameters()).keys()


# ------------------------------------------------------------------------------------------------- transformer


def transformer(causal=False, **sizes):
    torch.manual_seed(0)
    return noise_in(
        Transformer(**({"symbols": 5, "length": 6, "width": 16, "depth": 2, "heads": 4} | sizes), causal=causal)
    )


TOKENS = torch.tensor([[0, 5, 2, 3, 1, 4], [5, 5, 1, 0, 4, 2]])


def seen(network, i):
    """Which tokens the answer at place i depends on: those whose exchange changes it."""
    with torch.no_grad():
        before, changed = network(TOKENS)[:, i], []
        for j in range(6):
            other = TOKENS.clone()
            other[:, j] = (other[:, j] + 1) % 5
            changed.append(bool(((network(other)[:, i] - before).abs() > 1e-5).any()))
    return [j for j in range(6) if changed[j]]


def test_a_bidirectional_transformer_sees_everything():
    assert all(seen(transformer(), i) == list(range(6)) for i in range(6))


def test_a_causal_transformer_sees_itself_and_what_is_to_its_left():
    assert all(seen(transformer(causal=True), i) == list(range(i + 1)) for i in range(6))


def test_attention_written_out():
    """One block in float64, with torch's own attention for every head."""
    for causal in (False, True):
        block = transformer(causal, depth=1).double().blocks[0]
        x = normal(2, 6, 16)
        q, k, v = block.qkv(block.norm_1(x)).split(16, dim=-1)
        heads = []
        for a in range(0, 16, 4):
            part = [values[..., a : a + 4] for values in (q, k, v)]
            heads.append(nn.functional.scaled_dot_product_attention(*part, is_causal=causal))
        h = x + block.out(torch.cat(heads, -1))
        right = h + block.narrow(nn.functional.silu(block.widen(block.norm_2(h))))
        torch.testing.assert_close(block(x), right)


def test_a_transformer_knows_places():
    """The same tokens in another order get other answers, not the same ones in another order."""
    network, order = transformer(), [5, 4, 3, 2, 1, 0]
    with torch.no_grad():
        assert (network(TOKENS[:, order]) - network(TOKENS)[:, order]).abs().max() > 0.01
        network.places.zero_()
        torch.testing.assert_close(network(TOKENS[:, order]), network(TOKENS)[:, order])


def test_a_short_sequence_uses_the_first_places():
    network = transformer(causal=True)
    torch.testing.assert_close(network(TOKENS[:, :3]), network(TOKENS)[:, :3])


def test_an_untrained_transformer_finds_all_symbols_equally_likely():
    network = Transformer(5, 6, width=16, depth=2, heads=4)
    assert (network(TOKENS) == 0).all() and network(TOKENS).shape == (2, 6, 5)  # none for the mask


def test_the_parameters_of_a_transformer_counted_by_hand():
    V, L, D, blocks = 5, 6, 16, 2
    each = (D * 3 * D + 3 * D) + (D * D + D) + (D * 4 * D + 4 * D) + (4 * D * D + D) + 4 * D
    right = (V + 1) * D + L * D + blocks * each + 2 * D + (D * V + V)
    assert count_parameters(Transformer(V, L, D, blocks, heads=4)) == right
    assert count_parameters(Transformer(V, L, D, blocks, heads=2, causal=True)) == right


# ------------------------------------------------------------------------------------------------- GPU


@pytest.mark.gpu
@pytest.mark.parametrize("make, x", BOTH, ids=["unet", "mlp"])
def test_networks_on_a_gpu_answer_as_on_the_cpu(make, x):
    network, label = make(), torch.tensor([1, 2, 10])
    here = network(x(), TIMES, label=label)
    network.cuda()
    torch.backends.cudnn.allow_tf32, before = False, torch.backends.cudnn.allow_tf32
    try:
        there = network(x().cuda(), TIMES.cuda(), label=label.cuda())
    finally:
        torch.backends.cudnn.allow_tf32 = before
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
def test_channels_last_and_compile_change_nothing_but_the_speed():
    from diffusion_lib.training import to_device

    label = torch.tensor([1, 2, 10], device="cuda")
    plain = unet().cuda()
    moved = to_device(unet(), "cuda", compile=True)
    assert moved.first.weight.is_contiguous(memory_format=torch.channels_last)
    here, there = (network(image().cuda(), TIMES.cuda(), label=label) for network in (plain, moved))
    torch.testing.assert_close(here, there, rtol=1e-2, atol=1e-2)
