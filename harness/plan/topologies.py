# SPDX-License-Identifier: GPL-2.0-only
"""The `topologies:` and `nics:` of a plan to values. docs/lab.md describes every key for those who write plans."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import UsageError
from harness.lab import shapes, topology
from harness.lab.topology import RUNS_MODEL, Bridge, Network, Station, Topology
from harness.plan.node import Node
from harness.vm import nic as nics
from harness.vm.nic import Link, Nic

NAME = r"[a-z][a-z0-9-]{0,14}"
_KERNELS = ("base", "patched")
_MTU = (68, 65535)
"""The least that IPv4 takes (RFC 791), and the most that fits a frame."""
_LEAST_MEMORY = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NicUse:
    """A NIC model that suites run on.

    Attributes:
        model: a row of `harness.vm.nic.models`.
        suites: which, by the plan's name; all where empty.
        variants: on which; all where empty.
    """

    model: str
    suites: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()

    def covers(self, suite: str, variant: str) -> bool:
        """Whether a suite runs on this model in a variant."""
        return (not self.suites or suite in self.suites) and (not self.variants or variant in self.variants)


def read_nics(node: Node, suites: tuple[str, ...], variants: tuple[str, ...]) -> tuple[NicUse, ...]:
    """The NIC models of a plan with these suites and variants: a list of models, or model to where it is used.

    Raises:
        UsageError: a model, suite or variant is unknown, or a model is given twice.
    """
    if not node.is_mapping:
        models = tuple(item.choice(_model_names()) for item in node.items())
        if len(set(models)) < len(models):
            raise node.wrong("NIC models, each once")
        return tuple(NicUse(model=model) for model in models)
    found = []
    for model, entry in node.mapping(_model_names()).items():
        entries = {} if entry.is_empty else entry.mapping(("suites", "variants"))
        found.append(NicUse(
            model=model,
            suites=tuple(item.choice(suites) for item in entries["suites"].items()) if "suites" in entries else (),
            variants=tuple(item.choice(variants) for item in entries["variants"].items()) if "variants" in entries
            else ()))
    if not found:
        raise node.wrong("NIC models")
    return tuple(found)


def read_topologies(node: Node) -> tuple[Topology, ...]:
    """The topologies of a plan.

    Raises:
        UsageError: a key is unknown, or a topology contradicts itself; file and line are named.
    """
    return tuple(_topology(name, entry) for name, entry in node.mapping().items())


def _topology(name: str, node: Node) -> Topology:
    if name in (row.name for row in shapes.READY_MADE):
        raise UsageError(f"the topology {name!r} is ready-made; another one needs another name", where=node.where)
    entries = node.mapping(("machines", "links", "networks"), required=("machines",))
    found = Topology(
        name=name,
        machines=tuple(_station(machine, entry) for machine, entry in entries["machines"].mapping().items()),
        links=tuple(_link(link, entry) for link, entry in entries["links"].mapping().items())
        if "links" in entries else (),
        networks=tuple(_network(number, entry) for number, entry in entries["networks"].mapping().items())
        if "networks" in entries else ())
    try:
        topology.check(found)
        for station in found.machines:
            nics.check_cards(station.name, [nic for nic in station.nics if nic.model != RUNS_MODEL])
    except UsageError as error:
        raise UsageError(f"topology {name}: {error.what}", where=node.where, hint=error.hint) from error
    return found


def _station(name: str, node: Node) -> Station:
    entries = node.mapping(("kernel", "memory", "cpus", "nics", "bridges", "forward"), required=("nics",))
    if not re.fullmatch(NAME, name):
        raise UsageError(f"not a name for a machine: {name!r}", where=node.where,
                         hint="a small letter, then up to 14 small letters, digits and '-'")
    return Station(
        name=name, nics=tuple(_nic(nic, entry) for nic, entry in entries["nics"].mapping().items()),
        kernel=entries["kernel"].choice(_KERNELS) if "kernel" in entries else "",
        memory=entries["memory"].integer(_LEAST_MEMORY) if "memory" in entries else 0,
        cpus=entries["cpus"].integer(1) if "cpus" in entries else 0,
        bridges=tuple(Bridge(name=bridge, ports=entry.texts())
                      for bridge, entry in entries["bridges"].mapping().items()) if "bridges" in entries else (),
        forward="forward" in entries and entries["forward"].flag())


def _nic(name: str, node: Node) -> Nic:
    """`LINK`, or a mapping; of the model that the run is on where it names none."""
    if not node.is_mapping:
        return Nic(name=name, link=node.text(), model=RUNS_MODEL)
    entries = node.mapping(("link", "model", "properties", "hotplug"))
    return Nic(
        name=name, link=entries["link"].text() if "link" in entries else None,
        model=entries["model"].choice(_model_names()) if "model" in entries else RUNS_MODEL,
        properties=tuple(item.matching(r"[\w.-]+=[\w.:+-]+", "a property of a QEMU device, as `mq=on`")
                         for item in entries["properties"].items()) if "properties" in entries else (),
        hotplug="hotplug" in entries and entries["hotplug"].flag())


def _link(name: str, node: Node) -> Link:
    entries = node.mapping(("loss", "delay", "mtu"))
    found = Link(
        name=name,
        loss=_number(entries["loss"], "%", "a share of the frames, as `2.5%`") / 100 if "loss" in entries else 0.0,
        delay=_number(entries["delay"], "ms", "milliseconds, as `20ms`") / 1000 if "delay" in entries else 0.0,
        mtu=entries["mtu"].integer(_MTU[0]) if "mtu" in entries else 0)
    if found.loss > 1:
        raise entries["loss"].wrong("at most 100%")
    if found.mtu > _MTU[1]:
        raise entries["mtu"].wrong(f"at most {_MTU[1]}")
    return found


def _number(node: Node, unit: str, wanted: str) -> float:
    return float(node.matching(rf"\d+(\.\d+)?{unit}", wanted).removesuffix(unit))


def _network(number: str, node: Node) -> Network:
    if not re.fullmatch(r"[1-9]\d{0,2}", number):
        raise UsageError(f"not a number for a network: {number!r}", where=node.where, hint="1 to 254")
    pairs = [item.matching(r"[\w-]+\.[\w-]+", "MACHINE.INTERFACE, as `client.lan0`").split(".")
             for item in node.items()]
    return Network(number=int(number), members=tuple((machine, interface) for machine, interface in pairs))


def _model_names() -> Sequence[str]:
    return tuple(row.name for row in nics.models())
