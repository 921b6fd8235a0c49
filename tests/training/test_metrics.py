"""TensorBoard's events of a run, and a disk that is full while they are written."""

import glob
import pathlib
import subprocess
import sys

import pytest
from etils import epath

from edm_jax.training import metrics

pytest.importorskip("tensorboardX")
from tensorboardX.proto.event_pb2 import Event

FULL = pathlib.Path("/dev/full")


def events(folder):
    """Every event in the files of a folder, as TFRecord frames them."""
    found = []
    for name in sorted(glob.glob(f"{folder}/events/*")):
        data = pathlib.Path(name).read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            found.append(Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return found


def test_events_hold_the_numbers_and_hide_those_of_later_steps_of_an_earlier_attempt(tmp_path):
    for start in (0, 2):
        with metrics.Metrics(epath.Path(tmp_path), start) as log:
            log.write({"step": start + 1, "kimg": 0.5, "loss": 1.25, "bins": [1.0, 2.0]})
    numbers = [{v.tag: v.simple_value for v in e.summary.value} for e in events(tmp_path)]
    assert [n for n in numbers if n] == [{"kimg": 0.5, "loss": 1.25}] * 2
    assert sorted(e.step for e in events(tmp_path) if e.summary.value) == [1, 3]
    assert [e.step for e in events(tmp_path) if e.session_log.status] == [3]


CODE = """
import sys
from etils import epath
from tensorboardX import record_writer
from edm_jax.cli.main import run
from edm_jax.training import metrics

record_writer.open_file = lambda path: open("/dev/full", "wb")  # every byte is one too many
metrics.FLUSH_EVERY = 0.0

def program():
    with metrics.Metrics(epath.Path(sys.argv[1]), 0) as log:
        for step in range(1, 9):
            log.write({"step": step, "loss": 0.5})
    return 0

sys.exit(run(program))
"""


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line_also_when_the_process_ends(tmp_path):
    words = [sys.executable, "-c", CODE, str(tmp_path)]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"error: [Errno 28] No space left on device; {tmp_path}: the numbers of step 1\n"
    )
