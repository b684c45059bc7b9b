// What the rows of cells can reach. Included by kernels.inl, inside the namespace of one instruction set.

void bound_cells(const float* dots, const float* radii, const float* norms, const float* biases, const float* spreads,
                 std::size_t count, float query_norm, float* bounds, float* promises) {
  constexpr float kReach = 0.3f;  // in spreads: about what the better rows of a cell have over its centre
  const vec query_norms = splat(query_norm), reaches = splat(kReach * query_norm);
  for (std::size_t j = 0; j < count; j += kLanes) {
    const vec dot = load_vector(dots + j);
    const vec bias = load_row(biases + j);
    const vec by_norm = query_norms * load_row(norms + j);
    const vec by_radius = multiply_add(query_norms, load_row(radii + j), dot);
    const vec likely = multiply_add(reaches, load_vector(spreads + j), dot);
    store_vector(bounds + j, (by_radius < by_norm ? by_radius : by_norm) + bias);
    store_vector(promises + j, (likely < by_norm ? likely : by_norm) + bias);
  }
}
