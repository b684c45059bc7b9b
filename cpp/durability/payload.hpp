// What is inside a record: little-endian numbers and arrays, each array at a multiple of 8 bytes, with zeros between.
// Whoever reads trusts nothing: what does not fit is a PayloadError.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <vector>

#include "durability/log_format.hpp"
#include "storage/id_map.hpp"

namespace recengine {

class PayloadError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline void require_payload(bool condition, const char* what) {
  if (!condition) throw PayloadError(what);
}

class PayloadWriter {
 public:
  void clear() { size_ = sizeof(RecordHeader); }
  // The payload, and before it room for a record's header.
  std::span<std::byte> record() { return {bytes_.get(), size_}; }
  // The payload alone.
  std::span<const std::byte> payload() const {
    return {bytes_ ? bytes_.get() + sizeof(RecordHeader) : nullptr, size_ - sizeof(RecordHeader)};
  }

  // A number; 8 bytes wide, so that what follows is aligned.
  template <class T>
  void put(T value) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) == 8);
    append(&value, sizeof(T));
  }
  template <class T>
  void put_array(const T* values, std::size_t count) {
    append(values, count * sizeof(T));
  }
  // Length, then bytes.
  void put_text(std::string_view text);
  // Kind and count, then the ids: ints as 4 bytes each where all fit, strings as 2 bytes of length each, then the text.
  void put_ids(const IdSpan& ids, std::size_t first, std::size_t count);

 private:
  // These bytes, and zeros up to a multiple of 8.
  void append(const void* from, std::size_t size);
  // Room for so many, to be written: only the padding behind them is.
  std::byte* extend(std::size_t size);

  std::unique_ptr<std::byte[]> bytes_;
  std::size_t size_ = sizeof(RecordHeader), capacity_ = 0;
};

// Ids out of a record: their own, or borrowed from it.
struct PayloadIds {
  IdSpan span;
  std::vector<std::int64_t> ints;
  std::vector<std::uint64_t> offsets;
};

class PayloadReader {
 public:
  explicit PayloadReader(std::span<const std::byte> bytes) : left_(bytes) {}

  template <class T>
  T get() {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) == 8);
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  // Borrowed. REQUIRES: the payload begins at a multiple of 8.
  template <class T>
  std::span<const T> get_array(std::size_t count) {
    if (count > left_.size() / sizeof(T)) throw PayloadError("an array goes beyond its end");
    const std::span<const std::byte> bytes = take(count * sizeof(T));
    return {reinterpret_cast<const T*>(bytes.data()), count};
  }
  std::string_view get_text();  // a valid id
  void get_ids(PayloadIds& ids);
  void finish() const {  // nothing is left
    if (!left_.empty()) throw PayloadError("bytes are left over");
  }

 private:
  // These bytes and the zeros behind them.
  std::span<const std::byte> take(std::size_t size);

  std::span<const std::byte> left_;
};

}  // namespace recengine
