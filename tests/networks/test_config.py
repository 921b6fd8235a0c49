"""Configurations: a class for each architecture, records of them, networks made of them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from edm_jax import preconditioning
from edm_jax.model import Model
from edm_jax.networks import ModelConfig, adm, config, ddpmpp, edm2, ncsnpp

FORMER = {
    "embedding_type": "positional", "channel_mult_noise": 1, "encoder_type": "standard",
    "decoder_type": "standard", "resample_filter": [1, 1],
}  # fmt: skip


@pytest.mark.parametrize("make", [ddpmpp, ncsnpp, adm, edm2])
def test_a_record_gives_the_configuration_back(make):
    before = make(resolution=16, preconditioner_arguments={"sigma_data": 0.7}, label_dim=3)
    record = json.loads(before.to_json())
    after = ModelConfig.from_dict(record)
    assert record["architecture"] == before.architecture == type(before).architecture
    assert type(after) is type(before) and after == before and hash(after) == hash(before)
    assert after != dataclasses.replace(before, preconditioner_arguments={"sigma_data": 0.6})


def test_records_of_the_time_when_one_class_had_all_settings():
    record = json.loads(adm(num_blocks=2).to_json())
    assert not set(FORMER) & set(record)
    assert ModelConfig.from_dict(record | FORMER) == adm(num_blocks=2)
    record = json.loads(ddpmpp().to_json())
    del record["architecture"], record["remat"], record["class_names"]
    assert ModelConfig.from_dict(record) == ddpmpp()


@pytest.mark.parametrize(
    "record, message",
    [
        ({"architecture": "dhariwol"}, "architecture must be one of.*did you mean 'dhariwal'"),
        ({"architecture": ["song"]}, "architecture must be one of song, dhariwal"),
        ({"colour": 1}, "the settings of 'song' must be among .*, got 'colour'"),
        ({"architecture": "dhariwal", "embedding": 1}, "of 'dhariwal' .*, got 'embedding'"),
        ({"label_dim": 3, "class_names": ["a"]}, "class_names must be as many as label_dim, 3"),
        ({"label_dim": 1, "class_names": [1]}, r"must be a list of texts, got \(1,\)"),
        ({"label_dim": 1, "class_names": 1}, "must be a list of texts, got 1"),
    ],
)
def test_wrong_records_are_refused(record, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_dict(record)


def test_every_setting_has_a_meaning_of_its_own():
    for kind in config.ARCHITECTURES.values():
        texts = [field.metadata["help"] for field in dataclasses.fields(kind)]
        assert all(len(text) > 10 for text in texts) and len(set(texts)) == len(texts)


def test_a_configuration_is_static_under_jit():
    traces = []

    def side(model, x):
        traces.append(model)
        return x * model.resolution

    jitted = jax.jit(side, static_argnums=0)
    for resolution in (8, 8, 16):
        made = ddpmpp(resolution=resolution, channel_mult=[1], preconditioner_arguments={"a": 1})
        assert float(jitted(made, 1.0)) == resolution
    assert len(traces) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.resolution = 4


def test_a_further_architecture_is_a_class_in_the_table(monkeypatch):
    class Linear(nn.Module):
        img_resolution: int
        in_channels: int
        out_channels: int
        dtype: jnp.dtype
        slope: float

        @nn.compact
        def __call__(self, x, c_noise, class_labels, augment_labels, dropout_keys=None):
            return x * self.slope

    @dataclasses.dataclass(frozen=True)
    class LinearConfig(config.ModelConfig):
        module = Linear
        architecture: str = config.setting("linear", "of the network", init=False)
        slope: float = config.setting(2.0, "of the line")

        def network(self):
            return Linear(self.resolution, self.channels, self.channels, self.dtype, self.slope)

    monkeypatch.setitem(config.ARCHITECTURES, "linear", LinearConfig)
    record = json.loads(LinearConfig(resolution=4, slope=3.0, preconditioner="x0").to_json())
    model = Model.build(ModelConfig.from_dict(record), {})
    x = jnp.ones((2, 4, 4, 3))
    assert (model.denoiser()(x, 0.5) == 3.0 * x / 1.25**0.5).all()


def test_who_predicts_a_variance():
    assert not ddpmpp().predicts_variance
    assert ddpmpp(learned_variance=True).predicts_variance
    assert adm(preconditioner="iddpm").predicts_variance
    assert adm(preconditioner="iddpm", channels=1).network().out_channels == 2


def test_preconditioners_by_name():
    build = preconditioning.build
    assert build("edm", sigma_data=0.7) is build("edm", sigma_data=0.7)
    assert build("edm", sigma_data=0.7) is not build("edm", sigma_data=0.6)
    levels = [0.5, 1.0, 2.0]  # as JSON gives them, or as an array
    assert build("v", levels=levels) is build("v", levels=np.array(levels))
    assert build("v", levels=levels).sigma_max == 2.0
    with pytest.raises(ValueError, match="arguments of 'v'.*unhashable"):
        build("v", levels={"sigma": levels})
    with pytest.raises(ValueError, match="preconditioner must be one of.*did you mean 'iddpm'"):
        build("idpm")
    with pytest.raises(ValueError, match=r"arguments of 'edm'.*sigma_dat"):
        build("edm", sigma_dat=0.7)
