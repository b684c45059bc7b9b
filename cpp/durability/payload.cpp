#include "durability/payload.hpp"

#include <algorithm>
#include <utility>

namespace recengine {

namespace {

enum class Stored : std::uint32_t { kNone, kInt64, kInt32, kString };

struct IdsHeader {
  Stored stored;
  std::uint32_t count;
};
static_assert(sizeof(IdsHeader) == 8);

bool fits(const std::int64_t* ints, std::size_t count) {
  std::int64_t least = 0, most = 0;
  for (std::size_t k = 0; k < count; ++k) {
    least = std::min(least, ints[k]);
    most = std::max(most, ints[k]);
  }
  return least >= std::numeric_limits<std::int32_t>::min() && most <= std::numeric_limits<std::int32_t>::max();
}

// Ids and names are shown in messages: they must be what they seem to be.
void check_text(std::string_view text) {
  try {
    validate_id(text);
  } catch (const std::invalid_argument& error) {
    throw PayloadError(error.what());
  }
}

}  // namespace

std::byte* PayloadWriter::extend(std::size_t size) {
  const std::size_t padded = (size + kRecordAlignment - 1) / kRecordAlignment * kRecordAlignment;
  if (capacity_ - size_ < padded || capacity_ == 0) {
    const std::size_t capacity = std::max<std::size_t>(2 * (size_ + padded), 4096);
    auto grown = std::make_unique_for_overwrite<std::byte[]>(capacity);
    if (bytes_) std::memcpy(grown.get(), bytes_.get(), size_);
    bytes_ = std::move(grown);
    capacity_ = capacity;
  }
  std::byte* const begin = bytes_.get() + size_;
  if (padded > size) std::memset(begin + padded - kRecordAlignment, 0, kRecordAlignment);
  size_ += padded;
  return begin;
}

void PayloadWriter::append(const void* from, std::size_t size) {
  if (size > 0) std::memcpy(extend(size), from, size);
}

void PayloadWriter::put_text(std::string_view text) {
  put(std::uint64_t{text.size()});
  append(text.data(), text.size());
}

void PayloadWriter::put_ids(const IdSpan& ids, std::size_t first, std::size_t count) {
  const auto size = static_cast<std::uint32_t>(count);
  if (ids.kind == IdKind::kString) {
    put(IdsHeader{Stored::kString, size});
    auto* const lengths = reinterpret_cast<std::uint16_t*>(extend(count * sizeof(std::uint16_t)));
    for (std::size_t k = 0; k < count; ++k) {
      lengths[k] = static_cast<std::uint16_t>(ids.offsets[first + k + 1] - ids.offsets[first + k]);
    }
    append(ids.bytes + ids.offsets[first], ids.offsets[first + count] - ids.offsets[first]);
  } else if (ids.kind == IdKind::kNone) {
    put(IdsHeader{Stored::kNone, size});
  } else if (const std::int64_t* ints = ids.ints + first; fits(ints, count)) {
    put(IdsHeader{Stored::kInt32, size});
    auto* const narrow = reinterpret_cast<std::int32_t*>(extend(count * sizeof(std::int32_t)));
    for (std::size_t k = 0; k < count; ++k) narrow[k] = static_cast<std::int32_t>(ints[k]);
  } else {
    put(IdsHeader{Stored::kInt64, size});
    append(ints, count * sizeof(std::int64_t));
  }
}

std::span<const std::byte> PayloadReader::take(std::size_t size) {
  const std::size_t padded = (size + 7) / 8 * 8;
  if (padded > left_.size()) throw PayloadError("a value goes beyond its end");
  const auto zeros = left_.subspan(size, padded - size);
  if (std::any_of(zeros.begin(), zeros.end(), [](std::byte byte) { return byte != std::byte{0}; })) {
    throw PayloadError("padding is not zero");
  }
  const auto bytes = left_.first(size);
  left_ = left_.subspan(padded);
  return bytes;
}

std::string_view PayloadReader::get_text() {
  const auto size = get<std::uint64_t>();
  if (size > left_.size()) throw PayloadError("a text goes beyond its end");
  const auto bytes = take(size);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  check_text(text);
  return text;
}

void PayloadReader::get_ids(PayloadIds& ids) {
  const auto header = get<IdsHeader>();
  const std::size_t count = header.count;
  switch (header.stored) {
    case Stored::kNone:
      if (count != 0) throw PayloadError("ids of no kind");
      ids.span = {};
      return;
    case Stored::kInt64:
      ids.span = {IdKind::kInt, count, get_array<std::int64_t>(count).data(), nullptr, nullptr};
      return;
    case Stored::kInt32: {
      const auto narrow = get_array<std::int32_t>(count);
      ids.ints.assign(narrow.begin(), narrow.end());
      ids.span = {IdKind::kInt, count, ids.ints.data(), nullptr, nullptr};
      return;
    }
    case Stored::kString: {
      const auto lengths = get_array<std::uint16_t>(count);
      ids.offsets.assign(1, 0);
      for (const std::uint16_t length : lengths) {
        if (length > kMaxIdBytes) throw PayloadError("an id is too long");
        ids.offsets.push_back(ids.offsets.back() + length);
      }
      const auto text = get_array<char>(ids.offsets.back());
      ids.span = {IdKind::kString, count, nullptr, text.data(), ids.offsets.data()};
      for (std::size_t k = 0; k < count; ++k) check_text(ids.span.string_at(k));
      return;
    }
  }
  throw PayloadError("ids of an unknown kind");
}

}  // namespace recengine
