"""The inert stack machine: what it reads, what it refuses, and that both cost little."""

import collections
import pickle
import sys
import tracemalloc

import pytest

from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official.pickle_records import Call, Global, parse

NOTHING = frozenset()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_equal_what_pickle_reads(protocol):
    shared = ["shared", -(2**70), 2.5]
    value = {
        "numbers": (0, 255, 256, 65535, 65536, -1, 2**31, 1e-300, float("inf")),
        "flags": [True, False, None],
        "nested": collections.OrderedDict(a=(), b=("x",), c={"d": [[], {}]}),
        "long text": "é" * 300,
        "many": list(range(3000)),
        "shared": [shared, shared],
        7: "an integer key",
    }
    data = pickle.dumps(value, protocol)
    found = parse(data, frozenset({Global("collections", "OrderedDict")}))
    assert found.value == value
    assert found.value["shared"][0] is found.value["shared"][1]
    assert found.end == len(data)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_bytes_and_sets(protocol):
    allowed = frozenset(
        {Global("_codecs", "encode"), Global("__builtin__", "set"), Global("builtins", "set")}
    )
    raw, members = parse(pickle.dumps((bytes(range(256)), {3}), protocol), allowed).value
    assert bytes(raw) == bytes(range(256))
    assert members == [3] or members.arguments == ([3],)


class Boom:
    """Its pickle calls os.system."""

    def __reduce__(self):
        import os

        return os.system, ("touch /nonexistent/x",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_global_outside_the_list_is_named_and_not_imported(protocol):
    with pytest.raises(WeightsError, match=r"names the global '(posix|nt)\.system'"):
        parse(pickle.dumps([1, Boom()], protocol), NOTHING)


def test_an_allowed_call_stays_a_record():
    before = set(sys.modules)
    name = Global("a_module_that_would_be_imported", "f")
    data = b"\x80\x02ca_module_that_would_be_imported\nf\n(K\x01K\x02tR}b."
    record = parse(data, frozenset({name})).value
    assert type(record) is Call
    assert (record.function, record.arguments, record.state) == (name, (1, 2), {})
    assert set(sys.modules) == before


# What each stream is: instructions that a whole and honest file never holds.
DAMAGED = {
    "empty": b"",
    "protocol 0": b"I1\n.",
    "protocol 9": b"\x80\x09N.",
    "no stop": b"\x80\x04N",
    "two values left": b"\x80\x04NN.",
    "no value": b"\x80\x04.",
    "mark left": b"\x80\x04(N.",
    "pop of nothing": b"\x80\x040.",
    "pop below the mark": b"\x80\x04N(0.",
    "tuple without mark": b"\x80\x04Nt.",
    "memo not there": b"\x80\x04h\x05.",
    "memo of nothing": b"\x80\x04\x94.",
    "long frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
    "4 GiB of text": b"\x80\x04X\xff\xff\xff\xffabc.",
    "8 EiB of bytes": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "2 GiB integer": b"\x80\x04\x8b\xff\xff\xff\x7fabc.",
    "text not UTF-8": b"\x80\x04\x8c\x02\xff\xfe.",
    "items of no dict": b"\x80\x04](NNu.",
    "odd items": b"\x80\x04}(K\x01u.",
    "unhashable key": b"\x80\x04}]Ns.",
    "tuple key": b"\x80\x04})Ns.",
    "append to no list": b"\x80\x04}Na.",
    "call of no function": b"\x80\x04K\x01)R.",
    "state of no object": b"\x80\x04K\x01}b.",
    "global without an end": b"\x80\x02c" + b"a" * 500,
    "global from numbers": b"\x80\x04K\x01K\x02\x93.",
    "extension code": b"\x80\x02\x82\x01.",
    "unknown byte": b"\x80\x04\xff.",
    "latin1 of a number": b"\x80\x02c_codecs\nencode\nK\x01K\x02\x86R.",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_streams(data):
    with pytest.raises(WeightsError, match="damaged|truncated|pickle|key|empty"):
        parse(data, frozenset({Global("_codecs", "encode")}))


def test_nested_sharing_costs_nothing():
    # Each level holds the one below twice: 2**5000 leaves if anything walked or hashed it.
    data = b"\x80\x04N" + b"q\x00h\x00\x86" * 5000 + b"0N."
    assert parse(data, NOTHING).value is None


def test_the_number_of_instructions_is_bounded():
    with pytest.raises(WeightsError, match="more than 1000 pickle instructions"):
        parse(b"\x80\x04" + b"N0" * 1000 + b"N.", NOTHING, max_opcodes=1000)


def test_a_text_is_not_turned_to_bytes_again_and_again():
    # Calls on one memoised text: 200 MB of bytes in a file of a quarter of a megabyte.
    call = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    text = b"X" + (200_000).to_bytes(4, "little") + b"a" * 200_000 + b"q\x00"
    data = b"\x80\x02]" + text + b"0(" + call * 1000 + b"e."
    allowed = frozenset({Global("_codecs", "encode")})
    tracemalloc.start()
    with pytest.raises(WeightsError, match="written as texts are more than the file has"):
        parse(data, allowed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * len(data)
    one = b"\x80\x02" + text + b"0" + call + b"."
    assert len(parse(one, allowed).value) == 200_000
