"""What is free in a container: its limit less what is held, where files that were read are not held."""

import pytest

from ks_core.jobs import devices

GB = 10**9


@pytest.fixture
def group(tmp_path, monkeypatch):
    """A container's files in a folder, on a machine with much memory."""

    class Machine:
        available = 1000 * GB

    monkeypatch.setattr("psutil.virtual_memory", Machine)
    monkeypatch.setattr(devices, "GROUPS", tmp_path)

    def write(folder, **files):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name, text in files.items():
            (tmp_path / folder / name.replace("__", ".")).write_text(text)

    return write


def test_files_that_were_read_are_free(group):
    stat = f"anon {3 * GB}\nfile {12 * GB}\ninactive_file {5 * GB}\nactive_file {7 * GB}\n"
    group(".", memory__max=f"{16 * GB}\n", memory__current=f"{15 * GB}\n", memory__stat=stat)
    assert devices.free_memory() == 13 * GB


def test_so_they_are_where_linux_counts_in_the_first_way(group):
    stat = f"inactive_file 1\nactive_file 1\ntotal_inactive_file {5 * GB}\ntotal_active_file {7 * GB}\n"
    group("memory", memory__limit_in_bytes=f"{16 * GB}\n", memory__usage_in_bytes=f"{15 * GB}\n", memory__stat=stat)
    assert devices.free_memory() == 13 * GB


def test_no_limit_is_the_machine_s(group):
    group(".", memory__max="max\n", memory__current="5\n", memory__stat="anon 5\n")
    assert devices.free_memory() == 1000 * GB
    group("memory", memory__limit_in_bytes=f"{2**63 - 4096}\n", memory__usage_in_bytes="5\n", memory__stat="cache 5\n")
    assert devices.free_memory() == 1000 * GB


def test_a_full_container_has_none(group):
    group(".", memory__max="100\n", memory__current="120\n", memory__stat="inactive_file 5\nactive_file 5\n")
    assert devices.free_memory() == 0
