// Selection: which items a query may return, beside being live. Asked only for items whose score would enter the
// ranking.
#pragma once

#include <algorithm>
#include <span>

#include "retrieval/filter.hpp"
#include "storage/id_map.hpp"
#include "storage/row_set.hpp"

namespace recengine {

struct Selection {
  const RowSet* seen = nullptr;    // items of this set are left out
  std::span<const Row> excluded;   // and these, in ascending order
  const Filter* filter = nullptr;  // items that do not match are left out
  std::span<const Row> listed{};   // and these are left out, in ascending order: what a user of a mapped file has seen

  bool admits(Row row) const {
    return !(seen != nullptr && seen->contains(row)) && !std::binary_search(excluded.begin(), excluded.end(), row) &&
           (filter == nullptr || filter->admits(row)) && !std::binary_search(listed.begin(), listed.end(), row);
  }

  // For rows that the filter gave.
  Selection without_filter() const { return {seen, excluded, nullptr, listed}; }
};

}  // namespace recengine
