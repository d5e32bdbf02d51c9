"""The bars that come with the library."""

import hashlib
import pathlib

import jax
import numpy as np
import pandas as pd
import pytest
from arch.data import sp500

from densityjax.market.bars import read_bars
from densityjax.market.datasets import load_dataset
from densityjax.market.describe import describe_bars
from densityjax.market.repair import repair_bars
from densityjax.market.simulate import simulate_market
from densityjax.market.validation import validate_bars


@pytest.mark.parametrize("name", ["nasdaq", "sp500"])
def test_an_index_is_valid_daily_bars_of_twenty_years(name):
    bars = load_dataset(name)
    assert validate_bars(bars) is bars
    assert list(bars.columns) == ["open", "high", "low", "close", "volume"]
    assert bars.index.name == "timestamp"
    assert (len(bars), str(bars.index[0].date()), str(bars.index[-1].date())) == (
        5_031,
        "1999-01-04",
        "2018-12-31",
    )
    found = describe_bars(bars)
    assert found.num_gaps == 0
    assert 251.0 < found.periods_per_year < 252.0
    assert repair_bars(bars)[1].changes.empty


def test_the_close_is_the_traded_one():
    assert (load_dataset("sp500")["close"].to_numpy() == sp500.load()["Close"]).all()


def test_the_notes_of_the_sp500_state_the_repeated_opens_and_their_share():
    bars = load_dataset("sp500")
    notes = " ".join(bars.attrs["notes"])
    repeats = bars["open"].to_numpy()[1:] == bars["close"].to_numpy()[:-1]
    years = bars.index.year[1:]
    assert f"2004: {repeats[years == 2004].mean():.0%}" in notes
    assert repeats[years <= 2005].mean() > 0.9 > 0.2 > repeats[years >= 2007].mean()
    assert "between 1999-01-05 and 2006" in notes.lower()
    assert not any("exactly" in note for note in load_dataset("nasdaq").attrs["notes"])


def test_notes_are_carried_along_by_slicing_and_repair():
    bars = load_dataset("nasdaq")
    for later in (bars.iloc[100:200], repair_bars(bars)[0]):
        assert later.attrs["notes"] == bars.attrs["notes"]


def test_the_simulated_sample_is_the_simulator_at_its_key():
    bars = load_dataset("simulated")
    expected = simulate_market(jax.random.key(0), 20_000).bars
    pd.testing.assert_frame_equal(bars, expected)
    assert len(bars) == 20_000
    assert "Simulated" in bars.attrs["notes"][0]
    assert np.isfinite(bars["close"]).all()


def test_an_unknown_dataset_is_refused_with_the_accepted_names():
    with pytest.raises(
        ValueError, match="unknown dataset 'dax'; accepted: nasdaq, simulated, sp500"
    ):
        load_dataset("dax")


def test_the_sample_file_is_the_one_whose_hash_the_readme_states():
    folder = pathlib.Path(__file__).resolve().parents[2] / "data"
    path = folder / "simulated_1h.csv.gz"
    assert hashlib.sha256(path.read_bytes()).hexdigest() in (folder / "README.md").read_text()
    sample = read_bars(path)
    # Rounded to cents, prices differ by half a cent at most; the last bit is the machine's.
    expected = load_dataset("simulated").iloc[: len(sample)]
    assert len(sample) == 4_380
    pd.testing.assert_frame_equal(sample, expected, check_freq=False, rtol=0, atol=0.0101)
    assert describe_bars(sample).warnings == ()
