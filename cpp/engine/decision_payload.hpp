// Decisions as bytes, the same in a record of the log and in a snapshot (docs/file-format.md).
#pragma once

#include <span>

#include "durability/payload.hpp"
#include "engine/decision.hpp"

namespace recengine {

// The one place that says what a decision may be: throws std::invalid_argument for what no reader would take.
void check_decision(const Decision& decision);
void put_decision(PayloadWriter& to, const Decision& decision);
// Throws PayloadError, or std::invalid_argument as check_decision does, for what no engine wrote.
Decision get_decision(PayloadReader& from);

}  // namespace recengine
