# SPDX-License-Identifier: GPL-2.0-only
"""ESP between two hosts with keys set by hand, for the time of a block.

The words are those of ip-xfrm(8). Policies name two addresses and no ports: everything between these is protected,
nothing else is. In tunnel mode these are addresses of their own on the loopback interfaces, `inner`; in transport
mode they are the hosts' addresses on the wire, so that `inner` equals `outer`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.lab.bench import Host
from harness.lab.topology import Network

REQID = 77


@dataclass(frozen=True, slots=True, kw_only=True)
class Cipher:
    """How the payload is protected.

    Attributes:
        name: for test ids.
        words: of `ip xfrm state add`; `{N}` is a key of N bytes.
        secret: whether the payload cannot be read on the wire.
        options: kernel options it needs.
    """

    name: str
    words: str
    secret: bool
    options: tuple[str, ...]


AES_GCM = Cipher(name="aes-gcm", words="aead rfc4106(gcm(aes)) {20} 128", secret=True,
                 options=("CRYPTO_AES", "CRYPTO_GCM", "CRYPTO_SEQIV"))
AES_CBC = Cipher(name="aes-cbc-sha256", words="auth-trunc hmac(sha256) {32} 128 enc cbc(aes) {16}", secret=True,
                 options=("CRYPTO_AES", "CRYPTO_CBC", "CRYPTO_HMAC", "CRYPTO_SHA256", "CRYPTO_AUTHENC"))
NULL = Cipher(name="null-sha256", words='auth-trunc hmac(sha256) {32} 128 enc ecb(cipher_null) ""', secret=False,
              options=("CRYPTO_NULL", "CRYPTO_HMAC", "CRYPTO_SHA256", "CRYPTO_AUTHENC"))
CIPHERS = (AES_GCM, AES_CBC, NULL)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One of the two ends.

    Attributes:
        outer: its address on the wire.
        inner: the address, or the network, that is protected.
        dev: its interface on the wire.
        spi: of what it sends.
    """

    outer: str
    inner: str
    dev: str
    spi: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Protected:
    """Protected traffic between two hosts.

    Attributes:
        one: the first host's end.
        other: the second host's.
    """

    one: End
    other: End

    @property
    def spis(self) -> frozenset[int]:
        return frozenset((self.one.spi, self.other.spi))


def key(cipher: Cipher, spi: int) -> str:
    """The words of `cipher` with keys filled in, the same in every run and another for each direction."""
    words = []
    for word in cipher.words.split():
        if word.startswith("{"):
            octets = hashlib.shake_128(f"{cipher.name} {spi:#x}".encode()).hexdigest(int(word[1:-1]))
            word = f"0x{octets}"
        words.append(word)
    return " ".join(words)


def states(cipher: Cipher, mode: str, mine: End, peer: End) -> tuple[str, ...]:
    """Commands for `ip -batch` that add both states; they are the same at both ends."""
    return tuple(f"xfrm state add src {source.outer} dst {sink.outer} proto esp spi {source.spi:#x} reqid {REQID} "
                 f"mode {mode} {key(cipher, source.spi)}" for source, sink in ((mine, peer), (peer, mine)))


def policies(mode: str, mine: End, peer: End) -> tuple[str, ...]:
    """Commands that protect what `mine` sends, and refuse what comes unprotected."""
    out = f"tmpl src {mine.outer} dst {peer.outer} proto esp reqid {REQID} mode {mode}"
    back = f"tmpl src {peer.outer} dst {mine.outer} proto esp reqid {REQID} mode {mode}"
    return (f"xfrm policy add src {mine.inner} dst {peer.inner} dir out {out}",
            f"xfrm policy add src {peer.inner} dst {mine.inner} dir in {back}")


def ends(one: Host, other: Host, mode: str, family: int) -> tuple[End, End]:
    """Addresses and SPIs of both ends. SPIs from 256 on are free for use (RFC 4303)."""
    def end(host: Host, number: int) -> End:
        inner = f"10.78.0.{number}" if family == 4 else f"fd78::{number}"
        outer = host.address(family)
        return End(outer=outer, inner=inner if mode == "tunnel" else outer, dev=host.dev, spi=0x7700 + number)
    return end(one, 1), end(other, 2)


@contextmanager
def protected(one: Host, other: Host, cipher: Cipher, mode: str, family: int) -> Iterator[Protected]:
    """Protect all traffic of a family between two hosts, in `transport` or `tunnel` mode."""
    mine, theirs = ends(one, other, mode, family)
    try:
        for host, end, peer in ((one, mine, theirs), (other, theirs, mine)):
            batch(host, *_addresses(mode, family, end, peer), *states(cipher, mode, end, peer),
                  *policies(mode, end, peer))
        yield Protected(one=mine, other=theirs)
    finally:
        for host, end, peer in ((one, mine, theirs), (other, theirs, mine)):
            clear(host)
            if mode == "tunnel":
                host.shell(f"ip addr del {end.inner} dev lo; ip -{family} route del {peer.inner} dev {end.dev}",
                           check=False)


@contextmanager
def gateways(one: Host, other: Host, dev: str, behind: tuple[Network, Network], cipher: Cipher,
             family: int) -> Iterator[Protected]:
    """Protect, in tunnel mode, what passes between the networks behind two gateways.

    Args:
        dev: the interface between them, called so on both.
        behind: the first gateway's network and the second's.
    """
    prefixes = [network.ipv4 if family == 4 else network.ipv6 for network in behind]
    mine, theirs = (
        End(outer=str((host.face(dev).ipv4 if family == 4 else host.face(dev).ipv6).ip), inner=prefix, dev=dev,
            spi=0x7700 + number)
        for number, (host, prefix) in enumerate(zip((one, other), prefixes, strict=True), 1))
    try:
        for host, end, peer in ((one, mine, theirs), (other, theirs, mine)):
            rules = policies("tunnel", end, peer)
            # What is to be forwarded is judged by policies of its own (xfrm_policy_check() with XFRM_POLICY_FWD).
            batch(host, *states(cipher, "tunnel", end, peer), *rules, rules[1].replace(" dir in ", " dir fwd "))
        yield Protected(one=mine, other=theirs)
    finally:
        for host in (one, other):
            clear(host)


def clear(host: Host) -> None:
    """Remove all states and policies of a host."""
    batch(host, "xfrm policy flush", "xfrm state flush")


def batch(host: Host, *commands: str) -> None:
    """Run `commands` with one ip(8)."""
    host.run("ip", "-batch", "-", stdin="".join(f"{line}\n" for line in commands).encode())


def _addresses(mode: str, family: int, end: End, peer: End) -> tuple[str, ...]:
    if mode != "tunnel":
        return ()
    length, word = (32, "") if family == 4 else (128, " nodad")
    return (f"addr add {end.inner}/{length} dev lo{word}",
            f"route add {peer.inner}/{length} via {peer.outer} dev {end.dev} src {end.inner}")
