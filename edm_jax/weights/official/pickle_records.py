"""A pickle stream read as inert records: nothing is imported, called or executed.

Unpickling is a small stack machine. This is that machine without its two dangerous parts: a
global becomes its name, a call becomes a record of what would have been called. Every length in
the stream is checked against the bytes that are there, so memory and time are bounded by the size
of the file. Text opcodes (protocol 0) and extension codes do not occur in the files that we read
and are refused.
"""

import dataclasses
import pickletools
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from edm_jax.weights.errors import WeightsError

MAX_OPCODES = 5_000_000  # the largest published network needs about 1 % of that
_MAX_NAME = 256  # characters of a global's module or name


@dataclasses.dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function, unresolved."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclasses.dataclass(eq=False, slots=True)
class Call:
    """What would have been `function(*arguments)`, and the state it would have been given."""

    function: Global
    arguments: tuple
    state: Any = None


@dataclasses.dataclass(eq=False, slots=True)
class Persistent:
    """A reference to something stored outside the stream."""

    id: Any


class Parsed(NamedTuple):
    """value: the pickled object; end: the position after it; persistent: its outside references."""

    value: Any
    end: int
    persistent: list[Persistent]


ALL = "*"  # a name that stands for every one below a module
ORDERED_DICT = Global("collections", "OrderedDict")
EASY_DICT = Global("dnnlib.util", "EasyDict")
_LATIN1 = Global("_codecs", "encode")  # how protocol 2 writes bytes
_MARK = object()


def parse(
    data: bytes | memoryview,
    allowed: frozenset[Global],
    *,
    start: int = 0,
    max_opcodes: int = MAX_OPCODES,
) -> Parsed:
    """Reads one pickle into plain Python values and records.

    Args:
      data: the bytes.
      allowed: the globals that may be named in the stream; one of the name `ALL` stands for all of
        a package.
      start: where the pickle begins in data.
      max_opcodes: the most instructions to read.

    Returns:
      The value, made of None, bool, int, float, str, memoryview (bytes), tuple, list (sets too),
      dict (OrderedDict and EasyDict too), Global, Call and Persistent; where it ends; the
      Persistent records in their order.

    Raises:
      WeightsError: not a pickle, truncated, an opcode or global outside what is allowed.

    >>> import pickle
    >>> parse(pickle.dumps({"sigma": [1, 2.5, None]}), frozenset()).value
    {'sigma': [1, 2.5, None]}
    """
    return _Machine(memoryview(data).cast("B"), allowed, start).run(max_opcodes)


class _Machine:
    """The stack machine. Public attributes are for the opcode functions below."""

    def __init__(self, data: memoryview, allowed: frozenset[Global], start: int):
        self.data = data
        self.allowed = allowed
        self.position = start
        self.stack: list = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.persistent: list[Persistent] = []
        self.encoded = 0  # bytes made of texts

    def run(self, max_opcodes: int) -> Parsed:
        if len(self.data) <= self.position:
            raise WeightsError("nothing to read: the file is empty or truncated")
        if self.data[self.position] != 0x80:
            raise WeightsError("not a pickle of protocol 2 or later")
        for _ in range(max_opcodes):
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                if len(self.stack) != 1 or self.marks:
                    raise WeightsError(f"damaged: the pickle leaves {len(self.stack)} values")
                return Parsed(self.stack[0], self.position, self.persistent)
            operation = _OPERATIONS.get(code)
            if operation is None:
                known = [name for name, known in _CODES.items() if known == code]
                what = f"opcode {known[0]}" if known else f"byte 0x{code:02x}"
                raise WeightsError(f"damaged or foreign: {what} at byte {self.position - 1}")
            operation(self)
        raise WeightsError(f"more than {max_opcodes} pickle instructions")

    def take(self, count: int) -> memoryview:
        end = self.position + count
        if end > len(self.data):
            raise WeightsError(
                f"truncated: {count} bytes announced at byte {self.position}, "
                f"{len(self.data) - self.position} are there"
            )
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def number(self, layout: str) -> int:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        window = bytes(self.data[self.position : self.position + _MAX_NAME])
        length = window.find(b"\n")
        if length < 0:
            raise WeightsError(f"damaged: no name at byte {self.position}")
        self.position += length + 1
        return _text(window[:length])

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise WeightsError(f"damaged: the stack is empty at byte {self.position}")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        value = self.pop()
        if type(value) is not kind:
            raise WeightsError(
                f"damaged: {type(value).__name__} in place of {kind.__name__} "
                f"at byte {self.position}"
            )
        return value

    def since_mark(self) -> list:
        if not self.marks:
            raise WeightsError(f"damaged: no mark at byte {self.position}")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def remember(self, index: int) -> None:
        value = self.pop()
        self.push(value)
        self.memo[index] = value

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise WeightsError(f"damaged: memo {index} is not there at byte {self.position}")
        self.push(self.memo[index])

    def name(self, module: str, name: str) -> None:
        found, whole = Global(module, name), Global(module.partition(".")[0], ALL)
        if found not in self.allowed and whole not in self.allowed:
            raise WeightsError(
                f"names the global {str(found)[: 2 * _MAX_NAME]!r}, which these files have no use "
                "for; nothing was executed"
            )
        self.push(found)

    def call(self, function: Any, arguments: Any) -> None:
        if type(function) is not Global or type(arguments) is not tuple:
            raise WeightsError(f"damaged: a call of no function at byte {self.position}")
        if function in (ORDERED_DICT, EASY_DICT) and not arguments:
            self.push({})
        elif function == _LATIN1:
            self.push(self.latin1(arguments))
        else:
            self.push(Call(function, arguments))

    def latin1(self, arguments: tuple) -> memoryview:
        """The bytes that protocol 2 writes as a text, which one file may name many times."""
        if len(arguments) != 2 or type(arguments[0]) is not str or arguments[1] != "latin1":
            raise WeightsError("damaged: bytes written as neither bytes nor latin1")
        self.encoded += len(arguments[0])
        if self.encoded > len(self.data):
            raise WeightsError("damaged: the bytes written as texts are more than the file has")
        try:
            return memoryview(arguments[0].encode("latin1"))
        except UnicodeEncodeError:
            raise WeightsError("damaged: bytes written as neither bytes nor latin1") from None


def _text(data: bytes | memoryview) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise WeightsError("damaged: a string is not UTF-8") from None


def _set_items(target: Any, pairs: list, position: int) -> None:
    if type(target) is not dict or len(pairs) % 2:
        raise WeightsError(f"damaged: keys and values of no dictionary at byte {position}")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        # Only keys whose hash costs nothing: that of nested tuples can take for ever.
        if type(key) not in (str, int, float, bool, type(None)):
            raise WeightsError(f"a dictionary key is a {type(key).__name__}")
        target[key] = value


def _setitem(m: _Machine) -> None:
    value, key = m.pop(), m.pop()
    target = m.top(dict)
    m.push(target)
    _set_items(target, [key, value], m.position)


def _setitems(m: _Machine) -> None:
    pairs = m.since_mark()
    target = m.top(dict)
    m.push(target)
    _set_items(target, pairs, m.position)


def _append(m: _Machine) -> None:
    value = m.pop()
    target = m.top(list)
    m.push(target)
    target.append(value)


def _appends(m: _Machine) -> None:
    values = m.since_mark()
    target = m.top(list)
    m.push(target)
    target.extend(values)


def _tuple(count: int) -> Callable[[_Machine], None]:
    def operation(m: _Machine) -> None:
        m.push(tuple(reversed([m.pop() for _ in range(count)])))

    return operation


def _reduce(m: _Machine) -> None:
    arguments, function = m.pop(), m.pop()
    m.call(function, arguments)


def _build(m: _Machine) -> None:
    state, target = m.pop(), m.pop()
    if type(target) is Call:
        target.state = state
    elif type(target) is not dict:  # an OrderedDict's own attributes are of no interest
        raise WeightsError(f"damaged: state of no object at byte {m.position}")
    m.push(target)


def _global(m: _Machine) -> None:
    module = m.line()
    m.name(module, m.line())


def _stack_global(m: _Machine) -> None:
    name, module = m.top(str), m.top(str)
    m.name(module, name)


def _persistent(m: _Machine) -> None:
    record = Persistent(m.pop())
    m.persistent.append(record)
    m.push(record)


def _protocol(m: _Machine) -> None:
    version = m.number("<B")
    if not 2 <= version <= 5:
        raise WeightsError(f"a pickle of protocol {version}; 2 to 5 are known")


def _frame(m: _Machine) -> None:
    length = m.number("<Q")
    if length > len(m.data) - m.position:
        raise WeightsError(
            f"truncated: a frame of {length} bytes at byte {m.position}, "
            f"{len(m.data) - m.position} are there"
        )


def _pushing(make: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda m: m.push(make(m))


def _counted(layout: str, convert: Callable[[memoryview], Any]) -> Callable[[_Machine], None]:
    return lambda m: m.push(convert(m.take(m.number(layout))))


def _keep(data: memoryview) -> memoryview:
    return data


_CODES = {opcode.name: ord(opcode.code) for opcode in pickletools.opcodes}
_OPERATIONS: dict[int, Callable[[_Machine], None]] = {
    _CODES[name]: operation
    for name, operation in {
        "PROTO": _protocol,
        "FRAME": _frame,
        "MARK": lambda m: m.marks.append(len(m.stack)),
        "POP": lambda m: m.pop() and None,
        "POP_MARK": lambda m: m.since_mark() and None,
        "NONE": _pushing(lambda m: None),
        "NEWTRUE": _pushing(lambda m: True),
        "NEWFALSE": _pushing(lambda m: False),
        "BININT": _pushing(lambda m: m.number("<i")),
        "BININT1": _pushing(lambda m: m.number("<B")),
        "BININT2": _pushing(lambda m: m.number("<H")),
        "LONG1": _counted("<B", lambda b: int.from_bytes(b, "little", signed=True)),
        "BINFLOAT": _pushing(lambda m: m.number(">d")),
        "SHORT_BINUNICODE": _counted("<B", _text),
        "BINUNICODE": _counted("<I", _text),
        "BINUNICODE8": _counted("<Q", _text),
        "SHORT_BINBYTES": _counted("<B", _keep),
        "BINBYTES": _counted("<I", _keep),
        "BINBYTES8": _counted("<Q", _keep),
        "BYTEARRAY8": _counted("<Q", _keep),
        "EMPTY_TUPLE": _pushing(lambda m: ()),
        "TUPLE1": _tuple(1),
        "TUPLE2": _tuple(2),
        "TUPLE3": _tuple(3),
        "TUPLE": lambda m: m.push(tuple(m.since_mark())),
        "EMPTY_LIST": _pushing(lambda m: []),
        "APPEND": _append,
        "APPENDS": _appends,
        "EMPTY_SET": _pushing(lambda m: []),
        "ADDITEMS": _appends,
        "FROZENSET": lambda m: m.push(m.since_mark()),
        "EMPTY_DICT": _pushing(lambda m: {}),
        "SETITEM": _setitem,
        "SETITEMS": _setitems,
        "BINPUT": lambda m: m.remember(m.number("<B")),
        "LONG_BINPUT": lambda m: m.remember(m.number("<I")),
        "MEMOIZE": lambda m: m.remember(len(m.memo)),
        "BINGET": lambda m: m.recall(m.number("<B")),
        "LONG_BINGET": lambda m: m.recall(m.number("<I")),
        "GLOBAL": _global,
        "STACK_GLOBAL": _stack_global,
        "REDUCE": _reduce,
        "NEWOBJ": _reduce,
        "BUILD": _build,
        "BINPERSID": _persistent,
    }.items()
}
