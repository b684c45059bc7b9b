// The sections of a mapped file, used where they lie: which of them the parts of an engine take for their own, and the
// check of what they hold, which comes later.
#pragma once

#include <atomic>
#include <string>

#include "engine/sections.hpp"
#include "learner/model.hpp"

namespace recengine {

// Each looks at lengths and what else costs next to nothing; Damage if something is wrong. The tables come last, since
// what belongs to their rows grows with them.
void adopt_user_state(const SnapshotReader& file, UserState& state, std::size_t items);
void adopt_item_state(const SnapshotReader& file, Model& model, Ranker& ranker);
void adopt_table(const SnapshotReader& file, const std::string& name, IdKind kind, EmbeddingTable& table);

// All that an ordinary load would look at, but for what a mapped engine has no use for. Damage if something is wrong;
// false if `stop` was set meanwhile.
bool check_stored(const SnapshotReader& file, const Model& model, const Ranker& ranker, const std::atomic<bool>& stop);

}  // namespace recengine
