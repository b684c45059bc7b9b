// With `--write-seeds=FOLDER` a target writes its seeds there and ends.
#include <filesystem>
#include <fstream>
#include <string_view>

#include "fuzz.hpp"

extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  constexpr std::string_view kOption = "--write-seeds=";
  for (int k = 1; k < *count; ++k) {
    const std::string_view argument = (*arguments)[k];
    if (!argument.starts_with(kOption)) continue;
    const std::filesystem::path folder = argument.substr(kOption.size());
    std::filesystem::create_directories(folder);
    int number = 0;
    for (const std::string& seed : recengine::fuzz::seeds()) {
      std::ofstream(folder / ("seed-" + std::to_string(number++)), std::ios::binary) << seed;
    }
    std::exit(0);
  }
  return 0;
}
