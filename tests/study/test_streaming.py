"""A scan reads its matrices block by block: what it adds to memory does not grow with them."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROWS, DIM = 30_000, 2048  # 123 MB a side in bfloat16
NAME = "model.embed_tokens.weight"

SCAN = """
import sys, threading, time
import numpy as np
from ks_core.ks.statistic import ks_test
from ks_core.checkpoints.matrices import ArrayMatrix
from ks_core.study.scan import Study

def anonymous():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) * 1024

some = [ArrayMatrix(np.full((2, 2), bits, np.uint16), "bfloat16") for bits in (0, 1)]
ks_test(*some, "cpu")  # the kernel is compiled and loaded
start, peak, going = anonymous(), [0], [True]

def watch():
    while going[0]:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.01)

thread = threading.Thread(target=watch)
thread.start()
scan = Study(*sys.argv[1:3], "cpu").scan()
going[0] = False
thread.join()
print(peak[0] - start, int((scan.counts > 0).sum()))
"""


def write_sharded(folder, shift):
    """A bfloat16 embedding in the second of two shards, written a stretch at a time."""
    folder.mkdir()
    header = json.dumps({NAME: {"dtype": "BF16", "shape": [ROWS, DIM], "data_offsets": [0, ROWS * DIM * 2]}}).encode()
    generator = np.random.default_rng(0)
    with (folder / "model-2.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for start in range(0, ROWS, 2000):
            rows = generator.standard_normal((2000, DIM), np.float32) * np.float32(0.02)
            if start == 4000:
                rows += np.float32(shift)
            file.write((rows.view(np.uint32) >> 16).astype(np.uint16).tobytes())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {NAME: "model-2.safetensors"}}))


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="this system does not say what memory is whose"
)
def test_a_scan_does_not_copy_the_matrices(tmp_path):
    write_sharded(tmp_path / "base", 0.0)
    write_sharded(tmp_path / "tuned", 0.01)
    done = subprocess.run(
        [sys.executable, "-c", SCAN, str(tmp_path / "base"), str(tmp_path / "tuned")],
        capture_output=True, text=True, timeout=200, check=True)  # fmt: skip
    added, changed = map(int, done.stdout.split())
    assert changed == 2000
    assert added < ROWS * DIM * 2, "less than one of the two matrices"
