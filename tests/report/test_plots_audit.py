"""The plots of the sweeps draw the frames they are given, and nothing else."""

import numpy as np
import pandas as pd
import pytest

from densityjax.report import MissingRecordError
from densityjax.report.plots_audit import cost_sensitivity, lead_lag


@pytest.fixture
def lags():
    index = pd.Index(range(-2, 4), name="lag")
    return pd.DataFrame({"sharpe_ratio": [0.1, -0.2, 3.0, np.nan, 0.3, 0.2]}, index=index)


@pytest.fixture
def costs():
    frame = pd.DataFrame(
        {"sharpe_ratio": [1.0, 0.5, -0.5], "total_return": [0.2, 0.1, -0.1]},
        index=pd.Index([0.0, 5.0, 15.0], name="fee_bps"),
    )
    frame.attrs["break_even_bps"] = 10.0
    return frame


def test_every_lag_has_its_bar_and_early_ones_look_different(lags, tmp_path):
    figure = lead_lag(lags, num_years=4.0)
    (axes,) = figure.axes
    bars = axes.containers[0].patches
    np.testing.assert_allclose([bar.get_height() for bar in bars], [0.1, -0.2, 3.0, 0.0, 0.3, 0.2])
    centres = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    np.testing.assert_allclose(centres, range(-2, 4))
    colours = [bar.get_facecolor() for bar in bars]
    assert len(set(colours[:2])) == len(set(colours[2:])) == 1
    assert colours[0] != colours[2]
    assert axes.get_legend().get_texts()[0].get_text() == "two standard errors of none"
    assert lead_lag(lags).axes[0].get_legend() is None
    figure.savefig(tmp_path / "lags.png")
    assert (tmp_path / "lags.png").stat().st_size > 0


def test_both_panels_show_their_column_and_the_break_even(costs):
    figure = cost_sensitivity(costs)
    for axes, expected in zip(figure.axes, ([1.0, 0.5, -0.5], [20.0, 10.0, -10.0]), strict=True):
        line = axes.lines[0]
        np.testing.assert_allclose(line.get_xdata(), [0.0, 5.0, 15.0])
        np.testing.assert_allclose(line.get_ydata(), expected)
        assert axes.get_legend().get_texts()[0].get_text() == "breaks even at 10.0"
        np.testing.assert_allclose(axes.lines[-1].get_xdata(), [10.0, 10.0])


def test_a_rule_that_never_breaks_even_has_no_mark(costs):
    costs.attrs["break_even_bps"] = -3.0
    assert all(axes.get_legend() is None for axes in cost_sensitivity(costs).axes)


@pytest.mark.parametrize("plot", [lead_lag, cost_sensitivity])
def test_a_sweep_that_is_not_there_is_named(plot):
    with pytest.raises(MissingRecordError):
        plot(None)
    with pytest.raises(MissingRecordError, match="sharpe_ratio"):
        plot(pd.DataFrame({"other": [1.0]}))
