"""Key files: their owner's alone, whole or refused, and silent about what they hide."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from protocol.keys import KeyFileError, Secret, actor_pair, exposed, is_key, is_name, read_pair, write_pair
from protocol.transport import new_pair

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


def test_root_may_let_a_group_read_a_secret_and_nobody_else_may() -> None:
    """As Kubernetes mounts one, for a user who is not root: root's, its group's to read."""
    assert not exposed(0o440, owner=0, us=10001)
    assert not exposed(0o400, owner=10001, us=10001)
    assert exposed(0o440, owner=10001, us=10001)
    assert exposed(0o440, owner=0, us=0)
    for mode in (0o460, 0o450, 0o444, 0o442, 0o441):
        assert exposed(mode, owner=0, us=10001), oct(mode)


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
        (f'name = "a"\npublic = "{LEARNER.public}"', "secret is no key"),
        (f'name = "a"\npublic = "{LEARNER.public}"\nsecret = "{LEARNER.public}"\nlearner = 3', "learner is no key"),
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
    assert is_key(LEARNER.public)
    assert not any(map(is_key, ["", LEARNER.public[:-1], LEARNER.public + "a", " " * 40, "#" * 40, None, 7]))
    assert is_name("rack-7")
    assert not any(map(is_name, ["", "a b", "a" * 65, "ä", "../x", "a" * 40, None]))
