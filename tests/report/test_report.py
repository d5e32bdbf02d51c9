"""The report of a run, written from a synthetic run folder."""

import base64
import html
import html.parser
import json
import re
import xml.etree.ElementTree

import numpy as np
import pandas as pd
import pytest

from densityjax import report
from densityjax.report import headline, style, tables
from densityjax.report.glossary import (
    describe,
    format_seconds,
    format_time,
    format_value,
    rows_text,
)
from densityjax.report.plots_families import (
    correlations_beside_data,
    density_agreement,
    samples_beside_data,
)
from densityjax.report.plots_forecast import fan_rows, log_score_difference, pit_histogram
from densityjax.report.plots_market import price_with_anomalies, training_curves
from densityjax.report.plots_strategy import (
    equity_and_drawdown,
    grid_heat_map,
    varied_parameters,
)
from densityjax.report.terms import TERMS

FRAMES = ("forecast", "signals", "density", "grid", "training", "samples")
VOID = {"meta", "img", "br", "link", "hr", "input"}


class Checker(html.parser.HTMLParser):
    """Collects tags, ids and addresses of a page, and checks that elements nest."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.addresses = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href"):
                self.addresses.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory, write_run):
    """The page of the whole synthetic run, read once."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "whole")
    return report.write_report(folder).read_text(encoding="utf-8")


def words_of(page):
    """What a reader sees: no pictures, no style, no markup."""
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    page = re.sub(r"data:image/[^\"]*", "", page)
    return html.unescape(re.sub(r"<[^>]*>", " ", page)).replace("\u00a0", " ")


def pictures_of(page):
    """The pictures inside a page, as text of SVG."""
    found = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)
    return [base64.b64decode(one).decode() for one in found]


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def record_with(tmp_path, *, config=None, **sections):
    """A record of metrics alone."""
    (tmp_path / "config.json").write_text(json.dumps(config or {}))
    (tmp_path / "metrics.json").write_text(json.dumps(sections))
    return report.read_record(tmp_path)


def test_every_metric_is_explained_on_the_page(page):
    words = words_of(page)
    for term in TERMS.values():
        assert term.sentence in words
        assert term.label in words
    assert "Value of band in the rule that was chosen." in words


def test_an_unknown_metric_is_shown_with_a_generic_sentence(page):
    assert "brier score of signs" in words_of(page)
    assert "0.2491" in words_of(page)
    assert describe("forecast", "brier_score_of_signs").sentence in words_of(page)


def test_a_missing_value_is_a_dash_with_its_reason_and_never_a_word_for_nothing(page):
    words = words_of(page)
    assert "Missing: the equity never fell." in words
    assert format_value(None) in words
    assert not re.search(r"\b(nan|none|null|inf)\b", words, re.I)


def test_the_page_is_whole_in_one_file(page):
    checker = Checker()
    checker.feed(page)
    assert not checker.open
    assert len(checker.ids) == len(set(checker.ids))
    assert all(address.startswith(("data:", "#")) for address in checker.addresses)
    assert {address[1:] for address in checker.addresses if address[0] == "#"} <= set(checker.ids)
    assert "script" not in checker.tags
    assert checker.tags.count("figure") == len(report.PLOTS)
    assert not re.search(r"(src|href)=\"http|url\(|@import", page)


def test_pictures_are_xml_without_outside_links_and_follow_the_screen(page):
    pictures = pictures_of(page)
    assert len(pictures) == len(report.PLOTS)
    for picture in pictures:
        xml.etree.ElementTree.fromstring(picture)
        assert "prefers-color-scheme:dark" in picture
        links = re.findall(r"xlink:href=\"([^\"]{1,5})", picture)
        assert all(link.startswith(("#", "data:")) for link in links)


def test_strings_of_the_run_are_escaped(page):
    assert "<small>" not in page
    assert "synthetic &amp; &lt;small&gt;" in page
    assert "below entry &lt;z&gt;" in page


def test_notes_warnings_seed_versions_and_hash_are_on_the_page(page):
    words = words_of(page)
    shown = ("prices are made up", "less than a year of test rows", "2026", "jax 0.10.2")
    for text in (*shown, "0f1e2d3c4b5a", "--fee-bps 2.5", "volume z: the bars have no volume"):
        assert text in words


def test_every_number_says_over_which_rows(page):
    words = words_of(page)
    for split, start, end, count in (
        ("train", "2016-01-04", "2018-10-05", 720),
        ("validation", "2018-10-08", "2019-06-14", 180),
        ("test", "2019-06-17", "2020-08-07", 300),
    ):
        assert f"{split}: {start} to {end}, {count} rows" in words


def test_sections_come_in_the_order_of_the_story(page):
    order = re.findall(r"<section id=\"(\w+)\"", page)
    expected = (
        "data price energy agreement samples correlations fan log_score pit violations training "
        "equity position grid"
    )
    assert order == [*expected.split(), "metrics"]


@pytest.mark.parametrize("missing", FRAMES)
def test_a_missing_file_costs_its_plots_only_and_is_named(run_folder, missing, monkeypatch):
    (run_folder / f"{missing}.parquet").unlink()
    monkeypatch.setattr(style, "to_svg", lambda figure: "<svg/>")  # pictures are tested above
    page = report.write_report(run_folder).read_text(encoding="utf-8")
    left_out = page.count(f"{missing}.parquet was not written by this run")
    alone = {"forecast": 3, "signals": 2, "density": 2, "grid": 1, "training": 1, "samples": 2}
    assert left_out == alone[missing]
    assert page.count("<figure>") == len(report.PLOTS) - left_out


def test_a_missing_column_is_named(run_folder):
    path = run_folder / "forecast.parquet"
    pd.read_parquet(path).drop(columns="cdf").to_parquet(path)
    with pytest.raises(report.MissingRecordError, match=r"forecast\.parquet has no column cdf"):
        pit_histogram(report.read_record(run_folder).forecast)


def test_metrics_alone_make_a_page(tmp_path):
    record_with(tmp_path, strategy={"sharpe_ratio": 0.5})
    page = report.write_report(tmp_path).read_text(encoding="utf-8")
    assert "<figure>" not in page
    # The table of violations too, and no line on families that agree: there is one.
    assert page.count("left out") == len(report.PLOTS)
    assert "Do the families agree?" not in page


def test_plots_of_families_show_what_differs(run_folder):
    record = report.read_record(run_folder)
    (axes,) = correlations_beside_data(record.samples).axes
    labels = {line.get_label(): line for line in axes.get_lines()}
    shown = next(label for label in labels if label.startswith("score"))
    table = record.samples.groupby("source").corr(method="spearman")["log_volatility_20"]
    differ = abs(table["score", "return_1"] - table["data", "return_1"])
    assert differ > 1.0
    assert f"largest difference {differ:.2f}" in shown
    assert labels[shown].get_ydata()[0] == pytest.approx(table["score", "return_1"])
    (axes,) = density_agreement(record.density).axes
    test = record.density[record.density["split"] == "test"]
    rank = test["log_prob"].corr(test["log_prob_score"], method="spearman")
    assert f"{rank:.2f}" in axes.get_title(loc="left")
    names = [panel.get_title(loc="left") for panel in samples_beside_data(record.samples).axes]
    assert names[:2] == ["return 1", "log volatility 20"]


def test_samples_beyond_the_panel_are_counted_in_its_last_bin(run_folder):
    samples = report.read_record(run_folder).samples
    samples.loc[samples["source"] == "flow", "return_1"] = 99.0
    axes = samples_beside_data(samples).axes[0]
    heights = {patch.get_label(): patch.get_data().values for patch in axes.patches}
    assert heights["flow"][-1] == pytest.approx(1.0)
    assert heights["data"].sum() == pytest.approx(1.0)


def test_the_page_replaces_an_older_one_and_leaves_nothing_else(run_folder, monkeypatch):
    monkeypatch.setattr(style, "to_svg", lambda figure: "<svg/>")
    before = {path.name for path in run_folder.iterdir()}
    (run_folder / "report.html").write_text("old")
    path = report.write_report(str(run_folder))
    assert path == run_folder / "report.html"
    assert "<!DOCTYPE html>" in path.read_text(encoding="utf-8")
    assert {path.name for path in run_folder.iterdir()} == before | {"report.html"}


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"run_folder must be the folder.*nowhere"):
        report.write_report(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"must hold config\.json"):
        report.write_report(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.json").write_text("{oops")
    with pytest.raises(ValueError, match=r"metrics\.json.*is not JSON"):
        report.write_report(tmp_path)
    (tmp_path / "metrics.json").write_text('{"forecast": 3}')
    with pytest.raises(ValueError, match=r"sections to objects.*forecast"):
        report.write_report(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "grid.parquet").write_text("not a table")
    with pytest.raises(ValueError, match=r"grid\.parquet.*cannot be read"):
        report.write_report(tmp_path)


def test_bkt_11_plots_are_written_to_files_without_a_display(run_folder, tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    (run_folder / "grid.parquet").unlink()
    written, left_out = report.save_plots(run_folder, tmp_path / "plots")
    assert {path.stem for path in written} >= {"equity", "position", "pit", "energy"}
    assert list(left_out) == ["grid"]
    for path in written:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_thinning_keeps_extremes_ends_and_marked_rows():
    rng = np.random.default_rng(0)
    series = rng.normal(size=100_000).cumsum()
    series[31_415] = 1e6
    series[27_182] = np.nan
    keep = np.zeros(100_000, dtype=bool)
    keep[rng.integers(0, 100_000, 50)] = True
    rows = style.thin(series, keep=keep)
    assert {0, 99_999, 31_415, int(np.nanargmin(series))} <= set(rows)
    assert set(np.flatnonzero(keep)) <= set(rows)
    assert (np.diff(rows) > 0).all()
    assert len(rows) < 2.5 * style.MAX_POINTS
    np.testing.assert_array_equal(style.thin(series[:100]), np.arange(100))


def test_no_alarm_is_lost_in_a_long_series():
    num_bars = 50_000
    stamps = pd.date_range("2020-01-01", periods=num_bars, freq="5min")
    frame = pd.DataFrame({"close": 1.0, "log_prob": -3.0, "p_value": 0.5}, stamps)
    frame.iloc[[17, 40_001, 40_003], 2] = 0.001
    figure = price_with_anomalies(frame, None, 0.01)
    (alarms,) = (line for line in figure.axes[0].lines if "alarm" in str(line.get_label()))
    assert len(np.asarray(alarms.get_xdata())) == 3
    assert alarms.get_label() == "alarm (3 of 50,000 bars)"


def test_cumulative_log_score_ends_at_the_sum_of_differences(run_folder):
    forecast = report.read_record(run_folder).forecast
    figure = log_score_difference(forecast)
    test = forecast[forecast["split"] == "test"]
    expected = np.nansum(test["log_prob"] - test["log_prob_gjr_skewt"])
    line = next(line for line in figure.axes[0].lines if "GJR" in str(line.get_label()))
    np.testing.assert_allclose(np.asarray(line.get_ydata())[-1], expected)


def test_an_infinite_log_score_is_counted_and_not_hidden(run_folder):
    forecast = report.read_record(run_folder).forecast
    forecast.iloc[-5, forecast.columns.get_loc("log_prob")] = -np.inf
    figure = log_score_difference(forecast)
    assert figure.axes[0].get_title(loc="left") == "not drawn: 3 infinite differences"


def test_calibrated_pit_stays_in_its_band_and_a_shrunken_one_leaves_it():
    def outside(values):
        figure = pit_histogram(pd.DataFrame({"cdf": values}))
        labels = figure.axes[0].get_legend_handles_labels()[1]
        found = [re.search(r"outside the band \((\d+) of (\d+)", label) for label in labels]
        return next((int(match[1]) for match in found if match), 0)

    uniform = np.random.default_rng(3).uniform(size=2_000)
    # 20 bins leave a 95 % band with probability 1/20 each: more than 5 has probability 3e-4.
    assert outside(uniform) <= 5
    assert outside(0.25 + 0.5 * uniform) >= 15


def test_the_fan_holds_the_last_test_bars_only(run_folder):
    forecast = report.read_record(run_folder).forecast
    rows = fan_rows(forecast)
    assert len(rows) == 150
    assert set(rows["split"]) == {"test"}
    assert rows.index[-1] == forecast.index[-1]


def test_drawdown_counts_a_fall_on_the_first_bar():
    stamps = pd.date_range("2024-01-01", periods=4)
    figure = equity_and_drawdown(pd.DataFrame({"equity": [0.8, 0.9, 1.1, 0.99]}, stamps))
    drawn = np.asarray(figure.axes[1].lines[0].get_ydata())
    np.testing.assert_allclose(drawn, [-20.0, -10.0, 0.0, -10.0])


def test_the_best_epoch_of_each_member_is_marked():
    rows = [("density", m, e, 1.0, (e - 3 - m) ** 2) for m in range(2) for e in range(8)]
    names = ["model", "member", "epoch", "train_loss", "validation_loss"]
    figure = training_curves(pd.DataFrame(rows, columns=names).sample(frac=1.0, random_state=0))
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [float(np.asarray(dot.get_xdata())[0]) for dot in dots] == [3.0, 4.0]


def test_the_grid_maps_the_two_most_varied_parameters_and_says_median(run_folder):
    record = report.read_record(run_folder)
    metrics = record.metrics["grid"]
    assert varied_parameters(record.grid, metrics) == ["entry_z", "exit_z", "min_p_value"]
    figure = grid_heat_map(record.grid, metrics)
    left = figure.axes[0]
    assert "median over min p value" in left.get_title(loc="left")
    expected = record.grid.groupby(["exit_z", "entry_z"])["sharpe_ratio"].median().unstack()
    np.testing.assert_allclose(
        left.collections[0].get_array().reshape(expected.shape), expected.to_numpy()
    )
    (ring,) = left.patches
    best = record.grid.loc[record.grid["sharpe_ratio"].idxmax()]
    assert ring.get_x() == expected.columns.get_loc(best["entry_z"])
    assert ring.get_y() == expected.index.get_loc(best["exit_z"])


def test_a_grid_of_one_rule_is_drawn_without_a_map():
    grid = pd.DataFrame({"entry_z": [1.0], "sharpe_ratio": [0.3]})
    assert len(grid_heat_map(grid, {"best_entry_z": 1.0}).axes) == 1


@pytest.mark.parametrize(
    ("statistic", "answer"), [(2.5, "Better"), (0.4, "Cannot be told apart"), (-3.0, "Worse")]
)
def test_the_verdict_on_garch_follows_the_statistic(tmp_path, statistic, answer):
    forecast = {"log_score": 3.0, "log_score_gjr_skewt": 2.9}
    forecast["diebold_mariano_gjr_skewt"] = statistic
    assert headline.against_garch(record_with(tmp_path, forecast=forecast)).answer == answer


@pytest.mark.parametrize(
    ("p_values", "answer"),
    [
        ((0.3, 0.6, 0.9, 0.2), "Nothing speaks against it"),
        ((0.03, 0.6, 0.9, 0.2), "Mostly"),
        ((0.001, 0.6, 0.9, 0.2), "No"),
    ],
)
def test_the_verdict_on_calibration_allows_for_many_tests(tmp_path, p_values, answer):
    names = ("pit_ks", "berkowitz", "kupiec", "christoffersen")
    suffixes = ("", "", "_1pct", "_1pct")
    forecast = {
        f"{name}_p_value{suffix}": p
        for name, suffix, p in zip(names, suffixes, p_values, strict=True)
    }
    assert headline.calibration(record_with(tmp_path, forecast=forecast)).answer == answer


@pytest.mark.parametrize(
    ("low", "answer", "words"),
    [
        (0.2, "Ahead on these rows", "above zero, on one period only"),
        (-0.2, "Ahead, within luck", "nothing here can be told from luck"),
        (None, "Ahead, within luck", "No interval was recorded"),
    ],
)
def test_money_is_never_good_without_an_interval_above_zero(tmp_path, low, answer, words):
    ours = {"total_return": 0.5, "sharpe_ratio": 1.0, "sharpe_ratio_low": low}
    ours["sharpe_ratio_high"] = 1.8
    market = {"total_return": 0.1, "sharpe_ratio": 0.3}
    verdict = headline.money(record_with(tmp_path, strategy=ours, buy_and_hold=market))
    assert verdict.answer == answer
    assert (verdict.tone == "good") == (low is not None and low > 0)
    assert words in " ".join(verdict.sentences)


def test_losing_to_the_market_and_short_spans_are_said(tmp_path):
    config = {"split": {"test": {"start": "2024-01-01", "end": "2024-12-31", "rows": 250}}}
    ours = {"total_return": -0.05, "sharpe_ratio": -0.3, "sharpe_ratio_low": -2.2}
    ours["sharpe_ratio_high"] = 1.6
    market = {"total_return": 0.1, "sharpe_ratio": 0.8}
    grid = {"num_trials": 400, "validation_sharpe_ratio": 0.9, "expected_max_sharpe": 1.4}
    record = record_with(tmp_path, config=config, strategy=ours, buy_and_hold=market, grid=grid)
    verdict = headline.money(record)
    assert (verdict.answer, verdict.tone) == ("No", "bad")
    text = " ".join(verdict.sentences)
    assert "−5.00 % against +10.00 %" in text  # noqa: RUF001
    assert "best of 400" in text
    assert "below or at the 1.40 that luck alone would show" in text
    assert "1.0 years of test rows" in text


def test_a_smaller_loss_is_not_called_a_lead(tmp_path):
    ours = {"total_return": -0.1, "sharpe_ratio": -1.0}
    market = {"total_return": -0.2, "sharpe_ratio": -2.0}
    verdict = headline.money(record_with(tmp_path, strategy=ours, buy_and_hold=market))
    assert (verdict.answer, verdict.tone) == ("Lost less, but lost", "open")


def test_a_log_axis_of_prices_has_several_ticks():
    stamps = pd.date_range("2024-01-01", periods=200, tz="UTC")
    price = np.linspace(15.0, 38.0, 200)
    frame = pd.DataFrame({"close": price, "log_prob": 0.0, "p_value": 0.5}, stamps)
    axes = price_with_anomalies(frame, None, 0.01).axes[0]
    assert axes.get_yscale() == "log"
    assert sum(15.0 <= tick <= 38.0 for tick in axes.get_yticks()) >= 3


def test_a_choice_among_losing_rules_is_called_one(tmp_path):
    grid = {"num_trials": 400, "validation_sharpe_ratio": -3.9, "expected_max_sharpe": 16.0}
    ours = {"total_return": -0.1, "sharpe_ratio": -5.0}
    market = {"total_return": 0.1, "sharpe_ratio": 0.6}
    record = record_with(tmp_path, strategy=ours, buy_and_hold=market, grid=grid)
    text = " ".join(headline.money(record).sentences)
    assert "Not one of 400 rules gained on the validation rows" in text
    assert "luck alone" not in text


def test_the_flat_rule_is_said_to_hold_nothing_and_never_called_ahead(tmp_path):
    grid = {"num_trials": 400, "validation_sharpe_ratio": -3.9, "expected_max_sharpe": 16.0}
    ours, market = {"total_return": 0.0, "sharpe_ratio": None}, {"total_return": -0.1}
    flat = {"strategy": ours, "buy_and_hold": market, "grid": {**grid, "is_flat": 1}}
    verdict = headline.money(record_with(tmp_path, **flat))
    assert (verdict.answer, verdict.tone) == ("Nothing was traded", "open")
    text = " ".join(verdict.sentences)
    assert "Not one of 400 rules gained on the validation rows" in text
    assert "held nothing over the test rows" in text


def test_the_familiar_verdict_allows_for_sampling_error(tmp_path):
    config = {"split": {"validation": {"rows": 1000}, "test": {"rows": 1000}}}
    answers = {}
    for rate in (0.055, 0.20, 0.001):
        density = {"alarm_rate_nominal": 0.05, "alarm_rate_test": rate}
        record = record_with(tmp_path, config=config, density=density)
        verdict = headline.surprise(record)
        assert "markets drift" in " ".join(verdict.sentences)
        answers[rate] = verdict.tone
    assert answers == {0.055: "good", 0.20: "bad", 0.001: "open"}


def test_rows_of_the_forecast_are_those_with_a_known_return():
    config = {"split": {"test": {"start": "2024-01-01", "end": "2024-12-31", "rows": 250}}}
    assert rows_text("strategy", "turnover", config, 249).endswith("250 rows")
    text = rows_text("forecast", "log_score", config, 249)
    assert text.endswith("250 rows, 249 of them with a known next return")
    assert rows_text("forecast", "log_score", config, 250).endswith("250 rows")


def test_the_violations_table_expects_the_tail_probability_of_the_rows():
    rows = list(
        tables.tail_rows({"violations_1pct": 9, "violation_rate_1pct": 0.018}, num_rows=500)
    )
    assert [(row.tail, row.expected, row.observed) for row in rows] == [
        ("1 %", "5.0", "9 (1.80 %)")
    ]


def test_the_summary_is_a_short_aligned_table(run_folder):
    metrics = json.loads((run_folder / "metrics.json").read_text())
    lines = report.summary_table(metrics).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == len(report.summary_rows(metrics)) < 25
    assert any("log score, GJR-GARCH skew-t" in line and "3.0100" in line for line in lines)
    assert report.summary_table({}) == "no metrics"


def test_numbers_are_written_for_readers():
    assert format_value(0.0512, "fraction") == "5.12 %"
    assert format_value(-1.234, "ratio") == "−1.23"  # noqa: RUF001
    assert format_value(0.0000004, "p_value") == "< 0.001"
    assert format_value(12345, "count") == "12,345"
    assert format_value(float("nan"), "nats") == format_value(None) == format_value(np.inf)
    assert format_value([1, None]) == f"1, {format_value(None)}"
    assert format_value(True) == "yes"
    assert [format_seconds(s) for s in (86400, 3600, 300, 90, None)] == [
        "1 day", "1 hour", "5 minutes", "1.5 minutes", format_value(None),
    ]  # fmt: skip
    assert format_time("2024-05-06T07:08:00+00:00", 3600) == "2024-05-06 07:08"
    assert format_time("2024-05-06T07:08:00+00:00", 86400) == "2024-05-06"
    assert rows_text("elsewhere", "thing", {}) == "not stated"
