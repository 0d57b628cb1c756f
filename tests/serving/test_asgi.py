"""Bodies packed by gzip: unpacked within a limit, whatever they are."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dien_fuxictr.serving.asgi import BadGzip, TooLarge, UnknownCoding, is_packed, unpacked


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50) | st.just(bytes(200_000)), min_size=1, max_size=5), st.integers(0, 9))
def test_members_are_joined(parts: list[bytes], level: int) -> None:
    whole = b"".join(parts)
    packed = b"".join(gzip.compress(part, level) for part in parts)
    assert unpacked(packed, len(whole)) == whole
    if whole:
        with pytest.raises(TooLarge, match=rf"larger than {len(whole) - 1} bytes when it is unpacked"):
            unpacked(packed, len(whole) - 1)


def test_gzip_bomb_is_limited_in_memory() -> None:
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(500)) + packer.flush()
    tracemalloc.start()
    with pytest.raises(TooLarge):
        unpacked(bomb, 1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (
        len(bomb) < 1 << 20 and peak < 4 << 20
    )  # what zlib returns may be copied once as it grows, and once at its end


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_what_is_cut_is_refused(content: bytes) -> None:
    packed = gzip.compress(content)
    for end in range(len(packed)):
        with pytest.raises(BadGzip, match="the end is missing"):
            unpacked(packed[:end], 1000)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", "the body is not gzip: "),
        (zlib.compress(b"{}"), "the body is not gzip: "),
        (gzip.compress(b"{}") + b"{}", "the body is not gzip: "),
        (gzip.compress(b"{}") + bytes(8), "the body is not gzip: "),
        (gzip.compress(b"{}")[:-8] + bytes(8), "the body is not gzip: "),
        (gzip.compress(b"{}") + gzip.compress(b"{}")[:9], "the end is missing"),
        (b"", "the end is missing after 0 bytes"),
    ],
    ids=["json", "zlib", "text behind", "zeros behind", "checksum", "half a member", "empty"],
)
def test_what_is_no_gzip(body: bytes, message: str) -> None:
    with pytest.raises(BadGzip, match=message):
        unpacked(body, 100)


@settings(deadline=None)
@given(st.binary(max_size=100), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3))
def test_any_damage_is_refused_or_harmless(content: bytes, changes: list[tuple[int, int]]) -> None:
    packed = bytearray(gzip.compress(content))
    for place, value in changes:
        packed[place % len(packed)] = value
    try:
        assert unpacked(bytes(packed), 1000) == content
    except (BadGzip, TooLarge):
        assert changes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], False),
        ([b"identity"], False),
        ([b""], False),
        ([b"gzip"], True),
        ([b"x-gzip"], True),
        ([b" GZip "], True),
        ([b"identity, gzip"], True),
        ([b"gzip", b"identity"], True),
    ],
)
def test_codings(values: list[bytes], expected: bool) -> None:
    headers = [(b"host", b"gzip"), *((b"content-encoding", value) for value in values)]
    assert is_packed(headers) is expected


@pytest.mark.parametrize(
    "values", [[b"br"], [b"deflate"], [b"gzip, gzip"], [b"gzip", b"x-gzip"], [b"gzip;q=1"], [b"\xff"]]
)
def test_codings_that_are_not_read(values: list[bytes]) -> None:
    with pytest.raises(UnknownCoding, match="header content-encoding must be gzip or identity, is '"):
        is_packed([(b"content-encoding", value) for value in values])
