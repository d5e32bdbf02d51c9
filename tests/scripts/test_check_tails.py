"""The table of tail layers, small: one law, and the layer that is worth its rows."""

import importlib.util
import pathlib

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "check_tails.py"


def test_a_tail_layer_beats_identity_tails_on_the_worst_rows_of_students_t(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("check_tails", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "LAWS", {"t3": module.LAWS["t3"]})
    monkeypatch.setattr(module, "TAILS", ("none", "lambert_w"))
    monkeypatch.setattr(module, "NUM_TEST", 20_000)
    found = module.main(["--seeds", "1"])["t3"]
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[0] for line in lines] == ["t3", "none", "lambert_w", "truth"]
    (plain, plain_worst), (heavy, heavy_worst), (truth, truth_worst) = (
        found[name][0] for name in ("none", "lambert_w", "truth")
    )
    assert truth - 0.01 < heavy < truth + 0.02 < plain
    assert abs(heavy_worst - truth_worst) < 0.5 < plain_worst - truth_worst
