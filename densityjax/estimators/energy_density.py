"""The energy family on a table of numbers: a flow corrected by a network, and its density."""

import os
import warnings
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from densityjax._typing import Key
from densityjax.estimators import _columns, _fitting
from densityjax.estimators import _energy_fitting as fitting
from densityjax.estimators import _energy_functions as functions
from densityjax.estimators._tabular_density import TabularDensity
from densityjax.estimators.flow_density import FlowDensity
from densityjax.models import (
    Chains,
    EnergyConfig,
    EnergyLoss,
    FlowConfig,
    energy_loss,
    map_rows,
)
from densityjax.models.energy_losses import METHODS
from densityjax.training import FitProgress

NUM_PROPOSALS = 16_384  # fresh draws that log Z is estimated with
ROWS_SEEN, ROWS_SEEN_FROM_SCRATCH = 300_000, 1_000_000  # in a fit of the flow, of an energy
NUM_CHAINS = 4_096  # persistent chains of 'pcd'
LEAST_SHARE = 0.01  # of proposals that count, below which `fit` warns
WORST_TAIL = 0.7  # Pareto shape of the weights above which `fit` warns, unless enough rows count
ENOUGH_SHARE = 0.5  # of proposals that count: the largest weights hold little of Z whatever they do


class EnergyDensity(TabularDensity):
    """Learns an energy of the columns of a table, normalised by a flow that is fitted beside it.

    A neural spline flow q is fitted to the rows first. With the base 'flow' the energy is
    -log q + f: the network f says where the flow is wrong, the tails stay the flow's or become
    lighter, and of the flow alone and the flow corrected the one with the better held-out density
    is kept, which `gain_` tells. Other bases start from scratch, and need the flow only for noise,
    for log Z and for samples.

    Log Z is by importance sampling from fresh draws of the flow, `partition_` has its interval, and
    `fit` warns where the weights do not carry it. Samples are draws of the flow, each chosen among
    32 by their weights.

    Rows are held out, and frames held to their columns, as `FlowDensity` does.

    Args:
      loss: what the network is fitted by. Against noise, the flow's own draws: 'nce', 'ranking' or
        'snl'; by chains on the model: 'cd', 'pcd' or 'short_run'; by scores: 'dsm', 'ssm', 'exact'
        or 'cnce', which do not see the weights of modes far apart. See `models.energy_loss`.
      base: 'flow', 'normal' (Gaussian tails) or 'student_t'; the law that confines the energy.
      widths: sizes of the network's hidden layers.
      norm: 'none', or 'layer' for a layer norm in front of every activation.
      num_noise: noise rows for each row of data.
      sigma: noise of 'dsm' and 'cnce', in standard deviations of the transformed columns; the law
        that 'dsm' learns has that noise in it.
      chains: how 'cd', 'pcd' and 'short_run' draw negatives; None for `models.Chains()`.
      flow_layers: spline layers of the flow.
      flow_width: hidden width of its conditioners.
      flow_epochs: most passes over the rows of its fit; None for about 300,000 rows seen.
      transforms: for each column 'identity', 'log' (positive values) or 'logit' (values in [0, 1]);
        the density stays that of X. Values at an end are moved inside and counted. None: identity.
      num_epochs: most passes over the rows of the energy's fit; None as for the flow where it
        corrects one, and for a million rows seen where it starts from scratch.
      batch_size: rows per step; None for 256, and more, up to 2,048, above 70,000 rows.
      patience: epochs without a better density of the last fifth of the rows before a fit stops.
      learning_rate: peak rate of AdamW for the energy.
      weight_decay: decay of the network's kernels.
      calibration_fraction: share of the last rows kept for the p-values, in (0, 1), unless `fit`
        is given calibration rows.
      purge: rows dropped between blocks, for rows that share their past; 0 for unrelated rows.
      false_alarm_rate: share of ordinary rows that `predict` may call outliers, in (0, 1).
      random_state: seed of the starting points, of shuffling and of noise.

    Attributes:
      model_: the energy and its proposal, of transformed columns.
      params_: their parameters, 'energy' and 'proposal'.
      partition_: the `PartitionFunction` of the energy of transformed columns.
      gain_: nats a row by which the energy is above the flow on the rows the fits stopped on; zero
        where the flow alone was better and was kept.
      calibration_score_: [K] sorted anomaly scores, -log density, of the calibration rows.
      is_normalised_: True, the density integrates to one, within `partition_`.
      n_features_in_: number of columns.
      feature_names_in_: their names, if `fit` was given a frame whose columns have names.
      squeezed_: how many training values of each column were moved inside from an end.
      history_: the `FitResult` of the energy, after `fit` alone.
    """

    is_normalised_ = True

    def __init__(
        self,
        loss: str = "nce",
        *,
        base: str = "flow",
        widths: Sequence[int] = (128, 64, 32),
        norm: str = "none",
        num_noise: int = 4,
        sigma: float = 0.1,
        chains: Chains | None = None,
        flow_layers: int = 4,
        flow_width: int = 64,
        flow_epochs: int | None = None,
        transforms: Sequence[str] | None = None,
        num_epochs: int | None = None,
        batch_size: int | None = None,
        patience: int = 20,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-5,
        calibration_fraction: float = 0.2,
        purge: int = 0,
        false_alarm_rate: float = 0.05,
        random_state: int = 0,
    ) -> None:
        self.loss = loss
        self.base = base
        self.widths = widths
        self.norm = norm
        self.num_noise = num_noise
        self.sigma = sigma
        self.chains = chains
        self.flow_layers = flow_layers
        self.flow_width = flow_width
        self.flow_epochs = flow_epochs
        self.transforms = transforms
        self.num_epochs = num_epochs
        self.batch_size = batch_size
        self.patience = patience
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.calibration_fraction = calibration_fraction
        self.purge = purge
        self.false_alarm_rate = false_alarm_rate
        self.random_state = random_state

    def _build(self, dim: int, flow: FlowConfig | None = None) -> functions.ProposedEnergy:
        """Builds energy and proposal; raises ValueError for an option that is not accepted."""
        if self.loss not in METHODS:
            raise ValueError(f"loss is {self.loss!r}: accepted are {METHODS}")
        flow = flow or FlowConfig(dim=dim, num_layers=self.flow_layers, width=self.flow_width)
        energy = EnergyConfig(
            dim=dim,
            widths=tuple(self.widths),
            norm=self.norm,
            base=self.base,
            flow=flow if self.base == "flow" else None,
        )
        config = functions.ProposedEnergyConfig(energy, flow)
        return functions.proposed_energy_from_config(config)

    def fit(
        self,
        X: ArrayLike,
        y: None = None,
        *,
        calibration: ArrayLike | None = None,
        callback: Callable[[FitProgress], None] | None = None,
        proposal: FlowDensity | None = None,
    ) -> "EnergyDensity":
        """Fits the flow and the energy to rows.

        Args:
          X: [N, D] rows, in order of time where they have one.
          y: ignored; there for scikit-learn.
          calibration: [K, D] rows for the p-values instead of the last of `X`.
          callback: told a `training.FitProgress` now and then, of the flow's fit first.
          proposal: the flow, where one was fitted to the same rows with the same transforms, purge
            and calibration already: a single member. None fits one.

        Returns:
          The estimator itself.

        Raises:
          ValueError: for rows that are not finite, too few, or constant in a column, calibration
            rows of other columns, a parameter that is not accepted, or a proposal of another kind.
          FloatingPointError: if a loss or gradient is not finite.

        Warns:
          UserWarning: if draws of the flow do not carry the estimate of log Z.
        """
        rows, held_out = self._learn(X, calibration)
        if proposal is not None:
            self._check_proposal(proposal)
        flow = None if proposal is None else proposal.flow_.config
        self.model_ = self._build(self.n_features_in_, flow)
        pair = self._loss()  # its options are checked before anything is fitted
        self._fit_transforms(rows)
        mapped = self._mapped(rows)[0]
        flow_key, fit_key, partition_key = jax.random.split(jax.random.key(self.random_state), 3)
        if proposal is None:
            flow_params = fitting.fit_flow(
                flow_key,
                self.model_.proposal,
                mapped,
                self._sizes(len(mapped), self.flow_epochs, ROWS_SEEN),
                purge=self.purge,
                callback=callback,
            )
        else:
            flow_params = jax.tree.map(lambda leaf: leaf[0], proposal.params_)
        fitted = fitting.fit_energy(
            fit_key,
            self.model_,
            flow_params,
            pair,
            mapped,
            self._sizes(
                len(mapped),
                self.num_epochs,
                ROWS_SEEN if self.base == "flow" else ROWS_SEEN_FROM_SCRATCH,
            ),
            purge=self.purge,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            num_chains=NUM_CHAINS if self.loss == "pcd" else 0,
            callback=callback,
        )
        self.params_, self.gain_, self.history_ = fitted
        self._normalise(partition_key)
        self._calibrate(held_out)
        return self

    def _check_proposal(self, proposal: FlowDensity) -> None:
        """Raises ValueError unless the flow is one that `fit` could have fitted."""
        check_is_fitted(proposal, "params_")
        num_columns, dim = self.n_features_in_, proposal.n_features_in_
        same = proposal._kinds(dim) == self._kinds(num_columns) and dim == num_columns
        if proposal.num_members != 1 or not same:
            raise ValueError(
                f"proposal has {proposal.num_members} members, {dim} columns and transforms "
                f"{proposal.transforms}: accepted are one member, {num_columns} columns and "
                f"transforms {self.transforms}"
            )

    def _loss(self) -> EnergyLoss:
        return energy_loss(
            self.model_.energy,
            method=self.loss,
            num_noise=self.num_noise,
            sigma=self.sigma,
            chains=Chains() if self.chains is None else self.chains,
            base_is_pool=self.base == "flow",
        )

    def _sizes(self, num_rows: int, num_epochs: int | None, rows_seen: int) -> fitting.Sizes:
        """Returns epochs, rows per step and patience of a fit of as many rows."""
        num_rows = _fitting.padded_size(num_rows)
        given, default = self.batch_size, _fitting.default_batch_size(num_rows)
        batch_size = default if given is None else given
        if num_epochs is None:
            num_epochs = int(np.clip(round(rows_seen / num_rows), 20, 400))
        return fitting.Sizes(num_epochs, batch_size, self.patience)

    def _normalise(self, key: Key) -> None:
        """Sets `partition_`, and warns where its weights do not carry it."""
        found = functions.estimate_log_z(self.model_, self.params_, key, NUM_PROPOSALS)
        self.partition_ = found
        share = float(found.effective_sample_size) / NUM_PROPOSALS
        is_heavy = float(found.tail_shape) > WORST_TAIL and share < ENOUGH_SHARE
        if share < LEAST_SHARE or is_heavy:
            warnings.warn(
                f"log Z is uncertain: of {NUM_PROPOSALS} draws of the flow {share:.2%} count, and "
                f"the tail shape of their weights is {float(found.tail_shape):.2f} (wanted: below "
                f"{WORST_TAIL}); take base 'flow', or a loss against noise",
                stacklevel=3,
            )

    def _log_density(self, X: ArrayLike) -> np.ndarray:
        """Returns -E of rows [N, D], nats per unit volume of X."""
        check_is_fitted(self, "params_")
        mapped, log_det = self._mapped(_columns.check(self, X))
        return (
            map_rows(functions.log_density(self.model_), mapped, shared=(self.params_,)) + log_det
        )

    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """Computes the log density of rows.

        Args:
          X: [N, D] rows, with the columns of the fit.

        Returns:
          [N] log densities, in nats per unit volume of X, all off by the error of
          `partition_.log_z`. A row with a NaN gets NaN, and so does one outside the range of a
          transform.

        Raises:
          NotFittedError: before `fit`.
          ValueError: for rows of other columns, or that are infinite.
        """
        return self._log_density(X) - float(self.partition_.log_z)

    def energy(self, X: ArrayLike) -> np.ndarray:
        """Returns [N] energies of rows [N, D]: minus the log density, up to a constant of the fit.

        Energies of two fits do not compare: log densities, p-values and ranks do.
        """
        return -self._log_density(X)

    def sample(self, n: int = 1, random_state: int | None = None) -> np.ndarray:
        """Draws rows: each is one of 32 draws of the flow, chosen by their weights.

        Args:
          n: number of rows, >= 1.
          random_state: seed; None takes the estimator's.

        Returns:
          [n, D] rows in units of X.

        Raises:
          ValueError: if `n` is below 1.
          NotFittedError: before `fit`.
        """
        check_is_fitted(self, "params_")
        if n < 1:
            raise ValueError(f"n is {n}: accepted is an integer of at least 1")
        seed = self.random_state if random_state is None else random_state
        keys = jax.random.split(jax.random.key(seed), n)
        draws = map_rows(functions.sample(self.model_), keys, shared=(self.params_,))
        return self._unmapped(draws)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the fitted density to a folder, which is replaced whole or not at all.

        Args:
          path: the folder: new, empty, or holding a saved estimator and nothing else.

        Raises:
          NotFittedError: before `fit`.
          ValueError: if something else is at `path`.
        """
        check_is_fitted(self, "params_")
        members = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], self.params_)
        partition = np.stack([np.asarray(each, np.float64) for each in self.partition_])
        self._save(path, self.model_, members, partition=partition, gain=np.asarray(self.gain_))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "EnergyDensity":
        """Reads a density that `save` wrote; raises ValueError if there is none."""
        loaded, model, members, arrays = cls._load(path)
        loaded.model_, loaded.gain_ = model, float(arrays["gain"])
        loaded.partition_ = functions.partition_from(arrays["partition"])
        loaded.params_ = jax.tree.map(lambda leaf: leaf[0], members)
        loaded.widths = tuple(loaded.widths)  # JSON knows neither tuples nor records
        loaded.chains = None if loaded.chains is None else Chains(*loaded.chains)
        return loaded
