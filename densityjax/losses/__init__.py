"""Losses of one example; noise and negatives are handed in."""

from densityjax.losses.contrastive import (
    conditional_noise_contrastive_estimation,
    contrastive_divergence,
    logistic_contrast,
    noise_contrastive_estimation,
    ranking_contrast,
    self_normalised_bound,
    self_normalised_likelihood,
)
from densityjax.losses.energy_matching import (
    energy_denoising_per_level,
    energy_denoising_score_matching,
    energy_exact_score_matching,
    energy_score,
    energy_sliced_score_matching,
)
from densityjax.losses.joint_energy import (
    JointEnergyTerms,
    joint_energy_loss,
    joint_energy_terms,
    marginal_energy,
)
from densityjax.losses.likelihood import negative_log_likelihood
from densityjax.losses.noise_levels import (
    fixed_uniforms,
    geometric_sigmas,
    log_normal_sigmas,
    log_uniform_sigmas,
    stratified_uniforms,
)
from densityjax.losses.score_matching import (
    denoising_floor,
    denoising_per_level,
    denoising_score_matching,
    dual_score_matching,
    dual_score_matching_terms,
    edm_weight,
    exact_score_matching,
    finite_difference_score_matching,
    gaussian_line,
    sliced_score_matching,
)

__all__ = [
    "JointEnergyTerms",
    "conditional_noise_contrastive_estimation",
    "contrastive_divergence",
    "denoising_floor",
    "denoising_per_level",
    "denoising_score_matching",
    "dual_score_matching",
    "dual_score_matching_terms",
    "edm_weight",
    "energy_denoising_per_level",
    "energy_denoising_score_matching",
    "energy_exact_score_matching",
    "energy_score",
    "energy_sliced_score_matching",
    "exact_score_matching",
    "finite_difference_score_matching",
    "fixed_uniforms",
    "gaussian_line",
    "geometric_sigmas",
    "joint_energy_loss",
    "joint_energy_terms",
    "log_normal_sigmas",
    "log_uniform_sigmas",
    "logistic_contrast",
    "marginal_energy",
    "negative_log_likelihood",
    "noise_contrastive_estimation",
    "ranking_contrast",
    "self_normalised_bound",
    "self_normalised_likelihood",
    "sliced_score_matching",
    "stratified_uniforms",
]
