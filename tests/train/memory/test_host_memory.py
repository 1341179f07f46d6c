"""Memory that control groups leave, in the trees that systems and containers have."""

import pytest
import torch

from fastclip.train.memory import activation_budget
from fastclip.train.memory.host import available_host_bytes

MIB = 2**20
V2 = "30 23 0:25 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "35 31 0:32 {top} /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
    "36 31 0:33 {top} /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
)


@pytest.fixture
def system(tmp_path):
    """Writes files, of a system with 1,000 MiB that are available."""

    def write(files):
        for path, text in {"proc/meminfo": f"MemAvailable: {1000 * 1024} kB\n", **files}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(str(text))
        return tmp_path

    return write


def group(directory, limit, used, cached=0, version=2):
    names = ("max", "current") if version == 2 else ("limit_in_bytes", "usage_in_bytes")
    stat = "" if version == 2 else "total_"
    return {
        f"{directory}/memory.{names[0]}": limit if limit == "max" else limit * MIB,
        f"{directory}/memory.{names[1]}": used * MIB,
        f"{directory}/memory.stat": f"anon 7\n{stat}inactive_file {cached * MIB}\n",
    }


def test_without_control_groups_it_is_what_the_system_has(system):
    assert available_host_bytes(system({})) == 1000 * MIB


@pytest.mark.parametrize(
    "outer, inner, left",
    [
        (("max", 900), ("max", 800), 1000),
        (("max", 900), (700, 500), 200),
        ((600, 550), (700, 500), 50),  # a group around it has the smaller rest
        ((5000, 100), ("max", 100), 1000),
        ((600, 550, 300), (700, 500, 150), 350),  # pages of files go first
        ((600, 650), ("max", 100), 0),
    ],
)
def test_smallest_rest_of_nested_groups_of_version_2(system, outer, inner, left):
    root = system({
        "proc/self/mountinfo": V2, "proc/self/cgroup": "0::/jobs/mine\n",
        **group("sys/fs/cgroup/jobs", *outer), **group("sys/fs/cgroup/jobs/mine", *inner),
    })  # fmt: skip
    assert available_host_bytes(root) == left * MIB


def test_container_sees_its_own_group_as_the_root(system):
    files = {"proc/self/mountinfo": V2, "proc/self/cgroup": "0::/\n"}
    assert available_host_bytes(system(files | group("sys/fs/cgroup", 300, 100))) == 200 * MIB


@pytest.mark.parametrize("top, path", [("/", "jobs/mine"), ("/jobs/mine", "")])
def test_version_1_of_the_whole_hierarchy_or_of_its_own_part(system, top, path):
    root = system({
        "proc/self/mountinfo": V1.format(top=top),
        "proc/self/cgroup": "4:memory:/jobs/mine\n1:cpu,cpuacct:/\n0::/\n",
        **group(f"sys/fs/cgroup/memory/{path}", 400, 300, 50, version=1),
        "sys/fs/cgroup/cpu/memory.limit_in_bytes": 0,
    })  # fmt: skip
    assert available_host_bytes(root) == 150 * MIB


def test_group_that_is_not_mounted_is_no_limit(system):
    root = system({"proc/self/mountinfo": V2, "proc/self/cgroup": "0::/../elsewhere\n"})
    assert available_host_bytes(root) == 1000 * MIB


def test_budget_of_a_host_keeps_to_the_limit_and_is_shared(monkeypatch):
    monkeypatch.setattr(activation_budget, "available_host_bytes", lambda: 800 * MIB)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert activation_budget.memory_of(torch.device("cpu")) == 400 * MIB
    available = activation_budget.available_bytes(torch.device("cpu"), transient=10 * MIB)
    assert available == pytest.approx(350 * MIB)
