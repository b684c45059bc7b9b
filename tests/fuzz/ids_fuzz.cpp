// Ids: what is taken for UTF-8, against a decoder that goes by code points; and the map of ids, against std::map, while
// ids come and go.
#include <map>
#include <optional>
#include <stdexcept>

#include "fuzz.hpp"
#include "storage/epoch.hpp"
#include "storage/id_map.hpp"

namespace recengine::fuzz {

namespace {

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const std::size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
    if (length == 0 || length > text.size() - at) return false;
    std::uint32_t code = length == 1 ? lead : lead & (0xFFu >> (length + 1));
    for (std::size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[at + k]);
      if (next >> 6 != 2) return false;
      code = code << 6 | (next & 0x3Fu);
    }
    constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < kLeast[length] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return false;
    at += length;
  }
  return true;
}

void check_text(std::string_view text) {
  bool valid = true;
  try {
    validate_id(text);
  } catch (const std::invalid_argument&) {
    valid = false;
  }
  expect(valid == (is_utf8(text) && text.size() <= kMaxIdBytes));
}

template <class Key, class Make>
void come_and_go(Input& input, Make make) {
  EpochDomain domain;
  IdMap map(domain);
  std::map<Key, Row> expected;
  Row next = 0;
  while (input.left() > 0 && next < 5000) {
    const auto what = input.get<std::uint8_t>();
    const Key key = make(input);
    const auto known = expected.find(key);
    const Row row = known == expected.end() ? kNoRow : known->second;
    expect(map.find(key) == row);
    if (what % 4 == 0) {
      const auto pin = domain.pin_writer();
      expect(map.erase(key) == row);
      if (known != expected.end()) expected.erase(known);
    } else if (what % 4 != 1) {
      const auto pin = domain.pin_writer();
      const auto [got, is_new] = map.insert(key, [&] { return next; }, [](Row) {});
      expect(is_new == (row == kNoRow) && got == (is_new ? next : row));
      if (is_new) expected.emplace(key, next++);
    }
    expect(map.size() == expected.size());
  }
  for (const auto& [key, row] : expected) expect(map.find(key) == row);
}

}  // namespace

std::vector<std::string> seeds() {
  std::string many;
  for (int k = 0; k < 300; ++k) many += {2, static_cast<char>(k), static_cast<char>(k / 256)};
  return {std::string("\0\2ab\0\2", 6), "\1\2\3key\2\3kez\1\3key\4\3key", "\2h\xC3\xA9llo \xF0\x9F\x98\x80",
          '\0' + many, '\1' + many};
}

}  // namespace recengine::fuzz

// The first byte: numbers, texts, or one text.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace recengine;
  fuzz::Input input(data, size);
  const auto kind = input.get<std::uint8_t>();
  if (kind % 3 == 0) {
    fuzz::come_and_go<std::int64_t>(input, [](fuzz::Input& from) {
      const auto wide = from.get<std::uint8_t>();
      return wide < 250 ? std::int64_t{wide} : from.get<std::int64_t>();
    });
  } else if (kind % 3 == 1) {
    fuzz::come_and_go<std::string>(input,
                                   [](fuzz::Input& from) { return from.get_text(from.get<std::uint8_t>() % 24); });
  } else {
    fuzz::check_text(input.get_text(input.left()));
  }
  return 0;
}
