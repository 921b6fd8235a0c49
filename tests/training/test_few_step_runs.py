"""Runs of consistency tuning and of distillation: what they remember outlives a stop."""

import dataclasses
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from small_network import model_of
from tiny_run import tiny

import edm_jax
from edm_jax import generation, samplers
from edm_jax.model import Model
from edm_jax.training import loop
from edm_jax.training.config import LossConfig

pytestmark = pytest.mark.usefixtures("small_networks")
CONSISTENCY = dict(
    preconditioner="consistency",
    preconditioner_arguments={"sigma_min": 0.0, "noise_scale": 0.25},
)


def model_config(**changes):
    data = dict(resolution=8, channels=1, label_dim=10)
    return dataclasses.replace(tiny().model, **data | changes)


@pytest.fixture(scope="module")
def teacher(small_networks, tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "model"
    edm_jax.save(model_of(model_config()), path)
    return path


def read(workdir):
    with ocp.StandardCheckpointer() as reader:
        return jax.tree.map(np.asarray, reader.restore(workdir / "checkpoints/6/state"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ect", "scm"])
def test_what_an_objective_remembers_outlives_a_stop(name, teacher, tmp_path):
    """Six steps, and the last two of them again: they begin in the middle of a stage."""
    if name == "ect":
        loss = LossConfig(name="ect", arguments={"stage_kimg": 0.048})
    else:
        arguments = {"warmup_kimg": 0.08}
        loss = LossConfig(name="scm", arguments=arguments, uncertainty=True, teacher=str(teacher))
    config = tiny(
        model=dataclasses.replace(tiny().model, **CONSISTENCY), loss=loss, optimizer="radam",
        init=str(teacher), duration_kimg=0.096, ema_more_kimg=(), ema_power=(),
        ema_snapshot_kimg=0.0,
    )  # fmt: skip
    loop.train(config, str(tmp_path / "once"), quiet=True)
    shutil.copytree(tmp_path / "once", tmp_path / "twice")
    shutil.rmtree(tmp_path / "twice" / "checkpoints" / "6")
    loop.train(config, str(tmp_path / "twice"), quiet=True)
    once, twice = read(tmp_path / "once"), read(tmp_path / "twice")
    jax.tree.map(np.testing.assert_array_equal, once, twice)
    kept, params = once["objective"]["kept"], edm_jax.load(teacher).params
    if name == "ect":
        assert (kept["number"], kept["images"]) == (2, 0)
    else:
        assert kept["images"] == 80
        jax.tree.map(np.testing.assert_array_equal, kept["teacher"]["params"], params)
    # It began with the weights of the other model, and is drawn from in two calls.
    model = edm_jax.load(tmp_path / "once")
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), model.params, params)
    assert 0 < max(jax.tree.leaves(moved)) < 0.05
    assert generation.sampler_for(model).nfe == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cmt", "meanflow"])
def test_the_others_go_on_from_a_model_and_are_drawn_from_in_two_calls(name, teacher, tmp_path):
    changes: dict = {"model": dataclasses.replace(tiny().model, flow_map=True)}
    if name == "cmt":  # two examples on a device, of which the first gives the path
        changes["model"] = dataclasses.replace(tiny().model, **CONSISTENCY)
    arguments = {"solver": "euler", "num_steps": 2} if name == "cmt" else {"p": 1.0}
    distilled = str(teacher) if name == "cmt" else None
    config = tiny(
        loss=LossConfig(name=name, arguments=arguments, teacher=distilled), init=str(teacher),
        duration_kimg=0.096, ema_more_kimg=(), ema_power=(), ema_snapshot_kimg=0.0, **changes,
    )  # fmt: skip
    loop.train(config, str(tmp_path / "run"), quiet=True)
    model, params = edm_jax.load(tmp_path / "run"), edm_jax.load(teacher).params
    far = {n: np.abs(np.asarray(leaf["kernel"]) - (params[n]["kernel"] if n in params else 0)).max()
           for n, leaf in model.params.items()}  # fmt: skip
    assert set(far) - set(params) == (set() if name == "cmt" else {"map_jump"})
    assert all(0 < moved < 0.05 for moved in far.values())
    edm_jax.save(model, tmp_path / "saved")
    again = edm_jax.load(tmp_path / "saved")
    assert again.config == model.config and again.config.is_consistency
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
    assert generation.sampler_for(again) == samplers.consistency([80.0, 0.625, 0.0], sigma_min=0.0)


def test_a_teacher_of_other_images_or_no_denoiser_is_refused(teacher, tmp_path):
    loss = LossConfig(name="scm", teacher=str(teacher))
    model = Model.build(model_config(**CONSISTENCY, label_dim=3), None)
    with pytest.raises(ValueError, match="teacher must be a model of label_dim 3, got one of 10"):
        loss.build(model)
    model = Model.build(model_config(**CONSISTENCY, label_dropout=0.1), None)
    with pytest.raises(ValueError, match="label_dropout must be 0 with loss.teacher"):
        loss.build(model)
    distilled = model.replace(params=Model.init(jax.random.key(0), model.config).params)
    edm_jax.save(distilled, tmp_path / "tuned")
    with pytest.raises(ValueError, match="teacher must be a denoiser .*got a consistency model"):
        dataclasses.replace(loss, teacher=str(tmp_path / "tuned")).build(model)
    with pytest.raises(ValueError, match="must be among .*got 'teacher'"):
        dataclasses.replace(loss, name="edm").build(Model.build(model_config(), None))
