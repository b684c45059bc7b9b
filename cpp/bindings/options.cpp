#include "bindings/options.hpp"

#include "storage/message.hpp"

namespace recengine::bindings {

RetrievalOptions to_retrieval(const std::string& way, py::ssize_t most) {
  for (const Way known : {Way::kAuto, Way::kRows, Way::kFlat, Way::kCells, Way::kGraph}) {
    if (way != name_of(known)) continue;
    RetrievalOptions options{known, CellIndex::kAllCells};
    if (most > 0) options.most = static_cast<std::size_t>(most);
    return options;
  }
  throw py::value_error(message("retrieval must be 'auto', Flat(), Cells() or Graph(), not '", way, "'"));
}

}  // namespace recengine::bindings
