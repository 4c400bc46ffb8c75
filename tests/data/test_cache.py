import pytest

from lab.data.cache import is_intact, write_folder


def fill(text):
    def write(folder):
        (folder / "a.txt").write_text(text)
        (folder / "b.txt").write_text("b")

    return write


def test_a_written_folder_is_intact_and_replaces_the_former(tmp_path):
    folder = tmp_path / "key"
    write_folder(folder, fill("one"))
    assert is_intact(folder)
    write_folder(folder, fill("two"))
    assert is_intact(folder)
    assert (folder / "a.txt").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def damage_flip(folder):
    (folder / "a.txt").write_text("0ne")


def damage_remove(folder):
    (folder / "b.txt").unlink()


def damage_add(folder):
    (folder / "c.txt").write_text("c")


def damage_checksums(folder):
    (folder / "checksums.json").write_text("{")


def damage_empty(folder):
    for name in ("a.txt", "b.txt"):
        (folder / name).unlink()
    (folder / "checksums.json").write_text("{}")


@pytest.mark.parametrize(
    "damage",
    [damage_flip, damage_remove, damage_add, damage_checksums, damage_empty],
    ids=lambda damage: damage.__name__,
)
def test_damage_is_noticed(damage, tmp_path):
    folder = tmp_path / "key"
    write_folder(folder, fill("one"))
    damage(folder)
    assert not is_intact(folder)


def test_an_absent_folder_is_not_intact(tmp_path):
    assert not is_intact(tmp_path / "absent")


def test_a_failed_write_leaves_what_was_there_and_a_killed_ones_rest_is_cleared(tmp_path):
    folder = tmp_path / "key"
    write_folder(folder, fill("one"))
    (tmp_path / ".key-killed").mkdir()
    (tmp_path / ".other-alive").mkdir()

    def fail(path):
        fill("two")(path)
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_folder(folder, fail)
    assert is_intact(folder)
    assert (folder / "a.txt").read_text() == "one"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other-alive", "key"]
