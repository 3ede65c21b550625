"""latent: pixels and latents are measured alike."""

from diffusion_lib.experiments import latent

from .common import CPU, silent


def test_latents_and_pixels_are_measured_alike():
    results = latent.measure_latent(CPU, [0], silent, n=70, steps=2, batch_size=2, repeats=1)
    assert [row["model"] for row in results["rows"]] == ["pixels", "latent"]
    cost = results["cost"]
    # Counted by hand: each convolution's weights work once at every place of its output.
    decoder = (4 * 64 * 9 + 64 * 32 * 16) * 49 + 32 * 32 * 16 * 196 + 32 * 9 * 784
    encoder = 32 * 9 * 196 + (32 * 64 * 9 + 64 * 4 * 9) * 49
    assert cost["decode"]["multiply_adds"] == decoder and cost["encode"]["multiply_adds"] == encoder
    assert cost["latent"]["multiply_adds"] < cost["pixels"]["multiply_adds"] / 3
    assert cost["latent"]["numbers_an_image"] * 4 == cost["pixels"]["numbers_an_image"] == 784
    assert all(part["seconds"] > 0 for part in cost.values())
    assert results["reconstructed"]["accuracy"] > 0.95
