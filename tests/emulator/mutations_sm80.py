"""Bugs that are planted into the operators' CUDA sources for every GPU, one at a time. Each must be noticed.

A mutation names a file below csrc/, a text that occurs there exactly once, and what takes its place. The list of
Hopper's attention is in mutations.py.
"""

# ruff: noqa: E501 (one mutation is one line)

from .mutations import Mutation

MODULATE, CACHE_WRITE, QUANTISE = "modulate/sm80.cuh", "cache_write/sm80.cuh", "quantise/sm80.cuh"
PATCH, PATCH_SIMT = "patch_embed/sm80.cuh", "patch_embed/simt.cuh"
DENOISE, DENOISE_SIMT = "denoise/sm80.cuh", "denoise/simt.cuh"
ATTENTION, ATTENTION_SIMT, POINTERS = "attention/sm80.cuh", "attention/simt.cuh", "attention/pointers.cuh"
DEVICE, PAGES, E4M3 = "core/device.cuh", "core/bad_page.cuh", "core/e4m3.h"

EXPORTS = {
    "modulate": "rows",
    "cache_write": "rows",
    "quantise": "rows",
    "patch_embed": "products",
    "denoise": "products",
    "attention": "attention_sm80",
    "core": "rows",
}
"""The file of C functions that reaches the kernels of a folder."""

MUTATIONS = (
    # Sums over a block
    Mutation("the block does not meet before its sum", DEVICE, "  __syncthreads();\n  float all", "  float all"),
    Mutation("the last warp is left out of the sum", DEVICE, "static_cast<int>(blockDim.x) / kWarp; ++warp) all", "(static_cast<int>(blockDim.x) - 1) / kWarp; ++warp) all"),
    Mutation("a negative page exists", PAGES, "page >= 0 && page < pages", "page < pages"),
    Mutation("the block does not meet before its largest", DEVICE, "  __syncthreads();\n  float top", "  float top"),
    Mutation("fp8 cut off instead of rounded", E4M3, "(120u << 23) + 0x7ffffu + (bits >> 20 & 1u)", "(120u << 23)"),
    Mutation("small fp8 become zero", E4M3, "code = bits - 0x46800000u;", "code = 0;"),
    # modulate
    Mutation("both sums in one place", MODULATE, "scratch + kWarp) / p.width", "scratch) / p.width"),
    Mutation("the gate of the first stream", MODULATE, "p.gate + stream + i", "p.gate + i"),
    Mutation("the row's end is read twice", MODULATE, "if (i >= p.width) continue;\n    load_vector(value[j]", "if (i > p.width) continue;\n    load_vector(value[j]"),
    Mutation("variance about zero", MODULATE, "(value[j][e] - mean) * (value[j][e] - mean)", "value[j][e] * value[j][e]"),
    Mutation("scale without one", MODULATE, "1.f + factor[e]", "factor[e]"),
    Mutation("the largest of the residual", MODULATE, "largest_of(value[j]));", "fabsf(mean));"),
    Mutation("the largest in the variance's place", MODULATE, "scratch + 2 * kWarp", "scratch + kWarp"),
    # quantise
    Mutation("the scale of the row's first part", QUANTISE, "scale_of_row(block_max(largest, reinterpret_cast<float*>(raw)))", "scale_of_row(warp_max(largest))"),
    Mutation("fp8 past the row's end", QUANTISE, "if (i < p.width) store", "if (i <= p.width) store"),
    Mutation("another GELU", QUANTISE, "0.044715f", "0.04f"),
    # cache_write
    Mutation("sums of squares are read before they are there", CACHE_WRITE, "if (p.q_weight && p.per_head) __syncthreads();", ""),
    Mutation("k takes the norm of q", CACHE_WRITE, "scratch + which * vectors, i,", "scratch, i,"),
    Mutation("turned the wrong way", CACHE_WRITE, "value[e] * turn[1] + value[e + 1] * turn[0]", "value[e + 1] * turn[0] - value[e] * turn[1]"),
    Mutation("one pair too many turns with time", CACHE_WRITE, "pair < p.time_pairs ? time", "pair <= p.time_pairs ? time"),
    Mutation("the pinned query turns to the frame's time", CACHE_WRITE, "dim, p, pinned, space", "dim, p, time, space"),
    Mutation("v by k's strides", CACHE_WRITE, "head * p.v_head_stride", "head * p.k_row_stride"),
    Mutation("a page beyond the pool is written", CACHE_WRITE, "if (!has_page) continue;", ""),
    # patch_embed
    Mutation("a stage is read before it has landed", PATCH, "ptx::copy_async_wait<0>();\n    __syncthreads();\n    const bool more", "ptx::copy_async_wait<1>();\n    __syncthreads();\n    const bool more"),
    Mutation("a stage is read before the block has met", PATCH, "ptx::copy_async_wait<0>();\n    __syncthreads();\n    const bool more", "ptx::copy_async_wait<0>();\n    const bool more"),
    Mutation("pixel rows swapped", PATCH, "y = row % 2;", "y = 1 - row % 2;"),
    Mutation("every source is as deep as the first", PATCH, "left -= p.channels[s];", "left -= p.channels[0];"),
    Mutation("inputs past the end are not zero", PATCH, "4 * channel >= p.inputs", "4 * channel >= p.inputs + 64"),
    Mutation("outputs leave shared memory while inputs are read", PATCH, "  __syncthreads();\n\n  AAPT_UNROLL\n  for (int j = 0; j < 4; ++j) {\n    const int column", "  AAPT_UNROLL\n  for (int j = 0; j < 4; ++j) {\n    const int column"),
    Mutation("patches are multiplied before they are there", PATCH_SIMT, "  __syncthreads();\n", ""),
    Mutation("one input less", PATCH_SIMT, "p.inputs, p.inputs);", "p.inputs, p.inputs - 1);"),
    Mutation("pixel columns swapped", PATCH_SIMT, "left + i % 2]", "left + 1 - i % 2]"),
    # denoise
    Mutation("rows are normed before they have landed", DENOISE, "ptx::copy_async_wait<0>();", "ptx::copy_async_wait<1>();"),
    Mutation("rows are multiplied before all are normed", DENOISE, "  __syncthreads();\n\n  float sum[kTiles]", "  float sum[kTiles]"),
    Mutation("sums overwrite rows in use", DENOISE, "  __syncthreads();  // the rows are no longer needed", "  // the rows are no longer needed"),
    Mutation("one warp's sum is forgotten", DENOISE, "w < kWarps; ++w) velocity", "w < kWarps - 1; ++w) velocity"),
    Mutation("the second instruction repeats the first's inputs", DENOISE, "a[1], weight[j].z", "a[0], weight[j].z"),
    Mutation("a lane's two tokens swapped", DENOISE, "{low.x, high.x, low.y, high.y}", "{high.x, low.x, high.y, low.y}"),
    Mutation("tokens of the next stream", DENOISE, "first_token + token >= p.tokens || ", ""),
    Mutation("the row is multiplied before it is normed", DENOISE_SIMT, "  __syncthreads();\n  for (int n", "  for (int n"),
    Mutation("channel and place of a patch swapped", DENOISE_SIMT, "n / p.channels / 2, left", "n % p.channels / 2, left"),
    Mutation("the step goes up", DENOISE_SIMT, "to_wide(p.noisy[at]) - p", "to_wide(p.noisy[at]) + p"),
    # paged_attention
    Mutation("keys are read before they have landed", ATTENTION, "ptx::copy_async_wait<0>();", "ptx::copy_async_wait<1>();"),
    Mutation("a stage is fetched while in use", ATTENTION, "    __syncthreads();  // this tile is there for all, and all are done with the other stage\n", ""),
    Mutation("the query is replaced while in use", ATTENTION, "if (step + 1 < all && next.query != query) __syncthreads();", ""),
    Mutation("the first query serves all segments", ATTENTION, "if (query != loaded) {", "if (loaded < 0) {"),
    Mutation("one key too many", ATTENTION, "key < keys ? scores", "key <= keys ? scores"),
    Mutation("rows past the last key are fetched", ATTENTION, "row < valid && column < head_dim", "row <= valid && column < head_dim"),
    Mutation("earlier output does not fade", ATTENTION, "out[2 * r] *= fade, out[2 * r + 1] *= fade;", "(void)out;"),
    Mutation("weights in the wrong order", ATTENTION, "ptx::pack_bf16(low[0], low[1])", "ptx::pack_bf16(low[1], low[0])"),
    Mutation("queries past the end are written", ATTENTION, "if (row >= p.rows) continue;", ""),
    Mutation("always the first page", POINTERS, "s.table_stride + steps.page]", "s.table_stride]"),
    Mutation("always the page's first rows", POINTERS, "head * s.v_head + steps.row * s.v_row", "head * s.v_head"),
    Mutation("each lane one key further", ATTENTION_SIMT, "if (lane < tile.keys) {", "if (lane <= tile.keys) {"),
    Mutation("the old query's elements", ATTENTION_SIMT, "      loaded = tile.query;", "      loaded = 0;"),
    Mutation("the sum does not fade", ATTENTION_SIMT, "sum = sum * fade", "sum = sum"),
)  # fmt: skip
