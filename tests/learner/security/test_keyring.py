"""Who is let in: the list, its changes under a running learner, and the commands that write it."""

from __future__ import annotations

import fcntl
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from learner.cli import app
from learner.security import keyring
from learner.security.keyring import (
    LIST,
    LOCK,
    OWN,
    Authorized,
    Keyring,
    ListError,
    authorize,
    read_list,
    revoke,
    write_list,
)
from protocol.messages import ROLES
from protocol.transport.keys import KeyFileError, actor_pair, read_pair, write_pair
from protocol.transport.learner_sockets import new_pair

ONE, TWO = new_pair("one").public, new_pair("two").public


def ring(folder: Path, **names: str) -> Keyring:
    write_pair(folder / OWN, new_pair("learner"))
    write_list(folder / LIST, {key: Authorized(name) for name, key in names.items()})
    return Keyring(folder)


def looked(keys: Keyring) -> dict[str, frozenset[str]]:
    """Twice, as a list that changes is: the first look notes it."""
    return keys.refresh() | keys.refresh()


def test_who_is_on_the_list_is_known_by_name(tmp_path: Path) -> None:
    keys = ring(tmp_path, one=ONE)
    keys.extra[TWO] = Authorized("local")
    assert (keys.name(ONE), keys.name(TWO), keys.name(new_pair("x").public)) == ("one", "local", None)


def test_a_list_that_changes_is_noticed_once(tmp_path: Path) -> None:
    keys = ring(tmp_path, one=ONE)
    assert keys.refresh() == {}
    authorize(tmp_path, TWO, "two")
    assert (keys.name(TWO), looked(keys), keys.name(TWO)) == (None, {}, "two")
    assert revoke(tmp_path, "one") == "one"
    assert (looked(keys), looked(keys), keys.name(ONE)) == ({ONE: ROLES}, {}, None)


def test_an_editor_that_empties_the_list_before_it_writes_shuts_nobody_out(tmp_path: Path) -> None:
    keys, path = ring(tmp_path, one=ONE, two=TWO), tmp_path / LIST
    path.write_text("", encoding="utf-8")
    assert keys.refresh() == {}
    path.write_text(f"{ONE} one\n", encoding="utf-8")
    assert looked(keys) == {TWO: ROLES}


def test_a_list_that_could_not_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ring(tmp_path, one=ONE, two=TWO)
    revoke(tmp_path, "two")
    with monkeypatch.context() as patched:
        patched.setattr(keyring, "MAX_LIST_BYTES", 3)
        with pytest.raises(ListError, match="3 bytes"):
            looked(keys)
        assert looked(keys) == {}  # told once
        assert keys.name(TWO) == "two"
    assert keys.refresh() == {TWO: ROLES}


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_list_that_others_may_write_is_refused(mode: int, tmp_path: Path) -> None:
    authorize(tmp_path, ONE, "one")
    (tmp_path / LIST).chmod(mode)
    with pytest.raises(ListError, match="others may write it"):
        read_list(tmp_path / LIST)


def test_a_list_keeps_its_mode(tmp_path: Path) -> None:
    authorize(tmp_path, ONE, "one")
    (tmp_path / LIST).chmod(0o640)
    authorize(tmp_path, TWO, "two")
    assert stat.S_IMODE((tmp_path / LIST).stat().st_mode) == 0o640


def test_commands_change_the_list_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def while_locked(path: Path, listed: Mapping[str, Authorized]) -> None:
        with (tmp_path / LOCK).open("r+") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        written.append([*listed])

    monkeypatch.setattr(keyring, "write_list", while_locked)
    authorize(tmp_path, ONE, "one")
    assert written == [[ONE]]


def test_a_list_that_is_gone_lets_nobody_in(tmp_path: Path) -> None:
    keys = ring(tmp_path, one=ONE)
    (tmp_path / LIST).unlink()
    assert looked(keys) == {ONE: ROLES}
    assert keys.name(ONE) is None


def test_a_list_that_cannot_be_read_changes_nothing_and_is_told_once(tmp_path: Path) -> None:
    keys = ring(tmp_path, one=ONE)
    (tmp_path / LIST).write_text(f"{ONE} one\nrubbish\n", encoding="utf-8")
    with pytest.raises(ListError, match="line 2 is not PUBLIC_KEY NAME"):
        looked(keys)
    assert looked(keys) == {}
    assert keys.name(ONE) == "one"


@pytest.mark.parametrize(
    "text",
    ["x one", f"{ONE}", f"{ONE} a b", f"{ONE} one\n{ONE} two", f"{ONE} one\n{TWO} one"],
    ids=["no key", "no name", "two names", "one key twice", "one name twice"],
)
def test_what_is_no_list_is_refused_with_its_line(text: str, tmp_path: Path) -> None:
    (tmp_path / LIST).write_text(text, encoding="utf-8")
    with pytest.raises(ListError, match=r"line [12]"):
        read_list(tmp_path / LIST)


def test_comments_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / LIST).write_text(f"# who\n#{'-' * 39}\n\n{ONE} one\n", encoding="utf-8")
    assert read_list(tmp_path / LIST) == {ONE: Authorized("one")}


def test_the_same_key_or_name_is_not_let_in_twice(tmp_path: Path) -> None:
    authorize(tmp_path, ONE, "one")
    for public, name in ((ONE, "other"), (TWO, "one"), ("short", "x"), (TWO, "a b"), (TWO, "a" * 40)):
        with pytest.raises(ListError):
            authorize(tmp_path, public, name)
    assert read_list(tmp_path / LIST) == {ONE: Authorized("one")}
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, LIST]


def test_who_is_not_there_cannot_be_revoked(tmp_path: Path) -> None:
    authorize(tmp_path, ONE, "one")
    with pytest.raises(ListError, match="'two' is not there; 1 are: one"):
        revoke(tmp_path, "two")


def test_a_learner_without_its_key_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"learner\.key"):
        Keyring(tmp_path)


def test_a_key_may_do_what_its_line_says_and_without_roles_all(tmp_path: Path) -> None:
    (tmp_path / LIST).write_text(f"{ONE} one\n{TWO} two evaluate\n", encoding="utf-8")
    write_pair(tmp_path / OWN, new_pair("learner"))
    keys = Keyring(tmp_path)
    assert [sorted(keys.roles(key)) for key in (ONE, TWO)] == [["evaluate", "train"], ["evaluate"]]
    assert keys.roles(new_pair("x").public) == frozenset()
    write_list(tmp_path / LIST, read_list(tmp_path / LIST))
    assert (tmp_path / LIST).read_text(encoding="utf-8").splitlines() == [f"{ONE} one", f"{TWO} two evaluate"]


def test_a_key_that_lost_a_role_is_cut_off_and_one_that_gained_one_is_not(tmp_path: Path) -> None:
    keys, path = ring(tmp_path, one=ONE, two=TWO), tmp_path / LIST
    path.write_text(f"{ONE} one train\n{TWO} two\n", encoding="utf-8")
    assert looked(keys) == {ONE: frozenset({"evaluate"})}
    path.write_text(f"{ONE} one train,evaluate\n{TWO} two\n", encoding="utf-8")
    assert looked(keys) == {}
    assert keys.roles(ONE) == {"train", "evaluate"}


@pytest.mark.parametrize(
    "text",
    [f"{ONE} one watch", f"{ONE} one train,", f"{ONE} one train evaluate"],
    ids=["another", "a comma", "two words"],
)
def test_a_role_that_there_is_not_is_refused_with_its_line(text: str, tmp_path: Path) -> None:
    (tmp_path / LIST).write_text(text, encoding="utf-8")
    with pytest.raises(ListError, match="line 1"):
        read_list(tmp_path / LIST)


# the commands


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["keys", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_new_key_fits_the_learner_and_is_let_in(tmp_path: Path) -> None:
    folder = str(tmp_path / "keys")
    output = said("new", "rack7", "--keys", folder)
    pair, own = actor_pair(tmp_path / "keys" / "rack7.key"), read_pair(tmp_path / "keys" / OWN)
    assert pair.learner == own.public
    assert output.split() == [f"{folder}/rack7.key", pair.public]
    assert said("list", "--keys", folder).split() == [pair.public, "rack7"]
    assert said("public", "--keys", folder).strip() == own.public
    for secret in (pair.secret, own.secret):
        assert secret.reveal().decode() not in output
    said("new", "rack8", "--keys", folder)
    assert read_pair(tmp_path / "keys" / OWN) == own
    said("revoke", "rack7", "--keys", folder)
    assert said("list", "--keys", folder).split()[1:] == ["rack8"]


def test_a_key_is_made_for_a_role(tmp_path: Path) -> None:
    folder = str(tmp_path)
    said("new", "judge", "--keys", folder, "--role", "evaluate")
    said("authorize", "--keys", folder, "--role", "train", "--role", "evaluate", "--", ONE, "both")
    assert [line.split()[1:] for line in said("list", "--keys", folder).splitlines()] == [
        ["judge", "evaluate"],
        ["both"],
    ]
    with pytest.raises(ListError, match="the role 'watch'; there are evaluate and train"):
        said("new", "other", "--keys", folder, "--role", "watch")
    assert not (tmp_path / "other.key").exists()


def test_a_name_that_is_taken_leaves_no_key_behind(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    authorize(folder, ONE, "rack7")
    with pytest.raises(ListError):
        said("new", "rack7", "--keys", str(folder))
    assert not (folder / "rack7.key").exists()


@pytest.mark.parametrize("name", ["learner", "a b", "../up", ""])
def test_a_name_that_cannot_be_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ListError):
        said("new", name, "--keys", str(tmp_path))
    assert list(tmp_path.iterdir()) == []
