"""The scoreboard: one set of rows for all, the numbers of the parts, and the future left alone."""

import importlib.util
import json
import pathlib

import jax
import numpy as np
import pandas as pd
import pytest

from densityjax import market
from densityjax.estimators import ReturnForecaster
from densityjax.experiment.scoreboard import LAWS, OURS, score
from densityjax.risk import baselines, coverage, scoring

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "score_forecasts.py"
# Options of the tests of the forecaster, and as many training bars: the programs are the same.
QUICK = {
    "num_members": 2,
    "num_bins": 4,
    "width": 8,
    "num_epochs": 12,
    "batch_size": 128,
    "learning_rate": 2e-3,
}
NUM_TRAIN, NUM_BARS = 3000, 3960
TRAIN_SHARE = (NUM_TRAIN + 0.5) / NUM_BARS


def load_script():
    spec = importlib.util.spec_from_file_location("score_forecasts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bars():
    """A simulated market with one bar lost and one filled in."""
    whole = market.simulate_market(jax.random.key(4), NUM_BARS + 1).bars
    holed = whole.drop(whole.index[3400]).assign(is_filled=False)
    holed.iloc[3600, holed.columns.get_loc("is_filled")] = True
    return holed


@pytest.fixture(scope="module")
def board(bars):
    return score(bars, train_share=TRAIN_SHARE, forecaster=ReturnForecaster(**QUICK))


def test_every_forecast_is_scored_on_the_same_rows_without_returns_across_gaps(bars, board):
    assert list(board.table.index[:5]) == [OURS, *LAWS]
    assert board.num_train == NUM_TRAIN
    # after 3,000 bars and a purge of 61: the last row has no return, five more rows touch the
    # gap (its label, three lags) and the filled bar (two labels, three lags after each return)
    index = bars.index[3061:-1]
    lost = {3399, 3400, 3401, 3402, 3599, 3600, 3601, 3602, 3603}
    assert board.num_test == len(index) - len(lost)
    assert (board.start, board.end) == (index[0], index[-1])
    assert (board.table["num_tests"] == 14).all()  # 8 violations at 1 %: no dynamic quantile test
    with_density = board.table["log_score"].notna()
    assert list(board.table.index[with_density]) == [OURS, *LAWS]
    assert board.table.drop(columns=["log_score", "gain", "diebold_mariano"]).notna().all().all()


def test_a_rival_has_the_scores_of_its_own_module(bars, board):
    returns = market.log_returns(bars)
    known = returns.dropna()
    seen = int((known.index <= bars.index[NUM_TRAIN - 1]).sum())
    law = baselines.gjr_skewt(known.to_numpy(), num_train=seen)
    following = returns.shift(-1).reindex(known.index).to_numpy()
    rows = market.compute_features(bars, "context").index
    is_test = known.index.isin(rows) & (known.index >= board.start) & np.isfinite(following)
    assert is_test.sum() == board.num_test
    realised = following[is_test]
    row = board.table.loc["gjr_skewt"]
    assert row["log_score"] == pytest.approx(law.log_prob(following)[is_test].mean(), abs=1e-12)
    bound = law.quantile(0.01)[is_test]
    assert row["pinball_1"] == pytest.approx(scoring.pinball_loss(realised, bound, 0.01).mean())
    assert row["violation_rate_1_lower"] == np.mean(realised < bound)
    assert row["kupiec_1_lower"] == coverage.kupiec_test(realised < bound, 0.01).p_value
    upper = law.quantile(0.99)[is_test]
    assert row["violation_rate_1_upper"] == np.mean(realised > upper)
    exact = [
        scoring.crps_from_cdf(
            lambda r, t=t: baselines.BaselineForecast(*(f[t : t + 1] for f in law)).cdf(r),
            following[t],
            scale=law.scale[t],
        )
        for t in np.flatnonzero(is_test)[:40]
    ]
    close = scoring.crps(lambda p: law.quantile(p)[is_test][:40], realised[:40], num_quantiles=199)
    np.testing.assert_allclose(close, exact, rtol=5e-3)


def test_gain_is_the_difference_of_log_scores_and_its_sign_that_of_the_statistic(board):
    laws = board.table.loc[list(LAWS)]
    ours = board.table.loc[OURS, "log_score"]
    np.testing.assert_allclose(laws["gain"], ours - laws["log_score"], atol=1e-12)
    assert (np.sign(laws["gain"]) == np.sign(laws["diebold_mariano"])).all()


def test_too_few_rows_and_shares_outside_are_refused(bars):
    with pytest.raises(ValueError, match=r"train_share is 1.0: accepted is a share in \(0, 1\)"):
        score(bars, train_share=1.0)
    with pytest.raises(ValueError, match="horizon 4: accepted is 1"):
        score(bars, forecaster=ReturnForecaster(horizon=4))
    with pytest.raises(ValueError, match="leave 38 rows to judge of 1000 bars"):
        score(bars.iloc[:1000], train_share=0.9)


def test_the_script_prints_writes_and_refuses(bars, board, monkeypatch, tmp_path, capsys):
    script = load_script()
    panel = pd.concat([bars.reset_index().assign(symbol=name) for name in ("AAA", "BBB")])
    panel.to_csv(tmp_path / "panel.csv", index=False)
    assert [name for name, _ in script.series(str(tmp_path / "panel.csv"), None)] == [
        "panel AAA",
        "panel BBB",
    ]
    assert [name for name, _ in script.series("nasdaq", None)] == ["nasdaq"]
    script.show("bars", board)
    shown = capsys.readouterr().out
    assert "judged on 889 rows" in shown
    assert all(name in shown for name in board.table.index)
    written = json.loads(json.dumps(script.as_json(board), allow_nan=False))
    assert written["forecasts"]["historical"]["log_score"] is None
    assert written["forecasts"][OURS]["log_score"] == board.table.loc[OURS, "log_score"]
    kept = tmp_path / "boards.json"
    script.write({"bars": board}, str(kept))
    assert json.loads(kept.read_text())["bars"]["num_test"] == board.num_test
    assert not list(tmp_path.glob("*.partial"))
    with pytest.raises(ValueError, match="symbol is given with 'nasdaq'"):
        script.series("nasdaq", ["AAA"])
    monkeypatch.setattr("sys.argv", ["score_forecasts.py", str(tmp_path / "none.csv")])
    assert script.main() == 2
    assert "no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as refused:
        script.parse(["nasdaq", "--out", str(tmp_path / "no" / "x.json")])
    assert refused.value.code == 2
