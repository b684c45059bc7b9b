// Checks for the plain C++ test programs: the first failure prints its place and exits with status 1.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_THREAD__)
#define RECENGINE_THREAD_SANITIZED 1
#elif defined(__SANITIZE_ADDRESS__)
#define RECENGINE_ADDRESS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RECENGINE_THREAD_SANITIZED 1
#elif __has_feature(address_sanitizer)
#define RECENGINE_ADDRESS_SANITIZED 1
#endif
#endif

namespace recengine::check {

// ThreadSanitizer looks at what threads share: checks that have one thread are left to the other builds.
#ifdef RECENGINE_THREAD_SANITIZED
inline constexpr bool kOnlyThreads = true;
#else
inline constexpr bool kOnlyThreads = false;
#endif

// Sanitizers make a program many times slower and are there for its accesses, not for its figures: they do with less.
#ifdef RECENGINE_ADDRESS_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = kOnlyThreads;
#endif

[[noreturn]] inline void fail(const char* file, int line, const char* what) {
  std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
  std::exit(1);
}

}  // namespace recengine::check

#define CHECK(...) ((__VA_ARGS__) ? static_cast<void>(0) : ::recengine::check::fail(__FILE__, __LINE__, #__VA_ARGS__))

// Both values are finite and differ by no more than `tolerance`.
#define CHECK_NEAR(actual, expected, tolerance) CHECK(std::abs((actual) - (expected)) <= (tolerance))

// `expression` throws `Type` or a type derived from it.
#define CHECK_THROWS(Type, ...)                                                              \
  do {                                                                                       \
    bool threw = false;                                                                      \
    try {                                                                                    \
      static_cast<void>(__VA_ARGS__);                                                        \
    } catch (const Type&) {                                                                  \
      threw = true;                                                                          \
    }                                                                                        \
    if (!threw) ::recengine::check::fail(__FILE__, __LINE__, #__VA_ARGS__ " throws " #Type); \
  } while (false)
