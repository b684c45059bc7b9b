// What fuzz targets share. A target is a file that defines what follows: under libFuzzer (RECENGINE_FUZZ) it is linked
// with libfuzzer.cpp, else with standalone.cpp, which mutates its seeds for some seconds by itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace recengine::fuzz {

std::vector<std::string> seeds();  // small valid inputs

// Ends the process where a promise does not hold, so that the fuzzer keeps the input.
inline void expect(bool condition) {
  if (!condition) std::abort();
}

// Bytes of the input, one value after another; zeros behind its end.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}

  std::size_t left() const { return left_; }
  template <class T>
  T get() {
    T value{};
    auto* const bytes = reinterpret_cast<unsigned char*>(&value);
    for (std::size_t k = 0; k < sizeof(T) && left_ > 0; ++k, --left_) bytes[k] = *data_++;
    return value;
  }
  std::string get_text(std::size_t size) {
    std::string text;
    for (; text.size() < size && left_ > 0; --left_) text.push_back(static_cast<char>(*data_++));
    return text;
  }

 private:
  const std::uint8_t* data_;
  std::size_t left_;
};

}  // namespace recengine::fuzz
