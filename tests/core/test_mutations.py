"""The mutation museum: bugs that real diffusion code has had, planted one at a time; the suite must see each of them.

A bug is a piece of the library's source and what stands there instead. The changed module is compiled, and the code of
every function that differs is put into the living function, so that all who imported it get the bug. Each check is a
test of this suite: it must pass on the library as it is, and fail on the library with the bug.
"""

import contextlib
import dataclasses
import inspect
import tempfile
import types
from functools import cache, partial
from pathlib import Path

import pytest

from diffusion_lib import (
    costs,
    data,
    denoisers,
    editing,
    forward,
    guidance,
    metrics,
    networks,
    recipes,
    refusals,
    rivals,
    samplers,
    schedules,
    targets,
    tokens,
    training,
)
from diffusion_lib.experiments import bench, dots, memory, minority, race, weights

from . import test_costs as on_costs
from . import test_data as on_data
from . import test_denoisers as on_denoisers
from . import test_editing as on_editing
from . import test_forward as on_forward
from . import test_guidance as on_guidance
from . import test_metrics as on_metrics
from . import test_networks as on_networks
from . import test_recipes as on_recipes
from . import test_rivals as on_rivals
from . import test_samplers as on_samplers
from . import test_schedules as on_schedules
from . import test_targets as on_targets
from . import test_tokens as on_tokens
from . import test_training as on_training
from .experiments import test_bench as on_bench
from .experiments import test_dots as on_dots
from .experiments import test_memory as on_memory
from .experiments import test_minority as on_minority
from .experiments import test_race as on_race
from .experiments import test_resolution as on_resolution
from .experiments import test_weights as on_weights


def with_monkeypatch(test, *arguments):
    def check():
        with pytest.MonkeyPatch.context() as monkeypatch:
            test(*arguments, monkeypatch=monkeypatch)

    return check


def with_folder(test):
    def check():
        with tempfile.TemporaryDirectory() as folder:
            test(Path(folder))

    return check


def check_groups_afresh():
    data._emoji_group.cache_clear()
    try:
        on_data.test_an_emoji_goes_to_the_first_group_that_fits_its_name()
    finally:
        data._emoji_group.cache_clear()


COSINE = schedules.Cosine()
RESUME = with_folder(on_training.test_stopping_and_going_on_changes_nothing)

# name: (module, what stands there, what a bug puts there, the check that must fail)
MUSEUM = {
    # the forward process
    "beta for its square root": (
        forward,
        "beta.sqrt() * noise",
        "beta * noise",
        on_forward.test_chain_equals_closed_form,
    ),
    "the data does not shrink": (
        forward,
        "(1 - beta).sqrt() * x",
        "x",
        on_forward.test_chain_equals_closed_form,
    ),
    "uniform for normal noise": (
        forward,
        "torch.randn(x.shape,",
        "torch.rand(x.shape,",
        on_forward.test_noise_is_standard_normal,
    ),
    "uniform noise of the right variance": (
        forward,
        "torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype)",
        "((torch.rand(x.shape, generator=generator, device=device, dtype=x.dtype) - 0.5) * 12**0.5)",
        on_forward.test_noise_is_standard_normal,
    ),
    "one noise for the whole batch": (
        forward,
        "torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype)",
        "torch.randn(x.shape[1:], generator=generator, device=device, dtype=x.dtype).expand(x.shape)",
        on_forward.test_noise_is_standard_normal,
    ),
    "the generator is ignored": (
        forward,
        "torch.randn(x.shape, generator=generator,",
        "torch.randn(x.shape,",
        on_forward.test_noise_obeys_its_generator_alone,
    ),
    "alpha and sigma exchanged": (
        forward,
        "return alpha_t * x_0 + sigma_t * noise",
        "return sigma_t * x_0 + alpha_t * noise",
        on_forward.test_add_noise_gives_each_image_its_own_time,
    ),
    # schedules
    "alpha-bar without its square root": (
        schedules,
        "torch.log1p(-betas).cumsum(0) / 2",
        "torch.log1p(-betas).cumsum(0)",
        on_schedules.test_betas_are_the_cumulative_product,
    ),
    "1 - beta for the cumulative product": (
        schedules,
        "torch.log1p(-betas).cumsum(0) / 2",
        "torch.log1p(-betas) / 2",
        on_schedules.test_betas_are_the_cumulative_product,
    ),
    "alpha-bar shifted by one": (
        schedules,
        "torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-betas).cumsum(0) / 2])",
        "torch.cat([torch.zeros(2, dtype=torch.float64), torch.log1p(-betas).cumsum(0)[:-1] / 2])",
        on_schedules.test_betas_are_the_cumulative_product,
    ),
    "a step's row found by cutting off i / T * T": (
        schedules,
        "return torch.lerp(table[left], table[left + 1], position - left)",
        "return table[(t * (len(table) - 1)).long()]",
        on_schedules.test_betas_are_the_cumulative_product,
    ),
    "digits lost in 1 - alpha-bar": (
        schedules,
        "(-torch.expm1(2 * self.interpolated_log_alpha(t))).sqrt()",
        "(1 - self.alpha(t) ** 2).sqrt()",
        on_schedules.test_betas_are_the_cumulative_product,
    ),
    "the cosine squared once too often": (
        schedules,
        "(self.angle(t).cos() / self.angle(0).cos())",
        "((self.angle(t).cos() / self.angle(0).cos()) ** 2)",
        partial(on_schedules.test_cosine_is_nichol_and_dhariwal_s, 0.008),
    ),
    "the cosine not divided by its start": (
        schedules,
        "(self.angle(t).cos() / self.angle(0).cos())",
        "self.angle(t).cos()",
        partial(on_schedules.test_begins_clean_and_ends_in_noise, COSINE),
    ),
    "betas not capped": (
        schedules,
        ".clamp(max=largest)",
        "",
        partial(on_schedules.test_cosine_s_betas_are_nichol_and_dhariwal_s, 50),
    ),
    "times spread over the last axis": (
        schedules,
        "values.reshape(-1, *[1] * (like.ndim - 1))",
        "values.reshape(*[1] * (like.ndim - 1), -1)",
        partial(on_schedules.test_scales_multiply_what_they_are_made_for, on_schedules.torch.float32),
    ),
    "noise multiplied where the ratio should be divided": (
        schedules,
        "self.factor * self.schedule.sigma(t) / self.length(t)",
        "self.schedule.sigma(t) / self.factor / self.length(t)",
        partial(on_schedules.test_signal_and_noise_variance_sum_to_one, schedules.Shifted(COSINE, 2.0)),
    ),
    # the posterior and DDPM
    "alpha-bar where alpha belongs in the posterior": (
        forward,
        "mean = alpha_t * sigma_s**2 / (alpha_s * sigma_t**2) * x_t",
        "mean = alpha_t * sigma_s**2 / sigma_t**2 * x_t",
        on_forward.test_posterior_is_ddpm_s_formula,
    ),
    "alpha_t where alpha_s belongs": (
        forward,
        "+ alpha_s * fresh * x_0\n    return",
        "+ alpha_t * fresh * x_0\n    return",
        on_forward.test_posterior_is_ddpm_s_formula,
    ),
    "alpha_t where alpha_s belongs, in DDPM's own line": (
        samplers,
        "* x_t + alpha_s * fresh * x_0",
        "* x_t + alpha_t * fresh * x_0",
        partial(on_samplers.test_ddpm_draws_from_the_posterior, COSINE),
    ),
    "alpha-bar where alpha belongs, in DDPM's own line": (
        samplers,
        "mean = alpha_t * sigma_s**2 / (alpha_s * sigma_t**2) * x_t",
        "mean = alpha_t * sigma_s**2 / sigma_t**2 * x_t",
        partial(on_samplers.test_ddpm_draws_from_the_posterior, COSINE),
    ),
    "a step back adds noise that has a variance below 0": (
        samplers,
        "fresh = -math.expm1(min(log_snr_t - log_snr_s, 0))\n        std = eta",
        "fresh = -math.expm1(log_snr_t - log_snr_s)\n        std = eta",
        partial(on_samplers.test_inversion_returns, COSINE),
    ),
    "the schedule asked in every step": (
        samplers,
        "h = (log_snr_s - log_snr_t) / 2",
        "h = float(schedule.log_snr(s) - schedule.log_snr(t)) / 2",
        partial(on_samplers.test_the_schedule_is_asked_once_a_grid, samplers.dpm_solver),
    ),
    "the scales along the times shifted by one": (
        schedules,
        "zip(times, *(scale(times).tolist()",
        "zip(times, *(scale(times).roll(1).tolist()",
        partial(on_schedules.test_scales_along_many_times_are_those_of_each, COSINE),
    ),
    "the posterior's variance for its standard deviation": (
        forward,
        "return mean, sigma_s * fresh.sqrt()",
        "return mean, sigma_s**2 * fresh",
        on_forward.test_posterior_of_a_batch_with_different_times,
    ),
    "noise added in the last step": (
        samplers,
        'sigma_t if variance == "large" and s > 0 else',
        'sigma_t if variance == "large" else',
        partial(on_samplers.test_ddpm_adds_no_noise_in_the_last_step, "large"),
    ),
    "no noise added at all": (
        samplers,
        "x_t = mean + std * noise_like(x_t, generator)",
        "x_t = mean",
        on_samplers.test_ddpm_adds_noise_in_every_other_step,
    ),
    "beta for its square root in the large variance": (
        samplers,
        "sigma_s) * fresh**0.5",
        "sigma_s) ** 2 * fresh",
        on_samplers.test_the_large_variance_is_right_for_white_noise,
    ),
    "the estimate belongs to the time before": (
        samplers,
        "x_0 = denoiser(x_t, t)\n        fresh",
        "x_0 = denoiser(x_t, s)\n        fresh",
        partial(on_samplers.test_a_sampler_yields_a_step_for_every_time_but_the_first, on_samplers.SAMPLERS["ddpm"]),
    ),
    # DDIM and the solvers
    "sigma in place of its root in DDIM's direction": (
        samplers,
        "(sigma_s**2 - std**2) ** 0.5 * noise",
        "(sigma_s**2 - std**2) * noise",
        partial(on_samplers.test_ddim_keeps_the_marginals_for_every_eta, 0.3),
    ),
    "DDIM's direction does not make room for the fresh noise": (
        samplers,
        "(sigma_s**2 - std**2) ** 0.5 * noise",
        "sigma_s * noise",
        partial(on_samplers.test_ddim_keeps_the_marginals_for_every_eta, 1.0),
    ),
    "eta squared": (
        samplers,
        "std = eta * sigma_s",
        "std = eta**2 * 0.9 * sigma_s",
        partial(on_samplers.test_ddim_with_eta_one_is_ddpm, COSINE),
    ),
    "eta 0 draws noise all the same": (
        samplers,
        "        if eta > 0:\n",
        "        if True:\n",
        on_samplers.test_eta_zero_ignores_the_generator,
    ),
    "a stride that does not divide T": (
        samplers,
        "torch.linspace(start, stop, steps + 1, dtype=torch.float64)",
        "torch.arange(1000, -1, -(1000 // steps), dtype=torch.float64)[: steps + 1] / 1000",
        partial(on_samplers.test_time_grid_reaches_both_ends_in_equal_steps, 7),
    ),
    "sampling starts at the wrong noise level": (
        samplers,
        "return schedule.scales(1.0, like=noise)[1] * noise",
        "return noise",
        on_samplers.test_start_noise_has_the_schedule_s_last_standard_deviation,
    ),
    "Heun looks again at the old time": (
        samplers,
        "x_0_s = denoiser(x_s, s)",
        "x_0_s = denoiser(x_s, t)",
        on_samplers.test_heun_with_linear_is_heun_s_method,
    ),
    "DPM-Solver's ratio of steps upside down": (
        samplers,
        "h / (2 * h_before)",
        "h_before / (2 * h)",
        on_samplers.test_dpm_solver_is_the_papers_box,
    ),
    "log-SNR taken for lambda": (
        samplers,
        "h = (log_snr_s - log_snr_t) / 2",
        "h = log_snr_s - log_snr_t",
        partial(on_samplers.test_deterministic_samplers_keep_the_noise_of_one_point, samplers.dpm_solver),
    ),
    # targets and denoisers
    "v with the wrong sign": (
        targets,
        "(-sigma_t, alpha_t)",
        "(sigma_t, alpha_t)",
        on_targets.test_the_definitions,
    ),
    "flow towards the noise": (
        targets,
        "(-1.0, 1.0)",
        "(1.0, -1.0)",
        on_targets.test_flow_is_the_velocity_along_the_line,
    ),
    "x_0 recovered with the wrong sign": (
        targets,
        "(b * x_t - sigma_t * output)",
        "(b * x_t + sigma_t * output)",
        on_targets.test_times_of_a_batch_broadcast,
    ),
    "c_out without its root": (
        targets,
        "sigma_t * data_std / variance**0.5",
        "sigma_t * data_std / variance",
        on_targets.test_edm_s_network_learns_a_target_of_variance_one,
    ),
    "scoring undiffused data": (
        denoisers,
        "output = self.network(x_t, time_per_sample(t, x_0), **condition)",
        "output = self.network(x_0, time_per_sample(t, x_0), **condition)",
        on_denoisers.test_loss_shows_the_network_the_noisy_sample_its_time_and_its_label,
    ),
    "the label is lost on the way": (
        denoisers,
        "output = self.network(x_t, time_per_sample(t, x_0), **condition)",
        "output = self.network(x_t, time_per_sample(t, x_0))",
        on_denoisers.test_loss_shows_the_network_the_noisy_sample_its_time_and_its_label,
    ),
    "one loss for the whole batch": (
        denoisers,
        ".flatten(1).mean(1)",
        ".mean().expand(len(x_0))",
        on_denoisers.test_loss_of_a_silent_network_is_the_target_s_square,
    ),
    "a refusal looks at values while a compiler traces": (
        refusals,
        "not torch.compiler.is_compiling() and ",
        "",
        on_denoisers.test_a_compiler_sees_one_graph,
    ),
    "the loss asks for the scales twice": (
        denoisers,
        "x_t = alpha_t * x_0 + sigma_t * noise\n",
        "x_t = self.schedule.scales(t, x_0)[0] * x_0 + sigma_t * noise\n",
        partial(on_denoisers.test_the_schedule_is_asked_once_for_an_estimate_and_once_for_a_loss, 0.4),
    ),
    "one time for the whole batch": (
        denoisers,
        "(torch.rand(1, generator=generator) + torch.arange(batch_size) / batch_size) % 1",
        "torch.rand(1, generator=generator).expand(batch_size)",
        on_denoisers.test_even_times_hold_one_time_in_each_slice,
    ),
    "1 / std for 1 / std^D in a density": (
        denoisers,
        "(offset**2 / spread + spread.log()).sum(-1)",
        "((offset**2 / spread).sum(-1) + spread.log()[..., 0])",
        on_denoisers.test_exact_mixture_is_the_integral_in_two_dimensions,
    ),
    # networks
    "time embedding indexed by rows instead of columns": (
        networks,
        "t[:, None] * frequencies[None, :]",
        "t[None, :] * frequencies[:, None]",
        on_networks.test_embedding_is_the_papers_waves,
    ),
    "times of [0, 1] embedded as if they were step numbers": (
        networks,
        "1000 * t[:, None]",
        "t[:, None]",
        on_networks.test_every_step_of_a_thousand_has_its_own_embedding,
    ),
    "a block that does not listen to the time": (
        networks,
        "h = self.norm_2(h) * (1 + scale) + shift",
        "h = self.norm_2(h)",
        on_networks.test_a_block_depends_on_its_condition,
    ),
    "scale for 1 + scale": (
        networks,
        "self.norm_2(h) * (1 + scale)",
        "self.norm_2(h) * scale",
        on_networks.test_a_block_scales_and_shifts_each_channel_of_each_sample,
    ),
    "null label missing from the table": (
        networks,
        "nn.Embedding(labels + 1, dim)",
        "nn.Embedding(labels, dim)",
        partial(on_networks.test_the_null_label_is_no_label, on_networks.mlp, on_networks.points),
    ),
    "no label means class 0": (
        networks,
        "torch.full_like(t, self.null_label, dtype=torch.long)",
        "torch.zeros_like(t, dtype=torch.long)",
        partial(on_networks.test_the_null_label_is_no_label, on_networks.mlp, on_networks.points),
    ),
    "channels attend to each other, not positions": (
        networks,
        ".transpose(-1, -2).unbind(1)",
        ".unbind(1)",
        on_networks.test_attention_is_the_softmax_written_out,
    ),
    "a new network that speaks": (
        networks,
        "zero(nn.Conv2d(widths[0], channels, 3, padding=1))",
        "nn.Conv2d(widths[0], channels, 3, padding=1)",
        on_networks.test_a_new_unet_says_nothing,
    ),
    "bridges that carry nothing": (
        networks,
        "torch.cat([h, bridges.pop()], dim=1)",
        "torch.cat([h, 0 * bridges.pop()], dim=1)",
        on_networks.test_a_unet_s_bridges_carry_what_the_middle_cannot_see,
    ),
    "latents of any scale": (
        networks,
        "return (self.encoder(x) - self.mean) / self.std",
        "return self.encoder(x)",
        on_networks.test_standardised_latents_have_mean_0_and_variance_1_in_every_channel,
    ),
    "latents scaled by their variance": (
        networks,
        "self.std = z.std(",
        "self.std = z.var(",
        on_networks.test_standardised_latents_have_mean_0_and_variance_1_in_every_channel,
    ),
    "decoded without undoing the scale": (
        networks,
        "return self.decoder(z * self.std + self.mean)",
        "return self.decoder(z)",
        on_networks.test_scaling_the_latents_does_not_change_what_they_decode_to,
    ),
    "the decoder never sees noise": (
        networks,
        "(self.decoder(z + self.noise * noise) - x)",
        "(self.decoder(z) - x)",
        on_networks.test_the_autoencoder_s_loss_written_out,
    ),
    "nothing keeps the latents small": (
        networks,
        "return error.flatten(1).mean(1) + self.pull * (z**2).flatten(1).mean(1)",
        "return error.flatten(1).mean(1)",
        on_networks.test_the_autoencoder_s_loss_written_out,
    ),
    # training
    "EMA never used for sampling": (
        recipes,
        "    ema.swap()\n",
        "    pass\n",
        with_monkeypatch(on_recipes.check_training_returns_the_average),
    ),
    "EMA weighs the new instead of the old": (
        training,
        "self.average[name].lerp_(p, share)",
        "self.average[name].lerp_(p, 1 - share)",
        on_training.test_ema_is_its_closed_form,
    ),
    "EMA that shares its memory with the weights": (
        training,
        "{name: p.detach().clone() for name, p in model.named_parameters()}",
        "{name: p.detach() for name, p in model.named_parameters()}",
        on_training.test_ema_is_its_closed_form,
    ),
    "gradients that pile up": (
        training,
        "    model.zero_grad()\n    return",
        "    return",
        on_training.test_gradients_do_not_pile_up,
    ),
    "a second run begins with the last rate of the first": (
        training,
        'share * group.setdefault("initial_lr", group["lr"])',
        'share * group["lr"]',
        on_training.test_a_second_run_begins_with_the_first_rates_again,
    ),
    "a step that overflowed for one optimiser is taken by the other": (
        training,
        "scaler.get_scale() > 1\n    if not too_large:",
        "scaler.get_scale() > 1\n    norm = torch.ones(()) if too_large else norm\n    if True:",
        with_monkeypatch(on_training.test_a_step_that_overflows_for_one_optimizer_is_left_out_for_all, float("inf")),
    ),
    "gradients of an earlier run stay": (
        training,
        "    model.zero_grad()  # nothing",
        "    # nothing",
        on_training.test_a_run_after_one_that_stopped_is_not_spoilt_by_its_gradients,
    ),
    "gradients not clipped": (
        training,
        "norm = nn.utils.clip_grad_norm_(model.parameters(), clip)",
        "norm = torch.zeros(())",
        partial(on_training.test_the_gradient_is_clipped_to_its_norm, 100.0, 1.0),
    ),
    "nan gets into the weights": (
        training,
        "if not torch.isfinite(value):",
        "if False:",
        partial(on_training.test_nan_stops_before_the_weights_are_touched, list(on_training.POISONS.values())[0]),
    ),
    "every run draws other noise": (
        training,
        "generator = torch.Generator().manual_seed(seed)",
        "generator = torch.default_generator",
        on_training.test_randomness_comes_from_the_seed_alone,
    ),
    "a resumed run sees the same batches again": (
        training,
        'self.batches.position = numbers["position"]',
        "pass",
        RESUME,
    ),
    "a resumed run draws the same noise again": (
        training,
        'self.generator.set_state(tensors["generator"])',
        "pass",
        RESUME,
    ),
    "a resumed run forgets its optimisers": (
        training,
        'optimizer.load_state_dict({"state": state,',
        'optimizer.load_state_dict({"state": {},',
        RESUME,
    ),
    "a resumed run averages from the beginning": (
        training,
        'self.ema.step = numbers["ema_step"]',
        "pass",
        RESUME,
    ),
    "momentum without Nesterov": (
        training,
        'orthogonal(p.grad.lerp(buffer, group["momentum"]).flatten(1))',
        "orthogonal(buffer.flatten(1))",
        partial(on_training.test_muon_is_nesterov_momentum_made_orthogonal, (16, 20)),
    ),
    # guidance, data, measuring
    "wrong drop rate": (
        guidance,
        "< probability",
        "> probability",
        on_guidance.test_labels_are_dropped_as_often_as_asked,
    ),
    "one draw for all labels": (
        guidance,
        "torch.rand(len(label), generator=generator)",
        "torch.rand(1, generator=generator).expand(len(label))",
        on_guidance.test_labels_are_dropped_as_often_as_asked,
    ),
    "w taken for the scale": (
        guidance,
        "return without + scale * (",
        "return conditional(x_t, t) + scale * (",
        on_guidance.test_scale_zero_is_unconditional_and_one_is_conditional,
    ),
    "a mirror that turns the batch": (
        recipes,
        "x.flip(3), x)",
        "x.flip(0, 3), x)",
        on_recipes.check_mirrored_pictures_stay_in_their_places,
    ),
    "one coin for the whole batch": (
        recipes,
        "torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5",
        "torch.rand(1, 1, 1, 1, generator=generator) < 0.5",
        on_recipes.check_mirrored_pictures_stay_in_their_places,
    ),
    "writing mirrored": (
        recipes,
        "torch.where(keep, x_0, mirrored(x_0, generator))",
        "mirrored(x_0, generator)",
        on_recipes.check_pictures_with_writing_are_not_mirrored,
    ),
    "diffusion on latents that the encoder left unscaled": (
        recipes,
        "z = encoder.encode(x_0.to(device))",
        "z = encoder.encoder(x_0.to(device))",
        with_monkeypatch(on_recipes.check_the_diffusion_model_gets_scaled_latents),
    ),
    "the last group that fits": (
        data,
        "reversed(list(enumerate(_EMOJI_GROUPS.values())))",
        "list(enumerate(_EMOJI_GROUPS.values()))",
        check_groups_afresh,
    ),
    "parts of words": (
        data,
        'rf"(?<![\\w-]){rule}(?![\\w-])"',
        "rule",
        check_groups_afresh,
    ),
    "the test emoji are trained on": (
        data,
        '"train": place % 10 != 9',
        '"train": place % 10 >= 0',
        on_data.test_every_tenth_emoji_is_held_out,
    ),
    "label and null label exchanged in one call": (
        guidance,
        "both = torch.cat([label, torch.full_like(label, null_label)])",
        "both = torch.cat([torch.full_like(label, null_label), label])",
        partial(on_guidance.test_one_call_of_twice_the_batch_equals_two_calls, 0.4, 3.5),
    ),
    "every other result of one call": (
        guidance,
        "label=both).chunk(2)",
        "label=both).unflatten(0, (-1, 2)).unbind(1)",
        partial(on_guidance.test_one_call_of_twice_the_batch_equals_two_calls, 0.4, 3.5),
    ),
    "a standard deviation in the gradient's weight": (
        guidance,
        "scale * sigma_t**2 / alpha_t * gradient",
        "scale * sigma_t / alpha_t * gradient",
        partial(on_guidance.test_an_exact_classifier_makes_the_conditional_denoiser, COSINE),
    ),
    "DDPM's noise weight in the gradient": (
        guidance,
        "scale * sigma_t**2 / alpha_t * gradient",
        "scale * sigma_t**2 * gradient",
        partial(on_guidance.test_an_exact_classifier_makes_the_conditional_denoiser, COSINE),
    ),
    "pushed down the classifier's hill": (
        guidance,
        "return denoiser(x_t, t) + scale * sigma_t**2",
        "return denoiser(x_t, t) - scale * sigma_t**2",
        partial(on_guidance.test_an_exact_classifier_makes_the_conditional_denoiser, COSINE),
    ),
    "the mean's gradient for the sum's": (
        guidance,
        "torch.autograd.grad(log_p.sum(), x)",
        "torch.autograd.grad(log_p.mean(), x)",
        on_guidance.test_each_sample_gets_its_own_slope,
    ),
    "guidance outside its interval": (
        guidance,
        "guided if low <= float(t) <= high else plain",
        "plain if low <= float(t) <= high else guided",
        on_guidance.test_guidance_holds_in_its_interval_only,
    ),
    # editing
    "the mask read the other way round": (
        editing,
        "return torch.where(mask.bool(), known, denoiser(x_t, t))",
        "return torch.where(mask.bool(), denoiser(x_t, t), known)",
        on_editing.test_unknown_pixels_are_the_denoisers,
    ),
    "known pixels multiplied instead of chosen": (
        editing,
        "return torch.where(mask.bool(), known, denoiser(x_t, t))",
        "return mask * known + (~mask.bool()) * denoiser(x_t, t)",
        on_editing.test_what_is_not_known_may_be_anything,
    ),
    "a jump back with all the noise of t": (
        editing,
        "sigma_t * schedule.fresh_share(t, s, like=x_s).sqrt() * noise",
        "sigma_t * noise",
        partial(on_editing.test_two_jumps_are_one, COSINE),
    ),
    "a jump back with the variance for its root": (
        editing,
        "sigma_t * schedule.fresh_share(t, s, like=x_s).sqrt() * noise",
        "sigma_t**2 * schedule.fresh_share(t, s, like=x_s) * noise",
        partial(on_editing.test_two_jumps_are_one, COSINE),
    ),
    "a jump back that does not shrink": (
        editing,
        "return alpha_t / alpha_s * x_s",
        "return x_s",
        partial(on_editing.test_two_jumps_are_one, COSINE),
    ),
    "known pixels noised to t instead of s": (
        editing,
        "noise_like(x_t, generator), s)",
        "noise_like(x_t, generator), t)",
        on_editing.test_repaint_noises_known_pixels_to_the_time_of_the_step,
    ),
    "the last step made again and again": (
        editing,
        "attempts = resample if s > 0 else 1",
        "attempts = resample",
        on_editing.test_repaint_makes_as_many_calls_as_it_says,
    ),
    "strength turned round": (
        editing,
        "noise_like(image, generator), strength)",
        "noise_like(image, generator), 1 - strength)",
        on_editing.test_strength_0_is_the_image_and_1_is_a_sample,
    ),
    "the whole grid for any strength": (
        editing,
        "time_grid(max(1, round(strength * steps)), start=strength)",
        "time_grid(steps)",
        partial(on_editing.test_the_image_is_noised_to_where_the_grid_begins, 0.5, 10),
    ),
    "the transpose for the pseudo-inverse": (
        editing,
        "return y.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)",
        "return y.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1) / factor**2",
        partial(on_editing.test_invert_is_the_pseudo_inverse, on_editing.MEASUREMENTS["averages"]),
    ),
    "a small picture tiled instead of enlarged": (
        editing,
        "return y.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)",
        "return y.repeat(1, 1, factor, factor)",
        partial(on_editing.test_invert_is_the_pseudo_inverse, on_editing.MEASUREMENTS["averages"]),
    ),
    "colours by weight without its square": (
        editing,
        "lambda y: w.to(y) * y / (w**2).sum().to(y)",
        "lambda y: w.to(y) * y / w.sum().to(y)",
        partial(on_editing.test_invert_is_the_pseudo_inverse, on_editing.MEASUREMENTS["brightness"]),
    ),
    "all of y added to the estimate": (
        editing,
        "measurement.invert(y - measurement.measure(x_0))",
        "measurement.invert(y)",
        partial(on_editing.test_samples_measure_what_was_given, on_editing.MEASUREMENTS["averages"]),
    ),
    "a standard deviation where its square belongs": (
        editing,
        "/ (2 * std**2)",
        "/ (2 * std)",
        on_editing.test_the_gradient_of_a_measurement_in_closed_form,
    ),
    "a straight walk between noises": (
        editing,
        "return (((1 - u) * omega).sin() * z_0 + (u * omega).sin() * z_1) / omega.sin()",
        "return (1 - u) * z_0 + u * z_1",
        on_editing.test_the_walk_keeps_the_variance_and_ends_where_it_should,
    ),
    "unnormalised data": (
        data,
        "return values / 127.5 - 1",
        "return values / 255",
        on_data.test_every_pixel_value_survives_the_round_trip,
    ),
    "labels shuffled apart from their images": (
        data,
        "return self.x_0[idx], self.label[idx]",
        "return self.x_0[idx], self.label[idx.flip(0)]",
        on_data.test_x_and_label_stay_together_and_keep_their_types,
    ),
    "a trace for the trace of the root": (
        metrics,
        "torch.linalg.svdvals(root(C_a) @ root(C_b)).sum()",
        "(root(C_a) @ root(C_b)).trace()",
        on_metrics.test_frechet_distance_of_known_gaussians,
    ),
    "a Frechet distance with one root too few": (
        metrics,
        "- 2 * overlap",
        "- overlap",
        on_metrics.test_frechet_distance_is_a_distance_of_sets,
    ),
    "a sample is its own neighbour": (
        metrics,
        "kthvalue(k + 1, dim=1)",
        "kthvalue(k, dim=1)",
        on_metrics.test_fidelity_is_that_of_prdc,
    ),
    "precision and recall exchanged": (
        metrics,
        "precision=float(in_real.any(0).double().mean()),\n        recall=float(in_generated.any(1).double().mean())",
        "precision=float(in_generated.any(1).double().mean()),\n        recall=float(in_real.any(0).double().mean())",
        on_metrics.test_fidelity_tells_faults_apart,
    ),
    "density not divided by k": (
        metrics,
        "in_real.double().sum(0).mean() / k",
        "in_real.double().sum(0).mean()",
        on_metrics.test_fidelity_of_two_sets_from_one_distribution,
    ),
    "coverage counts samples instead of real ones": (
        metrics,
        "coverage=float(in_real.any(1)",
        "coverage=float(in_real.any(0)",
        on_metrics.test_fidelity_is_that_of_prdc,
    ),
    "drawn without replacement": (
        metrics,
        "torch.randint(len(group), (len(group),), generator=generator)",
        "torch.randperm(len(group), generator=generator)",
        on_metrics.test_bootstrap_of_a_mean_is_its_standard_error,
    ),
    "a variance for a standard deviation in an interval": (
        metrics,
        "float(torch.tensor(values).std())",
        "float(torch.tensor(values).var())",
        on_metrics.test_bootstrap_of_a_mean_is_its_standard_error,
    ),
    "classes mixed by a permutation": (
        metrics,
        "order[group] = group[torch.randperm(len(group), generator=generator)]",
        "order = torch.randperm(len(pool), generator=generator)",
        on_metrics.test_permutation_within_classes,
    ),
    "p-values of zero": (
        metrics,
        "float(1 + as_large) / (1 + draws)",
        "float(as_large) / draws",
        on_metrics.test_permutation_test_is_honest,
    ),
    "1.96 with five runs": (
        metrics,
        "t = STUDENT[min(len(a), len(b)) - 2]",
        "t = 1.96",
        on_metrics.test_intervals_over_runs_keep_their_promise,
    ),
    "a standard deviation of runs for that of their mean": (
        metrics,
        "a.var() / len(a) + b.var() / len(b)",
        "a.var() + b.var()",
        on_metrics.test_a_difference_is_that_of_a_t_test,
    ),
    "F for its root": (
        metrics,
        "FISHER[len(a) - 2] ** 0.5",
        "FISHER[len(a) - 2]",
        on_metrics.test_intervals_over_runs_keep_their_promise,
    ),
    "a copy is what is near to anything": (
        metrics,
        "distance[:, 0] < threshold * distance[:, 1]",
        "distance[:, 0] < threshold * distance[:, 1].max()",
        on_metrics.test_nearest_and_copies,
    ),
    "a distance without a floor": (
        weights,
        '"floor": round(metrics.frechet_distance(held_out, real), 3)',
        '"floor": round(metrics.frechet_distance(real, real), 3)',
        with_monkeypatch(on_weights.test_measure_prints_the_floor_beside_the_distance),
    ),
}
A_MOVE = with_monkeypatch(on_rivals.test_a_move_of_each_player_is_a_step_down_its_own_loss, 2.0)
KILLED = with_monkeypatch(on_race.check_resume_in_a_small_bench)
MUSEUM |= {
    # rivals
    "the KL with its sign turned": (
        rivals,
        "(mean**2 + log_variance.exp() - log_variance - 1) / 2",
        "(1 + log_variance - mean**2 - log_variance.exp()) / 2",
        on_rivals.test_kl_is_that_of_torch_and_of_its_definition,
    ),
    "a log-variance taken for a variance in the KL": (
        rivals,
        "mean**2 + log_variance.exp() - log_variance - 1",
        "mean**2 + log_variance - (log_variance.abs() + 1e-9).log() - 1",
        on_rivals.test_kl_is_that_of_torch_and_of_its_definition,
    ),
    "a log-variance taken for a logarithm of the standard deviation": (
        rivals,
        "(log_variance / 2).exp() * noise",
        "log_variance.exp() * noise",
        on_rivals.test_a_latent_has_its_mean_and_variance,
    ),
    "no gradient through the draw": (
        rivals,
        "return mean + (log_variance / 2).exp() * noise",
        "return mean + (log_variance / 2).exp().detach() * noise",
        on_rivals.test_gradients_go_through_the_draw,
    ),
    "the KL averaged over the code": (
        rivals,
        "- log_variance - 1) / 2).sum(1)",
        "- log_variance - 1) / 2).mean(1)",
        on_rivals.test_kl_is_that_of_torch_and_of_its_definition,
    ),
    "the reconstruction averaged over pixels and the KL summed": (
        rivals,
        ".flatten(1).sum(1)  # -log p(x_0 | z)",
        ".flatten(1).mean(1)  # -log p(x_0 | z)",
        on_rivals.test_the_loss_is_log_p_where_the_encoder_is_exact,
    ),
    "a squared error without its half": (
        rivals,
        "surprise = (error / 2 + math",
        "surprise = (error + math",
        on_rivals.test_the_loss_is_log_p_where_the_encoder_is_exact,
    ),
    "a VAE that forgets its KL": (
        rivals,
        "return surprise + self.beta * kl(mean, log_variance)",
        "return surprise",
        on_rivals.test_the_loss_is_above_log_p_by_the_kl_of_the_encoder_from_the_posterior,
    ),
    "a generator that saturates": (
        rivals,
        "return F.softplus(-fake_logit).mean()",
        "return -F.softplus(fake_logit).mean()",
        on_rivals.test_the_generator_learns_where_the_discriminator_is_sure,
    ),
    "real and made images exchanged": (
        rivals,
        "F.softplus(-real_logit).mean() + F.softplus(fake_logit).mean()",
        "F.softplus(real_logit).mean() + F.softplus(-fake_logit).mean()",
        on_rivals.test_the_best_discriminator_measures_the_jensen_shannon_divergence,
    ),
    "the mean of two losses for their sum": (
        rivals,
        "return F.softplus(-real_logit).mean() + F.softplus(fake_logit).mean()",
        "return (F.softplus(-real_logit).mean() + F.softplus(fake_logit).mean()) / 2",
        on_rivals.test_a_blind_discriminator_scores_two_logs_of_two,
    ),
    "a penalty without its square": (
        rivals,
        "slope.flatten(1).square().sum(1)",
        "slope.flatten(1).square().sum(1).sqrt()",
        on_rivals.test_r1_of_a_quadratic_discriminator,
    ),
    "a penalty that moves no weight": (
        rivals,
        "create_graph=True",
        "retain_graph=True",
        on_rivals.test_r1_of_a_quadratic_discriminator,
    ),
    "the penalty on made images": (
        rivals,
        "penalty = gan.penalty * r1(real_logit, x_0) if",
        "made = fake.detach().requires_grad_()\n    penalty = gan.penalty * r1(gan.discriminator(made), made) if",
        A_MOVE,
    ),
    "a generator that helps the discriminator": (
        rivals,
        "persuade = generator_loss(gan.discriminator(fake))",
        "persuade = -generator_loss(gan.discriminator(fake))",
        A_MOVE,
    ),
    "a generator that asks the old discriminator": (
        rivals,
        "    descend(optimizers[1], contest + penalty)\n\n    persuade = generator_loss(gan.discriminator(fake))\n",
        "    persuade = generator_loss(gan.discriminator(fake))\n    made = torch.autograd.grad(persuade, fake)[0]\n"
        "    descend(optimizers[1], contest + penalty)\n    persuade = (made * fake).sum()\n",
        A_MOVE,
    ),
    "gradients of the step before are added": (
        rivals,
        "p.grad = slope",
        "p.grad = slope if p.grad is None else p.grad + slope",
        on_rivals.test_descend_moves_its_own_parameters_only,
    ),
    "a mixture of equally likely parts": (
        rivals,
        "self.weights = weights / weights.sum()",
        "self.weights = torch.ones(parts) / parts",
        on_rivals.test_a_mixture_finds_its_parts,
    ),
    # bench
    "EMA of a rival never used for sampling": (
        race,
        "        diverged = True\n    ema.swap()",
        "        diverged = True",
        on_bench.check_average,
    ),
    "the time between steps is paid for": (
        bench,
        "spent += clock(device) - begin",
        "spent += clock(device) - begin\n            start = start if step else begin\n"
        "            spent = clock(device) - start",
        with_monkeypatch(on_bench.test_only_work_inside_a_step_is_paid_for),
    ),
    "images seen counted in steps": (
        bench,
        "else step * BATCH_SIZE / images",
        "else step / images",
        with_monkeypatch(on_bench.test_the_learning_rate_rises_and_falls),
    ),
    "the seed of a run ignored": (
        bench,
        "batches = data.Batches(x_0, label, BATCH_SIZE, seed)\n",
        "batches = data.Batches(x_0, label, BATCH_SIZE, int(torch.randint(99, ())))\n",
        partial(on_bench.test_a_run_depends_on_its_seed_alone, "vae"),
    ),
    "finished runs made again": (
        race,
        'progress([job for job in jobs if job not in done], desc="runs")',
        'progress(jobs, desc="runs")',
        KILLED,
    ),
    "a learning rate that rises for longer": (
        bench,
        "learning_rate_share(done, 0.05)",
        "learning_rate_share(done, 0.1)",
        partial(on_race.check_first_steps, "diffusion"),
    ),
    "an average of every other step": (
        bench,
        "if ema is not None:",
        "if ema is not None and step % 2:",
        partial(on_race.check_first_steps, "gan"),
    ),
    "a bench with another weight of the KL": (
        rivals,
        "return surprise + self.beta * kl(mean, log_variance)",
        "return surprise + 0.9 * self.beta * kl(mean, log_variance)",
        partial(on_race.check_first_steps, "vae"),
    ),
    "times the other way round": (
        bench,
        "loss = model.loss(x_0, times, noise_like(x_0, generator))",
        "loss = model.loss(x_0, 1 - times, noise_like(x_0, generator))",
        partial(on_race.check_first_steps, "diffusion"),
    ),
    "features on another scale": (
        bench,
        "fidelity_and_distance(real, classifier.features(x))",
        "fidelity_and_distance(real, 1.02 * classifier.features(x))",
        on_race.check_baselines,
    ),
    "a single sample counts as a digit": (
        bench,
        'count >= 0.01 * sum(judged["classes"])',
        "count > 0",
        partial(on_bench.test_a_run_has_collapsed_if_it_covers_too_little, 0.31, [495] * 2 + [2] * 5 + [1] * 3, True),
    ),
}
SHIFTED = partial(
    on_resolution.test_a_shifted_schedule_hides_the_large_picture_as_the_plain_one_hides_the_small, COSINE, 2
)
MUSEUM |= {
    # costs
    "FLOPs for multiply-adds": (
        costs,
        "counter.get_total_flops() // 2",
        "counter.get_total_flops()",
        on_costs.test_going_back_costs_twice_as_much_as_going_forward,
    ),
    "the stride is ignored": (
        costs,
        "spread = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output",
        "spread = inputs[0]",
        partial(on_costs.test_a_convolution_is_counted_as_torch_counts_it, 2, 1, True),
    ),
    "a transposed convolution counted at its output": (
        costs,
        "spread = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output",
        "spread = output",
        partial(on_costs.test_a_transposed_convolution_works_at_the_places_of_its_input, 2),
    ),
    "groups see all channels": (
        costs,
        "(channels_in // groups)",
        "channels_in",
        partial(on_costs.test_a_convolution_is_counted_as_torch_counts_it, 1, 2, True),
    ),
    "the side of a kernel for its area": (
        costs,
        "return kernel**2 *",
        "return kernel *",
        on_costs.test_a_convolution_by_running_through_its_loops,
    ),
    "a bias counted as a product": (
        costs,
        "return rows * features_in * features_out",
        "return rows * (features_in + 1) * features_out",
        partial(on_costs.test_a_linear_layer_multiplies_every_input_for_every_output, True),
    ),
    "an attention that never takes the values": (
        costs,
        "return 2 * queries * keys * channels",
        "return queries * keys * channels",
        partial(on_costs.test_an_attention_costs_the_same_with_any_number_of_heads, 2),
    ),
    "a batch counted as one image": (
        costs,
        "batch, shape = len(output), output.shape",
        "batch, shape = 1, output.shape",
        on_costs.test_counting_takes_a_denoiser_and_leaves_no_hooks_behind,
    ),
    "a layer counted at its last call only": (
        costs,
        "work[name] = work.get(name, 0) + amount",
        "work[name] = amount",
        on_costs.test_a_layer_that_is_called_twice_counts_twice,
    ),
    "backward counted once": (
        costs,
        "return 3 * one_call * images",
        "return 2 * one_call * images",
        on_costs.test_going_back_costs_twice_as_much_as_going_forward,
    ),
    "the second call of guidance forgotten": (
        costs,
        "(calls + guided_calls)",
        "calls",
        partial(on_costs.test_sampling_costs_a_call_a_look_and_two_with_guidance, (0, 1), 10),
    ),
    "the last time for the shortest": (
        costs,
        "shortest = min(shortest, time.perf_counter() - begin)",
        "shortest = time.perf_counter() - begin",
        with_monkeypatch(on_costs.test_a_rate_is_work_over_the_shortest_time),
    ),
    "watt-minutes": (
        costs,
        "return seconds * watts * overhead / 3600",
        "return seconds * watts * overhead / 60",
        on_costs.test_energy_in_watt_hours,
    ),
    # what lesson 12 measures, and the data with exact rules
    "odd bits": (
        data,
        "coins.sum(1, keepdim=True) % 2",
        "1 - coins.sum(1, keepdim=True) % 2",
        on_data.test_even_bits_are_even_and_otherwise_coins,
    ),
    "dots that may touch": (
        data,
        "(apart < 3)",
        "(apart < 2)",
        on_dots.test_dots_are_as_many_as_the_label_says_and_do_not_touch,
    ),
    "dots that meet in a corner counted as two": (
        dots,
        "rows if corners else name",
        "name",
        on_dots.test_dots_that_meet_in_a_corner_are_one_piece,
    ),
    "names that travel one pixel only": (
        dots,
        "while before is None or not torch.equal(name, before):",
        "while before is None:",
        on_dots.test_a_piece_may_wind_as_long_as_it_likes,
    ),
    "holes that leak through corners": (
        dots,
        "corners=False) - 1",
        "corners=True) - 1",
        on_dots.test_holes_are_those_of_scipy,
    ),
    "the outside counted as a hole": (
        dots,
        "corners=False) - 1",
        "corners=False)",
        on_dots.test_holes_are_those_of_scipy,
    ),
    "dots of any shape": (
        dots,
        "(covered == ink).flatten(1).all(1) & ",
        "",
        on_dots.test_proper_dots_are_squares_of_four,
    ),
    "halves that overlap": (
        memory,
        "place = slice(2000 * which, 2000 * which + n)",
        "place = slice(n * which, n * which + n)",
        on_memory.test_the_halves_are_disjoint_and_balanced,
    ),
    "both halves from the same first weights": (
        memory,
        "new_half_model(which)",
        "new_half_model(0)",
        with_monkeypatch(partial(on_memory.test_a_model_sees_its_own_digits_and_each_equally_often, n=10)),
    ),
    "a correlation without the mean taken off": (
        memory,
        "F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True))",
        "F.cosine_similarity(a, b)",
        on_memory.test_correlation_is_that_of_the_pixels,
    ),
    "twins beside one of two originals": (
        memory,
        "torch.minimum(*to_data)",
        "torch.maximum(*to_data)",
        on_memory.test_twins_are_nearer_to_each_other_than_to_what_was_learnt,
    ),
    "copies looked for among held-out digits": (
        memory,
        "metrics.copies(images, training)",
        "metrics.copies(images, held_out)",
        on_memory.test_nearness_tells_copies_from_new_digits,
    ),
    "the loss at other noise levels than it says": (
        memory,
        "model.loss(x_0, torch.tensor(t), noise)",
        "model.loss(x_0, torch.tensor(1 - t), noise)",
        on_memory.test_the_loss_of_a_silent_network_is_known,
    ),
    "a label off by one in the count": (
        dots,
        "right = (count == label).double()",
        "right = (count == label + 1).double()",
        on_dots.test_what_is_counted_on_real_and_on_spoilt_pictures,
    ),
    "the frequent kind for the rare one": (
        minority,
        ".argmin(1) == 1)",
        ".argmin(1) == 0)",
        on_minority.test_without_guidance_the_rare_kind_has_its_share,
    ),
    "left for right": (
        minority,
        "return -(ink * from_row * from_column)",
        "return (ink * from_row * from_column)",
        partial(on_minority.test_slant_is_the_shear_of_a_bar, 0.3),
    ),
    "a tenth of all digits instead of its class": (
        minority,
        "real[training_label == k]",
        "real",
        on_minority.test_rare_styles_know_the_training_digits_and_what_is_missing,
    ),
    "a schedule shifted the wrong way": (
        schedules,
        "return self.schedule.alpha(t) / self.length(t)\n\n    def sigma(self, t):\n"
        "        return self.factor * self.schedule.sigma(t) / self.length(t)",
        "return self.factor * self.schedule.alpha(t) / self.length(t)\n\n    def sigma(self, t):\n"
        "        return self.schedule.sigma(t) / self.length(t)",
        SHIFTED,
    ),
    "a shift by the root of the factor": (
        schedules,
        "self.schedule, self.factor = schedule, factor",
        "self.schedule, self.factor = schedule, factor**0.5",
        SHIFTED,
    ),
}
MUSEUM |= {
    # tokens
    "noise above alpha survives": (
        forward,
        "torch.where(noise < alpha_t, x_0, mask)",
        "torch.where(noise > alpha_t, x_0, mask)",
        partial(on_forward.test_a_token_survives_with_probability_alpha, schedules.Linear()),
    ),
    "tokens survive with the variance of the signal": (
        forward,
        "noise < alpha_t, x_0, mask",
        "noise < alpha_t**2, x_0, mask",
        partial(on_forward.test_a_token_survives_with_probability_alpha, COSINE),
    ),
    "one coin for all tokens of a sequence": (
        forward,
        "return torch.rand(x.shape, generator=generator, device=device).to(x.device)",
        "return torch.rand(x.shape[0], 1, generator=generator, device=device).to(x.device).expand(x.shape)",
        on_forward.test_noise_for_tokens_is_uniform,
    ),
    "the loss without its weight": (
        tokens,
        "reshape_like(weight_t, cross_entropy.sum(1)) * cross_entropy.sum(1)",
        "cross_entropy.sum(1)",
        partial(on_tokens.test_the_exact_loss_is_the_entropy_whatever_the_schedule, "linear"),
    ),
    "the loss as a mean over the hidden tokens": (
        tokens,
        "* cross_entropy.sum(1)",
        "* cross_entropy.sum(1) / (x_t == mask).sum(1).clamp(min=1)",
        partial(on_tokens.test_the_exact_loss_is_the_entropy_whatever_the_schedule, "linear"),
    ),
    "the weight of the linear schedule for every schedule": (
        tokens,
        "-slope / (1 - alpha_t.detach())",
        "1 / t.detach()",
        partial(on_tokens.test_the_exact_loss_is_the_entropy_whatever_the_schedule, "cosine"),
    ),
    "the weight forgets how fast tokens are hidden": (
        tokens,
        "-slope / (1 - alpha_t.detach())",
        "1 / (1 - alpha_t.detach())",
        partial(on_tokens.test_the_exact_loss_is_the_entropy_whatever_the_schedule, "cosine"),
    ),
    "the weight over the share that is known": (
        tokens,
        "-slope / (1 - alpha_t.detach())",
        "-slope / alpha_t.detach()",
        partial(on_tokens.test_weights_are_the_slope_of_alpha, "cosine"),
    ),
    "a slope that is lost by rounding the time": (
        schedules,
        "off.abs() < 1e-9, position - off, position",
        "off.abs() < 1e-9, position.round(), position",
        on_tokens.test_the_weight_on_the_steps_of_a_chain_is_that_beside_them,
    ),
    "known tokens cost, too": (
        tokens,
        "torch.where((x_t == V)[..., None], log_p, known)",
        "log_p",
        on_tokens.test_an_untrained_network_knows_nothing,
    ),
    "known tokens are asked again": (
        tokens,
        "shown = hidden & (chance < share)",
        "shown = chance < share",
        on_tokens.test_estimates_of_known_tokens_are_not_taken,
    ),
    "the later time in the share that is revealed": (
        tokens,
        "share = (alpha_s - alpha_t) / (1 - alpha_t)",
        "share = (alpha_s - alpha_t) / (1 - alpha_s)",
        on_tokens.test_the_share_that_is_hidden_follows_the_schedule,
    ),
    "tokens revealed as often as they survive": (
        tokens,
        "share = (alpha_s - alpha_t) / (1 - alpha_t)",
        "share = alpha_s",
        on_tokens.test_the_share_that_is_hidden_follows_the_schedule,
    ),
    "masks left at the end": (
        tokens,
        "share = (alpha_s - alpha_t) / (1 - alpha_t)",
        "share = alpha_s - alpha_t",
        partial(on_tokens.test_no_mask_is_left, "random", 5),
    ),
    "masks left by rounding down": (
        tokens,
        "(share * hidden.sum(1)).round()",
        "(share * (hidden.sum(1) - 1)).floor()",
        partial(on_tokens.test_no_mask_is_left, "shuffled", 5),
    ),
    "the likeliest symbol instead of a draw": (
        tokens,
        "draw(x_0, uniform_like(x_t, generator)), uniform",
        "x_0.argmax(-1), uniform",
        partial(on_tokens.test_one_token_a_step_is_exact_in_any_order, "shuffled"),
    ),
    "a draw that can give what is impossible": (
        tokens,
        "(reached <= noise[..., None] * reached[..., -1:])",
        "(reached < noise[..., None] * reached[..., -1:])",
        on_tokens.test_a_draw_has_its_probabilities_and_no_impossible_symbol,
    ),
    "the least sure first": (
        tokens,
        "descending=True",
        "descending=False",
        on_tokens.test_confidence_reveals_the_surest_first,
    ),
    "confidence in the symbol that was drawn": (
        tokens,
        "x_0.amax(-1) if order",
        "x_0.gather(-1, drawn[..., None]).squeeze(-1) if order",
        partial(on_tokens.test_one_token_a_step_is_exact_in_any_order, "confidence"),
    ),
    "probabilities that are no logarithms": (
        tokens,
        "(denoiser(x_t, t) / temperature).log_softmax(-1)",
        "(denoiser(x_t, t).exp() / temperature).log_softmax(-1)",
        on_tokens.test_sharpening_is_a_power,
    ),
    "a left-to-right model that sees what it is asked for": (
        tokens,
        "before = F.pad(x_0[:, :-1], (1, 0), value=self.begin)",
        "before = x_0",
        on_tokens.test_left_to_right_probabilities_sum_to_one_over_all_sequences,
    ),
    "a beginning that is a symbol": (
        tokens,
        "before = F.pad(x_0[:, :-1], (1, 0), value=self.begin)",
        "before = F.pad(x_0[:, :-1], (1, 0), value=0)",
        on_tokens.test_the_left_to_right_loss_is_that_of_its_prefixes,
    ),
    "the first answer for every token": (
        tokens,
        "self.network(x)[:, -1:]",
        "self.network(x)[:, :1]",
        on_tokens.test_left_to_right_writes_what_it_finds_likely,
    ),
    "no causal mask": (
        networks,
        "score = score.masked_fill(ahead, -math.inf)",
        "pass",
        on_networks.test_a_causal_transformer_sees_itself_and_what_is_to_its_left,
    ),
    "a causal mask that is shifted by one": (
        networks,
        ".triu(1)",
        ".triu(2)",
        on_networks.test_a_causal_transformer_sees_itself_and_what_is_to_its_left,
    ),
    "attention without its root": (
        networks,
        "/ (D // self.heads) ** 0.5",
        "/ (D // self.heads)",
        on_networks.test_attention_written_out,
    ),
    "no places": (
        networks,
        "h = self.tokens(x_t) + self.places[: x_t.shape[1]]",
        "h = self.tokens(x_t)",
        on_networks.test_a_transformer_knows_places,
    ),
    "a mask that can be predicted": (
        networks,
        "zero(nn.Linear(width, symbols))",
        "zero(nn.Linear(width, symbols + 1))",
        on_networks.test_an_untrained_transformer_finds_all_symbols_equally_likely,
    ),
    "held-out sums that are trained on": (
        data,
        '"train": shuffled[1000:].sort().values',
        '"train": shuffled[900:].sort().values',
        on_data.test_a_fixed_tenth_of_the_sums_is_held_out,
    ),
}
# A label without a row is seen when the table is asked for it; `train` itself refuses gradients that are not finite.
CRASHES = {
    "no gradient through the draw": RuntimeError,
    "a penalty that moves no weight": RuntimeError,
    "null label missing from the table": IndexError,
    "a refusal looks at values while a compiler traces": RuntimeError,
    "a step back adds noise that has a variance below 0": TypeError,
    "gradients of an earlier run stay": FloatingPointError,
}


def functions(namespace):
    """{qualified name: function} of a module's own functions and methods, and of the two weights in its targets."""
    found = {}
    for name, value in namespace.items():
        members = vars(value).items() if isinstance(value, type) else [("", value)]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            members = [("." + field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
        for member, f in members:
            f = inspect.unwrap(getattr(f, "__func__", f))
            if isinstance(f, types.FunctionType) and f.__module__ == namespace["__name__"]:
                found[f"{name}.{member}"] = f
    return found


@contextlib.contextmanager
def planted(module, old, new):
    source = Path(module.__file__).read_text(encoding="utf8")
    assert source.count(old) == 1, f"{module.__name__} holds {old!r} {source.count(old)} times: the bug found no place"
    changed = {"__name__": module.__name__, "__package__": module.__package__, "__file__": module.__file__}
    exec(compile(source.replace(old, new), module.__file__, "exec"), changed)
    there, here = functions(changed), functions(vars(module))
    codes = {f: f.__code__ for f in here.values()}
    swapped = [name for name, f in here.items() if there[name].__code__ != f.__code__]
    assert swapped, f"{new!r} changes no function"
    try:
        for name in swapped:
            here[name].__code__ = there[name].__code__
        yield
    finally:
        for f, code in codes.items():
            f.__code__ = code


@cache
def passes(check):
    check()
    return True


@pytest.mark.parametrize("bug", MUSEUM)
def test_the_suite_sees(bug):
    module, old, new, check = MUSEUM[bug]
    assert passes(check)
    with planted(module, old, new):
        with pytest.raises((AssertionError, pytest.fail.Exception, CRASHES.get(bug, AssertionError))):
            check()


def test_a_planted_bug_is_taken_out_again():
    """Also if the check raises; and the bug is in the functions that others imported."""
    before = {f: f.__code__ for f in functions(vars(forward)).values()}
    with pytest.raises(ZeroDivisionError), planted(forward, "beta.sqrt() * noise", "7 * noise"):
        one = on_forward.torch.ones(2)
        assert on_forward.forward.noising_step(one, 0.0, one).tolist() == [8, 8]
        raise ZeroDivisionError
    assert all(f.__code__ == code for f, code in before.items())


def test_a_bug_without_a_place_is_noticed():
    """Should the library's source change, a bug that is no longer planted must not count as caught."""
    with pytest.raises(AssertionError, match="found no place"), planted(forward, "no such line", ""):
        pass
    with (
        pytest.raises(AssertionError, match="changes no function"),
        planted(forward, "From data to noise", "From noise to data"),
    ):
        pass
