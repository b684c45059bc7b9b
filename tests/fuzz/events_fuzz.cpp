// Events as callers hand them over: columns of any floats, times and bytes. A batch is refused as a whole, by a
// std::invalid_argument and before anything changes, or every row stays finite.
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "engine/engine.hpp"
#include "fuzz.hpp"

namespace recengine::fuzz {

namespace {

Settings settings_of(std::uint8_t which) {
  Settings settings;
  settings.dim = 1 + which % 3;
  settings.objective = static_cast<Objective>(which / 4 % 4);
  settings.optimizer = static_cast<Optimizer>(which / 16 % 2);
  settings.negatives = settings.objective == Objective::kSquared ? 0 : 2;
  settings.history = which / 32 % 2 * 3;
  if (which / 64 % 2 != 0) settings.storage = Storage::kFp16;
  if (which / 128 % 2 != 0) settings.neighbors = 2;
  return settings;
}

struct Columns {
  IdArray users, items;
  std::vector<float> values, weights;
  std::vector<double> timestamps;
  std::vector<std::int64_t> offsets;
};

Id id_from(Input& input, bool text, std::string& held) {
  if (!text) return {IdKind::kInt, input.get<std::int8_t>(), {}};
  held = input.get_text(input.get<std::uint8_t>() % 6);
  return {IdKind::kString, 0, held};
}

void check(Engine& engine) {
  for (const FactorTable& factors : {engine.user_factors(), engine.item_factors()}) {
    for (const float value : factors.vectors) expect(std::isfinite(value));
    for (const float value : factors.biases) expect(std::isfinite(value));
  }
  expect(std::isfinite(engine.global_bias()));
  for (const float weight : engine.context_weights()) expect(std::isfinite(weight));
}

void learn_batch(Engine& engine, Input& input) {
  const auto size = static_cast<std::size_t>(input.get<std::uint8_t>() % 40),
             flags = std::size_t{input.get<std::uint8_t>()};
  Columns columns;
  std::string held;
  for (std::size_t k = 0; k < size; ++k) {
    columns.users.append(id_from(input, flags / 16 % 2 != 0, held));
    columns.items.append(id_from(input, flags / 32 % 2 != 0, held));
    columns.values.push_back(flags % 2 != 0 ? input.get<float>() : 1.0f);
    columns.weights.push_back(flags / 2 % 2 != 0 ? input.get<float>() : 1.0f);
    columns.timestamps.push_back(flags / 4 % 2 != 0 ? input.get<double>() : 0.0);
    columns.offsets.push_back(flags / 8 % 2 != 0 ? input.get<std::int64_t>() : static_cast<std::int64_t>(k));
  }
  const EventColumns events{columns.users.span(), columns.items.span(), columns.values.data(), columns.weights.data(),
                            flags / 4 % 2 != 0 ? columns.timestamps.data() : nullptr};
  const Statistics before = engine.statistics();
  try {
    const bool from_source = flags / 64 % 2 != 0;
    engine.learn_many(events, 1, from_source ? SourceSpan{"s", columns.offsets} : SourceSpan{});
  } catch (const std::invalid_argument&) {
    const Statistics after = engine.statistics();
    expect(after.events == before.events && after.users == before.users && after.items == before.items);
  }
}

}  // namespace

std::vector<std::string> seeds() {
  std::vector<std::string> inputs;
  for (int which = 0; which < 256; which += 17) {
    std::string bytes{static_cast<char>(which)};
    for (const int flags : {0x00, 0x07, 0x30, 0x4F}) {
      bytes += {4, static_cast<char>(flags)};
      for (int k = 0; k < 4; ++k) {
        if ((flags & 0x30) == 0) {
          bytes += {static_cast<char>(k), static_cast<char>(2 * k)};
        } else {
          bytes += {1, 'u', 1, static_cast<char>('a' + k)};
        }
        const float value = 1;
        const double time = 1e9 + k;
        if ((flags & 1) != 0) bytes.append(reinterpret_cast<const char*>(&value), 4);
        if ((flags & 2) != 0) bytes.append(reinterpret_cast<const char*>(&value), 4);
        if ((flags & 4) != 0) bytes.append(reinterpret_cast<const char*>(&time), 8);
        if ((flags & 8) != 0) bytes += {static_cast<char>(k), 0, 0, 0, 0, 0, 0, 0};
      }
    }
    inputs.push_back(bytes);
  }
  return inputs;
}

}  // namespace recengine::fuzz

// The first byte: which engine. Then batches.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace recengine;
  fuzz::Input input(data, size);
  Engine engine(fuzz::settings_of(input.get<std::uint8_t>()));
  engine.set_maintenance(false);
  while (input.left() > 0) fuzz::learn_batch(engine, input);
  fuzz::check(engine);
  const IdArray users = engine.user_ids();
  if (users.size() > 0) {
    for (const float score : engine.recommend(id_at(users.span(), 0), {}).scores) fuzz::expect(!std::isnan(score));
  }
  return 0;
}
