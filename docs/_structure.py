"""Draw the structure of the package from its import statements: wings, layers, imports."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

ROOT = Path(__file__).parent.parent
PACKAGE = "hiercorr"
UPWARD = ("results", "plotting")  # result.plot imports the plots inside the property, when asked

BLUE, ORANGE, GREY, LIGHT, BAND = "#0072B2", "#D55E00", "#555555", "#B8BEC4", "#F1F4F7"

Kind = Literal["module", "lazy", "types"]
KINDS: tuple[Kind, ...] = ("module", "lazy", "types")  # a module imported twice counts as the first


@dataclass
class Structure:
    """Wings (folders and single modules), the modules in each, and the imports between them."""

    modules: Counter[str] = field(default_factory=Counter)
    imports: dict[tuple[str, str], Counter[Kind]] = field(default_factory=dict)
    layers: list[tuple[str, ...]] = field(default_factory=list)  # the top one first

    @property
    def edges(self) -> dict[tuple[str, str], int]:
        """Number of imports from one wing into another, of any kind."""
        return {pair: count.total() for pair, count in self.imports.items()}


def read_structure(root: Path = ROOT) -> Structure:
    """Read the imports of all modules, and the layers that pyproject.toml declares."""
    files = {
        _name(path, root): path
        for path in sorted((root / PACKAGE).rglob("*.py"))
        if path.name != "__main__.py"  # only calls the command line
    }
    found = Structure(modules=Counter(_wing(name) for name in files))
    for name, path in files.items():
        imports = sorted(_imports(path, name, files), key=lambda item: -KINDS.index(item[0]))
        for target, kind in {target: kind for kind, target in imports}.items():
            if name == PACKAGE and kind == "types":
                kind = "lazy"  # public names: __getattr__ imports them when they are first used
            if _wing(name) != _wing(target):
                found.imports.setdefault((_wing(name), _wing(target)), Counter())[kind] += 1
    computed = longest_paths(found)  # raises an error if there is a circle
    found.layers = _declared(root, found, computed) or computed
    _check_direction(found)
    return found


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _wing(module: str) -> str:
    return f"{module}.{PACKAGE}".split(".")[1]  # the package itself is a wing: its public names


def _imports(path: Path, name: str, files: dict[str, Path]) -> list[tuple[Kind, str]]:
    """Return the modules of the package that one file imports, and the kind of each import."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: list[tuple[Kind, str]] = []

    def visit(node: ast.AST, kind: Kind) -> None:
        if isinstance(node, ast.Import):
            found.extend((kind, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.append((kind, whole if whole in files else base))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for child in ast.iter_child_nodes(node):
                visit(child, "types" if kind == "types" else "lazy")
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, "types")
            for child in node.orelse:
                visit(child, kind)
        else:
            for child in ast.iter_child_nodes(node):
                visit(child, kind)

    visit(ast.parse(path.read_text(encoding="utf-8"), str(path)), "module")
    return [(kind, target) for kind, target in found if target.split(".")[0] == PACKAGE]


def _runtime(found: Structure) -> dict[str, set[str]]:
    """Wings that each wing imports when it runs, without the one lazy arrow that may go up."""
    below: dict[str, set[str]] = {wing: set() for wing in found.modules}
    for (wing, target), count in found.imports.items():
        allowed = (wing, target) == UPWARD and not count["module"]
        if (count["module"] or count["lazy"]) and not allowed:
            below[wing].add(target)
    return below


def longest_paths(found: Structure) -> list[tuple[str, ...]]:
    """Return layers by the longest path of imports below each wing; a circle is an error."""
    below = _runtime(found)
    height: dict[str, int] = {}

    def climb(wing: str, path: tuple[str, ...]) -> int:
        if wing in path:
            circle = " -> ".join([*path[path.index(wing) :], wing])
            raise ValueError(f"the wings of {PACKAGE} import each other in a circle: {circle}")
        if wing not in height:
            targets = sorted(below[wing])
            height[wing] = max((climb(target, (*path, wing)) + 1 for target in targets), default=0)
        return height[wing]

    for wing in sorted(below):
        climb(wing, ())
    levels = sorted(set(height.values()), reverse=True)
    return [tuple(sorted(w for w in height if height[w] == level)) for level in levels]


def _declared(
    root: Path, found: Structure, computed: list[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Return the layers of the import-linter contract; other wings go just below their users."""
    path = root / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    contracts = project.get("tool", {}).get("importlinter", {}).get("contracts", [])
    declared = [c["layers"] for c in contracts if c.get("type") == "layers"]
    if not declared:
        return []
    height = {wing: k for k, row in enumerate(computed) for wing in row}
    rows: list[tuple[str, ...]] = []
    for layer in max(declared, key=len):
        names = [name.strip(" ()") for name in layer.replace(":", "|").split("|")]
        wings = [_wing(n) if n.startswith(f"{PACKAGE}.") else n.split(".")[0] for n in names]
        row = tuple(sorted((w for w in wings if w in found.modules), key=height.__getitem__))
        rows += [row] if row else []
    placed = {wing for row in rows for wing in row}
    below = _runtime(found)
    for wing in [wing for row in computed for wing in row if wing not in placed]:
        users = [k for k, row in enumerate(rows) if any(wing in below[other] for other in row)]
        rows.insert(max(users) + 1 if users else 0, (wing,))
    return rows


def _check_direction(found: Structure) -> None:
    row = {wing: k for k, layer in enumerate(found.layers) for wing in layer}
    for wing, targets in _runtime(found).items():
        for target in sorted(targets):
            if row[target] < row[wing]:
                raise ValueError(f"{PACKAGE}.{wing} imports {PACKAGE}.{target}, which is above it")


UNIT, WIDE = 0.31, 3.7  # inches of a row or column; width of a box in columns


def structure_figure(found: Structure):
    """Draw wings as a staircase of boxes; an import goes right, then down to the imported wing."""
    wings = [wing for layer in found.layers for wing in layer]
    place = {wing: k for k, wing in enumerate(wings)}
    n = len(wings)
    fig = plt.figure(figsize=((n + WIDE) * UNIT, n * UNIT))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(-WIDE, n), ylim=(n - 0.5, -0.5))
    ax.axis("off")
    for layer in found.layers[::2]:
        corner = (-WIDE, place[layer[0]] - 0.5)
        ax.add_patch(Rectangle(corner, n + WIDE, len(layer), fc=BAND, ec="none", zorder=0))
    for wing, k in place.items():
        targets = [place[t] for w, t in found.imports if w == wing]
        users = [place[w] for w, t in found.imports if t == wing]
        if max(targets, default=k) > k:
            ax.plot([k, max(targets)], [k, k], color=LIGHT, lw=0.9, zorder=1)
        if min(users, default=k) < k:
            _arrow(ax, (k, min(users)), (k, k - 0.34), LIGHT)
        _box(ax, k + 0.42, k, wing, found.modules[wing])
    up = Counter[str]()
    for (wing, target), count in sorted(found.imports.items(), key=lambda item: -place[item[0][1]]):
        x, y = place[target], place[wing]
        if x > y:
            _mark(ax, x, y, count, BLUE)
            continue
        if x > y - WIDE:  # the own box is in the way
            x = y + 0.42 - WIDE - 0.5 - 0.85 * up[wing]
            up[wing] += 1
        runs = bool(count["module"] or count["lazy"])
        line = (ORANGE, "--") if runs else (GREY, ":")
        _arrow(ax, (x, y), (x, place[target] + 0.34), *line)
        _mark(ax, x, y, count, ORANGE)
    _legend(ax, n)
    return fig


def _box(ax, right: float, y: float, name: str, number: int | str) -> None:
    corner = (right - WIDE, y - 0.32)
    style = "round,pad=0,rounding_size=0.15"
    box = FancyBboxPatch(corner, WIDE, 0.64, boxstyle=style, fc="white", ec=GREY, zorder=3)
    ax.add_patch(box)
    text = {"fontsize": 9, "va": "center_baseline", "zorder": 4}
    ax.text(corner[0] + 0.15, y, name, **text)
    ax.text(right - 0.15, y, str(number), color=GREY, ha="right", **text)


def _arrow(ax, start: tuple[float, float], end: tuple[float, float], colour: str, ls="-") -> None:
    style = {"arrowstyle": "-|>", "color": colour, "lw": 0.9, "ls": ls, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style, zorder=1 if colour == LIGHT else 2)


def _mark(ax, x: float, y: float, count: Counter[Kind], colour: str) -> None:
    """Number of imports: filled if any is at the top of a module, dotted if none runs."""
    runs = bool(count["module"] or count["lazy"])
    colour = colour if runs else GREY
    face = colour if count["module"] else "white"
    line = "-" if runs else (0, (1, 1))
    ax.add_patch(Circle((x, y), 0.4, fc=face, ec=colour, lw=1.1, ls=line, zorder=5))
    ink = "white" if count["module"] else colour
    text = {"fontsize": 8, "color": ink, "ha": "center", "va": "center_baseline", "zorder": 6}
    ax.text(x, y, str(count.total()), **text)


def _legend(ax, n: int) -> None:
    """Explain boxes and marks in the empty corner at the lower left."""
    x, y, text = 0.15 - WIDE, n - 5.9, {"fontsize": 9, "va": "center_baseline"}
    _box(ax, x + WIDE, y - 1, "wing", "modules")
    ax.text(x + WIDE + 0.3, y - 1, "bands are layers", **text)
    marks: tuple[tuple[Kind, str, str], ...] = (
        ("module", BLUE, "imports of the row's wing from the column's wing"),
        ("lazy", BLUE, "the same, when a function is called"),
        ("lazy", ORANGE, "the one arrow up: result.plot"),
        ("types", GREY, "for type annotations only"),
    )
    for k, (kind, colour, meaning) in enumerate(marks):
        _mark(ax, x + 0.4, y + k, Counter({kind: 1}), colour)
        ax.text(x + 1.1, y + k, meaning, **text)
