// message("k must be at least ", 0, ", not ", k): the text of an error, from its parts.
#pragma once

#include <sstream>
#include <string>

namespace recengine {

template <class... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace recengine
