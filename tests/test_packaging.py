"""The wheel and the sdist: built, installed outside the checkout, run (-m packaging)."""

import functools
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parent.parent


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


SMOKE = """
import sys, tempfile, pathlib, warnings
warnings.simplefilter("ignore")
import hiercorr as hc
assert "checkout" not in hc.__file__ and "site-packages" in hc.__file__, hc.__file__
adata = hc.datasets.glioblastoma()
options = {"sample": "sample_id", "depth": "total_counts", "subset": {"condition": "ctrl"}}
within = hc.CSCore(adata, genes=30, **options).fit(target="FTL", per_sample=True)
between = hc.Pseudobulk(adata, **options).fit(target="FTL")
assert within.top(n=1)["p_value"].iloc[0] < 0.01
hc.evidence("FTL", within=hc.CSCore(adata, **options).fit(target="FTL"), between=between)
hc.differential(adata, "sample_id", "condition", block="patient_id", genes=10, depth="total_counts")
hc.power(samples=8, cells=100)
folder = pathlib.Path(tempfile.mkdtemp())
for suffix in ("zarr", "nc"):
    within.save(folder / f"r.{suffix}")
    assert hc.load(folder / f"r.{suffix}").target == "FTL"
adata.write_h5ad(folder / "a.h5ad")
hc.CSCore(folder / "a.h5ad", genes=20, **options).fit(out=folder / "all.zarr")
from hiercorr.specification import read_specification, shipped_models
assert len(shipped_models()) >= 10 and read_specification("within").model == "CSCore"
print("works", hc.__version__)
"""


EXTRAS = {
    "report": "hc.report(folder / 'r.html', within); within.plot.volcano(); "
    "from hiercorr.enrichment import gsea; gsea(hc.CSCore(adata, **options).fit(target='FTL'))",
    "network": "hc.CSCore(adata, genes=30, **options).fit().to_networkx(q=None)",
    "dask": "hc.CSCore(adata, genes=20, scheduler='synchronous', **options).fit()",
    "de": "hc.differential_expression(adata, 'sample_id', '~ condition', "
    "('condition', 'panobinostat', 'ctrl'), depth='total_counts')",
    "bayes": "hc.BayesianCorrelation(adata, 'sample_id', ['FTL', 'FTH1'], depth='total_counts', "
    "subset={'condition': 'ctrl'}).fit(draws=100, tune=100, chains=2, seed=1, progress=False)",
}


WITHOUT = {
    "report": ("hc.report(folder / 'r.html', within)", 'pip install "hiercorr[report]"'),
    "bayes": (
        "hc.BayesianCorrelation(adata, 'sample_id', ['FTL', 'FTH1'], depth='total_counts').fit()",
        "hiercorr[bayes]",
    ),
    "dask": ("hc.CSCore(adata, genes=20, scheduler='synchronous', **options)", "hiercorr[dask]"),
    "de": (
        "hc.differential_expression(adata, 'sample_id', '~ condition', "
        "('condition', 'ctrl', 'panobinostat'))",
        "hiercorr[de]",
    ),
}


class Environment:
    """A new virtual environment outside the checkout."""

    def __init__(self, folder, *packages, python=sys.executable):
        self.folder = folder
        if python == sys.executable:
            venv.create(folder / "env", with_pip=True)
        else:
            subprocess.run([python, "-m", "venv", str(folder / "env")], check=True)
        self.python = folder / "env" / "bin" / "python"
        self.install(*packages)

    def install(self, *packages):
        options = ["-q", "--no-compile"]  # of all that is installed, little is imported
        command = [str(self.python), "-m", "pip", "install", *options, *map(str, packages)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0, done.stderr[-3000:]

    def copy(self, folder):
        """Return an environment with the same packages and what they have compiled, as links."""
        other = object.__new__(Environment)
        other.folder, other.python = folder, folder / "env" / "bin" / "python"
        shutil.copytree(self.folder / "env", folder / "env", True, copy_function=os.link)
        old, new = os.fsencode(self.folder), os.fsencode(folder)
        for script in other.python.parent.iterdir():  # with the path of its interpreter
            if not script.is_symlink() and old in (text := script.read_bytes()):
                script.unlink()
                script.write_bytes(text.replace(old, new))
                script.chmod(0o755)
        return other

    def run(self, code):
        return subprocess.run(
            [str(self.python), "-c", code], capture_output=True, text=True, cwd=self.folder
        )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "-o", str(out), str(ROOT)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {"wheel": next(out.glob("*.whl")), "sdist": next(out.glob("*.tar.gz"))}


@pytest.fixture(scope="module")
def environment(built, tmp_path_factory):
    """Environments with the wheel and one extra, or none."""

    core = Environment(tmp_path_factory.mktemp("core"), built["wheel"])

    @functools.cache
    def make(extra=""):
        if not extra:
            return core
        env = core.copy(tmp_path_factory.mktemp(extra))
        env.install(f"{built['wheel']}[{extra}]")
        return env

    return make


@pytest.fixture(scope="module")
def core(environment):
    return environment()


def test_contents(built):
    names = zipfile.ZipFile(built["wheel"]).namelist()
    for part in (
        "hiercorr/py.typed",
        "hiercorr/_templates/report.html",
        "hiercorr/_models/within.toml",
        "hiercorr/cli/__init__.py",
    ):
        assert part in names
    assert not [n for n in names if n.startswith(("tests/", "validation/", "docs/"))]
    assert any(n.startswith("hiercorr/") and n.endswith(".h5ad") for n in names)
    with tarfile.open(built["sdist"]) as archive:
        inside = archive.getnames()
    for part in (
        "README.md",
        "LICENSE",
        "models/within.toml",
        "tests/within/test_cscore.py",
        "docs/index.md",
        "validation/plain.py",
    ):
        assert any(n.endswith(part) for n in inside), part
    assert built["wheel"].stat().st_size < 10e6


def test_metadata_are_those_an_index_accepts(built):
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.values())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_container_runs_its_commands(built, core, tmp_path):
    """Run each RUN command of the Dockerfile in a new environment instead of an image."""
    env = core.copy(tmp_path)
    shutil.copytree(
        built["wheel"].parent, tmp_path / "wheel", ignore=shutil.ignore_patterns("*.gz")
    )
    text = (ROOT / "docs" / "publish" / "Dockerfile").read_text("utf-8")
    variables = dict(re.findall(r"(\w+)=(\S+)", re.search(r"^ENV (.*)$", text, re.M).group(1)))
    text = text.replace("/tmp/wheel", str(tmp_path / "wheel"))
    home = str(tmp_path / "opt")
    variables = {k: v.replace("/opt/hiercorr", home) for k, v in variables.items()}
    variables |= {"PATH": f"{env.python.parent}:{os.environ['PATH']}"}
    for command in re.findall(r"^RUN (.*)$", text, re.M):
        command = command.replace("/opt/hiercorr", home)
        done = subprocess.run(
            ["sh", "-c", command], env=os.environ | variables, capture_output=True, text=True
        )
        assert done.returncode == 0, (command, done.stderr[-3000:])
    assert list((tmp_path / "opt" / "kernels").rglob("*.nbi"))  # compiled in the image


def test_core_works_without_extras(core):
    done = core.run(SMOKE)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"works {PROJECT.get('version', '0.1.0')}" in done.stdout
    heavy = core.run(
        "import sys, hiercorr; "
        "print([m for m in ('pymc', 'matplotlib', 'dask', 'gseapy') if m in sys.modules])"
    )
    assert heavy.stdout.strip() == "[]"


@pytest.mark.parametrize("extra", WITHOUT)
def test_what_is_missing_is_said_in_one_line(core, extra):
    code, text = WITHOUT[extra]
    done = core.run(SMOKE + code)
    assert done.returncode != 0
    assert text in done.stderr.strip().splitlines()[-1]


def test_command_line_works_without_extras(core):
    command = core.python.parent / "hiercorr"
    for arguments, text in (
        (["--version"], "0.1.0"),
        (["power", "models/power.toml"], "5 samples"),
    ):
        done = subprocess.run(
            [str(command), *arguments], capture_output=True, text=True, cwd=core.folder
        )
        assert done.returncode == 0, done.stderr
        assert text in done.stdout


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_extra_alone(environment, extra):
    done = environment(extra).run(
        "import matplotlib; matplotlib.use('Agg')\n" * (extra == "report") + SMOKE + EXTRAS[extra]
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_demo_from_the_wheel(environment, tmp_path):
    done = subprocess.run(
        [str(environment("report").python.parent / "hiercorr"), "demo"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "6 donors as units" in done.stdout
    assert (tmp_path / "hiercorr-demo.html").exists()


def test_lowest_versions(built, tmp_path):
    """Every dependency of the core at the lowest version that pyproject allows."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the lowest versions are those of Python 3.11")
    env = Environment(
        tmp_path, built["wheel"], *(d.replace(">=", "==") for d in PROJECT["dependencies"])
    )
    done = env.run(SMOKE)
    assert done.returncode == 0, done.stderr[-3000:]


def test_newest_python(built, tmp_path):
    """What a new user gets, where a newer Python is installed."""
    if sys.version_info >= (3, 13):
        pytest.skip("this is a new Python")
    python = next(
        (p for name in ("python3.14", "python3.13") if (p := shutil.which(name)) and _runs(p)), None
    )
    if python is None:
        pytest.skip("no newer Python is installed")
    env = Environment(tmp_path, built["wheel"], python=python)
    done = env.run(SMOKE)
    assert done.returncode == 0, done.stderr[-3000:]


def _runs(python):
    """A name on the path may be a shim with nothing behind it."""
    return (
        subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True).returncode
        == 0
    )
