"""The catalogue's records: what exists, in SI units, each row with its source and date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from crore.catalog.calibration import Measured

Position = Literal["rope", "alibi", "learned", "none"]
Norm = Literal["rms", "layer"]
Router = Literal["sigmoid", "softmax", "softmax-topk"]
Topology = Literal["none", "rail", "fat-tree", "multi-plane-clos", "wan"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where a row's figures come from."""

    source: str
    """Who published the figures (paper, data sheet, repository and file)."""
    date: str
    """When it was published or read, `YYYY` or `YYYY-MM`."""
    verified: bool
    """True when the figure was read in the source; false when quoted second hand."""
    figures: Mapping[str, str] = field(default_factory=dict)
    """Figure name -> its own source, where it differs from the row's."""
    note: str = ""
    """Caveats in one sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MLA:
    """Multi-head latent attention ranks and head sizes (DeepSeek-V2, arXiv 2405.04434)."""

    q_lora: int
    """Rank of the query down-projection; 0 when queries are projected directly."""
    kv_lora: int
    """Rank of the compressed key/value."""
    qk_nope: int
    """Per-head query/key size without position."""
    qk_rope: int
    """Per-head rotary query/key size (the key part is shared by all heads)."""
    v: int
    """Per-head value size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mamba:
    """Mamba-2 mixer shape (arXiv 2405.21060)."""

    heads: int
    head_dim: int
    state: int
    groups: int
    conv: int = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaNet:
    """Gated DeltaNet mixer shape (arXiv 2412.06464)."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv: int = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A decoder's shape; every count the cost model needs follows from these fields."""

    name: str
    layers: int
    """Transformer layers; in a hybrid each pattern symbol is one layer."""
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    """Width of a dense feed-forward layer; 0 when there is none."""
    vocab: int
    gated_mlp: bool
    """SwiGLU (three matrices) or GELU / squared ReLU (two)."""
    tied_embeddings: bool
    bias: bool
    position: Position
    norm: Norm
    qkv_bias: bool = False
    """Biases on the query, key and value projections alone (Qwen2), when `bias` is false."""
    qk_norm: bool = False
    """Norms on per-head queries and keys (Qwen3)."""
    max_positions: int = 0
    """Rows of a learned position table; 0 unless position == "learned"."""
    parallel_block: bool = False
    """Attention and feed-forward read the same normed input (PaLM, GPT-J)."""
    experts: int = 0
    """Routed experts of a mixture-of-experts layer; 0 for a dense model."""
    topk: int = 0
    moe_ffn: int = 0
    """Width of one routed expert."""
    shared_ffn: int = 0
    """Summed width of the shared experts of a layer."""
    first_dense: int = 0
    """Leading layers with a dense feed-forward in a mixture-of-experts model."""
    moe_every: int = 1
    """Every n-th layer is a mixture of experts, the others are dense."""
    window: int = 0
    """Sliding-window size in tokens; 0 for none."""
    window_every: int = 1
    """One layer in n uses the window (1 = all) when window > 0."""
    global_every: int = 0
    """One layer in n sees every token and the others use the window (Gemma-3: 6); then
    `window_every` is 1. 0 when `window_every` alone decides."""
    attention_every: int = 1
    """One layer in n uses softmax attention, the others gated DeltaNet."""
    attention_gate: bool = False
    """The query projection also yields an output gate of equal width (Qwen3-Next)."""
    pattern: str = ""
    """Hybrid layer string: M Mamba-2, * attention, - MLP, E mixture of experts."""
    mla: MLA | None = None
    mamba: Mamba | None = None
    deltanet: DeltaNet | None = None
    mtp_layers: int = 0
    """Multi-token-prediction modules (one layer and one head pass each)."""
    norm_epsilon: float = 1e-5
    """Added to a norm's mean square."""
    rope_base: float = 10_000.0
    """Base of the rotary angles (Llama 3: 500,000)."""
    router: Router = "sigmoid"
    """How an expert's weight follows from the router: the sigmoids of the chosen made to sum to one
    (DeepSeek-V3), the softmax over all (Qwen2-MoE), or over the chosen alone (Mixtral)."""
    provenance: Provenance


@dataclass(frozen=True, kw_only=True, slots=True)
class Accelerator:
    """One GPU package (or CPU socket), with what it sustains and what it is plugged into."""

    name: str
    title: str
    year: int
    peak_flops: Mapping[str, float]
    """Dense peak per format, FLOP/s: keys among fp32 tf32 fp16 bf16 fp8 fp4."""
    matmul_flops: Mapping[str, float]
    """Largest measured matmul rate per format, FLOP/s (empty where nobody published one)."""
    memory_bytes: float
    memory_bytes_per_s: float
    sms: int
    """Streaming multiprocessors (or the maker's nearest equivalent); 0 when unknown."""
    node_size: int
    """GPUs in one server or tray."""
    domain_size: int
    """GPUs joined by the scale-up network (NVLink, xGMI, ICI); 1 when there is none."""
    domain_bytes_per_s: float
    """Scale-up bandwidth per GPU, one direction; 0 when domain_size == 1."""
    nic_bytes_per_s: float
    """Scale-out bandwidth per GPU, one direction; 0 when the card ships without a network."""
    host_bytes_per_s: float
    """GPU to host-memory bandwidth, one direction (PCIe or NVLink-C2C)."""
    tdp_w: float
    """Board power limit; 0 when unpublished."""
    price_usd: float
    """Rough street price; 0 when unknown."""
    asynchronous: bool = False
    """Matrix units fed asynchronously (NVIDIA from Hopper on: wgmma, tcgen05), which attention
    kernels written for them need."""
    cpu: bool = False
    """A processor: its processes compute, send and store in the same cores and memory."""
    measured: Measured | None = None
    """What `crore calibrate` measured of it, shared by so many processes; None if nothing."""
    provenance: Provenance


@dataclass(frozen=True, kw_only=True, slots=True)
class Fabric:
    """A scale-out network between servers, or between sites."""

    name: str
    title: str
    topology: Topology
    tiers: int
    planes: int
    radix: int
    """Ports of one switch at the endpoint's port speed; 0 for a WAN."""
    taper: float
    """Uplink over downlink bandwidth above the leaf, 1.0 = non-blocking."""
    port_bytes_per_s: float
    """Per-endpoint bandwidth, one direction, all planes together; 0 = what the GPU's NIC gives."""
    hop_latency_s: float
    """One switch traversal plus cable."""
    max_endpoints: int
    """Endpoints it can reach: 2·(radix/2)^tiers for a folded Clos; 0 = no stated limit."""
    provenance: Provenance


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A named machine: accelerators on a fabric."""

    name: str
    title: str
    accelerator: str
    """Key of the accelerator."""
    gpus: int
    fabric: str
    """Key of the fabric."""
    node_size: int
    """GPUs per server, 0 = the accelerator's own."""
    nic_bytes_per_s: float
    """Scale-out bandwidth per GPU, 0 = the accelerator's own."""
    sites: int = 1
    wan: str = ""
    """Key of the fabric between sites; empty for one site."""
    provenance: Provenance
