// Kernels: the only vector code of the project, and the only code that touches live rows.
//
// Rows (the embedding tables) are written by learners and read by everybody without locks (Hogwild, Niu et al. 2011).
// A kernel accesses a row through opaque vector loads and stores; what it reads may be half-way through one step, which
// is harmless for scores. Under ThreadSanitizer the same accesses are relaxed atomics. Everything else is free of
// races.
//
// Conventions
//  1. `n` is the padded dimension: a multiple of kRowPadding floats. Rows and vectors are 64-byte aligned, and their
//     padding is zero and stays zero under every step. `bias` and `out` need no more than a float's alignment.
//  2. `row`/`rows`/`bias` are live (shared). `query`, `x`, `gradient`, `out` are private to the caller.
//     Rows of halves are 32-byte aligned.
//  3. dot, scan, scan_many and gather_dot add the products of one pair in the same order on one instruction set: equal
//     inputs give equal bits, whichever of them is called. So do square_norm and square_norms.
//  4. Steps are clipped in the L-infinity norm: no coordinate moves by more than `clip`, whatever the inputs hold
//     (a NaN counts as a step of zero), so that a finite row stays finite.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kernels/table.hpp"

namespace recengine {

// How many floats a row of so many takes.
constexpr std::size_t padded(std::size_t dim) { return (dim + kRowPadding - 1) / kRowPadding * kRowPadding; }

// The kernels in use by the process. Chosen at first use: the best the machine can run, or the one RECENGINE_KERNELS
// names. Throws std::invalid_argument listing the valid names if RECENGINE_KERNELS names an unknown or unsupported one.
const Kernels& active_kernels();

// Those of rows of floats or of halves.
template <class Element>
const RowKernels<Element>& row_kernels() {
  if constexpr (std::is_same_v<Element, Half>) {
    return active_kernels().halves;
  } else {
    return active_kernels();
  }
}

// Names the machine can run, best first.
std::vector<std::string> available_kernels();

// Switches the whole process to `name` ("" : back to the choice made at first use). Throws as above, changing nothing.
// For tests; calls in flight finish on the old ones.
void select_kernels(std::string_view name);

}  // namespace recengine
