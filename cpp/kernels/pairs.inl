// Pairwise ranking: several pairs at a time. Included by kernels.inl, inside the namespace of one instruction set.
//
// One pair is a long chain: three inner products, an exponential, roots, divisions, and only then the rows can move.
// Pairs that share no row are independent of each other, so that the inner products of all come first, then the chain
// once with a pair in each lane of a quad, then the rows of all. Every operation is elementwise: what becomes of a pair
// does not depend on its company.

constexpr float kLargeNorm = 1e30f;  // of rows, squared: below it all products of the step are finite

using quad_bits [[gnu::vector_size(16)]] = int;

RECENGINE_INLINE quad square_root(quad x) {
#if defined(__aarch64__)
  return vsqrtq_f32(x);
#else
  return _mm_sqrt_ps(x);
#endif
}

// e^x for |x| <= 87, within 2 ulp: 2^k e^r with |r| <= ln 2 / 2, e^r by its minimax polynomial (Cephes' expf).
RECENGINE_INLINE quad exponential(quad x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number, which its low bits then hold
  const quad shifted = x * 1.44269504f + kRound;
  const quad k = shifted - kRound;
  const quad r = (x - k * 0.693359375f) + k * 2.12194440e-4f;  // ln 2 in two parts, the first exact times k
  quad p = 1.9875691500e-4f - quad{};
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1;
  return reinterpret_cast<quad>(reinterpret_cast<quad_bits>(p) + (reinterpret_cast<quad_bits>(shifted) << 23));
}

RECENGINE_INLINE quad clamped(quad x, quad low, quad high) {
  x = x < high ? x : high;
  return x > low ? x : low;
}

RECENGINE_INLINE quad larger_of(quad a, quad b) { return a > b ? a : b; }

// A norm computed in floats, times this and plus that, is at least the norm: what the sum of n squares loses by
// rounding, and by squares that underflow (of coordinates below 2^-63).
RECENGINE_INLINE float rounded_up(std::size_t n) { return 1 + static_cast<float>(n + 64) * 0x1p-23f; }
constexpr float kUnseen = 0x1p-54f;

// {<x, a - b>, |x|^2, |a - b|^2, 0}
RECENGINE_INLINE quad pair_products(const PairRows& pair, std::size_t n) {
  vec sums[4] = {};
  for (std::size_t k = 0; k < n; k += kLanes) {
    const vec user = load_row(pair.user.row + k);
    const vec difference = load_row(pair.item.row + k) - load_row(pair.negative.row + k);
    sums[0] = multiply_add(user, difference, sums[0]);
    sums[1] = multiply_add(user, user, sums[1]);
    sums[2] = multiply_add(difference, difference, sums[2]);
  }
  return fold4(sums);
}

// The row after the step, where nothing can be a NaN.
RECENGINE_INLINE vec stepped_finite(vec row, vec x, vec rates, vec decays, vec limits) {
  vec step = multiply_add(rates, x, decays * row);
  step = step < limits ? step : limits;
  step = step > -limits ? step : -limits;
  return row - step;
}

// How far the rows of a pair's items moved, squared: summed where somebody asks.
template <bool kMeasured>
struct Distances {
  vec sums[4] = {};
  RECENGINE_INLINE void add_item(vec before, vec after) {
    if constexpr (kMeasured) sums[0] = multiply_add(after - before, after - before, sums[0]);
  }
  RECENGINE_INLINE void add_negative(vec before, vec after) {
    if constexpr (kMeasured) sums[1] = multiply_add(after - before, after - before, sums[1]);
  }
  RECENGINE_INLINE quad fold() const {  // {the item's, the negative's, 0, 0}
    if constexpr (kMeasured) return fold4(sums);
    return quad{};
  }
};

// Where no coordinate can reach the limit and nothing decays.
template <bool kMeasured>
RECENGINE_INLINE quad step_pair_freely(const PairRows& pair, float user_rate, float item_rate, float negative_rate,
                                       std::size_t n) {
  const vec user_rates = splat(user_rate), item_rates = splat(-item_rate), negative_rates = splat(-negative_rate);
  float *const user_row = pair.user.row, *const item_row = pair.item.row, *const negative_row = pair.negative.row;
  Distances<kMeasured> distances;
  for (std::size_t k = 0; k < n; k += kLanes) {
    const vec user = load_row(user_row + k);
    const vec item = load_row(item_row + k), negative = load_row(negative_row + k);
    const vec new_item = multiply_add(item_rates, user, item);
    const vec new_negative = multiply_add(negative_rates, user, negative);
    store_row(user_row + k, multiply_add(user_rates, item - negative, user));
    store_row(item_row + k, new_item);
    store_row(negative_row + k, new_negative);
    distances.add_item(item, new_item);
    distances.add_negative(negative, new_negative);
  }
  return distances.fold();
}

template <bool kMeasured>
RECENGINE_INLINE quad step_pair(const PairRows& pair, float user_rate, float item_rate, float negative_rate,
                                float decay, float clip, std::size_t n) {
  const vec user_rates = splat(user_rate), item_rates = splat(item_rate), negative_rates = splat(negative_rate);
  const vec decays = splat(decay), limits = splat(clip);
  float *const user_row = pair.user.row, *const item_row = pair.item.row, *const negative_row = pair.negative.row;
  Distances<kMeasured> distances;
  for (std::size_t k = 0; k < n; k += kLanes) {
    const vec user = load_row(user_row + k);
    const vec item = load_row(item_row + k), negative = load_row(negative_row + k);
    const vec new_item = stepped_finite(item, user, item_rates, decays, limits);
    const vec new_negative = stepped_finite(negative, user, negative_rates, decays, limits);
    store_row(user_row + k, stepped_finite(user, negative - item, user_rates, decays, limits));
    store_row(item_row + k, new_item);
    store_row(negative_row + k, new_negative);
    distances.add_item(item, new_item);
    distances.add_negative(negative, new_negative);
  }
  return distances.fold();
}

// A scalar of each pair: a lane each, zero where there is none.
template <class Address>
RECENGINE_INLINE quad gather_scalars(const PairRows* const* pairs, std::size_t count, Address address) {
  float values[kMaxPairs] = {};
  for (std::size_t g = 0; g < count; ++g) values[g] = load_bias(address(*pairs[g]));
  return quad{values[0], values[1], values[2], values[3]};
}

// And back.
template <class Address>
RECENGINE_INLINE void scatter_scalars(const PairRows* const* pairs, std::size_t count, Address address, quad values) {
  for (std::size_t g = 0; g < count; ++g) store_bias(address(*pairs[g]), values[g]);
}

// The rates of a row or bias in each pair; its Adagrad sums grow by `squares`.
template <class Address>
RECENGINE_INLINE quad adapt(const PairRows* const* pairs, std::size_t count, Address address, quad squares,
                            quad rates) {
  const quad most = kMaxAccumulator - quad{};
  quad sums = gather_scalars(pairs, count, address) * kKeptSum + squares;
  sums = sums < most ? sums : most;
  scatter_scalars(pairs, count, address, sums);
  return rates / square_root(sums + kEpsilon);
}

// False, and nothing has changed, if the numbers of any are too large.
template <bool kMeasured>
RECENGINE_INLINE bool learn_some(const PairRows* const* pairs, std::size_t count, const PairStep& step, std::size_t n,
                                 float* distances) {
  quad products[kMaxPairs] = {};
  for (std::size_t g = 0; g < count; ++g) products[g] = pair_products(*pairs[g], n);
  const auto lanes = [&products](int i) {
    return quad{products[0][i], products[1][i], products[2][i], products[3][i]};
  };
  const quad user_squares = lanes(1), difference_squares = lanes(2);
  const auto item_bias = [](const PairRows& pair) { return pair.item.bias; };
  const auto negative_bias = [](const PairRows& pair) { return pair.negative.bias; };
  const quad item_biases = gather_scalars(pairs, count, item_bias);
  const quad negative_biases = gather_scalars(pairs, count, negative_bias);
  const quad norms =
      user_squares + difference_squares + (item_biases * item_biases + negative_biases * negative_biases);
  for (std::size_t g = 0; g < count; ++g) {
    if (!(norms[g] <= kLargeNorm)) [[unlikely]]
      return false;
  }

  const quad weights = gather_scalars(pairs, count, [](const PairRows& pair) { return &pair.weight; });
  const quad rates = gather_scalars(pairs, count, [](const PairRows& pair) { return &pair.rate; });
  const quad bound = 87 - quad{};
  const quad slopes = weights / (1 + exponential(clamped(lanes(0) + item_biases - negative_biases, -bound, bound)));

  quad user_rates = rates, item_rates = rates, negative_rates = rates, item_bias_rates = rates,
       negative_bias_rates = rates;
  if (step.adagrad) {
    const quad squares = slopes * slopes;
    const quad means = squares * (1 / step.dim);
    const auto adapted = [&](auto address, quad added) { return adapt(pairs, count, address, added, rates); };
    user_rates = adapted([](const PairRows& pair) { return &pair.user.sums->row; }, means * difference_squares);
    item_rates = adapted([](const PairRows& pair) { return &pair.item.sums->row; }, means * user_squares);
    negative_rates = adapted([](const PairRows& pair) { return &pair.negative.sums->row; }, means * user_squares);
    item_bias_rates = adapted([](const PairRows& pair) { return &pair.item.sums->bias; }, squares);
    negative_bias_rates = adapted([](const PairRows& pair) { return &pair.negative.sums->bias; }, squares);
  }

  const quad decays = rates * step.l2, limits = step.clip - quad{};
  const auto step_biases = [&](auto address, quad biases, quad moves) {
    const quad moved = biases - clamped(moves + decays * biases, -limits, limits);
    scatter_scalars(pairs, count, address, moved);
    return larger_of(moved - biases, biases - moved);
  };
  const quad item_bias_moves = step_biases(item_bias, item_biases, -slopes * item_bias_rates);
  const quad negative_bias_moves = step_biases(negative_bias, negative_biases, slopes * negative_bias_rates);
  user_rates *= slopes;
  item_rates *= -slopes;
  negative_rates *= slopes;
  // The largest coordinate of a step is at most the norm of the step. (Rows that another thread has just moved are
  // by a step of its own longer.)
  const quad lengths_a = user_rates * user_rates * difference_squares;
  const quad item_most = item_rates * item_rates, negative_most = negative_rates * negative_rates;
  const quad lengths_b = larger_of(item_most, negative_most) * user_squares;
  const quad free_of_limits = larger_of(lengths_a, lengths_b) + 1e30f * decays;
  const float most = 0.99f * step.clip * step.clip;
  for (std::size_t g = 0; g < count; ++g) {
    const quad squares =
        free_of_limits[g] <= most
            ? step_pair_freely<kMeasured>(*pairs[g], user_rates[g], item_rates[g], negative_rates[g], n)
            : step_pair<kMeasured>(*pairs[g], user_rates[g], item_rates[g], negative_rates[g], decays[g], step.clip, n);
    if constexpr (kMeasured) {
      const quad roots = square_root(squares) * rounded_up(n) + kUnseen;
      distances[2 * g] = roots[0] + step.bias_weight * item_bias_moves[g];
      distances[2 * g + 1] = roots[1] + step.bias_weight * negative_bias_moves[g];
    }
  }
  return true;
}

template <bool kMeasured>
RECENGINE_INLINE unsigned learn_all(const PairRows* const* pairs, std::size_t count, const PairStep& step,
                                    std::size_t n, float* distances) {
  // The usual sizes unroll.
  if (n == 64 && count == kMaxPairs && learn_some<kMeasured>(pairs, kMaxPairs, step, 64, distances)) return 0;
  unsigned left = 0;
  for (std::size_t g = 0; g < count; ++g) {
    const bool learned = learn_some<kMeasured>(pairs + g, 1, step, n, distances + (kMeasured ? 2 * g : 0));
    if (kMeasured && !learned) distances[2 * g] = distances[2 * g + 1] = 0;
    left |= unsigned{!learned} << g;
  }
  return left;
}

unsigned learn_pairs(const PairRows* const* pairs, std::size_t count, const PairStep& step, std::size_t n,
                     float* distances) {
  if (distances == nullptr) return learn_all<false>(pairs, count, step, n, nullptr);
  return learn_all<true>(pairs, count, step, n, distances);
}
