"""Tests reading and writing manifests."""

import csv
import io
import json
import os

import fixture_files
import hypothesis
import pytest
from hypothesis import strategies as st

from data import manifest
from data.manifest import Entry, read_manifest, write_manifest
from official_utils.misc.errors import UserError

HEADER = "wav_filename\twav_filesize\ttranscript\n"
CSV_HEADER = HEADER.replace("\t", ",")
# What the original reads wrongly, or by accident: a file without header, quotes of a CSV writer, a row without transcript.
MENDED = {"first_line_always_dropped", "empty_file", "header_only", "quotes_kept", "two_columns"}


def written(folder, content: str | bytes) -> str:
  path = os.path.join(folder, "m.tsv")
  with open(path, "wb") as file:
    file.write(content if isinstance(content, bytes) else content.encode())
  return path


def original_cases() -> list:
  cases = fixture_files.load_json("dataset")["parse"]
  return [pytest.param(case, id=name) for name, case in cases.items() if "entries" in case and name not in MENDED]


@pytest.mark.parametrize("case", original_cases())
def test_reads_what_the_original_reads(case, tmp_path):
  entries = sorted(read_manifest(written(tmp_path, case["file_text"])), key=lambda entry: entry.size)
  assert entries == [(path, int(size), text) for path, size, text in case["entries"]]


def test_reads_the_fixture_with_paths_against_its_folder():
  entries = read_manifest(fixture_files.MANIFEST)
  assert entries[2] == Entry(os.path.join(fixture_files.FOLDER, "wavs/u2.wav"), 25400, " model don ")
  assert all(os.path.exists(entry.path) for entry in entries)


def test_a_relative_manifest_gives_absolute_paths(tmp_path, monkeypatch):
  written(tmp_path, HEADER + "a.wav\t10\tx\n")
  monkeypatch.chdir(tmp_path)
  assert read_manifest("m.tsv")[0].path == str(tmp_path / "a.wav")


@pytest.mark.parametrize(
  "text", ["one\u2028two", "one\x85two", "one\x0btwo", "one\x1ctwo", "one\rtwo", '5" nail', '"so']
)
def test_only_line_feeds_end_a_line_and_stray_quotes_survive(text, tmp_path):
  path = written(tmp_path, f"{HEADER}/a\t10\t{text}\n/b\t5\ty\r\n")
  assert read_manifest(path) == [("/a", 10, text), ("/b", 5, "y")]


@pytest.mark.parametrize("field", ['"so they said"', '"a" and "b"', '"', '""', '"""', "plain", '"a"b"'])
def test_text_in_quotes_that_no_csv_writer_wrote_is_text(field, tmp_path):
  assert read_manifest(written(tmp_path, f"{HEADER}/a\t10\t{field}\n"))[0].transcript == field


@hypothesis.given(text=st.text(alphabet='ab "\t,', max_size=12))
def test_undoes_the_quotes_of_a_csv_writer(text, tmp_path_factory):
  buffer = io.StringIO()
  csv.writer(buffer, delimiter="\t", lineterminator="\n").writerow(["/a", 10, text])
  path = written(tmp_path_factory.getbasetemp(), HEADER + buffer.getvalue())
  assert read_manifest(path) == [("/a", 10, text)]


def test_reads_comma_separated_rows_with_csv_quoting(tmp_path):
  rows = '/a,10,x\r\n\r\n"/b,c.wav",12,"he said ""no"", twice"\nrel.wav,5,one\u2028two\n'
  assert read_manifest(written(tmp_path, CSV_HEADER + rows)) == [
    ("/a", 10, "x"),
    ("/b,c.wav", 12, 'he said "no", twice'),
    (str(tmp_path / "rel.wav"), 5, "one\u2028two"),
  ]


def test_reads_json_lines(tmp_path):
  rows = [
    {"audio_filepath": "/a.flac", "duration": 1.25, "text": "ca\u2028fé", "speaker": 7},
    {"audio_filepath": "b.wav", "duration": 2, "text": "", "offset": 0},
  ]
  text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
  assert read_manifest(written(tmp_path, text)) == [
    ("/a.flac", 44 + 2 * 20000, "ca\u2028fé"),
    (str(tmp_path / "b.wav"), 64044, ""),
  ]


def test_skips_a_byte_order_mark_and_empty_lines_but_counts_them(tmp_path):
  path = written(tmp_path, "\ufeff" + HEADER + "\n/a\t10\tx\n\n/b\t10\ty\n")
  assert [(line, entry.path) for line, entry in manifest.read_numbered(path)] == [(3, "/a"), (5, "/b")]


FAULTS = {
  "empty": ("", ["is empty", "data/download.py", "--corpus=tones"]),
  "header_only": (HEADER, ["has no rows", "data/download.py"]),
  "no_header": ("/a\t10\tx\n", ["line 1", "header", "/a\\t10"]),
  "other_columns": ("path\tsize\ttext\n/a\t1\tx\n", ["line 1", "wav_filename", "path\\tsize"]),
  "blank_first_line": ("\n" + HEADER, ["line 1", "header"]),
  "two_fields": (HEADER + "/a\t10\tx\n/b\t10\n", ["line 3", "2 fields", "/b"]),
  "no_tabs": (HEADER + "/a 10 x\n", ["line 2", "1 fields"]),
  "float_size": (HEADER + "/a\t1.5\tx\n", ["line 2", "'1.5'", "44 + 2 * samples"]),
  "negative_size": (HEADER + "/a\t-4\tx\n", ["line 2", "'-4'"]),
  "no_path": (HEADER + "\t4\tx\n", ["line 2", "path of the audio file is empty"]),
  "not_utf8": (HEADER.encode() + b"/a\t10\tx\n/b\t10\tcaf\xe9\n", ["line 3", "not UTF-8"]),
  "csv_commas": (CSV_HEADER + "/a,10,yes, no\n", ["line 2", "4 fields", "quotes"]),
  "csv_quote": (CSV_HEADER + '/a,10,"yes"no\n', ["line 2", "quote the row"]),
  "json_broken": ('{"audio_filepath": "/a"\n', ["line 1", "JSON"]),
  "json_missing": ('{"audio_filepath": "/a", "text": "x"}\n', ["line 1", "duration"]),
  "json_list": ('{"audio_filepath": "/a", "duration": 1, "text": "x"}\n[1]\n', ["line 2", "no JSON object"]),
  "json_duration": ('{"audio_filepath": "/a", "duration": "1", "text": "x"}', ["line 1", "duration '1'"]),
  "json_nan": ('{"audio_filepath": "/a", "duration": NaN, "text": "x"}', ["line 1", "duration nan"]),
  "json_text": ('{"audio_filepath": "/a", "duration": 1, "text": null}', ["line 1", "text None"]),
  "json_offset": ('{"audio_filepath": "/a", "duration": 1, "text": "x", "offset": 3.5}', ["line 1", "offset 3.5"]),
}


@pytest.mark.parametrize(("content", "words"), FAULTS.values(), ids=FAULTS)
def test_names_each_fault_with_file_line_and_value(content, words, tmp_path):
  path = written(tmp_path, content)
  with pytest.raises(UserError) as caught:
    read_manifest(path)
  message = str(caught.value)
  assert "\n" not in message
  assert path in message
  for word in words:
    assert word in message


def test_a_missing_manifest_names_the_command_that_makes_one(tmp_path):
  with pytest.raises(UserError, match=r"no\.tsv.*No such file.*data/download\.py.*--corpus=tones"):
    read_manifest(str(tmp_path / "no.tsv"))
  with pytest.raises(UserError, match="Is a directory"):
    read_manifest(str(tmp_path))


def test_writes_paths_below_its_folder_relative(tmp_path):
  path = str(tmp_path / "new" / "m.tsv")
  inside, outside = str(tmp_path / "new" / "wavs" / "a.wav"), str(tmp_path / "b.wav")
  entries = [Entry(inside, 10, "x"), Entry(outside, 20, "y")]
  write_manifest(path, entries)
  assert (tmp_path / "new" / "m.tsv").read_text() == f"{HEADER}wavs/a.wav\t10\tx\n{outside}\t20\ty\n"
  assert read_manifest(path) == entries


ENTRIES = st.builds(
  Entry,
  path=st.text(alphabet='ab/". é', min_size=1, max_size=8).map(lambda name: "/" + name),
  size=st.integers(0, 10**12),
  transcript=st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
  | st.text(alphabet='a"\t', max_size=8),
)


@hypothesis.given(entries=st.lists(ENTRIES, min_size=1, max_size=5))
def test_reads_back_what_it_wrote(entries, tmp_path_factory):
  path = str(tmp_path_factory.getbasetemp() / "round" / "m.tsv")
  write_manifest(path, entries)
  assert read_manifest(path) == entries


@pytest.mark.parametrize("entry", [Entry("/a", 1, "x\ny"), Entry("/a\tb", 1, "x"), Entry("/a", 1, "x\r")])
def test_refuses_to_write_what_cannot_be_read_back(entry, tmp_path):
  path = tmp_path / "m.tsv"
  with pytest.raises(UserError, match="cannot hold"):
    write_manifest(str(path), [Entry("/z", 1, "z"), entry])
  assert not path.exists()


@hypothesis.given(samples=st.integers(0, 10**9))
def test_sizes_and_durations_agree(samples):
  size = manifest.HEADER_BYTES + 2 * samples
  assert manifest.duration_to_size(manifest.size_to_duration(size)) == size
