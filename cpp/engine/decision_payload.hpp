// Decisions as bytes, the same in a record of the log and in a snapshot (docs/file-format.md).
#pragma once

#include <span>

#include "durability/payload.hpp"
#include "engine/decision.hpp"

namespace recengine {

void put_decision(PayloadWriter& to, const Decision& decision);
// Throws PayloadError, or std::invalid_argument naming a policy's value, for what no engine wrote.
Decision get_decision(PayloadReader& from);

}  // namespace recengine
