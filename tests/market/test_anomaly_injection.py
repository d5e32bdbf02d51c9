import jax
import numpy as np
import pandas as pd
import pytest

from densityjax.market import anomalies, simulate

PRICES = ["open", "high", "low", "close"]


@pytest.fixture(scope="module")
def bars():
    return simulate.simulate_market(jax.random.key(11), 2_000).bars


@pytest.fixture(scope="module")
def pair(bars):
    other = bars.copy()  # correlation one, so that what is broken shows
    other[PRICES] *= 0.01
    return {"first": bars, "second": other}


def log_returns(frame):
    return np.diff(np.log(frame["close"].to_numpy()))


def events_of(labels):
    inside = labels[labels["kind"] != "none"]
    return inside.drop_duplicates("start")


def assert_valid(frame):
    assert np.isfinite(frame.to_numpy()).all()
    assert (frame[PRICES] > 0.0).all(axis=None)
    assert (frame["high"] >= frame[["open", "close"]].max(axis=1)).all()
    assert (frame["low"] <= frame[["open", "close"]].min(axis=1)).all()


@pytest.mark.parametrize("kind", anomalies.SINGLE_ASSET_KINDS)
def test_each_kind_changes_its_labelled_rows_alone_and_keeps_bars_valid(bars, kind):
    changed, labels = anomalies.inject_anomalies(
        jax.random.key(0), bars, kinds=(kind,), num_events=7, duration=12
    )
    assert labels.index.equals(bars.index)
    is_event = (labels["kind"] != "none").to_numpy()
    pd.testing.assert_frame_equal(changed[~is_event], bars[~is_event], check_exact=True)
    assert_valid(changed)
    events = events_of(labels)
    assert len(events) == 7
    for _, event in events.iterrows():
        rows = slice(event["start"], event["end"])
        assert (labels.loc[rows, "kind"] == kind).all()
        assert (labels.loc[rows, "start"] == event["start"]).all()
        assert not changed.loc[rows].equals(bars.loc[rows])
        assert len(bars.loc[rows]) == (1 if kind in ("jump", "volume_spike") else 12)
    assert is_event.sum() == sum(len(bars.loc[e.start : e.end]) for e in events.itertuples())


def test_all_kinds_come_equally_often_and_never_touch(bars):
    _, labels = anomalies.inject_anomalies(jax.random.key(1), bars, num_events=40)
    events = events_of(labels)
    assert (events["kind"].value_counts() == 10).all()
    position = bars.index.get_indexer(pd.DatetimeIndex(events["start"]))
    ends = bars.index.get_indexer(pd.DatetimeIndex(events["end"]))
    assert (position[1:] - ends[:-1] >= 2).all()
    assert position[0] >= 1


def test_a_burst_multiplies_the_moves_about_the_line_and_returns_to_the_price(bars):
    changed, labels = anomalies.inject_anomalies(
        jax.random.key(2), bars, kinds=("volatility_burst",), num_events=5, burst_factor=4.0
    )
    for _, event in events_of(labels).iterrows():
        first, last = bars.index.get_indexer([event["start"], event["end"]])
        old = np.diff(np.log(bars["close"].to_numpy()[first - 1 : last + 1]))
        new = np.diff(np.log(changed["close"].to_numpy()[first - 1 : last + 1]))
        np.testing.assert_allclose(
            new - new.mean(), 4.0 * (old - old.mean()), rtol=1e-8, atol=1e-12
        )
        assert changed["close"].iloc[last] == bars["close"].iloc[last]
        np.testing.assert_allclose(
            changed["open"].to_numpy()[first : last + 1],
            changed["close"].to_numpy()[first - 1 : last],
            rtol=1e-12,
        )


def test_a_jump_has_its_size_and_is_undone_by_the_next_bar(bars):
    changed, labels = anomalies.inject_anomalies(
        jax.random.key(3), bars, kinds=("jump",), num_events=8, jump_size=9.0
    )
    move = np.log(changed["close"] / bars["close"])[labels["kind"] == "jump"].to_numpy()
    np.testing.assert_allclose(np.abs(move), 9.0 * np.std(log_returns(bars)), rtol=1e-9)
    assert {-1.0, 1.0} == set(np.sign(move))
    np.testing.assert_allclose(log_returns(changed).sum(), log_returns(bars).sum(), atol=1e-12)


def test_spikes_multiply_volume_and_stale_prices_repeat(bars):
    changed, labels = anomalies.inject_anomalies(
        jax.random.key(4), bars, kinds=("volume_spike", "stale_price"), num_events=6, duration=5
    )
    spike = (labels["kind"] == "volume_spike").to_numpy()
    np.testing.assert_array_equal(changed["volume"][spike], 10.0 * bars["volume"][spike])
    np.testing.assert_array_equal(changed[PRICES][spike], bars[PRICES][spike])
    for _, event in events_of(labels[~spike]).iterrows():
        first = bars.index.get_loc(event["start"])
        inside = changed.loc[event["start"] : event["end"]]
        assert (inside[PRICES] == bars["close"].iloc[first - 1]).all(axis=None)
        assert (inside["volume"] == bars["volume"].iloc[first - 1]).all()


def test_a_broken_correlation_changes_sign_and_leaves_the_volatility(pair):
    changed, labels = anomalies.inject_anomalies(
        jax.random.key(5), pair, kinds=("broken_correlation",), num_events=6, duration=30
    )
    assert sum(len(events_of(frame)) for frame in labels.values()) == 6
    for name, other in (("first", "second"), ("second", "first")):
        assert_valid(changed[name])
        events = events_of(labels[name])
        assert len(events)
        for _, event in events.iterrows():
            first, last = pair[name].index.get_indexer([event["start"], event["end"]])
            mine, theirs, old = (
                np.diff(np.log(frame["close"].to_numpy()[first - 1 : last + 1]))
                for frame in (changed[name], changed[other], pair[name])
            )
            np.testing.assert_allclose(np.corrcoef(mine, theirs)[0, 1], -1.0, atol=1e-9)
            np.testing.assert_allclose(mine.std(), old.std(), rtol=1e-9)
        outside = (labels[name]["kind"] == "none").to_numpy()
        pd.testing.assert_frame_equal(changed[name][outside], pair[name][outside], check_exact=True)


def test_the_same_key_gives_the_same_events_and_inputs_are_left_alone(bars):
    before = bars.copy()
    first, labels = anomalies.inject_anomalies(jax.random.key(6), bars)
    again, _ = anomalies.inject_anomalies(jax.random.key(6), bars)
    _, other = anomalies.inject_anomalies(jax.random.key(7), bars)
    pd.testing.assert_frame_equal(first, again)
    assert not labels.equals(other)
    pd.testing.assert_frame_equal(bars, before)


def test_a_simulated_market_with_events_keeps_the_truth_of_the_one_without():
    clean, planted = (
        simulate.simulate_market(jax.random.key(8), 600, num_anomalies=n) for n in (0, 8)
    )
    outside = (planted.anomalies["kind"] == "none").to_numpy()
    assert len(events_of(planted.anomalies)) == 8
    assert (clean.anomalies["kind"] == "none").all()
    np.testing.assert_array_equal(clean.log_prob, planted.log_prob)
    np.testing.assert_array_equal(clean.sigma, planted.sigma)
    pd.testing.assert_frame_equal(clean.bars[outside], planted.bars[outside], check_exact=True)
    assert not clean.bars.equals(planted.bars)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"kinds": ("earthquake",)}, "kinds"),
        ({"kinds": "jump"}, "kinds"),
        ({"kinds": ()}, "kinds"),
        ({"kinds": ("broken_correlation",)}, "two frames"),
        ({"num_events": 0}, "num_events"),
        ({"duration": 1}, "duration"),
        ({"num_events": 500}, "need"),
        ({"burst_factor": 1.0}, "burst_factor"),
        ({"jump_size": 0.0}, "jump_size"),
        ({"volume_factor": np.inf}, "volume_factor"),
    ],
)
def test_bad_arguments_are_refused(bars, change, match):
    with pytest.raises(ValueError, match=match):
        anomalies.inject_anomalies(jax.random.key(0), bars, **change)


def test_frames_that_cannot_serve_are_refused(bars, pair):
    with pytest.raises(ValueError, match="volume"):
        anomalies.inject_anomalies(jax.random.key(0), bars.drop(columns="volume"))
    with pytest.raises(ValueError, match="index"):
        anomalies.inject_anomalies(jax.random.key(0), pair | {"third": bars.iloc[1:]})
    with pytest.raises(ValueError, match="empty"):
        anomalies.inject_anomalies(jax.random.key(0), {})
