// What a forked child must know: that it is one.
//
// Of a process with threads only the thread that forks goes on in the child: locks that others held stay locked,
// background threads are gone. A child may therefore ask an engine of its parent, but change nothing of it.
#pragma once

#include <atomic>
#include <cstdint>

namespace recengine {

// How often this process has been forked from one that had loaded this library: compare with what it was.
// Relaxed: changed by fork alone, before the child's first instruction.
std::uint64_t fork_generation();

// Descriptors that a child closes at once: a lock on a file (flock) would otherwise live as long as the child.
// At most 256 at a time; throws std::runtime_error for more.
void close_in_children(int descriptor);
void keep_in_children(int descriptor) noexcept;  // REQUIRES: before it is closed

}  // namespace recengine
