"""Starting several processes of one run on this machine."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = ROOT / "tests" / "small_command.py"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def environment(devices: int) -> dict[str, str]:
    """This environment with so many CPU devices a process."""
    flags = os.environ["XLA_FLAGS"].replace("count=8", f"count={devices}")
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    return dict(os.environ, XLA_FLAGS=flags, PYTHONPATH=path)


def start(*command: str, slurm: bool = False, processes: int = 2, devices: int = 4):
    """Starts a console command in several processes, which are told of each other or find out.

    Its models have a small network, as those of tests with the fixture `small_networks`.
    """
    port = str(free_port())

    def told(i):
        where = ["--coordinator", f"localhost:{port}"]
        return [*where, "--num-processes", str(processes), "--process-id", str(i)]

    def found(i):
        return {
            "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "localhost",
            "SLURM_NTASKS": str(processes), "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i),
            "JAX_COORDINATOR_PORT": port,
        }  # fmt: skip

    return [
        subprocess.Popen(
            [sys.executable, str(COMMAND), *command, *([] if slurm else told(i))],
            env=environment(devices) | (found(i) if slurm else {}),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(processes)
    ]


def finish(children: list[subprocess.Popen], timeout: float = 300) -> list[tuple[int, str, str]]:
    """(exit code, output, errors) of each."""
    said = [child.communicate(timeout=timeout) for child in children]
    return [(child.returncode, *text) for child, text in zip(children, said)]
