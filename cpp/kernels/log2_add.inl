// Sums of numbers known by their logarithms. Included by kernels.inl, inside the namespace of one instruction set.

using wide [[gnu::vector_size(kBytes)]] = double;
using wide_bits [[gnu::vector_size(kBytes)]] = long long;

RECENGINE_INLINE wide log2_add_lanes(wide a, wide b) {
  const wide high = a > b ? a : b;
  const wide low = a > b ? b : a;
  constexpr double kNothing = 60;  // 2^-60 of the larger power is lost in the rounding
  wide distance = high - low;      // NaN where both are -inf
  distance = distance < kNothing ? distance : kNothing - wide{};

  // y = 2^-distance: a whole power by its bits, the rest, within half a power, by the series of e^(f ln 2)
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to a whole number
  const wide shifted = kRound - distance;
  const wide f = (kRound - shifted) - distance;
  constexpr double kLn2 = 0.693147180559945309;
  const wide t = f * kLn2;
  double factorial = 39916800;  // 11!
  wide power = 1 / factorial - wide{};
  for (int term = 11; term > 0; --term) {
    factorial /= term;
    power = power * t + 1 / factorial;
  }
  const wide_bits exponent = reinterpret_cast<wide_bits>(shifted) << 52;
  const wide y = reinterpret_cast<wide>(reinterpret_cast<wide_bits>(power) + exponent);

  // log2(1 + y) = 2 / ln 2 artanh(y / (2 + y))
  const wide s = y / (2 + y);
  const wide square = s * s;
  wide series = 1.0 / 27 - wide{};
  for (int odd = 25; odd > 0; odd -= 2) series = series * square + 1.0 / odd;
  const wide sum = high + (2 / kLn2) * s * series;
  return distance < kNothing ? sum : high;
}

void log2_add(const double* a, const double* b, std::size_t n, double* out) {
  constexpr std::size_t kWideLanes = kBytes / sizeof(double);
  std::size_t k = 0;
  for (; k + kWideLanes <= n; k += kWideLanes) {
    wide left, right;
    __builtin_memcpy(&left, a + k, kBytes);
    __builtin_memcpy(&right, b + k, kBytes);
    const wide sum = log2_add_lanes(left, right);
    __builtin_memcpy(out + k, &sum, kBytes);
  }
  for (; k < n; ++k) out[k] = log2_add_lanes(a[k] + wide{}, b[k] + wide{})[0];
}
