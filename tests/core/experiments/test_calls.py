"""calls: every sampler's calls of the network are counted."""

from diffusion_lib import pretrained
from diffusion_lib.experiments import calls

from .common import CPU, silent


def test_a_small_bench_counts_the_calls_of_every_sampler(monkeypatch):
    counted = []
    digits = pretrained.digits

    def counting(device):
        model = digits(device)
        model.network.register_forward_hook(lambda *_: counted.append(1))
        return model

    monkeypatch.setattr(pretrained, "digits", counting)
    results = calls.measure_calls(CPU, [0], silent, n=70, budgets=(2,), long_budgets=(3,))
    found = [(row["sampler"], row["calls"]) for row in results["rows"]]
    ddpm = [(name, budget) for name in ("ddpm", "ddpm_large") for budget in (2, 3)]
    assert found == [*ddpm, ("ddim", 2), ("heun", 1), ("dpm_solver", 2)]
    assert len(counted) == sum(budget for _, budget in found)
