"""Names of stems and tracks: which are refused, and which are one name for a user."""

import unicodedata

import pytest

from data_pipelines.names import choose, match, quoted
from data_pipelines.schema import check_name, check_track_name

STEMS = ("violin", "double_bass", "Flügelhorn")


@pytest.mark.parametrize(
    "name", ["vocals", "Lead (2) + choir", "gtr_1.0-b", "鼓", "हिन्दी", unicodedata.normalize("NFD", "é")]
)
def test_plain_names(name):
    check_name(name, "a stem")
    check_track_name(name, "a track")


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "a/b", "/etc", "a\\b", "a@b", "a\0b", "a\nb", "\x7f", "x" * 201, "\udce9"]
)
def test_names_that_are_refused(name):
    for check in (check_name, check_track_name):
        with pytest.raises(ValueError, match=r"^song.wav: the name is ") as error:
            check(name, "song.wav: the name")
        assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["Don't Stop (Live), Pt. 2", "Q&A", "AC#DC!"])
def test_titles_have_more_punctuation_than_stems(name):
    check_track_name(name, "a track")
    with pytest.raises(ValueError, match="a stem is "):
        check_name(name, "a stem")


def test_labels_are_compared_without_case_and_form():
    assert choose("violin", STEMS) == choose("VIOLIN", STEMS) == "violin"
    assert choose(unicodedata.normalize("NFD", "FLÜGELHORN"), STEMS) == "Flügelhorn"
    assert match("A", ["a", "A"]) == "A"
    assert match("É", ["é", unicodedata.normalize("NFD", "é")]) is None  # either could be meant


def test_a_near_miss_is_suggested():
    with pytest.raises(
        ValueError, match=r"unknown label 'Voilin'; did you mean 'violin'\? This model knows violin, dou"
    ):
        choose("Voilin", STEMS)
    with pytest.raises(
        ValueError, match=r"unknown stem 'double bass'; did you mean 'double_bass'\? The stems are violin"
    ):
        choose("double bass", STEMS, "stem", "the stems are")
    with pytest.raises(ValueError, match=r"unknown label 'kazoo'; this model knows violin, double_bass, Flügelhorn$"):
        choose("kazoo", STEMS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a b", "'a b'"), ("a\nb\x1b[2J", r"'a\nb\x1b[2J'"), ("x" * 80, f"'{'x' * 80}'"), ("x" * 81, f"'{'x' * 80}…'")],
)
def test_quotes_of_files_are_short_and_in_one_line(text, expected):
    assert quoted(text) == expected
