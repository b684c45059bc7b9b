// Which kernels the process uses. Compiled without instruction-set flags: it runs on every machine.
#include <atomic>
#include <cstdlib>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "kernels/kernels.hpp"

namespace recengine {
namespace {

struct Candidate {
  const Kernels* kernels;
  bool (*supported)();
};

#if defined(__x86_64__)
// Conversions of halves; clang's __builtin_cpu_supports does not know the name.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx2") &&
         __builtin_cpu_supports("fma");
}

bool has_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
#endif

// Best first. Each asks for every feature that the flags of its translation unit let the compiler use.
constexpr Candidate kCandidates[] = {
#if defined(__x86_64__)
    {&avx512vnni::kernels, has_vnni},
    {&avx512::kernels, has_avx512},
    {&avx2::kernels, has_avx2},
#endif
#if defined(__aarch64__)
    {&neon::kernels, [] { return true; }},
#else
    {&baseline::kernels, [] { return true; }},
#endif
};

std::vector<const Kernels*> supported_kernels() {
#if defined(__x86_64__)
  __builtin_cpu_init();  // needed where a static initialiser asks first
#endif
  std::vector<const Kernels*> supported;
  for (const Candidate& candidate : kCandidates) {
    if (candidate.supported()) supported.push_back(candidate.kernels);
  }
  return supported;
}

// `name`, or the best if it is empty.
const Kernels& find_kernels(std::string_view name, std::string_view origin) {
  const auto supported = supported_kernels();
  if (name.empty()) return *supported.front();
  std::string valid;
  for (const Kernels* kernels : supported) {
    if (name == kernels->name) return *kernels;
    valid += (valid.empty() ? "" : ", ") + std::string(kernels->name);
  }
  throw std::invalid_argument(std::string(origin) + ": no kernels named '" + std::string(name) +
                              "' on this machine; valid names: " + valid);
}

const Kernels& default_kernels() {
  const char* forced = std::getenv("RECENGINE_KERNELS");
  return find_kernels(forced ? forced : "", "RECENGINE_KERNELS");
}

// Relaxed suffices: the tables are constants, so there is nothing else to publish.
std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

const Kernels& active_kernels() {
  const Kernels* kernels = chosen.load(std::memory_order_relaxed);
  if (!kernels) {
    const Kernels* initial = &default_kernels();
    // A choice made meanwhile by select_kernels stays.
    kernels = chosen.compare_exchange_strong(kernels, initial, std::memory_order_relaxed) ? initial : kernels;
  }
  return *kernels;
}

std::vector<std::string> available_kernels() {
  std::vector<std::string> names;
  for (const Kernels* kernels : supported_kernels()) names.emplace_back(kernels->name);
  return names;
}

void select_kernels(std::string_view name) {
  chosen.store(name.empty() ? &default_kernels() : &find_kernels(name, "select_kernels"), std::memory_order_relaxed);
}

}  // namespace recengine
