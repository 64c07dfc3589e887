"""Names of modules, functions and files in the documentation exist."""

import ast
import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import hiercorr as hc

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "hiercorr").rglob("*.py"))
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if not {"_build", "generated"} & set(path.parts)
)
DOTTED = re.compile(r"(?<![\w./-])hiercorr(?:\.[A-Za-z_]\w*)+")
ROLE = re.compile(r":(?:mod|func|class|meth|attr|data|exc|obj):`[~!]?(?:[^`<]*<)?([\w.]+)>?`")
LINK = re.compile(r"\]\(([^)#:\s]+)[^):]*\)")
FOLDERS = "hiercorr|models|tests|validation|docs|.ci"
FILE = re.compile(rf"`((?:{FOLDERS})/[\w./*-]*)`|(?<![\w/])((?:{FOLDERS})/[\w/-]+\.\w+)")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        if is_module(".".join(parts[:k])):
            value = importlib.import_module(".".join(parts[:k])) if k < len(parts) else None
            return has(value, parts[k:])
    return False


def has(value: object, attributes: list[str]) -> bool:
    for attribute in attributes:
        fields = getattr(value, "__dataclass_fields__", {})
        if not hasattr(value, attribute):
            return attribute in fields or attribute in getattr(value, "__annotations__", {})
        value = getattr(value, attribute)
    return True


def resolves_in(name: str, module: str) -> bool:
    """Whether a role in a docstring of ``module`` names an object there, or one elsewhere."""
    home = importlib.import_module(module)
    classes = [c for _, c in inspect.getmembers(home, inspect.isclass) if c.__module__ == module]
    parts = name.split(".")
    return resolves(name) or any(has(owner, parts) for owner in [home, *classes])


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_names_in_pages_resolve(path):
    text = path.read_text(encoding="utf-8")
    names = set(DOTTED.findall(text))
    names |= {f"hiercorr{name}" for name in re.findall(r"\bhc((?:\.[A-Za-z_]\w*)+)", text)}
    for module, row in re.findall(r"^(?:>>> )?from (hiercorr[\w.]*) import (.+)$", text, re.M):
        names |= {f"{module}.{name.split()[0]}" for name in row.split(", ")}
    assert [name for name in sorted(names) if not resolves(name)] == []


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_files_in_pages_exist(path):
    text = path.read_text(encoding="utf-8")
    links = [link for link in LINK.findall(text) if "generated/" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []
    names = {a or b for a, b in FILE.findall(LINK.sub("]()", text))}
    assert [name for name in sorted(names) if not any(ROOT.glob(name.rstrip("/")))] == []


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_pages_show_their_warnings(path):
    text = path.read_text(encoding="utf-8")
    hidden = ('simplefilter("ignore', 'filterwarnings("ignore', "remove-stderr", "remove-output")
    assert [word for word in hidden if word in text] == []


def test_names_in_the_reference_resolve():
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    documented = re.findall(r"^   (hiercorr\.[\w.]+)$", text, re.M)
    assert len(documented) > 60
    assert [name for name in documented if not resolves(name)] == []
    shown = {name.removeprefix("hiercorr.").split(".")[0] for name in documented}
    assert set(hc.__all__) - shown == {"__version__"}
    assert {f"hiercorr.plotting.{name}" for name in hc.plotting.__all__} <= set(documented)


def test_the_gallery_shows_every_plot():
    text = (ROOT / "docs/gallery.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"(?:plot|plotting)\.(\w+)\(", text))
    assert set(hc.plotting.__all__) - drawn == set()


def messages() -> list[str]:
    """Every text of the package, with an ellipsis for each value in it."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


@pytest.mark.slow
def test_messages_in_the_faq_exist():
    text = (ROOT / "docs/faq.md").read_text(encoding="utf-8")
    asked = re.findall(r"^### `(.+)`$", text, re.M)
    known = messages()
    assert len(asked) > 15
    assert [message for message in asked if not any(message in k for k in known)] == []


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_names_in_docstrings_resolve(path):
    text = path.read_text(encoding="utf-8")
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    strings = [
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    roles = {name for string in strings for name in ROLE.findall(string)}
    assert [name for name in sorted(roles) if not resolves_in(name, module)] == []
    assert [name for name in sorted(set(DOTTED.findall(text))) if not resolves(name)] == []
