"""What the compiled step does between devices, and what it never does."""

import functools
import re

import jax
import pytest
import same_steps

from edm_jax.data import archive, loader
from edm_jax.runtime import engines


@functools.cache
def program(name: str) -> str:
    """The optimized program of a step on eight devices."""
    engine = engines.engine(name)
    step, initial = same_steps.parts(engine)
    state = jax.eval_shape(initial)
    rows = engine.put(loader.batch(archive.load("digits"), 0, 0, same_steps.BATCH))
    return engine.compile(step, state).lower(state, rows, engine.key(0)).compile().as_text()


def collectives(text: str) -> list[str]:
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    return re.findall(rf"= .*? ({kinds})(?:-start)?\(", text)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pmap", "jit"])
def test_one_all_reduce_a_step(name):
    # Every gradient, the loss and the sums by noise level, together.
    assert collectives(program(name)) == ["all-reduce"]


@pytest.mark.parametrize("name", ["pmap", "jit"])
def test_nothing_passes_through_the_host(name):
    assert not re.search(r"infeed|outfeed|callback|send\(|recv\(", program(name))


@pytest.mark.parametrize("name", ["pmap", "jit"])
def test_the_state_is_updated_in_place(name):
    _, initial = same_steps.parts(engines.engine(name))
    aliased = program(name).split("input_output_alias={", 1)[1].split("entry_computation", 1)[0]
    assert aliased.count("-alias") == len(jax.tree.leaves(jax.eval_shape(initial)))
