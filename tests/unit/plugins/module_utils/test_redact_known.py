# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""No password comes through, whatever its characters, wherever it is printed."""

from __future__ import annotations

import os
import time

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s import spellings
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.redact import (
    MASK,
    Redactor,
    known_in,
    redact,
)
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.places import FORMS, SPELLINGS
from hypothesis import given, settings
from hypothesis import strategies as st

# More for whoever asks for it; these take a second or two.
EXAMPLES = int(os.environ.get("REDACT_EXAMPLES", "3"))
# Letters that are nowhere else, so that any part of a password that is left is found.
LETTERS = "ZQXJVKWY"
ANY = st.text(
    st.one_of(
        st.sampled_from("@:/?#%&+=;,'\"\\ $`|<>()[]{}!~^*-_."),
        st.characters(min_codepoint=0x21, max_codepoint=0x7E),
        st.sampled_from("äß€😀é"),
    ),
    min_size=0,
    max_size=8,
)


@st.composite
def passwords(draw: st.DrawFn) -> str:
    """Return a password of any characters, with telling letters at both ends of its middle."""
    return f"Z7q{draw(ANY)}XJVK9{draw(ANY)}WYQ4"


def leaks(text: str) -> bool:
    """Say whether one of the telling parts is left."""
    return any(part in text for part in ("Z7q", "XJVK9", "WYQ4"))


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(password=passwords())
def test_what_is_known_is_masked_in_every_spelling(password: str) -> None:
    """Also in the middle of words, which stay."""
    redactor = Redactor([password])
    for name, spell in SPELLINGS.items():
        spelt = spell(password)
        shown = redactor(f"it failed\n{spelt}\nand went on")
        assert spelt not in shown, name
        assert not leaks(shown), name
        assert MASK in shown, name
        assert shown.startswith("it failed\n"), name
        assert shown.endswith("and went on"), name


@settings(max_examples=4 * EXAMPLES, deadline=None, derandomize=True)
@given(password=passwords())
def test_what_is_not_known_is_masked_by_its_form(password: str) -> None:
    """A password of any characters ends where it ends."""
    for name, place in FORMS.items():
        text = place(password)
        shown = redact(f"it failed\n{text}\nand went on")
        assert not leaks(shown), f"{name}: {text}"
        assert shown.startswith("it failed\n"), name
        assert "and went on" in shown, name


def test_a_word_as_a_password_leaves_other_words() -> None:
    """It is masked where it stands alone; names that hold it stay."""
    redactor = Redactor(["mlflow"])
    for text in (
        "Deployment/mlflow-tracking: 0 of 1 updated",
        "image ghcr.io/mlflow/mlflow:3.17.2 cannot be pulled",
        "namespace mlflow-production",
        "postgres.mlflow.svc",
    ):
        assert redactor(text) == text
    assert redactor("connecting as 'x' with 'mlflow'") == f"connecting as 'x' with '{MASK}'"


@pytest.mark.parametrize("secret", ["", None, "a", "abc", True, "none", "true"])
def test_what_says_nothing_is_not_masked(secret: object) -> None:
    """Masking it would mangle every text."""
    assert Redactor([secret])("a none true abc b") == "a none true abc b"


def test_what_a_driver_makes_of_a_password_is_known() -> None:
    """libpq takes what follows an @ for the host, and names only that."""
    redactor = Redactor(["postgresql://u:ab%40Zq7xKp2v@db/x"])
    for text in (
        "could not find Zq7xKp2v",
        "ab@Zq7xKp2v",
        "option Zq7xKp2v",
        "(ab%40Zq7xKp2v)",
    ):
        assert "Zq7x" not in redactor(text)


def test_a_long_secret_is_masked_in_pieces() -> None:
    """A log has the last lines of a key."""
    lines = [f"{number:02d}" + "aB3/" * 15 + "xy" for number in range(26)]
    redactor = Redactor(["\n".join(["-----BEGIN X-----", *lines, "-----END X-----"])])
    shown = redactor("read:\n" + "\n".join(lines[13:]) + "\nfailed")
    assert "aB3/" not in shown
    assert shown.endswith("failed")
    long = "".join(f"{number:04x}" for number in range(1000))
    assert "0123" not in Redactor([long])(f"it is {long}.")


@pytest.mark.parametrize("cut", range(6, 16))
def test_the_beginning_of_a_secret_that_was_cut_off(cut: int) -> None:
    """Messages are cut to a length, and that is no place to end a secret."""
    secret = "Zq7xKp2vWm&5tR9s"
    for end in ("", "…", "..."):
        shown = Redactor([secret])(f"it says {secret[:cut]}{end}")
        assert shown == f"it says {MASK}{end}"


def test_what_an_environment_has_is_known() -> None:
    """By the name, and in the addresses."""
    found = known_in(
        {
            "PWD": "/work",
            "PGPASSWORD": "one-secret",
            "POSTGRES_PASSWORD_FILE": "/run/secrets/x",
            "AWS_SECRET_ACCESS_KEY": "two",
            "MLFLOW_BACKEND_STORE_URI": "postgresql://u:th%40ree@db/x?sslpassword=f%2Four",
            "DSN": r"host=db password='fi\'ve' dbname=x",
            "HOME": "/root",
        }
    )
    assert {"one-secret", "two", "th@ree", "th%40ree", "f/our", "fi've"} <= found
    assert not found & {"/work", "/run/secrets/x", "/root"}


def test_structures_are_redacted_in_every_text() -> None:
    """Names stay, and what is no text."""
    found = Redactor(["Zq7xKp2v"]).within({"a": ["x Zq7xKp2v", 1, None], "b": {"c": ("Zq7xKp2v",)}})
    assert found == {"a": [f"x {MASK}", 1, None], "b": {"c": [MASK]}}


def test_known_secrets_cost_little() -> None:
    """A long log, and as many secrets as a release has."""
    secrets = [f"{number}aB3dE5fG7hI9kL1mN3pQ5rS7tU9" for number in range(8)]
    redactor = Redactor(secrets)
    text = "2026-01-10 INFO mlflow: GET /health%20x \\n 200\n" * 2000
    began = time.process_time()
    for secret in secrets:
        assert secret not in redactor(text + secret)
    assert time.process_time() - began < 20


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_search_finds_what_is_masked(spelling: str) -> None:
    """The hunt for leaks looks for the same spellings."""
    secret = "Zq7x/Kp2v Wm&5tR9s"
    assert spellings.is_in(f"x {SPELLINGS[spelling](secret)} y", secret)
    assert not spellings.is_in(f"x {SPELLINGS[spelling]('Qz7x/another-one')} y", secret)
