import gzip
import json
import logging
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_raw import BRUSH, SHAMPOO, meta_line, review_line, write_lines, write_raw

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.samples.amazon import META_FIELDS, read_amazon, read_categories, read_reviews

REVIEWS = [("u1", "a", 86_400), ("u2", "a", 0), ("u1", "b", 172_800), ("u2", "nameless", 5), ("u1", "absent", 7)]
CATEGORIES = {"b": BRUSH, "unseen": ["Beauty"], "a": SHAMPOO, "nameless": None}
OK = review_line(("u", "a", 1), "2014")


def read(reviews: Path, meta: Path, **options) -> pl.DataFrame:
    return read_amazon(reviews, meta, **options, verbose=False)


def reviews_of(path: Path, lines: list[bytes], **options) -> list[tuple]:
    return read_reviews(write_lines(path / "reviews.json", lines), **options, verbose=False).rows()


def categories_of(path: Path, lines: list[bytes], items: set[str], **options) -> dict[str, str]:
    return dict(read_categories(write_lines(path / "meta.json", lines), items, **options, verbose=False).rows())


@pytest.mark.parametrize("form", META_FIELDS)
@pytest.mark.parametrize("gzipped", [True, False])
@pytest.mark.parametrize("forced", [True, False])
def test_published_forms(form: str, gzipped: bool, forced: bool, tmp_path: Path) -> None:
    log = read(*write_raw(tmp_path, REVIEWS, CATEGORIES, form, gzipped), form=form if forced else "auto")
    leaves = {"a": "Shampoo", "b": "Hair Brushes", "nameless": "unknown", "absent": "unknown"}
    assert log.rows() == [(user, item, leaves[item], time) for user, item, time in REVIEWS]
    assert log.schema == {"user_id": pl.String, "item_id": pl.String, "cate_id": pl.String, "time": pl.Int64}


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reviews=st.lists(st.tuples(names, names, st.integers(0, 2**40)), min_size=1, max_size=12),
    paths=st.lists(st.none() | st.lists(names, min_size=1, max_size=3), min_size=12, max_size=12),
    form=st.sampled_from(sorted(META_FIELDS)),
    block=st.integers(1, 300),
)
def test_any_text_is_read_as_a_plain_loop_reads_it(
    reviews: list, paths: list, form: str, block: int, tmp_path: Path
) -> None:
    categories = {"": ["a form"]} | dict(zip(dict.fromkeys(item for _, item, _ in reviews), paths, strict=False))
    files = write_raw(tmp_path, reviews, categories, form)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dien_fuxictr.dataset.samples.amazon.BLOCK_BYTES", block)
        log = read(*files)
    expected = []
    for user, item, time in dict.fromkeys(reviews):
        path = categories[item]
        leaf = path[-1].strip() if path else ""
        expected.append((user, item, leaf or "unknown", time))
    assert log.rows() == expected


def test_a_literal_is_never_evaluated(tmp_path: Path) -> None:
    trace = tmp_path / "was_run"
    attack = f"__import__('os').system('touch {trace}')"
    lines = [meta_line("b", BRUSH, "2014"), f"{{'asin': 'a', 'categories': [[{attack}]]}}".encode(), attack.encode()]
    with pytest.raises(UserError, match=r"meta\.json: line 2 is broken \(malformed node"):
        categories_of(tmp_path, lines, {"a", "b"})
    assert categories_of(tmp_path, lines, {"a", "b"}, skip_bad_lines=True) == {"b": "Hair Brushes"}
    with pytest.raises(UserError, match="has no record in its first"):
        reviews_of(tmp_path, [attack.encode()])
    assert not trace.exists()


def test_repeated_reviews_are_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reviews = [("u", "b", 1), ("u", "a", 1), ("u", "b", 1), ("u", "b", 2), ("v", "b", 1)]
    log = read(*write_raw(tmp_path, reviews, CATEGORIES, "2018"))
    assert log.select("user_id", "item_id", "time").rows() == [reviews[row] for row in (0, 1, 3, 4)]
    assert "Dropped 1 repeated reviews" in caplog.text


def test_ids_keep_the_separator_of_histories(tmp_path: Path) -> None:
    log = read(*write_raw(tmp_path, [("u^1", "a^^b", 1)], {"a^^b": ["x", "Lotion^Oil"]}))
    assert log.rows() == [("u^1", "a^^b", "Lotion^Oil", 1)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (OK[:-20], "Unterminated|Expecting"),
        (OK + b" and more", "Extra data"),
        (OK + OK, "Extra data"),
        (b'{"reviewerID": "\xff", "asin": "a", "unixReviewTime": 1}', "decode"),
        (b"[1, 2]", "get"),
        (b"[" * 100_000, "recursion|overflow"),
        (b'{"reviewerID": "u", "unixReviewTime": 1}', "no asin"),
        (b'{"reviewerID": "u", "asin": "", "unixReviewTime": 1}', "no asin"),
        (b'{"reviewerID": "u", "asin": "a", "unixReviewTime": null}', "no unixReviewTime"),
        (b'{"reviewerID": "u", "asin": "a", "unixReviewTime": "07 9, 2012"}', "invalid literal"),
        (b'{"reviewerID": "u", "asin": "a", "unixReviewTime": 1e30}', "too large"),
        (b'{"reviewerID": "u", "asin": "a", "unixReviewTime": Infinity}', "infinity"),
    ],
)
def test_broken_reviews(
    line: bytes, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dien_fuxictr.dataset.samples.amazon.BLOCK_BYTES", 100)
    lines = [OK] * 4 + [line, OK, line]
    with pytest.raises(UserError, match=rf"reviews\.json: line 5 is broken \(.*({reason}).*--skip-bad-lines") as caught:
        reviews_of(tmp_path, lines)
    assert "\n" not in str(caught.value)
    assert reviews_of(tmp_path, lines, skip_bad_lines=True) == [("u", "a", 1)] * 5
    assert "reviews.json: left out 2 broken lines" in caplog.text


def test_broken_lines_stop_a_build_unless_skipped(tmp_path: Path) -> None:
    reviews, meta = write_raw(tmp_path, REVIEWS, CATEGORIES, gzipped=False)
    for file in (reviews, meta):
        whole = file.read_bytes()
        file.write_bytes(whole + b"{\n")
        with pytest.raises(UserError, match=rf"{file.name}: line \d is broken"):
            read(reviews, meta)
        assert read(reviews, meta, skip_bad_lines=True).height == len(REVIEWS)
        file.write_bytes(whole)


def test_half_a_surrogate_pair_is_a_broken_line(tmp_path: Path) -> None:
    half = review_line(("\ud800", "a", 1), "2014")
    with pytest.raises(UserError, match=r"line 2 is broken .*surrogate"):
        reviews_of(tmp_path, [OK, half, b"{"])


def test_values_that_are_not_of_the_usual_type(tmp_path: Path) -> None:
    lines = [
        b'{"reviewerID": 17, "asin": "a", "unixReviewTime": "5"}',
        b"",
        b"  ",
        b'{"reviewerID": "u", "asin": 3, "unixReviewTime": 6.0}\r',
    ]
    assert reviews_of(tmp_path, lines) == [("17", "a", 5), ("u", "3", 6)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{'asin': 'a', 'categories': [['x']", "was never closed"),
        (b"{'categories': [['x']]}", "no asin"),
        (b"{'asin': ['a'], 'categories': [['x']]}", "unhashable"),
        (b"{'asin': 'a', 'categories': ['x']}", "'x' is not a list of categories"),
        (b"{'asin': 'a', 'categories': {'x': 1}}", "0"),
        (b'{"asin": "a", "categories": [["\\ud800"]]}', "surrogate"),
        (b"(" * 5_000, "nested|recursion|memory|overflow"),
    ],
)
def test_broken_metadata(
    line: bytes, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dien_fuxictr.dataset.samples.amazon.BLOCK_BYTES", 50)
    lines = [meta_line("b", BRUSH, "2014"), b"", line, meta_line("a", SHAMPOO, "2014"), line]
    with pytest.raises(UserError, match=rf"meta\.json: line 3 is broken \(.*({reason})"):
        categories_of(tmp_path, lines, {"a", "b"})
    assert categories_of(tmp_path, lines, {"a", "b"}, skip_bad_lines=True) == {"a": "Shampoo", "b": "Hair Brushes"}
    assert "left out 2 broken lines" in caplog.text


def test_categories_without_a_name(tmp_path: Path) -> None:
    paths = {"a": [], "b": [" "], "c": ["", "x"], "d": ["y", ""]}
    lines = [meta_line(item, path, "2018") for item, path in paths.items()] + [
        meta_line("a", ["later"], "2018"),
        meta_line("c", ["second"], "2018"),
    ]
    assert categories_of(tmp_path, lines, set(paths)) == {"a": "later", "c": "x"}


@pytest.mark.parametrize("form", META_FIELDS)
def test_ids_that_are_escaped_or_quoted(form: str, tmp_path: Path) -> None:
    items = ["é", "O'Neil", 'a "b"', "back\\slash", "new\nline", "中"]
    lines = [meta_line(item, ["leaf", item.strip()], form) for item in items]
    assert categories_of(tmp_path, lines, set(items)) == {item: item for item in items}


def test_the_form_is_seen_from_the_first_whole_record(tmp_path: Path) -> None:
    lines = [b"{", b'"text"', review_line(("u", "a", 5), "2023")]
    assert reviews_of(tmp_path, lines, skip_bad_lines=True) == [("u", "a", 5)]
    lines = [b"{'asin': 'b'}", meta_line("a", SHAMPOO, "2014")]
    assert categories_of(tmp_path, lines, {"a", "b"}) == {"a": "Shampoo"}


def test_records_without_the_fields(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"reviews\.json: the records have the fields user, item; they must have "
        "reviewerID, asin, unixReviewTime or user_id, parent_asin, timestamp",
    ):
        reviews_of(tmp_path, [b'{"user": 1, "item": 2}'])
    with pytest.raises(UserError, match=r"have the fields asin, category; they must have asin, categories$"):
        categories_of(tmp_path, [meta_line("a", SHAMPOO, "2018")], {"a"}, form="2014")


@pytest.mark.parametrize("content", [b"", b"\n \n", gzip.compress(b"", mtime=0)])
def test_empty_files(content: bytes, tmp_path: Path) -> None:
    reviews, meta = write_raw(tmp_path, REVIEWS, CATEGORIES, gzipped=False)
    (tmp_path / "empty").write_bytes(content)
    for files in ((tmp_path / "empty", meta), (reviews, tmp_path / "empty")):
        with pytest.raises(UserError, match=r"empty has no (reviews|items|record)"):
            read(*files)


def test_missing_files(tmp_path: Path) -> None:
    reviews, meta = write_raw(tmp_path, REVIEWS, CATEGORIES)
    for files in ((tmp_path / "gone.gz", meta), (reviews, tmp_path / "gone.gz"), (tmp_path, meta)):
        with pytest.raises(UserError, match=r"raw file .* does not exist"):
            read(*files)


@pytest.mark.parametrize("damage", ["truncated", "last bytes missing", "overwritten", "trailing bytes"])
@pytest.mark.parametrize("broken", ["reviews", "meta"])
def test_damaged_gzip(damage: str, broken: str, tmp_path: Path) -> None:
    reviews = [(f"user {row * 7919 % 1000}", f"item {row}", row) for row in range(2000)]
    files = dict(
        zip(("reviews", "meta"), write_raw(tmp_path, reviews, {item: BRUSH for _, item, _ in reviews}), strict=True)
    )
    whole = files[broken].read_bytes()
    middle = len(whole) // 2
    files[broken].write_bytes(
        {
            "truncated": whole[:middle],
            "last bytes missing": whole[:-3],
            "overwritten": whole[:middle] + b"\0" * 40 + whole[middle + 40 :],
            "trailing bytes": whole + b"rubbish",
        }[damage]
    )
    with pytest.raises(UserError, match=rf"{broken}\.json\.gz is a truncated or damaged gzip file \(.*; download"):
        read(**files, skip_bad_lines=True)


def test_last_line_without_line_break(tmp_path: Path) -> None:
    (tmp_path / "reviews.json").write_bytes(OK + b"\n" + OK)
    assert read_reviews(tmp_path / "reviews.json", verbose=False).height == 2
    (tmp_path / "meta.json").write_text(json.dumps({"asin": "a", "category": ["x"]}))
    assert read_categories(tmp_path / "meta.json", {"a"}, verbose=False).rows() == [("a", "x")]
