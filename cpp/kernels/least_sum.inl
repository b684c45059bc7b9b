// The smallest of sums. Included by kernels.inl, inside the namespace of one instruction set.

std::size_t least_sum(const unsigned* a, const unsigned* b, std::size_t n) {
  const ints magnitude = ints{} + 0x7FFFFFFF;
  const auto load = [&magnitude](const unsigned* words) {
    ints value;
    __builtin_memcpy(&value, words, kBytes);
    return reinterpret_cast<vec>(value & magnitude);
  };
  ints places, found;
  for (std::size_t i = 0; i < kLanes; ++i) places[i] = static_cast<int>(i);
  found = places;
  const ints end = ints{} + static_cast<int>(n);
  const vec highest = splat(__builtin_inff());
  vec least = highest;  // by lane, and the first place that has it
  for (std::size_t k = 0; k < n; k += kLanes) {
    const vec sums = places < end ? load(a + k) + load(b + k) : highest;
    const auto smaller = sums < least;
    least = smaller ? sums : least;
    found = smaller ? places : found;
    places += static_cast<int>(kLanes);
  }
  float lanes[kLanes];
  int first[kLanes];
  __builtin_memcpy(lanes, &least, kBytes);
  __builtin_memcpy(first, &found, kBytes);
  float smallest = lanes[0];
  for (std::size_t i = 1; i < kLanes; ++i) smallest = lanes[i] < smallest ? lanes[i] : smallest;
  int place = 0x7FFFFFFF;
  for (std::size_t i = 0; i < kLanes; ++i) place = lanes[i] == smallest && first[i] < place ? first[i] : place;
  return static_cast<std::size_t>(place);
}
