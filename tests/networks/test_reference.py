"""Every network against the reference implementation: golden files, and weights by formula."""

import network_cases as cases
import numpy as np
import pytest

from edm_jax import preconditioning
from edm_jax.model import parameter_count
from edm_jax.weights.official.names import params_from_state_dict, state_dict_from_params


@pytest.mark.slow
@pytest.mark.parametrize("name", cases.GOLDEN)
def test_denoiser_agrees_with_the_golden_file(golden, name):
    arrays = golden(f"{name}.npz")
    net, preconditioner, params = cases.golden_case(arrays)
    labels = {k: arrays[k] for k in ("class_labels", "augment_labels") if k in arrays}
    found = cases.denoise(net, preconditioner, params, arrays["x"], arrays["sigma"], **labels)
    assert cases.relative_error(found, arrays["denoised"]).max() < 1e-5


@pytest.mark.parametrize("name", cases.GOLDEN)
def test_names_come_back_complete_and_in_the_official_order(golden, name):
    arrays = golden(f"{name}.npz")
    net, _, params = cases.golden_case(arrays)
    found = state_dict_from_params(params, resample_filter=cases.taps(net))
    stored = {
        key.removeprefix("weights/"): value
        for key, value in arrays.items()
        if key.startswith("weights/") and key != "weights/u"
    }
    assert list(found) == list(stored)
    for key, value in stored.items():
        np.testing.assert_array_equal(found[key], value.astype(np.float32), err_msg=key)


# kind, preconditioner, keys, parameters; D[0,0,0,0:4], D[1,2,7,4:8] (channel first), mean, std;
# D0[0,0,0,0:3] at sigma 0.3 without labels. Computed with the reference implementation.
FORMULA = [
    ("ddpmpp", "edm", 145, 189555, (-0.103193, 0.251270, 0.267344, 0.520937),
     (0.315596, -0.105977, -0.150031, -0.047526), -0.0486514, 0.3961444,
     (-0.097220, 0.639500, 1.056673)),
    ("ncsnpp", "edm", 148, 191235, (-0.007749, 0.231325, 0.614762, 0.740254),
     (0.119188, -0.173134, -0.055804, -0.111004), -0.0535702, 0.4539125,
     (0.039594, 0.640672, 1.176766)),
    ("skip", "edm", 151, 190550, (0.122473, 0.300905, 0.447880, 0.368319),
     (-0.193499, 0.125170, 0.254743, 0.034600), -0.0038236, 0.3946533,
     (0.157409, 0.635298, 0.942481)),
    ("adm", "edm", 146, 3294723, (-0.030965, 0.323943, 0.601754, 1.035634),
     (0.211177, -0.155655, 0.165703, 0.041855), 0.0151460, 0.4588842,
     (-0.004442, 0.666928, 1.189767)),
    ("ddpmpp", "vp", 145, 189555, (0.264159, 0.677280, 1.988947, 2.061544),
     (-0.042668, 4.894052, 2.003050, -1.276731), 0.6669382, 6.1380311,
     (0.054056, 0.809201, 1.527312)),
    ("ncsnpp", "ve", 148, 191235, (0.110288, 0.715490, 1.665295, 1.987854),
     (3.129979, 4.051892, 1.562327, 0.005255), -0.7725186, 4.9074853,
     (0.093969, 0.815973, 1.536137)),
    ("adm", "iddpm", 146, 3296454, (0.214740, 0.674318, 1.353764, 1.573499),
     (-7.432671, 4.201453, -3.594501, 2.348722), -0.3096881, 4.4367765,
     (-0.014973, 0.719488, 1.397092)),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, name, keys, size, first, last, mean, std, unlabelled",
    FORMULA,
    ids=[f"{row[1]}-{row[0]}" for row in FORMULA],
)
def test_weights_by_formula(kind, name, keys, size, first, last, mean, std, unlabelled):
    net = cases.small(kind, out_channels=6 if name == "iddpm" else 3)
    preconditioner = preconditioning.PRECONDITIONERS[name]()
    weights = cases.formula_weights(net)
    like = cases.abstract_params(net)
    params = params_from_state_dict(weights, like)
    assert len(weights) == keys and parameter_count(params) == size
    back = state_dict_from_params(params, resample_filter=cases.taps(net))
    assert {key for key in back if not key.endswith("resample_filter")} == set(weights)
    for key, value in weights.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)

    x, sigma, labels = cases.formula_inputs()
    found = cases.denoise(net, preconditioner, params, x, sigma, **labels).transpose(0, 3, 1, 2)
    # Six digits, of outputs that scale with sigma; VP's c_noise, near 700, has few of its own.
    close = dict(rtol=2e-5, atol=2e-5 * (1 + std))
    np.testing.assert_allclose(found[0, 0, 0, :4], first, **close)
    np.testing.assert_allclose(found[1, 2, 7, 4:], last, **close)
    np.testing.assert_allclose(found[:2].mean(), mean, **close)
    np.testing.assert_allclose(found[:2].std(), std, **close)
    np.testing.assert_allclose(found[2, 0, 0, :3], unlabelled, **close)
