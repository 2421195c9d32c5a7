"""Files with activations: CSV tables and label tracks of Audacity."""

import re

import numpy as np
import pytest

from data_pipelines.annotations.activation_files import read, spans_of, template, to_csv
from data_pipelines.annotations.activations import Span, from_spans, to_spans

STEMS = ("vocals", "drums", "bass", "other")

CSV = """\ufeff# by ear
stem,start,end

vocals,0.5,12.25
  # the drums are inactive
drums,,
vocals, 30, 60.05
"bass",5,7
bass,7,9
"""
LABELS = """\ufeff0.500000\t12.250000\tvocals
\\\t100.0\t3000.0
1.000000\t1.000000\tno drums
30.0\t60.05\tvocals

5\t7\tbass
7\t9\tbass
"""
SPANS = (
    Span("vocals", 0.5, 12.25),
    Span("drums", 0.0, 0.0),
    Span("vocals", 30.0, 60.0),  # cut at the end of the song
    Span("bass", 5.0, 7.0),
    Span("bass", 7.0, 9.0),
)


def write_file(folder, name: str, text: str):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "text"), [("a.csv", CSV), ("a.txt", LABELS), ("A.CSV", CSV), ("A.TXT", LABELS)])
def test_both_formats_give_the_same_spans(tmp_path, name, text):
    assert read(write_file(tmp_path, name, text), STEMS, 60.0) == SPANS
    path = write_file(tmp_path, f"windows-{name}", "")
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert read(path, STEMS, 60.0) == SPANS


def test_columns_may_come_in_any_order_and_with_others(tmp_path):
    text = "Start,End,who,Stem\n1,2,me,drums\n,,me,bass\n"
    assert read(write_file(tmp_path, "a.csv", text), STEMS, 60.0) == (Span("drums", 1.0, 2.0), Span("bass", 0.0, 0.0))


def test_a_stem_may_have_a_name_that_begins_with_no(tmp_path):
    path = write_file(tmp_path, "a.txt", "1\t2\tno vocals\n3\t3\tno drums\n")
    assert read(path, ("no vocals", "drums"), 9.0) == (Span("no vocals", 1.0, 2.0), Span("drums", 0.0, 0.0))


KNOWN = "he stems are vocals, drums, bass, other"
ROWS_WITH_ERRORS = {  # rows after the header, and the error message
    "voclas,1,2": f"line 2: unknown stem 'voclas'; did you mean 'vocals'? T{KNOWN}",
    "#\n\nkazoo,1,2": f"line 4: unknown stem 'kazoo'; t{KNOWN}",
    "bass,2,1.5": "line 2: bass from 2 to 1.5 s must start before it ends; "
    "'bass,,' says that it is inactive throughout",
    "bass,0,0": "line 2: bass from 0 to 0 s must start before it ends; 'bass,,' says that it is inactive throughout",
    "bass,-1,2": "line 2: bass from -1 to 2 s is not within the song, which ends at 60 s",
    "bass,50,60.2": "line 2: bass from 50 to 60.2 s is not within the song, which ends at 60 s",
    "bass,60,60.05": "line 2: bass from 60 to 60.05 s is not within the song, which ends at 60 s",
    "bass,20,30\ndrums,25,27\nbass,10,20.5": "line 4, bass from 10 to 20.5 s, and line 2, bass from 20 to 30 s, "
    "overlap: make them one, or move their ends apart",
    "bass,0,2\nbass,,": "line 3 says that bass is inactive throughout, and line 2 says bass from 0 to 2 s: remove one",
    "bass,,\nbass,,": "line 2 says that bass is inactive throughout, and line 3 says "
    "bass inactive throughout: remove one",
    "bass,one,2": "line 2: start 'one' is not a number of seconds: write it as 72.5, with a decimal point",
    "bass,0,1:12.5": "line 2: end '1:12.5' is not a number of seconds: write it as 72.5, with a decimal point",
    'bass,0,"1,5"': "line 2: end '1,5' is not a number",
    "bass,0,nan": "line 2: end 'nan' is not a number",
    "bass,0,inf": "line 2: end 'inf' is not a number",
    "bass,1,": "line 2: end '' is not a number",
    "bass,,1": "line 2: start '' is not a number",
    "bass,1": "line 2 'bass,1' lacks columns: it must be stem,start,end, or have both commas without start and end",
    'bass,1,"2': "line 2 'bass,1,\"2' cannot be read as a row",
    "# nothing": "names no stem: mark where one of vocals, drums, bass, other is active",
}


@pytest.mark.parametrize(("rows", "message"), ROWS_WITH_ERRORS.items(), ids=list(ROWS_WITH_ERRORS))
def test_bad_rows_of_a_table_are_one_line(tmp_path, rows, message):
    path = write_file(tmp_path, "a.csv", f"stem,start,end\n{rows}\n")
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}:? {re.escape(message)}.*$"):
        read(path, STEMS, 60.0)


LABELS_WITH_ERRORS = {
    "1\t2\tvoclas": "line 1: unknown stem 'voclas'; did you mean 'vocals'?",
    "1\t2\tno voclas": "line 1: unknown stem 'voclas'; did you mean 'vocals'?",
    "1\t2\t": "line 1: unknown stem ''; the stems are",
    "0\t1\tbass\n\\\t1\t2\n\n5\t5\tvocals": "line 4: vocals from 5 to 5 s must start before it ends; "
    "a label 'no vocals' says that it is inactive throughout",
    "0\t61\tbass": "line 1: bass from 0 to 61 s is not within the song, which ends at 60 s",
    "0\t5\tbass\n4.5\t6\tbass": "line 1, bass from 0 to 5 s, and line 2, bass from 4.5 to 6 s, overlap",
    "0\t5\tbass\n6\t6\tno bass": "line 2 says that bass is inactive throughout, and line 1 says bass from 0 to 5 s",
    "0,5\t6\tbass": "line 1: start '0,5' is not a number of seconds",
    "\t\tbass": "line 1: start '' is not a number of seconds",
    "1 2 bass": "line 1 '1 2 bass' is not a line of a label track of Audacity, "
    "which has start, end and label, separated by tabs",
    "stem,start,end": "line 1 'stem,start,end' is not a line of a label track of Audacity"
    ".*a table with commas needs the extension .csv",
    "1\t2": "line 1 '1\\t2' is not a line of a label track",
    "\\\t1\t2": "names no stem",
}


@pytest.mark.parametrize(("labels", "message"), LABELS_WITH_ERRORS.items(), ids=list(LABELS_WITH_ERRORS))
def test_bad_labels_are_one_line(tmp_path, labels, message):
    path = write_file(tmp_path, "a.txt", f"{labels}\n")
    message = re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}:? {message}.*$"):
        read(path, STEMS, 60.0)


def test_files_of_another_form(tmp_path):
    for name, text, message in (
        ("a.csv", "", "is empty"),
        ("a.txt", "\ufeff\n \n", "is empty"),
        ("a.csv", "# only\n", "names no stem"),
        ("a.csv", "bass,1,2\n", "line 1 must name the columns stem,start,end.*'bass,1,2' lacks stem, start, end"),
        ("a.csv", "# x\nstem,begin,end\n", "line 2 must name .*'stem,begin,end' lacks start$"),
        ("a.csv", "stem;start;end\n", "line 1 must .*, with commas between them; 'stem;start;end' lacks"),
        ("a.json", "{}", r"is neither a table of activations \(.csv\) nor a label track of Audacity \(.txt\)"),
    ):
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            read(write_file(tmp_path, name, text), STEMS, 60.0)
    (tmp_path / "b.csv").write_bytes(CSV.encode("utf-16"))
    with pytest.raises(ValueError, match=r"b\.csv: cannot be read as text: save it as \.csv in UTF-8"):
        read(tmp_path / "b.csv", STEMS, 60.0)
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(ValueError, match="no such file"):
            read(path, STEMS, 60.0)


def test_the_template_states_that_all_stems_are_active(tmp_path):
    for stems, seconds in ((STEMS, 214.3999993), (("a, b", 'the "lead"'), 0.3), (("x",), 10.0)):
        path = write_file(tmp_path, "a.csv", template(stems, seconds))
        spans = read(path, stems, seconds)
        assert [span.stem for span in spans] == list(stems)
        assert from_spans(spans, stems, round(seconds * 8000), 8000).all()
        assert read(path, stems, seconds - 0.05)[0].end == pytest.approx(seconds - 0.05)
    text = template(STEMS, 61.0)
    assert "The song ends at 61 s." in text
    assert text.endswith("stem,start,end\nvocals,0,61\ndrums,0,61\nbass,0,61\nother,0,61\n")
    # The examples in the comments are valid rows.
    for example in re.findall(r"^# +(vocals,\S*)", text, re.MULTILINE):
        read(write_file(tmp_path, "b.csv", f"stem,start,end\n{example}\n"), STEMS, 61.0)


def test_the_table_of_spans_is_read_back(tmp_path):
    assert to_csv(SPANS).startswith("stem,start,end\nvocals,0.5,12.25\ndrums,,\n")
    assert read(write_file(tmp_path, "a.csv", to_csv(SPANS)), STEMS, 60.0) == SPANS


@pytest.mark.parametrize("rate", [8000, 44_100, 192_000])
def test_tables_preserve_every_sample(tmp_path, rate):
    rng = np.random.default_rng(rate)
    active = np.cumsum(rng.random((4, 10_007)) < [[0.0], [0.003], [0.1], [0.6]], axis=1) % 2 == 1
    assert not active[0].any()
    path = write_file(tmp_path, "a.csv", to_csv(to_spans(active, STEMS, rate)))
    spans = read(path, STEMS, active.shape[1] / rate)
    np.testing.assert_array_equal(from_spans(spans, STEMS, active.shape[1], rate), active)


def test_stems_are_compared_without_regard_to_case(tmp_path):
    table = write_file(tmp_path, "a.csv", "stem,start,end\nVocals,1,2\nDRUMS,,\n")
    assert [span.stem for span in read(table, ("vocals", "drums"), 10.0)] == ["vocals", "drums"]
    labels = write_file(tmp_path, "a.txt", "1\t2\tVOCALS\n0\t1\tNo Drums\n")
    assert [(span.stem, span.end) for span in read(labels, ("vocals", "drums"), 10.0)] == [("vocals", 2), ("drums", 0)]
    with pytest.raises(ValueError, match="overlap"):
        read(write_file(tmp_path, "b.csv", "stem,start,end\nvocals,1,3\nVOCALS,2,4\n"), ("vocals",), 10.0)
    assert [span.stem for span in spans_of({"Vocals": [(0, 1)]}, ("vocals",), 2.0)[0]] == ["vocals"]
    with pytest.raises(ValueError, match=r"unknown stem of the activations 'vocal'; did you mean 'vocals'\?"):
        spans_of({"vocal": [(0, 1)]}, ("vocals",), 2.0)
