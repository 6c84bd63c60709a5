"""The house rules as a table. Pure: sources go in as text, violations come out; nothing is imported or executed.

Each entry carries a sample that breaks it and a sample that nearly does, because a check that cannot fail is a defect.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.architecture.sources import PACKAGES, Source, Tree, closure, dotted, house, python_files, room, top, within

IMPURE = frozenset(
    {"aiohttp", "asyncio", "datetime", "multiprocessing", "selectors", "signal", "socket", "ssl", "subprocess"}
    | {"threading", "time", "uvloop", "zmq"}
)
GYMNASIUM_FILES = " ".join(
    f"actor/environments/{name}.py"
    for name in ("registry", "conversion", "contract", "masks", "wrappers", "child_main")
)
ZEROMQ_FILES = " ".join(f"protocol/transport/{name}.py" for name in ("learner_sockets", "actor_sockets", "sockets"))
SINK_FILES = " ".join(f"learner/monitoring/sinks/{name}.py" for name in ("tensorboard", "wandb", "mlflow"))
HEAVY = frozenset({"torch", "gymnasium"})
TORCH_FILES = (
    *(f"actor/networks/{name}.py" for name in ("encoders", "own", "torch_policy")),
    "actor/evaluation/portable.py",
)
TORCH_MODULES = frozenset(path[:-3].replace("/", ".") for path in TORCH_FILES)
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 60
MAX_ENTRIES = 20


# Rooms of each house from the ground up: a room is a file or a package, and imports only what stands before it.
ORDER = {
    "protocol": "errors setting_names settings annealing buffers layout messages moments frames codecs updates snapshot"
    " session manifest shipped process transport",
    "learner": "config events progress optim admission stream durability apply_batch shutdown state monitoring security"
    " launch threads analysis service daemon cli __main__",
    "actor": "traits config spaces stats events compression monitoring networks environments handoff link"
    " algorithms state evaluation initial worker service cli __main__",
}

Finding = tuple[str, int, str]  # path, line, what


@dataclass(frozen=True)
class Rule:
    """One rule: why it exists, how it finds violations, a tree that breaks it and a tree that does not."""

    name: str
    why: str
    find: Callable[[Tree], Iterator[Finding]]
    broken: dict[str, str]
    sound: dict[str, str]


def _never_imports(importer: str, forbidden: frozenset[str]) -> Callable[[Tree], Iterator[Finding]]:
    def find(tree: Tree) -> Iterator[Finding]:
        for source in house(tree):
            for found in source.imports:
                if source.package == importer and within(found.name, forbidden):
                    yield source.path, found.line, f"imports {found.name}"

    return find


def _only_in(
    names: frozenset[str], homes: str, packages: tuple[str, ...] = PACKAGES
) -> Callable[[Tree], Iterator[Finding]]:
    allowed = tuple(homes.split())

    def find(tree: Tree) -> Iterator[Finding]:
        for source in house(tree):
            if source.package not in packages or source.path.startswith(allowed):
                continue
            for found in source.imports:
                if within(found.name, names):
                    yield source.path, found.line, f"imports {found.name}"

    return find


def _protocol_dependencies(tree: Tree) -> Iterator[Finding]:
    allowed = sys.stdlib_module_names | {"protocol", "numpy", "msgpack", "msgspec", "zstandard", "zmq"}
    for source in house(tree):
        for found in source.imports:
            if source.package == "protocol" and top(found.name) not in allowed:
                yield source.path, found.line, f"imports {found.name}"


def _torch_is_late(tree: Tree) -> Iterator[Finding]:
    for source in house(tree):
        for found in source.imports:
            if source.package == "learner" and top(found.name) == "torch" and found.eager:
                yield source.path, found.line, f"imports {found.name} before it is needed"


def _actors_torch_is_late(tree: Tree) -> Iterator[Finding]:
    for source in house(tree):
        for found in source.imports:
            needed = source.path in TORCH_FILES  # nobody imports it who does not want torch
            if found.eager and not needed and within(found.name, TORCH_MODULES):
                yield source.path, found.line, f"imports {found.name} before it is needed"


def _no_networks(tree: Tree) -> Iterator[Finding]:
    for source in house(tree):
        if source.package != "learner":
            continue
        names = [(f.name, f.line) for f in source.imports] + list(source.dotted())
        for name, line in names:
            if within(name, frozenset({"torch.nn"})):
                yield source.path, line, f"uses {name}"


def _cli_is_light(tree: Tree) -> Iterator[Finding]:
    for source in house(tree):
        if not source.path.endswith(("/cli.py", "/config.py")):
            continue
        for reached in closure(source, tree).values():
            for found in reached.imports:
                if found.eager and top(found.name) in HEAVY:
                    yield source.path, 1, f"loads {found.name} through {reached.path}:{found.line}"


def pure(source: Source) -> bool:
    """Whether its docstring says so: "Pure." or "Pure and ..." or "Pure; ..."."""
    return re.search(r"\bPure\b", ast.get_docstring(source.tree) or "") is not None


def _pure_imports(tree: Tree) -> Iterator[Finding]:
    for source in filter(pure, house(tree)):
        for found in source.imports:
            if top(found.name) in IMPURE:
                yield source.path, found.line, f"imports {found.name}"


def _pure_company(tree: Tree) -> Iterator[Finding]:
    for source in filter(pure, house(tree)):
        for reached in closure(source, tree).values():
            for found in reached.imports:
                if reached is not source and found.eager and top(found.name) in IMPURE:
                    yield source.path, 1, f"reaches {found.name} through {reached.path}:{found.line}"


def _pure_environment(tree: Tree) -> Iterator[Finding]:
    names = frozenset({"os.environ", "os.environb", "os.getenv", "os.putenv", "os.urandom"})
    for source in filter(pure, house(tree)):
        for name, line in [*((f.name, f.line) for f in source.imports), *source.dotted()]:
            if within(name, names):
                yield source.path, line, f"uses {name}"


def _no_code_from_data(tree: Tree) -> Iterator[Finding]:
    modules = frozenset({"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"})
    names = frozenset({"torch.load", "torch.save", "torch.jit.load"})
    for source in house(tree):
        for name, line in [*((f.name, f.line) for f in source.imports), *source.dotted()]:
            if within(name, modules | names):
                yield source.path, line, f"uses {name}"
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
                yield source.path, node.lineno, f"calls {node.func.id}"
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and not _is_false(node.value):
                yield source.path, node.value.lineno, "allows pickle"


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _order(tree: Tree) -> Iterator[Finding]:
    by_module = {source.module: source for source in house(tree)}
    for source in house(tree):
        order, own = ORDER[source.package].split(), room(source.module) if source.module != source.package else ""
        if own and own not in order:
            yield source.path, 1, f"is in {own}, which has no place in the order"
            continue
        for found in source.imports:
            other = room(found.name) if found.name in by_module and top(found.name) == source.package else ""
            if other in order and order.index(other) > order.index(own):
                yield source.path, found.line, f"imports {found.name}, and {other} stands above {own}"


def _circles(tree: Tree) -> Iterator[Finding]:
    by_module = {source.module: source for source in house(tree)}
    imports = {
        m: {i.name for i in s.imports if i.name in by_module and not i.typing} - {m} for m, s in by_module.items()
    }
    while free := [module for module, others in imports.items() if not others & imports.keys()]:
        for module in free:
            del imports[module]
    for module, others in imports.items():
        yield by_module[module].path, 1, f"is in a circle, or imports one: {', '.join(sorted(others & imports.keys()))}"


def _reading_order(tree: Tree) -> Iterator[Finding]:
    for source in house(tree):
        folder, _, name = source.path.rpartition("/")
        if name != "__init__.py" or "/" not in folder:
            continue
        said = (ast.get_docstring(source.tree) or "").partition("In reading order:")[2]
        listed = re.findall(r"\w+", said)
        there = {p.rpartition("/")[2][:-3] for p in tree if p.rpartition("/")[0] == folder and p.endswith(".py")}
        for missing in sorted((there - {"__init__"}) ^ set(listed)):
            yield source.path, 1, f"its reading order and its files disagree about {missing}"


def _docstrings(tree: Tree) -> Iterator[Finding]:
    for source in python_files(tree):
        empty_marker = source.path.startswith("tests/") and not source.text.strip()
        if not empty_marker and not (ast.get_docstring(source.tree) or "").strip():
            yield source.path, 1, "begins without a docstring"


def _file_sizes(tree: Tree) -> Iterator[Finding]:
    for source in house(tree):
        if (lines := source.text.count("\n")) > MAX_FILE_LINES:
            yield source.path, MAX_FILE_LINES + 1, f"has {lines} lines, more than {MAX_FILE_LINES}"


def _function_sizes(tree: Tree) -> Iterator[Finding]:
    for source in python_files(tree):
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (node.end_lineno or node.lineno) - node.body[0].lineno + 1  # a command's flags are a table above it
            if lines > MAX_FUNCTION_LINES:
                yield source.path, node.lineno, f"{node.name} has {lines} lines, more than {MAX_FUNCTION_LINES}"


def _no_drawers(tree: Tree) -> Iterator[Finding]:
    for source in python_files(tree):
        if source.path.rsplit("/", 1)[-1] in {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}:
            yield source.path, 1, "is named after nothing"


def _no_registries(tree: Tree) -> Iterator[Finding]:
    hosts = re.compile(r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.org|registry\.npmjs\.org")
    for source in tree.values():
        for number, line in enumerate(source.text.splitlines(), start=1):
            if found := hosts.search(line):
                yield source.path, number, f"names the registry {found.group()}"


def _tests_are_packages(tree: Tree) -> Iterator[Finding]:
    folders = {s.path.rsplit("/", 1)[0] for s in python_files(tree) if s.path.startswith("tests/")}
    for folder in sorted(folders):
        if f"{folder}/__init__.py" not in tree:
            yield folder, 1, "has no __init__.py"


def _privates(tree: Tree) -> Iterator[Finding]:
    public = {"_exit", "_fields", "_replace", "_asdict", "_make"}  # of the standard library, underscored by custom
    for source in python_files(tree):
        if not source.path.startswith("tests/"):
            continue
        nodes = list(ast.walk(source.tree))
        own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
        own |= {
            node.attr for node in nodes if isinstance(node, ast.Attribute) and dotted(node.value) in {"self", "cls"}
        }
        for node in nodes:
            for name, line in _named(node):
                if re.match(r"_[^_]", name) and name not in own | public:
                    yield source.path, line, f"touches {name}"


def _named(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Names that a node asks another object or module for."""
    if isinstance(node, ast.Attribute):
        yield node.attr, node.lineno
    if isinstance(node, ast.ImportFrom):
        yield from ((alias.name, node.lineno) for alias in node.names)
    if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in {"getattr", "setattr", "delattr"}:
        for argument in node.args[:2]:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value.rpartition(".")[2], node.lineno


def _folders_are_rooms(tree: Tree) -> Iterator[Finding]:
    held: dict[str, set[str]] = {}
    for path in tree:
        folder, _, name = path.rpartition("/")
        while folder:
            held.setdefault(folder, set()).add(name)
            folder, _, name = folder.rpartition("/")
    for folder, names in sorted(held.items()):
        if "__init__.py" in names and len(names) > MAX_ENTRIES:
            yield folder, 1, f"holds {len(names)} entries, more than {MAX_ENTRIES}"


RULES = (
    Rule(
        "the protocol knows neither side",
        "what both sides agree on cannot depend on one of them",
        _never_imports("protocol", frozenset({"learner", "actor", "tests"})),
        {"protocol/frames.py": "from learner.state import State"},
        {"protocol/frames.py": "from protocol.errors import FrameError"},
    ),
    Rule(
        "the learner does not know the actor",
        "the learner's machine has no simulator",
        _never_imports("learner", frozenset({"actor", "tests", "gymnasium"})),
        {"learner/state.py": "def f():\n    from actor import losses"},
        {"learner/state.py": "import actors_of_another_house"},
    ),
    Rule(
        "the actor does not know the learner",
        "all that an actor may know of the learner is on the wire",
        _never_imports("actor", frozenset({"learner", "tests"})),
        {"actor/service.py": "import learner.state as s"},
        {"actor/service.py": "from protocol import messages"},
    ),
    Rule(
        "the protocol has few dependencies",
        "an actor in another language has to do the same with as little",
        _protocol_dependencies,
        {"protocol/codecs/registry.py": "import torch"},
        {"protocol/codecs/registry.py": "import struct\nimport numpy as np"},
    ),
    Rule(
        "ZeroMQ lives in three files",
        "socket options and their traps are one worry",
        _only_in(
            frozenset({"zmq"}),
            "protocol/transport/learner_sockets.py protocol/transport/actor_sockets.py protocol/transport/sockets.py",
        ),
        {"learner/service.py": "import zmq.asyncio"},
        {"protocol/transport/learner_sockets.py": "import zmq"},
    ),
    Rule(
        "the learner's torch lives in one file",
        "the learner owns numbers; torch is its optimizer and nothing else",
        _only_in(frozenset({"torch"}), "learner/optim/optimizers.py", ("learner",)),
        {"learner/optim/parameters.py": "def f():\n    import torch"},
        {"learner/optim/optimizers.py": "def f():\n    import torch", "actor/networks/torch_policy.py": "import torch"},
    ),
    Rule(
        "the learner's torch comes late",
        "plain addition needs numpy only, and a learner that adds should start at once",
        _torch_is_late,
        {"learner/optim/optimizers.py": "import torch"},
        {"learner/optim/optimizers.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"},
    ),
    Rule(
        "the actor's torch lives in four files",
        "a fully connected network needs numpy alone, and torch would be two thirds of its actor's memory; what writes"
        " a policy for other programs is no part of an actor's work",
        _only_in(frozenset({"torch"}), " ".join(TORCH_FILES), ("actor",)),
        {"actor/networks/layers.py": "def f():\n    import torch"},
        {"actor/networks/torch_policy.py": "from torch import nn", "learner/optim/optimizers.py": "import torch"},
    ),
    Rule(
        "the actor's torch comes late",
        "which network an actor builds it knows from the welcome, and an import before that is for nothing",
        _actors_torch_is_late,
        {"actor/evaluation/policy.py": "from actor.evaluation.portable import Portable"},
        {
            "actor/networks/build.py": "def f():\n    from actor.networks.torch_policy import TorchPolicy",
            "actor/evaluation/portable.py": "from actor.networks.torch_policy import TorchPolicy",
        },
    ),
    Rule(
        "the learner has no networks",
        "any policy trains without touching the learner",
        _no_networks,
        {"learner/optim/optimizers.py": "def f():\n    import torch\n    return torch.nn.Linear"},
        {"learner/optim/optimizers.py": "def f():\n    import torch\n    return torch.optim.Adam"},
    ),
    Rule(
        "Gymnasium lives in few files",
        "what it changes from release to release is one worry: registry, spaces, one environment in its process",
        _only_in(frozenset({"gymnasium"}), GYMNASIUM_FILES),
        {"actor/algorithms/rollout.py": "import gymnasium as gym"},
        {
            "actor/environments/registry.py": "import gymnasium as gym",
            "actor/environments/conversion.py": "from gymnasium.spaces import Box",
        },
    ),
    Rule(
        "EnvPool lives in one file",
        "which of its tasks are Gymnasium's, and what it checks too late, is one worry; its import takes half a second",
        _only_in(frozenset({"envpool"}), "actor/environments/pool.py"),
        {"actor/environments/registry.py": "import envpool"},
        {"actor/environments/pool.py": "def f():\n    import envpool"},
    ),
    Rule(
        "Prometheus lives in one file per daemon",
        "metric names are an interface and want one place to be read",
        _only_in(frozenset({"prometheus_client"}), "learner/monitoring/metrics.py actor/monitoring/metrics.py"),
        {"learner/monitoring/web.py": "from prometheus_client import REGISTRY"},
        {"learner/monitoring/metrics.py": "import prometheus_client"},
    ),
    Rule(
        "pictures and charts of other programs are made in few files",
        "a learner trains where neither matplotlib nor tensorboard, wandb nor mlflow is installed",
        _only_in(
            frozenset({"matplotlib", "PIL", "tensorboard", "wandb", "mlflow"}),
            f"learner/analysis/plot.py learner/analysis/export.py {SINK_FILES}",
            ("learner",),
        ),
        {"learner/service.py": "def f():\n    from matplotlib.figure import Figure"},
        {"learner/analysis/plot.py": "import matplotlib", "actor/evaluation/rendering.py": "from PIL import Image"},
    ),
    Rule(
        "msgpack belongs to the protocol",
        "decoding needs bounds, and the bounds are kept in one place",
        _only_in(frozenset({"msgpack", "msgspec.msgpack"}), "protocol/ learner/durability/journal_format.py"),
        {"actor/service.py": "from msgspec import msgpack"},
        {"actor/service.py": "from msgspec import Struct", "protocol/messages.py": "import msgspec.msgpack"},
    ),
    Rule(
        "help is quick",
        "`learner run --help` has 300 ms, and torch alone takes a second",
        _cli_is_light,
        {"actor/cli.py": "from actor.service import serve", "actor/service.py": "import torch"},
        {"actor/cli.py": "def f():\n    from actor.service import serve", "actor/service.py": "import torch"},
    ),
    Rule(
        "pure modules import no clocks, sockets or threads",
        "a decision must replay bit for bit from its events",
        _pure_imports,
        {"learner/state.py": '"""Decides. Pure."""\ndef f():\n    from time import monotonic'},
        {"learner/service.py": "import time", "learner/state.py": '"""Pure."""\nimport timeit_of_another_house'},
    ),
    Rule(
        "pure modules keep pure company",
        "an impurity one import away is still there",
        _pure_company,
        {
            "learner/state.py": '"""Pure."""\nfrom protocol.transport import sockets',
            "protocol/transport/sockets.py": "import socket",
        },
        {"learner/state.py": '"""Pure."""\nfrom protocol import frames', "protocol/frames.py": "import struct"},
    ),
    Rule(
        "pure modules read no environment",
        "settings are arguments; the environment is read once, at the edge",
        _pure_environment,
        {"actor/algorithms/losses.py": '"""Pure. No clock."""\nimport os\nDEBUG = os.environ.get("DEBUG")'},
        {"actor/worker.py": "import os\nos.environ['OMP_NUM_THREADS'] = '1'"},
    ),
    Rule(
        "nobody imports upwards",
        "one gradient's way meets each package once and in one direction",
        _order,
        {
            "learner/optim/parameters.py": "def f():\n    from learner.stream.delta import Record",
            "learner/stream/delta.py": "",
        },
        {
            "learner/stream/delta.py": "from learner.optim.parameters import Parameters\nimport protocol.frames",
            "learner/optim/parameters.py": "",
            "protocol/frames.py": "",
        },
    ),
    Rule(
        "no circle",
        "of two files that need each other neither can be read first",
        _circles,
        {"learner/optim/drift.py": "import learner.optim.undo", "learner/optim/undo.py": "import learner.optim.drift"},
        {"learner/optim/drift.py": "import learner.optim.undo", "learner/optim/undo.py": "import numpy"},
    ),
    Rule(
        "a package lists its files in reading order",
        "the list is the first thing that a reader follows",
        _reading_order,
        {"actor/link/__init__.py": '"""Link. In reading order: weights."""', "actor/link/drain.py": ""},
        {"actor/link/__init__.py": '"""Link. In reading order: drain."""', "actor/link/drain.py": ""},
    ),
    Rule(
        "data never becomes code",
        "a peer or a file that can be unpickled owns the machine",
        _no_code_from_data,
        {"actor/networks/flat.py": "import torch\nx = torch.load('theta.pt', weights_only=True)"},
        {"actor/networks/flat.py": "def f(model):\n    model.eval()\n    return np.load(p, allow_pickle=False)"},
    ),
    Rule(
        "a file begins with what it may know",
        "one sentence tells the reader whether to read on",
        _docstrings,
        {"learner/state.py": "import enum"},
        {"learner/state.py": '"""Pure. No clock."""', "tests/learner/__init__.py": ""},
    ),
    Rule(
        "files stay small",
        "each file is one hop of a gradient's way",
        _file_sizes,
        {"learner/state.py": '"""Long."""\n' + "x = 1\n" * MAX_FILE_LINES},
        {"learner/state.py": '"""Full."""\n' + "x = 1\n" * (MAX_FILE_LINES - 1)},
    ),
    Rule(
        "functions stay small",
        "what does not fit on a screen is not read, only trusted",
        _function_sizes,
        {"learner/state.py": "async def f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES + 1)},
        {"learner/state.py": "async def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES},
    ),
    Rule(
        "no drawer for odds and ends",
        "a file named after nothing collects everything",
        _no_drawers,
        {"actor/utils.py": ""},
        {"actor/networks/flat.py": ""},
    ),
    Rule(
        "no registry is named",
        "where packages come from is the business of the machine that installs them",
        _no_registries,
        {"Makefile": "pip install --index-url https://" + "pypi" + ".org/simple torch"},
        {"Makefile": "pip install -c constraints.txt torch"},
    ),
    Rule(
        "tests touch no privates",
        "a test of what cannot be seen from outside holds an implementation still, and proves nothing to a user",
        _privates,
        {"tests/learner/test_state.py": "def test(it):\n    assert it.state._busy"},
        {
            "tests/disk.py": "class It:\n    def __init__(self):\n        self._n = 1\n\ndef f(it):\n    return it._n",
        },
    ),
    Rule(
        "tests are packages",
        "without __init__.py, tests/actor would shadow the package actor",
        _tests_are_packages,
        {"tests/actor/test_flat.py": ""},
        {"tests/actor/test_flat.py": "", "tests/actor/__init__.py": ""},
    ),
    Rule(
        "a package holds what one look takes in",
        "a folder of more files is a shelf: packages by concern, each with a sentence on what it may know",
        _folders_are_rooms,
        {f"learner/optim/{name}.py": "" for name in ("__init__", *"abcdefghijklmnopqrst")},
        {f"tests/fuzz/corpus/{name}.json": "" for name in "abcdefghijklmnopqrstuvwxyz"},
    ),
)
