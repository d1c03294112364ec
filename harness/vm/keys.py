# SPDX-License-Identifier: GPL-2.0-only
"""SSH keys for one run: the guest's host key, which we pin, and ours, the only one the guest lets in."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

_TYPE = b"ssh-ed25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """An ed25519 key.

    Attributes:
        private: in OpenSSH's format (PROTOCOL.key), as `ssh -i` reads it.
        public: one line, as in `authorized_keys`.
        dropbear: the private key as dropbear keeps its host keys (`buf_put_ed25519_priv_key()` in its `ed25519.c`).
    """

    private: bytes
    public: bytes
    dropbear: bytes

    def paramiko(self) -> paramiko.Ed25519Key:
        return paramiko.Ed25519Key(file_obj=io.StringIO(self.private.decode()))


def generate() -> KeyPair:
    """A new key from the host's random source."""
    return _pair(Ed25519PrivateKey.generate())


def _pair(key: Ed25519PrivateKey) -> KeyPair:
    public = key.public_key()
    secret = (key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
              + public.public_bytes(Encoding.Raw, PublicFormat.Raw))
    return KeyPair(
        private=key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        public=public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n",
        dropbear=_string(_TYPE) + _string(secret),
    )


def load(private: bytes) -> KeyPair:
    """The pair of a private key in OpenSSH's format, as `KeyPair.private` has it."""
    key = load_ssh_private_key(private, None)
    assert isinstance(key, Ed25519PrivateKey)
    return _pair(key)


def write_private(path: Path, data: bytes) -> None:
    """Write `data` to a new file that only its owner may read, which is what ssh(1) insists on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


def _string(data: bytes) -> bytes:
    """A string on SSH's wire: RFC 4251, section 5."""
    return len(data).to_bytes(4, "big") + data
