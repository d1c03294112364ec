# SPDX-License-Identifier: GPL-2.0-only
"""What the guest's kernel counted: packet filter rules by their comment, SNMP, xfrm errors, interfaces.

The parsers are pure; a reader is one command and one of them. A counter that is asked for and not there is an
error, never 0.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import InfraError
from harness.lab.bench import Host

_SAVED = re.compile(r"^\[(\d+):(\d+)\] (-A .*)$", re.M)
_STATE = re.compile(r"^\s+proto \w+ spi (0x[0-9a-f]+)|^\s+lifetime current:\s+(\d+)\(bytes\), (\d+)\(packets\)", re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What a rule matched."""

    packets: int
    bytes: int


class Counters(Mapping[str, int]):
    """Counters by name. Asking for one that the kernel does not have says so."""

    def __init__(self, source: str, values: Mapping[str, int]) -> None:
        self._source = source
        self._values = dict(values)

    def __getitem__(self, name: str) -> int:
        if name not in self._values:
            raise InfraError(f"no counter {name} in {self._source}", detail=(" ".join(self._values),))
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def since(self, before: Counters) -> Counters:
        """How much each has grown."""
        old = before._values
        return Counters(self._source, {name: value - old.get(name, 0) for name, value in self._values.items()})

    @property
    def nonzero(self) -> dict[str, int]:
        return {name: value for name, value in self._values.items() if value}


def parse_save(output: str) -> dict[str, Count]:
    """By comment, what rules of `iptables-save -c` matched."""
    found: dict[str, Count] = {}
    for packets, octets, rule in _SAVED.findall(output):
        words = shlex.split(rule)
        if "--comment" in words:
            found[words[words.index("--comment") + 1]] = Count(packets=int(packets), bytes=int(octets))
    return found


def parse_nft(output: str) -> dict[str, Count]:
    """By comment, what the counters in rules of `nft -j list ruleset` counted."""
    found: dict[str, Count] = {}
    listed: list[dict[str, Any]] = json.loads(output)["nftables"]
    for rule in (item["rule"] for item in listed if "rule" in item):
        for expression in rule["expr"]:
            if "comment" in rule and isinstance(expression.get("counter"), dict):
                counter = expression["counter"]
                found[rule["comment"]] = Count(packets=counter["packets"], bytes=counter["bytes"])
    return found


def parse_snmp(text: str) -> dict[str, int]:
    """/proc/net/snmp and /proc/net/netstat: pairs of lines, names and values, as `Group.Name`."""
    values: dict[str, int] = {}
    lines = [line.split() for line in text.splitlines() if line.strip()]
    for names, numbers in zip(lines[::2], lines[1::2], strict=True):
        group = names[0].rstrip(":")
        values |= {f"{group}.{name}": int(number) for name, number in zip(names[1:], numbers[1:], strict=True)}
    return values


def parse_pairs(text: str) -> dict[str, int]:
    """/proc/net/snmp6 and /proc/net/xfrm_stat: a name and a value a line."""
    return {name: int(value) for name, value in (line.split() for line in text.splitlines() if line.strip())}


def parse_states(output: str) -> dict[int, Count]:
    """By SPI, what states have transformed, from `ip -statistics xfrm state`."""
    found, spi = dict[int, Count](), 0
    for number, octets, packets in _STATE.findall(output):
        if number:
            spi = int(number, 16)
        else:
            found[spi] = Count(packets=int(packets), bytes=int(octets))
    return found


def rules(host: Host, family: int = 4, table: str = "filter") -> dict[str, Count]:
    """By comment, what the rules in a table of iptables (or ip6tables) of a host matched until now."""
    program = "iptables-save" if family == 4 else "ip6tables-save"
    return parse_save(host.run(program, "-c", "-t", table).stdout)


def nft(host: Host) -> dict[str, Count]:
    """By comment, what the nftables rules of a host counted until now."""
    return parse_nft(host.run("nft", "-j", "list", "ruleset").stdout)


def snmp(host: Host) -> Counters:
    """Counters of IPv4, ICMP, TCP and UDP (`Ip.FragCreates`), and those of IPv6 (`Ip6FragCreates`)."""
    return Counters("snmp", parse_snmp(host.read("/proc/net/snmp")) | parse_pairs(host.read("/proc/net/snmp6")))


def netstat(host: Host) -> Counters:
    """What has no place in RFC 1213, as `TcpExt.TCPTimeouts`, `MPTcpExt.MPJoinAckRx` (net/mptcp/mib.c)."""
    return Counters("/proc/net/netstat", parse_snmp(host.read("/proc/net/netstat")))


def xfrm(host: Host) -> Counters:
    """Errors of IPsec (`XfrmInNoPols`), Documentation/networking/xfrm_proc.rst."""
    return Counters("/proc/net/xfrm_stat", parse_pairs(host.read("/proc/net/xfrm_stat")))


def carried(host: Host, spi: int) -> Count:
    """What the IPsec state of an SPI has encrypted or decrypted on a host until now.

    Raises:
        InfraError: the host has no such state.
    """
    found = parse_states(host.run("ip", "-statistics", "xfrm", "state").stdout)
    if spi not in found:
        raise InfraError(f"no IPsec state has SPI {spi:#x}", where=f"machine {host.name}",
                         detail=(" ".join(f"{known:#x}" for known in found),))
    return found[spi]


def interface(host: Host, device: str) -> Counters:
    """What an interface counted: `rx.packets`, `tx.bytes`, ..."""
    listed = json.loads(host.run("ip", "-json", "-statistics", "link", "show", "dev", device).stdout)[0]["stats64"]
    return Counters(device, {f"{way}.{name}": value for way in ("rx", "tx") for name, value in listed[way].items()})
