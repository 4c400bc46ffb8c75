"""Small files of the published forms; what lm-evaluation-harness makes of the same records is written out."""

import csv
import gzip
import json
import os
from pathlib import Path
from typing import get_args

import pyarrow
import pytest
from pyarrow import parquet

from lab.config import TaskConfig
from lab.evaluation import task_files
from lab.evaluation.task_files import Question, read_questions

ROOF = {
    "ind": 24,
    "activity_label": "Roof shingle removal",
    "ctx_a": "A man is sitting on a roof.",
    "ctx_b": "he",
    "ctx": "A man is sitting on a roof. he",
    "endings": ["is using wrap.", "is ripping tiles off.", "holds a cube.", "starts pulling up roofing."],
    "label": 3,
}
WIKI = {
    "activity_label": "Family Life",
    "ctx_a": "[header] How to relax [title] Set the mood. [step] Choose  a time.",
    "ctx_b": "",
    "endings": [" Wait. [substeps] Sit.", "Go [title] Stay", "c", "d"],
    "label": "0",
}
ANATOMY = [
    ["What is red?\nSay, which", "Blood", "Bone", "Bile, fresh", "None", "A"],
    ['  Which is "hard"? ', "Blood", "Bone", "", "NA", "B"],
    ["Where is the heart?", "Head", "Hand", "Foot", "Chest", "D"],
]
MMLU_ROW = {
    "question": "Pick C.",
    "subject": "high_school_physics",
    "choices": ["1", "2", "3", "4"],
    "answer": 2,
}
PICK = {"context": "2 + 2 = ", "options": ["3", "four", "5"], "answer": 1}
HEADER = "The following are multiple choice questions (with answers) about {}.\n\n"


@pytest.fixture
def write(tmp_path):
    """Writes a file and gives its path: records as JSON lines or parquet, lists as CSV, bytes as they are."""

    def made(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif name.endswith(".parquet"):
            parquet.write_table(pyarrow.Table.from_pylist(content), path)
        elif ".csv" in name:
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(content)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        return str(path)

    return made


def read(form, *files, **settings):
    return read_questions(TaskConfig(form=form, files=files, **settings))


def test_every_form_has_a_reader():
    assert set(get_args(TaskConfig.model_fields["form"].annotation)) == set(task_files._FORMS)


@pytest.mark.parametrize("name", ["val.jsonl", "val.parquet"])
def test_hellaswag_is_cleaned_as_the_harness_does(write, name):
    rows = [ROOF, {**ROOF, "label": 1}] if name.endswith("parquet") else [ROOF, WIKI]
    found = read("hellaswag", write(name, rows)).questions
    roof = "Roof shingle removal: A man is sitting on a roof. He"
    assert found[0] == Question(roof, tuple(ROOF["endings"]), 3, " ")
    if name == "val.jsonl":
        assert found[1] == Question(
            "Family Life: How to relax. Set the mood. Choose a time.",
            ("Wait. Sit.", "Go. Stay", "c", "d"),
            0,
            " ",
        )
    assert found[0].solved == f"{roof} starts pulling up roofing."


def test_hellaswag_may_have_its_context_in_one_piece(write):
    whole = {key: value for key, value in ROOF.items() if key not in ("ctx_a", "ctx_b")}
    (question,) = read("hellaswag", write("a.jsonl", [whole])).questions
    assert question.context == "Roof shingle removal: A man is sitting on a roof. he"


@pytest.mark.parametrize("name", ["anatomy_test.csv", "anatomy_val.csv", "ANATOMY.CSV".lower()])
def test_mmlu_is_a_csv_without_a_header_whose_subject_is_in_its_name(write, name):
    asked = read("mmlu", write(name, ANATOMY))
    assert asked.before == {"anatomy": HEADER.format("anatomy")}
    assert asked.questions[0] == Question(
        "What is red?\nSay, which\nA. Blood\nB. Bone\nC. Bile, fresh\nD. None\nAnswer:",
        ("A", "B", "C", "D"),
        0,
        " ",
        "anatomy",
    )
    assert asked.questions[1].context == 'Which is "hard"?\nA. Blood\nB. Bone\nC. \nD. NA\nAnswer:'
    assert [question.answer for question in asked.questions] == [0, 1, 3]


@pytest.mark.parametrize("name", ["test.jsonl", "test.parquet"])
def test_mmlu_names_the_subject_of_each_row(write, name):
    asked = read("mmlu", write(name, [MMLU_ROW, {**MMLU_ROW, "subject": "anatomy", "answer": 0}]))
    assert [question.answer for question in asked.questions] == [2, 0]
    assert asked.before == {
        "high_school_physics": HEADER.format("high school physics"),
        "anatomy": HEADER.format("anatomy"),
    }


def test_a_last_word_and_a_pair(write):
    (word,) = read("lambada", write("a.jsonl", [{"text": "He went to the  sea side\n"}])).questions
    assert word == Question("He went to the  sea", ("side",), 0, " ")
    assert word.solved == "He went to the  sea side"
    rows = [["sentence_good", "field", "sentence_bad"], ["Cats purr.", "x", "Cats purrs."]]
    (pair,) = read("blimp", write("a.csv", rows)).questions
    assert pair == Question("", ("Cats purr.", "Cats purrs."), 0)


def test_a_question_of_ones_own_is_as_it_stands(write):
    (own,) = read("choice", write("a.jsonl", [PICK])).questions
    assert own == Question("2 + 2 = ", ("3", "four", "5"), 1)
    assert own.solved == "2 + 2 = four"


def test_examples_are_the_first_of_their_file(write):
    files = write("val.jsonl", [ROOF])
    dev = write("train.jsonl", [WIKI, {**ROOF, "activity_label": "Other", "label": 0}, {**WIKI, "label": 2}])
    (before,) = read("hellaswag", files, dev_files=[dev], shots=2).before.values()
    assert before == (
        "Family Life: How to relax. Set the mood. Choose a time. Wait. Sit.\n\n"
        "Other: A man is sitting on a roof. He is using wrap.\n\n"
    )


def test_examples_of_mmlu_are_of_the_subject(write):
    """Golden: the prompt of the harness at two shots, but for the question itself."""
    write("test/anatomy_test.csv", ANATOMY[2:])
    write("test/physics_test.csv", ANATOMY[2:])
    write("dev/anatomy_dev.csv", ANATOMY[:2])
    other = [["2", "1", "2", "3", "4", "B"], ["3", "1", "2", "3", "4", "C"], ["4", "1", "2", "3", "4", "D"]]
    folder = os.path.dirname(os.path.dirname(write("dev/physics_dev.csv", other)))  # noqa: PTH120
    asked = read("mmlu", f"{folder}/test/*.csv", dev_files=[f"{folder}/dev/*.csv"], shots=2)
    assert [question.subject for question in asked.questions] == ["anatomy", "physics"]
    assert asked.before["anatomy"] == HEADER.format("anatomy") + (
        "What is red?\nSay, which\nA. Blood\nB. Bone\nC. Bile, fresh\nD. None\nAnswer: A\n\n"
        'Which is "hard"?\nA. Blood\nB. Bone\nC. \nD. NA\nAnswer: B\n\n'
    )
    assert asked.before["physics"] == HEADER.format("physics") + (
        "2\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: B\n\n3\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: C\n\n"
    )
    with pytest.raises(ValueError, match=r"must hold 3 questions of the subject 'anatomy', but .* hold 2\."):
        read("mmlu", f"{folder}/test/*.csv", dev_files=[f"{folder}/dev/*.csv"], shots=3)


def test_too_few_examples_and_those_that_are_asked_too_are_refused(write):
    path = write("a.jsonl", [PICK, {**PICK, "context": "1 + 1 = "}])
    with pytest.raises(ValueError, match=r"`tasks\.dev_files` must hold 3 questions, but \[.*\] hold 2\."):
        read("choice", path, dev_files=[path], shots=3)
    with pytest.raises(ValueError, match=r"other questions than `tasks\.files`, but both hold '2 \+ 2 = '"):
        read("choice", path, dev_files=[path], shots=1)
    with pytest.raises(
        ValueError, match=r"`tasks\.dev_files` must exist, but there is no file 'none\.jsonl'"
    ):
        read("choice", path, dev_files=["none.jsonl"], shots=1)


def test_the_first_questions_of_each_file_are_asked(write):
    rows = [{**PICK, "context": f"{number} "} for number in range(5)]
    files = [write("a.jsonl", rows[:3]), write("b.jsonl", rows[3:])]
    for most, asked in ((0, "01234"), (1, "03"), (2, "0134"), (9, "01234")):
        found = read("choice", *files, questions=most).questions
        assert "".join(question.context.strip() for question in found) == asked


def test_the_digest_is_of_what_is_asked_and_of_no_path(write):
    rows, dev = [PICK, {**PICK, "context": "a"}], write("dev.jsonl", [{**PICK, "context": "b"}])
    first = read("choice", write("a.jsonl", rows)).digest
    moved = write("moved/b.jsonl", rows)
    assert read("choice", moved).digest == first
    packed = write(
        "c.jsonl.gz",
        gzip.compress(
            b"\xef\xbb\xbf" + json.dumps(PICK).encode() + b"\r\n\r\n" + json.dumps(rows[1]).encode()
        ),
    )
    assert read("choice", packed, packed).digest == first  # a file that is named twice counts once
    assert read("choice", packed).digest == first
    others = [
        read("choice", moved, questions=1),
        read("choice", moved, dev_files=[dev], shots=1),
        read("choice", write("d.jsonl", [PICK, {**PICK, "context": "a", "answer": 0}])),
        read("choice", write("e.jsonl", rows[::-1])),
    ]
    assert len({first, *(other.digest for other in others)}) == 5


def test_a_file_is_read_once_until_it_changes(write, monkeypatch):
    path, reads, real = write("a.jsonl", [PICK]), [], task_files.scan_records
    monkeypatch.setattr(task_files, "scan_records", lambda *a, **k: reads.append(a) or real(*a, **k))
    assert read("choice", path) is read("choice", path)
    write("a.jsonl", [PICK, PICK])
    assert len(read("choice", path).questions) == 2
    assert len(reads) == 2


def test_all_that_is_wrong_is_said_together(write):
    first = write("a.jsonl", [PICK, {**PICK, "answer": 3}, [], PICK, {**PICK, "context": None}])
    second = write("b.csv", [["context"], ["x", "y"]])
    examples = write("c.jsonl", [{}])
    with pytest.raises(ValueError, match=r"^5 faults:\n") as caught:
        read("choice", first, second, dev_files=[examples], shots=1)
    lines = str(caught.value).splitlines()[1:]
    places = [("a.jsonl", 2), ("a.jsonl", 3), ("a.jsonl", 5), ("b.csv", 2), ("c.jsonl", 1)]
    assert [Path(line.partition(":")[0]).name for line in lines] == [f"{n}, line {k}" for n, k in places]
    with pytest.raises(ValueError, match=r"(?s)^2 faults:.*`tasks.files`.* 'x'.*`tasks.dev_files`.* 'y'"):
        read("choice", first, "x", dev_files=["y"], shots=1)


def test_files_are_found_by_their_literal_names(write, tmp_path):
    folder = tmp_path / "mmlu [2021]"
    folder.mkdir()
    moved = Path(write("a.jsonl", [PICK])).rename(folder / "a[1].jsonl")
    assert read("choice", str(moved)).questions == read("choice", f"{folder}/*.jsonl").questions


PARQUET_NULL = [ROOF, {**ROOF, "endings": [*ROOF["endings"][:3], None]}]


@pytest.mark.parametrize(
    ("form", "name", "content", "message"),
    [
        ("hellaswag", "a.jsonl", [ROOF, {**ROOF, "label": 4}], r"a\.jsonl, line 2: .* 0 to 3, .* but got 4"),
        (
            "hellaswag",
            "a.jsonl",
            [{**ROOF, "label": ""}],
            r"line 1: expected 'label' to be 0 to 3, .* got ''",
        ),
        ("hellaswag", "a.jsonl", [{**ROOF, "label": True}], r"line 1: .*'label' to be 0 to 3, .* got True"),
        ("hellaswag", "a.jsonl", [{**ROOF, "label": -1}], r"line 1: .*'label' to be 0 to 3, .* got -1"),
        ("hellaswag", "a.jsonl", [{**ROOF, "label": 1.0}], r"line 1: .*'label' to be 0 to 3, .* got 1\.0"),
        ("hellaswag", "a.jsonl", [{"ctx": "a"}], r"line 1: expected the field 'endings', but got \['ctx'\]"),
        ("hellaswag", "a.jsonl", [{**ROOF, "endings": ["a"] * 3}], r"line 1: expected 4 texts .* but got 3"),
        (
            "hellaswag",
            "a.jsonl",
            [{**ROOF, "endings": "abcd"}],
            r"expected 4 texts in 'endings', but got str",
        ),
        ("hellaswag", "a.jsonl", [{**ROOF, "ctx_a": None}], r"expected text in 'ctx_a', but got NoneType"),
        ("hellaswag", "a.jsonl", [{**ROOF, "ctx_a": " "}], r"expected words in 'ctx_a', but got ' '"),
        ("hellaswag", "a.jsonl", [{**ROOF, "endings": ["[a]", *"bcd"]}], r"words in each of 'endings', but"),
        ("hellaswag", "a.jsonl", [{**ROOF, "endings": ["", *"bcd"]}], r"words in each of 'endings', but got"),
        ("hellaswag", "a.parquet", PARQUET_NULL, r"a\.parquet, row 1: expected text in 'endings', but got N"),
        ("hellaswag", "a.parquet", [{**ROOF, "label": None}], r"row 0: expected 'label' .* but got None"),
        (
            "mmlu",
            "a_test.csv",
            [*ANATOMY, list("abcde")],
            r"a_test\.csv, line 5: expected 6 columns, .* got 5",
        ),
        (
            "mmlu",
            "a_test.csv",
            [["question", *"ABCD", "answer"]],
            r"line 1: expected 'answer' .* got 'answer'",
        ),
        ("mmlu", "a_test.csv", [[*"qabcd", "E"]], r"a_test\.csv, line 1: expected 'answer' .* but got 'E'"),
        (
            "mmlu",
            "a_test.csv",
            b'"a,b,c,d,e,A\n',
            r"a_test\.csv, line 1: expected a row of CSV, but it is none",
        ),
        ("mmlu", "a_test.csv", b"\n\r\n", r"a_test\.csv: expected questions, but the file holds none"),
        ("mmlu", "a_test.csv", b"", r"a_test\.csv: expected text, but the file is empty"),
        (
            "mmlu",
            "a.jsonl",
            [{**MMLU_ROW, "choices": list("abc")}],
            r"expected 4 texts in 'choices', but got 3",
        ),
        ("lambada", "a.jsonl", [{"text": " word "}], r"line 1: expected words before the last one in 'text'"),
        (
            "lambada",
            "a.jsonl",
            [{"text": "a \ud800"}],
            r"line 1: expected Unicode text in 'text', but surrog",
        ),
        ("lambada", "a.jsonl", b"{}\n", r"a\.jsonl, line 1: expected the field 'text', but got \[\]"),
        (
            "blimp",
            "a.csv",
            [["sentence_good", "sentence_bad", "sentence_good"]],
            r"'sentence_good' is there twice",
        ),
        (
            "blimp",
            "a.csv",
            [["sentence_good"], ["x"]],
            r"line 2: expected the field 'sentence_bad', but got \[",
        ),
        ("blimp", "a.csv", [["sentence_good", "sentence_bad"]], r"a\.csv: expected questions, but the file"),
        (
            "choice",
            "a.jsonl",
            [{**PICK, "options": ["a"]}],
            r"expected 2 or more texts in 'options', but got 1",
        ),
        (
            "choice",
            "a.jsonl",
            [{**PICK, "answer": 3}],
            r"line 1: expected 'answer' to be 0 to 2, .* but got 3",
        ),
        (
            "choice",
            "a.jsonl",
            [{**PICK, "answer": "D"}],
            r"line 1: expected 'answer' to be 0 to 2, .* got 'D'",
        ),
        ("choice", "a.jsonl", [{**PICK, "context": 3}], r"line 1: expected text in 'context', but got int"),
        ("choice", "a.xlsx", b"x", r"`path` must end in \.txt, \.md, .*\.csv, .* but got '.*a\.xlsx'"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(write, form, name, content, message):
    path = write(name, content)
    with pytest.raises(ValueError, match=message):
        read(form, path)


def test_a_mark_and_returns_of_other_systems_are_no_part_of_a_question(write):
    plain = read("mmlu", write("anatomy_test.csv", b"q,a,b,c,d,A\nr,a,b,c,d,B\n")).questions
    assert (
        read("mmlu", write("x/anatomy_test.csv", b"\xef\xbb\xbfq,a,b,c,d,A\r\n\r\nr,a,b,c,d,B\r\n")).questions
        == plain
    )


def test_what_is_not_there_is_refused(write, tmp_path):
    with pytest.raises(ValueError, match=r"`tasks\.files` must exist, but there is no file 'none/\*\.csv'"):
        read("mmlu", "none/*.csv")
    with pytest.raises(ValueError, match=r"`path` must end in .* but got"):
        read("mmlu", str(tmp_path))
