"""The public surface: names that resolve, docstrings that say shapes, imports that stay light."""

import importlib
import inspect
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import densityjax

ROOT = pathlib.Path(densityjax.__file__).parent
UNITS = sorted(
    path.name for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").is_file()
)
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(ROOT)], "densityjax.")
    if not any(part.startswith("_") for part in module.name.split("."))
)


def public_members(name):
    """Yields (qualified name, function or class) defined in a module under a public name."""
    module = importlib.import_module(name)
    for attribute, value in vars(module).items():
        is_own = getattr(value, "__module__", None) == name
        if attribute.startswith("_") or not is_own:
            continue
        if inspect.isclass(value):
            yield f"{name}.{attribute}", value
            for method, raw in vars(value).items():
                function = raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw
                if not method.startswith("_") and inspect.isfunction(function):
                    # NamedTuples and dataclasses carry generated methods of other modules.
                    if function.__module__ == name:
                        yield f"{name}.{attribute}.{method}", function
        elif inspect.isfunction(inspect.unwrap(value)):
            yield f"{name}.{attribute}", inspect.unwrap(value)


def functions_of(name):
    return [(label, value) for label, value in public_members(name) if inspect.isfunction(value)]


def arguments_of(function):
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


@pytest.mark.parametrize("unit", UNITS)
def test_every_name_that_a_unit_lists_resolves(unit):
    module = importlib.import_module(f"densityjax.{unit}")
    assert module.__doc__
    assert module.__all__
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing
    assert len(module.__all__) == len(set(module.__all__))


def test_every_unit_is_found_by_import_from_the_package():
    script = f"from densityjax import {', '.join(UNITS)}, pipeline, numerics"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("name", MODULES)
def test_modules_and_their_public_members_have_docstrings(name):
    assert importlib.import_module(name).__doc__
    bare = [label for label, value in public_members(name) if not inspect.getdoc(value)]
    assert not bare


@pytest.mark.parametrize("name", MODULES)
def test_arguments_and_results_of_public_functions_are_annotated(name):
    bare = []
    for label, function in functions_of(name):
        hints = function.__annotations__
        bare += [f"{label}({one})" for one in arguments_of(function) if one not in hints]
        if "return" not in hints:
            bare.append(f"{label} -> ?")
    assert not bare


@pytest.mark.parametrize("name", MODULES)
def test_functions_of_three_and_more_arguments_say_what_each_is(name):
    silent = []
    for label, function in functions_of(name):
        names = arguments_of(function)
        text = inspect.getdoc(function) or ""
        if len(names) < 3 or "Args:" not in text:
            if len(names) >= 3 and not says_it_in_words(text):
                silent.append(label)
            continue
        described = text.split("Args:", 1)[1]
        silent += [f"{label}: {one}" for one in names if f"{one}:" not in described]
    assert not silent


def says_it_in_words(text):
    """Three lines will do, and so will a reference to a function with the same arguments."""
    return len(text.strip().splitlines()) <= 3 or "as `" in text.lower()


SIGNATURES = {
    "bijectors.rational_quadratic_spline.num_logits": "num_bins",
    "bijectors.rational_quadratic_spline.knots_from_logits": "logits * bound",
    "bijectors.rational_quadratic_spline.forward": "knots x",
    "bijectors.rational_quadratic_spline.inverse": "knots y",
    "bijectors.lambert_w.to_noise": "x",
    "bijectors.lambert_w.from_noise": "z",
    "models.neural_spline_flow": "dim * context_dim",
    "models.score_model": "dim * context_dim",
    "models.dual_score_model": "dim * context_dim",
    "losses.negative_log_likelihood": "log_prob_fn x",
    "losses.denoising_score_matching": "score_fn x noise sigma",
    "losses.exact_score_matching": "score_fn x",
    "losses.sliced_score_matching": "score_fn x direction",
    "losses.dual_score_matching": "energy_fn x noise log_sigma",
    "densities.probability_flow.log_prob": "score_fn x",
    "densities.path_integral.log_density_ratio": "score_fn x",
    "samplers.chain.run": "key state step * num_samples thinning",
    "samplers.langevin.step": "key state",
    "samplers.annealed.step": "key state",
    "samplers.reverse_diffusion.step": "key state",
    "samplers.mala.as_top_level_api": "logdensity_fn step_size",
    "training.fit": "key loss_fn params data * optimizer num_epochs batch_size patience loss_state",
    "training.fit_ensemble": "keys loss_fn params data * optimizer num_epochs batch_size patience",
    "estimators.FlowDensity.fit": "self X",
    "estimators.FlowDensity.score_samples": "self X",
    "estimators.FlowDensity.sample": "self n random_state",
    "estimators.FlowDensity.p_value": "self X",
    "estimators.FlowDensity.predict": "self X",
    "estimators.FlowDensity.decision_function": "self X",
    "estimators.ReturnForecaster.fit": "self bars",
    "estimators.ReturnForecaster.predict": "self bars",
    "models.ReturnDistribution.log_prob": "self r",
    "models.ReturnDistribution.cdf": "self r",
    "models.ReturnDistribution.quantile": "self probability",
    "models.ReturnDistribution.value_at_risk": "self confidence",
    "models.ReturnDistribution.expected_shortfall": "self confidence",
    "models.ReturnDistribution.mean": "self",
    "models.ReturnDistribution.std": "self",
    "models.ReturnDistribution.sample": "self key n",
    "market.read_bars": "path",
    "market.load_dataset": "name",
    "market.simulate_market": "key num_bars",
    "market.compute_features": "bars feature_set * published",
    "market.split": "rows * purge",
    "market.repair_bars": "bars",
    "backtest.run": "weights prices * costs fill drift",
    "backtest.product_grid": "params_type",
    "backtest.run_grid": "rule rule_params signals prices * costs",
    "backtest.metrics.total_return": "returns",
    "backtest.metrics.annual_return": "returns * periods_per_year",
    "backtest.metrics.annual_volatility": "returns * periods_per_year",
    "backtest.metrics.sharpe_ratio": "returns * periods_per_year",
    "backtest.metrics.sortino_ratio": "returns * periods_per_year",
    "backtest.metrics.max_drawdown": "returns",
    "backtest.metrics.calmar_ratio": "returns * periods_per_year",
    "backtest.metrics.profit_factor": "returns",
    "backtest.metrics.win_rate": "returns",
    "backtest.metrics.turnover": "weights",
    "backtest.metrics.exposure": "weights",
    "backtest.inference.expected_max_sharpe": "num_trials",
    "backtest.inference.sharpe_interval": "returns * periods_per_year",
    "risk.kupiec_test": "violations tail_probability",
    "risk.christoffersen_test": "violations tail_probability",
    "risk.dynamic_quantile_test": "violations",
    "risk.acerbi_szekely_test": "",
    "risk.fz0_loss": "",
    "risk.crps": "",
    "risk.pinball_loss": "",
    "risk.diebold_mariano": "",
    "risk.baselines.ewma_t": "",
    "risk.baselines.garch": "",
    "risk.baselines.gjr_skewt": "",
    "risk.baselines.egarch_skewt": "",
}


def resolve(dotted):
    """Finds a name by attributes of its unit alone, as a user who imported the unit would."""
    unit, *rest = dotted.split(".")
    value = importlib.import_module(f"densityjax.{unit}")
    for name in rest:
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(("dotted", "expected"), SIGNATURES.items())
def test_documented_names_take_the_documented_arguments(dotted, expected):
    parameters = inspect.signature(resolve(dotted)).parameters
    positional, _, keyword = (part.split() for part in expected.partition("*"))
    by_place = [
        name
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    assert by_place[: len(positional)] == positional
    by_name = {
        name
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }
    assert set(keyword) <= by_name - set(positional)


def test_documented_names_need_no_import_but_that_of_their_unit():
    """In a process of its own: here, other tests have imported every module already."""
    units = sorted({dotted.split(".")[0] for dotted in SIGNATURES})
    script = f"from densityjax import {', '.join(units)}\n" + "\n".join(SIGNATURES)
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr


def test_the_records_that_users_read_have_the_documented_fields():
    flow = resolve("models.Flow")._fields
    assert flow[:5] == ("init", "log_prob", "sample", "to_noise", "from_noise")
    assert resolve("bijectors.rational_quadratic_spline.Knots")._fields == ("x", "y", "slope")
    assert resolve("backtest.Prices")._fields == ("open", "high", "low", "close")
    assert resolve("risk.RiskTest")._fields[:2] == ("statistic", "p_value")
    assert {"bars", "log_prob", "score", "regime"} <= set(resolve("market.SimulatedMarket")._fields)


def test_the_distrax_face_of_the_spline_takes_distrax_own_arguments():
    face = inspect.signature(resolve("distributions.RationalQuadraticSpline")).parameters
    defaults = {name: parameter.default for name, parameter in face.items()}
    assert list(face)[:3] == ["params", "range_min", "range_max"]
    assert defaults["boundary_slopes"] == "unconstrained"
    assert defaults["min_bin_size"] == defaults["min_knot_slope"] == 1e-4


HEAVY = "{'distrax', 'tensorflow_probability', 'orbax', 'arch', 'matplotlib', 'ccxt'}"


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("densityjax", "{'jax', 'numpy', 'pandas', 'flax'}"),
        ("densityjax.models", f"{HEAVY} | {{'pandas', 'sklearn'}}"),
        ("densityjax.distributions", HEAVY),
        ("densityjax.estimators, densityjax.backtest, densityjax.market, densityjax.risk", HEAVY),
    ],
)
def test_importing_a_unit_leaves_out_what_it_does_not_need_yet(modules, unwanted):
    """No wall clock: a package that is not imported costs no time."""
    script = f"import sys, {modules}\nprint(sorted(({unwanted}) & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=300
    )
    assert answer.stdout.strip() == "[]"
