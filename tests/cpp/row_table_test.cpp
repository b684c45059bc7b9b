// RowTable: where rows lie, that halves are read and written as floats, and that steps of halves are reproducible.
#include "storage/row_table.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "check.hpp"

namespace recengine {
namespace {

AlignedFloats drawn(std::size_t stride, std::uint64_t seed) {
  Random random(seed, 0);
  AlignedFloats row(stride);
  for (float& value : row) value = 2 * random.uniform() - 1;
  return row;
}

std::vector<Slot> slots_of(RowTable& table, const std::vector<Row>& rows) {
  std::vector<Slot> slots;
  for (const Row row : rows) slots.push_back({table.slot_row(locate(row)), nullptr, nullptr});
  return slots;
}

void rows_are_aligned_and_contiguous() {
  for (const Storage storage : {Storage::kFp32, Storage::kFp16}) {
    const std::size_t element = storage == Storage::kFp32 ? 4 : 2;
    for (const std::size_t stride : {16u, 64u, 1024u}) {
      RowTable table(stride, storage);
      table.reserve(3000);
      CHECK(table.stride() == stride && table.storage() == storage && table.row_bytes() == stride * element);
      CHECK(table.memory_bytes() >= table.capacity() * stride * element);
      CHECK(table.memory_bytes() < table.capacity() * stride * element + 4 * kHugePage);
      AlignedFloats row(stride);
      for_each_run(3000, [&](std::size_t first, std::size_t count) {
        for (std::size_t r = first; r < first + count; ++r) {
          const std::byte* const address = table.address(locate(r));
          CHECK(reinterpret_cast<std::uintptr_t>(address) % (16 * element) == 0);
          CHECK(address == table.address(locate(first)) + (r - first) * table.row_bytes());
          table.load(static_cast<Row>(r), row.data());
          CHECK(row[0] == 0 && row[stride - 1] == 0);
          row[stride - 1] = static_cast<float>(r % 2048);  // as a half: exactly
          table.store(static_cast<Row>(r), row.data());
        }
      });
      for (std::size_t r = 0; r < 3000; ++r) {
        table.load(static_cast<Row>(r), row.data());
        CHECK(row[0] == 0 && row[stride - 1] == static_cast<float>(r % 2048));
      }
    }
  }
}

// A table of halves, and one of floats that holds the same values, give the same bits.
void halves_are_floats_to_readers() {
  constexpr std::size_t kStride = 48, kRows = 200;
  RowTable halves(kStride, Storage::kFp16), floats(kStride);
  halves.reserve(kRows);
  floats.reserve(kRows);
  AlignedFloats row(kStride);
  std::vector<Row> rows;
  for (Row r = 0; r < kRows; ++r) {
    halves.store(r, drawn(kStride, r).data());
    halves.load(r, row.data());
    floats.store(r, row.data());
    for (std::size_t d = 0; d < kStride; ++d) CHECK_NEAR(row[d], drawn(kStride, r)[d], 0x1p-12f);
    rows.push_back(kRows - 1 - r);
  }
  const AlignedFloats query = drawn(kStride, 1000);
  std::vector<float> one(kRows), other(kRows);
  halves.gather_dot(query.data(), std::span<const Row>(rows), one.data());
  floats.gather_dot(query.data(), std::span<const Row>(rows), other.data());
  CHECK(one == other);
  const std::vector<Slot> slots = slots_of(halves, rows);
  halves.gather_dot(query.data(), std::span<const Slot>(slots), other.data());
  CHECK(one == other);
  for (Row r = 0; r < kRows; ++r) {
    CHECK(halves.dot(query.data(), rows[r]) == one[r] && floats.dot(query.data(), rows[r]) == one[r]);
    CHECK(halves.square_norm(r) == floats.square_norm(r));
    AlignedFloats sum = query, other_sum = query;
    halves.add_scaled(sum.data(), r, 0.3f);
    floats.add_scaled(other_sum.data(), r, 0.3f);
    CHECK(sum == other_sum);
  }
  CHECK(halves.scan(query.data(), 64, 64, nullptr, one.data()) ==
        floats.scan(query.data(), 64, 64, nullptr, other.data()));
  CHECK(one == other);
}

void steps_depend_on_the_seed_and_the_row_alone() {
  constexpr std::size_t kStride = 64;
  const AlignedFloats start = drawn(kStride, 1), gradient = drawn(kStride, 2);
  const auto stepped = [&](Storage storage, Row row, std::uint64_t seed) {
    RowTable table(kStride, storage);
    table.reserve(10);
    table.store(row, start.data());
    AlignedFloats scratch, after(kStride);
    const auto step = [&](float* values) {
      const Slot slot{values, nullptr, nullptr};
      const float slope = 1, rate = 0.01f;
      active_kernels().step_rows({&slot, &slope, &rate, 1, 0, 1}, gradient.data(), nullptr, kStride, nullptr);
    };
    table.modify(row, slots_of(table, {row})[0], seed, scratch, step);
    table.load(row, after.data());
    return after;
  };
  const AlignedFloats one = stepped(Storage::kFp16, 3, 5);
  CHECK(one == stepped(Storage::kFp16, 3, 5));
  CHECK(one != stepped(Storage::kFp16, 4, 5));
  CHECK(one != stepped(Storage::kFp16, 3, 6));
  const AlignedFloats exact = stepped(Storage::kFp32, 3, 5);
  CHECK(exact == stepped(Storage::kFp32, 4, 6));
  for (std::size_t d = 0; d < kStride; ++d) CHECK_NEAR(one[d], exact[d], 0x1p-10f);
}

void large_steps_saturate() {
  RowTable table(16, Storage::kFp16);
  table.reserve(1);
  AlignedFloats scratch, after(16);
  table.modify(0, slots_of(table, {0})[0], 0, scratch,
               [](float* values) { values[0] = 1e9f, values[1] = -1e30f, values[2] = 65519; });
  table.load(0, after.data());
  CHECK(after[0] == kMaxHalf && after[1] == -kMaxHalf && after[2] == kMaxHalf && after[3] == 0);
}

}  // namespace
}  // namespace recengine

int main() {
  recengine::rows_are_aligned_and_contiguous();
  recengine::halves_are_floats_to_readers();
  recengine::steps_depend_on_the_seed_and_the_row_alone();
  recengine::large_steps_saturate();
}
