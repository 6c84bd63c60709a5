"""Key files: their owner's alone, whole or refused, and silent about what they hide."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from protocol.transport.keys import (
    KeyFileError,
    Secret,
    actor_pair,
    handed_out,
    is_name,
    is_public_key,
    lent,
    read_pair,
    write_pair,
)
from protocol.transport.learner_sockets import new_pair

LEARNER = new_pair("learner")


def written(folder: Path, text: str) -> Path:
    path = folder / "some.key"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def test_a_pair_is_read_as_it_was_written_and_is_its_owner_s_alone(tmp_path: Path) -> None:
    pair, path = new_pair("rack-7.a_b", LEARNER.public), tmp_path / "new" / "rack.key"
    write_pair(path, pair)
    assert read_pair(path) == actor_pair(path) == pair
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_secret_does_not_show(tmp_path: Path) -> None:
    pair = new_pair("rack")
    hidden = pair.secret.reveal().decode()
    assert hidden not in f"{pair!r} {pair} {pair.secret!r} {pair.secret} {[pair.secret]}"
    broken = written(tmp_path, f'name = "rack"\npublic = "short"\nsecret = "{hidden}"\n')
    with pytest.raises(KeyFileError) as error:
        read_pair(broken)
    assert hidden not in str(error.value)
    assert repr(Secret(hidden)) == "Secret(...)"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o777])
def test_a_file_that_others_may_use_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "rack.key"
    write_pair(path, LEARNER)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=rf"mode 0?{mode:o}.*chmod 600"):
        read_pair(path)


@pytest.mark.parametrize(
    ("mode", "owner", "group", "taken"),
    [
        (0o440, 0, 10001, True),  # a secret of Kubernetes, with fsGroup
        (0o640, 0, 10002, True),
        (0o440, 0, 7, False),  # a group that is not ours
        (0o440, 5, 10001, False),  # another user's
        (0o660, 0, 10001, False),
        (0o444, 0, 10001, False),
    ],
)
def test_root_may_hand_a_key_to_our_group(
    monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, group: int, taken: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    monkeypatch.setattr(os, "getegid", lambda: 10001)
    monkeypatch.setattr(os, "getgroups", lambda: [10002])
    status = os.stat_result((stat.S_IFREG | mode, 1, 1, 1, owner, group, 9, 0, 0, 0))
    assert handed_out(status) == taken


@pytest.mark.parametrize(
    ("mode", "owner", "group", "taken"),
    [
        (0o640, 0, 10001, True),  # the learner's, which a service of this group reads
        (0o640, 0, 0, False),  # root has files of its own
        (0o640, 5, 10001, False),
        (0o660, 0, 10001, False),
    ],
)
def test_root_reads_what_it_handed_to_a_group(
    monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, group: int, taken: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert handed_out(os.stat_result((stat.S_IFREG | mode, 1, 1, 1, owner, group, 9, 0, 0, 0))) == taken


def status(mode: int, owner: int) -> os.stat_result:
    """Of a file of nobody's group."""
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, owner, 54321, 9, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "owner", "taken"),
    [
        (0o440, 0, True),
        (0o440, 10001, False),
        (0o640, 0, False),
        (0o444, 0, False),
        (0o460, 0, False),
    ],
)
def test_systemd_may_lend_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, owner: int, taken: bool
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert lent(tmp_path / "actor.key", status(mode, owner)) == taken


def test_only_what_lies_in_the_folder_of_credentials_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, root_s = tmp_path / "credentials", status(0o440, 0)
    (folder / "deeper").mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "away.key").touch()
    (folder / "away.key").symlink_to(tmp_path / "away.key")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert not lent(folder / "actor.key", root_s)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "")
    assert not lent(Path("actor.key"), root_s)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    assert lent(folder / "actor.key", root_s)
    assert lent(tmp_path / "link" / "actor.key", root_s)
    for path in ("away.key", "credentials/away.key", "credentials/deeper/actor.key", "credentials/../actor.key"):
        assert not lent(tmp_path / path, root_s)


def test_a_key_that_systemd_lent_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, pair = tmp_path / "actor.key", new_pair("rack", LEARNER.public)
    write_pair(path, pair)
    path.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", lambda _: status(0o440, 0))
        assert actor_pair(path) == pair


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "rack.key"
    write_pair(path, LEARNER)
    with pytest.raises(KeyFileError, match="already"):
        write_pair(path, new_pair("rack"))
    assert read_pair(path) == LEARNER


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "names nobody"),
        ("[[", "TOML"),
        ("\x00\xff", "TOML"),
        ('name = "a b"', "names nobody"),
        ("name = 5", "names nobody"),
        ('name = "a"', "public is no key"),
        pytest.param(f'name = "a"\npublic = "{LEARNER.public}"', "secret is no key", id="no secret"),
        pytest.param(
            f'name = "a"\npublic = "{LEARNER.public}"\nsecret = "{LEARNER.public}"\nlearner = 3',
            "learner is no key",
            id="no learner",
        ),
        ("#" * 5000, "bytes"),
    ],
)
def test_what_is_no_key_file_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=problem):
        read_pair(written(tmp_path, text))


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        read_pair(tmp_path / "none.key")
    with pytest.raises(KeyFileError, match="no file"):
        read_pair(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KeyFileError, match="no file"):
        read_pair(tmp_path / "pipe")


def test_an_actor_s_file_names_its_learner(tmp_path: Path) -> None:
    path = tmp_path / "learner.key"
    write_pair(path, LEARNER)
    with pytest.raises(KeyFileError, match="names no learner"):
        actor_pair(path)


def test_keys_and_names() -> None:
    assert is_public_key(LEARNER.public)
    assert not any(map(is_public_key, ["", LEARNER.public[:-1], LEARNER.public + "a", " " * 40, "#" * 40, None, 7]))
    assert is_name("rack-7")
    assert not any(map(is_name, ["", "a b", "a" * 65, "ä", "../x", "a" * 40, None]))
