"""Schedules by name, with a scaling, fitted to a grid's range."""

import math

import numpy as np
import pytest

from edm_jax import schedules


def test_a_schedule_by_name_is_the_function():
    for name, make in schedules.SCHEDULES.items():
        built, plain = schedules.build(name), make()
        t = np.array([0.3, 0.7])
        for one, two in zip(built, plain):
            np.testing.assert_array_equal(one(t), two(t))
    assert math.isclose(schedules.build("trigflow", sigma_data=2.0).sigma(math.pi / 4), 2.0)
    for call, message in (
        (lambda: schedules.build("vq"), "schedule must be one of edm, vp.*got 'vq'"),
        (lambda: schedules.build("vp", beta=1.0), "option of the schedule 'vp' .*got 'beta'"),
        (lambda: schedules.build("flow", t=1.0), "schedule 'flow' must be given no options"),
        (lambda: schedules.build("trigflow", sigma_data=0.0), "sigma_data must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_process_is_a_schedule_fitted_to_a_grid_s_range():
    t = np.array([0.3, 0.7])
    same = lambda one, two: all(np.array_equal(f(t), g(t)) for f, g in zip(one, two))
    ends = (0.01, 30.0)
    fitted = schedules.vp_from_range(*ends)
    assert same(schedules.process("vp", ends=ends), fitted)
    assert same(schedules.process("vp"), schedules.vp())
    assert same(schedules.process("cosine", ends=ends), schedules.cosine())  # has no such fit
    plain = schedules.process("vp", scaling="none", ends=ends)
    assert same(plain, schedules.without_scaling(fitted))
    assert same(schedules.process("ve", scaling="vp"), schedules.with_vp_scaling(schedules.ve()))
    with pytest.raises(ValueError, match="scaling must be .*none.*vp.*got 'edm'"):
        schedules.process("vp", scaling="edm")
