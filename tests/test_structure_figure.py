"""The figure of the package's structure shows the imports as they are, and refuses circles."""

import re
import sys
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import Circle

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))

from _structure import read_structure, structure_figure  # noqa: E402

STATEMENT = re.compile(
    r"^( *)(?:from (hiercorr[\w.]*) import (\([^)]*\)|[^#\n]+)|import (hiercorr[\w.]*))", re.M
)


def wing(module: str) -> str:
    return module.split(".")[1] if "." in module else "hiercorr"


def modules() -> list[Path]:
    """All modules but ``__main__``, which only calls the command line."""
    files = (ROOT / "hiercorr").rglob("*.py")
    return [path for path in files if path.name != "__main__.py"]


def searched(top_of_module: bool) -> Counter[tuple[str, str]]:
    """Imports between wings, found by a pattern in the text of each file."""
    edges = Counter()
    for path in modules():
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        targets = set()
        for indent, base, names, whole in STATEMENT.findall(path.read_text(encoding="utf-8")):
            if top_of_module and indent:
                continue
            for name in re.findall(r"(\w+)(?: as \w+)?", names) or [""]:
                below = ROOT.joinpath(*base.split("."), name)
                is_module = name and (below.is_dir() or below.with_suffix(".py").is_file())
                targets.add(whole or (f"{base}.{name}" if is_module else base))
        edges.update((wing(module), wing(t)) for t in targets if wing(t) != wing(module))
    return edges


@pytest.mark.slow
def test_drawn_imports_are_those_of_the_files():
    found = read_structure(ROOT)
    assert found.edges == dict(searched(top_of_module=False))
    at_top = {pair: count["module"] for pair, count in found.imports.items() if count["module"]}
    assert at_top == dict(searched(top_of_module=True))
    assert found.modules.total() == len(modules())
    assert sorted(w for layer in found.layers for w in layer) == sorted(found.modules)
    figure = structure_figure(found)
    legend = 4
    marks = [p for p in figure.axes[0].patches if isinstance(p, Circle)]
    assert len(marks) == len(found.edges) + legend
    plt.close(figure)


@pytest.mark.slow
def test_the_map_in_the_guide_names_every_wing_in_its_layer():
    found = read_structure(ROOT)
    text = (ROOT / "docs/develop/index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `([\w/.]+)` \|", text, re.M)
    layer = {name.removesuffix("/__init__.py"): int(number) for number, name in rows}
    assert layer == {wing: k for k, row in enumerate(found.layers, 1) for wing in row}
    not_down = {
        (wing, target)
        for (wing, target), count in found.imports.items()
        if count["module"] + count["lazy"] and layer[target] <= layer[wing]
    }
    assert not_down == {("results", "plotting")}


def package(folder: Path, files: dict[str, str], layers: str = "") -> Path:
    for name, text in {"__init__": "", **files}.items():
        (folder / "hiercorr" / f"{name}.py").parent.mkdir(parents=True, exist_ok=True)
        (folder / "hiercorr" / f"{name}.py").write_text(text)
    contract = f'[[tool.importlinter.contracts]]\ntype = "layers"\nlayers = [{layers}]\n'
    (folder / "pyproject.toml").write_text(contract if layers else "")
    return folder


def test_a_circle_is_an_error(tmp_path):
    files = {"a/x": "from hiercorr import b", "b": "def f():\n    import hiercorr.a.x", "a/y": ""}
    with pytest.raises(ValueError, match="circle: a -> b -> a"):
        read_structure(package(tmp_path, files))


@pytest.mark.parametrize("kind", ["lazy", "types", "module"])
def test_only_the_lazy_import_of_plots_may_go_up(tmp_path, kind):
    files = {"plotting": "import hiercorr.results", "results": "from hiercorr import plotting"}
    if kind == "lazy":
        files["results"] = "def f():\n    from hiercorr import plotting"
    if kind == "types":
        files["results"] = "if TYPE_CHECKING:\n    from hiercorr import plotting"
    package(tmp_path, files)
    if kind == "module":
        with pytest.raises(ValueError, match="circle"):
            read_structure(tmp_path)
    else:
        found = read_structure(tmp_path)
        assert found.imports["results", "plotting"] == {kind: 1}
        assert found.layers == [("plotting",), ("hiercorr", "results")]


def test_declared_layers_are_drawn_and_hold(tmp_path):
    files = {"top": "from . import low", "low": "", "side": "from .low import x", "new": ""}
    layers = '"hiercorr.top", "hiercorr.side | other", "(low)"'
    rows = read_structure(package(tmp_path, files, layers)).layers
    assert [row for row in rows if row not in (("new",), ("hiercorr",))] == [
        ("top",),
        ("side",),
        ("low",),
    ]
    with pytest.raises(ValueError, match=r"hiercorr\.side imports hiercorr\.low"):
        read_structure(package(tmp_path, files, '"top", "low", "side"'))
