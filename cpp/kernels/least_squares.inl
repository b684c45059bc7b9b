// Least squares of one row. Included by kernels.inl, inside the namespace of one instruction set.
//
// Conjugate gradients (Hestenes and Stiefel 1952), for implicit feedback as by Takacs et al. 2011, but in coordinates
// in which what all rows have in common is diagonal: a step costs two passes over the row's own items and nothing of
// order n^2, and, preconditioned by that diagonal, `count` + 1 steps suffice.

// out += sum over r of (targets[r] - weights[r] <x, rows[r]>) rows[r]
template <bool kTargets>
RECENGINE_INLINE void add_residual(const LeastSquares& problem, const float* x, float* out, std::size_t n) {
  for (std::size_t r = 0; r < problem.count; r += 4) {
    const std::size_t left = problem.count - r;
    const float* rows[4];
    quad weights = {};
    for (std::size_t i = 0; i < 4; ++i) {
      rows[i] = problem.rows[i < left ? r + i : r];  // a row that comes twice weighs nothing the second time
      if (i < left) weights[i] = problem.weights[r + i];
    }
    vec sums[1][4] = {};
    accumulate(sums, x, n, [&rows](std::size_t i) { return rows[i]; });
    const quad dots = fold4(sums[0]);
    const quad factors = kTargets ? weights - weights * dots : -(weights * dots);
    const vec f[4] = {splat(factors[0]), splat(factors[1]), splat(factors[2]), splat(factors[3])};
    for (std::size_t k = 0; k < n; k += kLanes) {
      vec sum = load_vector(out + k);
      for (std::size_t i = 0; i < 4; ++i) sum = multiply_add(f[i], load_row(rows[i] + k), sum);
      store_vector(out + k, sum);
    }
  }
}

RECENGINE_INLINE float solve(const LeastSquares& problem, float* x, float* work, std::size_t n) {
  float* const residual = work;
  float* const direction = work + n;
  float* const image = work + 2 * n;
  const vec ridge = splat(problem.ridge);
  const auto diagonal = [&](std::size_t k) { return load_vector(problem.common + k) + ridge; };

  for (std::size_t k = 0; k < n; k += kLanes) store_vector(residual + k, -(diagonal(k) * load_vector(x + k)));
  add_residual<true>(problem, x, residual, n);
  vec sum = {};
  for (std::size_t k = 0; k < n; k += kLanes) {
    const vec r = load_vector(residual + k);
    const vec scaled = r / diagonal(k);
    store_vector(direction + k, scaled);
    sum = multiply_add(r, scaled, sum);
  }
  float square = fold(sum);  // of the residual, in the metric of the preconditioner
  float start = 0;
  for (std::size_t step = 0; step < problem.steps; ++step) {
    // Where the start is all but right there is nothing to gain, and nothing to measure progress by.
    if (!(square > 1e-30f) || square <= start * problem.tolerance * problem.tolerance) break;
    for (std::size_t k = 0; k < n; k += kLanes) store_vector(image + k, vec{});
    add_residual<false>(problem, direction, image, n);
    vec curvature = {};
    for (std::size_t k = 0; k < n; k += kLanes) {
      const vec d = load_vector(direction + k);
      const vec product = multiply_add(diagonal(k), d, -load_vector(image + k));
      store_vector(image + k, product);
      curvature = multiply_add(d, product, curvature);
    }
    const vec length = splat(square / fold(curvature));
    vec next = {};
    for (std::size_t k = 0; k < n; k += kLanes) {
      store_vector(x + k, multiply_add(length, load_vector(direction + k), load_vector(x + k)));
      const vec r = multiply_add(-length, load_vector(image + k), load_vector(residual + k));
      store_vector(residual + k, r);
      next = multiply_add(r, r / diagonal(k), next);
    }
    const float before = square;
    square = fold(next);
    if (step == 0) start = before;
    const vec keep = splat(square / before);
    for (std::size_t k = 0; k < n; k += kLanes) {
      const vec scaled = load_vector(residual + k) / diagonal(k);
      store_vector(direction + k, multiply_add(keep, load_vector(direction + k), scaled));
    }
  }
  return square;
}

float solve_row(const LeastSquares& problem, float* x, float* work, std::size_t n) {
  // The usual size unrolls.
  return n == 64 ? solve(problem, x, work, 64) : solve(problem, x, work, n);
}
