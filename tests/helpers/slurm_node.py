"""A real Slurm of one node for the tests: munge, controller and node daemon, in a folder and on ports of its own.

    python tests/helpers/slurm_node.py          starts one and prints what to export; it ends with Ctrl-C

Needs Debian's packages slurm-wlm and munge, and root, for the daemons change users. Nothing of a Slurm that the machine
may have is touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=300
KillWait=5
InactiveLimit=0
SlurmdTimeout=10
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 State=UP PriorityTier=1 OverSubscribe=NO
PartitionName=urgent Nodes={host} MaxTime=60 State=UP PriorityTier=10 OverSubscribe=NO
"""


def missing() -> list[str]:
    """The programs that are not here."""
    found = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")]
    return found or (["root"] if os.geteuid() else [])


class SlurmNode:
    """Slurm on this machine, between ``start`` and ``stop``. ``environment`` is what its clients need."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o400)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                folder=self.folder, host=socket.gethostname().partition(".")[0], ports=_free_ports(2),
                cpus=os.cpu_count(), memory=memory * 9 // 10,
            )
        )  # fmt: skip
        munge = self.folder / "munge"
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={self.folder}/munge.key", f"--socket={munge}.socket",
            f"--pid-file={munge}.pid", f"--log-file={munge}.log", f"--seed-file={munge}.seed",
        )  # fmt: skip
        self._until(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._daemon("slurmctld", "-D")
        self.start_node()

    def start_node(self) -> None:
        """Start the node's daemon, and wait until the node takes work."""
        self._daemon("slurmd", "-D")
        self._until(lambda: self.run("sinfo", "-h", "-o", "%T").strip() in ("idle", "mixed", "allocated"), "slurmd")

    def kill_node(self) -> None:
        """Kill the node's daemon, as a crash would. What it has started lives on."""
        self._daemons.pop("slurmd").kill()

    def run(self, *command: str) -> str:
        """What a client's command prints."""
        return subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=30
        ).stdout  # fmt: skip

    def stop(self) -> None:
        self.run("scancel", "--full", "--state=RUNNING")
        self.run("scancel", "--state=PENDING")
        time.sleep(1)
        for process in reversed(self._daemons.values()):
            process.send_signal(signal.SIGTERM)
        for process in self._daemons.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _daemon(self, name: str, *arguments: str) -> None:
        program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        log = (self.folder / f"{name}.out").open("ab")
        self._daemons[name] = subprocess.Popen(
            [str(program), *arguments], env={**os.environ, **self.environment}, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip

    def _until(self, condition, name: str) -> None:
        for _ in range(300):
            if condition():
                return
            time.sleep(0.1)
        logs = "\n".join(p.read_text(errors="replace")[-2000:] for p in self.folder.glob("*.[lo][ou][gt]"))
        raise RuntimeError(f"{name} did not start:\n{logs}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


if __name__ == "__main__":
    if missing():
        sys.exit(f"Not here: {', '.join(missing())}. On Debian, as root: apt-get install slurm-wlm munge")
    node = SlurmNode()
    try:
        node.start()
        print(f"export SLURM_CONF={node.folder}/slurm.conf", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        node.stop()
