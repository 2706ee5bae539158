"""Bugs that are planted into the shipped sources, one at a time. Each must make battery.py fail.

A mutation names a file below csrc/, a text that occurs there exactly once, and what takes its place.
"""

# ruff: noqa: E501 (one mutation is one line)

from dataclasses import dataclass

PRODUCER = CONSUMER = "attention/sm90.cuh"
ROWS, LAUNCH, PLAN = "attention/sm90_rows.cuh", "attention/sm90_launch.cuh", "attention/plan.h"


@dataclass(frozen=True)
class Mutation:
    """One planted bug."""

    name: str
    file: str
    old: str
    new: str


MUTATIONS = (
    # Waits and phases
    Mutation("k is not waited for", CONSUMER, "ptx::mbarrier_wait(&shared.k_full[ring.stage], ring.parity);\n    note", "note"),
    Mutation("k is waited for in the phase before", CONSUMER, "k_full[ring.stage], ring.parity);\n    note", "k_full[ring.stage], ring.parity ^ 1);\n    note"),
    Mutation("v is not waited for", CONSUMER, "ptx::mbarrier_wait(&shared.v_full[v_ring.stage], v_ring.parity);", ""),
    Mutation("q is not waited for", CONSUMER, "ptx::mbarrier_wait(&shared.q_full, q_parity);", ""),
    Mutation("k is fetched into a stage in use", PRODUCER, "ptx::mbarrier_wait(&shared.k_empty[ring.stage], ring.parity ^ 1);\n      shared", "shared"),
    Mutation("v is fetched into a stage in use", PRODUCER, "ptx::mbarrier_wait(&shared.v_empty[ring.stage], ring.parity ^ 1);", ""),
    Mutation("q is fetched while in use", PRODUCER, "ptx::mbarrier_wait(&shared.q_empty, q_parity ^ 1);", ""),
    Mutation("scores are read before they are there", CONSUMER, "ptx::wgmma_wait<1>();", ""),
    Mutation("output is scaled before it is there", CONSUMER, "ptx::wgmma_wait<0>();\n      pipeline.release_v();\n      scale_down<d>(rows.out, shrink);", "scale_down<d>(rows.out, shrink);\n      ptx::wgmma_wait<0>();\n      pipeline.release_v();"),
    # Arrivals and releases
    Mutation("k is never given back", CONSUMER, "if (leader()) ptx::mbarrier_arrive(&shared.k_empty[ring.stage]);", ""),
    Mutation("v is never given back", CONSUMER, "if (leader()) ptx::mbarrier_arrive(&shared.v_empty[v_ring.stage]);", ""),
    Mutation("q is never given back", CONSUMER, "if (pipeline.leader()) ptx::mbarrier_arrive(&shared.q_empty);", ""),
    Mutation("v is given back before it was read", CONSUMER, "ptx::wgmma_wait<0>();\n      pipeline.release_v();", "pipeline.release_v();\n      ptx::wgmma_wait<0>();"),
    Mutation("one warp less gives k back", PRODUCER, "k_empty[s], kWarps + 1", "k_empty[s], kWarps"),
    Mutation("one warpgroup gives v back for both", PRODUCER, "v_empty[s], kWarps", "v_empty[s], kWarps / 2"),
    Mutation("a turn never ends", CONSUMER, "      end_turn(warpgroup);\n", ""),
    # Fences and counts
    Mutation("barriers are not published", PRODUCER, "ptx::fence_mbarrier_init();", ""),
    Mutation("zeroed rows are not published", PRODUCER, "ptx::fence_proxy_async();", ""),
    Mutation("scores start without a fence", ROWS, "ptx::wgmma_fence();\n  AAPT_UNROLL\n  for (int j = 0; j < d / 16", "AAPT_UNROLL\n  for (int j = 0; j < d / 16"),
    Mutation("half of a tile's bytes are announced", PRODUCER, "kTileBytes = kKeys * d * 2", "kTileBytes = kKeys * d"),
    # Addresses
    Mutation("wrong page", PRODUCER, "page_number(p, segment, piece.batch, steps.page)", "page_number(p, segment, piece.batch, 0)"),
    Mutation("wrong stream's pages", PRODUCER, "page_number(p, segment, piece.batch, steps.page)", "page_number(p, segment, 0, steps.page)"),
    Mutation("v is one row off", PRODUCER, "&p.v[segment], landed, 0, row, 0", "&p.v[segment], landed, 0, row + 1, 0"),
    Mutation("the pinned query is never loaded", PRODUCER, "if (p.pages[segment].query != query) {", "if (query < 0) {"),
    Mutation("descriptor advances along the wrong stride", ROWS, "half * kKeys * kLine + column", "half * kRows * kLine + column"),
    Mutation("v's column blocks at the wrong distance", ROWS, "wgmma_descriptor(v, kKeys * kLine * 2)", "wgmma_descriptor(v, kRows * kLine * 2)"),
    Mutation("weights in the wrong order", ROWS, "pack_bf16(scores[i], scores[i + 1])", "pack_bf16(scores[i + 1], scores[i])"),
    Mutation("the wrong one of a thread's two rows", ROWS, "return i / 2 % 2;", "return i / 4 % 2;"),
    # Tails and masks
    Mutation("one key too many", ROWS, "key < keys ? scores", "key <= keys ? scores"),
    Mutation("no mask after the first step", CONSUMER, "      if (pipeline.keys() < kKeys) mask_tail(scores, pipeline.keys());\n      const", "      const"),
    Mutation("stale tails stay", PRODUCER, "note |= kStaleTail;", "note |= 0;"),
    Mutation("one stale row stays", PRODUCER, "(half * kKeys + keys) * kLine", "(half * kKeys + keys + 1) * kLine"),
    Mutation("the last page counts as full", PLAN, "page + 1 == pages ? s.last_rows[batch] : s.rows", "s.rows"),
    # Softmax and merge
    Mutation("earlier output is not scaled down", CONSUMER, "scale_down<d>(rows.out, shrink);", "(void)shrink;"),
    Mutation("earlier sum is not scaled down", ROWS, "rows.sum[r] *= shrink[r];", ""),
    Mutation("both partial results in one slot", PLAN, "kSlotsPerGang * gang + (first == 0 ? 1 : 0)", "kSlotsPerGang * gang"),
    Mutation("every group is the first", PRODUCER, "piece.group * p.gang_tiles + rank", "rank"),
    Mutation("partial results of a gang in one place", LAUNCH, "query_tile % p.gang_tiles", "0 % p.gang_tiles"),
    Mutation("the last partial result is forgotten", LAUNCH, "g <= partials.last_gang; ++g) {\n        const", "g < partials.last_gang; ++g) {\n        const"),
    Mutation("merge without the common maximum", LAUNCH, "exp2f(p.partial_lse[place] - max)", "exp2f(-max)"),
    Mutation("merge leaves the last row out", LAUNCH, "min(kRows, p.rows - query_tile * kRows)", "min(kRows, p.rows - query_tile * kRows) - 1"),
    Mutation("streams without keys divide by zero", LAUNCH, "no_keys ? 0.f : out[i] / sum", "out[i] / sum"),
    Mutation("cuts overlap by a step", PLAN, "end = cuts.at(gang + 1);", "end = cuts.at(gang + 1) + (gang + 1 < gangs ? 1 : 0);"),
)  # fmt: skip
