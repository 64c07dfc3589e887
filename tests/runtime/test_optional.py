"""Optional dependencies are imported where they are used, and their absence names the extra."""

import subprocess
import sys
import tomllib

import pytest

from hiercorr.runtime.optional import EXTRAS, optional
from tests.support import TESTS


def test_import_is_quick():
    code = (
        "import sys, time; t = time.time(); import hiercorr; "
        "print(time.time() - t, 'numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy = done.stdout.split()
    assert float(seconds) < 1
    assert heavy == "False"


def test_import_is_light():
    heavy = ("pymc", "arviz", "dask", "matplotlib", "statsmodels.api", "gseapy", "sklearn")
    code = f"import sys, hiercorr; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("module", "extra"), [("arviz", "bayes"), ("matplotlib.pyplot", "report"), ("dask", "dask")]
)
def test_a_missing_module_names_its_extra(monkeypatch, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'plots need .*pip install "hiercorr\[{extra}\]"'):
        optional(module, "plots")


def test_an_installed_module_that_cannot_be_imported_says_why(monkeypatch, tmp_path):
    (tmp_path / "gseapy.py").write_text("import a_module_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gseapy", raising=False)
    with pytest.raises(ImportError, match="a_module_that_is_missing") as caught:
        optional("gseapy", "enrichment tests")
    assert "pip install" not in str(caught.value)


def test_every_optional_import_has_an_extra():
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]
    for package, extra in EXTRAS.items():
        stated = " ".join(project["optional-dependencies"][extra]).lower()
        assert package.lower() in stated or package == "pytensor", (package, extra)  # PyMC's own
