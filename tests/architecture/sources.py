"""What a tree of sources says about itself. Pure: text goes in, imports and names come out; nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

PACKAGES = ("protocol", "learner", "actor")


@dataclass(frozen=True)
class Import:
    """One imported name. `eager`: executed when the module is imported. `typing`: only a type checker sees it."""

    name: str
    line: int
    eager: bool
    typing: bool


@dataclass(frozen=True)
class Source:
    """One file of the tree: `path` is relative to the repository root, with forward slashes."""

    path: str
    text: str

    @property
    def package(self) -> str:
        return self.path.split("/", maxsplit=1)[0] if "/" in self.path else ""

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        return tuple(_imports(self.tree, self._parent(), eager=True, typing=False))

    def _parent(self) -> str:
        return self.path.rsplit("/", 1)[0].replace("/", ".")

    def dotted(self) -> Iterator[tuple[str, int]]:
        """Every dotted name that is read, as in `np.load` or `os.environ`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute) and (name := dotted(node)):
                yield name, node.lineno


Tree = Mapping[str, Source]


def tree_of(files: Mapping[str, str]) -> Tree:
    return {path: Source(path, text) for path, text in files.items()}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (head := dotted(node.value)):
        return f"{head}.{node.attr}"
    return ""


def _imports(node: ast.AST, parent: str, *, eager: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for name in _names(child, parent):
            yield Import(name, getattr(child, "lineno", 0), eager, typing)
        if isinstance(child, ast.If) and dotted(child.test).endswith("TYPE_CHECKING"):
            for statement in child.body:
                yield from _imports(ast.Module([statement], []), parent, eager=False, typing=True)
            yield from _imports(ast.Module(child.orelse, []), parent, eager=eager, typing=typing)
            continue
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _imports(child, parent, eager=eager and not inside, typing=typing)


def _names(node: ast.AST, parent: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = _resolve(node.module or "", node.level, parent)
        return [base, *(f"{base}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Call) and dotted(node.func) in {"importlib.import_module", "import_module", "__import__"}:
        return [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return []


def _resolve(module: str, level: int, parent: str) -> str:
    if not level:
        return module
    parts = parent.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *([module] if module else [])])


def top(name: str) -> str:
    return name.partition(".")[0]


def room(name: str) -> str:
    """The package or file of its house that a module is in; empty for the house itself."""
    return name.split(".")[1] if "." in name else ""


def within(name: str, roots: frozenset[str]) -> bool:
    return any(name == root or name.startswith(root + ".") for root in roots)


def house(tree: Tree) -> Iterator[Source]:
    return (s for s in tree.values() if s.package in PACKAGES and s.path.endswith(".py"))


def python_files(tree: Tree) -> Iterator[Source]:
    return (s for s in tree.values() if s.path.endswith(".py"))


def closure(start: Source, tree: Tree) -> dict[str, Source]:
    """The modules of this house that importing `start` executes, itself included; `config` ends a path."""
    by_module = {s.module: s for s in house(tree)}
    seen = {start.module: start}
    todo = [start]
    while todo:
        for imported in todo.pop().imports:
            source = by_module.get(imported.name)
            if source and imported.eager and source.module not in seen and not source.module.endswith(".config"):
                seen[source.module] = source
                todo.append(source)
    return seen
