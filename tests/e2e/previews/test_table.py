from __future__ import annotations

import csv
import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.previews.conftest import Previews, Watched

Rows = list[list[str]]


def rows_of(shown: Watched) -> Rows:
    """Return the cells that are seen, without the numbers of the rows."""
    found: Rows = shown.page.locator(".grid tbody").evaluate(
        "body => [...body.rows].map(row => [...row.cells].slice(1).map(cell => cell.textContent))"
    )
    return found


def names_of(shown: Watched) -> list[str]:
    found: list[str] = shown.page.locator(".grid thead").evaluate(
        "head => [...head.rows[0].cells].slice(1).map(cell => cell.firstChild.textContent)"
    )
    return found


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t"), ("b.csv", ";")])
def test_rows_are_those_of_the_file(previews: Previews, tmp_path: Path, axe: str, name: str, delimiter: str) -> None:
    rows = [
        ["name", "mass", "note"],
        ["Vega", "2.135", 'bright, "blue"\nstar'],
        ["<img src=x onerror=alert(1)>", "-1e-3", ""],
        ["ζ Ophiuchi", "nan", "x" * 500],
    ]
    with open(tmp_path / name, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    with previews.opened("table", tmp_path / name) as shown:
        assert shown.wait() == "ready", shown.sentence
        assert names_of(shown) == rows[0]
        assert rows_of(shown)[:2] == rows[1:3]
        assert rows_of(shown)[2][2] == f"{'x' * 120}… all"
        assert shown.page.locator(".grid td.number").count() == 3, "numbers stand on the right"
        shown.page.get_by_role("button", name="All of note in row 3").click()
        assert shown.page.get_by_role("dialog").locator("pre").inner_text() == "x" * 500
        assert shown.find_barriers(axe) == []
        shown.page.get_by_role("button", name="Close").click()
        shown.page.get_by_label("First row has the names").uncheck()
        assert rows_of(shown)[0] == rows[0]
        assert shown.find_barriers(axe) == []
        assert shown.problems == []


def test_what_was_guessed_can_be_put_right(previews: Previews, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# made by hand\na|b,c\n1|2,3\n")
    with previews.opened("table", tmp_path / "a.csv", more="&header=0") as shown:
        assert shown.wait() == "ready", shown.sentence
        shown.page.get_by_role("combobox", name="Delimiter").select_option("|")
        shown.page.get_by_text("delimited by bar").wait_for()
        assert rows_of(shown) == [["a", "b,c"], ["1", "2,3"]]
        shown.page.get_by_role("combobox", name="Delimiter").select_option(",")
        shown.page.get_by_text("delimited by comma").wait_for()
        assert rows_of(shown) == [["a|b", "c"], ["1|2", "3"]]
        shown.page.wait_for_url(lambda url: "delimiter=%2C" in url)


def test_of_a_large_text_the_beginning_is_read_and_more_on_demand(previews: Previews, tmp_path: Path) -> None:
    count = 300_000
    with open(tmp_path / "a.csv", "w") as file:
        file.write("number,square\n")
        file.writelines(f"{number},{number * number}\n" for number in range(count))
    with previews.opened("table", tmp_path / "a.csv") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert shown.sentence.startswith("The first ")
        assert shown.read_bytes <= 1_200_000
        first = int(shown.sentence.split()[2].replace(",", ""))
        page = shown.page
        page.get_by_role("button", name="Read more").click()
        page.get_by_text(f"of more than {first:,}").wait_for(state="hidden")
        assert int(shown.sentence.split()[2].replace(",", "")) > 1.5 * first
        # Where two pieces meet no row is lost or cut.
        page.get_by_label("From row").fill(str(first - 5))
        page.get_by_label("From row").press("Enter")
        page.get_by_text(f"{first:,}", exact=True).first.wait_for()
        assert [row[0] for row in rows_of(shown)] == [str(first - 6 + index) for index in range(200)]
        assert all(int(row[0]) ** 2 == int(row[1]) for row in rows_of(shown))
        assert shown.problems == []


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'a,b\n1,"open' + b"x" * 9_500_000, "more than 8 million characters"),
        (b"a" * 9_500_000, "more than 8 million characters"),
    ],
)
def test_a_row_without_an_end_is_told_of(previews: Previews, tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    with open(tmp_path / "a.csv", "ab") as file:
        file.truncate(3_000_000_000)
    with previews.opened("table", tmp_path / "a.csv") as shown:
        if shown.wait() == "ready":
            # (The first row was whole.)
            shown.page.get_by_role("button", name="Read more").click()
            shown.page.locator("html[data-state=failed]").wait_for()
        assert told in shown.sentence
        assert shown.read_bytes < 20_000_000


def test_bytes_that_are_no_text_are_shown_as_such(previews: Previews, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\n\xff\xfe,2\n")
    with previews.opened("table", tmp_path / "a.csv") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert rows_of(shown) == [["��", "2"]]


def make_table() -> pa.Table:
    return pa.table(
        {
            "integer": pa.array([1, None, 2**40], pa.int64()),
            "real": pa.array([0.5, float("nan"), None], pa.float64()),
            "text": ["<b>bold</b>", None, "ζ"],
            "yes": [True, False, None],
            "when": pa.array([datetime.datetime(2024, 5, 6, 7, 8, 9), None, None], pa.timestamp("ms")),
            "day": pa.array([datetime.date(2024, 5, 6), None, None], pa.date32()),
            "list": [[1, 2], [], None],
            "struct": [{"x": 1, "y": "a"}, {"x": None, "y": "b"}, None],
            "bytes": pa.array([b"\x00\xff", None, b""], pa.binary()),
        }
    )


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
def test_parquet_has_its_values(previews: Previews, tmp_path: Path, axe: str, compression: str) -> None:
    pq.write_table(make_table(), tmp_path / "a.parquet", compression=compression)
    with previews.opened("table", tmp_path / "a.parquet") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert shown.sentence == "3 rows in 1 group, 9 columns"
        assert names_of(shown) == make_table().column_names
        assert rows_of(shown) == [
            [
                "1",
                "0.5",
                "<b>bold</b>",
                "true",
                "2024-05-06T07:08:09Z",
                "2024-05-06",
                "[1,2]",
                '{"x":1,"y":"a"}',
                "00 ff",
            ],
            ["null", "NaN", "null", "false", "null", "null", "[]", '{"x":null,"y":"b"}', "null"],
            [str(2**40), "null", "ζ", "null", "null", "null", "null", "null", ""],
        ]
        shown.page.locator(".schema summary").click()
        assert shown.page.locator(".schema tbody tr").nth(0).inner_text().split("\t")[:3] == ["integer", "int64", "yes"]
        assert shown.find_barriers(axe) == []
        assert shown.problems == []


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet file of 320 MB: 4,000,000 rows of 10 random doubles, in 200 groups."""
    path = tmp_path_factory.mktemp("large") / "large.parquet"
    names = [f"column {index}" for index in range(10)]
    schema = pa.schema([(name, pa.float64()) for name in names])
    random = np.random.default_rng(2)
    with pq.ParquetWriter(path, schema, use_dictionary=False, compression="none") as writer:
        for group in range(200):
            arrays = [np.arange(group * 20_000, (group + 1) * 20_000) * 1.0, *random.random((9, 20_000))]
            writer.write_table(pa.table(dict(zip(names, arrays, strict=True))))
    assert path.stat().st_size > 300_000_000
    return path


def test_a_large_parquet_file_opens_with_few_bytes(previews: Previews, large: Path) -> None:
    with previews.opened("table", large) as shown:
        assert shown.wait() == "ready", shown.sentence
        assert shown.sentence.startswith("4,000,000 rows in 200 groups, 10 columns")
        assert shown.read_bytes < 2_000_000
        expected = pq.ParquetFile(large).read_row_group(0).slice(0, 200)
        seen = [[float(cell) for cell in row[:5]] for row in rows_of(shown)]
        assert seen == [[expected.column(index)[row].as_py() for index in range(5)] for row in range(200)]
        # Over the border of two groups.
        shown.page.get_by_label("From row").fill("2019901")
        shown.page.get_by_label("From row").press("Enter")
        shown.page.get_by_text("2,019,901", exact=True).wait_for()
        assert [float(row[0]) for row in rows_of(shown)] == [2_019_900.0 + index for index in range(200)]
        assert shown.problems == []


def test_of_large_groups_only_the_pages_are_read_that_are_shown(previews: Previews, tmp_path: Path) -> None:
    """One group of 64 MB, whose columns have pages of about 1 MB or less."""
    data = {"first": np.arange(4_000_000) * 1.0, "second": np.random.default_rng(3).random(4_000_000)}
    pq.write_table(
        pa.table(data),
        tmp_path / "a.parquet",
        use_dictionary=False,
        compression="snappy",
        row_group_size=4_000_000,
        data_page_size=100_000,
    )
    with previews.opened("table", tmp_path / "a.parquet") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert [float(row[1]) for row in rows_of(shown)] == list(data["second"][:200])
        assert shown.read_bytes < 2_000_000
        # The last rows cost more than is read without being asked to.
        shown.page.get_by_role("button", name="Last rows").click()
        button = shown.page.get_by_role("button", name="Read 2 more")
        button.wait_for()
        assert rows_of(shown)[0] == ["…", "…"]
        button.click()
        button.wait_for(state="hidden")
        assert [float(row[1]) for row in rows_of(shown)] == list(data["second"][-200:])
        assert shown.problems == []


def test_of_many_columns_some_are_shown_and_others_chosen(previews: Previews, tmp_path: Path, axe: str) -> None:
    pq.write_table(pa.table({f"c{index:03}": np.full(50, index) for index in range(300)}), tmp_path / "a.parquet")
    with previews.opened("table", tmp_path / "a.parquet") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert names_of(shown) == [f"c{index:03}" for index in range(50)]
        shown.page.get_by_role("button", name="Further columns").click()
        shown.page.get_by_role("columnheader", name="c099").wait_for()
        field = shown.page.get_by_label("Columns whose name has one of these words")
        field.fill("c29, c005")
        field.press("Enter")
        shown.page.get_by_role("columnheader", name="c005").wait_for()
        assert names_of(shown) == ["c005", *(f"c{index}" for index in range(290, 300))]
        assert rows_of(shown)[0] == ["5", *(str(index) for index in range(290, 300))]
        assert shown.find_barriers(axe) == []
        assert shown.problems == []


def test_a_parquet_file_that_is_cut_or_wrong_is_told_of(previews: Previews, tmp_path: Path) -> None:
    pq.write_table(make_table(), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for data, told in [
        (whole[:-100], "it is cut"),
        (b"PAR1" + b"\xff" * 4 + b"PAR1", "more than a preview reads"),
        (b"PAR1" + bytes(100) + b"\x40\x00\x00\x00PAR1", "cannot be understood"),
        (whole[:4] + whole[400:], "Parquet"),
    ]:
        (tmp_path / "a.parquet").write_bytes(data)
        with previews.opened("table", tmp_path / "a.parquet") as shown:
            assert shown.wait() == "failed", told
            assert told in shown.sentence or "cut" in shown.sentence
            assert shown.problems == []
