"""A machine as columns: what one GPU sustains and how it is wired, for one number format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from crore.catalog.calibration import Measured
from crore.catalog.types import Accelerator, Fabric
from crore.cost.arrays import Num
from crore.errors import InputError

PRECISIONS: Final = ("fp32", "fp16", "bf16", "fp8", "mxfp8", "nvfp4")
_FORMAT: Final = {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "fp8": "fp8", "mxfp8": "fp8",
                  "nvfp4": "fp4"}  # fmt: skip
AMPLE_POWER: Final = 1.28
"""W per dense 16-bit TFLOP/s of an A100: taken where a part's board power is not published."""
BOX: Final = 8
"""Cards without a network are assumed to sit up to eight in a box, joined by PCIe alone."""
HOME_NETWORK: Final = 1.25e9
"""Bytes/s of such a box: 10 Gbit/s Ethernet, an assumption the planner prints."""
HOST_CROSSINGS: Final = 2
"""Consumer cards have no peer access over PCIe: a message goes to host memory and back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What one GPU does and sees; every field a float or `[N]`."""

    half_peak: Num
    """Dense 16-bit peak, FLOP/s (of fp32 where that is the format)."""
    half_measured: Num
    """Largest published 16-bit matmul rate, FLOP/s; 0 when nobody published one."""
    linear_peak: Num
    """Dense peak of the linear layers' format, FLOP/s."""
    linear_measured: Num
    narrow: Num
    """1 for 8-bit linear layers, 2 for 4-bit, else 0."""
    element_scale: Num
    """Width of activations and messages over 16 bits: 2 for fp32 training."""
    asynchronous: Num
    """1 where matrix units are fed asynchronously (Hopper and on; their switches reduce too)."""
    watts_per_tflops: Num
    """Board power over dense 16-bit peak; a part with less cannot hold its short-run rate."""
    sms: Num
    memory_bytes: Num
    memory_bytes_per_s: Num
    node_size: Num
    domain_size: Num
    domain_bytes_per_s: Num
    nic_bytes_per_s: Num
    host_bytes_per_s: Num
    hop_latency_s: Num
    """Extra latency of the fabric per network step, over the fitted end-point latency."""
    cpu: Num = 0.0
    """1 for a processor: nothing runs beside anything else, and memory is the process's own."""
    measured: Measured | None = None
    """Rates measured here, which take the place of the fitted ones."""
    taper: Num = 1.0
    """Bandwidth above the leaf switches over bandwidth below them."""
    pod_size: Num = 1.0
    """GPUs that share the leaf switches, and so full bandwidth; used where there is a taper."""


def _peaks(accelerator: Accelerator) -> dict[str, float]:
    """Precision -> peak. One scale per block of values (MX, NV) needs the units that do 4 bits."""
    rates = {p: accelerator.peak_flops.get(_FORMAT[p], 0.0) for p in PRECISIONS}
    if not rates["nvfp4"]:
        rates["mxfp8"] = 0.0
    return {precision: rate for precision, rate in rates.items() if rate}


def peak(accelerator: Accelerator, precision: str) -> float:
    """Return the dense peak in FLOP/s of a precision.

    Raises InputError when the part has no such format, naming those it has.
    """
    value = _peaks(accelerator).get(precision, 0.0)
    if not value:
        have = list(_peaks(accelerator))
        raise InputError(
            f"{accelerator.name} has no {precision} peak in the catalogue; it has {', '.join(have)}"
        )
    return value


def machine_of(
    accelerator: Accelerator,
    precision: str,
    *,
    node_size: int = 0,
    nic_bytes_per_s: float = 0.0,
) -> Machine:
    """Return the columns of one accelerator at one precision, as plain floats.

    `node_size` and `nic_bytes_per_s` override the part's own when positive.
    A part without a scale-up network talks inside its server over PCIe; a card without any network
    is assumed in boxes of eight on 10 Gbit/s Ethernet. Raises InputError when the part lacks the
    format.
    """
    half = "bf16" if accelerator.peak_flops.get("bf16") else "fp16"
    half = half if precision != "fp32" and accelerator.peak_flops.get(half) else "fp32"
    kind = _FORMAT.get(precision, precision)
    loose = not accelerator.nic_bytes_per_s and not nic_bytes_per_s
    size = node_size or (max(accelerator.node_size, BOX) if loose else accelerator.node_size)
    domain, inside = accelerator.domain_size, accelerator.domain_bytes_per_s
    if domain == 1:
        domain, inside = size, accelerator.host_bytes_per_s / (HOST_CROSSINGS if loose else 1)
    return Machine(
        half_peak=peak(accelerator, half),
        half_measured=accelerator.matmul_flops.get(half, 0.0),
        linear_peak=peak(accelerator, precision),
        linear_measured=accelerator.matmul_flops.get(half if kind == "fp16" else kind, 0.0),
        narrow=float({"fp8": 1, "fp4": 2}.get(kind, 0)),
        element_scale=2.0 if precision == "fp32" else 1.0,
        asynchronous=float(accelerator.asynchronous),
        watts_per_tflops=1e12 * accelerator.tdp_w / peak(accelerator, half) or AMPLE_POWER,
        sms=float(accelerator.sms or 100),
        memory_bytes=accelerator.memory_bytes,
        memory_bytes_per_s=accelerator.memory_bytes_per_s,
        node_size=float(size),
        domain_size=float(domain if domain > accelerator.node_size else min(domain, size)),
        domain_bytes_per_s=inside,
        nic_bytes_per_s=nic_bytes_per_s or accelerator.nic_bytes_per_s or HOME_NETWORK / size,
        host_bytes_per_s=accelerator.host_bytes_per_s,
        hop_latency_s=0.0,
        cpu=float(accelerator.cpu),
        measured=accelerator.measured,
    )


def machine_on_fabric(
    accelerator: Accelerator,
    fabric: Fabric,
    precision: str,
    *,
    node_size: int = 0,
    nic_bytes_per_s: float = 0.0,
) -> Machine:
    """Return the columns of an accelerator on a network: its port and its hops.

    A message crosses `2·tiers - 1` switches at most. A leaf of radix R and taper f has `R/(1+f)`
    ports to endpoints; on rails each leaf joins one GPU of every server.
    """
    machine = machine_of(
        accelerator,
        precision,
        node_size=node_size,
        nic_bytes_per_s=nic_bytes_per_s or fabric.port_bytes_per_s,
    )
    rails = machine.node_size if fabric.topology == "rail" else 1.0
    return on_network(
        machine,
        hop_latency_s=max(2 * fabric.tiers - 1, 0) * fabric.hop_latency_s,
        taper=fabric.taper,
        pod_size=max(fabric.radix / (1 + fabric.taper), 1.0) * rails,
    )


def on_network(machine: Machine, *, hop_latency_s: Num, taper: Num, pod_size: Num) -> Machine:
    """Return the machine on a network of that latency, taper and full-bandwidth block."""
    return replace(machine, hop_latency_s=hop_latency_s, taper=taper, pod_size=pod_size)
