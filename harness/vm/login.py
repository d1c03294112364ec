# SPDX-License-Identifier: GPL-2.0-only
"""Logging in to a guest: where it is, whom to trust, and an SSH connection to that guest and no other."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass

import paramiko

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.vm.keys import KeyPair
from harness.vm.session import Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a guest's SSH server is and whom to trust.

    Attributes:
        name: the machine's name, for messages.
        host: address on this host.
        port: TCP port on this host.
        host_key: the guest's key; any other is refused.
        client_key: ours.
    """

    name: str
    host: str
    port: int
    host_key: KeyPair
    client_key: KeyPair


def dial(target: Target, deadline: Deadline) -> Transport:
    """A connection to where the guest's SSH server is.

    Raises:
        OSError: nobody listens there.
    """
    sock = socket.create_connection((target.host, target.port), timeout=max(deadline.remaining, 0.001))
    # Small messages go back and forth: Nagle's algorithm would hold each until the last one's acknowledgement.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        transport = Transport(sock)
    except BaseException:
        sock.close()
        raise
    _keep_quiet(transport)
    return transport


def log_in(target: Target, transport: Transport, deadline: Deadline) -> None:
    """Log in over a connection.

    Raises:
        InfraError: it is not this guest that answers.
        SSHException, EOFError, OSError: no session came about.
    """
    pinned = target.host_key.paramiko()
    # paramiko's own 15 s for each step would be wrong on a busy host and for a deadline that is shorter.
    budget = max(deadline.remaining, 0.001)
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = budget
    transport.start_client(timeout=budget)
    offered = transport.get_remote_server_key()
    if offered.asbytes() != pinned.asbytes():
        raise InfraError("what answers is not this guest: another host key than the one made for it",
                         where=f"machine {target.name}, {target.host}:{target.port}",
                         detail=(f"expected {pinned.fingerprint}", f"offered  {offered.fingerprint}"))
    transport.auth_publickey("root", target.client_key.paramiko())


def _keep_quiet(transport: paramiko.Transport) -> None:
    """What goes wrong is raised; paramiko also prints it where nobody has set up logging."""
    quiet = logging.getLogger("harness.paramiko")
    quiet.propagate = False
    if not quiet.handlers:
        quiet.addHandler(logging.NullHandler())
    transport.set_log_channel("harness.paramiko")
