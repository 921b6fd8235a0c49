"""The rows of a global batch lie in the order of the processes that read them."""

from types import SimpleNamespace

import jax

from edm_jax.runtime import processes


def test_devices_go_by_process_and_keep_their_order_within_it():
    # Four hosts of two by two chips, numbered along the rows of the slice.
    place = {0: (0, 1, 4, 5), 1: (2, 3, 6, 7), 2: (8, 9, 12, 13), 3: (10, 11, 14, 15)}
    owner = {i: host for host, chips in place.items() for i in chips}
    devices = [SimpleNamespace(id=i, process_index=owner[i]) for i in range(16)]
    found = processes.by_process(devices)
    assert [d.id for d in found] == [i for chips in place.values() for i in chips]
    assert processes.by_process(jax.devices()) == jax.devices()
