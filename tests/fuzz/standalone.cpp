// A target without libFuzzer: its seeds, and what random changes make of them, for RECENGINE_FUZZ_SECONDS (1). Blind to
// coverage, and the same inputs each time: it finds what is easy to find with any compiler and sanitizer.
#include <chrono>
#include <cstdio>
#include <random>

#include "fuzz.hpp"

namespace {

using Random = std::mt19937_64;

void change(std::string& bytes, Random& random) {
  const auto below = [&random](std::size_t bound) { return static_cast<std::size_t>(random() % bound); };
  if (bytes.empty()) bytes.push_back(0);
  const std::size_t at = below(bytes.size());
  switch (below(6)) {
    case 0:
      bytes[at] = static_cast<char>(random());
      break;
    case 1:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
      break;
    case 2:  // an extreme number
      for (std::size_t k = at - at % 4; k < std::min(bytes.size(), at - at % 4 + 4); ++k) {
        bytes[k] = static_cast<char>(at % 2 == 0 ? 0xFF : 0);
      }
      break;
    case 3:
      bytes.erase(at, 1 + below(16));
      break;
    case 4:
      bytes.insert(at, bytes.substr(below(bytes.size()), 1 + below(16)));
      break;
    default:
      bytes.resize(below(bytes.size() + 1));
  }
}

}  // namespace

int main() {
  const char* const wanted = std::getenv("RECENGINE_FUZZ_SECONDS");
  const std::chrono::duration<double> most(wanted == nullptr ? 1.0 : std::atof(wanted));
  const auto run = [](const std::string& bytes) {
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  };
  const std::vector<std::string> seeds = recengine::fuzz::seeds();
  for (const std::string& seed : seeds) run(seed);
  Random random(1);
  std::uint64_t executions = 0;
  for (const auto start = std::chrono::steady_clock::now(); std::chrono::steady_clock::now() - start < most;) {
    std::string bytes = seeds[random() % seeds.size()];
    for (std::uint64_t changes = 1 + random() % 8; changes > 0; --changes) change(bytes, random);
    run(bytes);
    ++executions;
  }
  std::printf("%llu executions\n", static_cast<unsigned long long>(executions));
  return executions > 0 ? 0 : 1;
}
