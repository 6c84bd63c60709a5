"""The error tree: data inside, text late, and a wire code for every reason."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from protocol import errors
from protocol.errors import FarflungError, FrameFault, PeerFault, Reason, SettingError, UserError, nearest


def test_a_peer_fault_holds_its_wire_code_and_says_it() -> None:
    fault = FrameFault(Reason.OVERSIZE, "a frame of 9 bytes")
    assert (fault.reason, fault.detail) == (Reason.OVERSIZE, "a frame of 9 bytes")
    assert str(fault) == "oversize: a frame of 9 bytes"


@pytest.mark.parametrize("name", ["FrameFault", "MessageFault", "PayloadFault", "SessionFault"])
def test_what_the_peer_does_and_what_a_person_does_are_two_branches(name: str) -> None:
    fault = getattr(errors, name)
    assert issubclass(fault, PeerFault)
    assert not issubclass(fault, UserError)
    assert issubclass(fault, FarflungError)


def test_a_reason_is_a_metric_label_and_fits_a_refusal() -> None:
    for reason in Reason:
        assert reason.value == reason.name.lower()
        assert len(reason.value) <= 64


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EADDRINUSE])
def test_what_may_pass_by_itself_has_a_code_of_its_own(code: int) -> None:
    assert UserError("full", code=code).exit_code == UserError("held", passing=True).exit_code == 75
    assert UserError("wrong").exit_code == UserError("never", code=errno.EACCES).exit_code == 2


def test_a_setting_error_names_key_value_and_what_would_do() -> None:
    error = SettingError("actor.envs", 0, "an integer of at least 1")
    assert str(error) == "actor.envs = 0: an integer of at least 1"


def test_a_setting_error_says_what_may_have_been_meant() -> None:
    error = SettingError("actor.codecs", True, "there is no such setting", "actor.codec")
    assert str(error) == "actor.codecs = true: there is no such setting; did you mean actor.codec?"


def test_nearest_is_none_where_nothing_is_close() -> None:
    assert nearest("density", ["density", "decay"]) == "density"
    assert nearest("zzz", ["density"]) is None


def test_the_specification_lists_every_reason() -> None:
    text = (Path(errors.__file__).parent / "WIRE.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", text.partition("## 8.")[2], re.MULTILINE)
    assert listed == [reason.value for reason in Reason]
