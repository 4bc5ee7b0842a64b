"""What one layer keeps from forward to backward, and what its backward pass makes on the way.

Read off the trainer's code tensor by tensor. On a CPU, per token and layer, with e bytes an
element, h the hidden width, q and k the widths of a rank's query and key heads, f its feed-forward
width: RMSNorm keeps its input and the normed input (32 bits both: `2·4·h` where activations are 16
bits wide, else `4·h` beside the residual stream's own tensor) and 4 bytes; three projections keep
one input `e·h`, gathered whole under sequence parallelism; the core `e·(q + 2k)` after rotary, its
output `e·q` and 4 bytes a head; the feed-forward its input `e·h` and gate, silu, up and product,
`4·e·f`. Other kernels on a GPU: RMSNorm is one, that keeps its input (the residual stream's
tensor) and 4 bytes; a mask does not take the core apart into `4·heads·S` of scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job
from crore.cost.layout import FULL, LIGHT, SELECTIVE
from crore.cost.memory_sizes import FLOAT, Sizes
from crore.cost.memory_tape import Tape


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Bytes of one layer and micro-batch, the residual stream left out; floats or `[N]`."""

    none: Num
    light: Num
    selective: Num
    late: Num
    """Of `light`, what the backward pass has no use for and frees at its end."""

    def of(self, job: Job) -> Num:
        """Return what the job's recompute mode keeps (nothing but its input under `full`)."""
        mode = job.layout.recompute
        some = np.where(np.equal(mode, SELECTIVE), self.selective, self.none)
        kept: Num = np.where(np.equal(mode, LIGHT), self.light, some)
        return kept

    def again(self, job: Job) -> Num:
        """Return what a recomputed layer's backward pass makes anew before it begins."""
        mode = job.layout.recompute
        some = self.none - self.selective * np.equal(mode, SELECTIVE)
        some = some - (self.light - self.late) * np.equal(mode, LIGHT)
        again: Num = np.where(np.greater(mode, 0), some, 0.0)
        return again


def norms(job: Job) -> Num:
    """Return the norms of a layer: one where attention and feed-forward read the same input."""
    return job.shape.norms / np.maximum(job.shape.layers, 1.0)


def residuals(job: Job, z: Sizes) -> Num:
    """Return 1 where norms keep the residual stream's own tensors."""
    own = np.maximum(1 - z.mixed, np.greater(job.shape.norm_vectors, 1))
    return np.maximum(own, 1 - z.cpu)


def norm_kept(job: Job, z: Sizes, size: Num, wide: Num, row: Num) -> Num:
    """Return what one norm keeps beside its input in the residual stream's format."""
    layer = np.greater(job.shape.norm_vectors, 1)
    parts = np.where(z.mixed, 2 * wide, size) + row
    kept: Num = np.where(layer, 2 * row, np.where(z.cpu, parts, row))
    return kept


def product_input(z: Sizes, size: Num, products: Num = 1.0) -> Num:
    """Return what products of one input keep of it: once, or each an 8-bit copy."""
    return np.where(z.eight, products * size / z.element, size)


def sequence(job: Job) -> Num:
    """Return 1 where hidden states are cut along the sequence between tensor-parallel regions."""
    return job.layout.sequence_parallel * np.greater(job.layout.tp, 1)


def core_kept(job: Job, z: Sizes) -> Num:
    """Return what the attention core keeps, its inputs and output included."""
    s, layout = job.shape, job.layout
    heads = s.heads / layout.tp
    flash = z.query + z.key + z.value + z.out + FLOAT * job.tokens * heads
    apart = masked(job) * z.cpu
    context = np.greater(layout.cp, 1)
    own = s.kv_heads / np.minimum(layout.tp, np.maximum(s.kv_heads, 1.0))
    copied = context * (1 - s.mla) * np.greater(np.mod(own, layout.cp), 0)
    flash = flash + copied * 2 * (z.query - z.key) + context * z.out
    if not present(apart):
        return flash
    scores = FLOAT * job.tokens * job.seq_len * heads
    parts = 3 * FLOAT / z.element * z.query + scores + z.out
    return apart * parts + (1 - apart) * flash


def masked(job: Job) -> Num:
    """Return the share of layers whose mask is more than causal."""
    s = job.shape
    return np.maximum(s.alibi, s.windowed / np.maximum(s.attention, 1.0))


def scores(job: Job) -> Num:
    """Bytes of one matrix of scores where a mask takes the core apart, else 0."""
    heads = job.shape.heads / job.layout.tp
    return np.greater(masked(job), 0) * job.machine.cpu * FLOAT * job.tokens * job.seq_len * heads


def attention_kept(job: Job, z: Sizes) -> Kept:
    """Return what the attention sub-layer keeps, its norm included."""
    s = job.shape
    norm = norm_kept(job, z, z.cut, z.wide, z.row)
    core = core_kept(job, z)
    flat = np.where(z.eight, z.out / z.element, 0.0)
    lse = FLOAT * job.tokens * s.heads / job.layout.tp
    heads = _head_norms(job, z) + latent_kept(job, z)
    inputs = product_input(z, z.whole, np.where(s.mla, 2.0, 3.0))
    weights = z.eight * _attention_weights(job)
    none = norm + inputs + heads + core + flat + weights
    messages = region_messages(job, z) + _swapped(job, z)
    kept = z.out + lse + messages + z.whole
    light = z.query + z.key + z.value + kept
    second = np.where(s.mla, _second_latent(job, z), z.key + scores(job))
    return Kept(none=none, light=light, selective=second + kept, late=0.0)


def region_messages(job: Job, z: Sizes) -> Num:
    """Return what a tensor-parallel region receives, which recompute by operation keeps."""
    several = np.greater(job.layout.tp, 1)
    return several * np.where(job.layout.sequence_parallel, z.whole + z.cut, z.whole)


def _swapped(job: Job, z: Sizes) -> Num:
    """Return what context parallelism swaps of queries, keys, values and outputs."""
    return np.greater(job.layout.cp, 1) * (z.query + z.key + z.value + z.out)


def _second_latent(job: Job, z: Sizes) -> Num:
    """Return every second product of latent attention, its output's apart."""
    s = job.shape
    up = z.query + z.element * job.tokens * s.heads / job.layout.tp * (s.qk_nope + s.v_dim)
    latent = z.element * job.tokens * (s.kv_lora + s.qk_rope)
    return np.where(np.greater(s.q_lora, 0), up - z.whole, latent)


def _head_norms(job: Job, z: Sizes) -> Num:
    """Return what norms of queries and keys keep: their inputs and what is made of these."""
    s = job.shape
    if not present(s.qk_norm):
        return 0.0
    both = z.query + z.key
    rows = FLOAT * both / (z.element * np.maximum(s.head_dim, 1.0))
    wide = FLOAT / z.element * both
    return s.qk_norm * (norm_kept(job, z, both, wide, rows) + residuals(job, z) * both)


def latent_kept(job: Job, z: Sizes) -> Num:
    """Return what latent attention keeps between its input and its core.

    The norms of the compressed vectors, their outputs, and the core's output without the zeros that
    values were padded with.
    """
    s = job.shape
    if not present(s.mla):
        return 0.0
    kept: Num = 0.0
    for width in (s.q_lora, s.kv_lora):
        size = z.element * job.tokens * width
        rows = FLOAT * job.tokens * np.greater(width, 0)
        norm = norm_kept(job, z, size, FLOAT * job.tokens * width, rows)
        kept = kept + norm + residuals(job, z) * size + product_input(z, size)
    narrow = np.less(s.v_dim, s.qk_nope + s.qk_rope)
    plain = z.element * job.tokens * s.heads / job.layout.tp * s.v_dim
    return s.mla * (kept + narrow * plain)


def _attention_weights(job: Job) -> Num:
    return job.weights.attention / job.layout.tp


def dense_kept(job: Job, z: Sizes) -> Kept:
    """Return what a dense feed-forward sub-layer keeps, its norm included."""
    s = job.shape
    second = norms(job) - 1
    norm = second * norm_kept(job, z, z.cut, z.wide, z.row)
    # A parallel block's feed-forward reads what attention read, gathered once more.
    read = np.maximum(second, sequence(job))
    gated = s.matrices - 2
    inputs = read * product_input(z, z.whole, s.matrices - 1)
    down = product_input(z, z.inner)
    weights = z.eight * job.weights.dense / job.layout.tp
    none = norm + inputs + (1 + 2 * gated) * z.inner + down + weights
    gathers = region_messages(job, z)
    light = (1 + gated) * z.inner + z.whole + gathers
    selective = z.inner + gathers
    return Kept(none=none, light=light, selective=selective, late=z.whole)


def norm_backward(
    job: Job, z: Sizes, tape: Tape, size: Num, wide: Num, row: Num, joins: Num = 1.0
) -> None:
    """Write a norm's backward pass; a gradient of `size` comes in.

    What goes out joins the residual stream's gradient, which is there, or is the first of it
    (`joins` 0). Out of its parts, the weight's gradient takes two products and the input's three
    terms, all in the norm's own format.
    """
    apart = z.cpu * np.equal(job.shape.norm_vectors, 1)
    part = apart * np.where(z.mixed, wide, size)
    own = residuals(job, z) * size
    tape.make(apart * z.mixed * part).free(apart * z.mixed * size)
    tape.make(2 * part).free(3 * part, row)
    tape.make(2 * part).free(2 * part)
    # A tensor-parallel region hands its input's gradient over as a whole, and then it joins.
    early = apart * (1 - z.mixed) * joins * size * np.less_equal(job.layout.tp, 1)
    tape.make(early).free(2 * early)
    tape.make(4 * part).free(3 * part, np.where(apart * z.mixed, part, own * apart))
    tape.make(part).free(2 * part)
    late = apart * z.mixed * size + (1 - apart) * size
    tape.make(late).free(np.where(apart, z.mixed * part, size + own))
    both = joins * size - early
    tape.make(both).free(2 * both)


def gathered_gradient(job: Job, z: Sizes, tape: Tape) -> None:
    """Write the gathering of a gradient that tensor-parallel ranks hold parts of."""
    tape.make(sequence(job) * z.whole)


def spread_gradient(job: Job, z: Sizes, tape: Tape) -> None:
    """Write the summing of partial gradients of an input, whole to cut."""
    cut = sequence(job)
    tape.make(cut * (z.whole + z.cut)).free(cut * 2 * z.whole)


def feed_forward_backward(
    job: Job, z: Sizes, tape: Tape, width: Num, weight: Num, given: Num
) -> None:
    """Write a feed-forward's backward pass from its output's gradient to its input's.

    `width` is the bytes of one inner tensor, `weight` of one matrix's gradient, `given` the
    gradient that its last product reads and frees.
    """
    s = job.shape
    gated = s.matrices - 2
    down = product_input(z, width)
    # In 8 bits: turned copies of a product's weight and input, its gradient and that one's.
    narrow = z.eight * weight / z.element
    late = narrow + z.eight * (width + 2 * z.whole) / z.element
    early = narrow + z.eight * (z.whole + 2 * width) / z.element
    tape.gradient(weight).make(width, late).free(given, down, late, narrow)
    tape.make(gated * 2 * width).free(gated * 3 * width)
    tape.gradient(weight).make(gated * z.whole, early).free(gated * width, early, narrow)
    tape.make(width).free(2 * width)
    tape.gradient(gated * weight).make(z.whole, gated * early)
    tape.free(width, gated * early, gated * narrow)
    tape.make(gated * z.whole).free(gated * 2 * z.whole)


def narrowing(job: Job, z: Sizes) -> Num:
    """Return what the last product's operands take while they are made 8 bits wide, by way of 32.

    Beyond what is kept: the input first, when the weight's narrow copy is not there yet. The
    sub-layer's own input is still held, though its products kept narrow copies.
    """
    weight = job.shape.ffn / job.layout.tp * job.shape.hidden
    values = z.inner / z.element
    return z.eight * (np.maximum(FLOAT * values - weight, FLOAT * weight) + z.inner + z.whole)


def dense_backward(job: Job, z: Sizes, tape: Tape) -> None:
    """Write the backward pass of a dense feed-forward sub-layer, its norm included."""
    s = job.shape
    weight = z.element * s.ffn / job.layout.tp * s.hidden
    again = np.greater(job.layout.recompute, 0) * narrowing(job, z)
    tape.make(again).free(again)
    gathered_gradient(job, z, tape)
    feed_forward_backward(job, z, tape, z.inner, weight, sequence(job) * z.whole)
    read = np.maximum(norms(job) - 1, sequence(job))
    tape.free(read * product_input(z, z.whole, s.matrices - 1))
    spread_gradient(job, z, tape)
    norm_backward(job, z, tape, z.cut, z.wide, z.row)


def attention_backward(job: Job, z: Sizes, tape: Tape) -> None:
    """Write the backward pass of the attention sub-layer, its norm included."""
    s, tp = job.shape, job.layout.tp
    query = z.element * s.hidden * s.heads * s.head_dim / tp
    key = z.element * s.hidden * np.maximum(s.kv_heads / tp, 1.0) * s.head_dim
    weights = z.eight * _attention_weights(job)
    core_backward(job, z, tape, query)
    tape.free(_head_norms(job, z))
    tape.gradient(key).make(z.whole).free(z.value)
    tape.gradient(key).make(z.whole).free(z.key)
    tape.make(z.whole).free(2 * z.whole)
    tape.gradient(query).make(z.whole).free(z.query, product_input(z, z.whole, 3.0), weights)
    tape.make(z.whole).free(2 * z.whole)
    spread_gradient(job, z, tape)
    norm_backward(job, z, tape, z.cut, z.wide, z.row)


def core_backward(job: Job, z: Sizes, tape: Tape, output: Num) -> None:
    """Write the pass from a layer's gradient to those of queries, keys and values.

    `output` is the bytes of the last matrix's gradient.
    """
    flat = np.where(z.eight, z.out / z.element, 0.0)
    gathered_gradient(job, z, tape)
    tape.gradient(output).make(z.out).free(sequence(job) * z.whole, flat)
    tape.make(scores(job) * 2 + z.query).free(scores(job) * 2)
    tape.make(z.key + z.value).free(core_kept(job, z), z.out)
    turned = FLOAT / z.element * z.query * np.equal(job.shape.positions + job.shape.alibi, 0)
    tape.make(2.5 * turned).free(2.5 * turned)


def full(job: Job) -> Num:
    """Return 1 where every layer keeps nothing but its input."""
    return np.equal(job.layout.recompute, FULL) * 1.0
