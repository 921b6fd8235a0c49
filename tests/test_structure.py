"""The house holds: a room imports only from rooms below it, and nothing in a circle."""

import ast
import pathlib

import edm_jax

ROOT = pathlib.Path(edm_jax.__file__).parent
# From the ground up. A room is a package, or a module beside the packages.
ORDER = (
    "quoting checks options convolutions randomness schedules tables timesteps preconditioning "
    "ideal score samplers tuning guidance inverse objectives likelihood latents networks augment "
    "model runtime data weights generation evaluation training __init__ cli __main__"
).split()
THEORY = ORDER[: ORDER.index("networks")]
THEORY_LIBRARIES = {"jax", "numpy", "diffrax", "equinox"}


def modules():
    """(dotted name below edm_jax, syntax tree) of every module."""
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        yield name, ast.parse(file.read_text())


def imports(tree, known):
    """The modules that a tree imports, at its top or inside of functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("edm_jax.") in known else node.module


TREES = dict(modules())
GRAPH = {
    name: {
        target.removeprefix("edm_jax.") if target != "edm_jax" else "__init__"
        for target in imports(tree, TREES)
        if target.split(".")[0] == "edm_jax"
    }
    - {name}
    for name, tree in TREES.items()
}


def test_no_arrow_points_upwards():
    upwards = []
    for name, targets in GRAPH.items():
        here = ORDER.index(name.split(".")[0])
        upwards += [(name, t) for t in targets if ORDER.index(t.split(".")[0]) > here]
    assert not upwards


def test_no_circle():
    # A package's own __init__ imports its modules; they must not import it back.
    done, path = set(), []

    def visit(name):
        assert name not in path, [*path[path.index(name) :], name]
        if name in done:
            return
        path.append(name)
        for target in GRAPH.get(name, ()):
            visit(target)
        path.pop()
        done.add(name)

    for name in GRAPH:
        visit(name)


def test_theory_knows_jax_and_numpy_alone():
    standard = __import__("sys").stdlib_module_names
    for name, tree in TREES.items():
        if name.split(".")[0] in THEORY:
            found = {target.split(".")[0] for target in imports(tree, TREES)} - standard
            assert found <= THEORY_LIBRARIES | {"edm_jax"}, name


def test_devices_and_processes_are_known_in_one_room():
    words = ("pmap", "devices", "local_devices", "process_index", "process_count")
    for name, tree in TREES.items():
        if name.split(".")[0] != "runtime":
            for node in ast.walk(tree):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    assert not (node.value.id == "jax" and node.attr in words), (name, node.attr)


def test_files_of_tests_have_names_of_their_own():
    """pytest imports them by their names alone."""
    names = sorted(f.name for f in pathlib.Path(__file__).parent.rglob("*.py"))
    twice = {a for a, b in zip(names, names[1:]) if a == b}
    assert twice <= {"conftest.py"}
