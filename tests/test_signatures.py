"""Every public function says what it takes: its types, its options by name, its meaning."""

import importlib
import inspect
import pathlib
import pkgutil
import re
import typing

import pytest

import edm_jax

ROOT = pathlib.Path(edm_jax.__file__).parent
# By room: data that go together with what stands before them. All else with a default is an option.
POSITIONAL = {
    "checks.between": {"high"},
    "checks.check_keys": {"batch"},
    "generation.draw": {"labels"},
    "generation.grid_for": {"num_steps"},
    "generation.pairs": {"classes"},
    "generation.sampler_for": {"num_steps"},
    "guidance.classifier": {"scale"},
    "guidance.dynamic_threshold": {"percentile"},
    "ideal.gaussian": {"std"},
    "ideal.gaussian_log_prob": {"std"},
    "likelihood.elbo": {"keys"},
    "networks.downsample": {"resample_filter"},
    "networks.upsample": {"resample_filter"},
    "randomness.split": {"count"},
    "randomness.uniform": {"shape"},
    "runtime.initialize": {"coordinator", "num_processes", "process_id"},
    "runtime.map_local": {"count"},
    "runtime.replicate_local": {"count"},
    "runtime.split_local": {"count"},
    "samplers.sample": {"noise", "keys"},
    "timesteps.from_alphas_cumprod": {"num_steps"},
}
SELF = ("self", "cls")
CHAIN = re.compile(r"[:;,(]\s+(as|see)( in)? `")


def public():
    """(dotted name, function) of every public function and method that is written here."""
    for module in pkgutil.walk_packages(edm_jax.__path__, "edm_jax."):
        if module.name.endswith("__main__"):
            continue
        for name, thing in vars(importlib.import_module(module.name)).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.name:
                continue
            members = vars(thing).items() if inspect.isclass(thing) else [("", thing)]
            for member, function in members:
                function = inspect.unwrap(getattr(function, "__func__", function))
                if member.startswith("_") or not inspect.isfunction(function):
                    continue
                own = function.__code__.co_filename.startswith(str(ROOT))  # Flax writes some itself
                if own and function.__name__ != "<lambda>":  # a formula
                    yield f"{module.name}.{name}{member and '.'}{member}", function


FUNCTIONS = dict(public())


def within(name):
    """ "room.function" of a dotted name: in which file of a room it stands does not matter."""
    return f"{name.split('.')[1]}.{name.split('.')[-1]}"


def forms(function):
    """The signatures of a function: those of its overloads, where it has any."""
    return [inspect.signature(f) for f in typing.get_overloads(function) or [function]]


def documented():
    """(dotted name, docstring) of every public module, class and function."""
    for module in pkgutil.walk_packages(edm_jax.__path__, "edm_jax."):
        if not module.name.endswith("__main__"):
            found = importlib.import_module(module.name)
            yield module.name, found.__doc__
            for name, thing in vars(found).items():
                own = inspect.isclass(thing) and thing.__module__ == module.name
                if own and not name.startswith("_"):
                    yield f"{module.name}.{name}", thing.__doc__
    yield from ((name, function.__doc__) for name, function in FUNCTIONS.items())


def test_they_are_found():
    assert len(FUNCTIONS) > 300 and "edm_jax.samplers.multistep.dpmpp_2m" in FUNCTIONS


def test_everything_is_typed():
    untyped = [
        name
        for name, function in FUNCTIONS.items()
        for form in forms(function)
        if form.return_annotation is form.empty
        or any(p.annotation is p.empty for n, p in form.parameters.items() if n not in SELF)
    ]
    assert not untyped


def test_options_are_given_by_name():
    found = []
    for name, function in FUNCTIONS.items():
        if name.startswith("edm_jax.cli."):  # called by the command alone
            continue
        for form in forms(function):
            places = [p for p in form.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
            needed = [p for p in places if p.default is p.empty and p.name not in SELF]
            options = [p.name for p in places if p.default is not p.empty]
            # A function that needs nothing may be called with its first two numbers.
            allowed = POSITIONAL.get(within(name), set()) | (set() if needed else set(options[:2]))
            found += [(name, option) for option in options if option not in allowed]
    assert not found


@pytest.mark.parametrize("name", sorted(POSITIONAL))
def test_no_exception_is_left_over(name):
    found = [function for dotted, function in FUNCTIONS.items() if within(dotted) == name]
    assert any(POSITIONAL[name] <= set(inspect.signature(f).parameters) for f in found)


def test_everything_has_a_docstring_that_is_whole():
    pages = list(documented())
    assert not [name for name, page in pages if not page]
    chains = [(name, found[0]) for name, page in pages if (found := CHAIN.search(page))]
    assert not chains
