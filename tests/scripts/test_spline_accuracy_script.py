"""The printed table of spline accuracy, small."""

import importlib.util
import pathlib

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "spline_accuracy.py"


def test_the_table_has_a_line_per_form_and_a_block_per_scale_and_kind(capsys):
    spec = importlib.util.spec_from_file_location("spline_accuracy_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(["--scales", "2", "--splines", "2", "--inputs", "50"])
    blocks = capsys.readouterr().out.strip().split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [
        "inputs uniform, logits of scale 2",
        "inputs just below a knot, logits of scale 2",
    ]
    for block in blocks:
        lines = {line[:16].strip(): line[16:].split() for line in block.splitlines()[2:]}
        assert list(lines) == ["densityjax", "distrax", "textbook, root", "textbook, point"]
        assert all(float(number) < 1e-4 for number in lines["densityjax"][:4])
