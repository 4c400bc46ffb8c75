import pytest

from lab.data.faults import MOST, MOST_OF_A_FILE, Faults
from lab.data.records import EmptyFileError


def wrong(number):
    return ValueError(f"line {number} is wrong")


def make(number):
    if number % 2:
        raise wrong(number)
    return 10 * number


def test_nothing_that_is_wrong():
    faults = Faults()
    assert list(faults.read([0, 2, 4], make)) == [0, 20, 40]
    faults.refuse()
    assert not faults


def test_one_error_is_raised_as_it_is():
    faults, error = Faults(), EmptyFileError("a.txt is empty")
    with faults.gather():
        raise error
    with pytest.raises(EmptyFileError) as caught:
        faults.refuse()
    assert caught.value is error


def test_what_is_right_is_read_and_what_is_wrong_is_listed():
    faults = Faults()
    assert list(faults.read([0, wrong(7), 1, 2, 3], make)) == [0, 20]
    with faults.gather():
        raise ValueError("b.txt is not there")
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message follows)
        faults.refuse()
    lines = ["4 faults:", *(f"line {number} is wrong" for number in (7, 1, 3)), "b.txt is not there"]
    assert str(caught.value).splitlines() == [lines[0], *(f"  {line}" for line in lines[1:])]


def test_an_error_of_the_file_ends_it_and_one_that_is_skipped_is_none():
    def items(error):
        yield 0
        raise error

    faults = Faults()
    assert list(faults.read(items(EmptyFileError("")), make, (EmptyFileError,))) == [0]
    assert not faults
    assert list(faults.read(items(wrong("last")), make, (EmptyFileError,))) == [0]
    with pytest.raises(ValueError, match=r"^line last is wrong$"):
        faults.refuse()
    with pytest.raises(OSError, match="the disk"):
        list(faults.read(items(OSError("the disk")), make))


def test_of_many_faults_some_are_looked_for():
    faults, seen = Faults(), []
    assert list(faults.read((seen.append(number) or 1 for number in range(99)), make)) == []
    assert len(seen) == len(faults) == MOST_OF_A_FILE
    with pytest.raises(ValueError, match=f"^{MOST_OF_A_FILE} faults and maybe more:"):
        faults.refuse()
    files = (faults.read([1] * 99, make) for _ in range(MOST))
    with pytest.raises(ValueError, match=f"^{MOST} faults and maybe more:"):
        list(map(list, files))
