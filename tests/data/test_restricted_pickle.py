"""The restricted unpickler: arrays and plain values come back, everything else is refused before it runs."""

from __future__ import annotations

import copyreg
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.data.restricted_pickle import read_pickled_dict
from raycp.errors import DataError, RaycpError, UnsafeFileError


class Call:
    """Pickles as a call of `function(*args)`."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that exists only if code of a malicious pickle ran."""
    marker = tmp_path / "it-ran"
    yield marker
    assert not marker.exists()


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(4, 6),
        np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(4, 6)),
        np.array([3, -1, 2**40]),
        np.array([1, 256], dtype=">i4"),
        np.array(5, dtype=np.uint16),
        np.array([0.1, np.nan, -np.inf]),
        np.array([0.1, 3], dtype=">f4"),
    ],
    ids=["C", "F", "int64", "big-endian", "0-d", "float64", "big-endian float32"],
)
def test_arrays_of_numbers_come_back(tmp_path: Path, protocol: int, array: Any) -> None:
    path = write(tmp_path, pickle.dumps({"data": array, "labels": [1, 2], "more": "text"}, protocol=protocol))
    result = read_pickled_dict(path)
    assert list(result) == ["data", "labels", "more"]
    loaded = result["data"]
    assert isinstance(loaded, np.ndarray) and loaded.dtype == array.dtype
    np.testing.assert_array_equal(loaded, array)
    assert result["labels"] == [1, 2] and result["more"] == "text"


def test_old_and_new_numpy_names_mean_the_same(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.uint8)
    content = pickle.dumps({"data": array}, protocol=2)
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    assert (new in content) != (old in content)
    for name in (new, old):
        result = read_pickled_dict(write(tmp_path, content.replace(new, name).replace(old, name)))
        np.testing.assert_array_equal(result["data"], array)


def test_the_ordinary_reader_would_have_run_it(tmp_path: Path) -> None:
    """The payloads below are live: without this, a dud would pass every test of refusal."""
    proof = tmp_path / "ran"
    pickle.loads(pickle.dumps({"data": Call(os.system, f"touch {proof}")}))
    assert proof.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_os_system_is_refused(tmp_path: Path, marker: Path, protocol: int) -> None:
    path = write(tmp_path, pickle.dumps({"data": Call(os.system, f"touch {marker}")}, protocol=protocol))
    with pytest.raises(UnsafeFileError) as caught:
        read_pickled_dict(path)
    assert str(caught.value) == (
        f"{path} is a pickle that asks for '{os.system.__module__}.system', which a data set does not need and "
        f"which could run code. Nothing was run and nothing was loaded; use a file from a source you trust, or one "
        f"without pickles."
    )


@pytest.mark.parametrize(
    "function", [eval, exec, __import__, open, getattr, compile], ids=lambda f: f.__name__
)
def test_builtins_are_refused(tmp_path: Path, marker: Path, function: Any) -> None:
    payload = pickle.dumps({"data": Call(function, f"open({str(marker)!r}, 'w')")})
    with pytest.raises(UnsafeFileError, match=rf"asks for '(builtins|_?io)\.{function.__name__}'"):
        read_pickled_dict(write(tmp_path, payload))


def test_a_payload_behind_good_data_is_refused(tmp_path: Path, marker: Path) -> None:
    data = {"data": np.zeros((2, 3), np.uint8), "labels": [0, 1], "meta": Call(os.system, f"touch {marker}")}
    with pytest.raises(UnsafeFileError, match="system"):
        read_pickled_dict(write(tmp_path, pickle.dumps(data)))


def test_a_payload_inside_an_object_array_is_refused(tmp_path: Path, marker: Path) -> None:
    array = np.empty(1, object)
    array[0] = Call(os.system, f"touch {marker}")
    with pytest.raises(UnsafeFileError, match="holds an array of Python objects"):
        read_pickled_dict(write(tmp_path, pickle.dumps({"data": array})))


def test_naming_a_module_does_not_import_it(
    tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_that_runs_at_import.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UnsafeFileError, match=r"asks for 'module_that_runs_at_import\.anything'"):
        read_pickled_dict(write(tmp_path, b"cmodule_that_runs_at_import\nanything\n."))
    assert "module_that_runs_at_import" not in sys.modules


TEXT = b"\x8c"  # SHORT_BINUNICODE


def text(value: str) -> bytes:
    return TEXT + bytes([len(value)]) + value.encode()


# Opcodes by hand: what `pickle.dumps` would not write.
UNUSUAL = {
    "INST": (b"(S'true'\nios\nsystem\n.", "asks for 'os.system'"),
    "OBJ": (b"(cos\nsystem\nS'true'\no.", "asks for 'os.system'"),
    "NEWOBJ": (b"\x80\x02csubprocess\nPopen\nS'true'\n\x85\x81.", "asks for 'subprocess.Popen'"),
    "python 2 name": (b"c__builtin__\neval\n(S'1'\ntR.", "asks for '__builtin__.eval'"),
    "dotted name": (
        b"\x80\x04" + text("numpy") + text("dtype.__class__") + b"\x93.",
        "asks for 'numpy.dtype.__class__'",
    ),
    "dotted through an allowed global": (
        b"\x80\x04" + text("numpy.core.multiarray") + text("_reconstruct.__globals__") + b"\x93.",
        "asks for 'numpy.core.multiarray._reconstruct.__globals__'",
    ),
    "control characters": (b"cos\nsy\x1b[2Jstem\n.", r"asks for 'os.sy\x1b[2Jstem'"),
    "other codec": (
        b"c_codecs\nencode\n(" + text("cevag(1)") + text("rot13") + b"tR.",
        "calls '_codecs.encode' with the codec 'rot13'",
    ),
    "array over a buffer": (
        b"cnumpy\nndarray\n((K\x01t" + text("O") + b"C\x08AAAAAAAAtR.",
        "makes an array by calling 'numpy.ndarray'",
    ),
    "object dtype": (b"cnumpy\ndtype\n(" + text("O8") + b"I00\nI01\ntR.", "holds an array of Python objects"),
    "state of a global": (b"cnumpy\ndtype\n}" + text("x") + b"K\x01sb.", "tries to change a function"),
    "default arguments of a global": (
        b"c_codecs\nencode\nN}" + text("__defaults__") + b"(K\x01ts\x86b.",
        "tries to change a function",
    ),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_opcodes_are_refused(tmp_path: Path, case: str) -> None:
    content, complaint = UNUSUAL[case]
    with pytest.raises(UnsafeFileError) as caught:
        read_pickled_dict(write(tmp_path, content))
    assert f"{tmp_path / 'data_batch_1'} is a pickle that {complaint}, which" in str(caught.value)


def test_registered_extension_codes_are_refused(tmp_path: Path, marker: Path) -> None:
    copyreg.add_extension("os", "system", 240)
    try:
        with pytest.raises(UnsafeFileError, match=r"asks for 'os\.system'"):
            read_pickled_dict(write(tmp_path, b"\x80\x02\x82\xf0" + text(f"touch {marker}") + b"\x85R."))
    finally:
        copyreg.remove_extension("os", "system", 240)


def array_pickle(dtype_state: bytes, dtype_name: str = "u1", content: bytes = b"C\x08AAAAAAAA") -> bytes:
    """A pickle of {"data": an array of shape (1,)} with a chosen dtype and content, as opcodes."""
    dtype = b"cnumpy\ndtype\n(" + text(dtype_name) + b"I00\nI01\ntR" + dtype_state + b"b"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
    return b"}" + text("data") + array + b"(K\x01(K\x01t" + dtype + b"\x89" + content + b"tbs."


PLAIN = b"(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"


def test_the_handmade_array_is_read_when_it_is_plain(tmp_path: Path) -> None:
    result = read_pickled_dict(write(tmp_path, array_pickle(PLAIN, content=b"C\x01A")))
    np.testing.assert_array_equal(result["data"], np.array([65], np.uint8))


@pytest.mark.parametrize(
    "content",
    [
        array_pickle(b"(K\x03" + text("|") + b"NNNJ\x08\x00\x00\x00J\x01\x00\x00\x00K\x3ft"),
        array_pickle(b"(K\x04" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00}t"),
        array_pickle(
            b"(K\x03" + text("|") + b"N" + text("f") * 2 + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
        ),
        array_pickle(PLAIN, content=b"(cnumpy\nndarray\nl"),
        array_pickle(PLAIN),
        array_pickle(PLAIN, dtype_name="c8"),
        array_pickle(PLAIN, dtype_name="V8"),
    ],
    ids=["flags", "metadata", "fields", "objects as content", "too long", "complex numbers", "void"],
)
def test_states_that_would_fool_numpy_are_damage(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="is damaged or not the pickle it should be"):
        read_pickled_dict(write(tmp_path, content))


def test_persistent_ids_are_damage(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="damaged"):
        read_pickled_dict(write(tmp_path, b"Psomething\n."))


def test_what_is_not_a_dictionary_with_text_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds a list, but should hold a dictionary"):
        read_pickled_dict(write(tmp_path, pickle.dumps([1, 2])))
    with pytest.raises(DataError, match="has a key of type int"):
        read_pickled_dict(write(tmp_path, pickle.dumps({1: 2})))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*nowhere: No such file"):
        read_pickled_dict(tmp_path / "nowhere")


GOOD = pickle.dumps({"data": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": [1, 2, 3]}, protocol=2)


@settings(max_examples=300, deadline=None)
@given(
    cut=st.integers(0, len(GOOD) - 1),
    flips=st.lists(st.tuples(st.integers(0), st.integers(1, 255)), max_size=4),
)
def test_a_damaged_file_is_read_or_refused_but_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flips: list[tuple[int, int]]
) -> None:
    content = bytearray(GOOD if flips else GOOD[:cut])
    for place, change in flips:
        content[place % len(content)] ^= change
    path = tmp_path_factory.getbasetemp() / "damaged-pickle"
    path.write_bytes(content)
    try:
        read_pickled_dict(path)
    except RaycpError as err:
        assert str(path) in str(err)
    else:
        assert flips, "a truncated file was read"
