"""Object code that is kept: loaded without numba, and not believed without proof."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from ks_core.errors import KSLotteryError
from ks_core.ks.kernels import machine_code
from ks_core.ks.kernels.cpu import _widens_right


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of object code, and a process that has loaded none."""
    monkeypatch.setattr(machine_code, "_folders", lambda: iter([tmp_path / "kernels"]))
    monkeypatch.setattr(machine_code, "_known", {})
    return tmp_path / "kernels"


def widening(proof=_widens_right):
    machine_code._known.clear()
    return machine_code.function("halves", proof)


def test_what_was_compiled_is_loaded_the_next_time(folder):
    assert widening().compiled
    (file,) = folder.iterdir()
    loaded = widening()
    assert not loaded.compiled
    halves, floats = np.arange(1000, dtype=np.uint16), np.empty(1000, np.float32)
    loaded(halves, floats, floats, 1000)
    assert np.array_equal(floats, halves.view(np.float16).astype(np.float32))
    assert machine_code.function("halves", _widens_right) is loaded and list(folder.iterdir()) == [file]


@pytest.mark.parametrize(
    "spoil", [lambda kept: kept[:-1] + bytes([kept[-1] ^ 1]), lambda kept: kept[:40], lambda kept: b""]
)
def test_a_damaged_file_is_compiled_again(folder, spoil):
    widening()
    (file,) = folder.iterdir()
    file.write_bytes(spoil(file.read_bytes()))
    assert widening().compiled
    assert not widening().compiled


def test_a_file_that_counts_wrong_is_compiled_again(folder):
    """Such as one of a processor that calls itself the same and is not."""
    widening()
    asked = []

    def proof(function):
        asked.append(function.compiled)
        return function.compiled

    assert widening(proof).compiled and asked == [False, True]


def test_what_counts_wrong_even_when_compiled_is_said(folder):
    with pytest.raises(KSLotteryError, match="counts wrong on this processor"):
        widening(lambda function: False)


def test_a_folder_that_cannot_be_written_to_costs_time_alone(folder):
    folder.write_text("no folder")
    assert widening().compiled and widening().compiled


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_another_process_compiles_nothing_and_imports_no_numba(dtype):
    bits = "uint16" if dtype in ("bfloat16", "float16") else dtype
    code = f"""if True:
        import sys
        import numpy as np
        from ks_core.ks.kernels import cpu, machine_code
        cpu.CPUKernel().count(np.zeros((1, 3), "{bits}"), np.ones((1, 3), "{bits}"), "{dtype}", True)
        print(any(f.compiled for f in machine_code._known.values()), "numba" in sys.modules)
    """
    outputs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
               for _ in range(2)]  # fmt: skip
    assert outputs[1].split() == ["False", "False"]
