"""Amounts of memory as text, and limits of containers and batch systems."""

import subprocess
import sys

import pytest

import hiercorr as hc
from hiercorr.runtime import resources

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 * 2**30), ("500MB", 5 * 10**8), (123, 123), ("1.5 kB", 1500), ("2g", 2 * 10**9)],
)
def test_memory_as_text(text, size):
    assert resources.memory_bytes(text) == size


@pytest.mark.parametrize("text", ["much", "-3", 0, "4 GiBs", "1.2.3GB", ""])
def test_memory_that_is_none(text):
    with pytest.raises(hc.InputError, match="memory_limit"):
        resources.memory_bytes(text)


def group(folder, version, limit, used, cache):
    """Write the files of a control group with these bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {1: ("limit_in_bytes", "usage_in_bytes"), 2: ("max", "current")}[version]
    for name, value in zip(names, (limit, used), strict=True):
        (folder / f"memory.{name}").write_text(f"{value}\n")
    stat = {1: f"cache 5\ntotal_inactive_file {cache}", 2: f"anon 3\ninactive_file {cache}"}
    (folder / "memory.stat").write_text(stat[version] + "\n")


@pytest.mark.parametrize("version", [1, 2])
def test_limits_of_control_groups(tmp_path, version):
    none = {1: 2**63 - 4096, 2: "max"}[version]
    line = {1: "9:cpu,memory:/job/step\n3:cpuset:/other\n", 2: "0::/job/step\n"}[version]
    groups, root = tmp_path / "groups", tmp_path / "sys"
    top = root / "memory" if version == 1 else root
    groups.write_text(line)
    assert resources.group_memory(groups, root) is None
    group(top / "job" / "step", version, none, 700, 100)
    if version == 2:
        assert resources.group_memory(groups, root) is None
    group(top / "job", version, 1000, 700, 100)  # the limit of a parent counts
    assert resources.group_memory(groups, root) == 400
    group(top / "job" / "step", version, 900, 700, 0)
    assert resources.group_memory(groups, root) == 200
    group(top / "job" / "step", version, 900, 1200, 0)
    assert resources.group_memory(groups, root) == 0


def test_limits_of_a_container_whose_group_is_the_root(tmp_path):
    groups = tmp_path / "groups"
    groups.write_text("4:memory:/docker/not-visible\n")
    group(tmp_path / "memory", 1, 1000, 300, 0)
    assert resources.group_memory(groups, tmp_path) == 700
    assert resources.group_memory(tmp_path / "nothing", tmp_path) is None


def test_a_limit_on_the_address_space():
    code = (
        "import resource; from hiercorr.runtime import resources; "
        "before = resources.available_memory(); "
        "resource.setrlimit(resource.RLIMIT_AS, (64 * 2**30, -1)); print(before); "
        "print(resources._address_space())"
    )
    pytest.importorskip("resource")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(run.stdout.split()[1]) < 64 * 2**30
