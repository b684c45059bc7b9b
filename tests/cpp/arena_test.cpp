// Arena: pieces that never overlap, of any size, from many threads, and slabs that go back to the system.
#include "storage/arena.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include "check.hpp"

namespace recengine {
namespace {

constexpr std::size_t kEnd = 512;  // bytes of a piece that are filled, at both ends

struct Piece {
  unsigned char* start;
  std::size_t bytes;
  unsigned char fill;
};

Piece take(Arena& arena, std::size_t bytes, unsigned char fill) {
  auto* const start = static_cast<unsigned char*>(arena.allocate(bytes));
  CHECK(reinterpret_cast<std::uintptr_t>(start) % kCacheLine == 0);
  std::memset(start, fill, std::min(bytes, kEnd));
  std::memset(start + bytes - std::min(bytes, kEnd), fill, std::min(bytes, kEnd));
  return {start, bytes, fill};
}

void give(Arena& arena, const Piece& piece) {
  const auto kept = [&piece](const unsigned char* from) {
    return std::all_of(from, from + std::min(piece.bytes, kEnd), [&](unsigned char c) { return c == piece.fill; });
  };
  CHECK(kept(piece.start) && kept(piece.start + piece.bytes - std::min(piece.bytes, kEnd)));
  arena.deallocate(piece.start, piece.bytes);
}

// Sizes around every boundary, and a few that have pages of their own.
std::size_t some_size(std::mt19937& random) {
  const std::size_t scale = std::size_t{1} << random() % 21;
  return std::max<std::size_t>(1, scale + random() % 3 - 1 + (random() % 2 == 0 ? random() % scale : 0));
}

void churn(Arena& arena, unsigned seed, int steps) {
  std::mt19937 random(seed);
  std::vector<Piece> held;
  for (int step = 0; step < steps; ++step) {
    if (held.size() < 64 && (held.empty() || random() % 5 < 3)) {
      held.push_back(take(arena, some_size(random), static_cast<unsigned char>(random())));
    } else {
      std::swap(held[random() % held.size()], held.back());
      give(arena, held.back());
      held.pop_back();
    }
  }
  for (const Piece& piece : held) give(arena, piece);
}

void pieces_keep_what_was_written() {
  Arena arena;
  churn(arena, 1, 4000);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) threads.emplace_back([&arena, t] { churn(arena, 2 + t, 1000); });
  for (std::thread& thread : threads) thread.join();
}

void a_piece_is_used_again() {
  Arena arena;
  void* const first = arena.allocate(300);
  void* const second = arena.allocate(300);
  CHECK(first != second);
  arena.deallocate(first, 300);
  CHECK(arena.allocate(290) == first);  // of the same size
  arena.deallocate(first, 290);
  CHECK(arena.allocate(10'000) != first);
  arena.deallocate(second, 300);
  CHECK(arena.slab_bytes() == Arena::kSlab);
}

void slabs_go_back() {
  Arena arena;
  std::vector<Piece> pieces;
  while (arena.slab_bytes() < 10 * Arena::kSlab) pieces.push_back(take(arena, 100'000, 7));
  for (const Piece& piece : pieces) give(arena, piece);
  CHECK(arena.slab_bytes() < 6 * Arena::kSlab);
  churn(arena, 9, 500);
}

void refuses_what_nobody_has() {
  Arena arena;
  CHECK_THROWS(std::bad_alloc, arena.allocate(std::size_t{1} << 60));
  CHECK(arena.slab_bytes() == 0);
}

// A thread may hold the lock at the moment of a fork.
void a_child_can_allocate() {
  std::atomic<bool> stop{false};
  std::thread busy([&stop] {
    while (!stop) Arena::shared().deallocate(Arena::shared().allocate(64), 64);
  });
  for (int round = 0; round < 20; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      Arena::shared().deallocate(Arena::shared().allocate(64), 64);
      _exit(0);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
  }
  stop = true;
  busy.join();
}

}  // namespace
}  // namespace recengine

int main() {
  recengine::pieces_keep_what_was_written();
  recengine::a_piece_is_used_again();
  recengine::slabs_go_back();
  recengine::refuses_what_nobody_has();
  recengine::a_child_can_allocate();
}
